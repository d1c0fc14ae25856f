import { readFile } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { has } from '../setup/needs.ts'
import { emptied, HOPE, running, settled, ticketsOf, type ShownTicket, type Tickets } from './kube-settled.ts'
import { openKubeWorld, type KubeWorld } from './kube-world.ts'

const PASSWORD = 'hunter2-Very-Secret'
const NS = 'web-shop'

/** Everything, but that some namespaces ask first. */
const POLICY = `
targets: [cluster]
rules:
  - {id: all, effect: allow, principals: [group:agents], actions: ["k8s.*"], resources: ["**"]}
  - id: ask
    effect: require_approval
    principals: [group:agents]
    actions: [class:write, class:admin, class:exec, k8s.delete, k8s.evict, k8s.deletecollection]
    resources:
      - {kind: core/pods, namespaces: ["asked"]}
      - {kind: core/secrets, namespaces: ["asked"]}
      - {kind: core/configmaps, namespaces: ["asked"]}
      - {kind: apps/deployments, namespaces: ["asked"]}
    approvers: {any_of: [group:lead], count: 1, expires: 1h}
  - id: keep
    effect: deny
    actions: [k8s.evict]
    resources: [{kind: core/pods, namespaces: ["kept"]}]
    reason: These stay.
`

const deployment = (namespace: string, image: string) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' } },
      spec: { containers: [{ name: 'web', image, env: [{ name: 'DB_PASSWORD', value: PASSWORD }] }] },
    },
  },
})

