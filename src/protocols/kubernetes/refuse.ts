/**
 * What no rule can let through, because it would undo the masks: writing a mask back as if it were the value, and asking
 * the server to compare, copy or move what must not be seen.
 *
 * @packageDocumentation
 */
import type { PlanRefusal } from '../../core/call.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../../core/json.ts'
import { isSensitiveKey } from './mask-names.ts'
import { MASKED, MASKED_BASE64, VARIABLE_MAPS } from './masks.ts'
import type { KubeRequest } from './request.ts'

/** Says why a request must not be sent; `undefined` when nothing stands in its way. */
export function refusalOf(request: KubeRequest): PlanRefusal | undefined {
  const { body } = request
  if (body === undefined) return undefined
  const isSecret = request.resource === 'secrets' && (request.group ?? '') === ''
  if (holdsMask(body.value, isSecret)) {
    return {
      construct: 'k8s.masked_value',
      message: 'The object holds a value the gateway had masked; writing it back would destroy the real one.',
      hint: 'Send only the fields you mean to change, as a patch.',
    }
  }
  if (body.type !== 'application/json-patch+json') return undefined
  const asks = Array.isArray(body.value) && (body.value as readonly JsonValue[]).some((one) => reveals(one, isSecret))
  if (!asks) return undefined
  return {
    construct: 'k8s.patch_reads',
    message: 'The patch tests, copies, moves or renames what callers must not see the value of.',
    hint: 'Use a merge patch, or replace the whole item with name and value.',
  }
}

function holdsMask(value: JsonValue, isSecret: boolean): boolean {
  if (value === MASKED) return true
  if (isSecret && value === MASKED_BASE64) return true
  if (Array.isArray(value)) return (value as readonly JsonValue[]).some((item) => holdsMask(item, isSecret))
  if (!isJsonObject(value)) return false
  const isSecretHere = isSecret || value.get('kind') === 'Secret'
  return [...value.values()].some((field) => holdsMask(field, isSecretHere))
}

/** Operations that say something of what is there, or put it elsewhere (RFC 6902, section 4). */
const READING = new Set(['test', 'copy', 'move'])
/** What of a Secret is no secret. */
const PLAIN_OF_SECRET =
  /^\/(?:type|immutable|kind|apiVersion|metadata\/(?:labels|finalizers|name|namespace|resourceVersion|uid)(?:\/|$))/u
/** Segments where values that are masked may stand, besides those of {@link VARIABLE_MAPS}. */
const HOLDING: ReadonlySet<string> = new Set(['envfrom', 'value', 'annotations', 'data', 'stringdata', 'binarydata'])
/** Lists whose items have a name and no value that a mask would judge by it. */
const NAMED_LISTS: ReadonlySet<string> = new Set([
  'containers',
  'initContainers',
  'ports',
  'volumes',
  'volumeMounts',
  'imagePullSecrets',
  'subjects',
])

const PLAIN_PARENTS: ReadonlySet<string> = new Set(['metadata', 'labels', 'matchLabels', 'selector', 'nodeSelector'])

function reveals(operation: JsonValue, isSecret: boolean): boolean {
  if (!isJsonObject(operation)) return false
  const op = operation.get('op')
  // Fail closed: an operation nobody knows may be any.
  if (typeof op !== 'string') return true
  if (!READING.has(op)) return !['add', 'replace', 'remove'].some((known) => known === op) || renames(operation)
  const from = operation.get(op === 'test' ? 'path' : 'from')
  if (typeof from !== 'string') return true
  if (isSecret) return !PLAIN_OF_SECRET.test(from)
  if (isTop(from) || segmentsOf(from).some(mayHoldValue)) return true
  // A whole object holds values as well: with `test` they could be guessed.
  const value = operation.get('value')
  if (op === 'test') return isJsonObject(value) || Array.isArray(value)
  return renames(operation)
}

/** Whether an operation changes the name by which a value beside it is masked, and not the value. */
function renames(operation: JsonObject): boolean {
  return ['path', 'from'].some((key) => {
    const place = operation.get(key)
    if (typeof place !== 'string') return false
    const segments = segmentsOf(place)
    const last = segments.at(-1) ?? ''
    if (last === 'kind') return segments.length > 1
    if (last === 'name' || last === 'key') {
      return !PLAIN_PARENTS.has(segments.at(-2) ?? '') && !NAMED_LISTS.has(segments.at(-3) ?? '')
    }
    return false
  })
}

/** As they are written: no name that matters here has a sign that pointers escape (RFC 6901, section 3). */
function segmentsOf(pointer: string): readonly string[] {
  return pointer.split('/').slice(1)
}

/** Whether what stands under a segment, in a pointer or in a name with slashes, may be masked. */
export function mayHoldValue(segment: string): boolean {
  const lower = segment.toLowerCase()
  return HOLDING.has(lower) || VARIABLE_MAPS.has(lower) || isSensitiveKey(segment)
}

/** A place so high up that everything is beneath it. */
function isTop(place: string): boolean {
  return place.split('/').length <= 2 && !/^\/(?:kind|apiVersion)$/u.test(place)
}
