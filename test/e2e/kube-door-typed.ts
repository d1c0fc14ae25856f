/** What kubectl and client libraries send in protobuf, through the door: read, judged, sent as JSON. */
import { readFile } from 'node:fs/promises'
import { Agent, request } from 'undici'
import { describe, expect, it, vi } from 'vitest'
import { parseJson, writeJson, type JsonValue } from '../../src/core/json.ts'
import { PROTOBUF, readProtobuf } from '../../src/protocols/kubernetes/protobuf/decode.ts'
import type { TestKube } from '../services/kube.ts'
import type { KubeWorld } from './kube-door-world.ts'
import { HOPE, running } from './kube-settled.ts'

/** @param run kubectl, which must succeed; returns what it printed. */
export function describeTyped(world: () => KubeWorld, run: (args: readonly string[]) => Promise<string>): void {
  describe('objects in protobuf', () => {
    it.each([
      [['configmap', 'typed', '--from-literal=a=b'], 'configmaps/typed', { data: { a: 'b' } }],
      [['serviceaccount', 'typed'], 'serviceaccounts/typed', {}],
      [['quota', 'typed', '--hard=pods=9'], 'resourcequotas/typed', { spec: { hard: { pods: '9' } } }],
      [['secret', 'generic', 'typed', '--from-literal=k=v'], 'secrets/typed', { data: { k: 'dg==' } }],
      [
        ['service', 'clusterip', 'typed', '--tcp=80:8080'],
        'services/typed',
        { spec: { ports: [{ targetPort: 8080 }] } },
      ],
    ])('create %j', async (words, path, expected) => {
      expect(await run(['create', ...words, '-n', 'shop'])).toContain('created')
      const { body } = await world().kube.api('GET', `/api/v1/namespaces/shop/${path}`)
      expect(body).toMatchObject(expected)
    })

    it('create what other groups have', async () => {
      expect(await run(['create', 'deployment', 'typed', '--image=nginx:1', '--replicas=0', '-n', 'shop'])).toContain(
        'created',
      )
      expect(await run(['create', 'role', 'typed', '--verb=get', '--resource=pods', '-n', 'shop'])).toContain('created')
      expect(await run(['create', 'namespace', 'typed'])).toContain('created')
      const { body } = await world().kube.api('GET', '/apis/apps/v1/namespaces/shop/deployments/typed')
      expect(body).toMatchObject({ spec: { replicas: 0, template: { spec: { containers: [{ image: 'nginx:1' }] } } } })
    })

    it('are denied by what stands in them', async () => {
      const denied = await world().kubectl(['create', 'configmap', 'forbidden', '--from-literal=no=1', '-n', 'shop'])
      expect(denied).toMatchObject({ code: 1, stderr: expect.stringContaining('Rule: no-no') })
      expect((await world().kube.api('GET', '/api/v1/namespaces/shop/configmaps/forbidden')).status).toBe(404)
    })

    it('are recorded without the values of Secrets', async () => {
      await run(['create', 'secret', 'generic', 'quiet', '--from-literal=k=Nobody-Reads-This', '-n', 'shop'])
      expect(world().recorded()).toContain('quiet')
      expect(world().recorded()).not.toContain('Nobody-Reads-This')
      expect(world().recorded()).not.toContain(Buffer.from('Nobody-Reads-This').toString('base64'))
    })

    it('ask what the account of the gateway may do', async () => {
      expect(await run(['auth', 'can-i', 'delete', 'nodes'])).toBe('yes\n')
    })

    it('mint no token that no rule names', async () => {
      const denied = await world().kubectl(['create', 'token', 'default', '-n', 'shop'])
      expect(denied).toMatchObject({ code: 1, stderr: expect.stringMatching(/^error: .*k8s\.token/u) })
      expect(denied.stdout).toBe('')
    })

    it('evict the pods of a node, and not those of others', async () => {
      const { api } = world().kube
      for (const [name, app] of [
        ['leaving', 'drained'],
        ['staying', 'kept'],
      ]) {
        const spec = { containers: [{ name: 'main', image: 'nginx:1' }] }
        await api('POST', '/api/v1/namespaces/shop/pods', { metadata: { name, labels: { app } }, spec })
      }
      const phase = async (name: string): Promise<unknown> => {
        const { body } = await api('GET', `/api/v1/namespaces/shop/pods/${name}`)
        return (body as { status: { phase?: string } }).status.phase
      }
      await Promise.all([running(api, 'shop', 'leaving'), running(api, 'shop', 'staying')])
      const drain = ['drain', 'node-1', '--force', '--ignore-daemonsets', '--pod-selector=app=drained']
      expect(await run([...drain, '--dry-run=server'])).toContain('drained (server dry run)')
      expect(await phase('leaving')).toBe('Running')
      try {
        expect(await run(drain)).toContain('pod/leaving evicted')
      } finally {
        await run(['uncordon', 'node-1'])
      }
      expect(await phase('staying')).toBe('Running')
    })

    it('mean what the server means by them', async () => {
      for (const [path, object] of RICH) {
        const made = await world().kube.api('POST', path, object)
        expect(made).toMatchObject({ status: 201 })
      }
      let objects = 0
      for (const path of EVERYWHERE) {
        for (const [name, there] of await itemsAt(path, world().kube)) {
          expect(there.protobuf, `${path}/${name}`).toEqual(there.json)
          objects++
        }
      }
      expect(objects).toBeGreaterThan(50)
    })
  })
}

