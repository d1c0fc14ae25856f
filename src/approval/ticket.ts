/**
 * A ticket and the moves it can make. Pure: no store, no clock, no randomness.
 *
 * ```
 * pending ──► approved ──► executing ──► done | failed
 *    │            │             └──────► outcome_unknown ──► done | failed
 *    └────────────┴──► denied | expired | cancelled
 * ```
 *
 * INVARIANT: nothing leads back. In particular nothing leads from `executing` to anything that can be claimed (C12).
 *
 * @packageDocumentation
 */
import type { Proof } from '../core/call.ts'
import type { ApprovalRequirement } from '../core/decision.ts'
import type { ErrorCode } from '../core/errors.ts'
import type { Principal } from '../core/principal.ts'
import type { ProtocolName } from '../core/target.ts'

/** Where a ticket stands. */
export type TicketState =
  | 'pending'
  | 'approved'
  | 'executing'
  | 'done'
  | 'failed'
  | 'outcome_unknown'
  | 'denied'
  | 'expired'
  | 'cancelled'

/** Who asked, as far as approvals care. */
export type Requester = Pick<Principal, 'id' | 'kind' | 'owner' | 'actsFor'>

/** One person's answer. */
export interface Vote {
  readonly approver: Pick<Principal, 'id' | 'kind' | 'groups' | 'roles' | 'owner' | 'actsFor' | 'credentialId'>
  /** `confirm` is the requester's own word, which counts only for rules that say so. */
  readonly decision: 'approve' | 'deny' | 'confirm'
  /** Rules in whose name a `confirm` was asked for. It counts for no others. */
  readonly confirms?: readonly string[]
  readonly reason?: string
  /** The digest the person saw. */
  readonly digest: string
  /** Names the terms of {@link Ticket.cover} the person agreed to as well; without it, to this call only. */
  readonly covers?: string
  readonly at: number
  /** HMAC over all of the above and the ticket's id: whoever can write to the store still cannot vote. */
  readonly mac: string
}

/** How the one execution ended. */
export interface Outcome {
  readonly at: number
  /** What went wrong, when something did: `code`, and the text the caller saw. */
  readonly code?: ErrorCode
  readonly message?: string
  /** Set when a person said what had happened. */
  readonly resolvedBy?: string
  readonly resolvedReason?: string
}

/** One move, for whoever asks later how it came to this. */
export interface Move {
  readonly at: number
  readonly to: TicketState
  readonly by: string
  readonly why?: string
}

/** How far the approval of a ticket reaches beyond its own call. Never changed once the ticket is filed. */
export interface CoverTerms {
  /** Digest of what covered calls have in common. */
  readonly key: string
  /** `same_statement`: other parameters of the same text; `same_call`: nothing else at all. */
  readonly scope: 'same_statement' | 'same_call'
  /** From the approval on. */
  readonly forMs: number
  /** Calls in all, that of the ticket included. */
  readonly uses: number
  /** Fingerprint of the masks it was asked under. */
  readonly masks: string
  /** Rows its own call changes, by what happens to which table; none may change more. */
  readonly touched?: Readonly<Record<string, number>>
}

/** A request for consent, bound to one exact call. Times are milliseconds since the epoch. */
export interface Ticket {
  readonly id: string
  readonly digest: string
  /** Set when the caller asked afresh for a call that was approved before. */
  readonly newRequest?: string
  /** The ticket that was approved before it, for the same call, when what that one showed was no longer so. */
  readonly follows?: string
  readonly state: TicketState
  readonly requester: Requester
  /** The requester's id, at the top where a store can look for it. */
  readonly requestedBy: string
  readonly target: string
  readonly protocol: ProtocolName
  readonly tool: string
  /** Verbs of the action, for lists. */
  readonly verbs: readonly string[]
  readonly rules: readonly string[]
  /** Why the policy asks. */
  readonly decisionReason: string
  readonly policyVersion: string
  readonly requirements: readonly ApprovalRequirement[]
  readonly votes: readonly Vote[]
  /** What else an approval of it covers; absent where it covers this one call. */
  readonly cover?: {
    readonly terms: CoverTerms
    /** Calls filed under it, that of the ticket included. */
    readonly used: number
    /** Set when somebody, or a freeze, put an end to it. */
    readonly ended?: { readonly at: number; readonly by: string; readonly why: string }
  }
  /** `cover.terms.key`, at the top where a store can look for it. */
  readonly coverKey?: string
  /** The ticket whose approval covers this call, so that nobody was asked about it, and who gave that. */
  readonly coveredBy?: { readonly ticket: string; readonly by: readonly string[] }
  /** Set for a call that waits, and then runs, inside a transaction of its client. */
  readonly inTransaction?: true
  /** The digest it would have outside: what is the same call, though nothing is shared with it. */
  readonly plainDigest?: string
  /** When it ran there. It is done, or has failed, once that transaction has ended. */
  readonly ranAt?: number
  readonly createdAt: number
  /** Until when it may wait for votes. */
  readonly expiresAt: number
  /** Until when an approval may be used. */
  readonly grantUntil?: number
  /** The instance that claimed it. */
  readonly executor?: string
  /** The one claim, so that an instance tells its own from another one it made. */
  readonly claim?: string
  /** By what the backend can be asked whether the call took effect, and which backend that was. */
  readonly proof?: Proof & { readonly endpoint: string }
  /** Whether its executor leaves that before the call can take effect; set by the claim. */
  readonly proves?: true
  /** Fingerprint of the masks the result was made under; another set must not see it. */
  readonly masks?: string
  readonly outcome?: Outcome
  /** What is kept of the result, and until when. */
  readonly result?: { readonly kept: 'full' | 'status'; readonly until: number }
  /** Set when the stored request was erased. */
  readonly erased?: boolean
  readonly history: readonly Move[]
}

