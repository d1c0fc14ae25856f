/**
 * Forwarded ports: every connection to one is a call of its own, judged with the port it goes to.
 *
 * @packageDocumentation
 */
import type { Duplex } from 'node:stream'
import { createWebSocketStream } from 'ws'
import { SallyportError } from '../../core/errors.ts'
import { payloadOf, withQuery } from './listener-request.ts'
import { isSpdy, offeredVersions, upgradeToSpdy } from './listener-spdy.ts'
import type { Upgrading } from './listener-upgrade.ts'
import { isWebSocket, offeredProtocols, upgradeToWebSocket } from './listener-websocket.ts'
import type { KubeRequest } from './request.ts'
import { readFrame, writeFrame } from './streams/channels.ts'
import { SpdyConnection } from './streams/spdy-connection.ts'
import type { SpdyStream } from './streams/spdy-stream.ts'

/** What the streams carry, and its name where SPDY itself goes through a WebSocket. */
const FORWARD = 'portforward.k8s.io'
const TUNNEL = 'SPDY/3.1+portforward.k8s.io'

/** A forwarded connection has two channels: its bytes, and what went wrong with it. */
const DATA = 0
const ERROR = 1

/** Connections of one client that may be forwarded at once. */
const CONNECTIONS_MAX = 100

/** @throws SallyportError as long as nothing was answered. */
export async function serveForwarding(upgrading: Upgrading, read: KubeRequest): Promise<void> {
  if (read.query.some(([name]) => name === 'ports')) {
    throw invalid('Ports are named by the streams of a forwarding; leave `ports` out of the query.')
  }
  const pairs = new Pairs(upgrading)
  const connect = connectorOf(upgrading, pairs)
  await open(upgrading)
  const connection = await connect()
  pairs.connection = connection
  try {
    // Nothing goes anywhere before each connection was judged as well, with its port.
    await connection.run().catch(() => undefined)
  } finally {
    connection.close()
    await pairs.ended()
  }
}

/** The forwarding itself is a call: who may open none to this pod hears it as an answer, and not behind a 101. */
async function open(upgrading: Upgrading): Promise<void> {
  const call = await upgrading.call()
  const payload = { ...payloadOf(upgrading.request, 'GET', upgrading.rest, undefined), opening: true as const }
  for await (const chunk of upgrading.run({ ...call, payload })) {
    if (chunk.kind === 'head' && chunk.attributes?.[':status'] !== '101') throw refused(chunk.attributes)
  }
}

/** How this client speaks, checked before anything is judged. */
function connectorOf({ request, socket, head }: Upgrading, pairs: Pairs): () => Promise<SpdyConnection> {
  const onStream = (stream: SpdyStream): void => pairs.take(stream)
  if (isSpdy(request)) {
    if (!offeredVersions(request).includes(FORWARD)) throw invalid(`The streams must be ${FORWARD}.`)
    return async () => upgradeToSpdy(socket, head, FORWARD, onStream)
  }
  if (isWebSocket(request) && offeredProtocols(request).includes(TUNNEL)) {
    return async () => {
      const tunnel: Duplex = createWebSocketStream(await upgradeToWebSocket(request, socket, head, [TUNNEL]))
      return new SpdyConnection(tunnel, 'server', onStream)
    }
  }
  throw invalid(`Ports are forwarded over SPDY/3.1 (${FORWARD}), also through a WebSocket (${TUNNEL}).`)
}

/** Streams that belong together: a client opens two for each connection, the one for errors first. */
class Pairs {
  connection: SpdyConnection | undefined
  readonly #upgrading: Upgrading
  readonly #waiting = new Map<string, SpdyStream>()
  readonly #running = new Set<Promise<void>>()
  /** Set once the token of these streams has ended. */
  #isOver = false

  constructor(upgrading: Upgrading) {
    this.#upgrading = upgrading
  }

