import { SallyportError } from '../core/errors.ts'
import type { Disk } from './disk.ts'
import { recordingFailed, writeAll, writeAllLater } from './disk.ts'

/** What one appended piece wants to know. */
export interface AppendOptions {
  /** Whether the promise waits until the bytes are on the device, not only with the kernel. */
  readonly sync?: boolean
  /** Told in file order, as soon as the write is complete; `offset` is where the piece begins. */
  readonly onWritten?: (offset: number) => void
  /** Told instead when the piece is not in the file. */
  readonly onLost?: (error: SallyportError) => void
}

interface Piece extends AppendOptions {
  readonly bytes: Uint8Array
  readonly resolve: () => void
  readonly reject: (error: SallyportError) => void
}

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: SallyportError) => void
}

/**
 * Below this, writing on the event loop costs less than a thread hand-over: the page cache takes it in microseconds.
 */
const WRITE_NOW_BYTES_MAX = 128 * 1024

/** A write slower than this sends the next ones to the thread pool, so that a busy disk does not stop every door. */
const SLOW_WRITE_MS = 20
const SLOW_FOR_MS = 1_000

/** What may wait for a disk that does not keep up. */
const QUEUE_BYTES_MAX = 64 * 1024 * 1024

/**
 * A file that only grows, by whole pieces.
 *
 * A piece that nothing stands before is written at once; pieces that are to be on the device share one write with others of
 * their turn of the event loop, and one fdatasync. After a failed write the file is
 * cut back to the last complete piece and everything queued is refused: pieces are chained, and a later one without the
 * earlier makes no sense. When even the cut fails, the file is dead and its owner must go on in another one.
 */
export class AppendFile {
  readonly #disk: Disk
  readonly #fd: number
  readonly #onRollback: () => void
  #queue: Piece[] = []
  #queueBytes = 0
  #length: number
  #isDead = false
  #isClosed = false
  #isScheduled = false
  #writing: Promise<void> | undefined
  #syncing: Promise<void> | undefined
  #unsynced: Waiter[] = []
  #isDirty = false
  #slowUntil = 0

  /** @param onRollback told before the queued pieces are refused, so that a chain can go back to its last good link. */
  constructor(disk: Disk, fd: number, onRollback: () => void) {
    this.#disk = disk
    this.#fd = fd
    this.#length = disk.size(fd)
    this.#onRollback = onRollback
  }

  /** Bytes that are certainly in the file. */
  get length(): number {
    return this.#length
  }

  /** Offset at which the next piece will begin, if nothing fails before. */
  get next(): number {
    return this.#length + this.#queueBytes
  }

  get isDead(): boolean {
    return this.#isDead
  }

  /**
   * Appends one piece. Returns nothing when it is in the file already, which is the usual case; else resolves when it is.
   *
   * @throws SallyportError `ERR_RECORDING_FAILED`, as a rejection.
   */
  append(bytes: Uint8Array, options: AppendOptions = {}): Promise<void> | undefined {
    const isOver = this.#isDead || this.#isClosed
    if (isOver || this.#queueBytes + bytes.length > QUEUE_BYTES_MAX) {
      const error = isOver ? brokenFile() : notKeepingUp()
      options.onLost?.(error)
      return Promise.reject(error)
    }
    if (options.sync !== true && this.#canWriteNow(bytes.length)) return this.#writeNow(bytes, options)
    return new Promise((resolve, reject) => {
      this.#queue.push({ ...options, bytes, resolve, reject })
      this.#queueBytes += bytes.length
      this.#schedule()
    })
  }

  /** Whether nothing has to come before, and the page cache is likely to take it at once. */
  #canWriteNow(length: number): boolean {
    return (
      this.#queue.length === 0 &&
      this.#writing === undefined &&
      length <= WRITE_NOW_BYTES_MAX &&
      (this.#slowUntil === 0 || performance.now() >= this.#slowUntil)
    )
  }

  /** One piece by itself: to queue it until the end of the turn costs more than to write it. */
  #writeNow(bytes: Uint8Array, { onWritten, onLost }: AppendOptions): Promise<void> | undefined {
    const startedAt = performance.now()
    try {
      writeAll(this.#disk, this.#fd, bytes)
    } catch (error) {
      const failure = recordingFailed(error)
      this.#cutBack()
      this.#onRollback()
      onLost?.(failure)
      return Promise.reject(failure)
    }
    this.#noteSpeed(startedAt)
    const offset = this.#length
    this.#length += bytes.length
    this.#isDirty = true
    onWritten?.(offset)
    return undefined
  }

  #noteSpeed(startedAt: number): void {
    const endedAt = performance.now()
    if (endedAt - startedAt > SLOW_WRITE_MS) this.#slowUntil = endedAt + SLOW_FOR_MS
    else if (endedAt >= this.#slowUntil) this.#slowUntil = 0
  }

  #cutBack(): void {
    try {
      this.#disk.truncate(this.#fd, this.#length)
    } catch {
      this.#isDead = true
    }
  }

