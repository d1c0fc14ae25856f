/** What stands in the name of a variable that holds a secret, or an address with one in it. */
const SENSITIVE =
  /PASS|PWD|PHRASE|SECRET|TOKEN|KEY|CRED|DSN|URL|URI|CONN|AUTH|PRIVATE|CERT|SALT|COOKIE|SESSION|WEBHOOK|LICENSE|JWT|BEARER/iu

/** Fields that hold a secret in whatever object they stand, also in kinds nobody here knows. */
const SENSITIVE_KEYS: ReadonlySet<string> = new Set([
  'password',
  'passwd',
  'token',
  'accesstoken',
  'refreshtoken',
  'bearertoken',
  'apikey',
  'secretkey',
  'secretaccesskey',
  'accesskey',
  'clientsecret',
  'privatekey',
  'connectionstring',
  'clientkeydata',
])

/** Whether a variable, header or parameter of this name is masked. */
export function isSensitiveName(name: string): boolean {
  return SENSITIVE.test(name)
}

/** Keys that were looked at before: objects of a list have the same ones. */
const looked = new Map<string, boolean>()
const LOOKED_MAX = 4_096
/** Longer than any name of a field. */
const LOOKED_LENGTH_MAX = 64

/** Whether a text under this key is masked, whatever object it stands in. */
export function isSensitiveKey(key: string): boolean {
  const known = looked.get(key)
  if (known !== undefined) return known
  const isSensitive = SENSITIVE_KEYS.has(key.replace(/[-_.]/gu, '').toLowerCase())
  if (key.length > LOOKED_LENGTH_MAX) return isSensitive
  // Callers choose keys: what they fill it with is forgotten again.
  if (looked.size >= LOOKED_MAX) looked.clear()
  looked.set(key, isSensitive)
  return isSensitive
}