  take(stream: SpdyStream): void {
    const { streamtype: type, requestid: id = '', port = '' } = stream.headers
    const other = this.#waiting.get(id)
    // Whoever may open nothing any more fills no recording with tries: one of them told what there is to tell.
    const isClosed = this.#isOver || this.#running.size >= CONNECTIONS_MAX
    const isPort = /^[1-9]\d{0,4}$/u.test(port) && Number(port) <= 65_535
    if (!isPort || (type !== 'error' && type !== 'data') || isClosed) {
      void stream.reset().catch(() => undefined)
      return
    }
    void this.connection?.accept(stream).catch(() => undefined)
    if (other === undefined) {
      if (this.#waiting.size >= CONNECTIONS_MAX) void stream.reset().catch(() => undefined)
      else this.#waiting.set(id, stream)
      return
    }
    this.#waiting.delete(id)
    // The port of one and the data of another would be judged as what they are not.
    if (other.headers['port'] !== port || other.headers['streamtype'] === type) {
      for (const one of [stream, other]) void one.reset().catch(() => undefined)
      return
    }
    const [data, error] = type === 'data' ? [stream, other] : [other, stream]
    const running = this.#forward(data, error, Number(port)).finally(() => this.#running.delete(running))
    this.#running.add(running)
  }

  async #forward(data: SpdyStream, error: SpdyStream, port: number): Promise<void> {
    const failed = await forward(this.#upgrading, data, error, port)
    if (failed?.code !== 'ERR_UNAUTHENTICATED') return
    // The error has been written: what is behind it is the end of all these streams.
    this.#isOver = true
    await this.connection?.end()
  }

  async ended(): Promise<void> {
    await Promise.allSettled(this.#running)
  }
}

/** Forwards one connection, and returns what went wrong with it, which its error stream was told. Never rejects. */
async function forward(
  upgrading: Upgrading,
  data: SpdyStream,
  error: SpdyStream,
  port: number,
): Promise<SallyportError | undefined> {
  const { request, rest } = upgrading
  try {
    const query = `ports=${port}`
    const call = await upgrading.connection(query)
    const payload = payloadOf(request, 'GET', withQuery(rest, query), undefined)
    for await (const chunk of upgrading.run({ ...call, payload, input: framed(data) })) {
      if (chunk.kind === 'head' && chunk.attributes?.[':status'] !== '101') throw refused(chunk.attributes)
      // Fail closed: what a limit cut must not end like what is complete.
      if (chunk.kind === 'exit' && chunk.truncated) throw cut()
      if (chunk.kind !== 'data' || chunk.channel !== 'wire') continue
      const frame = readFrame(chunk.bytes)
      if (frame?.channel === DATA) await data.write(frame.bytes)
      else if (frame?.channel === ERROR) await error.write(frame.bytes)
    }
    return undefined
  } catch (cause) {
    const failed = SallyportError.from(cause)
    if (failed.code === 'ERR_INTERNAL') upgrading.onFault(failed)
    await error.write(Buffer.from(said(failed))).catch(() => undefined)
    await data.reset().catch(() => undefined)
    return failed
  } finally {
    await data.end().catch(() => undefined)
    await error.end().catch(() => undefined)
    // The client may go on sending to a connection that is over.
    await data.reset().catch(() => undefined)
  }
}

async function* framed(data: SpdyStream): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const bytes of data.received) yield writeFrame(DATA, bytes)
}

function said({ message, facts: { rules = [], ticket } }: SallyportError): string {
  return [
    message,
    ...(rules.length > 0 ? [`Rule: ${rules.join(', ')}.`] : []),
    ...(ticket !== undefined ? [`Ticket: ${ticket}.`] : []),
  ].join(' ')
}

function refused(attributes: Readonly<Record<string, string>> = {}): SallyportError {
  const status = attributes[':status'] ?? ''
  return new SallyportError('ERR_UPSTREAM_REJECTED', `The API server refused to forward the port (HTTP ${status}).`)
}

function cut(): SallyportError {
  return new SallyportError('ERR_TOO_LARGE', 'More came through the port than policy allows; the rest was left out.')
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