/** Objects with much in them: flattened fields, integers that may be texts, quantities, durations, nested lists. */
const RICH: readonly (readonly [string, object])[] = [
  [
    '/api/v1/namespaces/typed/pods',
    {
      metadata: { name: 'rich', annotations: { 'a/b': '' } },
      spec: {
        hostNetwork: true,
        serviceAccountName: 'default',
        securityContext: { runAsUser: 0, sysctls: [{ name: 'a.b', value: '1' }], fsGroup: 2_147_483_647 },
        tolerations: [{ key: 'k', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 0 }],
        volumes: [
          { name: 'e', emptyDir: { sizeLimit: '1Gi' } },
          { name: 'h', hostPath: { path: '/x', type: '' } },
          { name: 's', secret: { secretName: 's', optional: false, defaultMode: 0 } },
          { name: 'p', projected: { sources: [{ serviceAccountToken: { path: 't', expirationSeconds: 3600 } }] } },
        ],
        containers: [
          {
            name: 'c',
            image: 'i',
            args: ['', 'x'],
            env: [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'n', key: 'k', optional: true } } }],
            envFrom: [{ prefix: 'p', secretRef: { name: 's' } }],
            ports: [{ containerPort: 80, hostPort: 80 }],
            resources: { requests: { cpu: '100m', memory: '1Mi' } },
            livenessProbe: { httpGet: { port: 'web', httpHeaders: [{ name: 'h', value: 'v' }] }, periodSeconds: 9 },
            lifecycle: { preStop: { exec: { command: ['sh'] } } },
            securityContext: { privileged: false, capabilities: { add: ['NET_ADMIN'] } },
          },
        ],
      },
    },
  ],
  [
    '/apis/networking.k8s.io/v1/namespaces/typed/networkpolicies',
    {
      metadata: { name: 'rich' },
      spec: {
        podSelector: {},
        ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] } }] }, {}],
      },
    },
  ],
  [
    '/apis/networking.k8s.io/v1/namespaces/typed/ingresses',
    {
      metadata: { name: 'rich' },
      spec: {
        rules: [
          {
            host: 'x.example',
            http: {
              paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 's', port: { number: 80 } } } }],
            },
          },
        ],
      },
    },
  ],
  [
    '/apis/batch/v1beta1/namespaces/typed/cronjobs',
    {
      metadata: { name: 'rich' },
      spec: {
        schedule: '* * * * *',
        suspend: true,
        jobTemplate: {
          spec: { template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] } } },
        },
      },
    },
  ],
]

/** Whatever a server has of its own, and what the tests before made. */
const EVERYWHERE = [
  '/api/v1/namespaces/typed/pods',
  '/apis/networking.k8s.io/v1/namespaces/typed/networkpolicies',
  '/apis/networking.k8s.io/v1/namespaces/typed/ingresses',
  '/apis/batch/v1beta1/namespaces/typed/cronjobs',
  '/apis/flowcontrol.apiserver.k8s.io/v1beta1/flowschemas',
  '/api/v1/namespaces',
  '/api/v1/nodes',
  '/api/v1/namespaces/default/services',
  '/api/v1/namespaces/shop/pods',
  '/api/v1/namespaces/shop/secrets',
  '/api/v1/namespaces/shop/configmaps',
  '/api/v1/namespaces/shop/serviceaccounts',
  '/apis/apps/v1/namespaces/shop/deployments',
  '/apis/apps/v1/namespaces/shop/replicasets',
  '/apis/rbac.authorization.k8s.io/v1/clusterroles',
  '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
  '/apis/scheduling.k8s.io/v1/priorityclasses',
  '/apis/apiregistration.k8s.io/v1/apiservices',
]

type Twice = { readonly json: unknown; readonly protobuf: unknown }

/** Every object of a list, as the server writes it in JSON and as its protobuf is read here. */
async function itemsAt(path: string, kube: TestKube): Promise<ReadonlyMap<string, Twice>> {
  const agent = new Agent({ connect: { ca: await readFile(kube.caFile, 'utf8') } })
  const get = async (at: string, accept: string): Promise<Buffer> => {
    const headers = { authorization: `Bearer ${kube.token}`, accept }
    const { body } = await request(`${kube.server}${at}`, { dispatcher: agent, headers })
    return Buffer.from(await body.arrayBuffer())
  }
  try {
    const { items = [] } = JSON.parse((await get(path, 'application/json')).toString()) as {
      items?: readonly { metadata: { name: string } }[]
    }
    const found = new Map<string, Twice>()
    for (const { name } of items.map(({ metadata }) => metadata).slice(0, 12)) {
      const at = `${path}/${encodeURIComponent(name)}`
      const { text, binary } = await vi.waitFor(async () => {
        const text = (await get(at, 'application/json')).toString()
        const binary = await get(at, PROTOBUF)
        // Controllers may write to it meanwhile; what is compared is one state of it.
        if ((await get(at, 'application/json')).toString() !== text) throw new Error(`${at} changes`)
        return { text, binary }
      }, HOPE)
      // Groups other servers serve have no protobuf here.
      if (!binary.subarray(0, 4).equals(Buffer.from('k8s\0')) || path.includes('apiregistration')) continue
      const json = parseJson(text)
      found.set(name, {
        json: json === undefined ? undefined : plain(json.value),
        protobuf: plain(readProtobuf(binary)),
      })
    }
    return found
  } finally {
    await agent.destroy()
  }
}

/** Without what is nothing in either form. What changes by the second is left out. */
function plain(value: JsonValue): unknown {
  const without = (one: unknown): unknown => {
    if (Array.isArray(one)) return one.map(without)
    if (typeof one !== 'object' || one === null) return one
    const fields = Object.entries(one).map(([key, field]) => [key, without(field)] as const)
    return Object.fromEntries(
      fields.filter(([key, field]) => !isNothing(field) && key !== 'resourceVersion' && key !== 'managedFields'),
    )
  }
  return without(JSON.parse(writeJson(value)))
}

function isNothing(value: unknown): boolean {
  if (value === null || value === '' || value === 0 || value === false) return true
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}
