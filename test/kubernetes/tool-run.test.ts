/** What a tool call sends one after the other, and what it makes of the answers. Each answer of the server is spelled out. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { Call, Permit } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { previewOf } from '../../src/protocols/kubernetes/connect-preview.ts'
import { runTool } from '../../src/protocols/kubernetes/connect-tool.ts'
import type { ToolPayload } from '../../src/protocols/kubernetes/payload.ts'
import type { KubePlan } from '../../src/protocols/kubernetes/plan.ts'
import { commandOf } from '../../src/protocols/kubernetes/tool.ts'
import { Said, upstreamOf, type Sent } from './upstream-kit.ts'

let sent: Sent[] = []
beforeEach(() => (sent = []))

type Input = Omit<ToolPayload, 'kind'>

async function planned(input: Input): Promise<KubePlan> {
  const lookups = { findKind: async () => undefined, uidOf: async () => undefined, podsOf: async () => undefined }
  const tool = await commandOf(input, 'web', lookups)
  return { tool, requests: tool.requests } as unknown as KubePlan
}

const server = (answers: readonly unknown[]) => {
  const left = [...answers]
  return upstreamOf((asked) => {
    sent.push(asked)
    return left.shift()
  }, new AbortController().signal)
}

interface Ran {
  readonly body: string
  readonly stdout: string
  readonly exit: Extract<Chunk, { kind: 'exit' }> | undefined
  readonly notices: readonly string[]
}

async function run(
  input: Input,
  answers: readonly unknown[],
  permit: { readonly guard?: string; readonly bytesMax?: number } = {},
): Promise<Ran> {
  const { guard, ...obligations } = permit
  const given = { obligations, signal: new AbortController().signal, ...(guard !== undefined && { guard }) }
  const chunks: Chunk[] = []
  for await (const chunk of runTool({} as Call, await planned(input), given as unknown as Permit, server(answers)))
    chunks.push(chunk)
  const text = (channel: string): string =>
    chunks
      .flatMap((chunk) =>
        chunk.kind === 'data' && chunk.channel === channel && 'bytes' in chunk
          ? [Buffer.from(chunk.bytes).toString()]
          : [],
      )
      .join('')
  return {
    body: text('body'),
    stdout: text('stdout'),
    exit: chunks.find((chunk): chunk is Extract<Chunk, { kind: 'exit' }> => chunk.kind === 'exit'),
    notices: chunks.flatMap((chunk) => (chunk.kind === 'notice' ? [chunk.text] : [])),
  }
}

const set = (revision: string, image: string, uid = 'u'): object => ({
  metadata: {
    name: `web-${revision}`,
    annotations: { 'deployment.kubernetes.io/revision': revision },
    ownerReferences: [{ kind: 'Deployment', uid }],
  },
  spec: {
    template: { metadata: { labels: { app: 'web', 'pod-template-hash': 'x' } }, spec: { containers: [{ image }] } },
  },
})
const WEB = {
  metadata: {
    name: 'web',
    uid: 'u',
    resourceVersion: '7',
    generation: 3,
    annotations: { 'deployment.kubernetes.io/revision': '3' },
  },
  spec: { template: {} },
}
const UNDO = { verb: 'rollout_undo', resource: 'deploy', name: 'web' }

describe('a rollout that is taken back', () => {
  const SETS = {
    items: [set('1', 'one'), set('2', 'two'), set('3', 'three'), set('2', 'foreign', 'other'), set('x', 'odd')],
  }
  const lastBody = (): unknown => JSON.parse(Buffer.from(sent.at(-1)?.body ?? []).toString())

  it.each<readonly [Input, string]>([
    [UNDO, 'two'],
    [{ ...UNDO, revision: 1 }, 'one'],
  ])(
    '%j goes back to the template its own replica sets keep, for the specification that was read',
    async (input, image) => {
      await run(input, [WEB, SETS, {}])
      expect(lastBody()).toEqual([
        { op: 'test', path: '/metadata/generation', value: 3 },
        {
          op: 'replace',
          path: '/spec/template',
          value: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ image }] } },
        },
      ])
    },
  )

  it('changes nothing where there is no such revision, or it has no template', async () => {
    const bare = { items: [{ ...set('2', 'two'), spec: {} }] }
    await expect(run({ ...UNDO, revision: 9 }, [WEB, SETS])).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
    await expect(run(UNDO, [WEB, bare])).rejects.toMatchObject({ code: 'ERR_UPSTREAM_REJECTED' })
    await expect(run(UNDO, [new Said(403)])).rejects.toMatchObject({ facts: { noEffect: true } })
    expect(sent.filter(({ method }) => method !== 'GET')).toEqual([])
  })

  it('C14: goes back to the template approvers were shown and to no other', async () => {
    const { guard = '' } = await previewOf(await planned(UNDO), server([WEB, SETS, WEB, WEB]))
    sent = []
    await run(UNDO, [WEB, SETS, WEB, {}], { guard })
    expect(sent.at(-1)?.method).toBe('PATCH')
    sent = []
    const changed = { items: [set('2', 'evil'), set('3', 'three')] }
    await expect(run(UNDO, [WEB, changed, WEB, {}], { guard })).rejects.toMatchObject({
      code: 'ERR_APPROVAL_STALE',
      facts: { askAgain: true, noEffect: true },
    })
    expect(sent.filter(({ method }) => method !== 'GET')).toEqual([])
  })
})

describe('a result', () => {
  const GET = { verb: 'get', resource: 'configmaps', name: 'c', output: 'json' } as const

  it('of describe is the object and its events', async () => {
    const { body } = await run({ verb: 'describe', resource: 'pods', name: 'p' }, [
      { kind: 'Pod' },
      { kind: 'EventList', items: [] },
    ])
    expect(JSON.parse(body)).toEqual({ object: { kind: 'Pod' }, events: { kind: 'EventList', items: [] } })
  })

  it('is withheld where it is longer than the call may read, and says so', async () => {
    const long = { kind: 'ConfigMap', data: { a: 'x'.repeat(200) } }
    const { body, exit, notices } = await run(GET, [long], { bytesMax: 100 })
    expect([body, exit]).toMatchObject(['', { truncated: true, truncatedBy: 'bytes' }])
    expect(notices.join()).toContain('withheld')
    expect((await run(GET, [long], { bytesMax: 1000 })).exit).toMatchObject({ truncated: false })
  })

  it('that is no JSON is none', async () => {
    await expect(run(GET, ['<html>hunter2'])).rejects.toMatchObject({
      code: 'ERR_UPSTREAM_REJECTED',
      message: expect.not.stringContaining('hunter2') as string,
    })
  })

  it('of top says when a cluster measures nothing, and passes on every other refusal', async () => {
    const top = { verb: 'top', resource: 'pods' }
    await expect(run(top, [new Said(404, '404 page not found\n')])).rejects.toThrow('measures nothing')
    await expect(run(top, [new Said(404, { kind: 'Status', message: 'pods not there' })])).rejects.not.toThrow(
      'measures nothing',
    )
    await expect(run(top, [new Said(403, '404 page not found')])).rejects.not.toThrow('measures nothing')
    const metrics = { kind: 'PodMetricsList', items: [] }
    expect(JSON.parse((await run(top, [metrics])).body)).toMatchObject({ kind: 'PodMetricsList' })
    expect(sent.at(-1)?.path).toBe('/apis/metrics.k8s.io/v1beta1/namespaces/web/pods')
  })
})

describe('a log', () => {
  const LOGS = { verb: 'logs', name: 'p' }

  it('is cut at its limit and says so, and not where it just fits', async () => {
    expect(await run(LOGS, ['0123456789'], { bytesMax: 4 })).toMatchObject({
      stdout: '0123',
      exit: { truncated: true, truncatedBy: 'bytes' },
    })
    expect(await run(LOGS, ['0123456789'], { bytesMax: 10 })).toMatchObject({
      stdout: '0123456789',
      exit: { truncated: false },
    })
    expect(await run(LOGS, [''])).toMatchObject({ stdout: '', exit: { truncated: false } })
  })

  it('that is refused is no log', async () => {
    await expect(
      run(LOGS, [new Said(400, { kind: 'Status', message: 'container "x" is not there' })]),
    ).rejects.toMatchObject({
      code: 'ERR_UPSTREAM_REJECTED',
    })
  })
})
