import { SallyportError } from '../core/errors.ts'
import type { Ticket } from './ticket.ts'

/** The error that says how a ticket ended. */
export function endOf(
  ticket: Ticket,
  state: Exclude<Ticket['state'], 'pending' | 'approved' | 'executing' | 'done'>,
): SallyportError {
  const { id, outcome } = ticket
  switch (state) {
    case 'failed':
      return ended(
        outcome?.code ?? 'ERR_UPSTREAM_REJECTED',
        id,
        outcome?.message ?? `The call of ticket ${id} did not take effect: ${outcome?.resolvedReason ?? 'it failed'}.`,
      )
    case 'outcome_unknown':
      return ended(
        'ERR_OUTCOME_UNKNOWN',
        id,
        `Nobody knows yet whether the call of ticket ${id} took effect. It will not run again; an approver or operator ` +
          'must find out and say so.',
      )
    case 'denied': {
      const vote = ticket.votes.findLast(({ decision }) => decision === 'deny')
      const why = vote?.reason === undefined ? '' : `: ${vote.reason}`
      return ended('ERR_APPROVAL_REFUSED', id, `${vote?.approver.id ?? 'An approver'} refused the call${why}`)
    }
    case 'expired':
      return ended('ERR_APPROVAL_EXPIRED', id, `Ticket ${id} expired: ${ticket.history.at(-1)?.why ?? 'time ran out'}.`)
    default:
      return ended(
        'ERR_APPROVAL_CANCELLED',
        id,
        `Ticket ${id} was cancelled: ${ticket.history.at(-1)?.why ?? 'withdrawn'}.`,
      )
  }
}

/** An error about a ticket. */
export function ended(code: SallyportError['code'], ticket: string, message: string): SallyportError {
  return new SallyportError(code, message, { facts: { ticket } })
}
