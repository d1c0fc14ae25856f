import type { AuthContext, KeyboardAuthContext, ParsedKey, PublicKeyAuthContext } from 'ssh2'
import type { Principal } from '../../core/principal.ts'

/** How callers prove who they are. Both reject with one error, whatever is wrong. */
export interface Logins {
  authenticate(token: string): Promise<Principal>
  /** @param key public key in the form it has on the wire (RFC 4253, section 6.6). */
  authenticateKey(key: Uint8Array): Promise<Principal>
}

/** Reads a public key. */
export type ParseKey = (key: Buffer) => ParsedKey | Error

const METHODS = ['publickey' as const, 'keyboard-interactive' as const]

/** Failed attempts on one connection, after which it is ended. */
export const ATTEMPTS_MAX = 6

/**
 * Answers one log-in request; returns the principal it proved, and `undefined` when it proved nobody.
 *
 * An offer of a public key is a question and no proof (RFC 4252, section 7): it carries no signature, so it never logs
 * in, whatever is answered to it.
 */
export async function answerLogin(
  context: AuthContext,
  logins: Logins,
  parseKey: ParseKey,
  onFailure: () => void,
): Promise<Principal | undefined> {
  switch (context.method) {
    case 'publickey':
      return withKey(context, logins, parseKey, onFailure)
    case 'keyboard-interactive':
      return withToken(context, logins, onFailure)
    default:
      // Every client begins with `none` to learn what there is; that is no failure.
      if (context.method !== 'none') onFailure()
      context.reject([...METHODS])
      return undefined
  }
}

async function withKey(
  context: PublicKeyAuthContext,
  logins: Logins,
  parseKey: ParseKey,
  onFailure: () => void,
): Promise<Principal | undefined> {
  const { key, signature, blob, hashAlgo } = context
  const parsed = parseKey(key.data)
  const principal = parsed instanceof Error ? undefined : await logins.authenticateKey(key.data).catch(() => undefined)
  if (principal === undefined || parsed instanceof Error) {
    if (signature !== undefined) onFailure()
    context.reject([...METHODS])
    return undefined
  }
  if (signature === undefined || blob === undefined) {
    // Says only that a signature by this key would be looked at.
    context.accept()
    return undefined
  }
  // An RSA signature without a named hash is one over SHA-1.
  const isOld = parsed.type === 'ssh-rsa' && hashAlgo === undefined
  // The library returns an error object, not false, for a signature it cannot read: only `true` counts.
  const isSigned: unknown = parsed.verify(blob, signature, hashAlgo)
  if (isOld || isSigned !== true) {
    onFailure()
    context.reject([...METHODS])
    return undefined
  }
  return principal
}

function withToken(
  context: KeyboardAuthContext,
  logins: Logins,
  onFailure: () => void,
): Promise<Principal | undefined> {
  return new Promise((resolve) => {
    let isAnswered = false
    // An answer that is being looked at is waited for: who asks again and again would otherwise guess at many at once.
    context.once('abort', () => {
      if (!isAnswered) resolve(undefined)
    })
    context.prompt([{ prompt: 'Sallyport token: ', echo: false }], (answers: unknown) => {
      isAnswered = true
      const answer: unknown = Array.isArray(answers) ? answers[0] : undefined
      const token = typeof answer === 'string' ? answer.trim() : ''
      logins.authenticate(token).then(resolve, () => {
        onFailure()
        context.reject([...METHODS])
        resolve(undefined)
      })
    })
  })
}
