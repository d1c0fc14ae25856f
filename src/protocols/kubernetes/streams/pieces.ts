import type { SallyportError } from '../../../core/errors.ts'

/** Bytes that may wait before whoever sends them has to. */
const WAITING_BYTES_MAX = 256 * 1024

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
  #wakeWriter: () => void = () => undefined

  /** Whether nothing more will be pushed. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** Resolves when there is room for more. */
  async push(bytes: Uint8Array): Promise<void> {
    if (this.#isOver || this.#isLeft) return
    this.#waiting.push(bytes)
    this.#bytes += bytes.length
    this.#wakeReader()
    while (this.#bytes > WAITING_BYTES_MAX && !this.#isOver && !this.#isLeft) {
      await new Promise<void>((resolve) => (this.#wakeWriter = resolve))
    }
  }

  end(): void {
    this.#isOver = true
    this.#wakeReader()
    this.#wakeWriter()
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
          this.#bytes -= next.length
          this.#wakeWriter()
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
      this.#wakeWriter()
    }
  }
}
