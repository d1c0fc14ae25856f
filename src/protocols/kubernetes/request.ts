/**
 * The canonical request: what one exchange with the API server means, and the only thing that is ever sent.
 *
 * A tool's arguments and an API path end here alike. The method says little: `exec` is a GET, an eviction is a POST that
 * deletes, a proxied request is whatever the thing behind it makes of it. The verb is therefore taken from what the server would
 * do (Kubernetes API concepts, "Resource URIs"), and the path that is sent is built from what was understood, never
 * copied from what was written.
 *
 * @packageDocumentation
 */
import type { JsonValue } from '../../core/json.ts'

/** What a request does. `k8s.` before it is the verb policies speak of. */
export type KubeVerb =
  | 'get'
  | 'list'
  | 'watch'
  | 'create'
  | 'update'
  | 'patch'
  | 'apply'
  | 'delete'
  | 'deletecollection'
  | 'logs'
  | 'exec'
  | 'attach'
  | 'debug'
  | 'portforward'
  | 'proxy'
  | 'evict'
  | 'scale'
  | 'token'
  | 'bind'
  | 'approve'
  | 'review'
  | 'discover'
  | 'unknown'

/** A body, read once; what is sent is its canonical text. */
export interface KubeBody {
  /** Media type it is sent as: `application/json` or one of the patch types. */
  readonly type: string
  readonly value: JsonValue
  /** The bytes that are sent. */
  readonly bytes: Uint8Array
}

/** One request to the API server, complete but for the credential. */
export interface KubeRequest {
  readonly verb: KubeVerb
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'OPTIONS'
  /** As it is sent, without the query. */
  readonly path: string
  /** As it is sent, in order; booleans are `true` or left out, names stand once but for `command` and `ports`. */
  readonly query: readonly (readonly [string, string])[]
  /** `''` for the core group. Left out, with `version` and `resource`, for what is no resource. */
  readonly group?: string
  readonly version?: string
  /** Plural, in lower case: `pods`. */
  readonly resource?: string
  readonly subresource?: string
  /** What follows `proxy`, with its slash. */
  readonly proxyPath?: string
  readonly namespace?: string
  /** Of a create, the name in the body; of a list or watch, the name its field selector pins. */
  readonly name?: string
  readonly labelSelector?: string
  readonly fieldSelector?: string
  /** Words of exec, as they are run. */
  readonly command?: readonly string[]
  readonly container?: string
  readonly stdin?: boolean
  readonly tty?: boolean
  /** Whether the server only pretends, whichever way that was asked for. Admission webhooks still run. */
  readonly isDryRun: boolean
  /** What is asked for: always JSON where an object comes back. */
  readonly accept: string
  readonly body?: KubeBody
  /** Set where body or name are known only once an earlier request of the same call was answered. */
  readonly isOpen?: true
  /** Set for a forwarding as such: nothing is sent, and each connection in it is a request of its own. */
  readonly isOpening?: true
  /** How much of its object each row of the answer may carry; set where the server is asked for more. */
  readonly rows?: 'None' | 'Metadata' | 'Object'
  /** Why the verb is `unknown`. */
  readonly problem?: string
}

/** Whether a request turns its connection into streams. */
export function isStream({ verb }: KubeRequest): boolean {
  return verb === 'exec' || verb === 'attach' || verb === 'portforward'
}

/** Path and query as they are sent. */
export function targetOf({ path, query }: Pick<KubeRequest, 'path' | 'query'>): string {
  if (query.length === 0) return path
  const fields = query.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
  return `${path}?${fields.join('&')}`
}

/** How policies name what a request touches: `core/pods`, `apps/deployments`, `core/pods/status`; `-` for no resource. */
export function kindOf({ verb, group, resource, subresource }: KubeRequest): string | undefined {
  if (resource === undefined) return undefined
  const kind = `${group === undefined || group === '' ? 'core' : group}/${resource}`
  return subresource === undefined || SAID_BY_VERB[subresource]?.includes(verb) === true
    ? kind
    : `${kind}/${subresource}`
}

/** Subresources whose meaning is the verb, so that the rule speaks of the object itself. */
const SAID_BY_VERB: Readonly<Record<string, readonly KubeVerb[]>> = {
  log: ['logs'],
  exec: ['exec'],
  attach: ['attach'],
  portforward: ['portforward'],
  proxy: ['proxy'],
  eviction: ['evict'],
  binding: ['bind'],
  token: ['token'],
  ephemeralcontainers: ['debug'],
  scale: ['scale'],
  approval: ['approve'],
}
