/**
 * Cuts what a backend sends into messages. Rows are the bulk: they are handed on as slices of what came, many at a time,
 * and only counted; everything else is held until it is complete.
 *
 * @packageDocumentation
 */
import { BACKEND_BYTES_MAX } from './limits.ts'
import { violation } from './violation.ts'

/** One whole message. `bytes` is all of it, `body` what follows its length. */
export interface BackendMessage {
  readonly kind: 'message'
  readonly letter: string
  readonly bytes: Buffer
  readonly body: Buffer
}

/** Something a backend sent. */
export type BackendPiece =
  | BackendMessage
  /** Rows (DataRow) or lines (CopyData) as they came; the last may go on in the next piece. */
  | { readonly kind: 'rows'; readonly bytes: Buffer; readonly rows: number }

const DATA_ROW = 0x44
const COPY_DATA = 0x64
const HEADER_BYTES = 5

/** Reads a backend's bytes. */
export class BackendReader {
  #bytes: Buffer = Buffer.alloc(0)
  #late: Buffer[] = []
  #lateBytes = 0
  /** Bytes still to come of a row whose beginning was handed on. */
  #rowBytesLeft = 0
  #rowLetter = DATA_ROW
  /** Bytes that must be there before the next message is complete. */
  #wanted = HEADER_BYTES
  /** Rows are then messages like all others, because somebody reads them. */
  readsRows = false

  push(piece: Buffer): void {
    if (this.#bytes.length === 0 && this.#late.length === 0) {
      this.#bytes = piece
      return
    }
    this.#late.push(piece)
    this.#lateBytes += piece.length
  }

  /** Bytes that wait to be taken. */
  get waiting(): number {
    return this.#bytes.length + this.#lateBytes
  }

  /**
   * Returns the next piece, or `undefined` until more bytes have come. Rows are cut after `rowsMax`.
   *
   * @throws SallyportError `ERR_INVALID_INPUT` for what no server sends.
   */
  next(rowsMax: number = Number.POSITIVE_INFINITY): BackendPiece | undefined {
    if (this.#rowBytesLeft > 0) return this.#continueRow(this.readsRows ? 0 : rowsMax)
    if (this.waiting < this.#wanted) return undefined
    this.#join()
    const bytes = this.#bytes
    const letter = bytes[0] as number
    const length = bytes.readUInt32BE(1)
    if (length < 4) throw violation('last', 'of the server has a length that cannot be')
    if (!this.readsRows && (letter === DATA_ROW || letter === COPY_DATA)) return this.#rows(letter, rowsMax)
    if (length > BACKEND_BYTES_MAX) throw violation('last', 'of the server is longer than is taken')
    this.#wanted = length + 1
    if (bytes.length < this.#wanted) return undefined
    this.#bytes = bytes.subarray(this.#wanted)
    this.#wanted = HEADER_BYTES
    return {
      kind: 'message',
      letter: String.fromCharCode(letter),
      bytes: bytes.subarray(0, length + 1),
      body: bytes.subarray(HEADER_BYTES, length + 1),
    }
  }

  /**
   * As many rows as are there, up to `rowsMax`; the last may be incomplete.
   *
   * @param begun bytes in front of them that end a row whose beginning was handed on.
   */
  #rows(letter: number, rowsMax: number, begun = 0): BackendPiece {
    const bytes = this.#bytes
    let at = begun
    let rows = 0
    while (rows < rowsMax && at + HEADER_BYTES <= bytes.length && bytes[at] === letter) {
      const end = at + 1 + bytes.readUInt32BE(at + 1)
      if (end < at + HEADER_BYTES) throw violation('last', 'of the server has a length that cannot be')
      rows++
      at = end
      if (end > bytes.length) break
    }
    const taken = Math.min(at, bytes.length)
    this.#rowBytesLeft = at - taken
    this.#rowLetter = letter
    this.#bytes = bytes.subarray(taken)
    return { kind: 'rows', bytes: bytes.subarray(0, taken), rows }
  }

  /** The rest of a row, and in the same slice the rows behind it: putting two slices together would copy both. */
  #continueRow(rowsMax: number): BackendPiece | undefined {
    if (this.#bytes.length === 0) this.#join()
    if (this.#bytes.length === 0) return undefined
    return this.#rows(this.#rowLetter, rowsMax, this.#rowBytesLeft)
  }

  #join(): void {
    if (this.#late.length === 0) return
    const [first] = this.#late
    this.#bytes =
      this.#bytes.length === 0 && this.#late.length === 1 && first !== undefined
        ? first
        : Buffer.concat([this.#bytes, ...this.#late])
    this.#late = []
    this.#lateBytes = 0
  }
}
