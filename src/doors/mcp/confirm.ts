/**
 * Asks the client of a caller whether its own call shall run, where a rule says that this is enough (`self_confirm`). A
 * client of the 2025 era is asked while its call waits; one of the 2026 era gets the question for an answer, and sends the
 * call again with what its user did.
 *
 * INVARIANT: what comes back is used only for the ticket that the call it comes with was held for, and only when it answers
 * the question that would be asked now. An answer sent along with another call confirms neither.
 *
 * @packageDocumentation
 */
import { createHash } from 'node:crypto'
import { inputRequired, inputResponse } from '@modelcontextprotocol/server'
import type { ElicitRequestFormParams, InputRequiredResult, ServerContext } from '@modelcontextprotocol/server'
import type { Hold, Session } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { McpDoorDeps } from './deps.ts'
import { isShowable, messageOf } from './forms.ts'
import { hasForms } from './review.ts'

const KEY = 'confirm'
const RUN = 'run_it'
const DO_NOT_RUN = 'do_not_run_it'
const PING_TIMEOUT_MS = 10_000
/** The longest a form stays open; the end of its call closes it before that. */
const FORM_MS = 60 * 60_000

type HeldFacts = Parameters<NonNullable<Hold['onHeld']>>[0]
type Question = NonNullable<HeldFacts['confirm']> & { readonly ticket: string }

/** The questions of one `tools/call`. */
export interface Confirm {
  /** Told when a call of it is held. */
  readonly held: (facts: HeldFacts) => void
  /** Whether the call is to end now, because its client is asked instead of kept waiting. */
  readonly isLeft: () => boolean
  /** The question to answer with, when there is one. */
  question(): Promise<InputRequiredResult | undefined>
  /** Closes what is open. */
  end(): void
}

/** What the questions need. */
interface ConfirmRooms {
  readonly session: Session
  readonly ctx: ServerContext
  readonly deps: Pick<McpDoorDeps, 'inbox' | 'log'>
  /** Whether a client of the 2025 era said that it can show a form. */
  readonly canBePushed: () => boolean
  /** Whether this only asks for a ticket again, whose question its user may have put away before. */
  readonly isPoll: boolean
  /** Questions open at the same time in one session of the 2025 era. */
  readonly formsMax: number
}

/** Tickets whose question a user put away, by session: asking for the ticket's state does not bring it up again. */
const putAway = new WeakMap<Session, Set<string>>()
const PUT_AWAY_MAX = 256
/** Questions on the screen of each session now. */
const openForms = new WeakMap<Session, number>()

/** Builds the questions of one `tools/call`. */
export function confirming({ session, ctx, deps, canBePushed, isPoll, formsMax }: ConfirmRooms): Confirm {
  const { principal: viewer } = session
  const over = new AbortController()
  const isModern = ctx.mcpReq.envelope !== undefined
  let asking: Question | undefined

  function held({ ticket, confirm }: HeldFacts): void {
    asking = undefined
    if (confirm === undefined) return
    const question = { ticket, ...confirm }
    if (isModern) {
      const said = answerTo(question)
      if (said === 'missing') {
        if (hasForms(ctx) && !isPutAway(ticket)) asking = question
      } else take(said, question)
    } else if (canBePushed() && !isPutAway(ticket)) {
      push(question).catch((error: unknown) => warn(ticket, error))
    }
  }

  /** What the client sent along, when it answers just this question. */
  function answerTo(question: Question): Said | 'missing' {
    const reply = inputResponse(ctx.mcpReq.inputResponses, KEY)
    if (reply.kind !== 'elicit' || ctx.mcpReq.requestState() !== stateOf(question)) return 'missing'
    return saidBy(reply.action, reply.content)
  }

  async function push(question: Question): Promise<void> {
    // One person cannot look at more at a time. The others wait as any call does, and a poll asks about them.
    const open = openForms.get(session) ?? 0
    if (open >= formsMax) return
    openForms.set(session, open + 1)
    try {
      await ask(question)
    } finally {
      openForms.set(session, (openForms.get(session) ?? 1) - 1)
    }
  }

  async function ask(question: Question): Promise<void> {
    const form = await formFor(question)
    if (form === undefined) return
    const { signal } = over
    // With a ping before every form, none is the request with the id 0, which a client in wide use cannot cancel.
    await ctx.mcpReq.send({ method: 'ping' }, { timeout: PING_TIMEOUT_MS, signal })
    const { action, content } = await ctx.mcpReq.elicitInput(form, { timeout: FORM_MS, signal })
    take(saidBy(action, content), question)
  }

  function take(said: Said, { ticket, digest, rules }: Question): void {
    if (said === 'nothing') putAwayBy(session, ticket)
    else
      deps.inbox
        .confirm({ viewer, ticket, digest, rules, decision: said })
        .catch((error: unknown) => warn(ticket, error))
  }

  async function formFor({ ticket }: Question): Promise<ElicitRequestFormParams | undefined> {
    const view = await deps.inbox.show(viewer, ticket)
    // Fail closed: a form that cuts a request, or that has nothing of it to show, would ask about something else.
    return view.state === 'pending' && isShowable(view) ? formOf(messageOf(view, opening(viewer.id))) : undefined
  }

  function isPutAway(ticket: string): boolean {
    return isPoll && putAway.get(session)?.has(ticket) === true
  }

  /** The call goes on waiting for others who may answer; nothing was confirmed. */
  function warn(ticket: string, cause: unknown): void {
    if (over.signal.aborted) return
    const code = cause instanceof SallyportError ? cause.code : cause instanceof Error ? cause.name : 'unknown'
    deps.log.warn({ door: 'mcp', ticket, principal: viewer.id, code }, 'a confirmation could not be taken')
  }

  return {
    held,
    isLeft: () => asking !== undefined,
    async question() {
      if (asking === undefined) return undefined
      const form = await formFor(asking)
      if (form === undefined) return undefined
      return inputRequired({ inputRequests: { [KEY]: inputRequired.elicit(form) }, requestState: stateOf(asking) })
    },
    end: () => over.abort(),
  }
}

type Said = 'confirm' | 'decline' | 'nothing'

/**
 * Fail closed: only the very word confirms. A form put away, or sent back without a word, says nothing about the call, which
 * others may still approve; a client without anybody in front of it answers so.
 */
function saidBy(action: string, content: Readonly<Record<string, unknown>> | undefined): Said {
  if (action === 'decline') return 'decline'
  if (action !== 'accept') return 'nothing'
  const word = content?.['decision']
  if (word === RUN) return 'confirm'
  return word === DO_NOT_RUN ? 'decline' : 'nothing'
}

function formOf(message: string): ElicitRequestFormParams {
  const decision = { type: 'string', enum: [RUN, DO_NOT_RUN], title: 'Decision' } as const
  return {
    mode: 'form',
    message,
    requestedSchema: { type: 'object', properties: { decision }, required: ['decision'] },
  }
}

function opening(requester: string): string {
  return `Sallyport asks you, the user of ${requester}: shall it do this?`
}

/** Names the question: which ticket, which call, in the name of which rules. Not a secret, and nothing rests on its being one. */
function stateOf({ ticket, digest, rules }: Question): string {
  const named = createHash('sha256').update(JSON.stringify(rules)).digest('base64url').slice(0, 16)
  return [ticket, digest, named].join('.')
}

function putAwayBy(session: Session, ticket: string): void {
  const tickets = putAway.get(session) ?? new Set()
  putAway.set(session, tickets)
  tickets.add(ticket)
  for (const oldest of tickets) {
    if (tickets.size <= PUT_AWAY_MAX) break
    tickets.delete(oldest)
  }
}
