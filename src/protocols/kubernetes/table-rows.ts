/**
 * Tables of kinds the API server does not serve itself: their columns copy any field of an object, one that is masked
 * too (`additionalPrinterColumns` of a definition, or whatever an aggregated server does). So the server is asked for the
 * whole object beside its row, cells are held against what is masked in it, and then only that much of it goes on as the
 * client asked for.
 *
 * @packageDocumentation
 */
import { isJsonObject, type JsonObject, type JsonValue } from '../../core/json.ts'
import { isInEveryCluster } from './kinds.ts'
import type { KubeRequest } from './request.ts'

/** How much of its object a row carries (`includeObject`, Kubernetes API concepts, "Receiving resources as Tables"). */
export type RowObject = 'None' | 'Metadata' | 'Object'

/** Whether cells of this kind may be copies of anything. Definitions can bring kinds into any group that has a name. */
export function isForeign({ group = '', resource }: Pick<KubeRequest, 'group' | 'resource'>): boolean {
  return resource !== undefined && group !== '' && !isInEveryCluster(group, resource)
}

/** The request with whole objects beside the rows, where masks need them. */
export function withWholeRows(request: KubeRequest): KubeRequest {
  if (!/as=Table/iu.test(request.accept) || !isForeign(request)) return request
  const asked = request.query.find(([name]) => name === 'includeObject')?.[1]
  const rows: RowObject = asked === 'None' || asked === 'Object' ? asked : 'Metadata'
  const query = request.query.filter(([name]) => name !== 'includeObject')
  return { ...request, query: [...query, ['includeObject', 'Object']], rows }
}

/** An answer with as much of each object as the client asked for. */
export function trimRows(value: JsonValue, { rows }: KubeRequest): JsonValue {
  if (rows === undefined || rows === 'Object' || !isJsonObject(value)) return value
  if (value.get('kind') === 'Table') return tableOf(value, rows)
  const changed = value.get('object')
  return isJsonObject(changed) ? new Map([...value, ['object', trimRows(changed, { rows } as KubeRequest)]]) : value
}

function tableOf(table: JsonObject, rows: RowObject): JsonValue {
  const list = table.get('rows')
  if (!Array.isArray(list)) return table
  const trimmed = (list as readonly JsonValue[]).map((row) => {
    if (!isJsonObject(row)) return row
    return new Map([...row, ['object', rows === 'None' ? null : metadataOf(row.get('object') ?? null)]])
  })
  return new Map([...table, ['rows', trimmed]])
}

function metadataOf(object: JsonValue): JsonValue {
  if (!isJsonObject(object)) return null
  return new Map<string, JsonValue>([
    ['kind', 'PartialObjectMetadata'],
    ['apiVersion', 'meta.k8s.io/v1'],
    ['metadata', object.get('metadata') ?? null],
  ])
}
