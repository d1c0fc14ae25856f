import { violation } from './violation.ts'

/**
 * Reads one message's body from front to back. Every length is checked against what is left before it is used, so that
 * no message can make us look at another one's bytes.
 */
export class BodyReader {
  readonly #message: string
  readonly #body: Buffer
  #at = 0

  /** @param message the message's name, for errors. */
  constructor(message: string, body: Buffer) {
    this.#message = message
    this.#body = body
  }

  get left(): number {
    return this.#body.length - this.#at
  }

  /** An unsigned byte. */
  byte(): number {
    return this.#body.readUInt8(this.#take(1))
  }

  /** A signed 16-bit number. */
  int16(): number {
    return this.#body.readInt16BE(this.#take(2))
  }

  /** A 16-bit count. The manual calls it signed; servers and drivers use all 16 bits. */
  count(): number {
    return this.#body.readUInt16BE(this.#take(2))
  }

  /** A signed 32-bit number. */
  int32(): number {
    return this.#body.readInt32BE(this.#take(4))
  }

  /** An OID, or half of a cancel key. */
  uint32(): number {
    return this.#body.readUInt32BE(this.#take(4))
  }

  /** A text that ends with a zero byte. */
  text(): string {
    const end = this.#body.indexOf(0, this.#at)
    if (end < 0) throw violation(this.#message, 'holds a text without an end')
    const start = this.#at
    this.#at = end + 1
    return utf8(this.#body.subarray(start, end), this.#message)
  }

  /** So many bytes, not copied. */
  bytes(length: number): Buffer {
    if (length < 0) throw violation(this.#message, 'holds a negative length')
    const start = this.#take(length)
    return this.#body.subarray(start, start + length)
  }

  /** A length and so many bytes; -1 is NULL. */
  value(): Buffer | null {
    const length = this.int32()
    if (length === -1) return null
    return this.bytes(length)
  }

  rest(): Buffer {
    return this.bytes(this.left)
  }

  /** @throws SallyportError when bytes are left: they would mean something to another reader. */
  end(): void {
    if (this.left > 0) throw violation(this.#message, 'is longer than what it holds')
  }

  #take(length: number): number {
    if (length > this.left) throw violation(this.#message, 'is shorter than what it holds')
    const start = this.#at
    this.#at += length
    return start
  }
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Decodes UTF-8. What is not UTF-8 would be another text to the server than to us, so it is refused. */
export function utf8(bytes: Uint8Array, message: string): string {
  try {
    return decoder.decode(bytes)
  } catch {
    throw violation(message, 'holds a text that is not UTF-8')
  }
}

/** Puts one message together: type byte, length, body. */
export class MessageWriter {
  #buffer: Buffer
  #length: number
  readonly #typeBytes: number

  /** @param type the message's letter; '' for start-up packets, which have none. */
  constructor(type: string, sizeHint = 64) {
    this.#buffer = Buffer.allocUnsafe(sizeHint + 5)
    this.#typeBytes = type.length
    this.#length = type.length + 4
    if (type !== '') this.#buffer.write(type, 0, 'latin1')
  }

  byte(value: number): this {
    this.#room(1)
    this.#length = this.#buffer.writeUInt8(value, this.#length)
    return this
  }

  int16(value: number): this {
    this.#room(2)
    this.#length = this.#buffer.writeInt16BE(value, this.#length)
    return this
  }

  count(value: number): this {
    this.#room(2)
    this.#length = this.#buffer.writeUInt16BE(value, this.#length)
    return this
  }

  int32(value: number): this {
    this.#room(4)
    this.#length = this.#buffer.writeInt32BE(value, this.#length)
    return this
  }

  uint32(value: number): this {
    this.#room(4)
    this.#length = this.#buffer.writeUInt32BE(value, this.#length)
    return this
  }

  /** @throws TypeError for a NUL: it would end the text early. */
  text(value: string): this {
    if (value.includes('\0')) throw new TypeError('A text of a message cannot hold NUL.')
    const length = Buffer.byteLength(value)
    this.#room(length + 1)
    this.#buffer.write(value, this.#length, 'utf8')
    this.#length += length
    this.#length = this.#buffer.writeUInt8(0, this.#length)
    return this
  }

  bytes(value: Uint8Array): this {
    this.#room(value.length)
    this.#buffer.set(value, this.#length)
    this.#length += value.length
    return this
  }

  value(value: Uint8Array | null): this {
    return value === null ? this.int32(-1) : this.int32(value.length).bytes(value)
  }

  /** The whole message. */
  done(): Buffer {
    // The length counts itself but not the type before it.
    this.#buffer.writeUInt32BE(this.#length - this.#typeBytes, this.#typeBytes)
    return this.#buffer.subarray(0, this.#length)
  }

  #room(more: number): void {
    if (this.#length + more <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#length + more))
    this.#buffer.copy(larger, 0, 0, this.#length)
    this.#buffer = larger
  }
}
