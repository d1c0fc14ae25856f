/** kubectl, untouched, through the Kubernetes door to a real API server: under the policy, masked, recorded. */
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { describeClients, forwarded } from './kube-door-clients.ts'
import { describeFiles } from './kube-door-files.ts'
import { describeKinds } from './kube-door-kinds.ts'
import { describeStrangers } from './kube-door-strangers.ts'
import { describeTyped } from './kube-door-typed.ts'
import { openKubeWorld, type KubeWorld } from './kube-door-world.ts'
import { furnished, HOPE, running, settled, type ShownTicket } from './kube-settled.ts'
import { callTool } from './world.ts'

const POLICY = `
targets: [cluster]
rules:
  - {id: ask-around, effect: allow, principals: [group:agents], actions: ["bundle:k8s.discovery"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [k8s.get, k8s.list, k8s.watch, k8s.logs], resources: ["**"]}
  - {id: shop, effect: allow, principals: [group:agents], actions: [k8s.create, k8s.apply, k8s.patch, k8s.update, k8s.delete, k8s.scale], resources: [{kind: "*/*", namespaces: [shop]}]}
  - {id: made, effect: allow, principals: [group:agents], actions: [k8s.create], resources: [{kind: core/namespaces, names: [typed]}]}
  - {id: nodes, effect: allow, principals: [group:agents], actions: [k8s.patch], resources: [{kind: core/nodes}]}
  - {id: leave, effect: allow, principals: [group:agents], actions: [k8s.evict], resources: [{kind: core/pods, namespaces: [shop]}]}
  - {id: no-no, effect: deny, actions: [k8s.create], resources: [{kind: core/configmaps}], when: "part.body != null && has(part.body.data) && 'no' in part.body.data"}
  - {id: shell, effect: allow, principals: [group:agents], actions: [k8s.exec], resources: [{kind: core/pods, namespaces: [shop]}], when: "part.command[0] in ['cat', 'echo', 'fail', 'tar', 'test']"}
  - {id: look, effect: allow, principals: [group:agents], actions: [k8s.attach], resources: [{kind: core/pods, namespaces: [shop]}]}
  - {id: ports, effect: allow, principals: [group:agents], actions: [k8s.portforward], resources: [{kind: core/pods, namespaces: [shop]}], when: "part.ports == ['80']"}
  - {id: no-vault, effect: deny, actions: [k8s.portforward], resources: [{kind: core/pods, names: [vault]}]}
  - {id: careful, effect: require_approval, principals: [group:agents], actions: [k8s.delete], resources: [{kind: apps/deployments, namespaces: [shop]}], approvers: {any_of: [group:lead]}}
  - {id: other-ways, effect: allow, targets: [by-certificate, by-kubeconfig, by-program], principals: [group:agents], actions: [k8s.get, k8s.exec], resources: ["**"]}
  - {id: ask-around-there, effect: allow, targets: [by-certificate, by-kubeconfig], principals: [group:agents], actions: ["bundle:k8s.discovery"]}
  - {id: ports-short, effect: allow, principals: [group:agents], actions: [k8s.portforward], resources: [{kind: core/pods, namespaces: [shop]}], when: "part.ports == ['82']", limits: {bytes: 1KiB}}
  - {id: seen-first, effect: require_approval, principals: [group:agents], actions: [k8s.patch], resources: [{kind: core/configmaps, namespaces: [shop], names: [asked]}, {kind: core/secrets, namespaces: [shop], names: [asked]}], approvers: {any_of: [group:lead]}}
budgets:
  - {id: metered, per: [principal], principals: [id:meter], actions: [k8s.list], max: 4, window: 1h}
loops:
  - {id: stuck, principals: [id:meter], actions: [k8s.list], window: 10m, repeats: {warn: 2, stop: 50}}
`
const SECRET_VALUE = 'hunter2-Very-Secret'

