/**
 * From the arguments of the tool to canonical requests. Every request is written as one of the API and read by the same
 * reader as the door's, so that both mean the same by construction.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../core/errors.ts'
import { isJsonObject, writeJson, type JsonValue } from '../../core/json.ts'
import { sortPods, type DrainChoice, type Pod } from './drain-pods.ts'
import { insteadOf } from './instead.ts'
import { kindNamed, kindOfManifest, type FindKind, type KubeKind } from './kinds.ts'
import type { ToolPayload } from './payload.ts'
import { jsonFrom, readYaml } from './read-body.ts'
import { isName, isNamespace } from './read-path.ts'
import { readRequest } from './read-request.ts'
import type { KubeRequest } from './request.ts'

/** How the tool writes results. */
export type Output = 'json' | 'yaml' | 'table' | 'name'

/** What a tool call turned out to be. */
export interface ToolCommand {
  /** The verb of the tool, for rendering and for the steps between several requests. */
  readonly command: string
  readonly output: Output
  readonly requests: readonly KubeRequest[]
  /** Of rollout-undo, which revision; the one before the current otherwise. */
  readonly revision?: number
  /**
   * Of drain: what may be evicted besides ordinary pods, and the pods whose evictions follow the first two requests;
   * left out where they are not known.
   */
  readonly drain?: DrainChoice & { readonly pods?: readonly Pod[] }
}

/** What planning may look up in the cluster. */
export interface Lookups {
  readonly findKind: FindKind
  /** The uid of an object; `undefined` when there is none, or nobody may be asked. */
  readonly uidOf: (request: KubeRequest) => Promise<string | undefined>
  /** A list of pods, and the version evictions have there; `undefined` when nobody may be asked. */
  readonly podsOf: (list: KubeRequest) => Promise<{ readonly list: JsonValue; readonly eviction: string } | undefined>
}

type Input = Omit<ToolPayload, 'kind'>

/** A time only sending knows. What is judged and approved is that it stands there. */
export const TIME_OF_SENDING = '<time of sending>'
const MANAGER = 'sallyport'

const COMMANDS = {
  get: read,
  list: read,
  describe,
  events,
  logs,
  top,
  create,
  apply,
  patch,
  label: (input, at) => metadata(input, at, 'labels', input.labels),
  annotate: (input, at) => metadata(input, at, 'annotations', input.annotations),
  scale,
  rollout_status: rolloutStatus,
  rollout_restart: rolloutRestart,
  rollout_undo: rolloutUndo,
  delete: remove,
  cordon: (input, at) => cordon(input, at, true),
  uncordon: (input, at) => cordon(input, at, false),
  drain,
  exec,
  can_i: canI,
} as const satisfies Readonly<Record<string, (input: Input, at: Site) => Promise<Partial<ToolCommand>>>>

/** Verbs of the tool. */
export const TOOL_VERBS: readonly string[] = Object.keys(COMMANDS)

interface Site extends Lookups {
  readonly namespace: string
}

/**
 * Reads a tool call.
 *
 * @param namespace where to look when the call names none.
 * @throws SallyportError `ERR_INVALID_INPUT`, naming what to write instead.
 */
export async function commandOf(input: Input, namespace: string, lookups: Lookups): Promise<ToolCommand> {
  const verb = input.verb.replaceAll('-', '_')
  const build = Object.hasOwn(COMMANDS, verb) ? COMMANDS[verb as keyof typeof COMMANDS] : undefined
  if (build === undefined) {
    throw invalid(`The verb is none of ${TOOL_VERBS.join(', ')}.${insteadOf(verb)}`)
  }
  const { namespace: named, all_namespaces: isEverywhere } = input
  if (named !== undefined && isEverywhere === true) throw invalid('Give either namespace or all_namespaces.')
  if (named !== undefined && !isNamespace(named)) throw invalid('The namespace is not the name of one.')
  const built = await build(input, { ...lookups, namespace: named ?? namespace })
  return { command: verb, output: input.output ?? 'table', requests: [], ...built }
}

