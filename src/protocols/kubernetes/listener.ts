/**
 * The Kubernetes door: `/<target>/…` is the API of a cluster, for kubectl and any other client, under the same engine as
 * the `kubectl` tool.
 *
 * @packageDocumentation
 */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Call } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import type { HeldFacts } from '../../core/http-error.ts'
import { checkFraming, tokenIn } from '../../core/http-head.ts'
import type { Principal } from '../../core/principal.ts'
import type { Target } from '../../core/target.ts'
import type { Sessions } from '../../gateway/sessions.ts'
import { writeAnswer } from './listener-answer.ts'
import { statusOf } from './listener-errors.ts'
import { bodyOf, payloadOf, placeOf } from './listener-request.ts'
import { Refusals } from './listener-refusals.ts'
import { Streaming } from './listener-streaming.ts'
import { serveUpgrade, writeRaw } from './listener-upgrade.ts'

/** What the Kubernetes door needs of the gateway. */
export interface KubernetesListenerDeps {
  /** @throws SallyportError `ERR_UNAUTHENTICATED` */
  authenticate(token: string): Promise<Principal>
  readonly sessions: Pick<Sessions, 'join'>
  /** The spine: `govern`, bound to the rooms. The only way from here to a backend. */
  run(call: Call): AsyncIterable<Chunk>
  target(name: string): Target | undefined
  /** How long a request waits for a person before it is answered with its ticket, in milliseconds. */
  readonly holdMs: number
  /** Milliseconds of a clock that only goes forward. */
  now(): number
  /** Told of errors nobody foresaw. Never a payload. */
  readonly onFault: (error: SallyportError) => void
}

/** The door, to be put behind an HTTPS server: kubectl sends no token over anything else. */
export interface KubernetesListener {
  readonly onRequest: RequestListener
  readonly onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
}

/** Recordings and metrics name it so. */
export const KUBERNETES_TOOL = 'kubernetes.api'

/** Most characters of a caller's own name for its piece of work. */
const RUN = /^[A-Za-z0-9._:-]{1,128}$/u

/** Builds the handlers of the door. */
export function createKubernetesListener(deps: KubernetesListenerDeps): KubernetesListener {
  const refusals = new Refusals(() => deps.now())
  const streaming = new Streaming()
  return {
    onRequest: (request, response) => void answer(request, response, deps),
    onUpgrade: (request, socket, head) => void upgrade(request, socket, head, deps, { refusals, streaming }),
  }
}

/** A request whose sender and target are known. */
interface Known {
  readonly principal: Principal
  readonly target: Target
  /** Path and query as the API server would be sent them. */
  readonly rest: string
}

async function admit(request: IncomingMessage, deps: KubernetesListenerDeps): Promise<Known> {
  // Nothing is said about a request before it is known who sends it.
  const principal = await deps.authenticate(tokenIn(request.rawHeaders))
  checkFraming(request.rawHeaders)
  const place = placeOf(request.url ?? '')
  const target = deps.target(place.target)
  if (target?.protocol !== 'kubernetes') {
    throw new SallyportError('ERR_UNKNOWN_TARGET', 'There is no Kubernetes target of that name.')
  }
  return { principal, target, rest: place.rest }
}

/** A call without what makes it this one. */
async function callOf(
  request: IncomingMessage,
  { principal, target }: Known,
  deps: KubernetesListenerDeps,
  signal: AbortSignal,
  onHeld: (facts: HeldFacts) => void,
): Promise<Omit<Call, 'payload'>> {
  const run = request.headers['sallyport-run']
  const reason = request.headers['sallyport-reason']
  const session = await deps.sessions.join({
    principal,
    door: 'kubernetes',
    ...(typeof run === 'string' && RUN.test(run) && { run }),
  })
  return {
    id: randomUUID(),
    session,
    target,
    tool: KUBERNETES_TOOL,
    signal: AbortSignal.any([signal, session.signal]),
    hold: { waitMs: deps.holdMs, onHeld },
    ...(typeof reason === 'string' && { reason: reason.slice(0, 2000) }),
  }
}

async function answer(request: IncomingMessage, response: ServerResponse, deps: KubernetesListenerDeps): Promise<void> {
  const gone = new AbortController()
  const leave = (): void => {
    if (!response.writableFinished) gone.abort(new SallyportError('ERR_CANCELLED', 'The client went away.'))
  }
  response.on('close', leave)
  response.on('error', leave)
  const held: { now?: HeldFacts } = {}
  try {
    const known = await admit(request, deps)
    const body = await bodyOf(request)
    const call = await callOf(request, known, deps, gone.signal, (facts) => void (held.now = facts))
    const payload = payloadOf(request, request.method ?? '', known.rest, body)
    const isHead = request.method === 'HEAD'
    await writeAnswer(deps.run({ ...call, payload }), { response, signal: gone.signal, isHead })
  } catch (cause) {
    const error = SallyportError.from(cause)
    if (error.code === 'ERR_INTERNAL' && !gone.signal.aborted) deps.onFault(error)
    refuse(request, response, error, held.now)
  } finally {
    response.off('close', leave)
  }
}

/** Answers with a `Status`, or breaks the answer that was begun. */
function refuse(request: IncomingMessage, response: ServerResponse, error: SallyportError, held?: HeldFacts): void {
  if (response.destroyed) return
  if (response.headersSent) {
    // Fail closed: what is incomplete must not look complete.
    response.destroy()
    return
  }
  const { status, headers, body } = statusOf(error, held)
  response.writeHead(status, {
    ...headers,
    'content-length': Buffer.byteLength(body),
    // What of the request was not read would be taken for the next one.
    ...(!request.complete && { connection: 'close' }),
  })
  response.end(request.method === 'HEAD' ? undefined : body)
}

async function upgrade(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  deps: KubernetesListenerDeps,
  { refusals, streaming }: { readonly refusals: Refusals; readonly streaming: Streaming },
): Promise<void> {
  const gone = new AbortController()
  socket.on('error', () => undefined)
  socket.once('close', () => gone.abort(new SallyportError('ERR_CANCELLED', 'The client went away.')))
  const held: { now?: HeldFacts } = {}
  let key: string | undefined
  let leave: () => void = () => undefined
  try {
    const known = await admit(request, deps)
    leave = streaming.enter(known.principal)
    key = refusals.keyOf(known.principal, known.target.name, known.rest)
    const before = refusals.take(request, key)
    if (before !== undefined) {
      await writeRaw(socket, before)
      return
    }
    await serveUpgrade({
      request,
      socket,
      head,
      rest: known.rest,
      run: (call) => deps.run(call),
      // A forwarding makes calls for hours: each is made by whom the token belongs to then, if it still does.
      call: async () =>
        callOf(request, await admit(request, deps), deps, gone.signal, (facts) => void (held.now = facts)),
      onFault: deps.onFault,
      onRefused: (refused) => refusals.remember(request, key, refused),
    })
  } catch (cause) {
    const error = SallyportError.from(cause)
    if (error.code === 'ERR_INTERNAL' && !gone.signal.aborted) deps.onFault(error)
    const refused = statusOf(error, held.now)
    refusals.remember(request, key, refused)
    await writeRaw(socket, refused)
  } finally {
    leave()
  }
}
