import type { ShownData, ShownRequest } from '../core/call.ts'
import type { FieldMask } from '../core/decision.ts'
import { isJsonObject, JsonNumber, parseJson, writeJson, type JsonObject, type JsonValue } from '../core/json.ts'
import { compileFields, type FieldMasker } from './fields.ts'
import type { Replacer } from './transforms.ts'

/** What stands for data that was left out. */
const WITHHELD = '[withheld: fields of this target are masked, and this cannot be read by its fields]'

/**
 * Masks fields in the data of a shown request. Data in which nothing is masked stays as it will be sent, letter by letter.
 *
 * Fail closed: what cannot be read in exactly one way is left out, because any of it may be the value of a field.
 */
export function maskShown(shown: ShownRequest, masks: readonly FieldMask[], replacer: Replacer): ShownRequest {
  const { data = [], isWithheld: _, ...kept } = shown
  if (masks.length === 0 || data.length === 0) return kept
  const masker = compileFields(masks, replacer)
  let text = shown.text
  let isWithheld = false
  // From the end, so that what comes before keeps its place.
  for (const { start, end, form } of [...data].sort((a, b) => b.start - a.start)) {
    const masked = maskData(shown.text.slice(start, end), form, masker)
    if (masked === undefined) isWithheld = true
    text = text.slice(0, start) + (masked ?? WITHHELD) + text.slice(end)
  }
  return { ...kept, text, ...(isWithheld && { isWithheld: true as const }) }
}

function maskData(text: string, form: ShownData['form'], mask: FieldMasker): string | undefined {
  switch (form) {
    case 'json':
      return maskJson(text, mask)
    case 'form':
      return maskForm(text, mask)
    default:
      form satisfies 'opaque'
      return text === '' ? text : undefined
  }
}

function maskJson(text: string, mask: FieldMasker): string | undefined {
  const parsed = parseJson(text)
  // Of two equal keys the masked one may be the one that is not kept here.
  if (parsed === undefined || parsed.hasDuplicates) return undefined
  let count = 0
  const masked = mask(parsed.value, () => count++)
  const patched = maskOperations(masked, mask, () => count++)
  if (patched === undefined) return undefined
  return count === 0 ? text : writeJson(patched)
}

/** Numbers in one pointer of which each may be a place in an array, or a key: more have too many readings. */
const PLACES_MAX = 4

/**
 * A JSON patch says in a pointer where its values go, so that they have no path of their own (RFC 6902, section 4).
 * `undefined` when a pointer can be read in too many ways.
 */
function maskOperations(value: JsonValue, mask: FieldMasker, count: () => void): JsonValue | undefined {
  if (!Array.isArray(value)) return value
  const operations: JsonValue[] = []
  for (const operation of value as readonly JsonValue[]) {
    const pointer = isJsonObject(operation) ? operation.get('path') : undefined
    const plain = isJsonObject(operation) ? operation.get('value') : undefined
    if (!isJsonObject(operation) || typeof pointer !== 'string' || plain === undefined) {
      operations.push(operation)
      continue
    }
    const paths = pathsOf(pointer)
    if (paths === undefined) return undefined
    // One after the other: a mask that meets a part of the value under one reading may meet all of it under another.
    const shown = paths.reduce<JsonValue>((inner, path) => maskAt(path, inner, mask, count) ?? inner, plain)
    operations.push(shown === plain ? operation : new Map([...operation, ['value', shown]]))
  }
  return operations
}

/** What a pointer may mean to a mask, in whose path arrays count for nothing: each number kept or left out. */
function pathsOf(pointer: string): readonly (readonly string[])[] | undefined {
  const keys = pointer
    .split('/')
    .slice(1)
    .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'))
  const isPlace = (key: string): boolean => /^(?:\d+|-)$/u.test(key)
  if (keys.filter(isPlace).length > PLACES_MAX) return undefined
  return keys.reduce<readonly (readonly string[])[]>(
    (paths, key) => paths.flatMap((path) => (isPlace(key) ? [[...path, key], path] : [[...path, key]])),
    [[]],
  )
}

/** The masked value of what stands at a path; `undefined` when no mask names it. */
function maskAt(
  keys: readonly string[],
  value: JsonValue,
  mask: FieldMasker,
  count: () => void,
): JsonValue | undefined {
  let isMasked = false
  const nested = keys.reduceRight<JsonValue>((inner, key) => new Map([[key, inner]]), value)
  const result = mask(nested, () => {
    isMasked = true
    count()
  })
  return isMasked ? innermost(result, keys.length) : undefined
}

/** What stands so many keys deep; less deep where a mask replaced all of what is there. */
function innermost(value: JsonValue, depth: number): JsonValue {
  let found = value
  for (let step = 0; step < depth && isJsonObject(found); step++) found = [...found.values()][0] ?? null
  return found
}

/** Each field by itself, so that order and repetition stay; brackets and dots in names are steps of a path. */
function maskForm(text: string, mask: FieldMasker): string {
  return text
    .split('&')
    .map((pair) => {
      const [[name, value] = ['', '']] = new URLSearchParams(pair)
      let count = 0
      const plain = masked(name, value, mask, () => count++)
      const nested = plain ?? masked(stepsOf(name), value, mask, () => count++)
      return count === 0 || nested === undefined ? pair : `${encodeURIComponent(name)}=${encodeURIComponent(nested)}`
    })
    .join('&')
}

/** The masked value of one field; `undefined` when no mask names it. */
function masked(
  name: string | readonly string[],
  value: string,
  mask: FieldMasker,
  count: () => void,
): string | undefined {
  const keys = typeof name === 'string' ? [name] : name
  let isMasked = false
  const nested = keys.reduceRight<JsonValue>((inner, key) => new Map([[key, inner]]), value)
  const result = mask(nested, () => {
    isMasked = true
    count()
  })
  return isMasked ? leafOf(result) : undefined
}

function leafOf(value: JsonValue): string {
  if (value === null) return ''
  if (typeof value === 'string') return value
  if (value instanceof JsonNumber) return value.raw
  if (value instanceof Map) {
    const [first] = (value as JsonObject).values()
    return leafOf(first ?? null)
  }
  return ''
}

/** `customer[ssn]` and `customer.ssn` are how forms write what JSON nests. */
function stepsOf(name: string): readonly string[] {
  return name.split(/[.[\]]+/u).filter((step) => step !== '')
}
