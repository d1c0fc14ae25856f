/**
 * What a call would change, by the server's own dry run (Kubernetes API concepts, "Dry-run"): the request goes through
 * admission and validation, and is not kept. What the server cannot try that way is not tried.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../core/errors.ts'
import { isJsonObject, parseJson, type JsonValue } from '../../core/json.ts'
import type { Preview, PreviewSection } from '../../core/preview.ts'
import { findBefore, hash, isGuarded, writeGuard, type Found } from './connect-guard.ts'
import { ask, send, wholeOf, type Upstream } from './connect-send.ts'
import { refusalOf } from './connect-step.ts'
import { isServedByTheServer } from './kinds.ts'
import type { KubePlan } from './plan.ts'
import { diffOf } from './preview-diff.ts'
import { bodyOf } from './read-body.ts'
import { readRequest } from './read-request.ts'
import { dated } from './connect-dated.ts'
import { kindOf, type KubeRequest } from './request.ts'
import { undoPatch } from './undo.ts'

const READS: ReadonlySet<string> = new Set(['get', 'list', 'watch', 'logs', 'review', 'discover'])
/** Why there is no dry run of the rest. */
const UNTRIED: Readonly<Partial<Record<KubeRequest['verb'], string>>> = {
  exec: 'what a command does in a container is known when it has run',
  attach: 'what is typed is known when it is typed',
  portforward: 'what goes through a forwarded port is known when it does',
  proxy: 'what stands behind a proxy has no dry run',
  token: 'a token cannot be made on trial',
  unknown: 'what is not understood is not tried',
}
const LIST_MAX = 500

/** Works out what a call would change. Leaves nothing behind. */
export async function previewOf(plan: KubePlan, upstream: Upstream): Promise<Preview> {
  const sections: PreviewSection[] = []
  const digests: string[] = []
  for (const planned of plan.requests) {
    if (READS.has(planned.verb)) continue
    const request = planned.isOpen === true ? await completed(plan, planned, upstream) : planned
    const found = isGuarded(request) ? await findBefore(request, upstream) : undefined
    const why = await reasonAgainst(request, upstream)
    if (why !== undefined) return { sections, missing: `There is no preview: ${why}.` }
    sections.push(await sectionOf(request, found, upstream))
    if (found === undefined) continue
    digests.push(found.digest)
    // Of what is taken back, the template it is taken back to.
    if (planned.isOpen === true) digests.push(hashOfUndo(request))
  }
  return { sections, ...(digests.length > 0 && isChecked(plan) && { guard: writeGuard(digests) }) }
}

/** Evictions of a drain name the pods by uid, and what becomes of each is told. */
function isChecked({ tool }: KubePlan): boolean {
  return tool?.command !== 'drain'
}

/** What an open request will be, as far as it can be said now. */
async function completed({ tool, requests }: KubePlan, open: KubeRequest, upstream: Upstream): Promise<KubeRequest> {
  const [first, second] = requests
  if (tool?.command !== 'rollout_undo' || first === undefined || second === undefined) {
    throw new SallyportError('ERR_UPSTREAM_REJECTED', 'what would be sent is known once the call runs.')
  }
  const [deployment, sets] = await Promise.all([valueOf(first, upstream), valueOf(second, upstream)])
  const { isOpen: _, ...rest } = open
  return { ...rest, body: bodyOf(undoPatch(deployment, sets, tool.revision), 'application/json-patch+json') }
}

/** The digest of the template an undo puts in place. */
export function hashOfUndo({ body }: KubeRequest): string {
  const operations = Array.isArray(body?.value) ? (body.value as readonly JsonValue[]) : []
  const values = operations.flatMap((one) => (isJsonObject(one) && one.get('op') === 'replace' ? [one] : []))
  return hash(values.map((one) => Buffer.from(bodyOf(one, '').bytes).toString('utf8')))
}

async function valueOf(request: KubeRequest, upstream: Upstream): Promise<JsonValue> {
  const { status, value } = await ask(request, upstream)
  if (status !== 200 || value === undefined) throw refusalOf(request, status, value, '')
  return value
}

async function reasonAgainst(request: KubeRequest, upstream: Upstream): Promise<string | undefined> {
  const { verb, subresource } = request
  const untried = UNTRIED[verb]
  if (untried !== undefined) return untried
  if (subresource !== undefined && !['status', 'scale', 'eviction'].includes(subresource)) {
    return `a change of ${subresource} is not tried`
  }
  // A server behind the API server may take no notice of "dry run", and do it.
  return (await keepsDryRuns(request, upstream))
    ? undefined
    : 'the kind is served by another server, which may have no dry run'
}

/** Whether the API server itself serves a kind, built in or by a definition. */
async function keepsDryRuns({ group = '', version = '' }: KubeRequest, upstream: Upstream): Promise<boolean> {
  if (isServedByTheServer(group)) return true
  const path = `/apis/apiregistration.k8s.io/v1/apiservices/${version}.${group}`
  const { status, value } = await ask(readRequest({ method: 'GET', path }), upstream)
  const spec = isJsonObject(value) ? value.get('spec') : undefined
  return status === 200 && isJsonObject(spec) && (spec.get('service') ?? null) === null
}