function write(
  method: string,
  path: string,
  query: Readonly<Record<string, string | readonly string[] | undefined>> = {},
  body?: JsonValue,
  contentType = 'application/json',
  accept = 'application/json',
): KubeRequest {
  const fields = Object.entries(query).flatMap(([name, value]) =>
    (typeof value === 'string' ? [value] : (value ?? [])).map((one) => `${name}=${encodeURIComponent(one)}`),
  )
  return readRequest({
    method,
    path: fields.length === 0 ? path : `${path}?${fields.join('&')}`,
    accept,
    ...(body !== undefined && { contentType, body: Buffer.from(writeJson(body), 'utf8') }),
  })
}

const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io'

/** The path of a kind, or of one object of it. */
function pathOf(kind: KubeKind, input: Input, at: Site, name?: string, subresource?: string): string {
  const root = kind.group === '' ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`
  if (!kind.isNamespaced && (input.namespace !== undefined || input.all_namespaces === true)) {
    throw invalid(`${kind.plural} are not in namespaces: leave namespace out.`)
  }
  if (name !== undefined && !isName(name)) throw invalid('The name is not the name of an object.')
  if (name !== undefined && input.all_namespaces === true) throw invalid('One object is in one namespace.')
  const isInside = kind.isNamespaced && input.all_namespaces !== true
  const pieces = [isInside ? `/namespaces/${at.namespace}` : '', `/${kind.plural}`]
  return `${root}${pieces.join('')}${name === undefined ? '' : `/${name}`}${subresource === undefined ? '' : `/${subresource}`}`
}

/** The kind and name that are meant: `resource: pods, name: web`, or `resource: pods/web`. */
async function meant(
  input: Input,
  at: Site,
  usual?: string,
): Promise<{ readonly kind: KubeKind; readonly name?: string }> {
  const given = input.resource ?? usual
  if (given === undefined) throw invalid('Name the resource, such as pods.')
  const [resource = '', inside, ...more] = given.split('/')
  if (more.length > 0 || given.includes(',')) throw invalid('Name one resource: several are several calls.')
  if (inside !== undefined && input.name !== undefined) throw invalid('The name is given twice.')
  const name = inside ?? input.name
  return { kind: await kindNamed(resource, at.findKind), ...(name !== undefined && { name }) }
}

async function named(
  input: Input,
  at: Site,
  usual?: string,
): Promise<{ readonly kind: KubeKind; readonly name: string }> {
  const { kind, name } = await meant(input, at, usual)
  if (name === undefined) throw invalid(`Name the object: ${input.verb} acts on one.`)
  if (input.selector !== undefined) throw invalid(`${input.verb} takes a name; a selector is no identity.`)
  return { kind, name }
}

async function read(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await meant(input, at)
  if (name !== undefined && (input.selector !== undefined || input.field_selector !== undefined)) {
    throw invalid('Give either a name or a selector.')
  }
  if (name !== undefined && input.verb === 'list') throw invalid('A list has no name; use get.')
  const query = {
    labelSelector: input.selector,
    fieldSelector: input.field_selector,
    ...(name === undefined && { limit: String(input.limit ?? 500) }),
  }
  const accept = (input.output ?? 'table') === 'table' ? TABLE : 'application/json'
  const path = pathOf(kind, input, at, name, input.subresource)
  return { requests: [write('GET', path, query, undefined, undefined, accept)] }
}

async function describe(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await named(input, at)
  const fields = [`involvedObject.name=${name}`, `involvedObject.kind=${kind.kind}`]
  const path = `/api/v1/${kind.isNamespaced ? `namespaces/${at.namespace}/` : ''}events`
  return {
    output: 'yaml',
    requests: [
      write('GET', pathOf(kind, input, at, name)),
      write('GET', path, { fieldSelector: fields.join(','), limit: '100' }),
    ],
  }
}

async function events(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const kind = await kindNamed('events', at.findKind)
  const { kind: about, name } =
    input.resource === undefined ? { kind: undefined, name: input.name } : await meant(input, at)
  const fields = [
    ...(about === undefined ? [] : [`involvedObject.kind=${about.kind}`]),
    ...(name === undefined ? [] : [`involvedObject.name=${name}`]),
    ...(input.field_selector === undefined ? [] : [input.field_selector]),
  ]
  if (name !== undefined && !isName(name)) throw invalid('The name is not the name of an object.')
  const query = { fieldSelector: fields.length === 0 ? undefined : fields.join(','), limit: String(input.limit ?? 500) }
  const accept = (input.output ?? 'table') === 'table' ? TABLE : 'application/json'
  return { requests: [write('GET', pathOf(kind, input, at), query, undefined, undefined, accept)] }
}

/** Lines of a log that are read when nobody says how many. */
const TAIL_LINES = 500

async function logs(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await named(input, at, 'pods')
  if (kind.plural !== 'pods') throw invalid('Logs are those of a pod: name one.')
  const query = {
    container: input.container,
    tailLines: String(input.tail_lines ?? TAIL_LINES),
    previous: input.previous === true ? 'true' : undefined,
    timestamps: input.timestamps === true ? 'true' : undefined,
    sinceSeconds: input.since_seconds === undefined ? undefined : String(input.since_seconds),
  }
  return { requests: [write('GET', pathOf(kind, input, at, name, 'log'), query)] }
}

async function top(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await meant(input, at, 'pods')
  if (kind.group !== '' || (kind.plural !== 'pods' && kind.plural !== 'nodes'))
    throw invalid('top is of pods or nodes.')
  const metrics = { ...kind, group: 'metrics.k8s.io', version: 'v1beta1' }
  return { requests: [write('GET', pathOf(metrics, input, at, name), { labelSelector: input.selector })] }
}

function manifestOf({ manifest }: Input): JsonValue {
  if (manifest === undefined) throw invalid('Give the object as manifest.')
  const value = typeof manifest === 'string' ? readYaml(manifest) : jsonFrom(manifest)
  if (!isJsonObject(value)) throw invalid('The manifest must be one object.')
  return value
}

/** Where a manifest goes. Its own namespace must be the one of the call, when both are given. */
async function placeOf(
  manifest: JsonValue,
  input: Input,
  at: Site,
): Promise<{ readonly kind: KubeKind; readonly name?: string; readonly site: Site }> {
  const text = (value: JsonValue | undefined): string => (typeof value === 'string' ? value : '')
  const field = (value: JsonValue | undefined, key: string): JsonValue | undefined =>
    isJsonObject(value) ? value.get(key) : undefined
  const kind = await kindOfManifest(text(field(manifest, 'apiVersion')), text(field(manifest, 'kind')), at.findKind)
  const meta = field(manifest, 'metadata')
  const namespace = text(field(meta, 'namespace'))
  const name = text(field(meta, 'name'))
  if (input.resource !== undefined || (input.name !== undefined && input.name !== name)) {
    throw invalid('The manifest says which object is meant: leave resource and name out.')
  }
  if (namespace !== '' && input.namespace !== undefined && namespace !== input.namespace) {
    throw invalid('The manifest names another namespace than the call.')
  }
  if (namespace !== '' && (!kind.isNamespaced || !isNamespace(namespace))) throw invalid('The namespace is not one.')
  const site = namespace === '' ? at : { ...at, namespace }
  return { kind, site, ...(name !== '' && { name }) }
}

function dryRun(input: Input): string | undefined {
  return input.dry_run === true ? 'All' : undefined
}

async function create(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const manifest = manifestOf(input)
  const { kind, site } = await placeOf(manifest, input, at)
  const query = { dryRun: dryRun(input), fieldManager: MANAGER }
  return { output: input.output ?? 'name', requests: [write('POST', pathOf(kind, input, site), query, manifest)] }
}

async function apply(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const manifest = manifestOf(input)
  const { kind, site, name } = await placeOf(manifest, input, at)
  if (name === undefined) throw invalid('The manifest needs metadata.name.')
  const query = { dryRun: dryRun(input), fieldManager: MANAGER, force: input.force === true ? 'true' : undefined }
  const request = write('PATCH', pathOf(kind, input, site, name), query, manifest, 'application/apply-patch+yaml')
  return { output: input.output ?? 'name', requests: [request] }
}

const PATCH_TYPES = {
  strategic: 'application/strategic-merge-patch+json',
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
} as const

async function patch(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await named(input, at)
  if (input.patch === undefined) throw invalid('Give the patch.')
  const value = typeof input.patch === 'string' ? readYaml(input.patch) : jsonFrom(input.patch)
  const type = PATCH_TYPES[input.patch_type ?? 'merge']
  const query = { dryRun: dryRun(input), fieldManager: MANAGER }
  const path = pathOf(kind, input, at, name, input.subresource)
  return { output: input.output ?? 'name', requests: [write('PATCH', path, query, value, type)] }
}

async function metadata(
  input: Input,
  at: Site,
  which: 'labels' | 'annotations',
  values: Readonly<Record<string, string | null>> | undefined,
): Promise<Partial<ToolCommand>> {
  const { kind, name } = await named(input, at)
  if (values === undefined || Object.keys(values).length === 0) throw invalid(`Give ${which}; null takes one away.`)
  return merge(kind, name, input, at, { metadata: { [which]: values } })
}

function merge(
  kind: KubeKind,
  name: string,
  input: Input,
  at: Site,
  value: unknown,
  subresource?: string,
): Partial<ToolCommand> {
  const query = { dryRun: dryRun(input), fieldManager: MANAGER }
  const path = pathOf(kind, input, at, name, subresource)
  const request = write('PATCH', path, query, jsonFrom(value), PATCH_TYPES.merge)
  return { output: input.output ?? 'name', requests: [request] }
}

async function scale(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await named(input, at)
  if (input.replicas === undefined) throw invalid('Give replicas.')
  return merge(kind, name, input, at, { spec: { replicas: input.replicas } }, 'scale')
}

const ROLLED = new Set(['deployments', 'statefulsets', 'daemonsets'])

async function rolled(input: Input, at: Site): Promise<{ readonly kind: KubeKind; readonly name: string }> {
  const { kind, name } = await named(input, at)
  if (kind.group !== 'apps' || !ROLLED.has(kind.plural)) {
    throw invalid('A rollout is that of a deployment, statefulset or daemonset.')
  }
  return { kind, name }
}

async function rolloutStatus(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await rolled(input, at)
  return { requests: [write('GET', pathOf(kind, input, at, name))] }
}

async function rolloutRestart(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await rolled(input, at)
  const annotations = { 'kubectl.kubernetes.io/restartedAt': TIME_OF_SENDING }
  return merge(kind, name, input, at, { spec: { template: { metadata: { annotations } } } })
}

async function rolloutUndo(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await rolled(input, at)
  if (kind.plural !== 'deployments') throw invalid('Only a deployment can be taken back.')
  const path = pathOf(kind, input, at, name)
  const sets = pathOf({ ...kind, plural: 'replicasets' }, input, at)
  const change = write('PATCH', path, { dryRun: dryRun(input), fieldManager: MANAGER })
  return {
    output: input.output ?? 'name',
    // What the former template holds is known once it was read: conditions on it deny.
    requests: [write('GET', path), write('GET', sets), { ...change, verb: 'patch', isOpen: true }],
    ...(input.revision !== undefined && { revision: input.revision }),
  }
}

async function remove(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await named(input, at)
  const path = pathOf(kind, input, at, name)
  // The one that is there now, and not another one of the same name later.
  const uid = await at.uidOf(write('GET', path))
  const options = {
    apiVersion: 'v1',
    kind: 'DeleteOptions',
    propagationPolicy: input.propagation ?? 'Background',
    ...(input.grace_seconds !== undefined && { gracePeriodSeconds: input.grace_seconds }),
    ...(input.dry_run === true && { dryRun: ['All'] }),
    ...(uid !== undefined && { preconditions: { uid } }),
  }
  return { output: 'name', requests: [write('DELETE', path, {}, jsonFrom(options))] }
}

async function cordon(input: Input, at: Site, isUnschedulable: boolean): Promise<Partial<ToolCommand>> {
  const { kind, name } = await named(input, at, 'nodes')
  if (kind.plural !== 'nodes') throw invalid(`${input.verb} acts on a node.`)
  return merge(kind, name, input, at, { spec: { unschedulable: isUnschedulable } })
}

async function drain(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await named(input, at, 'nodes')
  if (kind.plural !== 'nodes') throw invalid('drain acts on a node.')
  const [change] = (await cordon(input, at, true)).requests ?? []
  if (change === undefined) throw invalid('drain acts on a node.')
  const list = write('GET', '/api/v1/pods', { fieldSelector: `spec.nodeName=${name}` })
  const choice = {
    ignoreDaemonsets: input.ignore_daemonsets === true,
    deleteEmptydirData: input.delete_emptydir_data === true,
  }
  const found = await at.podsOf(list)
  if (found === undefined) return { output: 'table', requests: [change, list, anyEviction(input)], drain: choice }
  const { pods } = sortPods(found.list, choice)
  if (pods.length > EVICTIONS_MAX) throw invalid(`The node has more than the ${EVICTIONS_MAX} pods one call evicts.`)
  const evictions = pods.map((pod) => evictionOf(pod, found.eviction, input))
  return { output: 'table', requests: [change, list, ...evictions], drain: { ...choice, pods } }
}

/** More pods than a node is made for. */
const EVICTIONS_MAX = 500

/** The eviction of one pod, and of no other that has its name by then. */
function evictionOf({ namespace, name, uid }: Pod, apiVersion: string, input: Input): KubeRequest {
  const body = jsonFrom({
    apiVersion,
    kind: 'Eviction',
    metadata: { name, namespace },
    deleteOptions: { preconditions: { uid }, ...(input.dry_run === true && { dryRun: ['All'] }) },
  })
  return write('POST', `/api/v1/namespaces/${namespace}/pods/${name}/eviction`, {}, body)
}

/** Stands for evictions of pods nobody has asked about: it is judged, and never sent. */
function anyEviction(input: Input): KubeRequest {
  return {
    verb: 'evict',
    method: 'POST',
    path: '/api/v1/pods',
    query: [],
    group: '',
    version: 'v1',
    resource: 'pods',
    subresource: 'eviction',
    isDryRun: input.dry_run === true,
    accept: 'application/json',
    isOpen: true,
  }
}

async function exec(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await named(input, at, 'pods')
  if (kind.plural !== 'pods') throw invalid('A command runs in a pod: name one.')
  if (input.command === undefined) throw invalid('Give the command as a list of words.')
  const query = { container: input.container, stdout: 'true', stderr: 'true', command: input.command }
  return { requests: [write('GET', pathOf(kind, input, at, name, 'exec'), query)] }
}

async function canI(input: Input, at: Site): Promise<Partial<ToolCommand>> {
  const { kind, name } = await meant(input, at)
  if (input.ask_verb === undefined) throw invalid('Give ask_verb: what you want to know about.')
  const attributes = {
    verb: input.ask_verb,
    group: kind.group,
    resource: kind.plural,
    ...(input.subresource !== undefined && { subresource: input.subresource }),
    ...(kind.isNamespaced && input.all_namespaces !== true && { namespace: at.namespace }),
    ...(name !== undefined && { name }),
  }
  const review = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes: attributes },
  }
  const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews'
  return { requests: [write('POST', path, {}, jsonFrom(review))] }
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
