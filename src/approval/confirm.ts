import { SallyportError } from '../core/errors.ts'
import type { Desk } from './desk.ts'
import { confirmable, isRequestedBy, isSatisfied, progressOf } from './eligibility.ts'
import type { Confirmation } from './inbox.ts'
import { signVote } from './seal.ts'
import { snapshot } from './snapshot.ts'
import { grantUntil, moved, type Ticket } from './ticket.ts'
import { unknownTicket } from './tickets.ts'
import { countableVotes } from './votes.ts'

/**
 * Takes what the requester's own client said of the requester's own call: the one answer that C13 leaves to no other
 * person, and only where every line of the rule that asks for it says so. See {@link Inbox.confirm}.
 */
export async function confirm(desk: Desk, confirmation: Confirmation): Promise<void> {
  const { viewer, ticket: id, decision } = confirmation
  const read = await desk.tickets.read(id)
  try {
    throwUnlessConfirmable(confirmation, read?.value)
  } catch (error) {
    const why = SallyportError.from(error).code
    await desk.onEvent({ kind: 'refused', at: desk.now(), ticket: id, by: viewer, what: decision, why })
    throw error
  }
  // Told before it takes effect. Fail closed: an act that cannot be written down does not happen.
  const kind = decision === 'confirm' ? 'vote' : 'cancel'
  await desk.onEvent({ kind, at: desk.now(), ticket: id, by: viewer, what: decision })
  for (;;) {
    const current = await desk.tickets.read(id)
    const rules = throwUnlessConfirmable(confirmation, current?.value)
    if (current === undefined) throw unknownTicket()
    const next = decision === 'decline' ? declined(desk, current.value, confirmation) : undefined
    if (await desk.tickets.swap(current, next ?? (await confirmed(desk, current.value, confirmation, rules)))) return
  }
}

function declined(desk: Desk, ticket: Ticket, { viewer }: Confirmation): Ticket {
  const why = `declined at the client of ${viewer.id}, which had asked for it`
  return moved(ticket, 'cancelled', { at: desk.now(), by: viewer.id, why })
}

async function confirmed(
  desk: Desk,
  ticket: Ticket,
  { viewer }: Confirmation,
  confirms: readonly string[],
): Promise<Ticket> {
  const at = desk.now()
  const vote = { approver: snapshot(viewer), decision: 'confirm', confirms, digest: ticket.digest, at } as const
  const before = ticket.votes.filter((earlier) => earlier.decision !== 'confirm')
  const voted: Ticket = { ...ticket, votes: [...before, signVote(vote, ticket.id, desk.keys.votes)] }
  const votes = await countableVotes(desk, voted)
  if (!isSatisfied(progressOf({ ...voted, votes }, voted.requirements))) return voted
  const move = { at, by: viewer.id, why: `confirmed at the client of ${viewer.id}, which had asked for it` }
  return moved(voted, 'approved', move, { grantUntil: grantUntil(voted, at, desk.settings.grantMs) })
}

/** Returns the rules the confirmation is for: those that were shown and that still let the requester confirm. */
function throwUnlessConfirmable(
  { viewer, digest, rules, decision }: Confirmation,
  ticket: Ticket | undefined,
): readonly string[] {
  if (ticket === undefined || !isRequestedBy(viewer, ticket.requester)) throw unknownTicket()
  const facts = { ticket: ticket.id }
  if (ticket.state !== 'pending') {
    const code = ticket.state === 'expired' ? 'ERR_APPROVAL_EXPIRED' : 'ERR_APPROVAL_CONFLICT'
    throw new SallyportError(code, `Ticket ${ticket.id} is ${ticket.state}; it takes no more answers.`, { facts })
  }
  if (digest !== ticket.digest) {
    throw new SallyportError('ERR_APPROVAL_STALE', 'What was confirmed is something else than this ticket asks.', {
      facts,
    })
  }
  const confirms = confirmable(ticket).filter((rule) => rules.includes(rule))
  if (confirms.length === 0 && decision === 'confirm') {
    throw new SallyportError(
      'ERR_FORBIDDEN',
      'No rule that waits for an answer lets the requester confirm its own call.',
    )
  }
  return confirms
}
