import type { SallyportError } from '../../../core/errors.ts'
import type { SpdyHeaders } from './spdy-headers.ts'
import { Pieces } from './pieces.ts'

/** What a stream needs of its connection. */
interface Carrier {
  data(bytes: Uint8Array, isLast: boolean): Promise<void>
  reset(): Promise<void>
  closed(): void
}

/** How the wait for the other side's answer ends. */
interface Settle {
  readonly accept: () => void
  readonly fail: (error: SallyportError) => void
}

const NOTHING = Buffer.alloc(0)

/** Longest piece that is sent as one frame. */
const FRAME_BYTES_MAX = 64 * 1024

/** One stream of a SPDY connection: bytes in both directions, each of which ends by itself. */
export class SpdyStream {
  readonly id: number
  readonly headers: SpdyHeaders
  /** What the other side sends. */
  readonly received = new Pieces()
  /** Resolves once the other side took the stream. */
  readonly accepted: Promise<void>
  readonly #carrier: Carrier
  readonly #settle: Settle
  #hasEnded = false
  #failed: SallyportError | undefined

  constructor(id: number, headers: SpdyHeaders, carrier: Carrier) {
    this.id = id
    this.headers = headers
    this.#carrier = carrier
    let settle: Settle | undefined
    this.accepted = new Promise<void>((accept, fail) => (settle = { accept, fail }))
    // Nobody waits for a stream of the other side.
    this.accepted.catch(() => undefined)
    this.#settle = settle ?? { accept: () => undefined, fail: () => undefined }
  }

  /** Sends bytes; resolves when the socket takes more. @throws SallyportError `ERR_UPSTREAM_LOST` */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += FRAME_BYTES_MAX) {
      if (this.#failed !== undefined) throw this.#failed
      if (this.#hasEnded) return
      await this.#carrier.data(bytes.subarray(at, at + FRAME_BYTES_MAX), false)
    }
  }

  /** Ends our half. */
  async end(): Promise<void> {
    if (this.#hasEnded || this.#failed !== undefined) return
    this.#hasEnded = true
    await this.#carrier.data(NOTHING, true)
    if (this.received.isOver) this.#carrier.closed()
  }

  /** Gives up both halves. */
  async reset(): Promise<void> {
    this.#hasEnded = true
    this.received.end()
    this.#carrier.closed()
    await this.#carrier.reset()
  }

  accept(): void {
    this.#settle.accept()
  }

  async receive(bytes: Buffer): Promise<void> {
    await this.received.push(bytes)
  }

  receiveEnd(): void {
    this.received.end()
    if (this.#hasEnded) this.#carrier.closed()
  }

  fail(error: SallyportError): void {
    this.#failed ??= error
    this.#settle.fail(error)
    this.received.fail(error)
  }
}
