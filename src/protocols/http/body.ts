import type { AttributeValue } from '../../core/action.ts'
import { isJsonObject, JsonNumber, parseJson, type JsonValue } from '../../core/json.ts'

/** What a condition can know of a request's body. */
export interface BodyFacts {
  /** `none`, `json`, `form`, `text`, or `opaque` for what cannot be read in exactly one way. */
  readonly kind: 'none' | 'json' | 'form' | 'text' | 'opaque'
  /** The value of a JSON or form body; null otherwise, so that a condition on a field of it fails closed. */
  readonly value: AttributeValue
}

/** Bodies are read for conditions up to this size; larger ones are opaque to them. */
const READ_BYTES_MAX = 1024 * 1024

/** Reads a body as the service will, or says that it cannot be done with certainty. */
export function readBody(bytes: Uint8Array | undefined, contentType: string | undefined): BodyFacts {
  if (bytes === undefined || bytes.length === 0) return { kind: 'none', value: null }
  const opaque: BodyFacts = { kind: 'opaque', value: null }
  if (bytes.length > READ_BYTES_MAX) return opaque
  const text = textOf(bytes)
  const type = mediaTypeOf(contentType)
  if (text === undefined || type === undefined) return opaque
  if (isJsonType(type)) {
    const parsed = parseJson(text)
    // Fail closed: of two equal keys one service reads the first and another the last.
    if (parsed === undefined || parsed.hasDuplicates) return opaque
    const value = attributeOf(parsed.value)
    return value === undefined ? opaque : { kind: 'json', value }
  }
  if (type === 'application/x-www-form-urlencoded') {
    const fields = fieldsOf(text)
    return fields === null ? opaque : { kind: 'form', value: fields }
  }
  return type.startsWith('text/') ? { kind: 'text', value: null } : opaque
}

/**
 * Fields of a form or a query; one that is repeated is the list of its values. Null when servers read it in several ways:
 * some cut at semicolons as well, and an escape that is none, or no UTF-8, becomes what each likes.
 */
export function fieldsOf(text: string): AttributeValue {
  if (text.includes(';') || !isDecodable(text)) return null
  const found = new Map<string, string[]>()
  for (const [name, value] of new URLSearchParams(text)) found.set(name, [...(found.get(name) ?? []), value])
  return Object.fromEntries(
    [...found].map(([name, values]) => [name, values.length === 1 ? (values[0] ?? '') : values]),
  )
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

/** The text of bytes that are UTF-8 without a byte order mark; `undefined` otherwise. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    return text.startsWith('\ufeff') ? undefined : text
  } catch {
    return undefined
  }
}

/** The media type in lower case, when its text is UTF-8 for certain. */
export function mediaTypeOf(contentType: string | undefined): string | undefined {
  if (contentType === undefined) return undefined
  const [type = '', ...parameters] = contentType.toLowerCase().split(';')
  // Of two types or charsets one reader takes the first and another the last; blanks and quotes hide one from some.
  if (type.includes(',') || parameters.some(isOtherCharset)) return undefined
  return type.trim()
}

function isOtherCharset(parameter: string): boolean {
  return parameter.includes('charset') && !/^\s*charset=(?:utf-?8|us-ascii|"utf-?8"|"us-ascii")\s*$/u.test(parameter)
}

/** Whether a media type is JSON or built on it (RFC 6839). */
export function isJsonType(type: string): boolean {
  return type === 'application/json' || type === 'text/json' || /^[\w.+-]+\/[\w.+-]+\+json$/u.test(type)
}

function attributeOf(value: JsonValue): AttributeValue | undefined {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (value instanceof JsonNumber) {
    const number = Number(value.raw)
    // Fail closed: a number a double rounds is not the number the service reads.
    return isExact(value.raw, number) ? number : undefined
  }
  if (isJsonObject(value)) {
    const fields: [string, AttributeValue][] = []
    for (const [key, field] of value) {
      const inner = attributeOf(field)
      if (inner === undefined) return undefined
      fields.push([key, inner])
    }
    return Object.fromEntries(fields)
  }
  const items: AttributeValue[] = []
  for (const item of value) {
    const inner = attributeOf(item)
    if (inner === undefined) return undefined
    items.push(inner)
  }
  return items
}

/** Up to 15 significant digits survive a double; whole numbers do up to 2^53. */
function isExact(raw: string, number: number): boolean {
  if (!Number.isFinite(number)) return false
  if (Number.isInteger(number)) return Number.isSafeInteger(number)
  return raw.replace(/[eE].*$/u, '').replace(/^-?0*\.?0*|\.|-/gu, '').length <= 15
}
