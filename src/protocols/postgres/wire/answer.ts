/**
 * Reads one answer of the backend and turns it into chunks: what the client may be sent, in order, as slices of what came.
 *
 * Rows are counted against the permit's limits as they pass, descriptions are checked for masked columns (R18) before a
 * row is handed on. Whatever stops the call early (limit, leak, cancel, policy) ends the statement at the backend and
 * reads its answer to the end, because the session lives on.
 *
 * @packageDocumentation
 */
import type { Permit } from '../../../core/call.ts'
import type { Chunk } from '../../../core/chunk.ts'
import { SallyportError } from '../../../core/errors.ts'
import type { BackendMessage } from '../messages/backend.ts'
import { decodeCommandComplete, rowsOfTag } from '../messages/command-complete.ts'
import { decodeTextRow } from '../messages/data-row.ts'
import { decodeReport, encodeReport, type Report } from '../messages/report.ts'
import { decodeRowDescription, type Field } from '../messages/row-description.ts'
import type { PostgresPlan } from '../plan.ts'
import { violation } from '../messages/violation.ts'
import type { WireBackend } from './backend.ts'
import type { WireCall } from './payload.ts'
import { isUnderMasks, withheldNotice } from './reported.ts'

/** A chunk is handed on when it has this many bytes, or when nothing more is there yet. */
const CHUNK_BYTES = 64 * 1024
/** A statement that says more than this is not listened to any further. */
const NOTICES_MAX = 10_000
/** So many decoded rows are looked into together. */
const DECODED_ROWS = 500
/** DataRow, CommandComplete, PortalSuspended, EmptyQueryResponse, and the beginning of COPY: the statement has run. */
const ENDS_HOLDING = 'DCsIGH'
/** How long a stopped statement may take to end. */
const STOP_TIMEOUT_MS = 5_000

/** What an answer is read for. */
export interface Reading {
  readonly backend: WireBackend
  readonly plan: PostgresPlan
  readonly permit: Permit
  /** Takes messages for the client that stand between decoded rows; an empty piece of rows marks where. */
  readonly wire: Pick<WireCall, 'controls' | 'fields'>
  /** Tells the names of types, for detectors. */
  readonly typeName: (oid: number) => string
}

