/**
 * What is different for a call that waits inside the open transaction of its client (C14).
 *
 * Its ticket is for this one call while it waits: the digest holds a number made for it, so that no other call ever finds the
 * ticket. What keeps the same call from being asked again and again goes by the digest it would have outside.
 *
 * @packageDocumentation
 */
import type { Call, Judged } from '../core/call.ts'
import { SallyportError } from '../core/errors.ts'
import type { Desk, ReadTicket } from './desk.ts'
import { digestOf } from './digest.ts'
import { endOf } from './end-of.ts'
import { EXPIRES_MAX_MS, moved, type Ticket } from './ticket.ts'
import { standingKey } from './tickets.ts'

/** Each of them holds the locks of a transaction. */
const IN_TRANSACTION_MAX = 3

/** @throws SallyportError `ERR_LIMIT_CONCURRENCY` */
export function throwIfTooManyInside(waiting: readonly ReadTicket[], requester: string): void {
  const inside = waiting.filter(({ value }) => value.inTransaction === true).length
  if (inside < IN_TRANSACTION_MAX) return
  throw new SallyportError(
    'ERR_LIMIT_CONCURRENCY',
    `${inside} requests of ${requester} wait inside a transaction already, and ${IN_TRANSACTION_MAX} may. ` +
      'Wait for an answer to them, or send this one by itself.',
  )
}

/**
 * The call with what is left of the time it may wait there, after it waited for its turn: the server counts that as well.
 *
 * @throws SallyportError `ERR_LIMIT_CONCURRENCY` when nothing is left.
 */
export function stillHeld(call: Call, sinceMs: number): Call {
  const { hold } = call
  if (hold.inTransaction === undefined) return call
  const waitMs = hold.waitMs - sinceMs
  if (waitMs > 0) return { ...call, hold: { ...hold, waitMs } }
  throw new SallyportError(
    'ERR_LIMIT_CONCURRENCY',
    `Nothing is left of the time this call of ${call.session.principal.id} may wait inside its transaction. Begin it anew.`,
  )
}

/** Ends a ticket whose call waits no more and could never come back for it. */
export async function withdrawInside(desk: Desk, id: string): Promise<void> {
  const why = 'the transaction it was asked in waits no more'
  const attempt = async (): Promise<void> => {
    await desk.tickets.change(id, (ticket) =>
      ticket.state === 'pending' || ticket.state === 'approved'
        ? moved(ticket, 'cancelled', { at: desk.now(), by: 'gateway', why })
        : ticket,
    )
  }
  // The caller is to hear why its call ended; a store that does not answer just now is told later.
  await attempt().catch(() => void desk.unsettled.set(`${id}.withdrawn`, attempt))
}

/**
 * A "no" to the same call stands here too, given outside a transaction or in another one. Otherwise a caller could have its
 * approvers asked again at once, with each transaction anew.
 */
export async function throwIfRefusedInside(desk: Desk, call: Call, judged: Judged): Promise<void> {
  const plain = plainDigest(desk, call, judged)
  const { ticket: standing } = await desk.tickets.standing(standingKey({ digest: plain }))
  const others = await desk.tickets.list({ state: 'denied', requestedBy: call.session.principal.id })
  const inside = others.filter(({ value }) => value.plainDigest === plain)
  for (const { value } of standing === undefined ? inside : [standing, ...inside]) {
    if (value.state === 'denied' && desk.now() < refusedUntil(value)) throw endOf(value, value.state)
  }
}

/** Whether a "no" given inside a transaction stands, which its ticket has outlived. */
export function isRefusedInside(ticket: Ticket, now: number): boolean {
  return ticket.inTransaction === true && ticket.state === 'denied' && now < refusedUntil(ticket)
}

/** As long as the rules would have let the question wait. */
function refusedUntil({ createdAt, requirements }: Ticket): number {
  return createdAt + Math.min(EXPIRES_MAX_MS, ...requirements.map(({ expiresMs }) => expiresMs))
}

/** The digest the call would have outside a transaction. */
export function plainDigest({ keys }: Desk, { session, target }: Call, { plan }: Judged): string {
  return digestOf({ principal: session.principal, target, exact: plan.exact }, keys.digest)
}
