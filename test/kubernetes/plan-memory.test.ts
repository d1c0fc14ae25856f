import { describe, expect, it } from 'vitest'
import type { Call, PlanContext } from '../../src/core/call.ts'
import { planApi, type KubePlan } from '../../src/protocols/kubernetes/plan.ts'
import { createKubernetes } from '../../src/protocols/kubernetes/protocol.ts'

const NO_MASKS = [] as const
const MASK = { schema: 'public', table: 'orders', column: 'note', transform: 'redact' } as const
const FIELD = { path: '**.data.pin', transform: 'redact' } as const
const PODS = '/api/v1/namespaces/web/pods'
const GET = { kind: 'api', method: 'GET', path: `${PODS}?limit=5`, accept: 'application/json' }

const kubernetes = createKubernetes()

function planned(payload: unknown, under: Partial<PlanContext> = {}, more: Partial<Call> = {}): KubePlan {
  const context: PlanContext = {
    masks: NO_MASKS,
    secret: () => Promise.reject(new Error('planning asks no secret')),
    signal: new AbortController().signal,
    ...under,
  }
  return kubernetes.plan({ payload, ...more } as Call, context) as KubePlan
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

describe('C8: a plan that was made before', () => {
  it('is the very same for the very same request, and what planning it anew would give', () => {
    const plan = planned(GET)
    expect(planned(structuredClone(GET))).toBe(plan)
    expect(plan).toEqual(planApi(GET, { masks: NO_MASKS, streams: false }))
  })

  it.each([
    ['another method', { ...GET, method: 'DELETE' }],
    ['another path', { ...GET, path: `${PODS}/p` }],
    ['another parameter', { ...GET, path: `${PODS}?limit=6` }],
    ['a watch', { ...GET, path: `${PODS}?limit=5&watch=1` }],
    ['another form', { ...GET, accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' }],
    ['an upgrade', { ...GET, upgrade: true }],
    ['a body', { ...GET, method: 'POST', path: PODS, body: 'e30=' }],
  ])('is not that of a request with %s', (_what, payload) => {
    const first = planned(GET)
    const plan = planned(payload)
    expect(plan).toEqual(planApi(payload, { masks: NO_MASKS, streams: false }))
    expect(plan).not.toEqual(first)
  })

  it('belongs to its masks, its fields and its input', () => {
    const first = planned(GET)
    expect(planned(GET, { masks: [MASK] }).masks).toEqual([MASK])
    const selecting = { ...GET, path: `/api/v1/namespaces/web/configmaps?fieldSelector=data.pin%3D1` }
    expect(planned(selecting).refused).toBeUndefined()
    expect(planned(selecting, { fields: [FIELD] }).refused?.construct).toBe('k8s.field_selector')
    expect(planned(selecting).refused).toBeUndefined()
    expect(planned(GET, {}, { input: nothing() }).streams).toBe(true)
    expect(planned(GET)).toEqual(first)
  })

  it('is none of what is refused, which is refused each time', () => {
    const bad = { ...GET, path: `${PODS}/../secrets` }
    for (let turn = 0; turn < 2; turn++) expect(() => planned(bad)).toThrow(/segments/u)
  })

  it('is forgotten when there are many others', () => {
    const first = planned(GET)
    for (let index = 0; index < 300; index++) planned({ ...GET, path: `${PODS}/p-${index}` })
    const again = planned(GET)
    expect(again).not.toBe(first)
    expect(again).toEqual(first)
  })
})
