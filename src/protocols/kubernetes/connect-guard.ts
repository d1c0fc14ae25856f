/**
 * What an approved change must still find: the very object its preview was made of, in the state it was in. The state is
 * everything but what the server and its controllers report, so that a heartbeat asks nobody again.
 *
 * Checking and changing are two requests; where the API has preconditions the change carries them, so that nothing comes
 * in between.
 *
 * @packageDocumentation
 */
import { createHash } from 'node:crypto'
import { SallyportError } from '../../core/errors.ts'
import { isJsonObject, JsonNumber, parseJson, writeJson, type JsonObject, type JsonValue } from '../../core/json.ts'
import { withoutEffect } from './connect-errors.ts'
import { ask, send, type Answer, type Upstream } from './connect-send.ts'
import { bodyOf } from './read-body.ts'
import { readRequest } from './read-request.ts'
import { targetOf, type KubeRequest } from './request.ts'

/** What stands at the place of a request. */
export interface Found {
  /** `undefined` when there is none. */
  readonly value: JsonValue | undefined
  readonly digest: string
  readonly version?: string
  readonly uid?: string
}

/** Requests that change what a guard can be made of. */
export function isGuarded({ verb, name, isDryRun, isOpen }: KubeRequest): boolean {
  if (isDryRun || isOpen === true) return false
  if (verb === 'deletecollection') return true
  return name !== undefined && ['update', 'patch', 'apply', 'scale', 'delete', 'evict'].includes(verb)
}

/**
 * Reads what a request would change.
 *
 * @throws SallyportError when the server does not say.
 */
export async function findBefore(request: KubeRequest, upstream: Upstream): Promise<Found> {
  const { status, value } = await ask(readerOf(request), upstream)
  if (status === 404) return { value: undefined, digest: 'none' }
  if (status !== 200 || !isJsonObject(value)) {
    throw new SallyportError('ERR_UPSTREAM_REJECTED', `The API server does not show what would change (${status}).`, {
      facts: { noEffect: true },
    })
  }
  if (request.verb === 'deletecollection') return { value, digest: digestOfList(value) }
  const metadata = value.get('metadata')
  const field = (name: string): string | undefined => {
    const text = isJsonObject(metadata) ? metadata.get(name) : undefined
    return typeof text === 'string' ? text : undefined
  }
  const [uid, version] = [field('uid'), field('resourceVersion')]
  return {
    value,
    digest: hash([uid ?? '', writeJson(stateOf(value, request))]),
    ...(uid !== undefined && { uid }),
    ...(version !== undefined && { version }),
  }
}

/** The read that shows what a change is made to. */
function readerOf({ verb, path, labelSelector, fieldSelector }: KubeRequest): KubeRequest {
  if (verb === 'evict') return readRequest({ method: 'GET', path: path.replace(/\/eviction$/u, '') })
  if (verb !== 'deletecollection') return readRequest({ method: 'GET', path })
  const query = [
    ...(labelSelector === undefined ? [] : [['labelSelector', labelSelector] as const]),
    ...(fieldSelector === undefined ? [] : [['fieldSelector', fieldSelector] as const]),
  ]
  return readRequest({ method: 'GET', path: targetOf({ path, query }) })
}

const REPORTED = new Set(['resourceVersion', 'generation', 'managedFields', 'selfLink'])

/** What of an object its owners decide. Of a change to its status, that too. */
function stateOf(value: JsonObject, { subresource, verb, query }: KubeRequest): JsonValue {
  const metadata = value.get('metadata')
  const fields = new Map([...value].filter(([key]) => key !== 'status' || subresource === 'status'))
  if (!isJsonObject(metadata)) return fields
  const kept = new Map([...metadata].filter(([key]) => !REPORTED.has(key)))
  // What apply takes away is decided by what the same manager had applied before.
  if (verb === 'apply') kept.set('managedFields', appliedBy(metadata, query))
  return fields.set('metadata', kept)
}

function appliedBy(metadata: JsonObject, query: KubeRequest['query']): JsonValue {
  const manager = query.find(([name]) => name === 'fieldManager')?.[1]
  const entries = metadata.get('managedFields')
  if (!Array.isArray(entries)) return []
  return (entries as readonly JsonValue[]).flatMap((entry) =>
    isJsonObject(entry) && entry.get('manager') === manager && entry.get('operation') === 'Apply'
      ? [entry.get('fieldsV1') ?? null]
      : [],
  )
}

function digestOfList(list: JsonObject): string {
  const items = list.get('items')
  const uids = (Array.isArray(items) ? (items as readonly JsonValue[]) : []).map((item) => {
    const metadata = isJsonObject(item) ? item.get('metadata') : undefined
    const uid = isJsonObject(metadata) ? metadata.get('uid') : undefined
    return typeof uid === 'string' ? uid : ''
  })
  return hash(uids.sort())
}

/** A hash of texts, each of which is told from the next. */
export function hash(texts: readonly string[]): string {
  const sum = createHash('sha256')
  for (const text of texts) sum.update(`${text.length}:`).update(text)
  return sum.digest('base64url')
}

/** Writes guards of requests, in their order. */
export function writeGuard(digests: readonly string[]): string {
  return JSON.stringify(digests)
}

/**
 * Reads a guard.
 *
 * @throws SallyportError `ERR_APPROVAL_STALE` when it cannot be read: what was approved cannot be told any more.
 */
