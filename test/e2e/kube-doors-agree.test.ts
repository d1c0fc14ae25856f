/**
 * The same requests through the tool `kubectl` over MCP and through the API door, to one gateway process before one real
 * API server: the same verdict by the same rules, the same canonical action, the same masked answer, the same counters,
 * the same entries in the recording.
 */
import { Pool } from 'undici'
import { WebSocket } from 'ws'
import { parse } from 'yaml'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { tableOf } from '../../tools/object-table.ts'
import {
  CLUSTER,
  COMMANDS,
  PAIRS,
  PASSWORD,
  POLICY,
  POLICY_OF_TABLES,
  TABLES,
  type Asked,
  type Pair,
} from '../kubernetes/doors-agree-kit.ts'
import { has } from '../setup/needs.ts'
import { openKubeWorld, type KubeWorld } from './kube-door-world.ts'
import { furnished, HOPE, running, settled } from './kube-settled.ts'
import { newEntries, type Entry } from './new-entries.ts'
import { callTool, type ToolResult } from './world.ts'

type Structured = NonNullable<ToolResult['structuredContent']>

interface Answer {
  readonly status: number
  readonly text: string
}

describe.runIf(has('kube-apiserver'))('the tool and the door of Kubernetes', () => {
  let world: KubeWorld
  let pool: Pool
  let entries: () => readonly Entry[]

  beforeAll(async () => {
    world = await openKubeWorld(POLICY, 'approvals: {hold: 10ms}\n')
    // The certificate is the gateway's own; who it is was proved by the kubeconfig.
    pool = new Pool(new URL(world.urls.kubernetes).origin, { connect: { rejectUnauthorized: false } })
    entries = newEntries(world.dir)
    const { api, node } = world.kube
    node.logs.set('till', ['one', 'mail ada@example.com', 'three'])
    node.logs.set(
      'clerk',
      Array.from({ length: 100 }, (_, index) => `line ${index}`),
    )
    node.programs.set('mail', async ({ out, err }) => {
      out('to ada@example.com\n')
      err('from ada@example.com\n')
      return 3
    })
    node.programs.set('nothing', async () => 0)
    for (const { method, path, body } of CLUSTER) {
      await vi.waitFor(async () => {
        const { status, body: said } = await api(method, path, body)
        if (status !== 201) throw new Error(`${path}: ${status} ${JSON.stringify(said)}`)
      }, HOPE)
    }
    // What a controller writes between two requests would be a difference between them.
    for (const namespace of ['shop', 'other', 'asked']) await furnished(api, namespace, world.kube.version)
    for (const name of ['till', 'clerk', 'mute']) await running(api, 'shop', name)
    await settled(api, 'shop', 'web')
  })
  afterAll(async () => {
    await pool?.destroy()
    await world?.close()
  })

  const byTool = async (args: Pair['tool']): Promise<Structured> => {
    const { structuredContent = {} } = await callTool(world.urls.mcp, world.agent, 'kubectl', {
      target: 'cluster',
      ...args,
    })
    return structuredContent
  }

  /** Sends a request as it is written; a status of 0 when the answer breaks off. */
  const byDoor = async ({ method, path, accept, type, body }: Asked): Promise<Answer> => {
    try {
      const answer = await pool.request({
        method,
        path: `/cluster${path}`,
        headers: {
          authorization: `Bearer ${world.agent}`,
          ...(accept !== undefined && { accept }),
          ...(type !== undefined && { 'content-type': type }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      })
      return { status: answer.statusCode, text: await answer.body.text() }
    } catch {
      return { status: 0, text: '' }
    }
  }

  const prepare = async ({ before = [] }: Pair): Promise<void> => {
    for (const { method, path, body } of before) await world.kube.api(method, path, body)
  }

  /** Sends each to both doors, and counts how they ended. */
  const compare = async (pairs: readonly Pair[], isTable: boolean): Promise<ReadonlyMap<string, number>> => {
    const ends = new Map<string, number>()
    const count = (end: string): unknown => ends.set(end, (ends.get(end) ?? 0) + 1)
    entries()
    for (const pair of pairs) {
      await prepare(pair)
      const tool = await byTool(pair.tool)
      const first = factsOf(entries())
      await prepare(pair)
      const door = await byDoor(pair.door)
      const second = factsOf(entries())
      expect([pair, second]).toEqual([pair, first])
      expect(JSON.stringify(tool) + door.text).not.toContain(PASSWORD)
      const isInWords = tool.status === 'ok' && IN_WORDS.includes(String(pair.tool['verb']))
      if (!isInWords) expect([pair, saidByDoor(door, tool, isTable)]).toEqual([pair, saidByTool(tool)])
      for (const { type } of first) count(String(type))
      count(tool['truncated'] === true ? 'cut' : String(tool.code ?? tool.status))
      if (first.some(({ masked }) => masked !== undefined)) count('masked')
    }
    return ends
  }

  it(`agree on ${PAIRS.length} requests, end to end`, async () => {
    expect(PAIRS.length).toBeGreaterThanOrEqual(90)
    const ends = await compare(PAIRS, false)
    // Every kind of end was among them, and nearly each was decided, and recorded to its end.
    for (const [end, least] of [
      ['ok', 40],
      ['masked', 20],
      ['cut', 2],
      ['ERR_DENIED', 20],
      ['ERR_APPROVAL_PENDING', 2],
      ['ERR_INVALID_INPUT', 4],
      ['ERR_UPSTREAM_REJECTED', 6],
      ['decision', PAIRS.length - 6],
      ['end', PAIRS.length],
    ] as const) {
      expect([end, ends.get(end) ?? 0]).toEqual([end, expect.toSatisfy((times: number) => times >= least)])
    }
  })

  it(`agree on ${TABLES.length} tables that the server makes`, async () => {
    await world.policy(POLICY_OF_TABLES)
    const ends = await compare(TABLES, true)
    await world.policy(POLICY)
    expect(TABLES.length).toBeGreaterThanOrEqual(25)
    expect(ends.get('ok')).toBeGreaterThanOrEqual(15)
  })

  it.each(COMMANDS)(
    'agree on a command in $namespace/$pod: $command',
    async ({ namespace, pod: name, command, container }) => {
      entries()
      const tool = await byTool({
        verb: 'exec',
        namespace,
        name,
        command,
        ...(container !== undefined && { container }),
      })
      const first = factsOf(entries())
      const query = [
        ...(container === undefined ? [] : [['container', container] as const]),
        ['stdout', 'true'] as const,
        ['stderr', 'true'] as const,
        ...command.map((word) => ['command', word] as const),
      ]
      const path = `/api/v1/namespaces/${namespace}/pods/${name}/exec?${encoded(query)}`
      const door = await commandByDoor(`${new URL(world.urls.kubernetes).origin}/cluster${path}`, world.agent)
      expect(factsOf(entries())).toEqual(first)
      const { result, stderr, exit_code: code } = tool
      const hasRun = tool.status === 'ok'
      const expected = hasRun ? { stdout: result, stderr, code } : saidByTool(tool)
      expect(hasRun ? door : saidByDoor(door as Answer, tool, false)).toEqual(expected)
    },
  )

  it.each([
    ['shop', 'till', true],
    ['shop', 'nobody', true],
    ['asked', 'till', false],
    ['shop', 'till', false],
  ])('agree on a deletion in %s of %s, dry run: %s', async (namespace, name, isDry) => {
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`
    const { body } = await world.kube.api('GET', path)
    const { uid } = (body as { metadata?: { uid?: string } }).metadata ?? {}
    const options = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      propagationPolicy: 'Background',
      ...(isDry && { dryRun: ['All'] }),
      ...(uid !== undefined && { preconditions: { uid } }),
    }
    const ends = await compare(
      [
        {
          tool: { verb: 'delete', resource: 'pods', name, namespace, ...(isDry && { dry_run: true }) },
          door: { method: 'DELETE', path, type: 'application/json', body: options },
        },
      ],
      false,
    )
    expect(ends.get('end')).toBe(1)
  })

  it.each([
    ['deploy/web', 'shop', '/apis/apps/v1/namespaces/shop/deployments/web', 'Deployment', 'web'],
    ['secret/db', 'shop', '/api/v1/namespaces/shop/secrets/db', 'Secret', 'db'],
    ['pod/till', 'shop', '/api/v1/namespaces/shop/pods/till', 'Pod', 'till'],
    ['secret/db', 'other', '/api/v1/namespaces/other/secrets/db', 'Secret', 'db'],
  ])('agree on what a description of %s in %s is made of', async (resource, namespace, path, kind, name) => {
    const selector = `involvedObject.name=${name},involvedObject.kind=${kind}`
    const events = `/api/v1/namespaces/${namespace}/events?${encoded([
      ['fieldSelector', selector],
      ['limit', '100'],
    ])}`
    entries()
    const tool = await byTool({ verb: 'describe', resource, namespace })
    const [decision] = factsOf(entries())
    const answers = [await byDoor({ method: 'GET', path }), await byDoor({ method: 'GET', path: events })]
    const decisions = factsOf(entries()).filter(({ type }) => type === 'decision')
    expect(decision?.['parts']).toEqual(decisions.flatMap((one) => one['parts']))
    expect(decision?.['asked']).toEqual(decisions.map((one) => one['asked']).join('\n'))
    const described: unknown = tool.status === 'ok' ? parse(String(tool['result'])) : undefined
    const [object, list] = answers.map(({ status, text }) => (status === 200 ? steady(text) : undefined))
    expect(steady(JSON.stringify(described ?? {}))).toEqual({ object, events: list })
  })

  it('agree on a drain: the node, the list of its pods, and the eviction of each', async () => {
    const { body } = await world.kube.api('GET', '/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1')
    const { items } = body as {
      items: readonly { metadata: { name: string; namespace: string; uid: string; ownerReferences?: unknown } }[]
    }
    entries()
    const tool = await byTool({ verb: 'drain', name: 'node-1', dry_run: true })
    const [decision] = factsOf(entries())
    expect(tool).toMatchObject({ code: 'ERR_DENIED' })
    await byDoor({
      method: 'PATCH',
      path: '/api/v1/nodes/node-1?dryRun=All&fieldManager=sallyport',
      type: 'application/merge-patch+json',
      body: { spec: { unschedulable: true } },
    })
    await byDoor({ method: 'GET', path: '/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1' })
    for (const { metadata } of items.filter((item) => item.metadata.ownerReferences !== undefined)) {
      const { name, namespace, uid } = metadata
      await byDoor({
        method: 'POST',
        path: `/api/v1/namespaces/${namespace}/pods/${name}/eviction`,
        type: 'application/json',
        body: {
          apiVersion: 'policy/v1beta1',
          kind: 'Eviction',
          metadata: { name, namespace },
          deleteOptions: { preconditions: { uid }, dryRun: ['All'] },
        },
      })
    }
    const decisions = factsOf(entries()).filter(({ type }) => type === 'decision')
    expect(decision?.['parts']).toEqual(decisions.flatMap((one) => one['parts']))
  })

  it('count on one counter', async () => {
    const path = '/api/v1/namespaces/rated/configmaps/settings'
    const seen: unknown[] = []
    for (let turn = 0; turn < 3; turn++) {
      const tool = await byTool({ verb: 'get', resource: 'cm/settings', namespace: 'rated', output: 'json' })
      const door = await byDoor({ method: 'GET', path })
      seen.push([tool.code ?? tool.status, door.status])
    }
    expect(seen).toEqual([
      ['ok', 200],
      ['ok', 200],
      ['ERR_LIMIT_RATE', 429],
    ])
  })

  it('C10: neither leaves a masked value in a recording', () => {
    const everything = world.recorded() + world.output
    for (const secret of [PASSWORD, Buffer.from(PASSWORD).toString('base64'), 'ada@example.com', world.kube.token]) {
      expect(everything).not.toContain(secret)
    }
  })
})

/** What the tool answers in words of its own, and the door with an object. */
const IN_WORDS: readonly string[] = ['can_i', 'delete']

function encoded(query: readonly (readonly [string, string])[]): string {
  return query.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&')
}

/** What a command said over a WebSocket, or the answer there was instead. */
function commandByDoor(
  url: string,
  token: string,
): Promise<Answer | { readonly stdout: string; readonly stderr: string; readonly code: number }> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace(/^http/u, 'ws'), ['v5.channel.k8s.io'], {
      headers: { authorization: `Bearer ${token}` },
      rejectUnauthorized: false,
    })
    const channels = ['', '', '', '']
    socket.on('message', (data: Buffer) => {
      const [channel = 0] = data
      channels[channel] += data.subarray(1).toString()
    })
    socket.on('unexpected-response', (_, response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (piece: string) => (text += piece))
      response.once('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
    socket.once('error', reject)
    socket.once('close', () => {
      const [, stdout = '', stderr = '', status = ''] = channels
      const said = JSON.parse(status) as { details?: { causes?: readonly { message: string }[] } }
      resolve({ stdout, stderr, code: Number(said.details?.causes?.[0]?.message ?? 0) })
    })
  })
}

/** What a recording says of calls, but for who, when, where, and in which form the answer was written. */
function factsOf(all: readonly Entry[]): readonly Readonly<Record<string, unknown>>[] {
  return all.map((entry) => {
    const whole: Readonly<Record<string, unknown>> = { ...entry, ...entry.body }
    const { type, effect, rules, why, parts, obligations, ending, error, masked } = whole
    const { text } = (whole['request'] ?? {}) as { readonly text?: string }
    // A refusal of the server is masked, too; only where it is an answer is that counted.
    const end = endOf(whole, ending, error)
    if (type === 'end') return { type, ending: end, masked: end.startsWith('refused') ? undefined : masked }
    return { type, effect, rules, why, parts, obligations, asked: text?.replace(/^kubectl \S+\n/u, '') }
  })
}

/**
 * How a call ended. What the API server refused is an answer like any other at the door, and an error to the tool; what
 * was too long is known to one of them before it was read, and to the other one after that.
 */
function endOf(whole: Readonly<Record<string, unknown>>, ending: unknown, error: unknown): string {
  const { code, message = '' } = (error ?? {}) as { readonly code?: string; readonly message?: string }
  if (whole['truncated'] === true || code === 'ERR_TOO_LARGE') return 'cut'
  const refused = code === 'ERR_UPSTREAM_REJECTED' ? /\((\d+)/u.exec(message)?.[1] : String(whole['status'])
  if (Number(refused) >= 400) return `refused with ${refused}`
  return `${String(ending)} ${code ?? ''}`
}

/** What changes from one moment to the next, or with each new object. */
const MOMENTARY = new Set(['resourceVersion', 'uid', 'creationTimestamp', 'generation', 'observedGeneration'])

function steady(text: string): unknown {
  try {
    return JSON.parse(text, (key, value: unknown) => (MOMENTARY.has(key) ? undefined : value))
  } catch {
    // A table; how old a thing is, and how wide that is written.
    return text.replaceAll(/\b\d+[smhd](?:\d+[smhd])?\b/gu, 'AGE').replaceAll(/ +/gu, ' ')
  }
}

/** A ticket is the same for both: the request is. */
function saidByTool(tool: Structured): unknown {
  if (tool['truncated'] === true) return 'not passed on'
  if (tool.status === 'ok') return steady(String(tool['result']))
  if (tool.code === 'ERR_UPSTREAM_REJECTED') {
    const [, status, message] = /\((\d+)[^)]*\): (.*)$/su.exec(String(tool['reason'])) ?? []
    return [Number(status), message]
  }
  return [tool.code, tool['rules'] ?? []]
}

function saidByDoor({ status, text }: Answer, tool: Structured, isTable: boolean): unknown {
  if (tool['truncated'] === true)
    return status === 502 || status === 413 || status === 0 ? 'not passed on' : [status, text]
  if (status < 300) {
    return steady(isTable ? tableOf(JSON.parse(text)) : text)
  }
  const said = JSON.parse(text) as {
    message: string
    details?: { causes?: readonly Readonly<Record<string, string>>[] }
  }
  const causes = (reason: string): readonly string[] =>
    (said.details?.causes ?? []).flatMap((cause) => (cause['reason'] === reason ? [cause['message'] ?? ''] : []))
  const [code] = causes('SallyportCode')
  return code === undefined ? [status, said.message] : [code, causes('SallyportRule')]
}
