/**
 * What a test of Kubernetes has to wait for: controllers work beside it, at a pace of their own, and change objects that
 * a test takes for its own until they are done.
 */
import { randomUUID } from 'node:crypto'
import { vi } from 'vitest'
import type { AdminClient } from '../../src/cli/admin-client.ts'
import type { KubeApi } from '../services/kube-api.ts'

/** The end of all hope on a machine that is busy with other things. */
export const HOPE = { timeout: 100_000, interval: 100 }

interface Deployment {
  readonly metadata: { readonly generation: number }
  readonly spec: { readonly replicas: number; readonly selector: { readonly matchLabels: Record<string, string> } }
  readonly status: {
    readonly observedGeneration?: number
    readonly replicas?: number
    readonly updatedReplicas?: number
    readonly availableReplicas?: number
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason: string }[]
  }
}

interface Pod {
  readonly metadata: { readonly name: string; readonly deletionTimestamp?: string }
  readonly status: { readonly phase?: string }
}

/**
 * Waits until a deployment is as it should be, and its controller has no more to write: every change was seen, every
 * pod is of the last template, runs, and none is on its way out.
 *
 * @returns the names of its pods.
 */
export function settled(api: KubeApi, namespace: string, name: string): Promise<readonly string[]> {
  return vi.waitFor(async () => {
    const { body } = await api('GET', `/apis/apps/v1/namespaces/${namespace}/deployments/${name}`)
    const { metadata, spec, status } = body as Deployment
    const isSeen = status.observedGeneration === metadata.generation
    const counts = [status.replicas, status.updatedReplicas, status.availableReplicas].map((count) => count ?? 0)
    const isDone = status.conditions?.some(({ reason }) => reason === 'NewReplicaSetAvailable') ?? false
    const isAvailable = status.conditions?.some((one) => one.type === 'Available' && one.status === 'True') ?? false
    const selector = Object.entries(spec.selector.matchLabels).map((pair) => pair.join('='))
    const pods = await podsOf(api, namespace, `?labelSelector=${encodeURIComponent(selector.join(','))}`)
    const areUp = pods.every(({ metadata: { deletionTimestamp }, status: { phase } }) => {
      return deletionTimestamp === undefined && phase === 'Running'
    })
    if (!isSeen || !isDone || !isAvailable || !areUp || [...counts, pods.length].some((n) => n !== spec.replicas)) {
      throw new Error(`the deployment ${name} is not settled yet: ${JSON.stringify({ metadata, status, pods })}`)
    }
    return pods.map((pod) => pod.metadata.name)
  }, HOPE)
}

/** Waits until a pod runs. */
export function running(api: KubeApi, namespace: string, name: string): Promise<void> {
  return vi.waitFor(async () => {
    const { body } = await api('GET', `/api/v1/namespaces/${namespace}/pods/${name}`)
    if ((body as Pod).status.phase !== 'Running') throw new Error(`the pod ${name} does not run yet`)
  }, HOPE)
}

/** Waits until a namespace has no pod any more, not even one that is ending. */
export function emptied(api: KubeApi, namespace: string): Promise<void> {
  return vi.waitFor(async () => {
    if ((await podsOf(api, namespace, '')).length > 0) throw new Error(`${namespace} has pods still`)
  }, HOPE)
}

/** Waits until a namespace has what its controllers put into each: an account, and on older servers its token. */
export function furnished(api: KubeApi, namespace: string, version: string): Promise<void> {
  const isWithToken = /^v1\.(?:1\d|2[0-3])\./u.test(version)
  return vi.waitFor(async () => {
    const { status, body } = await api('GET', `/api/v1/namespaces/${namespace}/serviceaccounts/default`)
    const { secrets = [] } = body as { readonly secrets?: readonly unknown[] }
    if (status !== 200 || (isWithToken && secrets.length === 0)) throw new Error(`${namespace} is not furnished yet`)
  }, HOPE)
}

async function podsOf(api: KubeApi, namespace: string, query: string): Promise<readonly Pod[]> {
  const { body } = await api('GET', `/api/v1/namespaces/${namespace}/pods${query}`)
  return (body as { readonly items: readonly Pod[] }).items
}

/** A ticket, as its approvers see it. */
export interface ShownTicket {
  readonly id: string
  readonly state: string
  readonly follows?: string
  readonly agentSays?: string
  readonly preview?: {
    readonly sections: readonly { readonly title: string; readonly text?: string }[]
    readonly missing?: string
  }
}

/** Tickets of the calls of one test; those of another one are never taken for them. */
export interface Tickets {
  /** What a call says as its reason, by which its ticket is known. */
  readonly reason: string
  /** The ticket that waits, or the one that was made in place of another. A call that ends first fails the test. */
  pending(answer: Promise<unknown>, follows?: string): Promise<ShownTicket>
  /** Withdraws what still waits: nothing of this test is asked about in the next one. */
  withdraw(): Promise<void>
}

/** Follows the tickets of calls that are made with a reason of their own. */
export function ticketsOf(operator: AdminClient): Tickets {
  const reason = `test ${randomUUID()}`
  const waiting = async (): Promise<readonly ShownTicket[]> => {
    const { approvals } = await operator.get<{ approvals: readonly ShownTicket[] }>('/v1/approvals?all=true')
    const open = approvals.filter(({ state }) => state === 'pending')
    const shown = await Promise.all(open.map(({ id }) => operator.get<ShownTicket>(`/v1/approvals/${id}`)))
    return shown.filter(({ agentSays }) => agentSays === reason)
  }
  return {
    reason,
    pending(answer, follows) {
      let isOver = false
      const ended = answer.then((result) => {
        isOver = true
        throw new Error(`nobody was asked: ${JSON.stringify(result)}`)
      })
      const found = vi.waitFor(async () => {
        const ticket = isOver ? undefined : (await waiting()).find((one) => one.follows === follows)
        if (ticket === undefined && !isOver) throw new Error('nobody is asked')
        return ticket
      }, HOPE)
      return Promise.race([ended, found.then((ticket) => ticket ?? ended)])
    },
    async withdraw() {
      for (const { id } of await waiting()) await operator.post(`/v1/approvals/${id}/cancel`)
    },
  }
}
