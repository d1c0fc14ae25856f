import type { Principal } from '../core/principal.ts'
import type { ApprovalRequirement } from '../core/decision.ts'
import type { Preview, PreviewSection } from '../core/preview.ts'
import { type Progress, whyNotAnswer } from './eligibility.ts'
import { coverId, isCovering, reachText } from './cover.ts'
import { visible } from './escape.ts'
import type { StoredRequest } from './requests.ts'
import type { Ticket, TicketState, Vote } from './ticket.ts'

/**
 * A ticket as a person sees it. Every text that a caller or a backend could have written has its hidden characters made
 * visible, so that it can be printed as it is.
 */
export interface TicketView {
  readonly id: string
  readonly state: TicketState
  /** What a vote must carry: it says what the person saw. */
  readonly digest: string
  readonly requester: { readonly id: string; readonly kind: string; readonly owner: string; readonly actsFor?: string }
  readonly target: string
  readonly protocol: string
  readonly tool: string
  readonly verbs: readonly string[]
  readonly rules: readonly string[]
  readonly policyVersion: string
  /** Why the policy asks. */
  readonly decisionReason: string
  /** What would run, whole, masked. Absent in lists and once it was erased. */
  readonly request?: { readonly text: string; readonly params?: readonly (string | null)[] }
  /** What would change, masked; absent where the protocol has no preview, in lists, and once it was erased. */
  readonly preview?: Pick<Preview, 'sections' | 'missing'>
  /** The ticket approved for the same call whose preview no longer held when the call was to run. */
  readonly follows?: string
  /** How far an approval reaches beyond this call, when it does; approvers may give less. */
  readonly covers?: CoversView
  /** The ticket whose approval covers this call: nobody was asked about it. */
  readonly coveredBy?: string
  /** Set for a call inside a transaction of its client, which decides in the end whether anything of it stays. */
  readonly inTransaction?: true
  /** When it ran there; RFC 3339. */
  readonly ranAt?: string
  /** The agent's own words. They are a claim, not a fact. */
  readonly agentSays?: string
  readonly requirements: readonly RequirementView[]
  readonly votes: readonly VoteView[]
  /** RFC 3339. */
  readonly createdAt: string
  readonly expiresAt: string
  readonly grantUntil?: string
  readonly mayAnswer: boolean
  /** Why the viewer may not answer. */
  readonly whyNot?: string
  readonly outcome?: {
    readonly code?: string
    readonly message?: string
    readonly resolvedBy?: string
    readonly reason?: string
  }
  /** Tickets for the very same call of which nobody knows yet whether it took effect. */
  readonly unresolved: readonly string[]
  readonly history: readonly {
    readonly at: string
    readonly to: TicketState
    readonly by: string
    readonly why?: string
  }[]
}

/** What an approval covers beyond the call it is asked for. */
export interface CoversView {
  /** An approval of all this carries it. */
  readonly id: string
  /** In words, to be shown to whoever is asked. */
  readonly text: string
  /** Calls in all, and how many of them there were. */
  readonly uses: number
  readonly used: number
  /** Whether it covers calls now. */
  readonly isInForce: boolean
  /** Whether the viewer may end it by a refusal, although the ticket's own call has been claimed. */
  readonly mayEnd: boolean
  /** Who or what ended it. */
  readonly ended?: string
}

/** One requirement and how far it is met. */
interface RequirementView extends ApprovalRequirement {
  readonly by: readonly string[]
  readonly isMet: boolean
}

/** One answer. */
interface VoteView {
  readonly by: string
  readonly owner: string
  readonly decision: Vote['decision']
  readonly reason?: string
  readonly at: string
}