export function readGuard(guard: string): readonly string[] {
  const parsed = parseJson(guard)?.value
  if (
    Array.isArray(parsed) &&
    parsed.length > 0 &&
    (parsed as readonly JsonValue[]).every((one) => typeof one === 'string')
  ) {
    return parsed as readonly string[]
  }
  throw stale('What the preview had found cannot be read any more.')
}

/** Says that something else stands there than what was approved. */
export function stale(what: string): SallyportError {
  return new SallyportError('ERR_APPROVAL_STALE', what, { facts: { noEffect: true, askAgain: true } })
}

/** How often a change is sent anew because the server's own reports came in between. */
const TRIES_MAX = 3

/**
 * Sends a change whose guard still holds, with the preconditions the API has for it.
 *
 * @throws SallyportError `ERR_APPROVAL_STALE` when something else stands there than what was approved.
 */
export async function sendGuarded(
  request: KubeRequest,
  digest: string,
  upstream: Upstream,
  accept = request.accept,
): Promise<Answer> {
  let found = await checked(request, digest, upstream)
  for (let tries = 1; ; tries++) {
    const answer = await send(withPreconditions(request, found), upstream, accept)
    // A precondition that fails is a conflict; a failed test of a patch by operations is invalid.
    if (answer.statusCode !== 409 && answer.statusCode !== 422) return answer
    try {
      const now = await checked(request, digest, upstream)
      if (now.version === found.version || tries >= TRIES_MAX) return answer
      found = now
    } catch (error) {
      answer.body.on('error', () => undefined).destroy()
      throw error
    }
    answer.body.on('error', () => undefined).destroy()
  }
}

async function checked(request: KubeRequest, digest: string, upstream: Upstream): Promise<Found> {
  const found = await findBefore(request, upstream).catch((error: unknown) => {
    // Nothing was sent yet, or the server has said no to it.
    throw withoutEffect(error, upstream.signal)
  })
  if (found.digest === digest) return found
  throw stale('What the call would change is no longer what it was when the approvers were shown it.')
}

/** Adds what makes the server refuse when something else stands there by then. What the caller demands stays. */
export function withPreconditions(request: KubeRequest, { uid, version }: Found): KubeRequest {
  if (uid === undefined || version === undefined) return request
  switch (request.verb) {
    case 'delete':
      return withOptions(
        request,
        ['preconditions'],
        [
          ['uid', uid],
          ['resourceVersion', version],
        ],
      )
    case 'evict':
      return withOptions(request, ['deleteOptions', 'preconditions'], [['uid', uid]])
    case 'update':
    case 'patch':
    case 'apply':
    case 'scale':
      return changed(request, uid, version)
    default:
      return request
  }
}

const DELETE_OPTIONS: JsonObject = new Map([
  ['apiVersion', 'v1'],
  ['kind', 'DeleteOptions'],
])

function withOptions(
  request: KubeRequest,
  path: readonly string[],
  fields: readonly (readonly [string, string])[],
): KubeRequest {
  const { value, type } = request.body ?? { value: optionsIn(request.query), type: 'application/json' }
  // The server reads options of the query only where there is no body.
  const query = request.body === undefined ? request.query.filter(([name]) => !IN_QUERY.has(name)) : request.query
  return { ...request, query, body: bodyOf(added(value, path, fields), type) }
}

/** How options of a deletion are written in JSON that stand in the query (Kubernetes API, `DeleteOptions`). */
const IN_QUERY: ReadonlyMap<string, (text: string) => JsonValue> = new Map<string, (text: string) => JsonValue>([
  ['gracePeriodSeconds', (text) => new JsonNumber(text)],
  ['propagationPolicy', (text) => text],
  ['orphanDependents', (text) => text === 'true'],
])

/** @throws SallyportError `ERR_INVALID_INPUT` for a number that is none. */
function optionsIn(query: KubeRequest['query']): JsonValue {
  const options = new Map<string, JsonValue>(DELETE_OPTIONS)
  for (const [name, text] of query) {
    if (name === 'gracePeriodSeconds' && !/^(?:0|[1-9]\d{0,8})$/u.test(text)) {
      throw new SallyportError('ERR_INVALID_INPUT', 'gracePeriodSeconds takes a number.', { facts: { noEffect: true } })
    }
    const read = IN_QUERY.get(name)
    if (read !== undefined) options.set(name, read(text))
  }
  return options
}

function changed(request: KubeRequest, uid: string, version: string): KubeRequest {
  const { body } = request
  if (body === undefined) return request
  if (body.type !== 'application/json-patch+json') {
    const value = added(
      body.value,
      ['metadata'],
      [
        ['uid', uid],
        ['resourceVersion', version],
      ],
    )
    return { ...request, body: bodyOf(value, body.type) }
  }
  if (!Array.isArray(body.value)) return request
  const test = new Map<string, JsonValue>([
    ['op', 'test'],
    ['path', '/metadata/resourceVersion'],
    ['value', version],
  ])
  return { ...request, body: bodyOf([test, ...(body.value as readonly JsonValue[])], body.type) }
}

/** A copy with fields that are not there yet. */
function added(
  value: JsonValue | undefined,
  [step, ...rest]: readonly string[],
  fields: readonly (readonly [string, string])[],
): JsonValue {
  const map = isJsonObject(value) ? value : new Map<string, JsonValue>()
  if (step !== undefined) return new Map([...map, [step, added(map.get(step), rest, fields)]])
  return new Map([...map, ...fields.filter(([name]) => !map.has(name))])
}
