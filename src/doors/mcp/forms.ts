/**
 * Asks an approver in the approver's own MCP session (2025 era: the only one in which a server may ask). What comes
 * back is a vote like any other: the inbox checks who may cast it and on what. The client of the *requesting* agent proves
 * no person; it is asked only where a rule says that its word is enough (`confirm.ts`).
 *
 * @packageDocumentation
 */
import type { ElicitRequestFormParams, ElicitResult } from '@modelcontextprotocol/server'
import { SallyportError } from '../../core/errors.ts'
import { isSamePerson } from '../../approval/eligibility.ts'
import { previewLines } from '../../approval/preview-lines.ts'
import type { TicketView } from '../../approval/view.ts'
import type { Principal } from '../../core/principal.ts'
import { escapeBlock } from '../../../tools/escape.ts'
import type { DoorLog, McpDoorDeps } from './deps.ts'

/** A request longer than this is not put into a form, because a form that cuts it would ask about something else. */
const MESSAGE_CHARS_MAX = 16_000

/** What a form needs of a session. */
export interface FormSession {
  readonly viewer: Principal
  /** Shows one form and resolves with what the person did. */
  ask(
    form: ElicitRequestFormParams,
    options: { readonly timeout: number; readonly signal: AbortSignal },
  ): Promise<ElicitResult>
  /** Whether the client has a stream on which the server can speak first. */
  isListening(): boolean
  /** Whether the client answers on it. A form sent to one that does not would be lost without a sign. */
  isReachable(signal: AbortSignal): Promise<boolean>
}

/** The forms of one session. */
export interface Forms {
  /** Sends what waits; called when the client starts to listen. */
  flush(): void
}

/** Shows every ticket the viewer may answer as a form, once, until `signal` aborts. */
export function openForms(
  session: FormSession,
  rooms: { readonly inbox: McpDoorDeps['inbox']; readonly log: DoorLog; readonly now: () => number },
  formsMax: number,
  signal: AbortSignal,
): Forms {
  const seen = new Set<string>()
  const waiting = new Map<string, TicketView>()
  const shown = new Map<string, AbortController>()

  function flush(): void {
    for (const [id, ticket] of waiting) {
      if (shown.size >= formsMax || !session.isListening() || signal.aborted) return
      waiting.delete(id)
      void show(ticket)
    }
  }

  async function show(ticket: TicketView): Promise<void> {
    const closed = new AbortController()
    const over = AbortSignal.any([closed.signal, signal])
    shown.set(ticket.id, closed)
    try {
      if (!(await session.isReachable(over))) {
        // Asked again when the client opens another stream.
        if (!over.aborted) waiting.set(ticket.id, ticket)
        shown.delete(ticket.id)
        return
      }
      const answer = await session.ask(formOf(ticket), { timeout: timeLeft(ticket, rooms.now()), signal: over })
      await take(answer, ticket)
    } catch (error) {
      // Decided elsewhere, expired, or the session is over: the form is gone and nothing was said.
      if (!closed.signal.aborted && !signal.aborted) {
        const code = error instanceof SallyportError ? error.code : nameOf(error)
        rooms.log.warn({ door: 'mcp', ticket: ticket.id, principal: session.viewer.id, code }, 'approval form failed')
      }
    }
    shown.delete(ticket.id)
    flush()
  }

  async function take({ action, content }: ElicitResult, ticket: TicketView): Promise<void> {
    // Closing the form says nothing about the call: the ticket stays open for every other way of answering.
    if (action !== 'accept') return
    const vote = voteOf(content?.['decision'], ticket.covers?.id)
    if (vote === undefined) return
    const reason = content?.['reason']
    await rooms.inbox.vote({
      viewer: session.viewer,
      ticket: ticket.id,
      digest: ticket.digest,
      ...vote,
      ...(typeof reason === 'string' && reason.trim() !== '' && { reason }),
    })
  }

  async function watch(): Promise<void> {
    for await (const event of rooms.inbox.offers(session.viewer, signal)) {
      if (event.kind === 'closed') {
        waiting.delete(event.ticket)
        shown.get(event.ticket)?.abort()
        continue
      }
      const { ticket } = event
      if (seen.has(ticket.id) || !mayAsk(ticket, session.viewer)) continue
      seen.add(ticket.id)
      waiting.set(ticket.id, ticket)
      flush()
    }
  }

  watch().catch((error: unknown) => {
    if (signal.aborted) return
    const code = error instanceof SallyportError ? error.code : nameOf(error)
    rooms.log.warn({ door: 'mcp', principal: session.viewer.id, code }, 'approvals cannot be watched in this session')
  })
  return { flush }
}

