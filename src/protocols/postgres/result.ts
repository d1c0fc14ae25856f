import type { FieldDef } from 'pg'
import type { Cell, Column } from '../../core/chunk.ts'
import type { PostgresPlan } from './plan-types.ts'

/** How much of a result may be shown. */
export interface ResultLimits {
  readonly rowsMax: number
  readonly bytesMax: number
}

/** A chunk is handed on when it has this many bytes, or when the result ends. */
const CHUNK_BYTES = 32 * 1024
/** With this much waiting to be taken, the backend is not read from. */
const BUFFER_BYTES_MAX = 256 * 1024
/** After a cut this much is read and dropped before the backend is told to stop. */
const DROPPED_BYTES_MAX = 1024 ** 2

/** What a result buffer does to the connection it is fed from. */
export interface Feed {
  pause(): void
  resume(): void
  /** Called once, when nothing more of a cut result is of use. */
  stop(): void
}

/**
 * Rows between the backend, which sends, and the consumer, who pulls. Holds back the rows the limits cut, and the
 * backend when the consumer is slow.
 */
export class ResultBuffer {
  truncatedBy: 'rows' | 'bytes' | undefined
  /** Rows handed on or waiting. */
  rowCount = 0
  /** Bytes of the rows handed on or waiting. */
  get bytes(): number {
    return this.#bytes
  }

  /** Set when the first row alone is larger than the limit: there is nothing that could be shown. */
  tooLargeBytes: number | undefined
  readonly #limits: ResultLimits
  readonly #feed: Feed
  #rows: Cell[][] = []
  #waitingBytes = 0
  #bytes = 0
  #droppedBytes = 0
  #isEnded = false
  #isDiscarding = false
  #wake: (() => void) | undefined

  constructor(limits: ResultLimits, feed: Feed) {
    this.#limits = limits
    this.#feed = feed
  }

  /** Takes a row from the backend. */
  push(row: Cell[], bytes: number): void {
    if (this.#isDiscarding) return
    if (this.truncatedBy === undefined && this.rowCount >= this.#limits.rowsMax) this.truncatedBy = 'rows'
    if (this.truncatedBy === undefined && this.#bytes + bytes > this.#limits.bytesMax) {
      this.truncatedBy = 'bytes'
      if (this.rowCount === 0) this.tooLargeBytes = bytes
    }
    if (this.truncatedBy !== undefined) return this.#drop(bytes)
    this.rowCount++
    this.#bytes += bytes
    // A row of many empty or NULL values takes memory too.
    this.#waitingBytes += bytes + row.length * 8
    this.#rows.push(row)
    if (this.#waitingBytes >= CHUNK_BYTES) this.#wake?.()
    if (this.#waitingBytes >= BUFFER_BYTES_MAX) this.#feed.pause()
  }

  /** Nobody wants the rest: what still comes is dropped. */
  discard(): void {
    this.#isDiscarding = true
    this.#rows = []
    this.#waitingBytes = 0
  }

  /** No more rows come. */
  end(): void {
    this.#isEnded = true
    this.#wake?.()
  }

  /** Returns the next rows, tens of kilobytes of them, or `undefined` at the end. */
  async next(): Promise<Cell[][] | undefined> {
    while (!this.#isEnded && this.#waitingBytes < CHUNK_BYTES) {
      await new Promise<void>((resolve) => (this.#wake = resolve))
      this.#wake = undefined
    }
    if (this.#rows.length === 0) return undefined
    const rows = this.#rows
    this.#rows = []
    this.#waitingBytes = 0
    this.#feed.resume()
    return rows
  }

  #drop(bytes: number): void {
    const before = this.#droppedBytes
    this.#droppedBytes += bytes
    if (before <= DROPPED_BYTES_MAX && this.#droppedBytes > DROPPED_BYTES_MAX) this.#feed.stop()
  }
}

/** Describes the columns of a result as their owners write them. */
export function columnsOf(
  fields: readonly FieldDef[],
  plan: PostgresPlan,
  typeNames: ReadonlyMap<number, string>,
): Column[] {
  return fields.map((field, position) => {
    const masked = plan.maskedOutputs.get(position)
    return {
      name: field.name,
      type: typeName(field.dataTypeID, field.dataTypeModifier, typeNames),
      ...(masked !== undefined && { masked }),
    }
  })
}

/** Whether a result column is, by its origin, a masked one or a whole row that has one (R18). */
export function isLeak(field: FieldDef, plan: PostgresPlan): boolean {
  return plan.tripwire.some(
    ({ relation, attnum }) => field.tableID === relation && (field.columnID === attnum || field.columnID === 0),
  )
}

/** OIDs of the types whose modifier is a length (`catalog/pg_type.dat`); it counts the four bytes of a header. */
const WITH_LENGTH = new Map([
  [1042, 4],
  [1043, 4],
  [1560, 0],
  [1562, 0],
])
const NUMERIC = 1700
/** `time` and `timestamp`, with and without time zone: the modifier is the precision. */
const WITH_PRECISION = new Set([1083, 1266, 1114, 1184])

/** The name `format_type` gives, from what is known already. */
function typeName(oid: number, modifier: number, names: ReadonlyMap<number, string>): string {
  const name = names.get(oid) ?? `oid ${oid}`
  if (modifier < 0) return name
  const header = WITH_LENGTH.get(oid)
  if (header !== undefined) return `${name}(${modifier - header})`
  if (oid === NUMERIC) {
    // The scale is an 11-bit number with a sign (`utils/adt/numeric.c`).
    const scale = ((((modifier - 4) & 0x7ff) ^ 1024) - 1024) | 0
    return `${name}(${((modifier - 4) >> 16) & 0xffff},${scale})`
  }
  if (WITH_PRECISION.has(oid)) return name.replace(/^(\w+)/u, `$1(${modifier})`)
  return name
}
