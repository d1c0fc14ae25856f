/**
 * What became of a call, as its backend says: of one whose gateway died, and of one that ran in a transaction of its client
 * and was done, or came to nothing, with that.
 *
 * @packageDocumentation
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Desk } from './desk.ts'
import { isLeftOpen, moved, resolved, type Ticket } from './ticket.ts'

/** A backend whose client went away needs a moment to roll back. After these the sweep goes on asking. */
const ASKED_AFTER_MS = [0, 50, 200, 1_000, 3_000]

/** Asks the backend when the transaction of the call has ended. Never throws: what nobody answers, the sweep asks again. */
export function settleWhenEnded(desk: Desk, ticket: Ticket, ended: Promise<void>): void {
  const ask = async (): Promise<void> => {
    await ended
    for (const waitMs of ASKED_AFTER_MS) {
      if (waitMs > 0) await sleep(waitMs, undefined, { ref: false, signal: desk.closing })
      // The next run of the gateway asks.
      if (desk.closing.aborted) return
      if (await settleByBackend(desk, ticket)) return
    }
  }
  // A store that is closing, or full, keeps the ticket as it is.
  void ask().catch(() => undefined)
}

/** Asks the backend of a ticket that has a proof. Returns whether there is nothing more to ask. */
export async function settleByBackend(desk: Desk, ticket: Ticket): Promise<boolean> {
  if (ticket.proof === undefined || desk.outcomeOf === undefined) return true
  // A backend that does not answer is asked again with the next sweep, or a person says it first.
  const proven = await desk.outcomeOf(ticket).catch(() => undefined)
  if (proven === undefined || proven === 'running') return false
  await desk.tickets.change(ticket.id, (current) => {
    if (current.state !== 'outcome_unknown' && !isLeftOpen(current)) return current
    if (proven !== 'unknown') return byBackend(desk, current, proven === 'took_effect')
    if (current.state === 'outcome_unknown') return current
    // Its backend will not know later either, so it is for a person to say.
    const why = 'the database no longer knows what became of its transaction'
    return moved(current, 'outcome_unknown', { at: desk.now(), by: 'gateway', why }, { outcome: { at: desk.now() } })
  })
  return true
}

function byBackend(desk: Desk, ticket: Ticket, tookEffect: boolean): Ticket {
  const said = tookEffect ? 'committed' : 'rolled back'
  const reason = `the database says that transaction ${ticket.proof?.xid ?? ''} was ${said}`
  return resolved(ticket, 'gateway', tookEffect, reason, { at: desk.now(), resultMs: desk.settings.resultMs })
}
