import { SallyportError } from '../core/errors.ts'
import { type PrincipalKind, type Role, ROLES } from '../core/principal.ts'

/** What an operator says of a token to be made. */
export interface NewToken {
  readonly principal: string
  readonly kind: PrincipalKind
  /** The person who answers for it. For a person, usually themselves. */
  readonly owner: string
  readonly groups: readonly string[]
  readonly roles: readonly Role[]
  /** The person an agent acts for. */
  readonly actsFor?: string
  readonly expiresInMs: number
  /** A public key that stands for the token at the SSH door, as one line of OpenSSH's form. */
  readonly sshKey?: string
}

/** How long a token may live at most, unless configured otherwise: 90 days. */
export const TOKEN_LIFE_MAX_MS = 90 * 24 * 60 * 60_000
const TOKEN_LIFE_MIN_MS = 60_000

// Lower case only: `Maria` and `maria` must not be two persons, one of whom approves for the other (C13).
const NAME = /^[a-z0-9][a-z0-9._@+-]{0,99}$/
const KINDS: readonly PrincipalKind[] = ['agent', 'person', 'service']

/** Roles that are for persons, and those a service may have. An agent is a caller and nothing else. */
const ROLES_BY_KIND: Readonly<Record<PrincipalKind, readonly Role[]>> = {
  person: ROLES,
  service: ['caller', 'auditor'],
  agent: ['caller'],
}

/**
 * Returns the request with groups and roles sorted and free of repetition.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`, naming the field and the fix.
 */
export function checkNewToken(token: NewToken, lifeMaxMs: number): NewToken {
  const { kind, roles, actsFor, expiresInMs, sshKey } = token
  if (sshKey !== undefined && sshKeyBlob(sshKey) === undefined) {
    throw invalid('an SSH key must be one line such as ssh-keygen writes into a .pub file: ssh-ed25519 AAAA…')
  }
  checkName('principal', token.principal)
  checkName('owner', token.owner)
  for (const group of token.groups) checkName('group', group)
  if (!KINDS.includes(kind)) throw invalid(`kind must be one of ${KINDS.join(', ')}`)
  if (roles.length === 0) throw invalid(`a token needs at least one role of ${ROLES.join(', ')}`)
  for (const role of roles) {
    if (!ROLES.includes(role)) throw invalid(`a role must be one of ${ROLES.join(', ')}`)
    if (!ROLES_BY_KIND[kind].includes(role)) {
      throw invalid(`the role ${role} is not for kind ${kind}; it may have ${ROLES_BY_KIND[kind].join(', ')}`)
    }
  }
  if (actsFor !== undefined) {
    checkName('the person acted for', actsFor)
    if (kind !== 'agent') throw invalid(`only an agent acts for somebody, not a ${kind}`)
  }
  if (!Number.isSafeInteger(expiresInMs) || expiresInMs < TOKEN_LIFE_MIN_MS || expiresInMs > lifeMaxMs) {
    const days = Math.floor(lifeMaxMs / (24 * 60 * 60_000))
    throw invalid(`a token must expire, in one minute at the earliest and ${days} days at the latest`)
  }
  return { ...token, groups: unique(token.groups), roles: unique(roles) }
}

const SSH_KEY =
  /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]{40,2000}={0,2})(?: [^\n\r]{0,200})?\n?$/

/** The key itself, in the one base64 form it has, out of a line of a `.pub` file; `undefined` when it is none. */
export function sshKeyBlob(line: string): string | undefined {
  const [, type = '', base64 = ''] = SSH_KEY.exec(line) ?? []
  const blob = Buffer.from(base64, 'base64')
  // The blob says its type itself (RFC 4253, section 6.6); a line whose two halves differ is not what it seems.
  if (blob.length < 4 + type.length || type === '' || blob.toString('base64') !== base64) return undefined
  return blob.readUInt32BE(0) === type.length && blob.toString('latin1', 4, 4 + type.length) === type
    ? base64
    : undefined
}

function checkName(what: string, name: string): void {
  if (NAME.test(name)) return
  throw invalid(
    `${what} must be 1 to 100 lower-case letters, digits or any of . _ @ + - and begin with a letter or digit`,
  )
}

function unique<T extends string>(items: readonly T[]): readonly T[] {
  return [...new Set(items)].sort()
}

function invalid(why: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', `The token cannot be made: ${why}.`)
}
