/** What a kubelet and a scheduler tell the API server, in the fewest words. */

/** Sends one request as the administrator. */
export type KubeApi = (
  method: string,
  path: string,
  body?: unknown,
  type?: string,
) => Promise<{ status: number; body: unknown }>

interface Pod {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly deletionTimestamp?: string }
  readonly spec: {
    readonly nodeName?: string
    readonly containers: readonly { readonly name: string; readonly image: string }[]
  }
  readonly status?: { readonly phase?: string; readonly podIP?: string }
}

/** The calls of a node, over the administrator's. */
export function privateKubeApi(api: KubeApi): {
  registerNode(name: string, port: number): Promise<void>
  settlePods(node: string): Promise<void>
} {
  return {
    async registerNode(name, port) {
      const status = {
        capacity: { cpu: '4', memory: '8Gi', pods: '110' },
        allocatable: { cpu: '4', memory: '8Gi', pods: '110' },
        conditions: [{ type: 'Ready', status: 'True', reason: 'KubeletReady', message: 'ready' }],
        addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
        daemonEndpoints: { kubeletEndpoint: { Port: port } },
        nodeInfo: NODE_INFO,
      }
      await api('POST', '/api/v1/nodes', { metadata: { name }, spec: {} })
      const patched = await api('PATCH', `/api/v1/nodes/${name}/status`, { status }, 'application/merge-patch+json')
      if (patched.status !== 200) throw new Error(`the node was not registered: ${JSON.stringify(patched.body)}`)
    },

    async settlePods(node) {
      const { body } = await api('GET', '/api/v1/pods')
      for (const pod of (body as { items?: readonly Pod[] }).items ?? []) {
        const { name, namespace, deletionTimestamp } = pod.metadata
        const at = `/api/v1/namespaces/${namespace}/pods/${name}`
        if (deletionTimestamp !== undefined) await api('DELETE', at, { gracePeriodSeconds: 0 })
        else if (pod.spec.nodeName === undefined) {
          await api('POST', `${at}/binding`, { metadata: { name, namespace }, target: { kind: 'Node', name: node } })
        } else if (pod.status?.phase !== 'Running') {
          await api('PATCH', `${at}/status`, { status: running(pod) }, 'application/merge-patch+json')
        }
      }
    },
  }
}

const NODE_INFO = {
  architecture: 'amd64',
  bootID: '1',
  containerRuntimeVersion: 'none://1',
  kernelVersion: '6.1',
  kubeProxyVersion: 'v1',
  kubeletVersion: 'v1.20.2',
  machineID: '1',
  operatingSystem: 'linux',
  osImage: 'test',
  systemUUID: '1',
}

function running(pod: Pod): object {
  const startedAt = new Date().toISOString().replace(/\.\d+Z$/u, 'Z')
  return {
    phase: 'Running',
    podIP: '127.0.0.1',
    hostIP: '127.0.0.1',
    startTime: startedAt,
    conditions: ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map((type) => ({ type, status: 'True' })),
    containerStatuses: pod.spec.containers.map(({ name, image }) => ({
      name,
      image,
      imageID: image,
      ready: true,
      restartCount: 0,
      started: true,
      state: { running: { startedAt } },
    })),
  }
}
