/**
 * From a `tools/call` message to an answer. Everything a client can send arrives here, also what no tool understands:
 * an attempt that never becomes a call is recorded before it is answered.
 *
 * @packageDocumentation
 */
import { randomBytes, randomUUID } from 'node:crypto'
import type { CallToolResult, InputRequiredResult, ServerContext } from '@modelcontextprotocol/server'
import { isInputRequiredResult, ProtocolError, ProtocolErrorCode } from '@modelcontextprotocol/server'
import type { Call, Session } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Target } from '../../core/target.ts'
import type { Answer } from '../../../tools/answer.ts'
import type { CancelTool } from '../../../tools/approval_cancel.ts'
import type { StatusTool } from '../../../tools/approval_status.ts'
import type { ReviewTool } from '../../../tools/approvals_review.ts'
import type { DescribeTool } from '../../../tools/describe_target.ts'
import type { Tool } from '../../../tools/index.ts'
import { toolNamed } from '../../../tools/index.ts'
import { PagedResult } from '../../../tools/paged.ts'
import type { RunTool, ToolRequest } from '../../../tools/tool.ts'
import { callerOf } from './caller.ts'
import type { Cursors, Suspended } from './cursors.ts'
import type { DoorLimits, McpDoorDeps } from './deps.ts'
import type { Held } from './errors.ts'
import { answerError } from './errors.ts'
import { type Confirm, confirming } from './confirm.ts'
import { startHeartbeat } from './heartbeat.ts'
import { isApprover } from './resources.ts'
import { review } from './review.ts'

/** Most characters of a name that is only recorded. */
const NAME_CHARS_MAX = 128

/** Answers one `tools/call`. */
export async function callTool(
  params: { readonly name: string; readonly arguments?: unknown },
  ctx: ServerContext,
  deps: McpDoorDeps,
  limits: DoorLimits,
  cursors: Cursors,
  canBePushed: () => boolean = () => false,
): Promise<CallToolResult | InputRequiredResult> {
  const caller = callerOf(ctx)
  caller.reached.add(ctx.mcpReq.id)
  const held: { now?: Held } = {}
  let confirm: Confirm | undefined
  try {
    const session = await caller.session()
    const tool = toolNamed(params.name)
    // To all but approvers a tool of theirs does not exist.
    if (tool === undefined || (tool.isForApprovers === true && !isApprover(caller.principal))) {
      const error = new SallyportError('ERR_UNKNOWN_TOOL', 'This gateway has no tool of that name.')
      await session.recording.refused({
        tool: params.name.slice(0, NAME_CHARS_MAX),
        payload: params.arguments,
        error,
      })
      throw new ProtocolError(ProtocolErrorCode.InvalidParams, `${error.code}: ${error.message}`)
    }
    confirm = confirming({
      session,
      ctx,
      deps,
      canBePushed,
      isPoll: tool.kind !== 'run',
      formsMax: limits.formsPerSessionMax,
    })
    const context = { session, ctx, deps, limits, cursors, held, confirm }
    const answered =
      tool.kind === 'review'
        ? await orRefused(tool.name, params.arguments, context, () =>
            review(tool.read(params.arguments), ctx, deps.inbox),
          )
        : await answer(tool, params.arguments, context)
    return isInputRequiredResult(answered) ? answered : resultOf(answered)
  } catch (cause) {
    if (cause instanceof ProtocolError) throw cause
    const error = SallyportError.from(cause)
    logError(error, params.name, deps)
    const answer = resultOf(answerError(error, limits.pollAfterMs, held.now))
    if (error.code !== 'ERR_APPROVAL_PENDING') return answer
    // Without its question the ticket waits for others all the same.
    return (await confirm?.question().catch(() => undefined)) ?? answer
  } finally {
    confirm?.end()
  }
}

/** What answering one call takes. */
interface Context {
  readonly session: Session
  readonly ctx: ServerContext
  readonly deps: McpDoorDeps
  readonly limits: DoorLimits
  readonly cursors: Cursors
  /** Filled in once the call waits for a person. */
  readonly held: { now?: Held }
  /** Left out where asking would have a client send again what has run already. */
  readonly confirm?: Confirm
}

function answer(tool: Exclude<Tool, ReviewTool>, args: unknown, context: Context): Promise<Answer> {
  if (tool.kind === 'run') return run(tool, args, context)
  if (tool.kind === 'status') return status(tool, args, context)
  if (tool.kind === 'cancel') return cancel(tool, args, context)
  return describe(tool, args, context)
}

async function run(tool: RunTool, args: unknown, context: Context): Promise<Answer> {
  const asked = await orRefused(tool.name, args, context, () => {
    const more = tool.readMore?.(args)
    // Somebody else's cursor is an attempt worth recording, like somebody else's ticket.
    if (more !== undefined) {
      const suspended = context.cursors.take(more.cursor, context.session.principal)
      return { suspended, pageRows: more.pageRows ?? suspended.pageRows }
    }
    const request = tool.read(args)
    return { request, target: targetOf(request.target, tool.protocol, context) }
  })
  if ('suspended' in asked) {
    const { suspended, pageRows } = asked
    return readOn({ ...suspended, ...(pageRows !== undefined && { pageRows }) }, context)
  }
  const { request, target } = asked
  return execute(tool, request, target, holdOf(context), context, context.cursors.mayWait(target))
}

