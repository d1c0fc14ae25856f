/** What an approved change is sent with, and when it is not sent. No server: each answer is spelled out. */
import { Readable } from 'node:stream'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Call, Permit } from '../../src/core/call.ts'
import { findBefore, readGuard, sendGuarded } from '../../src/protocols/kubernetes/connect-guard.ts'
import { send, type Upstream } from '../../src/protocols/kubernetes/connect-send.ts'
import { runApi } from '../../src/protocols/kubernetes/connector.ts'
import { planApi } from '../../src/protocols/kubernetes/plan.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'

const PATH = '/api/v1/namespaces/web/configmaps/c'
const APPLY = `${PATH}?fieldManager=agent`

interface Sent {
  readonly method: string
  readonly body?: Uint8Array
}

let sent: Sent[] = []
let answers: unknown[] = []
let stop = new AbortController()

beforeEach(() => {
  sent = []
  answers = []
  stop = new AbortController()
})

const upstream = (): Upstream =>
  ({
    options: { server: new URL('https://127.0.0.1:1'), bytesMax: 1e6 },
    pools: {
      of: () => ({
        async request(asked: Sent) {
          sent.push(asked)
          const body = Readable.from([Buffer.from(JSON.stringify(answers.shift()))])
          return { statusCode: 200, headers: { 'content-type': 'application/json' }, body }
        },
      }),
    },
    login: {},
    signal: stop.signal,
  }) as unknown as Upstream

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
