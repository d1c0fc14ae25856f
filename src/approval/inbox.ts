/**
 * What persons see of tickets, and how they answer. Doors and the command line use only this.
 *
 * Every act names its viewer, as the door authenticated them; there is no act without one, and none that a role exempts
 * from C13.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../core/errors.ts'
import type { Principal } from '../core/principal.ts'
import type { TicketWatch } from './changes.ts'
import { confirm } from './confirm.ts'
import { coverId, isCovering, uncovered } from './cover.ts'
import type { ApprovalEvent, Desk, ReadTicket } from './desk.ts'
import {
  isNamed,
  isRequestedBy,
  isSamePerson,
  isSatisfied,
  personKey,
  progressOf,
  whyNotAnswer,
} from './eligibility.ts'
import { readRequest } from './requests.ts'
import { signVote } from './seal.ts'
import { snapshot } from './snapshot.ts'
import { moved, resolved, type Ticket, grantUntil } from './ticket.ts'
import { unknownTicket } from './tickets.ts'
import { isOpen, type TicketView, viewOf } from './view.ts'
import { countableVotes } from './votes.ts'

/** One person's answer to one ticket. */
export interface Answer {
  readonly viewer: Principal
  readonly ticket: string
  /** Of what the person saw. With another one the vote is refused: it was meant for something else. */
  readonly digest: string
  readonly decision: 'approve' | 'deny'
  readonly reason?: string
  /** `covers.id` of the view the person saw, to approve all that it says; without it the approval is for this call only. */
  readonly covers?: string
}

/** What a person found out about a call whose outcome nobody knew. */
interface Resolution {
  readonly viewer: Principal
  readonly ticket: string
  /** Whether the call took effect. If not, the same call may be asked for again. */
  readonly tookEffect: boolean
  readonly reason: string
}

/** What an approver who could answer at once is told: an open ticket that waits for them, or that one no longer does. */
export type Offer =
  | { readonly kind: 'open'; readonly ticket: TicketView }
  | { readonly kind: 'closed'; readonly ticket: string }

/** What the client of a requester said when it was asked whether the requester's own call shall run. */
export interface Confirmation {
  readonly viewer: Principal
  readonly ticket: string
  /** Of what was shown. */
  readonly digest: string
  /** Rules in whose name it was asked. */
  readonly rules: readonly string[]
  readonly decision: 'confirm' | 'decline'
}

/** The tickets, as one person may see and answer them. */
export interface Inbox {
  /** Tickets the viewer may see that are not over, oldest first; with `all` also those that are. Without requests. */
  list(viewer: Principal, filter?: { readonly all?: boolean }): Promise<readonly TicketView[]>
  /** Open tickets that wait for this viewer, with their requests. Never one of the viewer's own or of an agent of theirs. */
  pending(viewer: Principal): Promise<readonly TicketView[]>
  /** @throws SallyportError `ERR_UNKNOWN_TICKET`, also for a ticket the viewer may not see. */
  show(viewer: Principal, ticket: string): Promise<TicketView>
  /**
   * @throws SallyportError `ERR_FORBIDDEN` (C13), `ERR_APPROVAL_STALE` (another digest), `ERR_APPROVAL_CONFLICT` (already
   * decided or in use), `ERR_APPROVAL_EXPIRED`, `ERR_INVALID_INPUT` (a reason is required), `ERR_UNKNOWN_TICKET`.
   */
  vote(answer: Answer): Promise<TicketView>
  /**
   * Takes the answer of the requester's own client. A confirmation counts for rules with `self_confirm` alone; declined, the
   * request is withdrawn, which is no approver's refusal: the same call may be asked for again.
   *
   * @throws SallyportError `ERR_UNKNOWN_TICKET` (also for anybody but the requester), `ERR_FORBIDDEN` (no rule lets the
   * requester confirm), `ERR_APPROVAL_STALE` (another digest), `ERR_APPROVAL_CONFLICT`, `ERR_APPROVAL_EXPIRED`.
   */
  confirm(confirmation: Confirmation): Promise<void>
  /** Withdraws a request that was not run yet. For its requester, and for operators. */
  cancel(viewer: Principal, ticket: string): Promise<TicketView>
  /** Says what became of a call whose outcome is unknown. For persons other than the requester. */
  resolve(resolution: Resolution): Promise<TicketView>
  /** Yields each ticket the viewer may see when it changes, until `signal` aborts. */
  watch(viewer: Principal, signal: AbortSignal): AsyncIterable<TicketView>
  /** Yields what {@link Inbox.pending} holds and then every change of it, until `signal` aborts. */
  offers(viewer: Principal, signal: AbortSignal): AsyncIterable<Offer>
}

