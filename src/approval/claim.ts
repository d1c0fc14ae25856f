/**
 * The claim: from an approval to its one use, and from there to an end (C12).
 *
 * @packageDocumentation
 */
import { randomUUID } from 'node:crypto'
import type { ExitChunk } from '../core/chunk.ts'
import type { Call, Ending, Judged } from '../core/call.ts'
import { type ErrorCode, SallyportError } from '../core/errors.ts'
import type { Write } from '../store/store.ts'
import type { ClaimedTicket } from './approvals.ts'
import type { Desk, ReadTicket } from './desk.ts'
import { coverUntil } from './cover.ts'
import { digestOf } from './digest.ts'
import { isRequestedBy, isSatisfied, progressOf } from './eligibility.ts'
import { blobOf, readRequest } from './requests.ts'
import { keepResult, masksOf, type ResultKeeper } from './results.ts'
import { seal } from './seal.ts'
import { settleWhenEnded } from './settle-ended.ts'
import { isLeftOpen, leavesProof, moved, type Outcome, type Ticket } from './ticket.ts'
import { TICKETS, unknownTicket } from './tickets.ts'
import { countableVotes } from './votes.ts'

/**
 * Moves a ticket from `approved` to `executing`, durably, if it covers the call as it is judged now.
 *
 * @throws SallyportError `ERR_DENIED`, `ERR_APPROVAL_STALE`, `ERR_APPROVAL_CONFLICT` and the other ends of a ticket.
 */
export async function claimTicket(desk: Desk, id: string, call: Call, judged: Judged): Promise<ClaimedTicket> {
  const { decision, plan } = judged
  if (decision.effect === 'deny')
    throw new SallyportError('ERR_DENIED', decision.reason, { facts: { rules: decision.rules } })
  const digest = digestOf(
    {
      principal: call.session.principal,
      target: call.target,
      exact: plan.exact,
      inTransaction: call.hold.inTransaction?.id,
    },
    desk.keys.digest,
  )
  for (;;) {
    const read = await desk.tickets.read(id)
    if (read === undefined) throw unknownTicket()
    throwUnlessApproved(read.value)
    if (digest !== read.value.digest || !isRequestedBy(call.session.principal, read.value.requester)) {
      throw stale(read.value, 'What would be sent now is not what was approved. Ask for a new approval.')
    }
    // An approval is judged by the rules of this moment, not of the moment it was asked for (C13).
    const still = decision.effect === 'require_approval' ? await throwUnlessStands(desk, read, call, judged) : []
    // Before the claim: after it nothing may fail any more.
    const stored = await readRequest(desk, id)
    // Fail closed: without the stored request nobody knows what the execution was to be held to.
    if (stored === undefined) throw stale(read.value, 'What was asked is no longer kept. Ask for a new approval.')
    const executing = moved(
      read.value,
      'executing',
      { at: desk.now(), by: call.session.principal.id },
      {
        executor: desk.instance,
        claim: randomUUID(),
        masks: masksOf(judged),
        ...(judged.proves === true && { proves: judged.proves }),
      },
    )
    if (await swapOrUndo(desk, read, executing, still)) {
      return inUse(desk, executing, call, stored.preview?.guard)
    }
  }
}

/**
 * Claims. A store that does not answer may have kept the claim all the same; nothing runs then, and the ticket says so as
 * soon as it can be told.
 */
async function swapOrUndo(desk: Desk, read: ReadTicket, executing: Ticket, still: readonly Write[]): Promise<boolean> {
  try {
    return await desk.tickets.swap(read, executing, still)
  } catch (error) {
    const { code, message } = SallyportError.from(error)
    desk.unsettled.set(`${executing.id}.${executing.claim}`, async () => {
      await desk.tickets.change(executing.id, (ticket) => {
        if (ticket.state !== 'executing' || ticket.claim !== executing.claim) return ticket
        const outcome: Outcome = { at: desk.now(), code, message }
        return moved(ticket, 'failed', { at: desk.now(), by: 'gateway', why: 'it never ran' }, { outcome })
      })
    })
    throw error
  }
}

