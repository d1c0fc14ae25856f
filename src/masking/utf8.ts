import { isAscii, isUtf8 } from 'node:buffer'

/**
 * Turns bytes that arrive in pieces into text and back without losing one.
 *
 * A byte that is no UTF-8 (RFC 3629) becomes the lone surrogate U+DC00 + byte, which valid UTF-8 never yields, and
 * turns back into itself. So a binary file on stdout passes unharmed and what is readable in it is still searched.
 */
export class ByteText {
  #held: Uint8Array = new Uint8Array(0)

  /** Whether an unfinished character is kept. */
  get isHolding(): boolean {
    return this.#held.length > 0
  }

  /** Decodes a piece; an unfinished character at its end is kept for the next one. */
  decode(bytes: Uint8Array): string {
    const all = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes])
    const whole = all.length - unfinished(all)
    this.#held = whole === all.length ? NOTHING : Uint8Array.from(all.subarray(whole))
    return decode(all.subarray(0, whole))
  }

  /** Returns what was kept. */
  end(): string {
    const rest = decode(this.#held)
    this.#held = NOTHING
    return rest
  }
}

const NOTHING = new Uint8Array(0)

/** Turns decoded text back into bytes. */
export function encode(text: string): Uint8Array {
  if (/\p{Cs}/u.test(text)) return encodeEscaped(text)
  return Buffer.from(text, 'utf8')
}

function encodeEscaped(text: string): Uint8Array {
  const pieces: Uint8Array[] = []
  let from = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code >= 0xd800 && code <= 0xdbff) {
      at++ // a pair: the decoder yields no lone high surrogate
    } else if (code >= 0xdc80 && code <= 0xdcff) {
      if (at > from) pieces.push(Buffer.from(text.slice(from, at), 'utf8'))
      pieces.push(Uint8Array.of(code - 0xdc00))
      from = at + 1
    }
  }
  if (from < text.length) pieces.push(Buffer.from(text.slice(from), 'utf8'))
  return Buffer.concat(pieces)
}

function decode(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (isAscii(buffer)) return buffer.toString('latin1')
  if (isUtf8(buffer)) return buffer.toString('utf8')
  let text = ''
  let from = 0
  for (let at = 0; at < buffer.length;) {
    const length = sequenceLength(buffer, at)
    if (length > 0) {
      at += length
      continue
    }
    text += buffer.toString('utf8', from, at) + String.fromCharCode(0xdc00 + (buffer[at] ?? 0))
    at++
    from = at
  }
  return text + buffer.toString('utf8', from)
}

/** Length of the well-formed character at `at`, or 0. */
function sequenceLength(buffer: Buffer, at: number): number {
  const lead = buffer[at] ?? 0
  if (lead < 0x80) return 1
  const length = lengthByLead(lead)
  if (length === 0 || at + length > buffer.length) return 0
  return isUtf8(buffer.subarray(at, at + length)) ? length : 0
}

function lengthByLead(lead: number): number {
  if (lead >= 0xc2 && lead <= 0xdf) return 2
  if (lead >= 0xe0 && lead <= 0xef) return 3
  return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0
}

/** How many bytes at the end may still become a character. */
function unfinished(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0
    if (byte >= 0x80 && byte <= 0xbf) continue
    return lengthByLead(byte) > back ? back : 0
  }
  return 0
}
