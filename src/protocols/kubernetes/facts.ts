/**
 * What policies may test of a body: the object as it is, and what pods in it would be allowed to do, wherever in it they
 * stand.
 *
 * @packageDocumentation
 */
import type { AttributeValue } from '../../core/action.ts'
import { isJsonObject, JsonNumber, type JsonValue } from '../../core/json.ts'
import type { KubeBody } from './request.ts'

type Attributes = Readonly<Record<string, AttributeValue>>

/** Facts of a body. A patch by operations names places and no objects, so nothing is said of what pods in it would do. */
export function bodyFacts(body: KubeBody | undefined): Attributes {
  if (body === undefined) return { body: null, content_type: '', ...podFacts(null) }
  const base = { body: plainOf(body.value), content_type: body.type }
  return body.type === 'application/json-patch+json' ? base : { ...base, ...podFacts(body.value) }
}

function podFacts(value: JsonValue): Attributes {
  const found = new Found()
  found.walk(value)
  return {
    images: [...found.images].sort(),
    host_access: [...found.host].sort(),
    service_accounts: [...found.accounts].sort(),
  }
}

const HOST_FLAGS = new Set([
  'privileged',
  'hostNetwork',
  'hostPID',
  'hostIPC',
  'hostProcess',
  'allowPrivilegeEscalation',
])

/** Looks everywhere: a template may stand in any kind, and a kind nobody knows may make pods of it. */
class Found {
  readonly images = new Set<string>()
  readonly host = new Set<string>()
  readonly accounts = new Set<string>()

  walk(value: JsonValue): void {
    if (Array.isArray(value)) for (const item of value as readonly JsonValue[]) this.walk(item)
    if (!isJsonObject(value)) return
    for (const [key, field] of value) {
      if (HOST_FLAGS.has(key) && field === true) this.host.add(key)
      else if (key === 'hostPath' && field !== null) this.host.add(key)
      else if (key === 'hostPort' && field instanceof JsonNumber && Number(field.raw) > 0) this.host.add(key)
      else if (key === 'capabilities' && isJsonObject(field) && isFilled(field.get('add'))) this.host.add(key)
      else if (key === 'image' && typeof field === 'string') this.images.add(field)
      else if ((key === 'serviceAccountName' || key === 'serviceAccount') && typeof field === 'string') {
        if (field !== '') this.accounts.add(field)
      }
      this.walk(field)
    }
  }
}

function isFilled(list: JsonValue | undefined): boolean {
  return Array.isArray(list) && list.length > 0
}

/** JSON as conditions read it. */
export function plainOf(value: JsonValue): AttributeValue {
  if (value instanceof JsonNumber) return Number(value.raw)
  if (isJsonObject(value)) return Object.fromEntries([...value].map(([key, field]) => [key, plainOf(field)]))
  if (Array.isArray(value)) return (value as readonly JsonValue[]).map(plainOf)
  return value as string | boolean | null
}
