/**
 * The live inbox of an approver at a terminal: one ticket at a time, whole, and a key for each answer.
 *
 * An answer is for the ticket on the screen and carries its digest. A key that was pressed for something else counts for
 * nothing: what comes up by itself is deaf for a moment, and what is gone is never answered.
 *
 * @packageDocumentation
 */
import type { TicketView } from '../approval/view.ts'
import { SallyportError } from '../core/errors.ts'
import { showTicket } from './approvals-show.ts'
import { printable, type Terminal } from './terminal.ts'

/** What happens to the inbox, in order: tickets as they change, and keys as they are pressed. */
export type InboxEvent =
  | { readonly kind: 'ticket'; readonly ticket: TicketView }
  | { readonly kind: 'key'; readonly key: string }

/** What the inbox works with. */
export interface InboxDesk {
  readonly terminal: Terminal
  readonly events: AsyncIterable<InboxEvent>
  /** Answers a ticket. @throws SallyportError when the answer does not count. */
  vote(
    ticket: TicketView,
    decision: 'approve' | 'deny',
    reason: string | undefined,
    covers?: string,
  ): Promise<TicketView>
  /** Asks for one line; `undefined` when the person thought better of it. */
  askReason(question: string): Promise<string | undefined>
  /** Milliseconds. */
  readonly now: () => number
}

/** A ticket that came up by itself takes no key for this long: the key was meant for the one before. */
const DEAF_MS = 700

/** Serves one person until they leave or the events end. */
export async function serveInbox(desk: InboxDesk): Promise<void> {
  const { terminal, events, now } = desk
  const waiting = new Map<string, TicketView>()
  let shown: { readonly ticket: TicketView; readonly hearsAt: number } | undefined

  function showNext(deafMs: number): void {
    const [first] = waiting.values()
    if (first === undefined) {
      shown = undefined
      terminal.note('No ticket waits for you. New ones appear here; q leaves.')
      return
    }
    showTicket(terminal, first)
    const more = waiting.size > 1 ? `, ${waiting.size - 1} more wait` : ''
    const approve = first.covers === undefined ? '[a] approve' : '[a] approve what it covers  [o] this call only'
    terminal.line(`  ${terminal.paint('bold', `${approve}  [d] deny  [s] later  [q] leave`)}${more}\n`)
    shown = { ticket: first, hearsAt: now() + deafMs }
  }

  function changed(ticket: TicketView): void {
    if (ticket.state === 'pending' && ticket.mayAnswer) {
      waiting.set(ticket.id, ticket)
      if (shown === undefined) showNext(DEAF_MS)
      return
    }
    const wasWaiting = waiting.delete(ticket.id)
    if (wasWaiting || ticket.state !== 'pending') terminal.line(`${printable(ticket.id)} is now ${ticket.state}.`)
    if (shown?.ticket.id === ticket.id) showNext(DEAF_MS)
  }

  async function answer(ticket: TicketView, decision: 'approve' | 'deny', covers?: string): Promise<void> {
    const isNeeded = ticket.requirements.some(({ reasonRequired }) => reasonRequired)
    const reason = await desk.askReason(
      `${decision === 'approve' ? 'Approve' : 'Deny'} ${ticket.id}. Reason (${isNeeded ? 'needed' : 'optional'}, Ctrl-C to go back): `,
    )
    if (reason === undefined) return showNext(0)
    try {
      const after = await desk.vote(ticket, decision, reason.trim() === '' ? undefined : reason.trim(), covers)
      terminal.line(`You ${decision === 'approve' ? 'approved' : 'denied'} ${ticket.id}; it is now ${after.state}.`)
      waiting.delete(ticket.id)
    } catch (error) {
      const { code, message } = SallyportError.from(error)
      terminal.note(`${code}: ${printable(message)}`)
      // It may be open still, such as when a reason is missing; then it stays.
      if (code !== 'ERR_INVALID_INPUT' && code !== 'ERR_UPSTREAM_UNREACHABLE') waiting.delete(ticket.id)
    }
    showNext(0)
  }

  terminal.note('Waiting for tickets. q leaves.')
  for await (const event of events) {
    if (event.kind === 'ticket') {
      changed(event.ticket)
      continue
    }
    if (event.key === 'q') return
    if (shown === undefined || now() < shown.hearsAt) continue
    const { ticket } = shown
    if (event.key === 'a') await answer(ticket, 'approve', ticket.covers?.id)
    else if (event.key === 'o' && ticket.covers !== undefined) await answer(ticket, 'approve')
    else if (event.key === 'd') await answer(ticket, 'deny')
    else if (event.key === 's') {
      waiting.delete(ticket.id)
      // At the end again: later, not never.
      waiting.set(ticket.id, ticket)
      showNext(0)
    }
  }
}
