/**
 * Which pods of a node a drain evicts, which it leaves, and which stand in its way, as kubectl sorts them.
 *
 * @packageDocumentation
 */
import { isJsonObject, type JsonValue } from '../../core/json.ts'
import { isName, isNamespace } from './read-path.ts'

/** The very pod, and not another one of its name. */
export interface Pod {
  readonly namespace: string
  readonly name: string
  readonly uid: string
}

/** What a drain may evict besides ordinary pods. */
export interface DrainChoice {
  readonly ignoreDaemonsets: boolean
  readonly deleteEmptydirData: boolean
}

/** The pods of a node. */
export interface Sorted {
  readonly pods: readonly Pod[]
  readonly skipped: readonly { readonly namespace: string; readonly name: string; readonly why: string }[]
  readonly blocked: readonly string[]
}

/** Sorts a list of pods. */
export function sortPods(list: JsonValue, drain: DrainChoice): Sorted {
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

function textOf(value: JsonValue | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function at(value: JsonValue | undefined, ...path: readonly string[]): JsonValue | undefined {
  let found = value
  for (const key of path) found = isJsonObject(found) ? found.get(key) : undefined
  return found
}
