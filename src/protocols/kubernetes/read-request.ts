/**
 * From what a client of the API wrote to the canonical request. What is understood gets the verb of its meaning, what is
 * well-formed and not understood is `unknown`, and what has two readings is refused.
 *
 * @packageDocumentation
 */
import { isJsonObject, type JsonValue } from '../../core/json.ts'
import { SallyportError } from '../../core/errors.ts'
import { readBody } from './read-body.ts'
import { readPath, writePath, type ResourcePlace } from './read-path.ts'
import { readQuery, valueOf, valuesOf, type Query } from './read-query.ts'
import type { KubeBody, KubeRequest, KubeVerb } from './request.ts'

/** A request as it was written. */
export interface WrittenRequest {
  readonly method: string
  /** Path and query. */
  readonly path: string
  readonly contentType?: string | undefined
  readonly accept?: string | undefined
  readonly body?: Uint8Array | undefined
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

type Method = (typeof METHODS)[number]

/**
 * Reads one request.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`, naming what to write instead.
 */
export function readRequest(written: WrittenRequest): KubeRequest {
  const method = METHODS.find((known) => known === written.method)
  if (method === undefined) throw invalid('The method must be GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.')
  const mark = written.path.indexOf('?')
  const place = readPath(mark < 0 ? written.path : written.path.slice(0, mark))
  const query = readQuery(mark < 0 ? '' : written.path.slice(mark + 1))
  const body = readBody(written.body, written.contentType, method)
  const accept = acceptOf(written.accept, place.kind)
  if (place.kind === 'resource') return aboutResource(method, place, query, body, accept)
  const isReading = method === 'GET' || method === 'HEAD'
  const base = { method, path: place.path, query, isDryRun: false, accept, ...(body !== undefined && { body }) }
  if (place.kind === 'discovery' && isReading) return { ...base, verb: 'discover' }
  return { ...base, verb: 'unknown', problem: `${method} on a path that is no resource of the API` }
}

function aboutResource(
  method: Method,
  place: ResourcePlace,
  query: Query,
  body: KubeBody | undefined,
  accept: string,
): KubeRequest {
  const meaning = meaningOf(method, place, query, body)
  const { group, version, namespace, resource, subresource, proxyPath } = place
  const labelSelector = valueOf(query, 'labelSelector')
  const fieldSelector = valueOf(query, 'fieldSelector')
  const written = place.name ?? nameOf(meaning.verb, body, fieldSelector)
  const name = meaning.verb === 'proxy' ? proxiedName(written) : written
  const container = valueOf(query, 'container')
  const isStreaming = meaning.verb === 'exec' || meaning.verb === 'attach'
  return {
    ...meaning,
    method,
    path: writePath(place),
    query,
    group,
    version,
    resource,
    ...(subresource !== undefined && { subresource }),
    ...(proxyPath !== undefined && { proxyPath }),
    ...(namespace !== undefined && { namespace }),
    ...(name !== undefined && { name }),
    ...(labelSelector !== undefined && labelSelector !== '' && { labelSelector }),
    ...(fieldSelector !== undefined && fieldSelector !== '' && { fieldSelector }),
    ...(container !== undefined && container !== '' && { container }),
    ...(isStreaming && {
      command: meaning.verb === 'exec' ? valuesOf(query, 'command') : [],
      stdin: valueOf(query, 'stdin') === 'true',
      tty: valueOf(query, 'tty') === 'true',
    }),
    isDryRun: isDryRun(meaning.verb, query, body),
    accept: meaning.verb === 'logs' || meaning.verb === 'proxy' ? '*/*' : accept,
    ...(body !== undefined && { body }),
  }
}

type Meaning = Pick<KubeRequest, 'verb' | 'problem'>

function meaningOf(method: Method, place: ResourcePlace, query: Query, body: KubeBody | undefined): Meaning {
  const { name, subresource, isOldWatch } = place
  if (subresource !== undefined) {
    if (isOldWatch === true) return unknown('the old form of watch on a subresource')
    return aboutSubresource(method, place)
  }
  const isWatching = isOldWatch === true || valueOf(query, 'watch') === 'true'
  switch (method) {
    case 'GET':
    case 'HEAD':
      if (isWatching) return { verb: 'watch' }
      return { verb: name === undefined ? 'list' : 'get' }
    case 'POST':
      if (name !== undefined || isOldWatch === true) return unknown('POST on an object that is there')
      // The old form of the subresource: it puts a pod on a node.
      if (place.group === '' && place.resource === 'bindings') return { verb: 'bind' }
      return { verb: isSelfReview(place) ? 'review' : 'create' }
    case 'PUT':
      return name === undefined || isOldWatch === true ? unknown('PUT without a name') : { verb: 'update' }
    case 'PATCH':
      if (name === undefined || isOldWatch === true) return unknown('PATCH without a name')
      return { verb: body?.type === 'application/apply-patch+yaml' ? 'apply' : 'patch' }
    case 'DELETE':
      if (isOldWatch === true) return unknown('DELETE on a watch')
      return { verb: name === undefined ? 'deletecollection' : 'delete' }
    default:
      return unknown(`${method} on a resource`)
  }
}

/** Subresources with a meaning of their own, and on which resources they have it. */
const SUBRESOURCES: Readonly<Record<string, { readonly on: readonly string[]; readonly verb: KubeVerb }>> = {
  exec: { on: ['pods'], verb: 'exec' },
  attach: { on: ['pods'], verb: 'attach' },
  portforward: { on: ['pods'], verb: 'portforward' },
  proxy: { on: ['pods', 'services', 'nodes'], verb: 'proxy' },
}

function aboutSubresource(method: Method, place: ResourcePlace): Meaning {
  const { group, resource, name, subresource = '' } = place
  const isReading = method === 'GET' || method === 'HEAD'
  const isChanging = method === 'PUT' || method === 'PATCH'
  const isCore = group === ''
  if (name === undefined) return unknown('a subresource without a name')
  const streaming = Object.hasOwn(SUBRESOURCES, subresource) ? SUBRESOURCES[subresource] : undefined
  if (streaming !== undefined && isCore && streaming.on.includes(resource)) {
    // Whatever the method: over WebSocket each of them is a GET, and through a proxy the method is the other side's.
    if (streaming.verb === 'proxy' || method === 'GET' || method === 'POST') return { verb: streaming.verb }
    return unknown(`${method} on ${subresource}`)
  }
  const on = (wanted: string, wantedGroup = ''): boolean => group === wantedGroup && resource === wanted
  switch (subresource) {
    case 'log':
      return on('pods') && isReading ? { verb: 'logs' } : unknown('log of something that is no pod')
    case 'eviction':
      return on('pods') && method === 'POST' ? { verb: 'evict' } : unknown(`${method} on eviction`)
    case 'binding':
      return on('pods') && method === 'POST' ? { verb: 'bind' } : unknown(`${method} on binding`)
    case 'token':
      return on('serviceaccounts') && method === 'POST' ? { verb: 'token' } : unknown(`${method} on token`)
    case 'ephemeralcontainers':
      if (!on('pods')) return unknown('ephemeralcontainers of something that is no pod')
      return isReading ? { verb: 'get' } : isChanging ? { verb: 'debug' } : unknown(`${method} on ephemeralcontainers`)
    case 'approval':
      if (!on('certificatesigningrequests', 'certificates.k8s.io')) return unknown('approval of something else')
      return isReading ? { verb: 'get' } : isChanging ? { verb: 'approve' } : unknown(`${method} on approval`)
    case 'scale':
      return isReading ? { verb: 'get' } : isChanging ? { verb: 'scale' } : unknown(`${method} on scale`)
    case 'status':
      return changing(method)
    case 'resize':
      return on('pods') ? changing(method) : unknown('resize of something that is no pod')
    case 'finalize':
      return on('namespaces') && method === 'PUT' ? { verb: 'update' } : unknown(`${method} on finalize`)
    default:
      return unknown('a subresource without a known meaning')
  }
}

function changing(method: Method): Meaning {
  if (method === 'GET' || method === 'HEAD') return { verb: 'get' }
  if (method === 'PUT') return { verb: 'update' }
  // Also by apply: the object is there already, or the server says no.
  return method === 'PATCH' ? { verb: 'patch' } : unknown(`${method} on a subresource`)
}

const SELF_REVIEWS: ReadonlySet<string> = new Set([
  'authorization.k8s.io/selfsubjectaccessreviews',
  'authorization.k8s.io/selfsubjectrulesreviews',
  'authentication.k8s.io/selfsubjectreviews',
])

function isSelfReview({ group, resource }: ResourcePlace): boolean {
  return SELF_REVIEWS.has(`${group}/${resource}`)
}

function nameOf(verb: KubeVerb, body: KubeBody | undefined, fieldSelector: string | undefined): string | undefined {
  if (verb === 'create' || verb === 'bind') {
    const name = field(field(body?.value, 'metadata'), 'name')
    return typeof name === 'string' && name !== '' ? name : undefined
  }
  if (verb !== 'list' && verb !== 'watch') return undefined
  // Terms are joined by "and", so that one of them can only narrow what another one pins.
  const pinned = (fieldSelector ?? '')
    .split(',')
    .flatMap((term) => /^metadata\.name==?([^=!]+)$/u.exec(term)?.[1] ?? [])
  return pinned.length === 1 && !(fieldSelector ?? '').includes('\\') ? pinned[0] : undefined
}

/** Before a proxy a name may be `scheme:name:port` (apimachinery, `SplitSchemeNamePort`); rules speak of the name. */
function proxiedName(written: string | undefined): string | undefined {
  const pieces = written?.split(':') ?? []
  return pieces.length === 3 ? pieces[1] : pieces[0]
}

/** Options of a deletion may stand in the query, or in the body, which then is all the server reads. */
const DELETE_OPTIONS = ['dryRun', 'gracePeriodSeconds', 'propagationPolicy', 'orphanDependents']

/** What the server can pretend. Anything else it does, whatever the query says of a dry run. */
const PRETENDED: ReadonlySet<KubeVerb> = new Set([
  'create',
  'update',
  'patch',
  'apply',
  'scale',
  'delete',
  'deletecollection',
  'evict',
  'debug',
  'bind',
  'approve',
])

function isDryRun(verb: KubeVerb, query: Query, body: KubeBody | undefined): boolean {
  const inQuery = valueOf(query, 'dryRun')
  if (inQuery !== undefined && inQuery !== 'All') throw invalid('The parameter dryRun has one value: All.')
  if (!PRETENDED.has(verb)) return false
  if (verb === 'delete' || verb === 'deletecollection') {
    if (body === undefined) return inQuery === 'All'
    const both = DELETE_OPTIONS.find((option) => valueOf(query, option) !== undefined)
    if (both !== undefined) throw invalid(`With options in the body, ${both} in the query would not be read.`)
    return isDryRunIn(body.value)
  }
  if (verb === 'evict') return inQuery === 'All' || isDryRunIn(field(body?.value, 'deleteOptions'))
  return inQuery === 'All'
}

function isDryRunIn(options: JsonValue | undefined): boolean {
  const value = field(options, 'dryRun')
  if (value === undefined || value === null) return false
  const list = Array.isArray(value) ? (value as readonly JsonValue[]) : [value]
  if (list.length === 0) return false
  if (list.some((one) => one !== 'All')) throw invalid('The field dryRun has one value: ["All"].')
  return true
}

function field(value: JsonValue | undefined, name: string): JsonValue | undefined {
  return isJsonObject(value) ? value.get(name) : undefined
}

function unknown(problem: string): Meaning {
  return { verb: 'unknown', problem }
}

const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json'
const METADATA = 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io'
const METADATA_LIST = 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io'

/**
 * What is asked for, in one of the forms masks can read. Binary forms are asked for as JSON: every client of the API reads
 * it, whatever it would rather have had.
 */
function acceptOf(accept: string | undefined, kind: 'resource' | 'discovery' | 'other'): string {
  const wanted = (accept ?? '').toLowerCase().replaceAll(' ', '')
  if (kind !== 'resource') {
    if (wanted.includes('as=apigroupdiscoverylist')) return discoveryAccept(wanted)
    if (wanted.includes('proto-openapi')) return OPENAPI
    return 'application/json, */*'
  }
  const [first = ''] = wanted.split(',').filter((one) => one.startsWith('application/'))
  if (first.includes('as=table')) return TABLE
  if (first.includes('as=partialobjectmetadatalist')) return METADATA_LIST
  return first.includes('as=partialobjectmetadata') ? METADATA : 'application/json'
}

/** OpenAPI describes kinds and holds nothing of anybody's: it may be binary, and old clients read nothing else. */
const OPENAPI = 'application/com.github.proto-openapi.spec.v2@v1.0+protobuf,application/json'

function discoveryAccept(wanted: string): string {
  const versions = ['v2', 'v2beta1'].filter((version) => wanted.includes(`v=${version};`))
  const forms = versions.map(
    (version) => `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`,
  )
  return [...forms, 'application/json'].join(',')
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