async function status(tool: StatusTool, args: unknown, context: Context): Promise<Answer> {
  const { deps, session } = context
  // Somebody else's ticket is an attempt worth recording, so this too is refused on the record.
  const { stored, of, target, waitMs } = await orRefused(tool.name, args, context, async () => {
    const { ticket, waitMs } = tool.read(args)
    const stored = await deps.reissue(ticket, session.principal)
    const of = toolNamed(stored.tool)
    if (of?.kind !== 'run') {
      throw new SallyportError('ERR_UNKNOWN_TICKET', 'This ticket was not opened by a tool of this gateway.')
    }
    return { stored, of, target: targetOf(stored.target, of.protocol, context), waitMs: waitMs ?? 0 }
  })
  const { target: _, tool: __, ...request } = stored
  return execute(
    of,
    { ...request, target: target.name },
    target,
    Math.max(1, Math.min(waitMs, holdOf(context))),
    context,
  )
}

/** Withdraws a ticket. Not a call: nothing reaches a target, and the inbox records the act itself. */
function cancel(tool: CancelTool, args: unknown, context: Context): Promise<Answer> {
  const { deps, session } = context
  return orRefused(tool.name, args, context, async () => {
    const { ticket } = tool.read(args)
    return tool.answer((await deps.inbox.cancel(session.principal, ticket)).id)
  })
}

async function describe(tool: DescribeTool, args: unknown, context: Context): Promise<Answer> {
  const { read, target } = await orRefused(tool.name, args, context, () => {
    const read = tool.read(args)
    return { read, target: targetOf(read.target, undefined, context) }
  })
  const { table, reason } = read
  const request = { target: target.name, payload: { ...(table !== undefined && { table }) } }
  return withCall(
    tool.name,
    { ...request, ...(reason !== undefined && { reason }) },
    target,
    0,
    context,
    async (call) => {
      const tables = await context.deps.describe(call)
      const answer = tool.answer(tables, {
        target: target.name,
        ...(table !== undefined && { table }),
        fence: newFence(),
      })
      // The same facts stand in it twice.
      if (callerOf(context.ctx).takeRoom(answer.text.length * 3)) return answer
      throw new SallyportError('ERR_LIMIT_CONCURRENCY', 'Too many answers to you wait to be read; read them first.')
    },
  )
}

/** How many requests in a row an answer may ask for. */
const HOPS_MAX = 5

async function execute(
  tool: RunTool,
  request: ToolRequest,
  target: Target,
  waitMs: number,
  first: Context,
  isPaged = false,
): Promise<Answer> {
  const redirects: string[] = []
  const { confirm: _, ...unasked } = first
  let context = first
  for (let asked = request; ;) {
    const answer = await executeOnce(tool, asked, target, waitMs, context, isPaged)
    const next = redirects.length < HOPS_MAX ? tool.next?.(asked, answer) : undefined
    if (next === undefined || answer.redirect === undefined) {
      return redirects.length === 0 ? answer : { ...answer, structured: { ...answer.structured, redirects } }
    }
    redirects.push(answer.redirect)
    // Each hop is a call of its own, judged, recorded and limited like the first.
    asked = next
    context = unasked
  }
}

function executeOnce(
  tool: RunTool,
  request: ToolRequest,
  target: Target,
  waitMs: number,
  context: Context,
  isPaged: boolean,
): Promise<Answer> {
  const cancel = new AbortController()
  let result: PagedResult | undefined
  const paging: Partial<Call> = isPaged
    ? { isPaged, onStopped: () => result !== undefined && context.cursors.stopped(result) }
    : {}
  return withCall(
    tool.name,
    request,
    target,
    waitMs,
    context,
    (call) => {
      result = new PagedResult(context.deps.run({ ...call, ...paging }))
      const { pageRows } = request
      const suspended = { tool, target, result, cancel, ...(pageRows !== undefined && { pageRows }) }
      return answerFrom(suspended, context)
    },
    cancel,
  )
}

/** Continues a result where the last answer of it ended. The request that asks can cancel the call, as the first could. */
function readOn(suspended: Suspended, context: Context): Promise<Answer> {
  return whileAsked(suspended.cancel, suspended.target, context, () => answerFrom(suspended, context))
}

/** One answer of a result, and a place for the rest where it may wait. */
function answerFrom(suspended: Suspended, context: Context): Promise<Answer> {
  const { tool, target, result, pageRows } = suspended
  return tool.answer(result, {
    target: target.name,
    bytesMax: context.limits.resultBytesMax,
    takeRoom: callerOf(context.ctx).takeRoom,
    page: {
      ...(pageRows !== undefined && { rowsMax: pageRows }),
      pause: () => context.cursors.keep(context.session.principal, suspended),
    },
    fence: newFence(),
  })
}

