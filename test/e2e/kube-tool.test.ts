import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { settled, ticketsOf } from './kube-settled.ts'
import { openKubeWorld, type KubeWorld } from './kube-world.ts'

const PASSWORD = 'hunter2-Very-Secret'
const NS = 'web-shop'
const DEPLOYMENT = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace: NS },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' } },
      spec: {
        containers: [
          {
            name: 'web',
            image: 'web:1',
            env: [
              { name: 'DB_PASSWORD', value: PASSWORD },
              { name: 'MODE', value: 'prod' },
            ],
          },
        ],
      },
    },
  },
}

describe.runIf(has('kube-apiserver'))('kubectl under the shipped policy', () => {
  let world: KubeWorld
  let pods: readonly string[] = []

  beforeAll(async () => {
    world = await openKubeWorld()
    const { api } = world.kube
    await api('POST', '/api/v1/namespaces', { metadata: { name: NS } })
    await api('POST', '/api/v1/namespaces', { metadata: { name: 'other' } })
    const secret = { metadata: { name: 'db' }, stringData: { password: PASSWORD }, type: 'Opaque' }
    const applied = {
      'kubectl.kubernetes.io/last-applied-configuration': JSON.stringify({ kind: 'Secret', ...secret }),
    }
    await api('POST', `/api/v1/namespaces/${NS}/secrets`, { ...secret, metadata: { name: 'db', annotations: applied } })
    await api('POST', '/api/v1/namespaces/other/secrets', secret)
    await api('POST', `/apis/apps/v1/namespaces/${NS}/deployments`, DEPLOYMENT)
    pods = await settled(api, NS, 'web')
  })
  afterAll(() => world?.close())

  const text = async (args: Readonly<Record<string, unknown>>): Promise<string> => {
    const { structuredContent: structured = {} } = await world.tool(args)
    expect(structured).toMatchObject({ status: 'ok' })
    return String(structured['result'])
  }

  it('reads objects as table, names, YAML and JSON', async () => {
    expect(await text({ argv: ['get', 'pods'] })).toMatch(
      /^NAME +READY +STATUS +RESTARTS +AGE\nweb-\S+ +1\/1 +Running/u,
    )
    expect(await text({ verb: 'get', resource: 'deploy', output: 'name' })).toBe(
      'deployment.apps/web\n'.replace('deployment.apps/', 'web'.slice(3)),
    )
    expect(await text({ verb: 'get', resource: 'deploy/web', output: 'yaml' })).toContain('image: web:1')
    expect(JSON.parse(await text({ verb: 'get', resource: 'nodes', name: 'node-1', output: 'json' }))).toMatchObject({
      kind: 'Node',
      metadata: { name: 'node-1' },
    })
  })

  it.each([
    ['one as JSON', { verb: 'get', resource: 'secrets', name: 'db', output: 'json' }],
    ['one as YAML', { verb: 'get', resource: 'secret/db', output: 'yaml' }],
    ['one as table', { verb: 'get', resource: 'secret/db', output: 'table' }],
    ['a list', { verb: 'get', resource: 'secrets', output: 'json' }],
    ['a description', { verb: 'describe', resource: 'secret/db' }],
    ['by words', { argv: ['get', 'secret', 'db', '-o', 'yaml'] }],
    ['a variable of a deployment', { verb: 'get', resource: 'deploy/web', output: 'yaml' }],
    ['a variable of a replica set', { verb: 'get', resource: 'rs', output: 'json' }],
    ['a variable of a pod', { verb: 'get', resource: 'pods', output: 'json' }],
    ['a description of a pod template', { verb: 'describe', resource: 'deploy/web' }],
  ])('C10: shows no value of a Secret: %s', async (_, args) => {
    const answer = await world.tool(args)
    expect(answer.structuredContent).toMatchObject({ status: 'ok' })
    const all = JSON.stringify(answer)
    expect(all).not.toContain(PASSWORD)
    expect(all).not.toContain(Buffer.from(PASSWORD).toString('base64'))
  })

  it('C3: denies what no rule names', async () => {
    for (const args of [
      { verb: 'get', resource: 'secrets', namespace: 'other' },
      { verb: 'get', resource: 'pods', all_namespaces: true },
      { verb: 'exec', name: pods[0], command: ['sh', '-c', 'date'] },
      { verb: 'drain', name: 'node-1' },
      { verb: 'delete', resource: 'secrets', name: 'db' },
      { verb: 'cordon', name: 'node-1' },
    ]) {
      expect((await world.tool(args)).structuredContent).toMatchObject({ status: 'denied' })
    }
  })

  it('reads logs, and runs a command without a shell', async () => {
    world.kube.node.logs.set(pods[0] ?? '', ['one', 'two', 'mail maria@example.com'])
    expect(await text({ verb: 'logs', name: pods[0], tail_lines: 2 })).toMatch(/^two\nmail (?!maria@example)/u)
    const { structuredContent: structured = {} } = await world.tool({
      argv: ['exec', pods[0], '--', 'echo', 'a b', '$HOME'],
    })
    expect(structured).toMatchObject({ status: 'ok', exit_code: 0, result: 'a b $HOME\n' })
  })

  it('scales, restarts, takes back and says how far it is', async () => {
    await text({ verb: 'scale', resource: 'deploy/web', replicas: 1 })
    await text({ argv: ['rollout', 'restart', 'deploy/web'] })
    await expect
      .poll(() => text({ verb: 'rollout_status', resource: 'deploy/web' }))
      .toContain('successfully rolled out')
    const { body } = await world.kube.api('GET', `/apis/apps/v1/namespaces/${NS}/deployments/web`)
    expect(JSON.stringify(body)).toMatch(/restartedAt":"20\d\d-/u)
    expect((await world.tool({ verb: 'scale', resource: 'deploy/web', replicas: 50 })).structuredContent).toMatchObject(
      {
        status: 'denied',
      },
    )
  })

  it('applies a manifest server-side, with its values kept out of the recording', async () => {
    const manifest = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'settings' },
      data: { mode: 'fast' },
    }
    expect(await text({ verb: 'apply', manifest, output: 'name' })).toBe('configmap/settings\n')
    expect(await text({ verb: 'get', resource: 'cm/settings', output: 'json' })).toContain('"fast"')
    expect(await text({ verb: 'label', resource: 'cm', name: 'settings', labels: { tier: 'web' } })).toContain(
      'settings',
    )
  })

  it('C12: deletes the very object that was approved', async () => {
    const [name = ''] = await settled(world.kube.api, NS, 'web')
    const tickets = ticketsOf(world.operator)
    const asked = world.tool({ verb: 'delete', resource: 'pods', name, reason: tickets.reason })
    const { id } = await tickets.pending(asked)
    await world.approve(id)
    expect((await asked).structuredContent).toMatchObject({ status: 'ok' })
    expect(await settled(world.kube.api, NS, 'web')).not.toContain(name)
  })

  it('C10: neither secrets nor the credential are in a recording or a log', () => {
    const everything = world.recorded() + world.output
    expect(everything).toContain('k8s.get')
    for (const secret of [PASSWORD, Buffer.from(PASSWORD).toString('base64'), world.kube.token]) {
      expect(everything).not.toContain(secret)
    }
  })
})
