import { createHash, hash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Principal, PrincipalKind, Role } from '../core/principal.ts'
import type { ScramVerifier } from './scram.ts'

/** A token as the store keeps it: everything but the token. Times are milliseconds since the epoch. */
export interface StoredToken {
  /** The principal it authenticates. Several tokens may share one. */
  readonly principal: string
  readonly kind: PrincipalKind
  readonly owner: string
  readonly groups: readonly string[]
  readonly roles: readonly Role[]
  readonly actsFor?: string
  /** SHA-256 of the whole token, in hex. The token has 256 random bits, so a slow hash would protect nothing more. */
  readonly hash: string
  /** For doors whose protocol proves a password without sending it. Absent for tokens made where there was no such door. */
  readonly scram?: ScramVerifier
  readonly createdAt: number
  readonly createdBy: { readonly id: string; readonly owner: string }
  readonly expiresAt: number
  readonly revokedAt?: number
  /** Set when somebody else than its maker must agree before it can be used (C13). */
  readonly needsConfirmation?: boolean
  readonly confirmedBy?: string
  /** A public key that stands for it at the SSH door, in base64. */
  readonly sshKey?: string
}

/** Whether a token can be used, and why not. */
export type TokenState = 'active' | 'unconfirmed' | 'expired' | 'revoked'

/** A token as lists show it. Times are RFC 3339. */
export interface TokenFacts {
  readonly id: string
  readonly principal: string
  readonly kind: PrincipalKind
  readonly owner: string
  readonly groups: readonly string[]
  readonly roles: readonly Role[]
  readonly actsFor?: string
  readonly createdAt: string
  readonly createdBy: string
  readonly expiresAt: string
  readonly state: TokenState
  readonly confirmedBy?: string
  /** Fingerprint of its SSH key, as `ssh-keygen -l` prints it. */
  readonly sshKey?: string
}

const TOKEN = /^sp_([0-9a-z]{12})_[A-Za-z0-9_-]{43}$/
const TOKEN_CHARS = 'sp_'.length + 12 + '_'.length + 43
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
const NO_HASH = Buffer.alloc(32)

/** Makes a token: a public id to find it by, and 256 random bits. */
export function newToken(): { readonly id: string; readonly token: string; readonly hash: string } {
  const id = [...randomBytes(12)].map((byte) => ALPHABET.charAt(byte & 31)).join('')
  const token = `sp_${id}_${randomBytes(32).toString('base64url')}`
  return { id, token, hash: hashOf(token).toString('hex') }
}

/** Returns the public id in a token, or `undefined` for what cannot be one. Looks at no more than a token's length. */
export function idOf(token: string): string | undefined {
  return token.length === TOKEN_CHARS ? TOKEN.exec(token)?.[1] : undefined
}

/**
 * Whether this is the token that was stored. Takes the same time for a wrong token and for one that does not exist.
 */
export function isToken(token: string, stored: StoredToken | undefined): stored is StoredToken {
  const expected = stored === undefined ? NO_HASH : Buffer.from(stored.hash, 'hex')
  const actual = hashOf(token)
  const isEqual = expected.length === actual.length && timingSafeEqual(expected, actual)
  return isEqual && stored !== undefined
}

/** Whether a stored token can be used at a moment. */
export function stateOf(token: StoredToken, now: number): TokenState {
  if (token.revokedAt !== undefined) return 'revoked'
  if (now >= token.expiresAt) return 'expired'
  return token.needsConfirmation === true && token.confirmedBy === undefined ? 'unconfirmed' : 'active'
}

const principals = new WeakMap<StoredToken, Principal>()

/** The principal a token stands for: the very same one for as long as the token is what it is. */
export function principalOf(id: string, token: StoredToken): Principal {
  const known = principals.get(token)
  // A document is never moved to another id, but nothing depends on it here.
  if (known?.credentialId === id) return known
  const made = makePrincipal(id, token)
  principals.set(token, made)
  return made
}

function makePrincipal(id: string, token: StoredToken): Principal {
  const { principal, kind, owner, groups, roles, actsFor } = token
  return {
    id: principal,
    kind,
    groups,
    roles,
    owner,
    ...(actsFor !== undefined && { actsFor }),
    credentialId: id,
  }
}

/** What may be said of a token. */
export function factsOf(id: string, token: StoredToken, now: number): TokenFacts {
  const { principal, kind, owner, groups, roles, actsFor, confirmedBy, sshKey } = token
  return {
    id,
    principal,
    kind,
    owner,
    groups,
    roles,
    ...(actsFor !== undefined && { actsFor }),
    createdAt: new Date(token.createdAt).toISOString(),
    createdBy: token.createdBy.id,
    expiresAt: new Date(token.expiresAt).toISOString(),
    state: stateOf(token, now),
    ...(confirmedBy !== undefined && { confirmedBy }),
    ...(sshKey !== undefined && { sshKey: fingerprintOf(sshKey) }),
  }
}

function fingerprintOf(sshKey: string): string {
  const digest = createHash('sha256').update(Buffer.from(sshKey, 'base64')).digest('base64')
  return `SHA256:${digest.replace(/=+$/u, '')}`
}

function hashOf(token: string): Buffer {
  return hash('sha256', token, 'buffer')
}
