/**
 * The MCP door: one endpoint, two eras of the protocol. Clients of the 2026 era send requests that stand for themselves;
 * clients of the 2025 era open sessions. Both are checked here, before anything of the message is understood: where they
 * come from (Host, Origin), who they are (a bearer token, on every request), how large and deep the message is.
 *
 * Nothing here decides what a caller may do at a target: messages become calls in `calls.ts`, and calls go to the spine.
 *
 * @packageDocumentation
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { hostHeaderValidation, originValidation } from '@modelcontextprotocol/express'
import { toWebRequest } from '@modelcontextprotocol/node'
import {
  createMcpHandler,
  isLegacyRequest,
  localhostAllowedHostnames,
  localhostAllowedOrigins,
} from '@modelcontextprotocol/server'
import type { Express } from 'express'
import type { Session } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Principal } from '../../core/principal.ts'
import { readBearer, readRun } from './headers.ts'
import { readJson } from './body.ts'
import { Caller } from './caller.ts'
import { Cursors } from './cursors.ts'
import type { DoorLimits, McpDoorDeps } from './deps.ts'
import { DOOR_LIMITS } from './deps.ts'
import type { LegacySession } from './legacy.ts'
import { createLegacySessions, opensSession } from './legacy.ts'
import { callIdsOf, isToolCall, namedTool } from './messages.ts'
import { replyError, replyFailure, RPC, sendResponse } from './reply.ts'
import { isApprover, PENDING_URI, POLICY_URI, TARGETS_URI } from './resources.ts'
import { createServer } from './server.ts'
import { Unread } from './unread.ts'

/** The open door. */
export interface McpDoor {
  /** Tells clients that listen that what they may do has changed. */
  policyChanged(): void
  /** Ends the results that wait to be read on, and keeps no more. */
  endCursors(): Promise<void>
  /** Ends all sessions and streams. */
  close(): Promise<void>
}

/** Where the door is. */
export const MCP_PATH = '/mcp'

/** A request whose sender is known. */
interface Known {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly principal: Principal
  readonly bearer: string
  readonly run?: string
  readonly gone: AbortSignal
}

