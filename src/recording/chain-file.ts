import { SallyportError } from '../core/errors.ts'
import { AppendFile } from './append-file.ts'
import type { Disk } from './disk.ts'
import { errnoOf, recordingFailed } from './disk.ts'
import { attachSignature, hashOf, LINE_BYTES_MAX, NO_PREVIOUS, spellLine } from './format.ts'
import type { EntryType, Head } from './format.ts'
import type { Signer } from './keys.ts'

/** How one entry is written. */
export interface EntryOptions {
  /** Whether the promise waits for the device. */
  readonly sync?: boolean
  /** Whether an entry that could not be written is kept and written as soon as writing works again. */
  readonly isOwed?: boolean
  /** Whether the line carries a signature. */
  readonly isSigned?: boolean
}

/** A point of a chain from which another file goes on. */
export interface Continuation {
  readonly head: { readonly seq: number; readonly hash: string }
  readonly owed: readonly OwedEntry[]
  readonly failure: WriteFailure | undefined
}

interface OwedEntry {
  readonly type: EntryType
  readonly at: string
  readonly body: object | string
}

/** What went wrong since the last entry that was written. */
interface WriteFailure {
  readonly since: string
  readonly error: string
  /** Entries that were refused and are in no file. */
  readonly refused: number
}

/** End entries kept in memory while the disk is full; beyond that they are counted. */
const OWED_MAX = 10_000

/**
 * A file of chained entries.
 *
 * The chain is computed when an entry is queued, so that entries of one turn can share a write. When a write fails, the
 * chain goes back to the last line that is certainly in the file; the next entry is then preceded by a `gap` that says
 * what happened, and by the entries that were owed.
 */
export class ChainFile {
  readonly name: string
  readonly #file: AppendFile
  readonly #signer: Signer
  readonly #now: () => number
  #seq: number
  #prev: string
  #good: { seq: number; hash: string }
  #owed: OwedEntry[] = []
  #failure: WriteFailure | undefined
  #isEmpty: boolean
  #atMs = -1
  #at = ''

  /** @param from where the chain goes on: after recovery in the same file, after a broken file in a new one. */
  constructor(options: {
    readonly disk: Disk
    readonly fd: number
    readonly name: string
    readonly signer: Signer
    readonly now: () => number
    readonly isNew: boolean
    readonly from?: Continuation
  }) {
    this.name = options.name
    this.#isEmpty = options.isNew
    this.#signer = options.signer
    this.#now = options.now
    this.#good = options.from?.head ?? { seq: -1, hash: NO_PREVIOUS }
    this.#seq = this.#good.seq + 1
    this.#prev = this.#good.hash
    this.#owed = [...(options.from?.owed ?? [])]
    this.#failure = options.from?.failure
    this.#file = new AppendFile(options.disk, options.fd, () => {
      this.#seq = this.#good.seq + 1
      this.#prev = this.#good.hash
    })
  }

  /** The last line that is certainly in the file. */
  get head(): Head {
    return { file: this.name, ...this.#good }
  }

  get isDead(): boolean {
    return this.#file.isDead
  }

  /** Whether something could not be written and nothing was since. */
  get hasFailed(): boolean {
    return this.#failure !== undefined
  }

  /** What another file needs in order to go on from here. */
  get continuation(): Continuation {
    return { head: this.#good, owed: this.#owed, failure: this.#failure }
  }

  /** Appends one entry; see {@link AppendFile.append}. @throws SallyportError `ERR_RECORDING_FAILED`. */
  append(type: EntryType, body: object | string, options: EntryOptions = {}): Promise<void> | undefined {
    const at = this.timestamp()
    if (this.#failure !== undefined && options.isOwed === true) {
      // It will be written with the others; trying for each would write all of them again and again.
      const error = recordingFailed(Object.assign(new Error('an earlier write failed'), { code: this.#failure.error }))
      this.#owe({ type, at, body }, error)
      return Promise.reject(error)
    }
    this.#settle()
    return this.#enqueue(type, at, body, options)
  }

  /** Writes what is owed from an earlier failure, if anything is. */
  async settle(): Promise<void> {
    if (this.#failure === undefined) return
    await this.append('notice', { text: 'Writing works again.' })
  }

  async sync(): Promise<void> {
    await this.#file.sync()
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  /** The time now, RFC 3339 in UTC with milliseconds. */
  timestamp(): string {
    const now = this.#now()
    if (now !== this.#atMs) {
      this.#atMs = now
      this.#at = new Date(now).toISOString()
    }
    return this.#at
  }

  #settle(): void {
    const failure = this.#failure
    // The first line of a file is its header; the gap comes after it.
    if (failure === undefined || this.#isEmpty || this.#file.isDead) return
    this.#failure = undefined
    const owed = this.#owed
    this.#owed = []
    const gap = { reason: 'write_failed', error: failure.error, since: failure.since, refused: failure.refused }
    this.#enqueue('gap', this.timestamp(), gap, {}, () => this.#noteFailure(failure))?.catch(ignore)
    for (const { type, at, body } of owed) this.#enqueue(type, at, body, { isOwed: true })?.catch(ignore)
  }

  #enqueue(
    type: EntryType,
    at: string,
    body: object | string,
    options: EntryOptions,
    onLost = (error: SallyportError): void => {
      if (options.isOwed === true) this.#owe({ type, at, body }, error)
      else this.#noteFailure({ since: at, error: errnoOf(error), refused: 1 })
    },
  ): Promise<void> | undefined {
    const seq = this.#seq
    let line = spellLine(seq, at, type, this.#prev, body)
    if (options.isSigned === true) line = attachSignature(line, this.#signer.sign(line))
    const bytes = Buffer.from(`${line}\n`)
    if (bytes.length > LINE_BYTES_MAX) return Promise.reject(tooLarge())
    const hash = hashOf(bytes)
    this.#seq = seq + 1
    this.#prev = hash
    this.#isEmpty = false
    return this.#file.append(bytes, {
      ...(options.sync === true && { sync: true }),
      onWritten: () => {
        this.#good = { seq, hash }
      },
      onLost,
    })
  }

  #owe(entry: OwedEntry, error: SallyportError): void {
    const isKept = this.#owed.length < OWED_MAX
    if (isKept) this.#owed.push(entry)
    this.#noteFailure({ since: entry.at, error: errnoOf(error), refused: isKept ? 0 : 1 })
  }

  #noteFailure(failure: WriteFailure): void {
    const refused = (this.#failure?.refused ?? 0) + failure.refused
    this.#failure = { ...(this.#failure ?? failure), refused }
  }
}

function tooLarge(): SallyportError {
  const limit = `${LINE_BYTES_MAX / 1024 / 1024} MiB`
  return new SallyportError(
    'ERR_TOO_LARGE',
    `The request is larger than the ${limit} an entry of the recording may have.`,
  )
}

function ignore(): void {
  // `onLost` was told: the entry is owed again, and the gap will be made anew.
}