const REASON_CHARS_MAX = 2_000
const FOREVER_MS = 2_147_483_647

/** Builds the inbox over the tickets of a gateway. */
export function createInbox(desk: Desk): Inbox {
  return {
    async list(viewer, { all = false } = {}) {
      const reads = (await desk.tickets.list()).filter(({ value }) => {
        return (
          maySee(viewer, value) && (all || isOpen(value.state) || isInDoubt(value) || isCovering(value, desk.now()))
        )
      })
      return Promise.all(oldestFirst(reads).map((read) => view(read.value, viewer, false)))
    },

    async pending(viewer) {
      const reads = (await desk.tickets.list({ state: 'pending' })).filter(({ value }) => waitsFor(viewer, value))
      return Promise.all(oldestFirst(reads).map((read) => view(read.value, viewer, true)))
    },

    show: async (viewer, id) => view((await visibleTicket(viewer, id)).value, viewer, true),

    async vote(answer) {
      const { viewer, ticket: id, decision } = answer
      const read = await visibleTicket(viewer, id)
      const reason = await orRefused(viewer, id, decision, () => checkAnswer(answer, read.value))
      await announce({ kind: 'vote', ticket: id, by: viewer, what: decision, reason })
      for (;;) {
        const current = await visibleTicket(viewer, id)
        checkAnswer(answer, current.value)
        const next = await withVote(current.value, answer, reason)
        if (next === undefined) return view(current.value, viewer, true)
        if (await desk.tickets.swap(current, next)) return view(next, viewer, true)
      }
    },

    confirm: (confirmation) => confirm(desk, confirmation),

    async cancel(viewer, id) {
      const read = await visibleTicket(viewer, id)
      const mayCancel = isRequestedBy(viewer, read.value.requester) || isOperator(viewer)
      await orRefused(viewer, id, 'cancel', () => {
        if (!mayCancel) throw forbidden('Only its requester or an operator may cancel a request.')
        throwUnlessEndable(read.value)
      })
      await announce({ kind: 'cancel', ticket: id, by: viewer, what: 'cancel' })
      const next = await desk.tickets.change(id, (ticket) => {
        throwUnlessEndable(ticket)
        // Its own call has run, or is running; what it would still cover does not.
        if (!isOpen(ticket.state)) return uncovered(ticket, viewer.id, desk.now(), `withdrawn by ${viewer.id}`)
        return moved(ticket, 'cancelled', { at: desk.now(), by: viewer.id, why: `withdrawn by ${viewer.id}` })
      })
      return view(next, viewer, true)
    },

    async resolve({ viewer, ticket: id, tookEffect, reason }) {
      const read = await visibleTicket(viewer, id)
      const why = cleanReason(reason)
      await orRefused(viewer, id, 'resolve', () => {
        throwUnlessMayResolve(viewer, read.value)
        if (why === undefined)
          throw new SallyportError('ERR_INVALID_INPUT', 'Say how you found out: a reason is needed.')
      })
      const what = tookEffect ? 'took effect' : 'did not take effect'
      await announce({ kind: 'resolve', ticket: id, by: viewer, what, reason: why })
      const next = await desk.tickets.change(id, (ticket) => {
        throwUnlessMayResolve(viewer, ticket)
        return resolved(ticket, viewer.id, tookEffect, why ?? '', { at: desk.now(), resultMs: desk.settings.resultMs })
      })
      return view(next, viewer, true)
    },

    async *watch(viewer, signal) {
      const changes = desk.changes.watch()
      try {
        for await (const id of changedIds(changes, signal)) {
          const read = await desk.tickets.read(id)
          if (read !== undefined && maySee(viewer, read.value)) yield await view(read.value, viewer, true)
        }
      } finally {
        changes.close()
      }
    },

    async *offers(viewer, signal) {
      const offered = new Set<string>()
      // Before the first look, so that nothing falls between looking and watching.
      const changes = desk.changes.watch()
      try {
        for (const ticket of await this.pending(viewer)) {
          offered.add(ticket.id)
          yield { kind: 'open', ticket }
        }
        for await (const id of changedIds(changes, signal)) {
          const ticket = (await desk.tickets.read(id))?.value
          if (ticket !== undefined && waitsFor(viewer, ticket)) {
            offered.add(id)
            yield { kind: 'open', ticket: await view(ticket, viewer, true) }
          } else if (offered.delete(id)) {
            yield { kind: 'closed', ticket: id }
          }
        }
      } finally {
        changes.close()
      }
    },
  }

  async function visibleTicket(viewer: Principal, id: string): Promise<ReadTicket> {
    const read = await desk.tickets.read(id)
    if (read === undefined || !maySee(viewer, read.value)) throw unknownTicket()
    return read
  }

  async function view(ticket: Ticket, viewer: Principal, whole: boolean): Promise<TicketView> {
    const votes = await countableVotes(desk, ticket)
    const progress = progressOf({ ...ticket, votes }, ticket.requirements)
    const stored = whole ? await readRequest(desk, ticket.id) : undefined
    const inDoubt = whole ? await desk.tickets.list({ state: 'outcome_unknown', digest: ticket.digest }) : []
    const unresolved = inDoubt.map(({ id }) => id).filter((id) => id !== ticket.id)
    return viewOf(ticket, viewer, progress, stored, unresolved, desk.now())
  }

  /** Returns the ticket with the vote, or `undefined` when the same person had already said the same. */
  async function withVote(ticket: Ticket, answer: Answer, reason: string | undefined): Promise<Ticket | undefined> {
    const { viewer, decision, covers } = answer
    const at = desk.now()
    // Too late for its own call, and in time for what it would still cover.
    if (!isOpen(ticket.state)) return uncovered(ticket, viewer.id, at, reason ?? `refused by ${viewer.id}`)
    const before = ticket.votes.filter(({ approver }) => personKey(approver.owner) !== personKey(viewer.owner))
    if (decision === 'approve' && before.length < ticket.votes.length) return undefined
    const vote = signVote(
      {
        approver: snapshot(viewer),
        decision,
        ...(reason !== undefined && { reason }),
        digest: ticket.digest,
        ...(decision === 'approve' && covers !== undefined && { covers }),
        at,
      },
      ticket.id,
      desk.keys.votes,
    )
    const voted: Ticket = { ...ticket, votes: [...before, vote] }
    const move = { at, by: viewer.id, ...(reason !== undefined && { why: reason }) }
    if (decision === 'deny') return moved(voted, 'denied', move)
    const votes = await countableVotes(desk, voted)
    if (voted.state !== 'pending' || !isSatisfied(progressOf({ ...voted, votes }, voted.requirements))) return voted
    return moved(voted, 'approved', move, { grantUntil: grantUntil(voted, at, desk.settings.grantMs) })
  }

  /** Checks an answer against the ticket as it is now. Returns the reason to keep. */
  function checkAnswer({ viewer, digest, decision, covers, reason }: Answer, ticket: Ticket): string | undefined {
    const whyNot = whyNotAnswer(viewer, ticket.requester, ticket.requirements)
    if (whyNot !== undefined) throw forbidden(whyNot)
    if (decision === 'deny') throwUnlessEndable(ticket)
    else throwUnlessOpen(ticket)
    const reach = ticket.cover === undefined ? undefined : coverId(ticket.cover.terms)
    if (digest !== ticket.digest || (covers !== undefined && covers !== reach)) {
      throw new SallyportError(
        'ERR_APPROVAL_STALE',
        'The vote is for something else than this ticket asks. Look at it again.',
        {
          facts: { ticket: ticket.id },
        },
      )
    }
    const kept = cleanReason(reason)
    const mustSayWhy = ticket.requirements.some(
      (requirement) => requirement.reasonRequired && isNamed(viewer, requirement),
    )
    if (mustSayWhy && kept === undefined) {
      throw new SallyportError('ERR_INVALID_INPUT', 'The policy wants a reason with this answer.')
    }
    return kept
  }

  /** Reports an attempt that the rules refuse, then refuses it: somebody who tries to approve their own call is news. */
  async function orRefused<T>(viewer: Principal, ticket: string, what: string, check: () => T): Promise<T> {
    try {
      return check()
    } catch (error) {
      const why = SallyportError.from(error).code
      await desk.onEvent({ kind: 'refused', at: desk.now(), ticket, by: viewer, what, why })
      throw error
    }
  }

  /** Tells of an act before it takes effect. Fail closed: an act that cannot be written down does not happen. */
  async function announce(act: {
    readonly kind: 'vote' | 'resolve' | 'cancel'
    readonly ticket: string
    readonly by: Principal
    readonly what: string
    readonly reason?: string | undefined
  }): Promise<void> {
    const { reason, ...rest } = act
    const event: ApprovalEvent = { ...rest, at: desk.now(), ...(reason !== undefined && { reason }) }
    await desk.onEvent(event)
  }

  async function* changedIds(changes: TicketWatch, signal: AbortSignal): AsyncGenerator<string, void, undefined> {
    try {
      while (!signal.aborted) {
        const changed = await changes.next(signal, FOREVER_MS)
        yield* changed === 'all' ? (await desk.tickets.list()).map(({ id }) => id) : changed
      }
    } catch (error) {
      // The end of watching is not an error of it.
      if (!signal.aborted) throw error
    }
  }

  /** A refusal or a withdrawal also ends what an approval that was used goes on covering. */
  function throwUnlessEndable(ticket: Ticket): void {
    if (!isCovering(ticket, desk.now())) throwUnlessOpen(ticket)
  }
}

