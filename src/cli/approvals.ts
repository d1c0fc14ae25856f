import type { TicketView } from '../approval/view.ts'
import { openAdminClient, type AdminClient } from './admin-client.ts'
import { serveInbox } from './approvals-inbox.ts'
import { openKeys } from './approvals-keys.ts'
import { showTicket } from './approvals-show.ts'
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
  showTicket(openTerminal(options), await client.get<TicketView>(pathOf(id)))
}

/** What an answer may carry. */
export interface VoteOptions extends RemoteOptions {
  readonly reason?: string
  /** From a ticket seen earlier; without it the answer is for the ticket as it is now, which is printed. */
  readonly digest?: string
  /** With {@link digest}: what the ticket seen earlier said that its approval covers. */
  readonly covers?: string
  /** Agree to this call and to nothing else its approval could cover. */
  readonly thisCallOnly?: boolean
}

/** Answers a ticket. The answer is bound to the digest of the request that was seen. */
export async function approvalsVote(id: string, approve: boolean, options: VoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  let { digest, covers } = options
  if (digest === undefined) {
    const seen = await client.get<TicketView>(pathOf(id))
    if (!terminal.isJson) showTicket(terminal, seen)
    digest = seen.digest
    covers = seen.covers?.id
  }
  const agreed = approve && options.thisCallOnly !== true && covers !== undefined ? { covers } : {}
  const ticket = await client.post<TicketView>(`${pathOf(id)}/vote`, {
    decision: approve ? 'approve' : 'deny',
    digest,
    ...agreed,
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

/**
 * The live inbox: what waits, and then whatever comes. At a terminal it takes answers, one key each; elsewhere, and with
 * `--json`, it prints.
 */
export async function approvalsWatch(options: RemoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const stopped = new AbortController()
  const stop = (): void => stopped.abort()
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  try {
    const tickets = inboxOf(client, stopped.signal)
    const isInteractive = !terminal.isJson && process.stdin.isTTY && process.stdout.isTTY
    await (isInteractive ? answerAtKeys(terminal, client, tickets, stopped) : print(terminal, tickets))
  } finally {
    process.off('SIGINT', stop)
    process.off('SIGTERM', stop)
  }
}

async function answerAtKeys(
  terminal: Terminal,
  client: AdminClient,
  tickets: AsyncIterable<TicketView>,
  stopped: AbortController,
): Promise<void> {
  const keys = openKeys()
  try {
    await serveInbox({
      terminal,
      events: keys.together(tickets, stopped),
      vote: (ticket, decision, reason, covers) =>
        client.post(`${pathOf(ticket.id)}/vote`, {
          decision,
          digest: ticket.digest,
          ...(covers !== undefined && { covers }),
          ...(reason !== undefined && { reason }),
        }),
      askReason: (question) => keys.askLine(question),
      now: Date.now,
    })
  } finally {
    keys.close()
  }
}

async function print(terminal: Terminal, tickets: AsyncIterable<TicketView>): Promise<void> {
  for await (const ticket of tickets) {
    if (terminal.isJson) terminal.json(ticket)
    else if (ticket.state === 'pending') {
      showTicket(terminal, ticket)
      const answer = `${ticket.id} --digest ${ticket.digest}`
      const all = ticket.covers === undefined ? '' : ` --covers ${ticket.covers.id}`
      if (all !== '') terminal.line(`  sallyport approvals approve ${answer}  (this call only)`)
      terminal.line(`  sallyport approvals approve ${answer}${all}\n  sallyport approvals deny ${answer}\n`)
    } else terminal.line(`${printable(ticket.id)} is now ${ticket.state}.`)
  }
}

/** What waits now, whole, and then every change. Watched first, so that nothing falls in between. */
async function* inboxOf(client: AdminClient, signal: AbortSignal): AsyncGenerator<TicketView, void, undefined> {
  const changes = client.events<TicketView>('/v1/approvals/watch', signal)
  const first = changes.next()
  // It is awaited below, and a failure of the requests before must not leave it unheard.
  first.catch(() => undefined)
  const { approvals } = await client.get<{ readonly approvals: readonly TicketView[] }>('/v1/approvals')
  for (const { id, state } of approvals) if (state === 'pending') yield await client.get<TicketView>(pathOf(id))
  for (let next = await first; next.done !== true; next = await changes.next()) yield next.value
}

function pathOf(id: string): string {
  return `/v1/approvals/${encodeURIComponent(id)}`
}
