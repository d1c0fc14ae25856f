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
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return JSON.stringify(value)
  if (value instanceof JsonNumber) return value.raw
  if (Array.isArray(value)) return `[${(value as readonly JsonValue[]).map(writeJson).join(',')}]`
  const fields = [...(value as JsonObject)].map(([key, field]) => `${JSON.stringify(key)}:${writeJson(field)}`)
  return `{${fields.join(',')}}`
}

/** Whether a value is an object. */
export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map
}

class NotJson extends Error {}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y
const BLANK = /[ \t\n\r]*/y

class Reader {
  readonly #text: string
  #at = 0
  #depth = 0
  hasDuplicates = false

  constructor(text: string) {
    this.#text = text
  }

  document(): JsonValue {
    const value = this.#value()
    if (this.#at !== this.#text.length) throw new NotJson()
    return value
  }

  #value(): JsonValue {
    this.#skip(BLANK)
    const value = this.#bare()
    this.#skip(BLANK)
    return value
  }

  #bare(): JsonValue {
    switch (this.#text[this.#at]) {
      case '{':
        return this.#nested(() => this.#object())
      case '[':
        return this.#nested(() => this.#array())
      case '"':
        return this.#string()
      case 't':
        return this.#word('true', true)
      case 'f':
        return this.#word('false', false)
      case 'n':
        return this.#word('null', null)
      default:
        return new JsonNumber(this.#token(NUMBER))
    }
  }

  #nested<T>(read: () => T): T {
    if (++this.#depth > DEPTH_MAX) throw new NotJson()
    this.#at++
    const value = read()
    this.#depth--
    return value
  }

  #object(): JsonObject {
    const fields = new Map<string, JsonValue>()
    this.#skip(BLANK)
    if (this.#takes('}')) return fields
    do {
      this.#skip(BLANK)
      const key = this.#string()
      this.#skip(BLANK)
      if (!this.#takes(':')) throw new NotJson()
      const value = this.#value()
      if (fields.has(key)) this.hasDuplicates = true
      fields.set(key, value)
    } while (this.#takes(','))
    if (!this.#takes('}')) throw new NotJson()
    return fields
  }

  #array(): readonly JsonValue[] {
    const items: JsonValue[] = []
    this.#skip(BLANK)
    if (this.#takes(']')) return items
    do items.push(this.#value())
    while (this.#takes(','))
    if (!this.#takes(']')) throw new NotJson()
    return items
  }

  /** Read by hand: a pattern with a repetition runs out of stack on a string of some megabytes. */
  #string(): string {
    const start = this.#at
    if (!this.#takes('"')) throw new NotJson()
    let isEscaped = false
    for (;;) {
      const code = this.#text.charCodeAt(this.#at)
      // Past the end it is NaN, which no comparison holds for.
      if (!(code >= 0x20)) throw new NotJson()
      if (code === 0x22) break
      if (code === 0x5c) {
        this.#token(ESCAPE)
        isEscaped = true
      } else this.#at++
    }
    this.#at++
    const token = this.#text.slice(start, this.#at)
    return isEscaped ? (JSON.parse(token) as string) : token.slice(1, -1)
  }

  #word<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw new NotJson()
    this.#at += word.length
    return value
  }

  #takes(sign: string): boolean {
    if (this.#text[this.#at] !== sign) return false
    this.#at++
    return true
  }

  #token(pattern: RegExp): string {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0]
    if (found === undefined || found === '') throw new NotJson()
    this.#at += found.length
    return found
  }

  #skip(pattern: RegExp): void {
    pattern.lastIndex = this.#at
    this.#at += pattern.exec(this.#text)?.[0].length ?? 0
  }
}