/** The inbox already leaves out what the viewer may not answer; C13 is worth a second lock. */
export function mayAsk(ticket: TicketView, viewer: Principal): boolean {
  return !isSamePerson(viewer, ticket.requester) && isShowable(ticket)
}

/** Whether a form can show all of it. */
export function isShowable(ticket: TicketView): boolean {
  return ticket.request !== undefined && messageOf(ticket).length <= MESSAGE_CHARS_MAX
}

function timeLeft(ticket: TicketView, now: number): number {
  const left = Date.parse(ticket.expiresAt) - now
  // The upper bound is what a timer can hold (2^31 - 1 ms); beyond it, it would fire at once.
  return Number.isNaN(left) ? 60_000 : Math.min(Math.max(left, 1000), 2_147_483_647)
}

export function formOf(ticket: TicketView): ElicitRequestFormParams {
  const needsReason = ticket.requirements.some(({ reasonRequired }) => reasonRequired)
  return {
    mode: 'form',
    message: messageOf(ticket),
    requestedSchema: {
      type: 'object',
      properties: {
        decision: {
          type: 'string',
          enum: ticket.covers === undefined ? ['approve', 'deny'] : ['approve', THIS_CALL_ONLY, 'deny'],
          title: 'Decision',
        },
        reason: {
          type: 'string',
          title: needsReason ? 'Reason' : 'Reason (optional)',
          maxLength: 500,
          ...(needsReason && { minLength: 1 }),
        },
      },
      required: needsReason ? ['decision', 'reason'] : ['decision'],
    },
  }
}

/** Agrees to the call that is shown and to nothing else its approval could cover. */
const THIS_CALL_ONLY = 'approve_this_call_only'

/**
 * What the word a form came back with means for the ticket it showed.
 *
 * Fail closed: whatever is none of the words is no vote.
 */
export function voteOf(
  word: unknown,
  covers: string | undefined,
): { readonly decision: 'approve' | 'deny'; readonly covers?: string } | undefined {
  if (word === 'deny') return { decision: 'deny' }
  if (word === THIS_CALL_ONLY) return { decision: 'approve' }
  return word === 'approve' ? { decision: 'approve', ...(covers !== undefined && { covers }) } : undefined
}

/** What a person is asked, whole and with nothing in it that could look like another question. */
export function messageOf(ticket: TicketView, opening = openingFor(ticket)): string {
  const { request, preview, covers, follows, agentSays } = ticket
  const params = request?.params ?? []
  const lines = [
    opening,
    `Target: ${ticket.target}, through ${ticket.tool}`,
    `Why a person is asked: ${ticket.decisionReason} (rules: ${ticket.rules.join(', ')})`,
    'Request:',
    indent(request?.text ?? ''),
    ...params.map((value, index) => indent(`$${index + 1} = ${value === null ? 'NULL' : `'${value}'`}`)),
    ...(preview === undefined ? [] : ['What would change:', indent(previewLines(preview).join('\n'))]),
    ...(covers === undefined ? [] : [`An approval covers ${covers.text}`]),
    ...(follows === undefined
      ? []
      : [`Asked again: what ticket ${follows} had shown was no longer so when the call was to run. Nothing had run.`]),
    ...(agentSays === undefined ? [] : ['The agent says, in its own words, which nobody checked:', indent(agentSays)]),
    ...(ticket.unresolved.length === 0
      ? []
      : [`Nobody knows whether the same call took effect before: ${ticket.unresolved.join(', ')}`]),
    `Ticket ${ticket.id}, digest ${ticket.digest.slice(0, 12)}, expires ${ticket.expiresAt}`,
  ]
  // A view comes with hidden characters made visible; done once more it changes nothing, and nothing is taken on trust.
  return lines.map(escapeBlock).join('\n')
}

function openingFor({ requester: { id, owner, actsFor } }: TicketView): string {
  return `Sallyport asks: may ${id} (owned by ${owner}${actsFor === undefined ? '' : `, acting for ${actsFor}`}) do this?`
}

/** Every line of it stands to the right of our own words, so that none can be taken for them. */
function indent(text: string): string {
  return text
    .split('\n')
    .map((line) => `  | ${line}`)
    .join('\n')
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : 'unknown'
}
