/** Which pods of a node a drain evicts, which it leaves, and which stand in its way. */
import { describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { parseJson, type JsonValue } from '../../src/core/json.ts'
import { drainNode } from '../../src/protocols/kubernetes/connect-drain.ts'
import { RefusedByServer } from '../../src/protocols/kubernetes/connect-step.ts'
import type { KubeRequest } from '../../src/protocols/kubernetes/request.ts'
import { sortPods, type DrainChoice, type Pod, type Sorted } from '../../src/protocols/kubernetes/drain-pods.ts'

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

describe('a drain', () => {
  const CORDON = { verb: 'patch', path: '/api/v1/nodes/n', isDryRun: false } as KubeRequest
  const LIST = { verb: 'list', path: '/api/v1/pods' } as KubeRequest
  const pod = (name: string): Pod => ({ namespace: 'web', name, uid: `uid-${name}` })
  const item = (name: string, owner = 'ReplicaSet'): object => ({
    metadata: { ...pod(name), ownerReferences: [{ kind: owner }] },
  })
  const CHOICE = { ignoreDaemonsets: false, deleteEmptydirData: false }

  /** @param answer what the server says to the eviction of a pod: a status, and nothing when it does it. */
  function draining(
    there: readonly object[],
    planned: readonly Pod[] | undefined,
    answer: (name: string, tries: number) => number | undefined = () => undefined,
    stopping = new AbortController(),
  ) {
    const sent: string[] = []
    const step = async (request: KubeRequest): Promise<JsonValue> => {
      sent.push(request.path)
      if (request === LIST) return parseJson(JSON.stringify({ items: there }))?.value as JsonValue
      const status = answer(request.path, sent.filter((path) => path === request.path).length)
      if (status === 0) throw new SallyportError('ERR_UPSTREAM_LOST', 'The connection broke.')
      if (status !== undefined) throw new RefusedByServer(status, request, 'no')
      return null
    }
    const evictions = (planned ?? []).map(({ name }) => ({ ...CORDON, verb: 'evict' as const, path: name }))
    const drain = { ...CHOICE, ...(planned !== undefined && { pods: planned }) }
    const command = { command: 'drain', output: 'table', requests: [], drain } as const
    const running = drainNode(command, [CORDON, LIST, ...evictions], step, stopping.signal, 1)
    const rows = async (): Promise<unknown> => ((await running) as ReadonlyMap<string, JsonValue>).get('pods')
    return {
      sent,
      running,
      rows: async () =>
        ((await rows()) as ReadonlyMap<string, string>[]).map((row) => `${row.get('name')}: ${row.get('result')}`),
    }
  }

  it('changes nothing where a pod must stay, which may have come since it was planned', async () => {
    const { sent, running } = draining([item('a'), item('d', 'DaemonSet')], [pod('a')])
    await expect(running).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT', facts: { noEffect: true } })
    expect(sent).toEqual([LIST.path])
  })

  it('changes nothing where its pods were never read', async () => {
    const { sent, running } = draining([item('a')], undefined)
    await expect(running).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT', facts: { noEffect: true } })
    expect(sent).toEqual([])
  })

  it('evicts the pods that were judged, and no other that came since', async () => {
    const { sent, rows } = draining([item('a'), item('late')], [pod('a')])
    expect(await rows()).toEqual(['a: evicted', 'late: came meanwhile; drain again to evict it'])
    expect(sent).toEqual([LIST.path, CORDON.path, 'a'])
  })

  it('says of each pod what the server said, and goes on', async () => {
    const said: Readonly<Record<string, number>> = { gone: 404, other: 409, no: 403 }
    const names = ['gone', 'other', 'no', 'a']
    const { rows } = draining(
      names.map((name) => item(name)),
      names.map(pod),
      (path) => said[path],
    )
    expect(await rows()).toEqual([
      'gone: gone already',
      'other: replaced meanwhile; not evicted',
      'no: refused by the server',
      'a: evicted',
    ])
  })

  it('waits for a disruption budget, ten times', async () => {
    const { sent, rows } = draining([item('soon'), item('never')], [pod('soon'), pod('never')], (path, tries) =>
      path === 'never' || (path === 'soon' && tries < 3) ? 429 : undefined,
    )
    expect(await rows()).toEqual(['soon: evicted', 'never: kept by its disruption budget'])
    expect(sent.filter((path) => path === 'never')).toHaveLength(10)
  })

  it('that broke half-way may have changed something, and says how far it came', async () => {
    const { running } = draining([item('a'), item('b')], [pod('a'), pod('b')], (path) => (path === 'b' ? 0 : undefined))
    await expect(running).rejects.toMatchObject({
      code: 'ERR_OUTCOME_UNKNOWN',
      message: expect.stringContaining('1 of 2 pods had been tried'),
    })
  })

  it('that is stopped while it waits for a budget ends', async () => {
    const stopping = new AbortController()
    const { running } = draining(
      [item('a')],
      [pod('a')],
      (path) => {
        if (path === 'a') stopping.abort(new SallyportError('ERR_CANCELLED', 'It was stopped.'))
        return path === 'a' ? 429 : undefined
      },
      stopping,
    )
    await expect(running).rejects.toMatchObject({ code: 'ERR_CANCELLED' })
  })
})