/** Opens the MCP door on an application. The caller listens, and closes the door before the application. */
export function mountMcp(app: Express, deps: McpDoorDeps): McpDoor {
  const limits: DoorLimits = { ...DOOR_LIMITS, ...deps.limits }
  const cursors = new Cursors(limits, deps.cursorsPerTarget ?? (() => 0), (error) =>
    deps.log.error({ door: 'mcp', err: error }, 'a result that waited did not end cleanly'),
  )
  const sessions = createLegacySessions(deps, limits, cursors)
  const onerror = (error: Error): void => {
    // Only the name: the libraries quote messages, and messages hold payloads.
    deps.log.info({ door: 'mcp', error: error.name }, 'a request was refused by the protocol layer')
  }
  const factory = deps.factory ?? (() => createServer(deps, limits, cursors))
  const plain = createMcpHandler(factory, { legacy: 'reject', onerror })
  // A call may wait for a person: its headers go out at once, so that nothing between here and there gives up.
  const streaming = createMcpHandler(factory, { legacy: 'reject', onerror, responseMode: 'sse' })
  const answering = new Map<string, number>()
  const unread = new Unread(limits)
  let isClosing = false

  async function handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    if (req.method !== 'POST' && req.method !== 'GET' && req.method !== 'DELETE') {
      replyError(res, 405, RPC.server, 'Method not allowed.', { allow: 'GET, POST, DELETE' })
      return
    }
    const known = await identify(req, res)
    if (!takeSlot(known.principal, res)) return
    if (req.method === 'POST') await post(known)
    else await serveSession(known, undefined)
  }

  async function identify(req: IncomingMessage, res: ServerResponse): Promise<Known> {
    const bearer = readBearer(req)
    let principal: Principal
    try {
      principal = await deps.authenticate(bearer)
    } catch (cause) {
      const error = SallyportError.from(cause)
      const id = sessionIdOf(req)
      if (id !== undefined && error.code === 'ERR_UNAUTHENTICATED') sessions.endByToken(id, bearer)
      throw error
    }
    const run = readRun(req)
    return { req, res, principal, bearer, gone: goneOf(res), ...(run !== undefined && { run }) }
  }

  function takeSlot({ id }: Principal, res: ServerResponse): boolean {
    const count = (answering.get(id) ?? 0) + 1
    if (count > limits.requestsPerPrincipalMax) {
      replyError(res, 429, RPC.server, 'Too many requests of yours are being answered.', { 'retry-after': '5' })
      return false
    }
    answering.set(id, count)
    res.once('close', () => {
      const left = (answering.get(id) ?? 1) - 1
      if (left === 0) answering.delete(id)
      else answering.set(id, left)
    })
    return true
  }

  async function post(known: Known): Promise<void> {
    const { req, res } = known
    if (req.headers['content-encoding'] !== undefined) {
      replyError(res, 415, RPC.server, 'Compressed request bodies are not accepted.')
      return
    }
    const body = await readJson(req, { bytesMax: limits.bodyBytesMax, depthMax: limits.bodyDepthMax })
    // The body may have taken its time: whoever sends it counts as what their token is worth now.
    const now = { ...known, principal: await deps.authenticate(known.bearer) }
    const request = await webRequestOf(req, body, known.gone)
    if (await isLegacyRequest(request, body)) await serveSession(now, body)
    else await serveRequest(now, body, request)
  }

  /** The 2026 era: every request stands for itself. */
  async function serveRequest(known: Known, body: unknown, request: Request): Promise<void> {
    const room = unread.roomOf(known.principal, known.res)
    const caller = new Caller(known.principal, known.gone, () => joinSession(known), room)
    recordUnreached(caller, body, known.res)
    if (isListen(body)) {
      await endWithSession(caller, known.res)
      if (listensToApprovals(body)) followApprovals(known)
    }
    if (isClosing) throw new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down; try again soon.')
    const handler = isToolCall(body) ? streaming : plain
    const response = await handler.fetch(request, { authInfo: caller.asAuthInfo(), parsedBody: body })
    await sendResponse(known.res, response, known.gone, limits.unreadMs)
  }

  /** The 2025 era: a session is opened, used, listened to and ended. */
  async function serveSession(known: Known, body: unknown): Promise<void> {
    const { req, res, principal, bearer, run } = known
    const id = sessionIdOf(req)
    const session =
      id === undefined
        ? opensSession(body)
          ? await sessions.open({ principal, ...(run !== undefined && { run }) }, bearer)
          : undefined
        : sessions.find(id, principal, bearer)
    if (session === 'stranger') {
      await recordStranger(known)
      replyError(res, 404, RPC.sessionNotFound, 'Session not found')
      return
    }
    const caller = new Caller(
      principal,
      known.gone,
      () => (session === undefined ? joinSession(known) : Promise.resolve(session.session)),
      unread.roomOf(principal, res),
    )
    recordUnreached(caller, body, res)
    if (session === undefined) {
      // Never the only session there is: a missing id names none.
      if (id === undefined) replyError(res, 400, RPC.server, 'Bad Request: Mcp-Session-Id header is required')
      else replyError(res, 404, RPC.sessionNotFound, 'Session not found')
      return
    }
    await answerIn(session, caller, known, body, id === undefined)
  }

  async function answerIn(
    session: LegacySession,
    caller: Caller,
    { req, res, gone }: Known,
    body: unknown,
    isOpening: boolean,
  ): Promise<void> {
    sessions.track(session, req, res)
    const request = await webRequestOf(req, body, gone)
    const response = await session.transport.handleRequest(request, {
      authInfo: caller.asAuthInfo(),
      ...(body !== undefined && { parsedBody: body }),
    })
    if (isOpening && !response.ok) await sessions.end(session)
    const sent = sendResponse(res, response, gone, limits.unreadMs)
    if (req.method === 'GET' && response.ok) sessions.listens(session)
    await sent
  }

  function joinSession({ principal, run }: Known): Promise<Session> {
    return deps.sessions.join({ principal, door: 'mcp', ...(run !== undefined && { run }) })
  }

  /** Records tool calls the protocol layer refused, which no handler saw. */
  function recordUnreached(caller: Caller, body: unknown, res: ServerResponse): void {
    const ids = callIdsOf(body)
    if (ids.length === 0) return
    res.once('close', () => {
      for (const { id, message } of ids) {
        if (id !== undefined && caller.reached.has(id)) continue
        void record(caller, namedTool(message), message)
      }
    })
  }

  async function record(caller: Caller, tool: string, payload: unknown): Promise<void> {
    const error = new SallyportError('ERR_INVALID_INPUT', 'The message is no valid tool call.')
    try {
      const session = await caller.session()
      await session.recording.refused({ tool, payload, error })
    } catch (cause) {
      const { code } = SallyportError.from(cause)
      // Nothing is recorded any more once the gateway ends, and nothing ran.
      if (code === 'ERR_SHUTTING_DOWN')
        deps.log.info({ door: 'mcp', code }, 'a refused message came too late to be recorded')
      else deps.log.error({ door: 'mcp', code }, 'a refused message was not recorded')
    }
  }

  async function recordStranger(known: Known): Promise<void> {
    const error = new SallyportError('ERR_FORBIDDEN', 'The MCP session belongs to another caller.')
    deps.log.warn({ door: 'mcp', principal: known.principal.id, code: error.code }, error.message)
    const session = await joinSession(known)
    await session.recording.refused({ tool: 'mcp.session', payload: sessionIdOf(known.req), error })
  }

  /** Tells a listening approver of each change of what waits for them, until the stream ends. */
  function followApprovals({ principal, res }: Known): void {
    if (!isApprover(principal)) {
      throw new SallyportError('ERR_FORBIDDEN', 'Only persons with the role approver may listen to approvals.')
    }
    const ended = new AbortController()
    res.once('close', () => ended.abort())
    const follow = async (): Promise<void> => {
      for await (const _ of deps.inbox.offers(principal, ended.signal)) plain.notify.resourceUpdated(PENDING_URI)
    }
    follow().catch((error: unknown) => {
      if (ended.signal.aborted) return
      const { code } = SallyportError.from(error)
      deps.log.warn({ door: 'mcp', principal: principal.id, code }, 'approvals are not watched')
      res.destroy()
    })
  }

  /** A stream that outlives its request must not outlive the session of its caller: a revoked token ends it. */
  async function endWithSession(caller: Caller, res: ServerResponse): Promise<void> {
    const { signal } = await caller.session()
    const end = (): void => void res.destroy()
    signal.addEventListener('abort', end, { once: true })
    res.once('close', () => signal.removeEventListener('abort', end))
  }

  app.all(
    MCP_PATH,
    hostHeaderValidation((deps.allowedHosts ?? localhostAllowedHostnames()).map(asHostname)),
    originValidation((deps.allowedOrigins ?? localhostAllowedOrigins()).map(asHostname)),
    (req, res) => {
      handle(req, res).catch((cause: unknown) => {
        const error = SallyportError.from(cause)
        if (error.code === 'ERR_INTERNAL') deps.log.error({ door: 'mcp', err: error.cause }, error.message)
        replyFailure(res, error)
      })
    },
  )

  return {
    policyChanged() {
      for (const uri of [POLICY_URI, TARGETS_URI]) {
        sessions.changed(uri)
        plain.notify.resourceUpdated(uri)
      }
    },
    endCursors: () => cursors.close(),
    async close() {
      isClosing = true
      await cursors.close()
      await Promise.allSettled([sessions.close(), plain.close(), streaming.close()])
    },
  }
}

