/**
 * What must not be asked where a policy masks fields by their names: to compare, copy or select by what nobody is shown,
 * and to read the same values under other names.
 *
 * @packageDocumentation
 */
import type { PlanRefusal } from '../../core/call.ts'
import type { FieldMask } from '../../core/decision.ts'
import { isJsonObject, type JsonValue } from '../../core/json.ts'
import { isRenamed } from './aliases.ts'
import { isSensitiveKey } from './mask-names.ts'
import type { KubeRequest } from './request.ts'
import { isForeign } from './table-rows.ts'

/** Says why a request must not be sent under masks of fields; `undefined` when nothing stands in its way. */
export function refusalUnderFields(request: KubeRequest, fields: readonly FieldMask[]): PlanRefusal | undefined {
  const paths = fields.map(({ path }) => path.toLowerCase().split('.'))
  if (paths.length > 0 && isRenamed(request)) {
    return {
      construct: 'k8s.renamed_fields',
      message: 'Fields are masked here, and this group has them under other names.',
      hint: 'Ask for the same objects as events of the core group (v1), or ingresses of networking.k8s.io/v1.',
    }
  }
  if (selects(request, paths)) {
    return {
      construct: 'k8s.field_selector',
      message: 'The field selector asks for objects by a value that is masked.',
      hint: 'Select by metadata.name or by labels.',
    }
  }
  if (paths.length > 0 && patchReads(request, paths)) {
    return {
      construct: 'k8s.patch_reads',
      message: 'The patch tests, copies or moves a field that is masked.',
      hint: 'Use a merge patch, or replace the field with a value.',
    }
  }
  return undefined
}

type Path = readonly string[]

/** Whether a selector compares a masked field. Definitions say which of their fields can be selected by. */
function selects(request: KubeRequest, paths: readonly Path[]): boolean {
  return (request.fieldSelector ?? '').split(',').some((term) => {
    const keys = (/^[^=!]*/u.exec(term)?.[0] ?? '').trim().toLowerCase().split('.')
    return paths.some((path) => meets(path, keys, false)) || (isForeign(request) && keys.some(isSensitiveKey))
  })
}

function patchReads({ body }: KubeRequest, paths: readonly Path[]): boolean {
  if (body?.type !== 'application/json-patch+json' || !Array.isArray(body.value)) return false
  return (body.value as readonly JsonValue[]).some((operation) => {
    if (!isJsonObject(operation)) return false
    const op = operation.get('op')
    if (op === 'add' || op === 'replace' || op === 'remove') return false
    const place = operation.get(op === 'test' ? 'path' : 'from')
    // Fail closed: what cannot be read may be any.
    if (typeof place !== 'string') return true
    const value = operation.get('value')
    // A whole object may hold the field; a plain value is the field or is not.
    const isWide = op !== 'test' || isJsonObject(value) || Array.isArray(value)
    const keys = place.split('/').slice(1)
    const pointer = keys.map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~').toLowerCase())
    return paths.some((path) => meets(path, pointer, isWide))
  })
}

/**
 * Whether a path of a mask and a place in an object meet: the place is what is masked, or beneath it, or, with `isWide`,
 * above it. Arrays count for nothing in paths of masks, so that a number in a place may be one of theirs.
 */
function meets(path: Path, place: Path, isWide: boolean): boolean {
  const [key, ...rest] = path
  if (key === undefined) return true
  const [step, ...further] = place
  if (step === undefined) return isWide || path.every((one) => one === '**')
  if (/^(?:\d+|-)$/u.test(step) && meets(path, further, isWide)) return true
  if (key === '**') return meets(rest, place, isWide) || meets(path, further, isWide)
  return (key === '*' || key === step) && meets(rest, further, isWide)
}
