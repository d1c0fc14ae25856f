import type { ApprovalRequirement } from '../../core/decision.ts'
import type { Principal, PrincipalKind, Role } from '../../core/principal.ts'
import type { SallyportError } from '../../core/errors.ts'

/** What the admin door needs of the rooms behind it. `main.ts` hands it in. */
export interface AdminRooms {
  /** @throws SallyportError `ERR_UNAUTHENTICATED` for a token that is unknown, expired or revoked. */
  readonly authenticate: (token: string) => Promise<Principal>
  readonly tokens: TokenDesk
  readonly approvals: ApprovalDesk
  readonly sessions: SessionDesk
  readonly policy: PolicyDesk
  readonly recordings: RecordingDesk
  /** Metrics in the Prometheus text format. */
  readonly metrics: () => string | Promise<string>
  /** Whether calls can be served now: policy loaded, store and recordings writable. */
  readonly isReady: () => boolean | Promise<boolean>
  /** Records an administrative act. The act does not happen when this rejects. */
  readonly record: (act: AdminAct) => Promise<void>
  /** Told of faults nobody foresaw; what they say never leaves the door. */
  readonly onFault: (error: SallyportError, request: { readonly method: string; readonly path: string }) => void
}

/** One administrative act, as the recording keeps it. */
export interface AdminAct {
  readonly act: string
  readonly by: Principal
  /** What it was done to: a ticket, a token, a session. */
  readonly subject?: string
  /** `attempted` stands before the act, so that what happened after a crash is never missing. */
  readonly outcome: 'attempted' | 'done' | 'refused' | 'failed'
  /** Names and numbers only; a token never stands here. */
  readonly facts?: Readonly<Record<string, string | number | boolean | readonly string[]>>
}

/** A token to be made. */
export interface NewToken {
  readonly principal: string
  readonly kind: PrincipalKind
  /** The person who answers for it. */
  readonly owner: string
  readonly groups: readonly string[]
  readonly roles: readonly Role[]
  readonly actsFor?: string
  readonly expiresInMs: number
}

/** A token as lists show it: everything but the token. */
export interface TokenFacts {
  readonly id: string
  readonly principal: string
  readonly kind: PrincipalKind
  readonly owner: string
  readonly groups: readonly string[]
  readonly roles: readonly Role[]
  readonly createdAt: string
  readonly expiresAt: string
  readonly state: string
}

/** Service-account tokens. */
export interface TokenDesk {
  /** Makes a token; it is shown this once. `state` says whether a second operator must confirm it first (C13). */
  create(by: Principal, token: NewToken): Promise<{ readonly token: string; readonly facts: TokenFacts }>
  list(): Promise<readonly TokenFacts[]>
  /** Ends the token, the sessions it opened and the calls they run. */
  revoke(by: Principal, id: string): Promise<TokenFacts>
  confirm(by: Principal, id: string): Promise<TokenFacts>
}

/** A ticket as a person may see it: already masked, ready for JSON. */
export interface TicketView {
  readonly id: string
  readonly state: string
  /** Of the exact call; a vote names it, so that nobody agrees to something else than they saw. */
  readonly digest: string
  readonly requester: { readonly id: string; readonly owner: string; readonly actsFor?: string }
  readonly target: string
  readonly tool: string
  readonly request: { readonly text: string; readonly params?: readonly (string | null)[] }
  /** The agent's own words. */
  readonly reason?: string
  readonly requirements: readonly Pick<ApprovalRequirement, 'rule' | 'anyOf' | 'count' | 'reasonRequired'>[]
  readonly votes: readonly { readonly by: string; readonly decision: string; readonly reason?: string }[]
  readonly expiresAt: string
  /** Why it ended, when it ended badly. */
  readonly outcome?: string
}

/** Tickets, as `approval/` lets this person see and answer them. */
export interface ApprovalDesk {
  list(by: Principal, filter: { readonly all: boolean }): Promise<readonly TicketView[]>
  show(by: Principal, id: string): Promise<TicketView>
  vote(by: Principal, id: string, vote: Vote): Promise<TicketView>
  resolve(by: Principal, id: string, resolution: Resolution): Promise<TicketView>
  /** Yields a ticket each time one this person may see changes. Ends with `signal`. */
  watch(by: Principal, signal: AbortSignal): AsyncIterable<TicketView>
}

/** A person's answer to a ticket. */
export interface Vote {
  readonly approve: boolean
  /** The digest of what the person saw. */
  readonly digest: string
  readonly reason?: string
}

/** What a person found out about a call whose outcome was unknown. */
export interface Resolution {
  readonly outcome: 'done' | 'failed'
  readonly reason: string
}

/** Open sessions and the calls in them. */
export interface SessionDesk {
  list(): readonly SessionFacts[]
  /** Ends one; its calls are cancelled. Returns whether there was one. */
  kill(id: string, by: Principal): Promise<boolean>
}

/** A session as operators see it. */
export interface SessionFacts {
  readonly id: string
  readonly principal: string
  readonly owner: string
  readonly door: string
  readonly run?: string
  readonly calls: readonly {
    readonly id: string
    readonly tool: string
    readonly target: string
    readonly text: string
  }[]
}

/** The policy in force. */
export interface PolicyDesk {
  status(): PolicyStatus
  /** Loads the files again. A bad file keeps the old policy. @throws SallyportError `ERR_POLICY_INVALID`. */
  reload(): Promise<PolicyStatus>
}

/** Which policy decides now, and what is wrong with the files if they could not replace it. */
export interface PolicyStatus {
  readonly version: string
  readonly files: readonly string[]
  readonly rules: number
  readonly loadedAt: string
  readonly problem?: string
}

/** Finished and running recordings. */
export interface RecordingDesk {
  list(): Promise<readonly Readonly<Record<string, unknown>>[]>
  /** A readable rendering of one. @throws SallyportError `ERR_INVALID_INPUT` when there is none of that name. */
  show(id: string): Promise<unknown>
}
