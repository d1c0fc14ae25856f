/**
 * JSON (RFC 8259) read without losing anything: numbers keep their digits, keys their order, and a key that stands twice
 * is noticed. `JSON.parse` rounds what a double cannot hold and forgets the first of two equal keys, so that what was
 * judged or masked here would not be what somebody else reads.
 *
 * @packageDocumentation
 */

/** A number, with the digits it was written in. */
export class JsonNumber {
  readonly raw: string

  constructor(raw: string) {
    this.raw = raw
  }
}

/** A value. Objects are maps, so that no key can be taken for a property of JavaScript's own. */
export type JsonValue = string | boolean | null | JsonNumber | readonly JsonValue[] | JsonObject
/** An object, keys in order. */
export interface JsonObject extends ReadonlyMap<string, JsonValue> {}

/** What a text holds. */
export interface ParsedJson {
  readonly value: JsonValue
  /** Whether some object has a key twice. Its last value is the one kept. */
  readonly hasDuplicates: boolean
}

/** Deeper than what people nest, and far from the end of the stack. */
const DEPTH_MAX = 200

/** Reads one text; `undefined` when it is not JSON, or nested deeper than 200 levels. */
export function parseJson(text: string): ParsedJson | undefined {
  const reader = new Reader(text)
  try {
    const value = reader.document()
    return { value, hasDuplicates: reader.hasDuplicates }
  } catch (error) {
    if (error instanceof NotJson) return undefined
    throw error
  }
}

/** Writes a value in its shortest form. */
export function writeJson(value: JsonValue): string {
  if (typeof value === 'string') return writeText(value)
  if (value === null || typeof value === 'boolean') return String(value)
  if (value instanceof JsonNumber) return value.raw
  let text = ''
  if (Array.isArray(value)) {
    for (const item of value as readonly JsonValue[]) text += `${text === '' ? '' : ','}${writeJson(item)}`
    return `[${text}]`
  }
  for (const [key, field] of value as JsonObject) {
    text += `${text === '' ? '' : ','}${writeText(key)}:${writeJson(field)}`
  }
  return `{${text}}`
}

/** Longest text that is looked at here; the engine's own writer is slower to begin with, and then faster. */
const SHORT = 64

function writeText(text: string): string {
  if (text.length > SHORT) return JSON.stringify(text)
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    // What may need an escape: controls, the quote, the backslash, and half a pair of surrogates (RFC 8259, section 7).
    if (code < 0x20 || code === 0x22 || code === 0x5c || (code >= 0xd800 && code <= 0xdfff)) return JSON.stringify(text)
  }
  return `"${text}"`
}

/** Whether a value is an object. */
export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map
}

class NotJson extends Error {}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c

/** Looks at characters by their codes: bodies have megabytes, and everybody waits while one is read. */
class Reader {
  readonly #text: string
  #at = 0
  hasDuplicates = false

  constructor(text: string) {
    this.#text = text
  }

  document(): JsonValue {
    const value = this.#value(0)
    this.#skip()
    if (this.#at !== this.#text.length) throw new NotJson()
    return value
  }

  #value(depth: number): JsonValue {
    switch (this.#skip()) {
      case 0x7b:
        return this.#object(depth + 1)
      case 0x5b:
        return this.#array(depth + 1)
      case QUOTE:
        return this.#string()
      case 0x74:
        return this.#word('true', true)
      case 0x66:
        return this.#word('false', false)
      case 0x6e:
        return this.#word('null', null)
      default:
        return new JsonNumber(this.#token(NUMBER))
    }
  }

  #object(depth: number): JsonObject {
    if (depth > DEPTH_MAX) throw new NotJson()
    const fields = new Map<string, JsonValue>()
    this.#at++
    if (this.#skip() === 0x7d) {
      this.#at++
      return fields
    }
    for (let read = 1; ; read++) {
      this.#skip()
      const key = this.#string()
      if (this.#skip() !== COLON) throw new NotJson()
      this.#at++
      fields.set(key, this.#value(depth))
      if (fields.size < read) {
        this.hasDuplicates = true
        read--
      }
      const sign = this.#skip()
      this.#at++
      if (sign === 0x7d) return fields
      if (sign !== COMMA) throw new NotJson()
    }
  }

  #array(depth: number): readonly JsonValue[] {
    if (depth > DEPTH_MAX) throw new NotJson()
    const items: JsonValue[] = []
    this.#at++
    if (this.#skip() === 0x5d) {
      this.#at++
      return items
    }
    for (;;) {
      items.push(this.#value(depth))
      const sign = this.#skip()
      this.#at++
      if (sign === 0x5d) return items
      if (sign !== COMMA) throw new NotJson()
    }
  }

  /** Read by hand: a pattern with a repetition runs out of stack on a string of some megabytes. */
  #string(): string {
    const text = this.#text
    const start = this.#at
    if (text.charCodeAt(start) !== QUOTE) throw new NotJson()
    let at = start + 1
    let isEscaped = false
    for (;;) {
      const code = text.charCodeAt(at)
      // Past the end it is NaN, which no comparison holds for.
      if (!(code >= 0x20)) throw new NotJson()
      if (code === QUOTE) break
      if (code === BACKSLASH) {
        this.#at = at
        this.#token(ESCAPE)
        at = this.#at
        isEscaped = true
      } else at++
    }
    this.#at = at + 1
    return isEscaped ? (JSON.parse(text.slice(start, at + 1)) as string) : text.slice(start + 1, at)
  }

  #word<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw new NotJson()
    this.#at += word.length
    return value
  }

  #token(pattern: RegExp): string {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0]
    if (found === undefined || found === '') throw new NotJson()
    this.#at += found.length
    return found
  }

  /** Goes over blanks, and returns the code of what comes then; NaN at the end. */
  #skip(): number {
    const text = this.#text
    let code = text.charCodeAt(this.#at)
    while (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) code = text.charCodeAt(++this.#at)
    return code
  }
}
