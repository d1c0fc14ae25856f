/** Which pods of a node a drain evicts, which it leaves, and which stand in its way. */
import { describe, expect, it } from 'vitest'
import { parseJson, type JsonValue } from '../../src/core/json.ts'
import { sortPods, type DrainChoice, type Sorted } from '../../src/protocols/kubernetes/drain-pods.ts'

const REPLICAS = { ownerReferences: [{ kind: 'ReplicaSet' }] }
const DAEMONS = { ownerReferences: [{ kind: 'Other' }, { kind: 'DaemonSet' }] }
const LOCAL = { volumes: [{ name: 'v', emptyDir: {} }] }
const MIRROR = { annotations: { 'kubernetes.io/config.mirror': 'x' } }

interface Told {
  readonly metadata?: object
  readonly spec?: object
  readonly phase?: string
}

function sorted({ metadata = {}, spec = {}, phase = 'Running' }: Told, choice: Partial<DrainChoice> = {}): Sorted {
  const pod = { metadata: { namespace: 'web', name: 'p', uid: 'u', ...metadata }, spec, status: { phase } }
  const list = parseJson(JSON.stringify({ items: [pod] }))?.value as JsonValue
  return sortPods(list, { ignoreDaemonsets: false, deleteEmptydirData: false, ...choice })
}

const EVICTED = { pods: [{ namespace: 'web', name: 'p', uid: 'u' }], skipped: [], blocked: [] }
const NONE = { pods: [], skipped: [], blocked: [] }
const skipped = (why: string): Sorted => ({ ...NONE, skipped: [{ namespace: 'web', name: 'p', why }] })
const blocked = (why: string): Sorted => ({ ...NONE, blocked: [`web/p ${why}`] })
const ALL = { ignoreDaemonsets: true, deleteEmptydirData: true }

describe('a pod on a node that is drained', () => {
  it.each<readonly [string, Told, Partial<DrainChoice>, Sorted]>([
    ['of a controller is evicted', { metadata: REPLICAS }, {}, EVICTED],
    ['of nobody stands in the way, whatever is chosen', {}, ALL, blocked('has no controller that would make it anew')],
    [
      'of an empty list of owners is of nobody',
      { metadata: { ownerReferences: [] } },
      {},
      blocked('has no controller that would make it anew'),
    ],
    ['that is over is evicted, of nobody though it is', { phase: 'Succeeded' }, {}, EVICTED],
    ['that failed is over', { phase: 'Failed', spec: LOCAL }, {}, EVICTED],
    ['of a daemon set stands in the way', { metadata: DAEMONS }, {}, blocked('is of a daemon set (ignore_daemonsets)')],
    [
      'of a daemon set is left where that was chosen',
      { metadata: DAEMONS },
      { ignoreDaemonsets: true },
      skipped('skipped: of a daemon set'),
    ],
    [
      'with local data stands in the way',
      { metadata: REPLICAS, spec: LOCAL },
      {},
      blocked('has local data (delete_emptydir_data)'),
    ],
    [
      'with local data is evicted where that was chosen',
      { metadata: REPLICAS, spec: LOCAL },
      { deleteEmptydirData: true },
      EVICTED,
    ],
    [
      'of the node itself is left',
      { metadata: { ...MIRROR, ...DAEMONS }, spec: LOCAL },
      {},
      skipped('skipped: it belongs to the node itself'),
    ],
    ['without an identity is not touched', { metadata: { uid: 7 } }, ALL, NONE],
    ['whose name would be another path is not touched', { metadata: { ...REPLICAS, name: '../x' } }, ALL, NONE],
    [
      'whose namespace would be another path is not touched',
      { metadata: { ...REPLICAS, namespace: 'a/b' } },
      ALL,
      NONE,
    ],
  ])('%s', (_what, pod, choice, expected) => {
    expect(sorted(pod, choice)).toEqual(expected)
  })

  it('is none where the list is none', () => {
    expect(sortPods(null, { ignoreDaemonsets: true, deleteEmptydirData: true })).toEqual(NONE)
  })
})
