/**
 * Requests that turn their connection into streams. The client's upgrade is answered only after the call was judged and
 * the API server has agreed; before that, every answer is an ordinary one. Only of a forwarding the API server hears
 * nothing until a connection is opened in it; each of those is a call of its own, besides the one that opened it.
 *
 * @packageDocumentation
 */
import { STATUS_CODES, type IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Call } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import type { ErrorAnswer } from '../../core/http-error.ts'
import { headerValues } from '../../core/http-head.ts'
import { headOf } from './listener-answer.ts'
import { serveForwarding } from './listener-forward.ts'
import { acceptSpdy, isSpdy } from './listener-spdy.ts'
import { acceptWebSocket, isWebSocket } from './listener-websocket.ts'
import { payloadOf } from './listener-request.ts'
import { serveRemote, type AcceptRemote } from './listener-remote.ts'
import { readRequest } from './read-request.ts'
import { isStream, type KubeRequest } from './request.ts'
import { Pieces } from './streams/pieces.ts'

/** An upgrade whose sender and target are known. */
export interface Upgrading {
  readonly request: IncomingMessage
  readonly socket: Duplex
  /** What came after the head of the request. */
  readonly head: Buffer
  /** Path and query as the API server would be sent them. */
  readonly rest: string
  run(call: Call): AsyncIterable<Chunk>
  /** Makes a call of this client on this target; it still lacks what is to be done. */
  call(): Promise<Omit<Call, 'payload'>>
  /** Makes a call of one connection in streams that are open, for whoever the token belongs to by then. */
  connection(query: string): Promise<Omit<Call, 'payload'>>
  readonly onFault: (error: SallyportError) => void
  /** Told of an answer that the API server gave instead of streams. */
  readonly onRefused: (answer: ErrorAnswer) => void
}

/** @throws SallyportError as long as nothing was answered. */
export async function serveUpgrade(upgrading: Upgrading): Promise<void> {
  const { request, rest } = upgrading
  if (headerValues(request.rawHeaders, 'content-length').some((length) => length.trim() !== '0')) {
    throw invalid('A request for streams has no body.')
  }
  // A POST over SPDY means what the GET over WebSocket means, and is judged as the same.
  const payload = { ...payloadOf(request, 'GET', rest, undefined), upgrade: true as const }
  const read = readRequest({ method: 'GET', path: rest, accept: payload.accept })
  if (!isStream(read)) {
    throw new SallyportError('ERR_DENIED', 'Another protocol on this connection could not be judged.', {
      facts: { construct: 'k8s.upgrade', hint: 'Only exec, attach and port-forward have streams.' },
    })
  }
  if (read.verb === 'portforward') return serveForwarding(upgrading, read)
  const accept = acceptorOf(upgrading, read)
  const input = new Pieces()
  const call = await upgrading.call()
  // Without standard input and a terminal nothing can be sent: it is a call like any other, which persons can approve.
  const isSending = read.stdin === true || read.tty === true
  const chunks = upgrading.run({ ...call, payload, ...(isSending && { input }) })[Symbol.asyncIterator]()
  try {
    const first = await chunks.next()
    if (first.done === true || first.value.kind !== 'head') throw rejected()
    const { attributes = {} } = first.value
    if (attributes[':status'] === '101') await serveRemote(chunks, await accept(input), read)
    else await passRefusal(upgrading, attributes, chunks)
  } finally {
    input.end()
    await chunks.return?.()
  }
}

/** How this client speaks, checked before anything runs. */
function acceptorOf({ request, socket, head }: Upgrading, read: KubeRequest): (input: Pieces) => Promise<AcceptRemote> {
  if (isWebSocket(request)) return acceptWebSocket(request, socket, head, read)
  if (isSpdy(request)) return acceptSpdy(request, socket, head, read)
  throw invalid('The streams of a command are carried by WebSocket (v5 or v4.channel.k8s.io) or SPDY/3.1.')
}

/** Most of a refusal that is passed on. */
const REFUSAL_BYTES_MAX = 64 * 1024

async function passRefusal(
  { socket, onRefused }: Upgrading,
  attributes: Readonly<Record<string, string>>,
  chunks: AsyncIterator<Chunk>,
): Promise<void> {
  const pieces: Uint8Array[] = []
  let bytes = 0
  for (;;) {
    const next = await chunks.next()
    if (next.done === true) break
    if (next.value.kind !== 'data' || next.value.channel !== 'body') continue
    bytes += next.value.bytes.length
    if (bytes > REFUSAL_BYTES_MAX) throw rejected()
    pieces.push(next.value.bytes)
  }
  const { status, headers } = headOf(attributes)
  const answer = { status, headers, body: Buffer.concat(pieces).toString('utf8') }
  onRefused(answer)
  await writeRaw(socket, answer)
}

/** Answers on a connection that is no longer Node's to answer on, and ends it. */
export async function writeRaw(socket: Duplex, { status, headers, body }: ErrorAnswer): Promise<void> {
  if (socket.destroyed || !socket.writable) return
  const lines = Object.entries({
    ...headers,
    'content-length': String(Buffer.byteLength(body)),
    connection: 'close',
  }).map(([name, value]) => `${name}: ${value.replaceAll(/[\r\n]/gu, ' ')}\r\n`)
  const reason = STATUS_CODES[status] ?? 'Refused'
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => socket.destroy(), LAST_WORDS_MS)
    timer.unref()
    socket.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
    socket.end(`HTTP/1.1 ${status} ${reason}\r\n${lines.join('')}\r\n${body}`)
    // Whatever the client still sends is not read as anything.
    socket.resume()
  })
}

/** How long a refused client may take to read why. */
const LAST_WORDS_MS = 5_000

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}

function rejected(): SallyportError {
  return new SallyportError('ERR_UPSTREAM_REJECTED', 'The API server gave no answer that can be passed on.')
}
