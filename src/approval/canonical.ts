import { SallyportError } from '../core/errors.ts'

/** How deep a value may nest. Deeper ones are refused before they exhaust the stack. */
const DEPTH_MAX = 100

/** In a regular expression with the flag `u`, a surrogate that is half of a pair is not a character of its own. */
const LONE_SURROGATE = /\p{Cs}/u

/**
 * Returns the one canonical JSON text of a value (RFC 8785): members sorted by UTF-16 code units, no white space, numbers
 * as ECMAScript writes them.
 *
 * What has no such text is refused rather than bent into shape, because two calls that differ only in what was bent would
 * share an approval: `undefined`, functions, bigints, non-finite numbers, lone surrogates, dates, bytes, any object with a
 * prototype of its own.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`
 */
export function canonicalJson(value: unknown): string {
  return write(value, 0)
}

function write(value: unknown, depth: number): string {
  if (depth > DEPTH_MAX) throw refused(`it nests deeper than ${DEPTH_MAX} levels`)
  switch (typeof value) {
    case 'string':
      return writeString(value)
    case 'boolean':
      return String(value)
    case 'number':
      if (!Number.isFinite(value)) throw refused('it holds a number that is not finite')
      return JSON.stringify(value)
    case 'object':
      if (value === null) return 'null'
      return Array.isArray(value) ? writeArray(value, depth) : writeObject(value, depth)
    default:
      throw refused(`it holds a value of type ${typeof value}`)
  }
}

function writeString(value: string): string {
  if (LONE_SURROGATE.test(value)) throw refused('it holds half of a surrogate pair')
  return JSON.stringify(value)
}

function writeArray(value: readonly unknown[], depth: number): string {
  // By index, not by iteration helpers: those skip the holes of a sparse array, which would then look like a shorter one.
  const items: string[] = []
  for (let index = 0; index < value.length; index++) items.push(write(value[index], depth + 1))
  return `[${items.join(',')}]`
}

function writeObject(value: object, depth: number): string {
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) throw refused('it holds an object that is not plain')
  const members = Object.keys(value).sort()
  const fields = value as Readonly<Record<string, unknown>>
  return `{${members.map((name) => `${writeString(name)}:${write(fields[name], depth + 1)}`).join(',')}}`
}

function refused(why: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', `The call cannot be bound to an approval: ${why}.`)
}
