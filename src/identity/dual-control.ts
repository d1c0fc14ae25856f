/**
 * Keeps an operator from making approvers alone (C13).
 *
 * While fewer than two persons can approve, an operator makes approvers freely: somebody has to begin. From the moment
 * two can, and for good, a token with the role approver is worth nothing until an approver confirms it who is not the
 * operator that made it. That it is for good matters: an operator could otherwise revoke approvers until one is left.
 *
 * The same holds for another operator: one who also approves could otherwise invent an operator, make an approver in that
 * name, and confirm it in the own.
 *
 * @packageDocumentation
 */
import type { Principal, Role } from '../core/principal.ts'
import type { Store, Versioned, Write } from '../store/store.ts'
import { type StoredToken, stateOf } from './token.ts'

const COLLECTION = 'identity'
const ID = 'dual-control'

interface DualControl {
  /** Since when two persons could approve. */
  readonly since?: number
}

/** What has to be written together with a token that takes part in this. */
export interface TokenGuard {
  readonly needsConfirmation: boolean
  readonly writes: readonly Write[]
}

/** A token that is about to be made, and who answers for its maker. */
interface Wanted {
  readonly owner: string
  readonly roles: readonly Role[]
  readonly makerOwner: string
}

/**
 * Looks at who can approve now; `undefined` for a token that no second person has to look at. Its writes must go into the
 * same commit as the token: of two approvers made at the same moment, the second is then judged after the first.
 */
export async function guardToken(
  store: Store,
  { owner, roles, makerOwner }: Wanted,
  tokens: readonly Versioned<StoredToken>[],
  now: number,
): Promise<TokenGuard | undefined> {
  const isApprover = roles.includes('approver')
  // Whoever renews the own token, or takes another one, is no other person by it.
  if (!isApprover && (!roles.includes('operator') || owner === makerOwner)) return undefined
  const read = await store.get<DualControl>(COLLECTION, ID)
  const since = read?.value.since
  const owners = new Set(approvers(tokens, now).map(({ value }) => value.owner))
  if (isApprover) owners.add(owner)
  const next: DualControl = since === undefined && owners.size >= 2 ? { since: now } : { ...read?.value }
  return {
    needsConfirmation: since !== undefined,
    writes: [{ kind: 'put', collection: COLLECTION, id: ID, expect: read?.version ?? 0, value: next }],
  }
}

/** Returns why a person may not confirm a token, or `undefined` when they may. */
export function whyNotConfirm(by: Principal, token: StoredToken): string | undefined {
  if (by.kind !== 'person' || !by.roles.includes('approver')) return 'Only a person with the role approver can confirm.'
  if (by.owner === token.createdBy.owner || by.id === token.createdBy.id) {
    return 'Whoever made the token cannot confirm it. Another approver must.'
  }
  return undefined
}

/** Writes that begin anew, for the owner of the host when no approver is left who could confirm another. */
export async function endDualControl(store: Store): Promise<readonly Write[]> {
  const read = await store.get<DualControl>(COLLECTION, ID)
  return read === undefined ? [] : [{ kind: 'put', collection: COLLECTION, id: ID, expect: read.version, value: {} }]
}

/** Tokens that let somebody approve, also those that wait for confirmation: each is a person who was named. */
function approvers(tokens: readonly Versioned<StoredToken>[], now: number): readonly Versioned<StoredToken>[] {
  return tokens.filter(({ value }) => {
    const state = stateOf(value, now)
    return value.roles.includes('approver') && (state === 'active' || state === 'unconfirmed')
  })
}
