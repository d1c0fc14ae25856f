/** What a person at a terminal sends: keys, or a new size of the window. */
export type Typed =
  | { readonly kind: 'keys'; readonly bytes: Uint8Array }
  | { readonly kind: 'window'; readonly columns: number; readonly rows: number }

const KEYS = 0
const WINDOW = 1

/** Spells it as a piece of a call's input: one byte says what follows. */
export function writeTyped(typed: Typed): Uint8Array {
  if (typed.kind === 'keys') return Buffer.concat([Buffer.of(KEYS), typed.bytes])
  const piece = Buffer.alloc(5)
  piece.writeUInt8(WINDOW, 0)
  piece.writeUInt16BE(size(typed.columns), 1)
  piece.writeUInt16BE(size(typed.rows), 3)
  return piece
}

/** Reads a piece back. */
export function readTyped(piece: Uint8Array): Typed {
  const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.length)
  if (bytes[0] === WINDOW && bytes.length === 5) {
    return { kind: 'window', columns: bytes.readUInt16BE(1), rows: bytes.readUInt16BE(3) }
  }
  return { kind: 'keys', bytes: bytes.subarray(1) }
}

/** The most a terminal can be sensibly told; programs keep whole screens in memory. */
const SIZE_MAX = 10_000

/** A number of columns or rows as a client sends it, made sensible. */
export function size(given: number): number {
  return Math.min(Math.max(0, Math.trunc(given)), SIZE_MAX)
}

/** Keys and sizes of one client, in the order they came; only the last of several sizes that wait counts. */
export class Typing {
  #window: { readonly columns: number; readonly rows: number } | undefined
  #wake: () => void = () => undefined

  resize(columns: number, rows: number): void {
    this.#window = { columns, rows }
    this.#wake()
  }

  async *pieces(keys: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    const iterator = keys[Symbol.asyncIterator]()
    let pending: Promise<IteratorResult<Uint8Array>> | undefined
    try {
      for (;;) {
        if (this.#window !== undefined) {
          const window = this.#window
          this.#window = undefined
          yield writeTyped({ kind: 'window', ...window })
          continue
        }
        pending ??= iterator.next()
        const resized = new Promise<undefined>((resolve) => (this.#wake = () => resolve(undefined)))
        const next = await Promise.race([pending, resized])
        if (next === undefined) continue
        pending = undefined
        if (next.done === true) return
        yield writeTyped({ kind: 'keys', bytes: next.value })
      }
    } finally {
      const ended = Promise.resolve(iterator.return?.())
      if (pending === undefined) await ended
      else void Promise.allSettled([pending, ended])
    }
  }
}