describe.runIf(has('kube-apiserver') && has('kubectl'))('the Kubernetes door', () => {
  let world: KubeWorld
  const run = async (args: readonly string[], options = {}): Promise<string> => {
    const { code, stdout, stderr } = await world.kubectl(args, options)
    expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: code === 0 ? stderr : '' })
    return stdout
  }

  beforeAll(async () => {
    world = await openKubeWorld(POLICY, 'approvals: {hold: 200ms}\n')
    const { api } = world.kube
    await api('POST', '/api/v1/namespaces', { metadata: { name: 'shop' } })
    await furnished(api, 'shop', world.kube.version)
    await api('POST', '/api/v1/namespaces/shop/secrets', {
      metadata: { name: 'db' },
      stringData: { password: SECRET_VALUE },
    })
    await api('POST', '/api/v1/namespaces/shop/pods', {
      metadata: { name: 'till', labels: { app: 'till' } },
      spec: { containers: [{ name: 'main', image: 'nginx:1', env: [{ name: 'DB_PASSWORD', value: SECRET_VALUE }] }] },
    })
    await running(api, 'shop', 'till')
  })
  afterAll(() => world?.close())

  describe('reads', () => {
    it('tables as kubectl asks for them', async () => {
      expect(await run(['get', 'pods', '-n', 'shop'])).toMatch(/^NAME +READY +STATUS[^\n]*\ntill +1\/1 +Running/u)
    })

    it.each([
      ['json'],
      ['yaml'],
      ['wide'],
      ['name'],
      ['jsonpath={.data.password}'],
      ['go-template={{.data.password}}'],
    ])('secrets without their values with -o %s', async (output) => {
      const stdout = await run(['get', 'secret', 'db', '-n', 'shop', '-o', output])
      expect(stdout).not.toContain(SECRET_VALUE)
      expect(stdout).not.toContain(Buffer.from(SECRET_VALUE).toString('base64'))
    })

    it('descriptions without the values of the environment', async () => {
      const stdout = await run(['describe', 'pod', 'till', '-n', 'shop'])
      expect(stdout).toContain('DB_PASSWORD')
      expect(stdout).not.toContain(SECRET_VALUE)
    })

    it('changes as they happen', async () => {
      const stop = new AbortController()
      const watching = world.kubectl(['get', 'configmaps', '-n', 'shop', '-w', '-o', 'name'], {
        signal: stop.signal,
        onOutput: (text: string) => text.includes('configmap/news') && stop.abort(),
      })
      await run(['create', '-f', '-'], { input: configMap('news', 'shop') })
      expect((await watching).stdout).toContain('configmap/news')
    })
  })

  describe('writes', () => {
    const deployment = (replicas: number): string => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "nginx:1"}]}