/** Requesters see their own tickets, persons those they may answer, operators and auditors all. */
function maySee(viewer: Principal, ticket: Ticket): boolean {
  if (isRequestedBy(viewer, ticket.requester)) return true
  if (viewer.kind !== 'person') return false
  return (
    isOperator(viewer) ||
    viewer.roles.includes('auditor') ||
    (viewer.roles.includes('approver') && isNamedIn(viewer, ticket))
  )
}

function isNamedIn(viewer: Principal, ticket: Ticket): boolean {
  return ticket.requirements.some((requirement) => isNamed(viewer, requirement))
}

function waitsFor(viewer: Principal, ticket: Ticket): boolean {
  if (ticket.state !== 'pending' || whyNotAnswer(viewer, ticket.requester, ticket.requirements) !== undefined)
    return false
  return !ticket.votes.some(({ approver }) => personKey(approver.owner) === personKey(viewer.owner))
}

function isOperator(viewer: Principal): boolean {
  return viewer.kind === 'person' && viewer.roles.includes('operator')
}

function isInDoubt({ state }: Ticket): boolean {
  return state === 'executing' || state === 'outcome_unknown'
}

function throwUnlessMayResolve(viewer: Principal, ticket: Ticket): void {
  const isApprover = viewer.roles.includes('approver') && isNamedIn(viewer, ticket)
  if (viewer.kind !== 'person' || !(isOperator(viewer) || isApprover)) {
    throw forbidden('Only an operator, or an approver of the ticket, may say what became of a call.')
  }
  if (isSamePerson(viewer, ticket.requester)) {
    throw forbidden('The requester cannot say what became of their own call. Another person must find out.')
  }
  if (ticket.state !== 'outcome_unknown') {
    throw new SallyportError(
      'ERR_APPROVAL_CONFLICT',
      `Ticket ${ticket.id} is ${ticket.state}; nothing about it is unknown.`,
      {
        facts: { ticket: ticket.id },
      },
    )
  }
}

function throwUnlessOpen(ticket: Ticket): void {
  if (isOpen(ticket.state)) return
  const code = ticket.state === 'expired' ? 'ERR_APPROVAL_EXPIRED' : 'ERR_APPROVAL_CONFLICT'
  throw new SallyportError(code, `Ticket ${ticket.id} is ${ticket.state}; it takes no more answers.`, {
    facts: { ticket: ticket.id },
  })
}

function cleanReason(reason: string | undefined): string | undefined {
  const trimmed = reason?.trim()
  if (trimmed === undefined || trimmed === '') return undefined
  if (trimmed.length > REASON_CHARS_MAX || /\p{Cs}/u.test(trimmed)) {
    throw new SallyportError('ERR_INVALID_INPUT', `A reason may have ${REASON_CHARS_MAX} characters.`)
  }
  return trimmed
}

function oldestFirst(reads: readonly ReadTicket[]): readonly ReadTicket[] {
  return [...reads].sort((a, b) => a.value.createdAt - b.value.createdAt)
}

function forbidden(message: string): SallyportError {
  return new SallyportError('ERR_FORBIDDEN', message)
}
