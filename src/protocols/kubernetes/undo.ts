import { SallyportError } from '../../core/errors.ts'
import { isJsonObject, type JsonValue } from '../../core/json.ts'

const REVISION = 'deployment.kubernetes.io/revision'
const HASH = 'pod-template-hash'

/**
 * The patch that takes a deployment back to an earlier template, as its replica sets keep them. It holds for the very
 * specification that was read and no other; what the controller reports meanwhile does not matter.
 *
 * @throws SallyportError `ERR_INVALID_INPUT` when there is no such revision.
 */
export function undoPatch(deployment: JsonValue, sets: JsonValue, revision: number | undefined): JsonValue {
  const uid = at(deployment, 'metadata', 'uid')
  const owned = listOf(sets).filter((set) => ownersOf(set).includes(uid))
  const numbered = owned
    .map((set) => ({ set, revision: Number(at(set, 'metadata', 'annotations', REVISION) ?? Number.NaN) }))
    .filter((one) => Number.isSafeInteger(one.revision))
    .sort((a, b) => b.revision - a.revision)
  const current = Number(at(deployment, 'metadata', 'annotations', REVISION) ?? Number.NaN)
  const wanted = numbered.find((one) => (revision === undefined ? one.revision < current : one.revision === revision))
  if (wanted === undefined) throw new SallyportError('ERR_INVALID_INPUT', 'There is no such revision to go back to.')
  const template = at(wanted.set, 'spec', 'template')
  if (!isJsonObject(template)) throw new SallyportError('ERR_UPSTREAM_REJECTED', 'The revision has no template.')
  return [
    operation('test', '/metadata/generation', at(deployment, 'metadata', 'generation') ?? null),
    operation('replace', '/spec/template', withoutHash(template)),
  ]
}

function operation(op: string, path: string, value: JsonValue): JsonValue {
  return new Map<string, JsonValue>([
    ['op', op],
    ['path', path],
    ['value', value],
  ])
}

/** The label that tells replica sets apart is the controller's to set. */
function withoutHash(template: JsonValue): JsonValue {
  const copy = (value: JsonValue, path: readonly string[]): JsonValue => {
    const [key, ...rest] = path
    if (!isJsonObject(value) || key === undefined) return value
    return new Map(
      [...value].flatMap(([name, field]): (readonly [string, JsonValue])[] => {
        if (name !== key) return [[name, field]]
        return rest.length === 0 ? [] : [[name, copy(field, rest)]]
      }),
    )
  }
  return copy(template, ['metadata', 'labels', HASH])
}

function ownersOf(set: JsonValue): readonly (JsonValue | undefined)[] {
  const owners = at(set, 'metadata', 'ownerReferences')
  return Array.isArray(owners) ? (owners as readonly JsonValue[]).map((owner) => at(owner, 'uid')) : []
}

function listOf(value: JsonValue): readonly JsonValue[] {
  const items = at(value, 'items')
  return Array.isArray(items) ? (items as readonly JsonValue[]) : []
}

function at(value: JsonValue | undefined, ...path: readonly string[]): JsonValue | undefined {
  let found = value
  for (const key of path) found = isJsonObject(found) ? found.get(key) : undefined
  return found
}
