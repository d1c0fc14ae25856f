import type { Cell, Chunk } from '../src/core/chunk.ts'

type Head = Extract<Chunk, { kind: 'head' }>

/** One result that is read in several answers. Whoever made it closes it, unless it was read to its end. */
export class PagedResult {
  /** How the result began; known once the first chunk was read. */
  head: Head | undefined
  readonly #chunks: AsyncIterator<Chunk>
  #left: readonly (readonly Cell[])[] = []

  constructor(chunks: AsyncIterable<Chunk>) {
    this.#chunks = chunks[Symbol.asyncIterator]()
  }

  /** Whether leaving it unread for a while neither undoes nor holds back anything: its statement only reads. */
  get canPause(): boolean {
    return this.head?.attributes?.['paging'] === 'true'
  }

  /** The next piece, or `undefined` at the end. @throws whatever ends the call. */
  async next(): Promise<Chunk | undefined> {
    if (this.#left.length > 0) {
      const rows = this.#left
      this.#left = []
      return { kind: 'data', channel: 'rows', rows }
    }
    const { done, value } = await this.#chunks.next()
    if (done === true) return undefined
    if (value.kind === 'head') this.head = value
    return value
  }

  /** The whole of it, for tools whose answers are never read in pieces; leaving the loop ends the call. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Chunk, void, undefined> {
    try {
      for (let chunk = await this.next(); chunk !== undefined; chunk = await this.next()) yield chunk
    } finally {
      await this.close()
    }
  }

  /** Gives back rows that were read and not used. */
  unread(rows: readonly (readonly Cell[])[]): void {
    this.#left = rows
  }

  /** Ends the call behind it. */
  async close(): Promise<void> {
    this.#left = []
    await this.#chunks.return?.()
  }

  /** Reads to the end and throws everything away: for a call that is being stopped and says why by its error. */
  async drain(): Promise<void> {
    this.#left = []
    while ((await this.#chunks.next()).done !== true);
  }
}