async function sectionOf(request: KubeRequest, found: Found | undefined, upstream: Upstream): Promise<PreviewSection> {
  const { verb } = request
  const title = titleOf(request)
  const after = await tried(request, upstream)
  if (verb === 'deletecollection') return listed(title, found?.value)
  if (verb === 'delete' || verb === 'evict') {
    return { title, text: [...factsOf(found?.value), ...optionsOf(request)].join('\n') }
  }
  const { text, hidden } = diffOf(found?.value, after, request)
  const lines = [
    ...(found?.value === undefined && verb !== 'create' ? ['It is not there yet and would be made.'] : []),
    ...hidden.map((path) => `${path}: the value changes; it is not shown to anybody`),
    ...(text === '' && hidden.length === 0 ? ['Nothing would change.'] : []),
  ]
  const lead = lines.map((line) => `${line}\n`).join('')
  return {
    title,
    text: lead + text,
    ...(text !== '' && { data: [{ start: lead.length, end: lead.length + text.length, form: 'opaque' as const }] }),
  }
}

function titleOf(request: KubeRequest): string {
  const { verb, namespace, name } = request
  const place = [namespace, name].filter((part) => part !== undefined).join('/')
  return `${verb} ${kindOf(request) ?? ''} ${place}`.trimEnd()
}

/** Sends the request as a dry run. @throws SallyportError what the server refuses, such as webhooks with side effects. */
async function tried(request: KubeRequest, upstream: Upstream): Promise<JsonValue | undefined> {
  const sent = asDryRun(dated(request))
  const answer = await send(sent, upstream, 'application/json')
  const text = (await wholeOf(answer, upstream.options.bytesMax, upstream.signal)).toString('utf8')
  const value = parseJson(text)?.value
  if (answer.statusCode >= 400) throw refusalOf(sent, answer.statusCode, value, text)
  return value
}

/** The same request, and the server only pretends. Says so wherever the server may look. */
export function asDryRun(request: KubeRequest): KubeRequest {
  const query = [...request.query.filter(([name]) => name !== 'dryRun'), ['dryRun', 'All'] as const]
  const all: JsonValue = ['All']
  const { verb, body } = request
  if (body === undefined || !isJsonObject(body.value)) return { ...request, query, isDryRun: true }
  if (verb === 'delete' || verb === 'deletecollection') {
    return { ...request, isDryRun: true, body: bodyOf(new Map([...body.value, ['dryRun', all]]), body.type) }
  }
  if (verb !== 'evict') return { ...request, query, isDryRun: true }
  const options = body.value.get('deleteOptions')
  const pretending = new Map([...(isJsonObject(options) ? options : []), ['dryRun', all] as const])
  return {
    ...request,
    isDryRun: true,
    body: bodyOf(new Map([...body.value, ['deleteOptions', pretending]]), body.type),
  }
}

/** What of an object tells whether it may go. */
function factsOf(value: JsonValue | undefined): readonly string[] {
  if (value === undefined) return ['It is not there.']
  const owners = listAt(value, 'metadata', 'ownerReferences').map(
    (owner) => `${wordAt(owner, 'kind')} ${wordAt(owner, 'name')}`,
  )
  const finalizers = listAt(value, 'metadata', 'finalizers').map((one) => (typeof one === 'string' ? one : ''))
  return [
    `uid ${wordAt(value, 'metadata', 'uid')}, made ${wordAt(value, 'metadata', 'creationTimestamp')}`,
    ...(owners.length > 0 ? [`It belongs to ${owners.join(', ')}, which may make it anew.`] : []),
    ...(finalizers.length > 0 ? [`It goes only when these have finished: ${finalizers.join(', ')}.`] : []),
    ...(at(value, 'metadata', 'deletionTimestamp') === undefined ? [] : ['It is being deleted already.']),
  ]
}

const PROPAGATION: Readonly<Record<string, string>> = {
  Orphan: 'What belongs to it stays.',
  Foreground: 'What belongs to it is deleted first.',
  Background: 'What belongs to it is deleted afterwards.',
}

function optionsOf({ verb, body, query }: KubeRequest): readonly string[] {
  const inQuery = query.find(([name]) => name === 'propagationPolicy')?.[1]
  const policy = wordAt(body?.value, 'propagationPolicy') || (inQuery ?? '')
  const said = PROPAGATION[policy]
  return verb === 'delete' && said !== undefined ? [said] : []
}

function listed(title: string, list: JsonValue | undefined): PreviewSection {
  const items = listAt(list, 'items')
  const rows = items
    .slice(0, LIST_MAX)
    .map((item) => [wordAt(item, 'metadata', 'namespace'), wordAt(item, 'metadata', 'name')])
  return {
    title: `${title}: ${items.length} objects`,
    table: { columns: ['namespace', 'name'], rows },
    ...(items.length > rows.length && { more: items.length - rows.length }),
  }
}

function at(value: JsonValue | undefined, ...path: readonly string[]): JsonValue | undefined {
  let found = value
  for (const key of path) found = isJsonObject(found) ? found.get(key) : undefined
  return found
}

function listAt(value: JsonValue | undefined, ...path: readonly string[]): readonly JsonValue[] {
  const list = at(value, ...path)
  return Array.isArray(list) ? (list as readonly JsonValue[]) : []
}

function wordAt(value: JsonValue | undefined, ...path: readonly string[]): string {
  const word = at(value, ...path)
  return typeof word === 'string' ? word : ''
}
