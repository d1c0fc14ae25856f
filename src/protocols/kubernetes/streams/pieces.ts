import type { SallyportError } from '../../../core/errors.ts'

/** Bytes that may wait before whoever sends them has to. */
const WAITING_BYTES_MAX = 256 * 1024
/** What a waiting piece takes besides its bytes: a sender of single bytes must not fill the memory with their wrappings. */
const PIECE_BYTES = 256

/**
 * Bytes on their way from one that pushes to one that reads, no faster than they are read. Read by one reader; one that
 * stops early lets go of what waits, and what comes later is dropped.
 */
export class Pieces implements AsyncIterable<Uint8Array> {
  #waiting: Uint8Array[] = []
  #bytes = 0
  #isOver = false
  #isLeft = false
  #failed: SallyportError | undefined
  #wakeReader: () => void = () => undefined
  /** Several channels may push at once; each of them is woken. */
  #writers: (() => void)[] = []

  /** Whether nothing more will be pushed. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** Resolves when there is room for more. */
  async push(bytes: Uint8Array): Promise<void> {
    if (this.#isOver || this.#isLeft) return
    this.#waiting.push(ownBytes(bytes))
    this.#bytes += bytes.length + PIECE_BYTES
    this.#wakeReader()
    while (this.#bytes > WAITING_BYTES_MAX && !this.#isOver && !this.#isLeft) {
      await new Promise<void>((resolve) => this.#writers.push(resolve))
    }
  }

  #wakeWriters(): void {
    for (const wake of this.#writers.splice(0)) wake()
  }

  end(): void {
    this.#isOver = true
    this.#wakeReader()
    this.#wakeWriters()
  }

  /** What waits is still read; then the reader gets the error. */
  fail(error: SallyportError): void {
    if (!this.#isOver) this.#failed = error
    this.end()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for (;;) {
        const next = this.#waiting.shift()
        if (next !== undefined) {
          this.#bytes -= next.length + PIECE_BYTES
          this.#wakeWriters()
          yield next
          continue
        }
        if (this.#failed !== undefined) throw this.#failed
        if (this.#isOver) return
        await new Promise<void>((resolve) => (this.#wakeReader = resolve))
      }
    } finally {
      this.#isLeft = true
      this.#waiting = []
      this.#wakeWriters()
    }
  }
}

/** A piece that is much smaller than the buffer it was cut from would keep all of that alive. */
function ownBytes(bytes: Uint8Array): Uint8Array {
  return bytes.length * 4 < bytes.buffer.byteLength ? new Uint8Array(bytes) : bytes
}