/** The request as the protocol layer takes it. Its body was read and bounded here, so the stream is not handed on. */
function webRequestOf(req: IncomingMessage, body: unknown, signal: AbortSignal): Promise<Request> {
  return toWebRequest(
    {
      method: req.method ?? 'GET',
      url: req.url ?? MCP_PATH,
      headers: req.headers,
      async *[Symbol.asyncIterator]() {},
    },
    body,
    { signal },
  )
}

/** An IPv6 address as it stands in a URL and in a Host header: in brackets (RFC 3986 §3.2.2). */
function asHostname(host: string): string {
  return host.includes(':') && !host.startsWith('[') && !host.includes('//') ? `[${host}]` : host
}

function isListen(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'method' in body && body.method === 'subscriptions/listen'
}

function listensToApprovals(body: unknown): boolean {
  const { params } = body as {
    readonly params?: { readonly notifications?: { readonly resourceSubscriptions?: unknown } }
  }
  const uris = params?.notifications?.resourceSubscriptions
  return Array.isArray(uris) && uris.includes(PENDING_URI)
}

function sessionIdOf(req: IncomingMessage): string | undefined {
  const id = req.headers['mcp-session-id']
  return Array.isArray(id) ? id[0] : id
}

/** Aborts when a response closes before it was written to its end. */
function goneOf(res: ServerResponse): AbortSignal {
  const gone = new AbortController()
  if (res.destroyed) gone.abort()
  res.once('close', () => {
    if (!res.writableFinished) gone.abort()
  })
  return gone.signal
}
