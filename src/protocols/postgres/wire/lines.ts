/**
 * What the server said on a wire, as lines to read: columns, rows, notices, tags. For transcripts of recordings, so it
 * trusts nothing: bytes that are no message end the reading with a line that says so.
 *
 * @packageDocumentation
 */
import type { ChannelReader } from '../../../core/channel-reader.ts'
import { BodyReader } from '../messages/bytes.ts'
import { decodeCommandComplete } from '../messages/command-complete.ts'
import { COLUMNS_MAX } from '../messages/limits.ts'
import { decodeReport } from '../messages/report.ts'
import { decodeRowDescription } from '../messages/row-description.ts'
import { decodeNotification, decodeParameterStatus } from '../messages/session-facts.ts'

const HEADER_BYTES = 5
/** A longer message is told by its length alone. */
const MESSAGE_BYTES_MAX = 64 * 1024
/** Of a value that is no text, so many bytes are shown. */
const BINARY_BYTES_MAX = 32

/** Reads the channel `wire` of one call. */
export class WireLines implements ChannelReader {
  #bytes: Buffer = Buffer.alloc(0)
  /** Bytes still to come of a message that is too long to show. */
  #skip = 0
  /** Formats of the columns, where they were described. */
  #formats: readonly (0 | 1)[] = []
  #isLost = false

  push(piece: Uint8Array): readonly string[] {
    const lines: string[] = []
    if (this.#isLost) return lines
    this.#bytes = this.#bytes.length === 0 ? Buffer.from(piece) : Buffer.concat([this.#bytes, piece])
    try {
      while (this.#next(lines));
    } catch {
      this.#isLost = true
      this.#bytes = Buffer.alloc(0)
      lines.push('(what follows is no message of a server)')
    }
    return lines
  }

  end(): readonly string[] {
    const left = this.#bytes.length
    this.#bytes = Buffer.alloc(0)
    return left === 0 ? [] : [`(${left} bytes of a message that is not here to its end)`]
  }

  /** Takes one message; returns whether there may be another. */
  #next(lines: string[]): boolean {
    if (this.#skip > 0) {
      const skipped = Math.min(this.#skip, this.#bytes.length)
      this.#skip -= skipped
      this.#bytes = this.#bytes.subarray(skipped)
    }
    if (this.#bytes.length < HEADER_BYTES) return false
    const letter = String.fromCharCode(this.#bytes[0] ?? 0)
    const length = this.#bytes.readUInt32BE(1)
    if (length < 4) throw new RangeError('a length that cannot be')
    if (length > MESSAGE_BYTES_MAX) {
      lines.push(`(${letter === 'D' ? 'a row' : `a message ${letter}`} of ${length - 4} bytes)`)
      this.#bytes = this.#bytes.subarray(HEADER_BYTES)
      this.#skip = length - 4
      return true
    }
    if (this.#bytes.length < length + 1) return false
    const line = this.#line(letter, this.#bytes.subarray(HEADER_BYTES, length + 1))
    this.#bytes = this.#bytes.subarray(length + 1)
    if (line !== undefined) lines.push(line)
    return true
  }

  #line(letter: string, body: Buffer): string | undefined {
    switch (letter) {
      case 'T': {
        const fields = decodeRowDescription(body)
        this.#formats = fields.map(({ format }) => format)
        return `columns: ${fields.map(({ name }) => name).join(' | ')}`
      }
      case 'D':
        return cellsOf(body, this.#formats).join(' | ')
      case 'd':
        return `COPY: ${shown(body, 0).replace(/\n$/u, '')}`
      case 'C':
        return decodeCommandComplete(body)
      case 'N':
      case 'E': {
        const report = decodeReport(letter === 'N' ? 'NoticeResponse' : 'ErrorResponse', body)
        return `${report.get('S') ?? '?'} ${report.get('C') ?? '?'}: ${report.get('M') ?? ''}`
      }
      case 'A': {
        const { channel, payload } = decodeNotification(body)
        return `notification on ${channel}: ${payload}`
      }
      case 'S': {
        const { name, value } = decodeParameterStatus(body)
        return `setting ${name} = ${value}`
      }
      case 's':
        return '(more rows wait to be fetched)'
      case 'G':
        return 'COPY from the client begins'
      case 'H':
        return 'COPY to the client begins'
      default:
        // ParseComplete, BindComplete and the like say nothing a reader would miss.
        return undefined
    }
  }
}

function cellsOf(body: Buffer, formats: readonly (0 | 1)[]): readonly string[] {
  const reader = new BodyReader('DataRow', body)
  const count = reader.count()
  if (count > COLUMNS_MAX) throw new RangeError('more columns than there can be')
  const cells: string[] = []
  for (let index = 0; index < count; index++) {
    const value = reader.value()
    cells.push(value === null ? 'NULL' : shown(value, formats[index] ?? 0))
  }
  reader.end()
  return cells
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** A value as text; as digits where it travelled in binary form, or is no text. */
function shown(value: Buffer, format: 0 | 1): string {
  if (format === 0) {
    try {
      return decoder.decode(value)
    } catch {
      // It was binary though nobody described it.
    }
  }
  const rest = value.length > BINARY_BYTES_MAX ? `… (${value.length} bytes)` : ''
  return `\\x${value.toString('hex', 0, BINARY_BYTES_MAX)}${rest}`
}