/** The answers to one call. */
export class Answer {
  /** Rows and bytes handed on so far, over all Executes. */
  rows = 0
  bytes = 0
  tag = ''
  /** The error the backend reported. */
  report: Report | undefined
  /** Set once the call was stopped; says why. */
  stopped: unknown
  /** Whether the backend has described the result. */
  isDescribed = false
  /** Set while nothing may be handed on, because all of it may have to be done once more: until a row or an end comes. */
  holdsBack = false
  readonly #reading: Reading
  /** Rows are decoded, because detectors look into them. */
  readonly #isDecoding: boolean
  readonly #rowsMax: number
  readonly #bytesMax: number
  #out: Buffer[] = []
  #outBytes = 0
  #cells: (string | null)[][] = []
  /** Chunks that are complete. */
  readonly #ready: Chunk[] = []
  #notices = 0
  #stopping: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(reading: Reading) {
    this.#reading = reading
    const { obligations } = reading.permit
    this.#isDecoding = obligations.detect.length > 0
    this.#rowsMax = obligations.rowsMax ?? Number.POSITIVE_INFINITY
    this.#bytesMax = obligations.bytesMax ?? Number.POSITIVE_INFINITY
  }

  /** The next chunk that is complete, if there is one. */
  shift(): Chunk | undefined {
    return this.#ready.shift()
  }

  /** Whether chunks are left to {@link shift}. */
  get isReady(): boolean {
    return this.#ready.length > 0
  }

  /**
   * Takes what the backend has sent, up to a message of one of `ends`, and returns that one, which goes to the client only
   * when it is {@link pass}ed on. `undefined` while chunks are to be handed on first, or when more has to come.
   */
  take(ends: string): BackendMessage | undefined {
    const { backend } = this.#reading
    backend.readsRows = this.#isDecoding
    while (this.#ready.length === 0) {
      const piece = backend.now(this.stopped === undefined ? this.#rowsMax - this.rows : undefined)
      if (piece === undefined) {
        this.flush()
        return undefined
      }
      if (piece.kind === 'rows' || ENDS_HOLDING.includes(piece.letter)) this.holdsBack = false
      if (piece.kind === 'rows') this.#takeRows(piece.bytes, piece.rows)
      else {
        this.#note(piece)
        if (ends.includes(piece.letter)) return piece
        this.pass(piece)
      }
      if (this.#outBytes >= CHUNK_BYTES) this.flush()
    }
    return undefined
  }

  /** Takes one message, if it is there; an error may come in its place. */
  expect(letter: string): string | undefined {
    const { backend } = this.#reading
    backend.readsRows = true
    const piece = backend.now()
    if (piece === undefined) return undefined
    if (piece.kind === 'message' && piece.letter === letter) return letter
    if (piece.kind === 'message' && piece.letter === 'E') {
      this.report = decodeReport('ErrorResponse', piece.body)
      return 'E'
    }
    const error = violation('last', 'of the server is not the one that comes here')
    backend.destroy(error)
    throw error
  }

  /** Adds bytes for the client behind what was read so far. */
  push(bytes: Buffer): void {
    this.#out.push(bytes)
    this.#outBytes += bytes.length
  }

  /** Adds what is for the recording alone. */
  record(chunk: Chunk): void {
    this.#ready.push(chunk)
  }

  /** Makes chunks of what was gathered. */
  flush(): void {
    if (this.stopped !== undefined) this.forget()
    if (this.holdsBack) return
    if (this.#cells.length > 0) {
      const rows = this.#cells
      this.#cells = []
      this.#ready.push({ kind: 'data', channel: 'rows', rows })
    }
    const out = this.#out
    if (out.length === 0) return
    this.#out = []
    this.#outBytes = 0
    const [only] = out
    const bytes = out.length === 1 && only !== undefined ? only : Buffer.concat(out)
    if (!this.#isDecoding) {
      this.#ready.push({ kind: 'data', channel: 'wire', bytes })
      return
    }
    this.#reading.wire.controls.push(bytes)
    this.#ready.push({ kind: 'data', channel: 'rows', rows: [] })
  }

  /** Drops what was gathered and not handed on. */
  forget(): void {
    this.#out = []
    this.#outBytes = 0
    this.#cells = []
    this.#ready.length = 0
  }

  /** Ends the statement at the backend; what it still sends is dropped. */
  stop(why: unknown): void {
    if (this.stopped !== undefined) return
    this.stopped = why
    this.forget()
    const { backend } = this.#reading
    this.#timer = setTimeout(() => backend.destroy(new Error('A stopped statement did not end.')), STOP_TIMEOUT_MS)
    this.#timer.unref()
    this.#stopping = backend.cancel()
  }

  /**
   * Resolves when a cancel request that is under way was taken: it must not hit what the client sends next. `undefined`
   * when there is none.
   */
  settled(): Promise<void> | undefined {
    if (this.#stopping === undefined) return undefined
    return this.#stopping.finally(() => clearTimeout(this.#timer))
  }

  /** Throws what stopped the call. */
  throwIfStopped(): void {
    if (this.stopped !== undefined) throw this.stopped
  }

  #takeRows(bytes: Buffer, rows: number): void {
    if (this.stopped !== undefined) return
    if (bytes.length === 0) return this.stop(tooMany('rows', this.#rowsMax))
    this.rows += rows
    this.bytes += bytes.length
    if (this.bytes > this.#bytesMax) return this.stop(tooMany('bytes', this.#bytesMax))
    this.push(bytes)
  }

  /** Takes note of what a message says. */
  #note({ letter, body }: BackendMessage): void {
    switch (letter) {
      case 'E':
        this.report = decodeReport('ErrorResponse', body)
        return
      case 'T':
        this.isDescribed = true
        this.#described(body)
        return
      case 'n':
        this.isDescribed = true
        return
      case 'C':
        this.tag = decodeCommandComplete(body)
        return
      case 'D':
        this.#count(body)
        return
      case 'W':
        // No statement that replicates is ever let through; a backend that starts it is not followed.
        this.#reading.backend.destroy(new Error('The server began to replicate.'))
        return
      default:
    }
  }

  /** Columns are only looked at where something depends on them: masked ones, and what detectors are told. */
  #described(body: Buffer): void {
    const { plan, wire } = this.#reading
    if (!this.#isDecoding && plan.tripwire.length === 0) return
    wire.fields = decodeRowDescription(body)
    if (wire.fields.some((field) => isLeak(field, plan))) this.stop(leak())
  }

  /** Hands a message on to the client. */
  pass({ letter, body, bytes }: BackendMessage): void {
    if (letter === 'E' || letter === 'Z' || this.stopped !== undefined) return
    if (!this.#isDecoding || !'DdTc'.includes(letter)) {
      this.push(bytes)
      return
    }
    if (letter === 'D') {
      // Messages stand behind the rows they are gathered with, so those that came before a row leave first.
      if (this.#outBytes > 0 || this.#cells.length >= DECODED_ROWS) this.flush()
      this.#cells.push(decodeTextRow(body))
      return
    }
    this.flush()
    if (letter === 'd') {
      this.#ready.push({ kind: 'data', channel: 'copy', bytes: body })
      return
    }
    if (letter === 'T') {
      const { typeName } = this.#reading
      const fields = decodeRowDescription(body)
      this.#ready.push({
        kind: 'head',
        columns: fields.map(({ name, typeOid }) => ({ name, type: typeName(typeOid) })),
      })
      return
    }
    // What detectors held back of COPY data comes before the message that ends it.
    this.#ready.push({ kind: 'exit', status: 'COPY', truncated: false })
    this.push(bytes)
  }

  /** What the backend says beside the result, as far as this client may hear it (C10). */
  notice(report: Report): void {
    if (this.stopped !== undefined || this.#notices >= NOTICES_MAX) return
    this.#notices++
    // Detectors read text, not messages: only what the SQLSTATE says is left for them to let through.
    const isWithheld = this.#isDecoding || isUnderMasks(this.#reading.plan)
    this.push(encodeReport('NoticeResponse', isWithheld ? withheldNotice(report) : report))
  }

  #count(body: Buffer): void {
    if (this.stopped !== undefined) return
    if (this.rows >= this.#rowsMax) return this.stop(tooMany('rows', this.#rowsMax))
    this.rows++
    this.bytes += body.length
    if (this.bytes > this.#bytesMax) this.stop(tooMany('bytes', this.#bytesMax))
  }
}

/** How a call that came to its end is written down. */
export function exitOf({ tag, rows }: Answer): Chunk {
  const rowCount = rowsOfTag(tag) ?? rows
  return { kind: 'exit', status: tag, rowCount, truncated: false }
}

/** Whether a result column is, by its origin, a masked one or a whole row that has one (R18). */
function isLeak({ tableOid, attnum }: Field, plan: PostgresPlan): boolean {
  return (
    tableOid !== 0 &&
    plan.tripwire.some((masked) => tableOid === masked.relation && (attnum === masked.attnum || attnum === 0))
  )
}

function leak(): SallyportError {
  return new SallyportError(
    'ERR_DENIED',
    'The result would have shown a masked column; it was stopped. Name the columns you need directly.',
    { facts: { construct: 'sql.mask.tripwire' } },
  )
}

/** `program_limit_exceeded`: a client that took a cut result for a whole one would compute with it. */
function tooMany(what: 'rows' | 'bytes', max: number): SallyportError {
  return new SallyportError('ERR_TOO_LARGE', `The result has more than the ${max} ${what} the policy allows.`, {
    facts: { sqlstate: '54000', hint: what === 'rows' ? `Add LIMIT ${max}.` : 'Select fewer rows or columns.' },
  })
}