/** Returns what must still be so when the claim is written, besides the ticket itself. */
async function throwUnlessStands(desk: Desk, read: ReadTicket, call: Call, judged: Judged): Promise<readonly Write[]> {
  const { coveredBy } = read.value
  if (coveredBy === undefined) {
    await throwUnlessSatisfied(desk, read, judged)
    return []
  }
  const approved = await desk.tickets.read(coveredBy.ticket)
  if (approved !== undefined && (await coverUntil(desk, approved.value, call, judged)) !== undefined) {
    // Whoever ends that approval either comes before this claim, which then fails, or after it.
    return [{ kind: 'check', collection: TICKETS, id: approved.id, expect: approved.version }]
  }
  const why = `the approval of ticket ${coveredBy.ticket} no longer covers it`
  await desk.tickets.swap(read, moved(read.value, 'cancelled', { at: desk.now(), by: 'gateway', why }))
  throw stale(
    read.value,
    `The approval of ticket ${coveredBy.ticket} covered this call and no longer does. Ask again to get one for this call.`,
  )
}

async function throwUnlessSatisfied(desk: Desk, read: ReadTicket, judged: Judged): Promise<void> {
  const votes = await countableVotes(desk, read.value, desk.approverNow)
  if (isSatisfied(progressOf({ ...read.value, votes }, judged.decision.approvals))) return
  const why = 'the approvals given no longer satisfy the policy'
  // The ticket ends here, so that asking again files a new one under the requirements of now.
  await desk.tickets.swap(read, moved(read.value, 'cancelled', { at: desk.now(), by: 'gateway', why }))
  throw stale(
    read.value,
    'The policy or its approvers changed, and the approvals given no longer suffice. Ask again to get them anew.',
  )
}

function throwUnlessApproved(ticket: Ticket): void {
  const { state, id } = ticket
  const facts = { ticket: id }
  switch (state) {
    case 'approved':
      return
    case 'expired':
      throw new SallyportError('ERR_APPROVAL_EXPIRED', `The approval of ticket ${id} was not used in time.`, { facts })
    case 'denied':
      throw new SallyportError('ERR_APPROVAL_REFUSED', `Ticket ${id} was refused.`, { facts })
    case 'cancelled':
      throw new SallyportError('ERR_APPROVAL_CANCELLED', `Ticket ${id} was cancelled.`, { facts })
    case 'pending':
      throw stale(ticket, `Ticket ${id} is not approved.`)
    case 'executing':
    case 'done':
    case 'failed':
    case 'outcome_unknown':
      throw new SallyportError(
        'ERR_APPROVAL_CONFLICT',
        `The approval of ticket ${id} is already in use. Ask for the same call again to get its result.`,
        { facts },
      )
  }
}

function stale(ticket: Ticket, message: string): SallyportError {
  return new SallyportError('ERR_APPROVAL_STALE', message, { facts: { ticket: ticket.id } })
}

function inUse(desk: Desk, ticket: Ticket, call: Call, guard: string | undefined): ClaimedTicket {
  const { endpoint } = call.target
  const { inTransaction } = call.hold
  const kept = keepResult(desk.settings.resultBytesMax)
  let ended = false
  return {
    ...(guard !== undefined && { guard }),
    shown: (chunk) => kept.add(chunk),
    async prove(proof) {
      await desk.tickets.change(ticket.id, (current) => {
        if (current.state === 'executing' && current.claim === ticket.claim) {
          return { ...current, proof: { ...proof, endpoint } }
        }
        // Fail closed: somebody took this executor for dead, and may have said already that nothing happened.
        throw new SallyportError('ERR_APPROVAL_CONFLICT', `Ticket ${ticket.id} was settled while its call ran.`, {
          facts: { ticket: ticket.id },
        })
      })
    },
    async end(ending, error, isStopped) {
      if (ended) return
      ended = true
      const attempt = async (): Promise<void> => {
        const after = await settle(desk, ticket, kept, ending, error, isStopped)
        if (inTransaction !== undefined && isLeftOpen(after)) settleWhenEnded(desk, after, inTransaction.ended())
      }
      try {
        await attempt()
      } catch (failure) {
        // The disk may have room again in a minute; until then the ticket stays `executing`, which nobody can claim.
        desk.unsettled.set(ticket.id, attempt)
        throw failure
      }
    },
  }
}

