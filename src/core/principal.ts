/** What kind of caller a principal is. Only a `person` may ever approve. */
export type PrincipalKind = 'agent' | 'person' | 'service'

/** What a principal may do at the gateway itself; what it may do at a target is policy. */
export type Role = 'caller' | 'approver' | 'operator' | 'auditor'

/** All roles, in the order help texts list them. */
export const ROLES: readonly Role[] = ['caller', 'approver', 'operator', 'auditor']

/** Who calls, after verification. Made by `identity/` only. */
export interface Principal {
  readonly id: string
  readonly kind: PrincipalKind
  readonly groups: readonly string[]
  readonly roles: readonly Role[]
  /** The person who answers for this principal. Approver and requester are told apart by it (C13). */
  readonly owner: string
  /** The person an agent acts for, kept apart from the agent itself. */
  readonly actsFor?: string
  /** The token or key it came with, so that revoking that one ends what it started. */
  readonly credentialId?: string
}
