import type { AttributeValue, Part } from '../../core/action.ts'
import { isJsonObject, JsonNumber } from '../../core/json.ts'
import { otherKindsOf } from './aliases.ts'
import { bodyFacts } from './facts.ts'
import { kindOf, type KubeRequest } from './request.ts'

/** What policies see of one request. */
export function partOf(request: KubeRequest): Part {
  const kind = kindOf(request)
  const { namespace, name } = request
  const also = otherKindsOf(request)
  return {
    verb: `k8s.${request.verb}`,
    resource:
      kind === undefined
        ? { type: 'none' }
        : {
            type: 'k8s',
            kind,
            ...(also.length > 0 && { also }),
            ...(namespace !== undefined && { namespace }),
            ...(name !== undefined && { name }),
          },
    attributes: attributesOf(request),
    ...(request.isOpening === true && { announces: true }),
  }
}

type Attributes = Readonly<Record<string, AttributeValue>>

function attributesOf(request: KubeRequest): Attributes {
  const { verb, method, path, query, isDryRun, body } = request
  if (verb === 'discover') return { path }
  const common = {
    method,
    path,
    group: request.group ?? '',
    version: request.version ?? '',
    plural: request.resource ?? '',
    subresource: request.subresource ?? '',
    namespace: request.namespace ?? '',
    name: request.name ?? '',
    label_selector: request.labelSelector ?? '',
    field_selector: request.fieldSelector ?? '',
    query: queryOf(query),
  }
  const container = request.container ?? ''
  switch (verb) {
    case 'get':
    case 'list':
    case 'watch':
      return common
    case 'logs':
      return { ...common, container }
    case 'exec':
    case 'attach': {
      const { command = [], stdin = false, tty = false } = request
      return { ...common, container, command, stdin, tty }
    }
    case 'portforward':
      if (request.isOpening === true) return { ...common, container }
      return { ...common, container, ports: query.flatMap(([field, value]) => (field === 'ports' ? [value] : [])) }
    case 'proxy':
      return { ...common, proxy_path: request.proxyPath ?? '/' }
    case 'unknown':
      return { ...common, dry_run: isDryRun, ...bodyFacts(body), problem: request.problem ?? '' }
    case 'scale':
      return { ...common, dry_run: isDryRun, ...bodyFacts(body), replicas: replicasOf(request) }
    default:
      return { ...common, dry_run: isDryRun, ...(request.isOpen === true ? {} : bodyFacts(body)) }
  }
}

function queryOf(query: KubeRequest['query']): AttributeValue {
  const fields = new Map<string, string | string[]>()
  for (const [name, value] of query) {
    const other = fields.get(name)
    fields.set(name, other === undefined ? value : [...(Array.isArray(other) ? other : [other]), value])
  }
  return Object.fromEntries(fields)
}

/** Only a whole object or a merge says it in one place; of a patch by operations nobody is told. */
function replicasOf({ body }: KubeRequest): number {
  const spec = isJsonObject(body?.value) ? body.value.get('spec') : undefined
  const replicas = isJsonObject(spec) ? spec.get('replicas') : undefined
  return replicas instanceof JsonNumber && Number.isSafeInteger(Number(replicas.raw)) ? Number(replicas.raw) : -1
}
