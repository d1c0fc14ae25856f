/**
 * Drains a node: no new pods, then an eviction for each that is there. An eviction is refused while a disruption budget
 * would be broken (Kubernetes, "API-initiated eviction"); it is asked again until the call's time is up.
 *
 * @packageDocumentation
 */
import { setTimeout as delay } from 'node:timers/promises'
import { SallyportError } from '../../core/errors.ts'
import { isJsonObject, writeJson, type JsonValue } from '../../core/json.ts'
import { RefusedByServer, type Step } from './connect-step.ts'
import { jsonFrom } from './read-body.ts'
import { isName, isNamespace } from './read-path.ts'
import { readRequest } from './read-request.ts'
import type { KubeRequest } from './request.ts'
import type { ToolCommand } from './tool.ts'

/** How long until a budget is asked again. */
const RETRY_MS = 2_000
/** How often; then the caller is told which pods are left. */
const TRIES_MAX = 10

interface Pod {
  readonly namespace: string
  readonly name: string
  readonly uid: string
}

/** Drains. Returns what became of each pod, as rows. */
export async function drainNode(
  { drain }: ToolCommand,
  [cordon, list, evict]: readonly [KubeRequest, KubeRequest, KubeRequest],
  step: Step,
  signal: AbortSignal,
): Promise<JsonValue> {
  // Before anything changes: what stands in the way is said first, as kubectl does.
  const found = sort(await step(list), drain ?? { ignoreDaemonsets: false, deleteEmptydirData: false })
  if (found.blocked.length > 0) {
    const shown = found.blocked.slice(0, 10).join('; ')
    throw new SallyportError('ERR_INVALID_INPUT', `The node was not drained: ${shown}.`, { facts: { noEffect: true } })
  }
  await step(cordon)
  const rows: JsonValue[] = found.skipped.map(({ namespace, name, why }) => row(namespace, name, why))
  for (const pod of found.pods) rows.push(row(pod.namespace, pod.name, await evicted(pod, evict, step, signal)))
  return new Map<string, JsonValue>([
    ['kind', 'Drain'],
    ['pods', rows],
  ])
}

async function evicted(pod: Pod, open: KubeRequest, step: Step, signal: AbortSignal): Promise<string> {
  const request = evictionOf(pod, open)
  for (let tries = 1; ; tries++) {
    try {
      await step(request)
      return open.isDryRun ? 'would be evicted' : 'evicted'
    } catch (error) {
      if (!(error instanceof RefusedByServer)) throw error
      if (error.status === 404) return 'gone already'
      // Another pod of that name, made meanwhile, is not the one that was listed.
      if (error.status === 409) return 'replaced meanwhile; not evicted'
      if (error.status !== 429) return 'refused by the server'
      if (tries >= TRIES_MAX) return 'kept by its disruption budget'
      await delay(RETRY_MS, undefined, { signal }).catch(() => undefined)
      signal.throwIfAborted()
    }
  }
}

/** The planned eviction, with the pod it is about. */
function evictionOf({ namespace, name, uid }: Pod, open: KubeRequest): KubeRequest {
  const body = jsonFrom({
    // Both of the server's versions of it are read by every server since 1.22; before, by this one only.
    apiVersion: 'policy/v1beta1',
    kind: 'Eviction',
    metadata: { name, namespace },
    deleteOptions: { preconditions: { uid }, ...(open.isDryRun && { dryRun: ['All'] }) },
  })
  return readRequest({
    method: 'POST',
    path: `/api/v1/namespaces/${namespace}/pods/${name}/eviction`,
    contentType: 'application/json',
    body: Buffer.from(writeJson(body), 'utf8'),
  })
}

interface Sorted {
  readonly pods: readonly Pod[]
  readonly skipped: readonly { readonly namespace: string; readonly name: string; readonly why: string }[]
  readonly blocked: readonly string[]
}

function sort(list: JsonValue, drain: NonNullable<ToolCommand['drain']>): Sorted {
  const pods: Pod[] = []
  const skipped: { namespace: string; name: string; why: string }[] = []
  const blocked: string[] = []
  const items = at(list, 'items')
  for (const item of Array.isArray(items) ? (items as readonly JsonValue[]) : []) {
    const [namespace, name, uid] = ['namespace', 'name', 'uid'].map((key) => textOf(at(item, 'metadata', key)))
    if (namespace === undefined || name === undefined || uid === undefined) continue
    if (!isNamespace(namespace) || !isName(name)) continue
    const owners = at(item, 'metadata', 'ownerReferences')
    const isDaemon =
      Array.isArray(owners) && (owners as readonly JsonValue[]).some((one) => at(one, 'kind') === 'DaemonSet')
    const phase = textOf(at(item, 'status', 'phase'))
    const isOver = phase === 'Succeeded' || phase === 'Failed'
    const volumes = at(item, 'spec', 'volumes')
    const isKeeping =
      Array.isArray(volumes) &&
      (volumes as readonly JsonValue[]).some((one) => isJsonObject(one) && one.has('emptyDir'))
    if (at(item, 'metadata', 'annotations', 'kubernetes.io/config.mirror') !== undefined) {
      skipped.push({ namespace, name, why: 'skipped: it belongs to the node itself' })
    } else if (isDaemon && drain.ignoreDaemonsets) skipped.push({ namespace, name, why: 'skipped: of a daemon set' })
    else if (isDaemon) blocked.push(`${namespace}/${name} is of a daemon set (ignore_daemonsets)`)
    else if (isKeeping && !isOver && !drain.deleteEmptydirData) {
      blocked.push(`${namespace}/${name} has local data (delete_emptydir_data)`)
    } else if (!isOver && !(Array.isArray(owners) && owners.length > 0)) {
      blocked.push(`${namespace}/${name} has no controller that would make it anew`)
    } else pods.push({ namespace, name, uid })
  }
  return { pods, skipped, blocked }
}

function row(namespace: string, name: string, what: string): JsonValue {
  return new Map<string, JsonValue>([
    ['namespace', namespace],
    ['name', name],
    ['result', what],
  ])
}

function textOf(value: JsonValue | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function at(value: JsonValue | undefined, ...path: readonly string[]): JsonValue | undefined {
  let found = value
  for (const key of path) found = isJsonObject(found) ? found.get(key) : undefined
  return found
}
