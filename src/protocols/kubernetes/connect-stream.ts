/**
 * exec, attach and port-forward: a WebSocket to the API server (RFC 6455; Kubernetes' `v4.channel.k8s.io` and `v5`),
 * whose frames begin with the number of a channel. The connection becomes a stream after 101 and not before: what the
 * server says instead is an answer like any other.
 *
 * @packageDocumentation
 */
import type { IncomingMessage } from 'node:http'
import { WebSocket } from 'ws'
import type { Call, Permit } from '../../core/call.ts'
import type { BytesChunk, Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { isJsonObject, JsonNumber, parseJson, type JsonValue } from '../../core/json.ts'
import { mapError, reasonOf } from './connect-errors.ts'
import { sentTarget, type Upstream } from './connect-send.ts'
import { scrubMessage } from './mask-message.ts'
import type { KubeRequest } from './request.ts'

const STDOUT = 1
const STDERR = 2
const STATUS = 3
const CLOSE = 255
/** What an answer that refuses the upgrade may have to say. */
const REFUSAL_BYTES_MAX = 64 * 1024
/** Output nobody takes is left in the connection beyond this. */
const HELD_BYTES_MAX = 1024 * 1024
/** Input the server does not take is left with the caller beyond this. */
const SENT_BYTES_MAX = 1024 * 1024

/** Runs one stream to its end. */
export async function* runStream(
  call: Call,
  request: KubeRequest,
  permit: Permit,
  upstream: Upstream,
): AsyncGenerator<Chunk, void, undefined> {
  const { signal } = permit
  const opened = await open(request, upstream, signal)
  if ('refused' in opened) {
    yield { kind: 'head', attributes: { ':status': String(opened.status), 'content-type': opened.type } }
    yield { kind: 'data', channel: 'body', bytes: Buffer.from(opened.refused, 'utf8') }
    yield { kind: 'exit', status: String(opened.status), truncated: false }
    return
  }
  const { socket } = opened
  const output = new Output(socket, request, signal)
  const input = sendInput(socket, call, request, output)
  input.catch((error: unknown) => output.fail(SallyportError.from(error)))
  try {
    yield { kind: 'head', attributes: { ':status': '101' } }
    const own = upstream.options.bytesMax
    const bytesMax =
      permit.obligations.bytesMax ??
      (request.tty === true || request.verb === 'portforward' ? Number.POSITIVE_INFINITY : own)
    let shown = 0
    for (let chunk = await output.next(); chunk !== undefined; chunk = await output.next()) {
      if (chunk.channel !== 'stdin') shown += chunk.bytes.length
      if (shown > bytesMax) {
        yield { kind: 'exit', status: '137', truncated: true, truncatedBy: 'bytes' }
        return
      }
      yield chunk
    }
    yield { kind: 'exit', status: String(output.code()), truncated: false }
  } finally {
    output.discard()
    socket.terminate()
  }
}

type Opened =
  | { readonly socket: WebSocket }
  | { readonly status: number; readonly type: string; readonly refused: string }

function open(request: KubeRequest, { options, pools, login }: Upstream, signal: AbortSignal): Promise<Opened> {
  const url = `wss://${options.server.host}${sentTarget(request, options)}`
  const isForward = request.verb === 'portforward'
  const protocols = isForward ? ['v4.channel.k8s.io'] : ['v5.channel.k8s.io', 'v4.channel.k8s.io']
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(reasonOf(signal))
    const socket = new WebSocket(url, protocols, {
      headers: { ...(login.authorization !== undefined && { authorization: login.authorization }) },
      handshakeTimeout: options.responseTimeoutMs,
      followRedirects: false,
      perMessageDeflate: false,
      maxPayload: 32 * 1024 * 1024,
      rejectUnauthorized: true,
      ...pools.tls(login),
    })
    const abort = (): void => {
      reject(reasonOf(signal))
      socket.terminate()
    }
    signal.addEventListener('abort', abort, { once: true })
    const over = (): void => signal.removeEventListener('abort', abort)
    socket.on('error', (error) => {
      over()
      reject(mapError(error, signal, false))
    })
    socket.once('unexpected-response', (_sent, answer: IncomingMessage) => {
      over()
      refusal(answer)
        .then(resolve, reject)
        .finally(() => socket.terminate())
    })
    socket.once('open', () => {
      over()
      // Nothing is read before somebody listens.
      socket.pause()
      resolve({ socket })
    })
  })
}

async function refusal(answer: IncomingMessage): Promise<Opened> {
  let text = ''
  for await (const piece of answer as AsyncIterable<Buffer>) {
    text += piece.toString('utf8')
    if (text.length > REFUSAL_BYTES_MAX) break
  }
  answer.destroy()
  const status = answer.statusCode ?? 502
  const parsed = parseJson(text)
  const message = isJsonObject(parsed?.value) ? parsed.value.get('message') : text
  const words = scrubMessage(typeof message === 'string' ? message : 'The server refused to open a stream.', false)
  const body = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message: words, code: status }
  return { status, type: 'application/json', refused: JSON.stringify(body) }
}

