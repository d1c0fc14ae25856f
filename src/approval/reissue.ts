import type { Principal } from '../core/principal.ts'
import { SallyportError } from '../core/errors.ts'
import { endOf } from './end-of.ts'
import type { Desk } from './desk.ts'
import { isRequestedBy } from './eligibility.ts'
import { readRequest } from './requests.ts'
import { unknownTicket } from './tickets.ts'

/** A stored call, as its door can send it again. */
export interface Reissue {
  readonly target: string
  readonly tool: string
  readonly payload: unknown
  /** Must go with the call again: it is part of which ticket the call belongs to. */
  readonly newRequest?: string
  readonly reason?: string
}

/** See {@link ApprovalRoom.reissue}. */
export async function reissue(desk: Desk, id: string, requester: Principal): Promise<Reissue> {
  const ticket = (await desk.tickets.read(id))?.value
  if (ticket === undefined || !isRequestedBy(requester, ticket.requester)) throw unknownTicket()
  switch (ticket.state) {
    case 'pending':
    case 'approved':
    case 'executing':
    case 'done':
      break
    default:
      // Asking how a ticket ended must not file a new one.
      throw endOf(ticket, ticket.state)
  }
  const stored = await readRequest(desk, id)
  if (stored === undefined || (ticket.state === 'done' && desk.now() >= (ticket.result?.until ?? 0))) {
    throw new SallyportError('ERR_UNKNOWN_TICKET', `Ticket ${id} is done, and what it asked and got was erased.`)
  }
  if (!('payload' in stored)) {
    throw new SallyportError('ERR_INVALID_INPUT', `The call of ticket ${id} can only be sent again by its own client.`)
  }
  const { target, tool, payload, reason } = stored
  return {
    target,
    tool,
    payload,
    ...(ticket.newRequest !== undefined && { newRequest: ticket.newRequest }),
    ...(reason !== undefined && { reason }),
  }
}