/** Text no data holds: it is random, and nobody sees it before the answer. */
function newFence(): string {
  return `--- data ${randomBytes(9).toString('base64url')} ---`
}

/** Makes the call, keeps its client informed while it lives, and cancels it when the client goes away or says so. */
function withCall(
  tool: string,
  request: ToolRequest,
  target: Target,
  waitMs: number,
  context: Context,
  use: (call: Call) => Promise<Answer>,
  cancel = new AbortController(),
): Promise<Answer> {
  const { session, held, confirm } = context
  return whileAsked(cancel, target, context, (say) =>
    use({
      id: randomUUID(),
      session,
      target,
      tool,
      payload: request.payload,
      signal: cancel.signal,
      ...(request.reason !== undefined && { reason: request.reason }),
      ...(request.newRequest !== undefined && { newRequest: request.newRequest }),
      hold: {
        waitMs,
        onHeld: (now) => {
          held.now = now
          say(`waiting for approval ${now.ticket} by ${now.approvers.join(', ')}, expires ${now.expiresAt}`)
          confirm?.held(now)
        },
        ...(confirm !== undefined && { isLeft: confirm.isLeft }),
      },
    }),
  )
}

/** Ties a call to the request that waits for its answer: heartbeats to it, cancellation from it. */
async function whileAsked(
  cancel: AbortController,
  target: Target,
  { ctx, limits }: Context,
  use: (say: (message: string) => void) => Promise<Answer>,
): Promise<Answer> {
  const unlink = linkAborts([callerOf(ctx).gone, ctx.mcpReq.signal], cancel)
  const token = ctx.mcpReq._meta?.progressToken
  const heartbeat =
    token === undefined
      ? undefined
      : startHeartbeat(limits.heartbeatMs, `running on ${target.name}`, (progress, message) =>
          ctx.mcpReq.notify({
            method: 'notifications/progress',
            params: { progressToken: token, progress, message },
          }),
        )
  try {
    return await use((message) => heartbeat?.say(message))
  } finally {
    heartbeat?.stop()
    unlink()
  }
}

/** Aborts `controller` with the first of `signals`; the returned function takes the listeners off again. */
function linkAborts(signals: readonly AbortSignal[], controller: AbortController): () => void {
  const abort = (): void =>
    controller.abort(new SallyportError('ERR_CANCELLED', 'The caller cancelled the call or went away.'))
  if (signals.some(({ aborted }) => aborted)) abort()
  for (const signal of signals) signal.addEventListener('abort', abort, { once: true })
  return () => {
    for (const signal of signals) signal.removeEventListener('abort', abort)
  }
}

/** How long this client can be kept waiting: one that hears heartbeats waits longer than one that hears nothing. */
function holdOf({ ctx, limits }: Context): number {
  return ctx.mcpReq._meta?.progressToken === undefined ? limits.holdMs : limits.holdWithProgressMs
}

function targetOf(name: string, protocol: Target['protocol'] | undefined, { deps, session }: Context): Target {
  const target = deps.target(name)
  if (target === undefined) {
    const names = deps.targets(session.principal).map((visible) => visible.name)
    throw new SallyportError('ERR_UNKNOWN_TARGET', 'This gateway has no target of that name.', {
      facts: { hint: names.length === 0 ? 'You may use no target.' : `Your targets are ${names.join(', ')}.` },
    })
  }
  if (protocol !== undefined && target.protocol !== protocol) {
    throw new SallyportError(
      'ERR_INVALID_INPUT',
      `The target is a ${target.protocol} target; this tool is for ${protocol} targets.`,
    )
  }
  return target
}

/** Runs `read`, and records the attempt when it fails: the record is complete before the caller hears of it. */
async function orRefused<T>(tool: string, args: unknown, { session }: Context, read: () => T | Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (cause) {
    const error = SallyportError.from(cause)
    const target = namedTarget(args)
    await session.recording.refused({ tool, ...(target !== undefined && { target }), payload: args, error })
    throw error
  }
}

function namedTarget(args: unknown): string | undefined {
  if (typeof args !== 'object' || args === null || !('target' in args)) return undefined
  return typeof args.target === 'string' ? args.target.slice(0, NAME_CHARS_MAX) : undefined
}

function resultOf({ structured, text, isError }: Answer): CallToolResult {
  return {
    content: [{ type: 'text', text }],
    structuredContent: { ...structured },
    ...(isError && { isError }),
  }
}

function logError(error: SallyportError, tool: string, deps: McpDoorDeps): void {
  if (error.code !== 'ERR_INTERNAL') return
  deps.log.error(
    { door: 'mcp', tool: tool.slice(0, NAME_CHARS_MAX), code: error.code, err: error.cause },
    error.message,
  )
}
