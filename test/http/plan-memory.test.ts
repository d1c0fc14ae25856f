import { describe, expect, it } from 'vitest'
import { HTTP_SETTINGS } from '../../src/protocols/http/index.ts'
import type { HttpOptions } from '../../src/protocols/http/options.ts'
import { planRequest } from '../../src/protocols/http/plan.ts'
import { PlanMemory } from '../../src/protocols/http/plan-memory.ts'

function optionsOf(settings: Readonly<Record<string, unknown>>): HttpOptions {
  return HTTP_SETTINGS.finish(HTTP_SETTINGS.schema.parse(settings), (path) => path).options
}

const OPTIONS = optionsOf({ base_url: 'https://api.example.com/v1', auth: 'bearer' })
const MASK = { schema: 'public', table: 'orders', column: 'note', transform: 'redact' } as const
const UNDER = { masks: [], streams: false } as const

describe('C8: a plan that was made before', () => {
  const memory = new PlanMemory()
  const get = { method: 'GET', path: '/orders/7?state=open', headers: [['accept', 'text/plain']] }

  it('is the very same for the very same request, and what planning it anew would give', () => {
    const plan = memory.plan(get, OPTIONS, UNDER)
    expect(memory.plan(structuredClone(get), OPTIONS, UNDER)).toBe(plan)
    expect(plan).toEqual(planRequest(get, OPTIONS, UNDER))
  })

  it.each([
    ['another method', { ...get, method: 'DELETE' }, OPTIONS, UNDER],
    ['another path', { ...get, path: '/orders/8?state=open' }, OPTIONS, UNDER],
    ['another query', { ...get, path: '/orders/7?state=paid' }, OPTIONS, UNDER],
    ['another header', { ...get, headers: [['accept', 'text/html']] }, OPTIONS, UNDER],
    ['a value that is in a name', { ...get, headers: [['accept","text/plain', '']] }, OPTIONS, UNDER],
    ['a body', { ...get, method: 'POST', body: 'e30=' }, OPTIONS, UNDER],
    ['a WebSocket', { ...get, upgrade: { protocols: [] } }, OPTIONS, UNDER],
    ['another target', get, optionsOf({ base_url: 'https://other.example.com/v1', auth: 'bearer' }), UNDER],
    ['other masks', get, OPTIONS, { ...UNDER, masks: [MASK] }],
    ['a body that streams', get, OPTIONS, { ...UNDER, streams: true }],
    ['addresses it is told', get, OPTIONS, { ...UNDER, resolve: { 'api.example.com': ['10.0.0.1'] } }],
  ])('is not that of a request with %s', (_, payload, options, under) => {
    const plan = memory.plan(get, OPTIONS, UNDER)
    const anew = tried(() => planRequest(payload, options, under))
    expect(tried(() => memory.plan(payload, options, under))).toEqual(anew)
    expect(anew).not.toEqual(plan)
  })

  it('is made anew each time for what changes from one request to the next', () => {
    const post = { method: 'POST', path: '/orders', body: 'e30=' }
    expect(memory.plan(post, OPTIONS, UNDER)).not.toBe(memory.plan(post, OPTIONS, UNDER))
    const long = { method: 'GET', path: `/orders?note=${'x'.repeat(2_048)}` }
    expect(memory.plan(long, OPTIONS, UNDER)).not.toBe(memory.plan(long, OPTIONS, UNDER))
  })

  it('is forgotten when so many others came after it', () => {
    const memory = new PlanMemory()
    const plan = memory.plan(get, OPTIONS, UNDER)
    for (let n = 0; n < 255; n++) memory.plan({ method: 'GET', path: `/orders/${n}` }, OPTIONS, UNDER)
    expect(memory.plan(get, OPTIONS, UNDER)).toBe(plan)
    for (let n = 255; n < 511; n++) memory.plan({ method: 'GET', path: `/orders/${n}` }, OPTIONS, UNDER)
    expect(memory.plan(get, OPTIONS, UNDER)).not.toBe(plan)
  })
})

/** What comes of it, be it an error. */
function tried<T>(work: () => T): T | string {
  try {
    return work()
  } catch (error) {
    return String(error)
  }
}
