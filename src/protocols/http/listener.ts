/**
 * The HTTP door: `/<target>/…` for any client, under the same engine as `http_request`.
 *
 * @packageDocumentation
 */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Call } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import type { HeldFacts } from '../../core/http-error.ts'
import { tokenIn } from '../../core/http-head.ts'
import { endUnread } from '../shared/listener-unread.ts'
import type { Principal } from '../../core/principal.ts'
import type { Target } from '../../core/target.ts'
import type { Sessions } from '../../gateway/sessions.ts'
import { writeAnswer } from './listener-answer.ts'
import { receiveBody } from './listener-body.ts'
import { problemOf } from './listener-errors.ts'
import type { Slots } from './listener-slots.ts'
import { placeOf } from '../shared/place.ts'
import { checkRequest, payloadOf } from './listener-request.ts'
import type { HttpOptions } from './options.ts'
import type { HttpPayload } from './request.ts'

/** What the HTTP door needs of the gateway. */
export interface HttpListenerDeps {
  /** @throws SallyportError `ERR_UNAUTHENTICATED` */
  authenticate(token: string): Promise<Principal>
  readonly sessions: Pick<Sessions, 'join'>
  /** The spine: `govern`, bound to the rooms. The only way from here to a backend. */
  run(call: Call): AsyncIterable<Chunk>
  target(name: string): Target | undefined
  /** How long a request waits for a person before it is answered with its ticket, in milliseconds. */
  readonly holdMs: number
  /** Shared by all that serves this door. */
  readonly slots: Slots
  /** Told of errors nobody foresaw. Never a payload. */
  readonly onFault: (error: SallyportError) => void
}

/** The tool the same request would have come by; a ticket opened here can be asked for there. */
const TOOL = 'http_request'

/** Most characters of a caller's own name for its piece of work. */
const RUN = /^[A-Za-z0-9._:-]{1,128}$/u

/** Builds the handler of the door. */
export function createHttpListener(deps: HttpListenerDeps): RequestListener {
  return (request, response) => {
    void answer(request, response, deps)
  }
}

async function answer(request: IncomingMessage, response: ServerResponse, deps: HttpListenerDeps): Promise<void> {
  const gone = goneWith(request.socket)
  // It comes with the end of the connection, which is what is waited for.
  response.on('error', ignore)
  const held: { now?: HeldFacts } = {}
  try {
    await serve(request, response, deps, gone, held)
  } catch (cause) {
    const error = SallyportError.from(cause)
    if (error.code === 'ERR_INTERNAL' && !gone.aborted) deps.onFault(error)
    refuse(request, response, error, held.now)
  }
}

/** Signals of connections: requests come one after the other, and making one for each costs as much as reading it. */
const ends = new WeakMap<Socket, AbortSignal>()

/** Aborts when the client at the other end of a connection goes away. */
function goneWith(socket: Socket): AbortSignal {
  const known = ends.get(socket)
  if (known !== undefined) return known
  const gone = new AbortController()
  const leave = (): void => gone.abort(new SallyportError('ERR_CANCELLED', 'The client went away.'))
  if (socket.destroyed) leave()
  else socket.once('close', leave)
  ends.set(socket, gone.signal)
  return gone.signal
}

function ignore(): void {
  // An error without a listener would end the process.
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  deps: HttpListenerDeps,
  signal: AbortSignal,
  held: { now?: HeldFacts },
): Promise<void> {
  const asked = await receive(request, deps)
  const give = deps.slots.take(asked.principal.id)
  try {
    const body = await receiveBody(request, asked.options)
    const payload = { ...asked.payload, ...(body.whole !== undefined && { body: body.whole.toString('base64') }) }
    const call: Call = {
      ...(await callOf(request, asked, deps)),
      payload,
      ...(body.input !== undefined && { input: body.input }),
      signal,
      hold: { waitMs: deps.holdMs, onHeld: (facts) => void (held.now = facts) },
    }
    const answering = { response, target: asked.target.name, signal, isHead: request.method === 'HEAD' }
    await writeAnswer(deps.run(call), answering)
  } finally {
    give()
  }
}

/** A request whose sender and target are known. */
export interface Received {
  readonly principal: Principal
  readonly target: Target
  readonly options: HttpOptions
  readonly payload: HttpPayload
}

/**
 * Finds out who sends a request and what for; reads no body.
 *
 * @throws SallyportError `ERR_UNAUTHENTICATED`, `ERR_INVALID_INPUT`, `ERR_DENIED`, `ERR_UNKNOWN_TARGET`
 */
export async function receive(
  request: IncomingMessage,
  deps: HttpListenerDeps,
  isWebSocket = false,
): Promise<Received> {
  // Nothing is said about a request before it is known who sends it.
  const principal = await deps.authenticate(tokenIn(request.rawHeaders))
  checkRequest(request, isWebSocket)
  const place = placeOf(request.url ?? '')
  const target = deps.target(place.target)
  if (target?.protocol !== 'http') {
    throw new SallyportError('ERR_UNKNOWN_TARGET', 'There is no HTTP target of that name.')
  }
  const options = target.options as HttpOptions
  return { principal, target, options, payload: payloadOf(request, place.rest, options) }
}

/** What every call of this door has. The end of its session reaches it by its permit. */
export async function callOf(
  request: IncomingMessage,
  { principal, target }: Received,
  deps: HttpListenerDeps,
): Promise<Pick<Call, 'id' | 'session' | 'target' | 'tool' | 'reason'>> {
  const run = request.headers['sallyport-run']
  const session = await deps.sessions.join({
    principal,
    door: 'http',
    ...(typeof run === 'string' && RUN.test(run) && { run }),
  })
  const reason = request.headers['sallyport-reason']
  return {
    id: randomUUID(),
    session,
    target,
    tool: TOOL,
    ...(typeof reason === 'string' && { reason: reason.slice(0, 2000) }),
  }
}

/** Answers with the problem, or breaks the answer that was begun. */
export function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  error: SallyportError,
  held?: HeldFacts,
): void {
  if (response.destroyed) return
  if (response.headersSent) {
    // Fail closed: what is incomplete must not look complete.
    response.destroy()
    return
  }
  const { status, headers, body } = problemOf(error, held)
  // What of the request was not read would be taken for the next one.
  response.writeHead(status, {
    ...headers,
    'content-length': Buffer.byteLength(body),
    ...(!request.complete && { connection: 'close' }),
  })
  const said = request.method === 'HEAD' ? undefined : body
  if (request.complete) response.end(said)
  else endUnread(request, response, said)
}