/** Sends what the caller sends; each piece of standard input is recorded first. */
async function sendInput(socket: WebSocket, call: Call, request: KubeRequest, output: Output): Promise<void> {
  const isForward = request.verb === 'portforward'
  for await (const frame of call.input ?? []) {
    if (socket.readyState !== WebSocket.OPEN) return
    if (!isForward && frame[0] === 0 && frame.length > 1) {
      await output.record({ kind: 'data', channel: 'stdin', bytes: frame.subarray(1) })
    }
    await sent(socket, frame)
  }
  if (isForward || request.stdin !== true || socket.readyState !== WebSocket.OPEN) return
  // Only v5 has a word for the end of input (KEP-4006); before, the program learns of it when the connection ends.
  if (socket.protocol === 'v5.channel.k8s.io') await sent(socket, Buffer.from([CLOSE, 0]))
}

function sent(socket: WebSocket, frame: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error | null): void =>
      error === undefined || error === null
        ? resolve()
        : reject(new SallyportError('ERR_UPSTREAM_LOST', LOST, { cause: error }))
    if (socket.bufferedAmount > SENT_BYTES_MAX) socket.send(frame, done)
    else {
      socket.send(frame, (error) => void (error !== undefined && error !== null && done(error)))
      resolve()
    }
  })
}

const LOST = 'The connection to the container broke.'

/** What comes from the server, in order, as fast as somebody takes it. */
class Output {
  readonly #socket: WebSocket
  readonly #chunks: BytesChunk[] = []
  #held = 0
  #wake = (): void => undefined
  #taken = (): void => undefined
  #failure: SallyportError | undefined
  #status: JsonValue | undefined
  #isOver = false
  readonly #isForward: boolean
  /** Channels of a forwarded port whose first two bytes, the port, were taken off. */
  readonly #named = new Set<number>()

  constructor(socket: WebSocket, { verb }: KubeRequest, signal: AbortSignal) {
    this.#socket = socket
    this.#isForward = verb === 'portforward'
    const stop = (): void => this.fail(reasonOf(signal))
    signal.addEventListener('abort', stop, { once: true })
    socket.on('message', (data: Buffer) => this.#take(data))
    socket.once('close', () => {
      signal.removeEventListener('abort', stop)
      this.#isOver = true
      this.#wake()
    })
    if (signal.aborted) stop()
    socket.resume()
  }

  /** The next piece; `undefined` at the end. @throws SallyportError what broke it. */
  async next(): Promise<BytesChunk | undefined> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure
      const chunk = this.#chunks.shift()
      if (chunk !== undefined) {
        this.#held -= chunk.bytes.length
        if (this.#held <= HELD_BYTES_MAX / 2) this.#socket.resume()
        this.#taken()
        return chunk
      }
      if (this.#isOver) return undefined
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  /** Adds what is for the recording, and waits until it was taken. */
  async record(chunk: BytesChunk): Promise<void> {
    this.#push(chunk)
    while (this.#chunks.includes(chunk) && this.#failure === undefined && !this.#isOver) {
      await new Promise<void>((resolve) => (this.#taken = resolve))
    }
  }

  /** How the command ended. @throws SallyportError when nobody said so. */
  code(): number {
    if (this.#isForward) return 0
    const status = this.#status
    if (!isJsonObject(status)) throw new SallyportError('ERR_UPSTREAM_LOST', LOST)
    if (status.get('status') === 'Success') return 0
    const details = status.get('details')
    const causes = isJsonObject(details) ? details.get('causes') : undefined
    for (const cause of Array.isArray(causes) ? (causes as readonly JsonValue[]) : []) {
      if (!isJsonObject(cause) || cause.get('reason') !== 'ExitCode') continue
      const text = cause.get('message')
      if (typeof text === 'string' && /^\d{1,3}$/u.test(text)) return Number(text)
    }
    const code = status.get('code')
    const message = status.get('message')
    throw new SallyportError(
      'ERR_UPSTREAM_REJECTED',
      `The container did not run it: ${scrubMessage(typeof message === 'string' ? message : 'no reason was given', false).slice(0, 500)}`,
      { ...(code instanceof JsonNumber && { detail: code.raw }) },
    )
  }

  fail(error: SallyportError): void {
    this.#failure ??= error
    this.#wake()
    this.#taken()
  }

  discard(): void {
    this.#isOver = true
    this.#chunks.length = 0
    this.#wake()
    this.#taken()
  }

  #take(data: Buffer): void {
    const channel = data[0] ?? CLOSE
    const bytes = data.subarray(1)
    if (this.#isForward) this.#forwarded(channel, bytes)
    else if (channel === STDOUT || channel === STDERR) {
      if (bytes.length > 0) this.#push({ kind: 'data', channel: channel === STDOUT ? 'stdout' : 'stderr', bytes })
    } else if (channel === STATUS) this.#status ??= parseJson(bytes.toString('utf8'))?.value
  }

  #forwarded(channel: number, bytes: Buffer): void {
    const isFirst = !this.#named.has(channel)
    this.#named.add(channel)
    const rest = isFirst ? bytes.subarray(2) : bytes
    if (rest.length > 0) {
      this.#push({ kind: 'data', channel: 'wire', bytes: Buffer.concat([Buffer.from([channel]), rest]) })
    }
  }

  #push(chunk: BytesChunk): void {
    this.#chunks.push(chunk)
    this.#held += chunk.bytes.length
    if (this.#held > HELD_BYTES_MAX) this.#socket.pause()
    this.#wake()
  }
}