describe.runIf(has('kube-apiserver'))('kubectl verbs before a real API server', () => {
  let world: KubeWorld
  const structured = async (args: Readonly<Record<string, unknown>>): Promise<Readonly<Record<string, unknown>>> =>
    (await world.tool(args)).structuredContent ?? {}
  const text = async (args: Readonly<Record<string, unknown>>): Promise<string> => {
    const answer = await structured(args)
    expect(answer).toMatchObject({ status: 'ok' })
    return String(answer['result'])
  }
  const api = async (path: string): Promise<{ readonly [key: string]: unknown }> =>
    (await world.kube.api('GET', path)).body as { readonly [key: string]: unknown }
  const pods = (namespace: string, name = 'web'): Promise<readonly string[]> => settled(world.kube.api, namespace, name)

  beforeAll(async () => {
    world = await openKubeWorld(POLICY)
    const { api: send } = world.kube
    for (const name of [NS, 'asked', 'kept']) await send('POST', '/api/v1/namespaces', { metadata: { name } })
    await send('POST', `/apis/apps/v1/namespaces/${NS}/deployments`, deployment(NS, 'web:1'))
    await send('POST', '/apis/apps/v1/namespaces/asked/deployments', deployment('asked', 'web:1'))
    const secret = { metadata: { name: 'db' }, stringData: { password: PASSWORD, user: 'shop' } }
    await send('POST', '/api/v1/namespaces/asked/secrets', secret)
    await Promise.all([pods(NS), pods('asked')])
  })
  afterAll(() => world?.close())

  it('top says that the cluster measures nothing', async () => {
    const answer = await structured({ verb: 'top', resource: 'pods' })
    expect(answer).toMatchObject({ status: 'failed' })
    expect(JSON.stringify(answer)).toMatch(/metrics/u)
  })

  it('lists events of an object', async () => {
    await world.kube.api('POST', `/api/v1/namespaces/${NS}/events`, {
      metadata: { name: 'web.1' },
      involvedObject: { kind: 'Deployment', name: 'web', namespace: NS },
      reason: 'Tested',
      message: 'seen by a test',
    })
    expect(await text({ verb: 'events', resource: 'deploy/web' })).toContain('seen by a test')
    expect(await text({ verb: 'events', resource: 'deploy/other' })).not.toContain('seen by a test')
  })

  it('creates, patches in each way, annotates and labels', async () => {
    const manifest = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: "1"}\n'
    expect(await text({ verb: 'create', manifest })).toBe('configmap/settings\n')
    expect(await structured({ verb: 'create', manifest })).toMatchObject({ status: 'failed' })
    await text({ argv: ['patch', 'cm', 'settings', '-p', '{"data":{"b":"2"}}'] })
    await text({ verb: 'patch', resource: 'cm/settings', patch_type: 'strategic', patch: { data: { c: '3' } } })
    const replace = [{ op: 'replace', path: '/data/a', value: '9' }]
    await text({ verb: 'patch', resource: 'cm/settings', patch_type: 'json', patch: replace })
    await text({ argv: ['annotate', 'cm', 'settings', 'owner=shop', 'note=x'] })
    await text({ argv: ['annotate', 'cm', 'settings', 'note-'] })
    await text({ argv: ['label', 'cm/settings', 'tier=web'] })
    expect(await api(`/api/v1/namespaces/${NS}/configmaps/settings`)).toMatchObject({
      data: { a: '9', b: '2', c: '3' },
      metadata: { annotations: { owner: 'shop' }, labels: { tier: 'web' } },
    })
    expect(JSON.stringify(await api(`/api/v1/namespaces/${NS}/configmaps/settings`))).not.toContain('"note"')
  })

  it('a dry run changes nothing', async () => {
    await text({ verb: 'scale', resource: 'deploy/web', replicas: 7, dry_run: true })
    expect(await api(`/apis/apps/v1/namespaces/${NS}/deployments/web`)).toMatchObject({ spec: { replicas: 1 } })
  })

  it('takes a rollout back', async () => {
    const path = `/apis/apps/v1/namespaces/${NS}/deployments/web`
    await text({ verb: 'apply', manifest: deployment(NS, 'web:2'), force: true })
    const image = async (): Promise<unknown> =>
      JSON.stringify(await api(path)).match(/"image":"(?<image>[^"]+)"/u)?.groups?.['image']
    await vi.waitFor(
      async () =>
        expect(await api(path)).toMatchObject({
          metadata: { annotations: { 'deployment.kubernetes.io/revision': '2' } },
        }),
      HOPE,
    )
    expect(await image()).toBe('web:2')
    await text({ argv: ['rollout', 'undo', 'deploy/web'] })
    expect(await image()).toBe('web:1')
    expect(await structured({ verb: 'rollout_undo', resource: 'deploy/web', revision: 99 })).toMatchObject({
      status: 'invalid',
    })
    await pods(NS)
  })

  it('asks what the account may do', async () => {
    expect(await text({ argv: ['auth', 'can-i', 'delete', 'pods'] })).toMatch(/^yes/u)
  })

  it('finds kinds that no table here has by asking the cluster', async () => {
    const manifest = {
      apiVersion: 'policy/v1beta1',
      kind: 'PodDisruptionBudget',
      metadata: { name: 'calm' },
      spec: { minAvailable: 0, selector: { matchLabels: { app: 'other' } } },
    }
    expect(await text({ verb: 'create', manifest })).toContain('calm')
    expect(await text({ argv: ['get', 'pdb', 'calm', '-o', 'yaml'] })).toContain('kind: PodDisruptionBudget')
    expect(await text({ argv: ['get', 'flowschemas.flowcontrol.apiserver.k8s.io', '-o', 'name'] })).toContain('exempt')
    expect(await structured({ verb: 'get', resource: 'nothings' })).toMatchObject({ status: 'invalid' })
  })

  describe('a node', () => {
    it('is cordoned and uncordoned', async () => {
      await text({ argv: ['cordon', 'node-1'] })
      expect(await api('/api/v1/nodes/node-1')).toMatchObject({ spec: { unschedulable: true } })
      await text({ argv: ['uncordon', 'node-1'] })
      expect(JSON.stringify((await api('/api/v1/nodes/node-1'))['spec'])).not.toContain('unschedulable')
    })

    it('is not drained where one of its pods must stay', async () => {
      await world.kube.api('POST', '/apis/apps/v1/namespaces/kept/deployments', deployment('kept', 'web:1'))
      await pods('kept')
      const answer = await structured({ verb: 'drain', name: 'node-1', dry_run: true })
      expect(answer).toMatchObject({ status: 'denied' })
      expect(await api('/api/v1/nodes/node-1')).not.toMatchObject({ spec: { unschedulable: true } })
      await world.kube.api('DELETE', '/apis/apps/v1/namespaces/kept/deployments/web')
      // A pod that is ending still stands on its node, and a drain would name it.
      await emptied(world.kube.api, 'kept')
    })

    it('is drained pod by pod, after approval of every one', async () => {
      const before = [...(await pods(NS)), ...(await pods('asked'))]
      const { ticket, answer } = await held({ verb: 'drain', name: 'node-1', namespace: undefined })
      const shown = JSON.stringify(await world.operator.get(`/v1/approvals/${ticket}`))
      for (const name of before) expect(shown).toContain(`pods/${name}/eviction`)
      await world.approve(ticket)
      const ended = await answer
      expect(ended).toMatchObject({ status: 'ok' })
      for (const name of before) expect(String(ended['result'])).toMatch(new RegExp(`${name}\\s+evicted`, 'u'))
      await text({ verb: 'uncordon', name: 'node-1' })
      await Promise.all([pods(NS), pods('asked')])
    })
  })

  const withdrawals: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const withdraw of withdrawals.splice(0)) await withdraw()
  })

  interface Held {
    readonly ticket: string
    readonly preview: ShownTicket['preview']
    readonly answer: Promise<Readonly<Record<string, unknown>>>
    readonly tickets: Tickets
  }

  const held = async (args: Readonly<Record<string, unknown>>): Promise<Held> => {
    const tickets = ticketsOf(world.operator)
    withdrawals.push(() => tickets.withdraw())
    const answer = structured({ namespace: 'asked', reason: tickets.reason, ...args })
    const { id, preview } = await tickets.pending(answer)
    return { ticket: id, preview, answer, tickets }
  }

  /** A deployment of one test, which nobody writes to any more. */
  const deployed = async (name: string): Promise<readonly string[]> => {
    const { metadata, spec, ...rest } = deployment('asked', 'web:1')
    const labels = { app: name }
    const made = await world.kube.api('POST', '/apis/apps/v1/namespaces/asked/deployments', {
      ...rest,
      metadata: { ...metadata, name },
      spec: { ...spec, selector: { matchLabels: labels }, template: { ...spec.template, metadata: { labels } } },
    })
    expect(made).toMatchObject({ status: 201 })
    return pods('asked', name)
  }

  describe('C14: approvers are shown what would change', () => {
    it('as the difference the server would make', async () => {
      await deployed('changed')
      const path = '/apis/apps/v1/namespaces/asked/deployments/changed'
      const { ticket, preview, answer } = await held({
        verb: 'patch',
        resource: 'deploy/changed',
        patch_type: 'strategic',
        patch: { spec: { template: { spec: { containers: [{ name: 'web', image: 'web:3' }] } } } },
      })
      expect(preview?.sections).toHaveLength(1)
      expect(preview?.sections[0]).toMatchObject({ title: 'patch apps/deployments asked/changed' })
      expect(preview?.sections[0]?.text).toMatch(/- +image: web:1\n\+ +image: web:3/u)
      expect(JSON.stringify(preview)).not.toContain(PASSWORD)
      expect(JSON.stringify(await api(path))).toContain('"web:1"')
      await world.approve(ticket)
      expect(await answer).toMatchObject({ status: 'ok' })
      expect(JSON.stringify(await api(path))).toContain('"web:3"')
    })

    it('C10: of a Secret, which values change and none of them', async () => {
      const { ticket, preview, answer } = await held({
        verb: 'patch',
        resource: 'secret/db',
        patch: { stringData: { password: 'another-Very-Secret', added: 'x-Very-Secret' } },
      })
      const said = JSON.stringify(preview)
      expect(said).toContain('data.password: the value changes')
      expect(said).toContain('added')
      expect(said).not.toMatch(/data\.user|Very-Secret|VmVyeS1TZWNyZX/u)
      await world.approve(ticket)
      expect(await answer).toMatchObject({ status: 'ok' })
    })

    it('of a deletion, what it is and what hangs on it', async () => {
      const [name = ''] = await deployed('doomed')
      const { ticket, preview, answer } = await held({ verb: 'delete', resource: 'pods', name })
      expect(preview?.sections[0]?.text).toMatch(/^uid \S+.*\nIt belongs to ReplicaSet doomed-/u)
      await world.approve(ticket)
      expect(await answer).toMatchObject({ status: 'ok' })
      expect(await pods('asked', 'doomed')).not.toContain(name)
    })

    it('and are told why there is nothing to show', async () => {
      const [name = ''] = await pods('asked')
      const { ticket, preview, answer } = await held({ verb: 'exec', name, command: ['echo', 'hi'] })
      expect(preview).toMatchObject({
        sections: [],
        missing: expect.stringContaining('There is no preview') as unknown,
      })
      await world.approve(ticket)
      expect(await answer).toMatchObject({ status: 'ok', result: 'hi\n' })
    })

    it('asks again when the object is another one by then, and changes nothing meanwhile', async () => {
      await deployed('moved')
      const path = '/apis/apps/v1/namespaces/asked/deployments/moved'
      const { ticket, answer, tickets } = await held({ verb: 'scale', resource: 'deploy/moved', replicas: 3 })
      await world.kube.api('PATCH', path, { spec: { replicas: 2 } }, 'application/merge-patch+json')
      await world.approve(ticket)
      const second = await tickets.pending(answer, ticket)
      expect(await api(path)).toMatchObject({ spec: { replicas: 2 } })
      expect(second.preview?.sections[0]?.text).toMatch(/- +replicas: 2\n\+ +replicas: 3/u)
      await world.approve(second.id)
      expect(await answer).toMatchObject({ status: 'ok' })
      expect(await api(path)).toMatchObject({ spec: { replicas: 3 } })
    })

    it('does not ask again because the object reports something', async () => {
      // A pod of nobody: what it reports is what this test lets it report.
      const path = '/api/v1/namespaces/asked/pods/lonely'
      const spec = { containers: [{ name: 'main', image: 'web:1' }] }
      await world.kube.api('POST', '/api/v1/namespaces/asked/pods', { metadata: { name: 'lonely' }, spec })
      await running(world.kube.api, 'asked', 'lonely')
      const { ticket, answer } = await held({ verb: 'label', resource: 'pods/lonely', labels: { tier: 'web' } })
      const status = { message: 'still here' }
      const reported = await world.kube.api('PATCH', `${path}/status`, { status }, 'application/merge-patch+json')
      expect(reported).toMatchObject({ status: 200, body: { status } })
      await world.approve(ticket)
      expect(await answer).toMatchObject({ status: 'ok' })
      expect(await api(path)).toMatchObject({ metadata: { labels: { tier: 'web' } }, status })
    })

    it('says so when a webhook takes no dry runs', async () => {
      const url = 'https://127.0.0.1:9/none'
      await world.kube.api('POST', '/apis/admissionregistration.k8s.io/v1beta1/validatingwebhookconfigurations', {
        metadata: { name: 'effects' },
        webhooks: [
          {
            name: 'effects.shop.example',
            clientConfig: { url },
            rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['configmaps'] }],
            sideEffects: 'Unknown',
            failurePolicy: 'Ignore',
          },
        ],
      })
      const manifest = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'fresh' }, data: { a: '1' } }
      const refused = vi.waitFor(async () => {
        const at = '/api/v1/namespaces/kept/configmaps?dryRun=All'
        const { status } = await world.kube.api('POST', at, manifest)
        if (status !== 400) throw new Error('the webhook is not there yet')
      }, HOPE)
      await refused
      const { ticket, preview, answer } = await held({ verb: 'create', manifest })
      expect(preview?.missing).toMatch(/There is no preview.*does not support dry run/u)
      await world.approve(ticket)
      expect(await answer).toMatchObject({ status: 'ok' })
    })
  })

  it('C10: neither secrets nor the credential are in a recording or a log', async () => {
    const everything = world.recorded() + world.output
    expect(everything).toContain('k8s.evict')
    const token = await readFile(`${world.dir}/secrets/cluster.token`, 'utf8')
    for (const secret of [PASSWORD, 'another-Very-Secret', token]) expect(everything).not.toContain(secret)
  })
})
