/**
 * How an approver answers in the 2026 era: a tool call that comes back with a form, and comes again with what the person
 * did. What is answered is a vote like any other: the inbox says who may cast it and on what.
 *
 * @packageDocumentation
 */
import { CLIENT_CAPABILITIES_META_KEY, inputRequired, inputResponse } from '@modelcontextprotocol/server'
import type { InputRequiredResult, ServerContext } from '@modelcontextprotocol/server'
import type { TicketView } from '../../approval/view.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Answer } from '../../../tools/answer.ts'
import { callerOf } from './caller.ts'
import type { McpDoorDeps } from './deps.ts'
import { formOf, mayAsk, messageOf, voteOf } from './forms.ts'

const KEY = 'vote'

/** Shows a ticket, or takes the answer to the one that was shown. */
export async function review(
  { ticket: named }: { readonly ticket: string },
  ctx: ServerContext,
  inbox: McpDoorDeps['inbox'],
): Promise<Answer | InputRequiredResult> {
  const { principal: viewer } = callerOf(ctx)
  const reply = inputResponse(ctx.mcpReq.inputResponses, KEY)
  if (reply.kind === 'elicit') {
    const { covers, ...shown } = shownBefore(ctx, named)
    if (reply.action !== 'accept') return said(shown.ticket, 'pending', 'Nothing was answered; the ticket stays open.')
    const { decision, reason } = reply.content ?? {}
    const vote = voteOf(decision, covers)
    if (vote === undefined) {
      return said(shown.ticket, 'pending', 'The form came back without an answer; the ticket stays open.')
    }
    const after = await inbox.vote({
      viewer,
      ...shown,
      ...vote,
      ...(typeof reason === 'string' && reason.trim() !== '' && { reason }),
    })
    return said(after.id, after.state, `Ticket ${after.id} is now ${after.state}.`)
  }
  const ticket = await inbox.show(viewer, named)
  if (!ticket.mayAnswer)
    return said(ticket.id, ticket.state, ticket.whyNot ?? `Ticket ${ticket.id} is ${ticket.state}.`)
  if (!hasForms(ctx) || !mayAsk(ticket, viewer)) return elsewhere(ticket)
  return inputRequired({
    inputRequests: { [KEY]: inputRequired.elicit(formOf(ticket)) },
    // What was shown. Whoever changes it answers something they did not see, as anybody can who does not look; that it
    // is this ticket's own digest, the inbox makes sure of.
    requestState: [ticket.id, ticket.digest, ...(ticket.covers === undefined ? [] : [ticket.covers.id])].join('.'),
  })
}

/** Which ticket the form was about, and what it said. */
function shownBefore(
  ctx: ServerContext,
  named: string | undefined,
): { readonly ticket: string; readonly digest: string; readonly covers?: string } {
  const state: unknown = ctx.mcpReq.requestState()
  const [ticket, digest, covers, more] = typeof state === 'string' ? state.split('.') : []
  if (ticket === undefined || digest === undefined || more !== undefined || named !== ticket) {
    throw new SallyportError('ERR_INVALID_INPUT', 'The answer does not say what it is to; ask for the review again.')
  }
  return { ticket, digest, ...(covers !== undefined && { covers }) }
}

/** Whether the client said that it can show a form; only then may it be asked for one. */
export function hasForms(ctx: ServerContext): boolean {
  const envelope = ctx.mcpReq.envelope as Readonly<Record<string, unknown>> | undefined
  const capabilities = envelope?.[CLIENT_CAPABILITIES_META_KEY]
  if (typeof capabilities !== 'object' || capabilities === null || !('elicitation' in capabilities)) return false
  const { elicitation } = capabilities
  if (typeof elicitation !== 'object' || elicitation === null) return false
  // Declared without a mode it means forms, as it did before there were others.
  return 'form' in elicitation || !('url' in elicitation)
}

/** The question for a client that cannot ask it. Clients of the 2025 era are asked in their session instead. */
function elsewhere(ticket: TicketView): Answer {
  const how = `This client cannot ask for the answer. Give it with: sallyport approvals show ${ticket.id}`
  return said(ticket.id, ticket.state, `${messageOf(ticket)}\n\n${how}`)
}

function said(ticket: string, state: string, text: string): Answer {
  return { structured: { status: 'ok', ticket, state }, text, isError: false }
}
