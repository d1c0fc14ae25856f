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
import { SallyportError } from '../../core/errors.ts'
import { endUnread } from '../shared/listener-unread.ts'
import type { ErrorAnswer, HeldFacts } from '../../core/http-error.ts'
import { Attempt, KUBERNETES_TOOL, type AttemptDeps, type Known } from './listener-attempt.ts'
import { writeAnswer } from './listener-answer.ts'
import { statusOf } from './listener-errors.ts'
import { bodyOf, payloadOf, withQuery } from './listener-request.ts'
import { Refusals } from './listener-refusals.ts'
import { Streaming } from './listener-streaming.ts'
import { serveUpgrade, writeRaw } from './listener-upgrade.ts'

/** What the Kubernetes door needs of the gateway. */
export interface KubernetesListenerDeps extends AttemptDeps {
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

/** Builds the handlers of the door. */
export function createKubernetesListener(deps: KubernetesListenerDeps): KubernetesListener {
  const refusals = new Refusals(() => deps.now())
  const streaming = new Streaming()
  return {
    onRequest: (request, response) => void answer(request, response, deps),
    onUpgrade: (request, socket, head) => void upgrade(request, socket, head, deps, { refusals, streaming }),
  }
}

/** A call without what makes it this one. */
async function callOf(
  attempt: Attempt,
  request: IncomingMessage,
  { principal, target }: Known,
  { holdMs }: KubernetesListenerDeps,
  signal: AbortSignal,
  onHeld: (facts: HeldFacts) => void,
): Promise<Omit<Call, 'payload'>> {
  const reason = request.headers['sallyport-reason']
  const session = await attempt.join(principal)
  return {
    id: randomUUID(),
    session,
    target,
    tool: KUBERNETES_TOOL,
    signal: AbortSignal.any([signal, session.signal]),
    hold: { waitMs: holdMs, onHeld },
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
  const attempt = new Attempt(request, deps)
  try {
    const known = await attempt.admit()
    const body = await bodyOf(request)
    const call = await callOf(attempt, request, known, deps, gone.signal, (facts) => void (held.now = facts))
    const payload = payloadOf(request, request.method ?? '', known.rest, body)
    const isHead = request.method === 'HEAD'
    await writeAnswer(attempt.run({ ...call, payload }), { response, signal: gone.signal, isHead })
  } catch (cause) {
    const error = await attempt.refused(SallyportError.from(cause))
    if (error.code === 'ERR_INTERNAL' && !gone.signal.aborted) deps.onFault(error)
    refuse(request, response, error, held.now)
  } finally {
    response.off('close', leave)
  }
}

/** A call for one connection of a forwarding. What is refused before it is one is recorded like any other request. */
async function connectionOf(
  request: IncomingMessage,
  { principal }: Known,
  query: string,
  deps: KubernetesListenerDeps,
  signal: AbortSignal,
): Promise<Omit<Call, 'payload'>> {
  const attempt = new Attempt(request, deps, { principal, url: withQuery(request.url ?? '', query) })
  try {
    return await callOf(attempt, request, await attempt.admit(), deps, signal, () => undefined)
  } catch (cause) {
    throw await attempt.refused(SallyportError.from(cause))
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
  const said = request.method === 'HEAD' ? undefined : body
  if (request.complete) response.end(said)
  else endUnread(request, response, said)
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
  const attempt = new Attempt(request, deps)
  const remember = (answer: ErrorAnswer, error: SallyportError): void =>
    refusals.remember(request, key, { answer, error })
  try {
    const known = await attempt.admit()
    leave = streaming.enter(known.principal)
    key = refusals.keyOf(known.principal, known.target.name, known.rest)
    const before = refusals.take(request, key)
    if (before !== undefined) {
      // Neither judged nor counted again, but seen: the recording has an entry for each try.
      const failure = await attempt.refused(before.error)
      await writeRaw(socket, failure === before.error ? before.answer : statusOf(failure))
      return
    }
    await serveUpgrade({
      request,
      socket,
      head,
      rest: known.rest,
      run: (call) => attempt.run(call),
      call: () => callOf(attempt, request, known, deps, gone.signal, (facts) => void (held.now = facts)),
      // A forwarding makes calls for hours: each is made by whom the token belongs to then, if it still does.
      connection: (query) => connectionOf(request, known, query, deps, gone.signal),
      onFault: deps.onFault,
      onRefused: (answer) =>
        remember(answer, new SallyportError('ERR_UPSTREAM_REJECTED', 'The API server opened no streams.')),
    })
  } catch (cause) {
    const error = await attempt.refused(SallyportError.from(cause))
    if (error.code === 'ERR_INTERNAL' && !gone.signal.aborted) deps.onFault(error)
    const answer = statusOf(error, held.now)
    remember(answer, error)
    await writeRaw(socket, answer)
  } finally {
    leave()
  }
}
