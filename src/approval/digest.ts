import { createHmac } from 'node:crypto'
import type { Canonical } from '../core/call.ts'
import type { Principal } from '../core/principal.ts'
import type { Target } from '../core/target.ts'
import { canonicalJson } from './canonical.ts'

/** Everything an approval is bound to (C11). What is not here may change between asking and running. */
export interface Bound {
  readonly principal: Pick<Principal, 'id' | 'actsFor'>
  readonly target: Pick<Target, 'name' | 'endpoint' | 'protocol'>
  /** `Plan.exact`: text, parameters and types, settings, object identities: whatever decides what happens. */
  readonly exact: Canonical
  /** Set for a call that waits inside its client's transaction: then no other call has this digest (C14). */
  readonly inTransaction?: string | undefined
}

/**
 * Returns the digest of a call: HMAC-SHA-256 over the canonical JSON of all it is bound to, in hex.
 *
 * An HMAC and not a hash, because the digest is shown to people and kept in recordings, and a plain hash of a short
 * statement would let a reader guess its parameters. Not in it, on purpose: session, door, tool, time limit, and the
 * agent's reason.
 *
 * @throws SallyportError `ERR_INVALID_INPUT` when the call has no canonical form.
 */
export function digestOf({ principal, target, exact, inTransaction }: Bound, key: Uint8Array): string {
  const text = canonicalJson({
    digest: 1,
    principal: principal.id,
    acts_for: principal.actsFor ?? null,
    target: { name: target.name, endpoint: target.endpoint, protocol: target.protocol },
    exact,
    ...(inTransaction !== undefined && { in_transaction: inTransaction }),
  })
  return createHmac('sha256', key).update(text).digest('hex')
}
