import { previewLines } from '../approval/preview-lines.ts'
import type { TicketView } from '../approval/view.ts'
import { printable, type Terminal } from './terminal.ts'

/**
 * Prints a ticket whole: an approver must never agree to what was cut away. Every line of text from elsewhere is escaped
 * and stands to the right of our own words, so that it cannot pass for one of them.
 */
export function showTicket(terminal: Terminal, ticket: TicketView): void {
  if (terminal.isJson) return terminal.json(ticket)
  const { requester, request } = ticket
  const say = (name: string, value: string): void => terminal.line(`  ${name.padEnd(8)} ${printable(value)}`)
  const sayLines = (name: string, lines: readonly string[]): void => {
    for (const [index, line] of lines.entries()) say(index === 0 ? name : '', line)
  }
  const actsFor = requester.actsFor === undefined ? '' : `, acting for ${requester.actsFor}`
  terminal.line(`${terminal.paint('bold', `Ticket ${ticket.id}`)}  ${ticket.state}, until ${ticket.expiresAt}`)
  say('asks', `${requester.id} (owner ${requester.owner}${actsFor})`)
  say('target', `${ticket.target} through ${ticket.tool}`)
  say(
    'because',
    `${ticket.decisionReason} (rules ${ticket.rules.join(', ')}, policy ${ticket.policyVersion.slice(0, 12)})`,
  )
  sayLines('request', request === undefined ? ['(erased)'] : request.text.split('\n'))
  for (const [index, value] of (request?.params ?? []).entries()) {
    say(`$${index + 1}`, value === null ? 'NULL' : JSON.stringify(value))
  }
  if (ticket.preview !== undefined) sayLines('changes', previewLines(ticket.preview))
  const { covers } = ticket
  if (covers !== undefined) {
    const now = covers.isInForce
      ? 'in force'
      : (covers.ended ?? (ticket.state === 'pending' ? 'not agreed to' : 'over'))
    say('covers', `${covers.text} (${covers.used} of ${covers.uses} so far; ${now})`)
  }
  if (ticket.coveredBy !== undefined) say('covered', `by the approval of ${ticket.coveredBy}; nobody was asked`)
  if (ticket.inTransaction === true) {
    const ran = ticket.ranAt === undefined ? '' : `; it ran there at ${ticket.ranAt}`
    say('inside', `a transaction of its client, which stays open and may still be rolled back${ran}`)
  }
  if (ticket.agentSays !== undefined) say('it says', JSON.stringify(ticket.agentSays))
  for (const { rule, anyOf, count, reasonRequired, selfConfirm, by } of ticket.requirements) {
    const why = `${reasonRequired ? ', with a reason' : ''}${selfConfirm === true ? ', or the requester at its own client' : ''}`
    const given = by.length === 0 ? '' : `; given by ${by.join(', ')}`
    say('needs', `${count} of ${anyOf.join(', ')}${why} (rule ${rule})${given}`)
  }
  for (const { by, decision, reason } of ticket.votes) {
    say('answer', `${decision} by ${by}${reason === undefined ? '' : `: ${reason}`}`)
  }
  if (ticket.follows !== undefined) {
    say('beware', `asked again: what ${ticket.follows} had shown was no longer so when the call was to run`)
  }
  for (const other of ticket.unresolved) {
    say('beware', `the same call ran as ${other}, and nobody knows yet whether it took effect`)
  }
  if (ticket.outcome !== undefined) {
    const { code, message, resolvedBy, reason } = ticket.outcome
    say('outcome', [code, message, resolvedBy && `said ${resolvedBy}`, reason].filter(Boolean).join(': '))
  }
  say('digest', ticket.digest)
  if (ticket.whyNot !== undefined) say('note', ticket.whyNot)
}
