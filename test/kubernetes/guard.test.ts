/** What an approved change is sent with, and when it is not sent. No server: each answer is spelled out. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { Call, Permit } from '../../src/core/call.ts'
import { findBefore, isGuarded, readGuard, sendGuarded } from '../../src/protocols/kubernetes/connect-guard.ts'
import { send, type Upstream } from '../../src/protocols/kubernetes/connect-send.ts'
import { runApi } from '../../src/protocols/kubernetes/connector.ts'
import { planApi } from '../../src/protocols/kubernetes/plan.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'
import type { KubeRequest } from '../../src/protocols/kubernetes/request.ts'
import { Said, upstreamOf, type Sent } from './upstream-kit.ts'

const PATH = '/api/v1/namespaces/web/configmaps/c'
const APPLY = `${PATH}?fieldManager=agent`

let sent: Sent[] = []
let answers: unknown[] = []
let stop = new AbortController()

beforeEach(() => {
  sent = []
  answers = []
  stop = new AbortController()
})

const upstream = (): Upstream =>
  upstreamOf((asked) => {
    sent.push(asked)
    return answers.shift()
  }, stop.signal)

const object = (data: string, more: object = {}): object => ({
  kind: 'ConfigMap',
  metadata: { name: 'c', uid: 'u-1', resourceVersion: '7', ...more },
  data: { a: data },
})
const change = (method: string, path = PATH, contentType = 'application/json', body: object = { data: { a: 'b' } }) =>
  readRequest({ method, path, contentType, body: Buffer.from(JSON.stringify(body)) })

describe('C14: an approved change', () => {
  const PATCH = change('PATCH', PATH, 'application/merge-patch+json')

  it('is sent with what it was approved on as its precondition', async () => {
    answers = [object('old'), object('old'), object('new')]
    const { digest } = await findBefore(PATCH, upstream())
    await sendGuarded(PATCH, digest, upstream())
    expect(sent.map(({ method }) => method)).toEqual(['GET', 'GET', 'PATCH'])
    expect(JSON.parse(Buffer.from(sent[2]?.body ?? []).toString())).toEqual({
      data: { a: 'b' },
      metadata: { uid: 'u-1', resourceVersion: '7' },
    })
  })

  it('is not sent where something else stands there by then', async () => {
    answers = [object('old'), object('other')]
    const { digest } = await findBefore(PATCH, upstream())
    await expect(sendGuarded(PATCH, digest, upstream())).rejects.toMatchObject({
      code: 'ERR_APPROVAL_STALE',
      facts: { askAgain: true, noEffect: true },
    })
    expect(sent.map(({ method }) => method)).toEqual(['GET', 'GET'])
  })

  it('that applies depends on what the same manager has applied before, which is what it takes away', async () => {
    const applied = (field: string): object =>
      object('old', { managedFields: [{ manager: 'agent', operation: 'Apply', fieldsV1: { [field]: {} } }] })
    const request = change('PATCH', APPLY, 'application/apply-patch+yaml')
    answers = [applied('f:a'), applied('f:b'), applied('f:b')]
    const digests = [1, 2, 3].map(() => findBefore(request, upstream()).then(({ digest }) => digest))
    const [first, second, third] = await Promise.all(digests)
    expect(second).not.toBe(first)
    expect(third).toBe(second)
  })

  const bodyOf = (index: number): unknown => JSON.parse(Buffer.from(sent[index]?.body ?? []).toString())
  const PRECONDITIONS = { uid: 'u-1', resourceVersion: '7' }
  const PODS = '/api/v1/namespaces/web/pods'

  /** Finds what is there now and sends the change. */
  async function guarded(request: KubeRequest): Promise<number> {
    const { digest } = await findBefore(request, upstream())
    return (await sendGuarded(request, digest, upstream())).statusCode
  }

  it.each<readonly [string, string, boolean]>([
    ['PUT', PATH, true],
    ['DELETE', PATH, true],
    ['DELETE', `${PODS}?labelSelector=a%3Db`, true],
    ['POST', `${PODS}/p/eviction`, true],
    ['POST', PODS, false],
    ['GET', PATH, false],
    ['PUT', `${PATH}?dryRun=All`, false],
  ])('%s %s has a guard: %s', (method, path, expected) => {
    expect(isGuarded(readRequest({ method, path }))).toBe(expected)
  })

  it('is of nothing where there is nothing, and of no object a server does not show', async () => {
    answers = [new Said(404), object('old'), new Said(403), '"text"']
    const before = await findBefore(PATCH, upstream())
    expect(before).toEqual({ value: undefined, digest: 'none' })
    await expect(sendGuarded(PATCH, 'none', upstream())).rejects.toMatchObject({ code: 'ERR_APPROVAL_STALE' })
    for (const _ of [1, 2]) {
      await expect(findBefore(PATCH, upstream())).rejects.toMatchObject({
        code: 'ERR_UPSTREAM_REJECTED',
        facts: { noEffect: true },
      })
    }
  })

  it('that deletes is of the very object, whether it has options in a body, in the query, or none', async () => {
    for (const [path, options, more] of [
      [PATH, undefined, {}],
      [PATH, { gracePeriodSeconds: 5 }, { gracePeriodSeconds: 5 }],
      [
        `${PATH}?gracePeriodSeconds=0&propagationPolicy=Foreground`,
        undefined,
        { gracePeriodSeconds: 0, propagationPolicy: 'Foreground' },
      ],
      [`${PATH}?orphanDependents=true`, undefined, { orphanDependents: true }],
    ] as const) {
      sent = []
      answers = [object('old'), object('old'), {}]
      const body = options && Buffer.from(JSON.stringify(options))
      await guarded(readRequest({ method: 'DELETE', path, ...(body && { body }) }))
      expect([sent[2]?.method, sent[2]?.path, bodyOf(2)]).toEqual([
        'DELETE',
        PATH,
        { ...(options ?? { apiVersion: 'v1', kind: 'DeleteOptions' }), ...more, preconditions: PRECONDITIONS },
      ])
    }
    answers = [object('old'), object('old')]
    const odd = readRequest({ method: 'DELETE', path: `${PATH}?gracePeriodSeconds=1e3` })
    await expect(guarded(odd)).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
  })

  it('keeps the preconditions its caller has', async () => {
    answers = [object('old'), object('old'), {}]
    const body = Buffer.from(JSON.stringify({ preconditions: { uid: 'u-other' } }))
    await guarded(readRequest({ method: 'DELETE', path: PATH, body }))
    expect(bodyOf(2)).toMatchObject({ preconditions: { uid: 'u-other', resourceVersion: '7' } })
  })

  it('that evicts is of the very pod', async () => {
    answers = [object('old'), object('old'), {}]
    await guarded(change('POST', `${PODS}/p/eviction`, 'application/json', { kind: 'Eviction' }))
    expect(sent.map(({ path }) => path)).toEqual([`${PODS}/p`, `${PODS}/p`, `${PODS}/p/eviction`])
    expect(bodyOf(2)).toMatchObject({ deleteOptions: { preconditions: { uid: 'u-1' } } })
  })

  it('that deletes many is of those very ones, in any order, as they are selected', async () => {
    const list = (...uids: readonly string[]): object => ({ items: uids.map((uid) => ({ metadata: { uid } })) })
    const request = readRequest({ method: 'DELETE', path: `${PODS}?labelSelector=a%3Db&fieldSelector=c%3Dd` })
    answers = [list('1', '2'), list('2', '1'), {}]
    expect(await guarded(request)).toBe(200)
    expect(sent[0]?.path).toBe(`${PODS}?labelSelector=a%3Db&fieldSelector=c%3Dd`)
    answers = [list('1', '2'), list('1', '3')]
    await expect(guarded(request)).rejects.toMatchObject({ code: 'ERR_APPROVAL_STALE' })
  })

  it('that patches by operations tests first that nothing came in between', async () => {
    const path = readRequest({
      method: 'PATCH',
      path: PATH,
      contentType: 'application/json-patch+json',
      body: Buffer.from('[{"op":"remove","path":"/data/a"}]'),
    })
    answers = [object('old'), object('old'), {}]
    await guarded(path)
    expect(bodyOf(2)).toEqual([
      { op: 'test', path: '/metadata/resourceVersion', value: '7' },
      { op: 'remove', path: '/data/a' },
    ])
  })

  it('is sent anew, three times, where only what the server reports came in between', async () => {
    const at = (version: string): object => object('old', { resourceVersion: version })
    answers = [at('7'), at('7'), new Said(409), at('8'), {}]
    expect(await guarded(PATCH)).toBe(200)
    expect(bodyOf(4)).toMatchObject({ metadata: { resourceVersion: '8' } })
    sent = []
    answers = [at('1'), at('1'), new Said(409), at('2'), new Said(409), at('3'), new Said(422), at('4')]
    expect(await guarded(PATCH)).toBe(422)
    expect(sent.filter(({ method }) => method === 'PATCH')).toHaveLength(3)
    // Nothing came in between: the conflict is another one.
    answers = [at('1'), at('1'), new Said(409), at('1')]
    expect(await guarded(PATCH)).toBe(409)
    answers = [at('1'), at('1'), new Said(409), object('other', { resourceVersion: '2' })]
    await expect(guarded(PATCH)).rejects.toMatchObject({ code: 'ERR_APPROVAL_STALE' })
  })

  it.each(['', '{}', '[]', '[1]', '{"a":'])('whose guard reads %j is asked about again', (guard) => {
    expect(() => readGuard(guard)).toThrow(expect.objectContaining({ code: 'ERR_APPROVAL_STALE' }))
  })
})

it('C12: what was stopped before it was sent has done nothing, and says so', async () => {
  stop.abort()
  await expect(send(change('PUT'), upstream())).rejects.toMatchObject({ facts: { noEffect: true } })
  expect(sent).toEqual([])
})

it.each(['exec?command=ls', 'attach', 'portforward?ports=80'])(
  '%s without an upgrade reaches no server',
  async (sub) => {
    const plan = planApi(
      { kind: 'api', method: 'POST', path: `/api/v1/namespaces/web/pods/p/${sub}` },
      { masks: [], streams: false },
    )
    const chunks = runApi({} as Call, plan, { obligations: {} } as unknown as Permit, upstream())
    await expect(chunks.next()).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT', facts: { noEffect: true } })
    expect(sent).toEqual([])
  },
)