async function settle(
  desk: Desk,
  { id, inTransaction }: Ticket,
  kept: ResultKeeper,
  ending: Ending,
  error: SallyportError | undefined,
  isStopped?: boolean,
): Promise<Ticket> {
  const exit = kept.exit()
  const state = settledState(exit, ending, error, isStopped)
  const until = desk.now() + desk.settings.resultMs
  const why = error ?? refusalOf(exit)
  const outcome: Outcome = { at: desk.now(), ...(why !== undefined && { code: why.code, message: why.message }) }
  // What ran inside a transaction is nobody's to be shown again: no other call has its digest.
  const isKept = state === 'done' && inTransaction !== true
  const result = isKept ? { kept: await storeResult(desk, id, kept), until } : { kept: 'status' as const, until }
  return desk.tickets.change(id, (ticket) => {
    const known = exit !== undefined ? state : byProof(ticket, state)
    if (!maySettle(ticket, desk.instance) || ticket.state === known) return ticket
    // It may still be rolled back: only the end of its transaction says whether it was done.
    if (known === 'done' && inTransaction === true && ticket.proof !== undefined) {
      return ticket.state === 'executing' ? { ...ticket, ranAt: desk.now() } : ticket
    }
    const move = { at: desk.now(), by: 'gateway', ...(why !== undefined && { why: why.code }) }
    return moved(ticket, known, move, { outcome, ...(known === 'done' && { result }) })
  })
}

/** What a backend said no with, where that was its answer and no error of the call. */
function refusalOf(exit: ExitChunk | undefined): SallyportError | undefined {
  if (exit?.failed === undefined) return undefined
  return new SallyportError('ERR_UPSTREAM_REJECTED', `The backend did not do it: it answered ${exit.status}.`)
}

/** What is known of a call without an end, where a proof comes before its effect: without the one, the other never came. */
function byProof(ticket: Ticket, state: Settled): Settled {
  if (!leavesProof(ticket)) return state
  if (ticket.proof === undefined) return 'failed'
  return state === 'done' ? 'outcome_unknown' : state
}

type Settled = 'done' | 'failed' | 'outcome_unknown'

/**
 * Whether this instance may still say how the ticket ended. Another one that took it for dead may have written
 * `outcome_unknown` meanwhile; the executor knows better, unless a person has already answered.
 */
function maySettle(ticket: Ticket, instance: string): boolean {
  if (ticket.executor !== instance) return false
  return (
    ticket.state === 'executing' || (ticket.state === 'outcome_unknown' && ticket.outcome?.resolvedBy === undefined)
  )
}

/** Stores the masked result. When there is no room for it the status must do: the ticket has to be settled all the same. */
async function storeResult(desk: Desk, id: string, result: ResultKeeper): Promise<'full' | 'status'> {
  const { kept, bytes } = result.taken()
  const name = blobOf('result', id)
  try {
    await desk.store.blobs.put(name, seal(bytes, desk.keys.payload, name))
    return kept
  } catch {
    return 'status'
  }
}

/**
 * Errors that say that the call was never sent. Not what a backend said no with: it may have done a part of it, or all of
 * it before its answer went wrong; a protocol that knows better says so with `facts.noEffect`.
 */
const NO_EFFECT: ReadonlySet<ErrorCode> = new Set([
  'ERR_UPSTREAM_UNREACHABLE',
  'ERR_UPSTREAM_AUTH',
  'ERR_CREDENTIAL_MISSING',
  'ERR_INVALID_INPUT',
  'ERR_DENIED',
  'ERR_APPROVAL_STALE',
])

/**
 * What is known of the backend when a call has ended.
 *
 * Fail closed: "failed" invites another try, so it needs proof. What proves nothing is `outcome_unknown`.
 *
 * @param isStopped whether this gateway stopped the call. Its error then says why that was (a freeze, for one, denies), and
 * nothing of what the backend had done by then.
 */
export function settledState(
  exit: Pick<ExitChunk, 'failed'> | undefined,
  ending: Ending,
  error: SallyportError | undefined,
  isStopped = false,
): Settled {
  if (error?.code === 'ERR_OUTCOME_UNKNOWN' || error?.code === 'ERR_UPSTREAM_LOST') return 'outcome_unknown'
  if (exit?.failed !== undefined) return exit.failed === 'no_effect' ? 'failed' : 'outcome_unknown'
  if (exit !== undefined) return 'done'
  if (error === undefined) return ending === 'done' ? 'done' : 'outcome_unknown'
  if (error.facts.noEffect === true || (!isStopped && NO_EFFECT.has(error.code))) return 'failed'
  return 'outcome_unknown'
}
