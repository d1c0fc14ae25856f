import type { Call } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { placed } from './connector-sftp.ts'
import { joined } from './library-bulk.ts'

/** Starts the call an open file is. */
export type Start = (more: Partial<Call>) => AsyncIterable<Chunk>

/** A file a client has open at the door. */
export type OpenFile = ReadFile | WriteFile

/** Most bytes of one answer. */
const READ_MAX = 256 * 1024
/** Most bytes of writes that are sent on together. */
const BATCH_BYTES = 512 * 1024
/** Most bytes of writes that may wait; a client that keeps to its window has less. */
const UNWRITTEN_MAX = 8 * 1024 * 1024

/** A file that is read from front to back, as its content passes the masks and the recording. */
export class ReadFile {
  readonly kind = 'read'
  readonly path: string
  readonly #chunks: AsyncIterator<Chunk>
  readonly #held: Buffer[] = []
  #heldBytes = 0
  #position = 0
  #isOver = false
  #isCut = false
  #isClosed = false
  #isBegun = false
  #failure: Error | undefined
  #turn: Promise<unknown> = Promise.resolve()

  constructor(path: string, start: Start) {
    this.path = path
    const stopped = (): 'done' | 'abandoned' => (this.#isClosed ? 'done' : 'abandoned')
    this.#chunks = start({ stopped })[Symbol.asyncIterator]()
  }

  /** Resolves when the target has opened it. */
  opened(): Promise<void> {
    return this.#next(async () => {
      while (!this.#isBegun && !this.#isOver) await this.#pull()
      if (!this.#isBegun) throw this.#failure ?? new TargetRefused('FAILURE')
    })
  }

  /** Returns what stands at an offset, or `undefined` at the end. */
  read(offset: number, length: number): Promise<Buffer | undefined> {
    return this.#next(async () => {
      if (offset < this.#position) throw backwards()
      while (this.#position < offset && (await this.#has(1))) this.#take(offset - this.#position)
      const wanted = Math.min(length, READ_MAX)
      await this.#has(wanted)
      const bytes = this.#take(wanted)
      if (bytes.length > 0 || length === 0) return bytes
      if (this.#failure !== undefined) throw this.#failure
      // Fail closed: a file that was cut must not look like a shorter one.
      if (this.#isCut) throw new SallyportError('ERR_TOO_LARGE', 'The file was cut at the limit the policy sets.')
      return undefined
    })
  }

  close(): Promise<void> {
    this.#isClosed = true
    return this.#next(async () => {
      await this.#chunks.return?.()
    })
  }

  leave(): void {
    this.#next(async () => this.#chunks.return?.()).catch(() => undefined)
  }

  /** One after the other: two readers of one iterator would take from each other. */
  #next<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(run)
    this.#turn = result.catch(() => undefined)
    return result
  }

  async #has(bytes: number): Promise<boolean> {
    while (this.#heldBytes < bytes && !this.#isOver) await this.#pull()
    return this.#heldBytes > 0
  }

  async #pull(): Promise<void> {
    const next = await this.#chunks.next()
    if (next.done === true) {
      this.#isOver = true
      return
    }
    const chunk = next.value
    this.#isBegun ||= chunk.kind === 'head'
    if (chunk.kind === 'data' && chunk.channel === 'body') {
      const { bytes } = chunk
      this.#held.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
      this.#heldBytes += chunk.bytes.length
    }
    if (chunk.kind !== 'exit') return
    this.#isOver = true
    this.#isCut = chunk.truncated
    if (chunk.status !== 'OK') this.#failure = new TargetRefused(chunk.status)
    // The call ends with its last chunk; nobody need come back for that.
    await this.#chunks.next()
  }

  #take(max: number): Buffer {
    const pieces: Buffer[] = []
    let left = max
    while (left > 0) {
      const [first] = this.#held
      if (first === undefined) break
      const piece = first.subarray(0, left)
      if (piece.length === first.length) this.#held.shift()
      else this.#held[0] = first.subarray(piece.length)
      left -= piece.length
      pieces.push(piece)
    }
    const [only] = pieces
    const bytes = pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces)
    this.#heldBytes -= bytes.length
    this.#position += bytes.length
    return bytes
  }
}