`

    it('what scale, label and a server-side apply send', async () => {
      expect(await run(['apply', '--server-side', '-f', '-'], { input: deployment(2) })).toContain('serverside-applied')
      expect(await run(['scale', 'deployment/web', '--replicas=1', '-n', 'shop'])).toContain('scaled')
      expect(await run(['label', 'deployment/web', 'tier=front', '-n', 'shop'])).toContain('labeled')
    })

    it('nothing where no rule allows it, and say which one is missing', async () => {
      const denied = await world.kubectl(['create', '-f', '-'], { input: configMap('x', 'default') })
      expect(denied.code).toBe(1)
      expect(denied.stderr).toMatch(/^Error from server \(Forbidden\): .*no rule/iu)
      expect((await world.kube.api('GET', '/api/v1/namespaces/default/configmaps/x')).status).toBe(404)
    })

    it('what a person approved, when the same command is run again', async () => {
      // What its controller still writes to it would have the approver asked again.
      await settled(world.kube.api, 'shop', 'web')
      const first = await world.kubectl(['delete', 'deployment', 'web', '-n', 'shop', '--wait=false'])
      const [, ticket = ''] = /Ticket: (\S+?)\./u.exec(first.stderr) ?? []
      expect(first).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/^Error from server \(Forbidden\).*again/u),
      })
      await world.approve(ticket)
      expect(await run(['delete', 'deployment', 'web', '-n', 'shop', '--wait=false'])).toContain('deleted')
    })
  })

  it.each([
    ['configmap', { data: { mode: 'fast' } }, { data: { mode: 'slow' } }, /- +mode: fast\n\+ +mode: slow/u],
    [
      'secret',
      { stringData: { pin: SECRET_VALUE } },
      { stringData: { pin: '4711-Very' } },
      /data\.pin: the value changes/u,
    ],
  ])(
    'C14: what a held change of a %s would do is shown before anybody approves it',
    async (kind, before, change, shown) => {
      const { api } = world.kube
      const at = `/api/v1/namespaces/shop/${kind}s`
      expect(await api('POST', at, { metadata: { name: 'asked' }, ...before })).toMatchObject({ status: 201 })
      const { body: there } = await api('GET', `${at}/asked`)
      const command = ['patch', kind, 'asked', '-n', 'shop', '--type=merge', '-p', JSON.stringify(change)]
      const first = await world.kubectl(command)
      const [, ticket = ''] = /Ticket: (\S+?)\./u.exec(first.stderr) ?? []
      const { preview } = await world.operator.get<ShownTicket>(`/v1/approvals/${ticket}`)
      expect(preview?.sections.map(({ text }) => text)).toEqual([expect.stringMatching(shown)])
      expect(JSON.stringify(preview)).not.toMatch(/Very|VmVye/u)
      expect((await api('GET', `${at}/asked`)).body).toEqual(there)
      await world.approve(ticket)
      expect(await run(command)).toContain('patched')
      expect((await api('GET', `${at}/asked`)).body).not.toEqual(there)
    },
  )

  it('C12: an approved change the server says no to has failed, and is not shown again as if it had been done', async () => {
    const command = ['delete', 'deployment', 'nobody', '-n', 'shop', '--wait=false']
    const ticketOf = ({ stderr }: { readonly stderr: string }): string =>
      /Ticket: (\S+?)\./u.exec(stderr)?.[1] ?? stderr
    const asked = ticketOf(await world.kubectl(command))
    await world.approve(asked)
    expect((await world.kubectl(command)).stderr).toMatch(/^Error from server \(NotFound\)/u)
    expect(await world.operator.get<ShownTicket>(`/v1/approvals/${asked}`)).toMatchObject({ state: 'failed' })
    expect(ticketOf(await world.kubectl(command))).not.toBe(asked)
  })

  describeTyped(() => world, run)
  describeFiles(() => world, run)
  describeKinds(() => world, run)

  describe('commands in containers', () => {
    const transports = [
      ['WebSocket', {}],
      ['SPDY', { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: 'false' }],
    ] as const

    it.each(transports)('run over %s, with both outputs and the exit code', async (_name, env) => {
      const exec = ['exec', 'till', '-n', 'shop', '--']
      expect(await world.kubectl([...exec, 'echo', 'a b', 'c'], { env })).toMatchObject({ code: 0, stdout: 'a b c\n' })
      expect(await world.kubectl([...exec, 'fail', '7'], { env })).toMatchObject({
        code: 7,
        stderr: expect.stringMatching(/^it failed\n/u),
      })
    })

    it.each(transports)('read standard input to its end over %s', async (_name, env) => {
      const input = 'sallyport\n'.repeat(100_000)
      const { code, stdout } = await world.kubectl(['exec', '-i', 'till', '-n', 'shop', '--', 'cat'], { env, input })
      expect(code).toBe(0)
      expect(stdout.length).toBe(input.length)
      expect(stdout === input).toBe(true)
    })

    it('never run when no rule allows them, whichever way they are tried', async () => {
      const before = world.kube.node.seen.length
      for (const [, env] of transports) {
        const denied = await world.kubectl(['exec', 'till', '-n', 'shop', '--', 'sleep', '1'], { env })
        expect(denied).toMatchObject({ code: 1, stderr: expect.stringMatching(/no rule/iu) })
      }
      expect(world.kube.node.seen.slice(before)).toEqual([])
    })

    it('count once, although kubectl tries twice', async () => {
      const denials = (): number =>
        world
          .recorded()
          .split('\n')
          .filter((line) => line.includes('sleep')).length
      const before = denials()
      await world.kubectl(['exec', 'till', '-n', 'shop', '--', 'sleep', '1'])
      const once = denials() - before
      await world.kubectl(['exec', 'till', '-n', 'shop', '--', 'sleep', '1'], {
        env: { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: 'false' },
      })
      expect(once).toBeGreaterThan(0)
      expect(denials() - before).toBe(2 * once)
    })

    it('are recorded with what they said', async () => {
      await world.kubectl(['exec', 'till', '-n', 'shop', '--', 'echo', 'for-the-record'])
      await expect.poll(() => world.recorded(), HOPE).toContain('for-the-record')
    })

    it.each(transports)('that end well are recorded as done over %s', async (name, env) => {
      await world.kubectl(['exec', 'till', '-n', 'shop', '--', 'echo', `ended-${name}`], { env })
      const ends = (): readonly string[] => {
        const lines = world.recorded().split('\n')
        const about = lines.find((line) => line.includes('"type":"decision"') && line.includes(`ended-${name}`))
        const call = /"call":"([^"]+)"/u.exec(about ?? '')?.[1] ?? 'none'
        return lines.filter((line) => line.includes(call) && line.includes('"type":"end"'))
      }
      await expect.poll(ends, HOPE).toEqual([expect.stringContaining('"ending":"done"')])
    })
  })

  it('forwards the port a rule names, and no other', async () => {
    world.kube.node.ports.set(80, (received) => Buffer.from(`you said ${received.toString()}`))
    const stop = new AbortController()
    const said = await forwarded(world, ':80', stop)
    expect(said).toBe('you said knock-knock')
    // What was sent, and what came back.
    await expect.poll(() => world.recorded().match(/knock-knock/gu), HOPE).toHaveLength(2)
    const other = new AbortController()
    expect(await forwarded(world, ':81', other)).toBe('')
  })

  it('cuts what comes through a port where its rule says, and the recording says that it was cut', async () => {
    world.kube.node.ports.set(82, () => Buffer.alloc(100_000, 'z'))
    const cuts = (): number =>
      world
        .recorded()
        .split('\n')
        .filter((line) => line.includes('"type":"end"') && line.includes('"truncated":true')).length
    const before = cuts()
    const said = await forwarded(world, ':82', new AbortController())
    expect(said.length).toBeLessThanOrEqual(1024)
    await expect.poll(cuts, HOPE).toBe(before + 1)
  })

  it.each(['certificate', 'kubeconfig'])(
    'is known to the API server by a %s, also where it opens streams',
    async (way) => {
      const file = path.join(world.dir, `by-${way}.kubeconfig`)
      const config = await readFile(path.join(world.dir, 'agent.kubeconfig'), 'utf8')
      await writeFile(file, config.replaceAll('/cluster', `/by-${way}`), { mode: 0o600 })
      const ran = await world.kubectl(['exec', 'till', '-n', 'shop', '--', 'echo', way], { kubeconfig: file })
      expect(ran).toMatchObject({ code: 0, stdout: `${way}\n` })
    },
  )

  it('runs no program that a kubeconfig names', async () => {
    const denied = await world.kubectl(['get', '--raw', '/by-program/api/v1/namespaces/shop/pods/till'])
    expect(denied).toMatchObject({ code: 1, stderr: expect.stringContaining('whose user runs a program') })
    expect(existsSync(path.join(world.dir, 'was-run'))).toBe(false)
  })

  describeClients(() => world, SECRET_VALUE)
  describeStrangers(() => world)

  it('charges one budget of a principal with the tool kubectl, each call once', async () => {
    const token = await world.token('meter', ['agents'])
    const kubeconfig = await world.kubeconfig('meter', token)
    const said: string[] = []
    const byDoor = async (): Promise<boolean> => {
      const { code, stderr } = await world.kubectl(['get', '--raw', '/cluster/api/v1/namespaces/shop/pods'], {
        kubeconfig,
      })
      said.push(stderr)
      return code === 0
    }
    const byTool = async (): Promise<boolean> => {
      const args = { target: 'cluster', verb: 'get', resource: 'pods', namespace: 'shop' }
      const { structuredContent } = await callTool(world.urls.mcp, token, 'kubectl', args)
      expect(['ok', 'limited']).toContain(structuredContent?.status)
      return structuredContent?.status === 'ok'
    }
    const ran = []
    for (const call of [byDoor, byTool, byTool, byDoor, byTool, byDoor]) ran.push(await call())
    expect(ran).toEqual([true, true, true, true, false, false])
    // kubectl shows what the gateway says beside an answer.
    expect(said).toEqual(['', expect.stringContaining('Warning: You seem to go'), expect.stringContaining('metered')])
  })

  it('knows nobody without a token, and takes nobody at their word', async () => {
    const nobody = await world.kubeconfig('nobody', 'slp_not-a-token')
    expect(await world.kubectl(['get', 'pods'], { kubeconfig: nobody })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/logged in|Unauthorized/u),
    })
    // The header asks the API server for the rights of another user; the agent's own stay all it has.
    const pods = await world.kubectl(['get', 'pods', '-n', 'shop', '--as', 'system:anonymous'])
    expect(pods.code).toBe(0)
  })
})

function configMap(name: string, namespace: string): string {
  return JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data: { a: 'b' } })
}
