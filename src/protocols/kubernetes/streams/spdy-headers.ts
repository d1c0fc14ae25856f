/**
 * Header blocks of SPDY/3: names and values, compressed with one zlib stream for a whole connection and direction (SPDY
 * protocol, draft 3.1, section 2.6.10).
 *
 * @packageDocumentation
 */
import { createInflate, type Inflate } from 'node:zlib'
import { SallyportError } from '../../../core/errors.ts'
import { SPDY_DICTIONARY } from './spdy-dictionary.ts'

/** Names in small letters, each with its value. */
export type SpdyHeaders = Readonly<Record<string, string>>

/** Most bytes one block may unfold to, and most names in it; what clients of Kubernetes send has a few dozen bytes. */
const BLOCK_BYTES_MAX = 16 * 1024
const NAMES_MAX = 64

/** The two bytes a zlib stream begins with (RFC 1950), and the empty block that says: so far, hand it out. */
const STREAM_HEAD = Buffer.from([0x78, 0x01])
const FLUSH = Buffer.from([0x00, 0x00, 0x00, 0xff, 0xff])

/** Writes the header blocks of one direction. They are stored, not compressed: a block of ours has a few bytes. */
export class HeaderWriter {
  #isBegun = false

  write(headers: SpdyHeaders): Buffer {
    const entries = Object.entries(headers)
    const content = Buffer.concat([uint32(entries.length), ...entries.flat().flatMap(counted)])
    const stored = Buffer.alloc(5)
    stored.writeUInt16LE(content.length, 1)
    stored.writeUInt16LE(~content.length & 0xffff, 3)
    const head = this.#isBegun ? [] : [STREAM_HEAD]
    this.#isBegun = true
    return Buffer.concat([...head, stored, content, FLUSH])
  }
}

/** Reads the header blocks of one direction, one after the other. Whoever makes one closes it. */
export class HeaderReader {
  readonly #inflate: Inflate = createInflate({ dictionary: SPDY_DICTIONARY })
  #pieces: Buffer[] = []
  #bytes = 0
  #failed: SallyportError | undefined

  constructor() {
    this.#inflate.on('data', (piece: Buffer) => {
      this.#bytes += piece.length
      // Fail closed: a few bytes may unfold to gigabytes.
      if (this.#bytes > BLOCK_BYTES_MAX) this.#fail(malformed('its headers are too long'))
      else this.#pieces.push(piece)
    })
    this.#inflate.on('error', (cause) => this.#fail(malformed('its headers cannot be decompressed', cause)))
  }

  /** @throws SallyportError `ERR_INVALID_INPUT`. Nothing can be read after that. */
  async read(block: Buffer): Promise<SpdyHeaders> {
    if (this.#failed === undefined) {
      this.#pieces = []
      this.#bytes = 0
      await new Promise<void>((resolve) => {
        const over = (): void => {
          this.#inflate.off('close', over)
          resolve()
        }
        this.#inflate.once('close', over)
        this.#inflate.write(block, over)
      })
    }
    if (this.#failed !== undefined) throw this.#failed
    return parse(Buffer.concat(this.#pieces))
  }

  close(): void {
    this.#fail(malformed('it was closed'))
  }

  #fail(error: SallyportError): void {
    this.#failed ??= error
    this.#inflate.destroy()
  }
}

function parse(block: Buffer): SpdyHeaders {
  const headers: Record<string, string> = Object.create(null) as Record<string, string>
  let at = 0
  const number = (): number => {
    if (at + 4 > block.length) throw malformed('its headers end early')
    at += 4
    return block.readUInt32BE(at - 4)
  }
  const text = (): string => {
    const length = number()
    if (at + length > block.length) throw malformed('its headers end early')
    at += length
    return block.toString('latin1', at - length, at)
  }
  const names = number()
  if (names > NAMES_MAX) throw malformed('it has too many headers')
  for (let i = 0; i < names; i++) {
    const name = text().toLowerCase()
    // Of two, somebody behind us may look at the other one.
    if (name in headers) throw malformed('a header is given twice')
    headers[name] = text()
  }
  if (at !== block.length) throw malformed('its headers have an end nobody reads')
  return headers
}

function counted(word: string): readonly Buffer[] {
  const bytes = Buffer.from(word, 'latin1')
  return [uint32(bytes.length), bytes]
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** Says what is wrong with the other side's SPDY. */
export function malformed(why: string, cause?: unknown): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', `The SPDY stream cannot be read: ${why}.`, {
    ...(cause !== undefined && { cause }),
  })
}