/** The target said no; the status is its own. */
export class TargetRefused extends Error {
  readonly status: string

  constructor(status: string) {
    super('')
    this.status = status
  }
}

function backwards(): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', 'Through this door a file is read from front to back; open it again.')
}

interface Waiting {
  readonly offset: number
  readonly data: Buffer
  readonly done: () => void
  readonly fail: (error: Error) => void
}

/** A file that is written: what the client sends is the input of the call. */
export class WriteFile {
  readonly kind = 'write'
  readonly path: string
  readonly #waiting: Waiting[] = []
  /** What the call has taken and the target has not written yet. */
  readonly #taken = new Set<readonly Waiting[]>()
  readonly #ended: Promise<void>
  readonly #opened: Promise<void>
  #bytes = 0
  #isClosed = false
  #isLeft = false
  #failure: Error | undefined
  #wake: () => void = () => undefined
  readonly #onWritten: () => void

  /** @param onWritten told before several writes are answered one after the other. */
  constructor(path: string, start: Start, onWritten: () => void) {
    this.path = path
    this.#onWritten = onWritten
    let tell: () => void = () => undefined
    this.#opened = new Promise((resolve) => (tell = resolve))
    this.#ended = this.#run(start({ input: this.#input() }), tell)
  }

  /** Resolves when the target has opened it. */
  async opened(): Promise<void> {
    await Promise.race([this.#opened, this.#ended])
    if (this.#failure !== undefined) throw this.#failure
  }

  /** Resolves when the target has written it. */
  write(offset: number, data: Buffer): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#isClosed) return Promise.reject(new TargetRefused('FAILURE'))
    this.#bytes += data.length
    if (this.#bytes > UNWRITTEN_MAX) {
      return Promise.reject(new SallyportError('ERR_TOO_LARGE', 'More writes wait than this door keeps.'))
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ offset, data, done: resolve, fail: reject })
      this.#wake()
    })
  }

  /** Resolves when everything is written and the target has closed the file. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#wake()
    await this.#ended
    if (this.#failure !== undefined) throw this.#failure
  }

  /** The client went away: what it had not sent is missing, so the call does not end well. */
  leave(): void {
    this.#isLeft = true
    this.#wake()
  }

  async #run(chunks: AsyncIterable<Chunk>, tell: () => void): Promise<void> {
    try {
      for await (const chunk of chunks) {
        if (chunk.kind === 'head') tell()
        if (chunk.kind === 'exit' && chunk.status !== 'OK') throw new TargetRefused(chunk.status)
      }
    } catch (error) {
      this.#failure = error instanceof TargetRefused ? error : SallyportError.from(error)
    } finally {
      const error = this.#failure ?? new TargetRefused('FAILURE')
      for (const { fail } of [...[...this.#taken].flat(), ...this.#waiting.splice(0)]) fail(error)
      this.#taken.clear()
    }
  }

  /** Pieces with their place in the file; each is answered when the target has written it. */
  async *#input(): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      if (this.#isLeft) throw new SallyportError('ERR_CANCELLED', 'The client went away.')
      const [first] = this.#waiting
      if (first === undefined) {
        if (this.#isClosed) return
        await new Promise<void>((resolve) => (this.#wake = resolve))
        continue
      }
      const batch = this.#batch()
      const data = batch.map((each) => each.data)
      const written = (): void => {
        this.#taken.delete(batch)
        this.#onWritten()
        for (const each of batch) {
          this.#bytes -= each.data.length
          each.done()
        }
      }
      this.#taken.add(batch)
      yield placed(joined(data), { at: first.offset, written })
    }
  }

  /** What lies one behind the other. */
  #batch(): readonly Waiting[] {
    const batch: Waiting[] = []
    let next: number | undefined
    let bytes = 0
    for (;;) {
      const [first] = this.#waiting
      if (first === undefined || (next !== undefined && first.offset !== next)) return batch
      if (bytes > 0 && bytes + first.data.length > BATCH_BYTES) return batch
      this.#waiting.shift()
      batch.push(first)
      bytes += first.data.length
      next = first.offset + first.data.length
    }
  }
}
