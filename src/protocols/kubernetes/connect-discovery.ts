/**
 * Which kinds a cluster has besides those every cluster has: read from its discovery (`/apis`, `/apis/<group>/<version>`)
 * when somebody names one, and kept for a minute.
 *
 * @packageDocumentation
 */
import { isJsonObject, type JsonValue } from '../../core/json.ts'
import { ask, type Upstream } from './connect-send.ts'
import type { KubeKind } from './kinds.ts'
import { readRequest } from './read-request.ts'

/** Discovered kinds hold for so long; a new definition is found by its first user at the latest then. */
const KEPT_MS = 60_000
/** More groups than any cluster has. */
const GROUPS_MAX = 500

interface Known {
  readonly kinds: ReadonlyMap<string, KubeKind>
  readonly until: number
}

/** Discovered kinds of one cluster. */
export class Discovery {
  #known: Known | undefined

  /** @param now milliseconds of a steady clock. */
  async find(name: string, upstream: Upstream, now: number): Promise<KubeKind | undefined> {
    if (this.#known === undefined || this.#known.until < now) {
      this.#known = { kinds: await readKinds(upstream), until: now + KEPT_MS }
    }
    return this.#known.kinds.get(name)
  }
}

async function readKinds(upstream: Upstream): Promise<ReadonlyMap<string, KubeKind>> {
  const kinds = new Map<string, KubeKind>()
  const groups = listOf((await read('/apis', upstream)) ?? null, 'groups').slice(0, GROUPS_MAX)
  const versions = groups.flatMap((group) => {
    const preferred = field(field(group, 'preferredVersion'), 'groupVersion')
    return typeof preferred === 'string' ? [preferred] : []
  })
  const lists = await Promise.all(
    versions.map(async (version) => ({ version, list: await read(`/apis/${version}`, upstream) })),
  )
  for (const { version: groupVersion, list } of lists) {
    const [group = '', version = ''] = groupVersion.split('/')
    for (const resource of listOf(list ?? null, 'resources')) addKind(kinds, group, version, resource)
  }
  return kinds
}

function addKind(kinds: Map<string, KubeKind>, group: string, version: string, resource: JsonValue): void {
  const plural = field(resource, 'name')
  const kind = field(resource, 'kind')
  if (typeof plural !== 'string' || typeof kind !== 'string' || plural.includes('/')) return
  const found: KubeKind = { group, version, plural, kind, isNamespaced: field(resource, 'namespaced') === true }
  const singular = field(resource, 'singularName')
  const shorts = listOf(resource, 'shortNames')
  const names = [plural, kind.toLowerCase(), singular, ...shorts].filter(
    (name) => typeof name === 'string' && name !== '',
  )
  for (const name of names as string[]) {
    // The first group that serves a name has it, as with kubectl; the full name always says which one is meant.
    if (!kinds.has(name)) kinds.set(name, found)
    if (!kinds.has(`${name}.${group}`)) kinds.set(`${name}.${group}`, found)
  }
}

/** The version in which a server takes evictions: it says so with the subresource. */
export async function evictionVersion(upstream: Upstream): Promise<string> {
  const resources = listOf((await read('/api/v1', upstream)) ?? null, 'resources')
  const eviction = resources.find((one) => field(one, 'name') === 'pods/eviction')
  const version = field(eviction, 'version')
  return typeof version === 'string' && /^v\d\w{0,20}$/u.test(version) ? `policy/${version}` : 'policy/v1'
}

async function read(path: string, upstream: Upstream): Promise<JsonValue | undefined> {
  const { status, value } = await ask(readRequest({ method: 'GET', path }), upstream)
  return status === 200 ? value : undefined
}

function listOf(value: JsonValue, name: string): readonly JsonValue[] {
  const list = field(value, name)
  return Array.isArray(list) ? (list as readonly JsonValue[]) : []
}

function field(value: JsonValue | undefined, name: string): JsonValue | undefined {
  return isJsonObject(value) ? value.get(name) : undefined
}
