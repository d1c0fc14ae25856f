/**
 * What no rule can let through, because it would undo the masks: writing a mask back as if it were the value, and asking
 * the server to compare, copy or move what must not be seen.
 *
 * @packageDocumentation
 */
import type { PlanRefusal } from '../../core/call.ts'
import { isJsonObject, type JsonValue } from '../../core/json.ts'
import { MASKED, MASKED_BASE64 } from './masks.ts'
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
    message: 'The patch tests, copies or moves a value that callers must not see.',
    hint: 'Use a merge patch, or operations add, replace and remove.',
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
/** Where values of variables may stand, or everything above them. */
const MAY_HOLD_VALUE = /\/(?:env|envFrom|value|annotations|data|stringData)(?:\/|$)/iu

function reveals(operation: JsonValue, isSecret: boolean): boolean {
  if (!isJsonObject(operation)) return false
  const op = operation.get('op')
  // Fail closed: an operation nobody knows may be any.
  if (typeof op !== 'string' || !READING.has(op)) return !['add', 'replace', 'remove'].some((known) => known === op)
  const from = operation.get(op === 'test' ? 'path' : 'from')
  if (typeof from !== 'string') return true
  const place = from.replaceAll('~1', '/').replaceAll('~0', '~')
  if (isSecret) return !PLAIN_OF_SECRET.test(from)
  if (isTop(from)) return true
  return MAY_HOLD_VALUE.test(place)
}

/** A place so high up that everything is beneath it. */
function isTop(place: string): boolean {
  return place.split('/').length <= 2 && !/^\/(?:kind|apiVersion)$/u.test(place)
}
