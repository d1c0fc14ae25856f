import type { Dispatcher, Pool } from 'undici'
import { SallyportError } from '../../core/errors.ts'

/** What a service answered: its head at once, its body as it is read. Whoever has one closes it. */
export interface Answered {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: AsyncIterable<Buffer>
  /** Gives up what was not read; its connection goes with it. */
  close(): void
}

/** What is read ahead of whoever reads the body; beyond it the service waits. */
const AHEAD_BYTES_MAX = 256 * 1024

/** What came in smaller pieces than this and waits already is read as one: each costs the same, however small. */
const PIECE_BYTES_MIN = 16 * 1024

/** Interim answers (RFC 9110, section 15.2) a service may send before it says something. */
const INTERIM_MAX = 16

/**
 * Sends one request on a pool's connection and waits for the head of its answer.
 *
 * @param onBegun called before its first byte is sent.
 * @throws whatever undici met; the reason of `signal`.
 */
export async function exchange(
  pool: Pool,
  request: Dispatcher.DispatchOptions,
  signal: AbortSignal,
  onBegun: () => void,
): Promise<Answered> {
  signal.throwIfAborted()
  const one = new Exchange(signal, onBegun)
  pool.dispatch(request, one)
  return one.answered
}

/** One request under way. Without streams of Node between: they cost more than a small answer does. */
class Exchange implements Dispatcher.DispatchHandler, AsyncIterableIterator<Buffer> {
  readonly answered: Promise<Answered>
  readonly #signal: AbortSignal
  readonly #onBegun: () => void
  readonly #pieces: Buffer[] = []
  #answer: (answered: Answered) => void = () => undefined
  #fail: (error: unknown) => void = () => undefined
  #bytes = 0
  #interim = 0
  #controller: Dispatcher.DispatchController | undefined
  #isEnded = false
  #error: { readonly cause: unknown } | undefined
  #wake: (() => void) | undefined

  constructor(signal: AbortSignal, onBegun: () => void) {
    this.#signal = signal
    this.#onBegun = onBegun
    this.answered = new Promise((resolve, reject) => {
      this.#answer = resolve
      this.#fail = reject
    })
    signal.addEventListener('abort', this.#abort, { once: true })
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#signal.aborted) controller.abort(this.#signal.reason as Error)
    else this.#onBegun()
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: Answered['headers']): void {
    if (status < 200) {
      if (++this.#interim > INTERIM_MAX) controller.abort(tooMuchAhead())
      return
    }
    this.#answer({ status, headers, body: this, close: () => this.#close() })
  }

  onResponseData(controller: Dispatcher.DispatchController, piece: Buffer): void {
    this.#pieces.push(piece)
    this.#bytes += piece.length
    if (this.#bytes > AHEAD_BYTES_MAX) controller.pause()
    this.#wake?.()
  }

  onResponseEnd(): void {
    this.#isEnded = true
    this.#end()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#broken(error)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<Buffer, undefined>> {
    for (;;) {
      const piece = this.#take()
      if (piece !== undefined) {
        this.#bytes -= piece.length
        if (this.#bytes <= AHEAD_BYTES_MAX / 2) this.#controller?.resume()
        return { done: false, value: piece }
      }
      if (this.#error !== undefined) throw this.#error.cause
      if (this.#isEnded) return { done: true, value: undefined }
      await new Promise<void>((resolve) => (this.#wake = resolve))
      this.#wake = undefined
    }
  }

  /** The next piece, with those behind it as long as all are small. */
  #take(): Buffer | undefined {
    const [first, second] = this.#pieces
    if (first === undefined || second === undefined || first.length >= PIECE_BYTES_MIN) return this.#pieces.shift()
    const count = this.#pieces.findIndex(({ length }) => length >= PIECE_BYTES_MIN)
    return Buffer.concat(this.#pieces.splice(0, count < 0 ? this.#pieces.length : count))
  }

  async return(): Promise<IteratorResult<Buffer, undefined>> {
    this.#close()
    return { done: true, value: undefined }
  }

  readonly #abort = (): void => {
    this.#controller?.abort(this.#signal.reason as Error)
    // A request that waits for a connection has no controller yet; nobody waits with it.
    this.#broken(this.#signal.reason)
  }

  #close(): void {
    if (!this.#isEnded && this.#error === undefined) this.#controller?.abort(new Error('The answer is not read on.'))
    this.#pieces.length = 0
    this.#end()
  }

  #broken(cause: unknown): void {
    if (this.#error !== undefined || this.#isEnded) return
    this.#error = { cause }
    this.#fail(cause)
    this.#end()
  }

  #end(): void {
    this.#signal.removeEventListener('abort', this.#abort)
    this.#wake?.()
  }
}

function tooMuchAhead(): SallyportError {
  return new SallyportError('ERR_UPSTREAM_REJECTED', 'The service sends interim answers and no answer.')
}
