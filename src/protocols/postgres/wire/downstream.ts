/**
 * A client's connection once its first packets were read: messages one way, bytes the other, both held back when the
 * other side does not keep up.
 *
 * @packageDocumentation
 */
import type { Socket } from 'node:net'
import { FrontendReader, type FrontendMessage } from '../messages/frontend.ts'

/** With this much waiting to be read, the client is not read from until somebody asks. */
const WAITING_BYTES_MAX = 256 * 1024
/** With this much gathered, it is written. */
const GATHERED_BYTES_MAX = 32 * 1024
/** So long a client has for the last words, in milliseconds: whoever reads nothing more would keep its socket for good. */
const LAST_WORDS_MS = 10_000

/** One client. Whoever opened it closes it. */
export class Downstream {
  readonly socket: Socket
  readonly #reader = new FrontendReader()
  readonly #gone = new AbortController()
  readonly #lastWordsMs: number
  readonly #hurried = new AbortController()
  #wake: (() => void) | undefined
  #out: Buffer[] = []
  #outBytes = 0
  #isPaused = false
  #isInterrupted = false

  constructor(socket: Socket, rest: Buffer = Buffer.alloc(0), lastWordsMs = LAST_WORDS_MS) {
    this.socket = socket
    this.#lastWordsMs = lastWordsMs
    this.#reader.push(rest)
    socket.setNoDelay(true)
    socket.on('data', (piece: Buffer) => {
      this.#reader.push(piece)
      this.#awake()
      if (this.#reader.waiting > WAITING_BYTES_MAX && this.#wake === undefined) {
        this.#isPaused = true
        socket.pause()
      }
    })
    socket.on('error', () => this.#leave())
    socket.on('end', () => this.#leave())
    socket.on('close', () => this.#leave())
    socket.resume()
  }

  /** Aborts when the client is gone. */
  get gone(): AbortSignal {
    return this.#gone.signal
  }

  /** The next message, if it is there. @throws SallyportError for bytes that are none. */
  now(): FrontendMessage | undefined {
    return this.#reader.next()
  }

  /**
   * Waits for the next message; `undefined` once the client is gone.
   *
   * @param isInterruptible whether {@link interrupt} ends the wait too.
   */
  async next(isInterruptible = false): Promise<FrontendMessage | undefined> {
    for (;;) {
      const message = this.#reader.next()
      if (message !== undefined) return message
      if (this.#gone.signal.aborted) return undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        if (!this.#isPaused) return
        this.#isPaused = false
        this.socket.resume()
      })
      if (isInterruptible && this.#isInterrupted) {
        this.#isInterrupted = false
        return this.#reader.next()
      }
    }
  }

  /** Whether the next message is there and of this kind. */
  isNext(letter: string): boolean {
    return this.#reader.peek() === letter
  }

  /** Ends the wait of {@link next} without a message. */
  interrupt(): void {
    this.#isInterrupted = true
    this.#awake()
  }

  /** Gathers bytes for the client; they leave with {@link flush}, or when there are many. */
  write(bytes: Uint8Array): void {
    this.#out.push(bytes as Buffer)
    this.#outBytes += bytes.length
  }

  /** Whether enough is gathered to be worth a write. */
  get isFull(): boolean {
    return this.#outBytes >= GATHERED_BYTES_MAX
  }

  /** Writes what was gathered. Resolves at once unless the client does not read. */
  flush(): Promise<void> | undefined {
    if (this.#outBytes === 0 || this.#gone.signal.aborted) return undefined
    const out = this.#out
    const [only] = out
    this.#out = []
    this.#outBytes = 0
    const isTaken = this.socket.write(out.length === 1 && only !== undefined ? only : Buffer.concat(out))
    return isTaken ? undefined : this.#drained()
  }

  /** Waits no more, now or later, for a client that does not read: its session is to end. */
  stopWaiting(): void {
    this.#hurried.abort()
  }

  /** Writes what was gathered and closes, at the latest when the client has not read the last words for long. */
  end(): void {
    this.stopWaiting()
    void this.flush()
    const { socket } = this
    if (socket.writableLength > 0) {
      const late = setTimeout(() => socket.destroy(), this.#lastWordsMs).unref()
      socket.once('close', () => clearTimeout(late))
    }
    socket.destroySoon()
    this.#leave()
  }

  #drained(): Promise<void> | undefined {
    const ends = [this.#gone.signal, this.#hurried.signal]
    if (ends.some((signal) => signal.aborted)) return undefined
    return new Promise((resolve) => {
      const done = (): void => {
        this.socket.off('drain', done)
        for (const signal of ends) signal.removeEventListener('abort', done)
        resolve()
      }
      this.socket.on('drain', done)
      for (const signal of ends) signal.addEventListener('abort', done)
    })
  }

  #awake(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  #leave(): void {
    if (!this.#gone.signal.aborted) this.#gone.abort()
    this.#awake()
  }
}
