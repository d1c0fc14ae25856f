/**
 * exec, attach and port-forward as chunks: what the server sends on each channel, and what the caller sends, recorded
 * before it goes out. What the server says instead of opening streams is an answer like any other.
 *
 * @packageDocumentation
 */
import type { Call, Permit } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { isJsonObject, parseJson, type JsonValue } from '../../core/json.ts'
import { sentTarget, type Upstream } from './connect-send.ts'
import { failureOf, mapError } from './connect-errors.ts'
import type { StreamRefusal } from './connect-stream-types.ts'
import { openPort, openStreams } from './connect-streams.ts'
import { scrubMessage } from './mask-message.ts'
import type { KubeRequest } from './request.ts'
import type { Frame } from './streams/channels.ts'

const STDIN = 0
const STDOUT = 1
const STDERR = 2
const STATUS = 3

/** Runs one stream to its end. */
export async function* runRemote(
  call: Call,
  request: KubeRequest,
  permit: Permit,
  upstream: Upstream,
): AsyncGenerator<Chunk, void, undefined> {
  const isForward = request.verb === 'portforward'
  const typed = new Typed()
  const opened = await open(call, request, upstream, typed)
  if (opened.kind === 'refused') {
    yield* refused(opened, request)
    return
  }
  try {
    yield { kind: 'head', attributes: { ':status': '101' } }
    const isOpenEnded = request.tty === true || isForward
    const own = isOpenEnded ? Number.POSITIVE_INFINITY : upstream.options.bytesMax
    const bytesMax = permit.obligations.bytesMax ?? own
    let shown = 0
    let status: JsonValue | undefined
    for await (const turn of typed.beside(opened.frames())) {
      if (turn.kind === 'typed') {
        yield { kind: 'data', channel: 'stdin', bytes: turn.bytes }
        continue
      }
      const { channel, bytes } = turn.frame
      if (!isForward && channel === STATUS) status ??= parseJson(Buffer.from(bytes).toString('utf8'))?.value
      const piece = chunkOf(turn.frame, isForward)
      if (piece === undefined) continue
      shown += bytes.length
      if (shown > bytesMax) {
        // Ending the stream ends what runs: nobody may read more of it.
        yield { kind: 'exit', status: '137', truncated: true, truncatedBy: 'bytes' }
        return
      }
      yield piece
    }
    yield { kind: 'exit', status: isForward ? '0' : String(exitCodeOf(status)), truncated: false }
  } catch (error) {
    throw mapError(error, permit.signal, true)
  } finally {
    typed.end()
    opened.close()
  }
}

function open(call: Call, request: KubeRequest, upstream: Upstream, typed: Typed): ReturnType<typeof openStreams> {
  const { options, pools, login, signal } = upstream
  const isForward = request.verb === 'portforward'
  const asks = (name: string): boolean => request.query.some(([field]) => field === name)
  const streams = {
    url: new URL(`${options.server.origin}${sentTarget(request, options)}`),
    headers: { ...(login.authorization !== undefined && { authorization: login.authorization }) },
    tls: pools.tls(login),
    channels: { stdin: asks('stdin'), stdout: asks('stdout'), stderr: asks('stderr'), tty: asks('tty') },
    ...(call.input !== undefined && { input: typed.recording(call.input) }),
    signal,
  }
  return isForward ? openPort(streams) : openStreams(streams)
}

function chunkOf({ channel, bytes }: Frame, isForward: boolean): Chunk | undefined {
  if (isForward) {
    return { kind: 'data', channel: 'wire', bytes: Buffer.concat([Buffer.from([channel]), bytes]) }
  }
  if (bytes.length === 0 || (channel !== STDOUT && channel !== STDERR)) return undefined
  return { kind: 'data', channel: channel === STDOUT ? 'stdout' : 'stderr', bytes }
}

function* refused({ status, body }: StreamRefusal, request: KubeRequest): Generator<Chunk> {
  const text = body.toString('utf8')
  const parsed = parseJson(text)
  const message = isJsonObject(parsed?.value) ? parsed.value.get('message') : text
  const words = scrubMessage(typeof message === 'string' ? message : 'The server refused to open a stream.', false)
  const answer = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message: words, code: status }
  yield { kind: 'head', attributes: { ':status': String(status), 'content-type': 'application/json' } }
  yield { kind: 'data', channel: 'body', bytes: Buffer.from(JSON.stringify(answer), 'utf8') }
  yield { kind: 'exit', status: String(status), truncated: false, ...failureOf(status, request) }
}

/** The exit code in the status that ends a stream. @throws SallyportError when there is none. */
function exitCodeOf(status: JsonValue | undefined): number {
  if (!isJsonObject(status)) throw new SallyportError('ERR_UPSTREAM_LOST', 'The connection to the container broke.')
  if (status.get('status') === 'Success') return 0
  const details = status.get('details')
  const causes = isJsonObject(details) ? details.get('causes') : undefined
  for (const cause of Array.isArray(causes) ? (causes as readonly JsonValue[]) : []) {
    if (!isJsonObject(cause) || cause.get('reason') !== 'ExitCode') continue
    const text = cause.get('message')
    if (typeof text === 'string' && /^\d{1,3}$/u.test(text)) return Number(text)
  }
  const message = status.get('message')
  const words = scrubMessage(typeof message === 'string' ? message : 'no reason was given', false).slice(0, 500)
  throw new SallyportError('ERR_UPSTREAM_REJECTED', `The container did not run it: ${words}`)
}

type Turn = { readonly kind: 'frame'; readonly frame: Frame } | { readonly kind: 'typed'; readonly bytes: Uint8Array }

/** Standard input on its way: each piece is taken for the recording before it is sent. */
class Typed {
  readonly #waiting: { readonly bytes: Uint8Array; readonly taken: () => void }[] = []
  #wake = (): void => undefined
  #isOver = false

  /** The same frames, each after it was recorded. */
  async *recording(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const frame of input) {
      if (frame[0] === STDIN && frame.length > 1 && !this.#isOver) {
        await new Promise<void>((resolve) => {
          this.#waiting.push({ bytes: frame.subarray(1), taken: resolve })
          this.#wake()
        })
      }
      yield frame
    }
  }

  /** What the server sends and what was typed, as it comes. */
  async *beside(frames: AsyncIterable<Frame>): AsyncGenerator<Turn, void, undefined> {
    const source = frames[Symbol.asyncIterator]()
    let pending: Promise<IteratorResult<Frame>> | undefined
    try {
      for (;;) {
        const piece = this.#waiting.shift()
        if (piece !== undefined) {
          yield { kind: 'typed', bytes: piece.bytes }
          piece.taken()
          continue
        }
        pending ??= source.next()
        const isTyped = new Promise<undefined>((resolve) => (this.#wake = () => resolve(undefined)))
        const next = await Promise.race([pending, isTyped])
        if (next === undefined) continue
        pending = undefined
        if (next.done === true) return
        yield { kind: 'frame', frame: next.value }
      }
    } finally {
      pending?.catch(() => undefined)
    }
  }

  end(): void {
    this.#isOver = true
    for (const { taken } of this.#waiting.splice(0)) taken()
  }
}
