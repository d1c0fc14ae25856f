/**
 * Frames of SPDY/3.1 (draft 3.1, section 2.2): control frames whole, data as it comes.
 *
 * @packageDocumentation
 */
import { malformed } from './spdy-headers.ts'

/** Types of control frames this gateway takes note of. */
export const CONTROL = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  headers: 8,
  windowUpdate: 9,
} as const

/** The flag that ends the sender's half of a stream. */
export const FLAG_FIN = 0x01

/** A frame, or a piece of the data in one. */
export type SpdyFrame =
  | { readonly kind: 'control'; readonly type: number; readonly flags: number; readonly payload: Buffer }
  | { readonly kind: 'data'; readonly stream: number; readonly bytes: Buffer; readonly isLast: boolean }

/** Longest control frame that is read. */
const CONTROL_BYTES_MAX = 32 * 1024
const VERSION = 3
const HEAD_BYTES = 8

/** Cuts a stream of bytes into frames, whatever pieces it comes in. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0)
  #data: { readonly stream: number; readonly isFin: boolean; left: number } | undefined

  /** @throws SallyportError `ERR_INVALID_INPUT` for what is no SPDY. */
  push(bytes: Buffer): readonly SpdyFrame[] {
    const frames: SpdyFrame[] = []
    let rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    for (;;) {
      if (this.#data !== undefined) {
        const { stream, isFin, left } = this.#data
        const piece = rest.subarray(0, left)
        if (piece.length === 0 && left > 0) break
        rest = rest.subarray(piece.length)
        const isWhole = piece.length === left
        frames.push({ kind: 'data', stream, bytes: piece, isLast: isWhole && isFin })
        this.#data = isWhole ? undefined : { stream, isFin, left: left - piece.length }
        continue
      }
      if (rest.length < HEAD_BYTES) break
      const word = rest.readUInt32BE(0)
      const flags = rest.readUInt8(4)
      const length = rest.readUIntBE(5, 3)
      if (word < 0x8000_0000) {
        this.#data = { stream: word, isFin: (flags & FLAG_FIN) !== 0, left: length }
        rest = rest.subarray(HEAD_BYTES)
        continue
      }
      if (((word >>> 16) & 0x7fff) !== VERSION) throw malformed('it is not version 3')
      if (length > CONTROL_BYTES_MAX) throw malformed('a frame is too long')
      if (rest.length < HEAD_BYTES + length) break
      frames.push({
        kind: 'control',
        type: word & 0xffff,
        flags,
        payload: Buffer.from(rest.subarray(HEAD_BYTES, HEAD_BYTES + length)),
      })
      rest = rest.subarray(HEAD_BYTES + length)
    }
    // What waits is less than one control frame; a copy lets go of the piece it came in.
    this.#rest = Buffer.from(rest)
    return frames
  }
}

/** Spells a control frame. */
export function controlFrame(type: number, flags: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt16BE(0x8000 | VERSION, 0)
  head.writeUInt16BE(type, 2)
  head.writeUInt8(flags, 4)
  head.writeUIntBE(payload.length, 5, 3)
  return Buffer.concat([head, payload])
}

/** The head of a data frame; the bytes follow as they are. */
export function dataHead(stream: number, length: number, isLast: boolean): Buffer {
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt32BE(stream, 0)
  head.writeUInt8(isLast ? FLAG_FIN : 0, 4)
  head.writeUIntBE(length, 5, 3)
  return head
}

/** Two numbers, such as a stream and a status. */
export function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, 4 * index)
  return bytes
}