  /** Makes everything written so far durable, unless it already is. */
  async sync(): Promise<void> {
    await this.#drained()
    if (this.#isDead || this.#isClosed || (!this.#isDirty && this.#syncing === undefined)) return
    await new Promise<void>((resolve, reject) => {
      this.#unsynced.push({ resolve, reject })
      this.#startSync()
    })
  }

  /** Writes what is queued and closes the descriptor. Safe to call twice. */
  async close(): Promise<void> {
    await this.#drained()
    if (this.#isClosed) return
    this.#isClosed = true
    while (this.#syncing !== undefined) await this.#syncing
    this.#disk.close(this.#fd)
  }

  async #drained(): Promise<void> {
    while (this.#queue.length > 0 || this.#writing !== undefined) {
      if (this.#writing === undefined) this.#flush()
      else await this.#writing
    }
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    // After the turn's callbacks: all entries they made share the write.
    setImmediate(() => {
      this.#isScheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    if (this.#writing !== undefined || this.#queue.length === 0) return
    const batch = this.#queue
    this.#queue = []
    const bytes =
      batch.length === 1 && batch[0] !== undefined ? batch[0].bytes : Buffer.concat(batch.map((piece) => piece.bytes))
    const startedAt = performance.now()
    if (bytes.length > WRITE_NOW_BYTES_MAX || startedAt < this.#slowUntil) {
      this.#writing = this.#writeLater(batch, bytes)
      return
    }
    try {
      writeAll(this.#disk, this.#fd, bytes)
    } catch (error) {
      this.#rollBack(batch, error)
      return
    }
    this.#noteSpeed(startedAt)
    this.#written(batch, bytes.length)
  }

  async #writeLater(batch: readonly Piece[], bytes: Uint8Array): Promise<void> {
    try {
      await writeAllLater(this.#disk, this.#fd, bytes)
    } catch (error) {
      this.#writing = undefined
      this.#rollBack(batch, error)
      return
    }
    this.#writing = undefined
    this.#written(batch, bytes.length)
    if (this.#queue.length > 0) this.#schedule()
  }

  #written(batch: readonly Piece[], bytes: number): void {
    if (this.#isDead) {
      // A sync failed meanwhile and the owner may already go on in another file, from before this batch.
      this.#refuse(batch, brokenFile())
      return
    }
    let offset = this.#length
    this.#length += bytes
    this.#queueBytes -= bytes
    this.#isDirty = true
    for (const piece of batch) {
      piece.onWritten?.(offset)
      offset += piece.bytes.length
      if (piece.sync === true) this.#unsynced.push(piece)
      else piece.resolve()
    }
    if (this.#unsynced.length > 0) this.#startSync()
  }

  /** Group commit: whoever arrives while one fdatasync runs shares the next. */
  #startSync(): void {
    if (this.#syncing !== undefined || this.#unsynced.length === 0) return
    const waiters = this.#unsynced
    this.#unsynced = []
    this.#isDirty = false
    this.#syncing = this.#sync(waiters)
  }

  async #sync(waiters: readonly Waiter[]): Promise<void> {
    try {
      await this.#disk.sync(this.#fd)
    } catch (error) {
      // After a failed fsync the kernel forgets which pages were dirty: a second try would succeed and mean nothing.
      this.#syncing = undefined
      this.#isDead = true
      const failure = recordingFailed(error)
      const late = this.#unsynced
      this.#unsynced = []
      this.#refuse(this.#takeQueue(), failure)
      for (const { reject } of [...waiters, ...late]) reject(failure)
      return
    }
    this.#syncing = undefined
    for (const { resolve } of waiters) resolve()
    this.#startSync()
  }

  #rollBack(batch: readonly Piece[], error: unknown): void {
    const lost = [...batch, ...this.#takeQueue()]
    this.#cutBack()
    this.#refuse(lost, recordingFailed(error))
  }

  #takeQueue(): Piece[] {
    const queue = this.#queue
    this.#queue = []
    this.#queueBytes = 0
    return queue
  }

  #refuse(pieces: readonly Piece[], error: SallyportError): void {
    this.#onRollback()
    for (const piece of pieces) piece.onLost?.(error)
    for (const piece of pieces) piece.reject(error)
  }
}

function notKeepingUp(): SallyportError {
  return new SallyportError(
    'ERR_RECORDING_FAILED',
    'The disk that holds the recordings does not keep up. Give it a faster one, or record less (`record: digest`).',
  )
}

function brokenFile(): SallyportError {
  return new SallyportError('ERR_RECORDING_FAILED', 'A recording file could not be repaired; open a new session.')
}