/** The longest a ticket may wait, whatever a rule says. */
export const EXPIRES_MAX_MS = 7 * 24 * 60 * 60_000

const MOVES: Readonly<Record<TicketState, readonly TicketState[]>> = {
  pending: ['approved', 'denied', 'expired', 'cancelled'],
  approved: ['executing', 'denied', 'expired', 'cancelled'],
  executing: ['done', 'failed', 'outcome_unknown'],
  outcome_unknown: ['done', 'failed'],
  done: [],
  failed: [],
  denied: [],
  expired: [],
  cancelled: [],
}

/** Whether a ticket in `from` may go to `to`. */
export function mayMove(from: TicketState, to: TicketState): boolean {
  return MOVES[from].includes(to)
}

/** Whether nothing can happen to the ticket any more. */
export function isFinal(state: TicketState): boolean {
  return MOVES[state].length === 0
}

/**
 * Returns the ticket after a move.
 *
 * @throws TypeError for a move that does not exist: that is a mistake in this program, not in its input.
 */
export function moved(ticket: Ticket, to: TicketState, move: Omit<Move, 'to'>, changes: Partial<Ticket> = {}): Ticket {
  if (!mayMove(ticket.state, to)) throw new TypeError(`a ticket never goes from ${ticket.state} to ${to}`)
  return { ...ticket, ...changes, state: to, history: [...ticket.history, { ...move, to }] }
}

/** Whether only the end of a transaction, which its backend knows, says what became of the call. */
export function isLeftOpen({ state, ranAt, proof }: Ticket): boolean {
  return state === 'executing' && ranAt !== undefined && proof !== undefined
}

/** Returns a ticket of which it was not known what became, after somebody, or the backend itself, said it. */
export function resolved(
  ticket: Ticket,
  by: string,
  tookEffect: boolean,
  reason: string,
  { at, resultMs }: { readonly at: number; readonly resultMs: number },
): Ticket {
  const outcome: Outcome = { ...ticket.outcome, at, resolvedBy: by, resolvedReason: reason }
  const move = { at, by, why: reason }
  if (!tookEffect) return moved(ticket, 'failed', move, { outcome })
  return moved(ticket, 'done', move, { outcome, result: { kept: 'status', until: at + resultMs } })
}

/** The moment from which the ticket counts as expired although nobody wrote that down yet, if there is one. */
export function deadlineOf(ticket: Ticket): number | undefined {
  if (ticket.state === 'pending') return ticket.expiresAt
  if (ticket.state === 'approved') return ticket.grantUntil
  return undefined
}

/** Until when an approval may be used that is given now. Inside a transaction nobody comes back for it. */
export function grantUntil({ inTransaction, expiresAt }: Ticket, now: number, grantMs: number): number {
  return inTransaction === true ? Math.min(now + grantMs, expiresAt) : now + grantMs
}

/** Whether without a proof it is certain that nothing is left of it: what its client's transaction never took over is gone. */
export function leavesProof({ proves, inTransaction }: Ticket): boolean {
  return proves === true || inTransaction === true
}

/** Whether time has run out on a ticket that waits for votes or for its claim. */
export function hasExpired(ticket: Ticket, now: number): boolean {
  const deadline = deadlineOf(ticket)
  return deadline !== undefined && now >= deadline
}