/** Renders a ticket for one viewer. Pure. */
export function viewOf(
  ticket: Ticket,
  viewer: Principal,
  progress: readonly Progress[],
  stored: StoredRequest | undefined,
  unresolved: readonly string[],
  now: number,
): TicketView {
  const { id, state, digest, requester, protocol, outcome, grantUntil } = ticket
  const barred = whyNotAnswer(viewer, requester, ticket.requirements)
  const whyNot = isOpen(state) ? barred : `Ticket ${id} is ${state}.`
  return {
    id,
    state,
    digest,
    requester: {
      id: visible(requester.id),
      kind: requester.kind,
      owner: visible(requester.owner),
      ...(requester.actsFor !== undefined && { actsFor: visible(requester.actsFor) }),
    },
    target: visible(ticket.target),
    protocol,
    tool: visible(ticket.tool),
    verbs: ticket.verbs.map((verb) => visible(verb)),
    rules: ticket.rules,
    policyVersion: ticket.policyVersion,
    decisionReason: visible(ticket.decisionReason),
    ...(stored !== undefined && { request: requestView(stored) }),
    ...(stored?.preview !== undefined && { preview: previewView(stored.preview) }),
    ...(ticket.follows !== undefined && { follows: ticket.follows }),
    ...(ticket.cover !== undefined && { covers: coversView(ticket, ticket.cover, now, barred === undefined) }),
    ...(ticket.coveredBy !== undefined && { coveredBy: ticket.coveredBy.ticket }),
    ...(ticket.inTransaction === true && { inTransaction: true }),
    ...(ticket.ranAt !== undefined && { ranAt: time(ticket.ranAt) }),
    ...(stored?.reason !== undefined && { agentSays: visible(stored.reason) }),
    requirements: progress.map(({ requirement, by, isMet }) => ({ ...requirement, by, isMet })),
    votes: ticket.votes.map(({ approver, decision, reason, at }) => ({
      by: approver.id,
      owner: approver.owner,
      decision,
      ...(reason !== undefined && { reason: visible(reason) }),
      at: time(at),
    })),
    createdAt: time(ticket.createdAt),
    expiresAt: time(ticket.expiresAt),
    ...(grantUntil !== undefined && { grantUntil: time(grantUntil) }),
    mayAnswer: whyNot === undefined,
    ...(whyNot !== undefined && { whyNot }),
    ...(outcome !== undefined && { outcome: outcomeView(outcome) }),
    unresolved,
    history: ticket.history.map(({ at, to, by, why }) => ({
      at: time(at),
      to,
      by: visible(by),
      ...(why !== undefined && { why: visible(why) }),
    })),
  }
}

function coversView(
  ticket: Ticket,
  { terms, used, ended }: NonNullable<Ticket['cover']>,
  now: number,
  isApprover: boolean,
): CoversView {
  const isInForce = isCovering(ticket, now)
  return {
    id: coverId(terms),
    text: reachText(terms),
    uses: terms.uses,
    used,
    isInForce,
    mayEnd: isInForce && isApprover && !isOpen(ticket.state),
    ...(ended !== undefined && { ended: visible(ended.why) }),
  }
}

/** Whether votes still change anything: a refusal also stops an approval that was not used yet. */
export function isOpen(state: TicketState): boolean {
  return state === 'pending' || state === 'approved'
}

function requestView({ shown }: StoredRequest): {
  readonly text: string
  readonly params?: readonly (string | null)[]
} {
  const { text, params } = shown
  return {
    text: visible(text, 'keep-lines'),
    ...(params !== undefined && { params: params.map((value) => (value === null ? null : visible(value))) }),
  }
}

/** Never with the guard: it is made of what nobody is shown. */
function previewView({ sections, missing }: Preview): NonNullable<TicketView['preview']> {
  return {
    sections: sections.map(sectionView),
    ...(missing !== undefined && { missing: visible(missing) }),
  }
}

function sectionView({ title, text, table, more }: PreviewSection): PreviewSection {
  return {
    title: visible(title),
    ...(text !== undefined && { text: visible(text, 'keep-lines') }),
    ...(table !== undefined && {
      table: {
        columns: table.columns.map((name) => visible(name)),
        rows: table.rows.map((row) => row.map((cell) => (cell === null ? null : visible(cell)))),
      },
    }),
    ...(more !== undefined && { more }),
  }
}

function outcomeView(outcome: NonNullable<Ticket['outcome']>): NonNullable<TicketView['outcome']> {
  const { code, message, resolvedBy, resolvedReason } = outcome
  return {
    ...(code !== undefined && { code }),
    ...(message !== undefined && { message: visible(message) }),
    ...(resolvedBy !== undefined && { resolvedBy }),
    ...(resolvedReason !== undefined && { reason: visible(resolvedReason) }),
  }
}

function time(ms: number): string {
  return new Date(ms).toISOString()
}
