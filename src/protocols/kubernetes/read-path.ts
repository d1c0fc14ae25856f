/**
 * Reads an API path strictly (Kubernetes API concepts, "Resource URIs"). Whatever two parsers could read apart is refused
 * with the accepted form: escapes, empty and dot segments, letters in the wrong case. What is understood is a place; the
 * path that is sent is built from it anew.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../core/errors.ts'

/** Where a path leads. */
export type Place =
  | { readonly kind: 'discovery'; readonly path: string }
  | { readonly kind: 'other'; readonly path: string }
  | ResourcePlace

/** A resource, or one object, or a subresource of it. */
export interface ResourcePlace {
  readonly kind: 'resource'
  readonly group: string
  readonly version: string
  readonly namespace?: string
  readonly resource: string
  readonly name?: string
  readonly subresource?: string
  /** Behind `proxy`, with its slash. */
  readonly proxyPath?: string
  /** Set for the old form with `/watch/` before the resource. */
  readonly isOldWatch?: true
}

/** RFC 1123 labels and subdomains, and what names of roles and bindings have besides (`system:node`). */
const GROUP = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/u
const VERSION = /^v[1-9]\d*(?:(?:alpha|beta)[1-9]\d*)?$/u
const RESOURCE = /^[a-z][a-z0-9-]{0,62}$/u
const NAMESPACE = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/u
const NAME = /^[A-Za-z0-9._:@-]{1,253}$/u

/** Paths that tell about the server and nothing else. */
const DISCOVERY =
  /^\/(?:api|apis|version|openapi|openapi\/v2|openapi\/v3(?:\/.*)?|swagger\.json|healthz|livez|readyz|\.well-known\/openid-configuration|openid\/v1\/jwks)$/u

/**
 * Reads a path without its query.
 *
 * @throws SallyportError `ERR_INVALID_INPUT` for a path with more than one reading.
 */
export function readPath(path: string): Place {
  if (!path.startsWith('/')) throw invalid('The path must start with a slash.')
  if (/[^\x21-\x7e]/u.test(path) || /[%\\;?#]/u.test(path)) {
    throw invalid('The path must be plain: no escapes, no backslash, no other than printable ASCII characters.')
  }
  const isTrailing = path.length > 1 && path.endsWith('/')
  const segments = (isTrailing ? path.slice(1, -1) : path.slice(1)).split('/')
  const proxied = proxiedFrom(segments)
  const judged = proxied === undefined ? segments : segments.slice(0, proxied)
  if (segments.some((segment) => segment === '.' || segment === '..') || judged.includes('')) {
    throw invalid('The path must be written as it is meant, without empty, "." and ".." segments.')
  }
  const plain = `/${segments.join('/')}`
  if (proxied === undefined && DISCOVERY.test(plain)) return { kind: 'discovery', path: plain }
  const [root = '', ...rest] = segments
  if (root === 'api') return underVersion('', rest, path, plain)
  if (root === 'apis') {
    const [group = '', ...more] = rest
    // Policies write the group without a name as `core`; a group of that name would be taken for it.
    if (!GROUP.test(group) || group === 'core') throw invalid('The API group in the path is not a group.')
    if (more.length === 0) return { kind: 'discovery', path: plain }
    return underVersion(group, more, path, plain)
  }
  return { kind: 'other', path: plain }
}

/** The index of what follows a `proxy` subresource; everything there belongs to somebody else's path. */
function proxiedFrom(segments: readonly string[]): number | undefined {
  const start = segments[0] === 'api' ? 2 : segments[0] === 'apis' ? 3 : undefined
  if (start === undefined) return undefined
  const at = start + (segments[start] === 'namespaces' ? 4 : 2)
  // `/api/v1/namespaces/x/proxy` names no resource that could be proxied, and is read like any other.
  return segments[at] === 'proxy' && segments.length > at + 1 ? at + 1 : undefined
}

function underVersion(group: string, rest: readonly string[], path: string, plain: string): Place {
  const [version = '', ...after] = rest
  if (!VERSION.test(version)) throw invalid('The API version in the path is not a version.')
  if (after.length === 0) return { kind: 'discovery', path: plain }
  const isOldWatch = after[0] === 'watch'
  const segments = isOldWatch ? after.slice(1) : after
  if (segments[0] === undefined) throw invalid('The path names no resource.')
  const base = { kind: 'resource', group, version, ...(isOldWatch && { isOldWatch }) } as const
  const [first, second, third, ...more] = segments
  if (first === 'namespaces' && second !== undefined && third !== undefined && !OF_NAMESPACE.has(third)) {
    if (!NAMESPACE.test(second)) throw invalid('The namespace in the path is not a namespace.')
    return object({ ...base, namespace: second }, [third, ...more], path)
  }
  return object(base, segments, path)
}

/** Subresources of a namespace itself; anything else behind its name is a resource inside it. */
const OF_NAMESPACE = new Set(['status', 'finalize'])

function object(
  base: Omit<ResourcePlace, 'resource'>,
  [resource = '', name, subresource, ...more]: readonly string[],
  path: string,
): ResourcePlace {
  if (!RESOURCE.test(resource)) throw invalid('The resource in the path is not the plural of a kind.')
  if (name !== undefined && !NAME.test(name)) throw invalid('The name in the path is not the name of an object.')
  if (subresource !== undefined && !RESOURCE.test(subresource)) throw invalid('The subresource in the path is none.')
  if (subresource === 'proxy') {
    const rest = more.length > 0 || path.endsWith('/') ? `/${more.join('/')}` : undefined
    const tail = rest !== undefined && path.endsWith('/') && !rest.endsWith('/') ? `${rest}/` : rest
    return { ...base, resource, ...named(name), subresource, ...(tail !== undefined && { proxyPath: tail }) }
  }
  if (more.length > 0) throw invalid('The path goes on behind a subresource.')
  if (path.endsWith('/')) throw invalid('The path must not end with a slash.')
  return { ...base, resource, ...named(name), ...(subresource !== undefined && { subresource }) }
}

function named(name: string | undefined): { readonly name?: string } {
  return name === undefined ? {} : { name }
}

/** Writes the path of a place, the only form in which it is sent. */
export function writePath(place: ResourcePlace): string {
  const { group, version, namespace, resource, name, subresource, proxyPath = '', isOldWatch } = place
  const pieces = [
    ...(group === '' ? ['api', version] : ['apis', group, version]),
    ...(isOldWatch === true ? ['watch'] : []),
    ...(namespace === undefined ? [] : ['namespaces', namespace]),
    resource,
    ...(name === undefined ? [] : [name]),
    ...(subresource === undefined ? [] : [subresource]),
  ]
  return `/${pieces.join('/')}${proxyPath}`
}

/** Whether a text can be a name in a path. */
export function isName(text: string): boolean {
  return NAME.test(text) && text !== '.' && text !== '..'
}

/** Whether a text can be a namespace. */
export function isNamespace(text: string): boolean {
  return NAMESPACE.test(text)
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
