import type { TicketView } from '../approval/view.ts'
import { openAdminClient } from './admin-client.ts'
import { openTerminal, printable, type Terminal } from './terminal.ts'
import type { RemoteOptions } from './token.ts'

/** Lists the tickets this person may see, one line each. */
export async function approvalsList(options: RemoteOptions & { readonly all?: boolean }): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const query = options.all === true ? '?all=true' : ''
  const { approvals } = await client.get<{ readonly approvals: readonly TicketView[] }>(`/v1/approvals${query}`)
  if (terminal.isJson) {
    for (const ticket of approvals) terminal.json(ticket)
    return
  }
  if (approvals.length === 0) return terminal.note('No ticket waits.')
  terminal.table(
    ['TICKET', 'STATE', 'REQUESTER', 'TARGET', 'ACTIONS', 'EXPIRES'],
    approvals.map((ticket) => [
      ticket.id,
      ticket.state,
      ticket.requester.id,
      ticket.target,
      ticket.verbs.join(','),
      ticket.expiresAt,
    ]),
  )
}

/** Shows one ticket whole: an approver must never agree to what was cut away. */
export async function approvalsShow(id: string, options: RemoteOptions): Promise<void> {
  const client = await openAdminClient(options)
  show(openTerminal(options), await client.get<TicketView>(pathOf(id)))
}

/** What an answer may carry. */
export interface VoteOptions extends RemoteOptions {
  readonly reason?: string
  /** From a ticket seen earlier; without it the answer is for the ticket as it is now, which is printed. */
  readonly digest?: string
}

/** Answers a ticket. The answer is bound to the digest of the request that was seen. */
export async function approvalsVote(id: string, approve: boolean, options: VoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  let { digest } = options
  if (digest === undefined) {
    const seen = await client.get<TicketView>(pathOf(id))
    if (!terminal.isJson) show(terminal, seen)
    digest = seen.digest
  }
  const ticket = await client.post<TicketView>(`${pathOf(id)}/vote`, {
    decision: approve ? 'approve' : 'deny',
    digest,
    ...(options.reason !== undefined && { reason: options.reason }),
  })
  if (terminal.isJson) return terminal.json(ticket)
  const verb = approve ? terminal.paint('green', 'approved') : terminal.paint('red', 'denied')
  terminal.line(`You ${verb} ${ticket.id}; it is now ${ticket.state}.`)
}

/** Withdraws a request that did not run yet. */
export async function approvalsCancel(id: string, options: RemoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const ticket = await client.post<TicketView>(`${pathOf(id)}/cancel`)
  if (terminal.isJson) terminal.json(ticket)
  else terminal.line(`Ticket ${ticket.id} is now ${ticket.state}.`)
}

/** Says what became of a call whose outcome nobody could see. */
export async function approvalsResolve(
  id: string,
  options: RemoteOptions & { readonly outcome: string; readonly reason: string },
): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const ticket = await client.post<TicketView>(`${pathOf(id)}/resolve`, {
    took_effect: options.outcome === 'done',
    reason: options.reason,
  })
  if (terminal.isJson) terminal.json(ticket)
  else terminal.line(`Ticket ${ticket.id} is now ${ticket.state}.`)
}

/** Prints tickets as they come and change, until Ctrl-C. */
export async function approvalsWatch(options: RemoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const stopped = new AbortController()
  const stop = (): void => stopped.abort()
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  try {
    for await (const ticket of client.events<TicketView>('/v1/approvals/watch', stopped.signal)) {
      if (terminal.isJson) terminal.json(ticket)
      else if (ticket.state === 'pending') {
        show(terminal, ticket)
        terminal.line(`  sallyport approvals approve ${ticket.id}   or   sallyport approvals deny ${ticket.id}\n`)
      } else terminal.line(`${ticket.id} is now ${ticket.state}.`)
    }
  } finally {
    process.off('SIGINT', stop)
    process.off('SIGTERM', stop)
  }
}

/** Every line of text from elsewhere is escaped, so that it cannot pass for one of ours. */
function show(terminal: Terminal, ticket: TicketView): void {
  if (terminal.isJson) return terminal.json(ticket)
  const { requester, request } = ticket
  const actsFor = requester.actsFor === undefined ? '' : `, acting for ${requester.actsFor}`
  terminal.line(`${terminal.paint('bold', `Ticket ${ticket.id}`)}  ${ticket.state}, until ${ticket.expiresAt}`)
  field(terminal, 'asks', `${requester.id} (owner ${requester.owner}${actsFor})`)
  field(terminal, 'target', `${ticket.target} through ${ticket.tool}`)
  field(terminal, 'because', ticket.decisionReason)
  if (request === undefined) field(terminal, 'request', '(erased)')
  for (const [index, line] of (request?.text ?? '').split('\n').entries()) {
    field(terminal, index === 0 ? 'request' : '', line)
  }
  for (const [index, value] of (request?.params ?? []).entries()) {
    field(terminal, `$${index + 1}`, value === null ? 'NULL' : JSON.stringify(value))
  }
  if (ticket.agentSays !== undefined) field(terminal, 'it says', JSON.stringify(ticket.agentSays))
  for (const { rule, anyOf, count, reasonRequired, by } of ticket.requirements) {
    const why = reasonRequired ? ', with a reason' : ''
    const given = by.length === 0 ? '' : `; given by ${by.join(', ')}`
    field(terminal, 'needs', `${count} of ${anyOf.join(', ')}${why} (rule ${rule})${given}`)
  }
  for (const { by, decision, reason } of ticket.votes) {
    field(terminal, 'answer', `${decision} by ${by}${reason === undefined ? '' : `: ${reason}`}`)
  }
  for (const other of ticket.unresolved) {
    field(terminal, 'beware', `the same call ran as ${other}, and nobody knows yet whether it took effect`)
  }
  if (ticket.outcome !== undefined) {
    const { code, message, resolvedBy, reason } = ticket.outcome
    field(terminal, 'outcome', [code, message, resolvedBy && `said ${resolvedBy}`, reason].filter(Boolean).join(': '))
  }
  if (ticket.whyNot !== undefined) field(terminal, 'note', ticket.whyNot)
}

function field(terminal: Terminal, name: string, value: string): void {
  terminal.line(`  ${name.padEnd(8)} ${printable(value)}`)
}

function pathOf(id: string): string {
  return `/v1/approvals/${encodeURIComponent(id)}`
}
