import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Call } from '../../src/core/call.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import { HTTP_SETTINGS } from '../../src/protocols/http/index.ts'
import type { HttpOptions } from '../../src/protocols/http/options.ts'
import { planRequest } from '../../src/protocols/http/plan.ts'
import { PlanMemory } from '../../src/protocols/http/plan-memory.ts'
import { startService, type TestService } from '../services/http.ts'
import { AGENT, httpKit, type HttpKit } from './kit.ts'

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
    ['another case', { ...get, path: '/Orders/7?state=open' }, OPTIONS, UNDER],
    ['a last slash', { ...get, path: '/orders/7/?state=open' }, OPTIONS, UNDER],
    ['a letter escaped', { ...get, path: '/%6frders/7?state=open' }, OPTIONS, UNDER],
    ['another query', { ...get, path: '/orders/7?state=paid' }, OPTIONS, UNDER],
    ['another order in its query', { ...get, path: '/orders/7?b=2&a=1' }, OPTIONS, UNDER],
    ['one more header', { ...get, headers: [...get.headers, ['prefer', 'x']] }, OPTIONS, UNDER],
    ['no header', { method: 'GET', path: get.path }, OPTIONS, UNDER],
    ['a header it may not have', { ...get, headers: [['host', 'evil.example']] }, OPTIONS, UNDER],
    ['something that is none of its fields', { ...get, target: 'other' }, OPTIONS, UNDER],
    ['another header', { ...get, headers: [['accept', 'text/html']] }, OPTIONS, UNDER],
    ['a value that is in a name', { ...get, headers: [['accept","text/plain', '']] }, OPTIONS, UNDER],
    ['a body', { ...get, method: 'POST', body: 'e30=' }, OPTIONS, UNDER],
    ['a WebSocket', { ...get, upgrade: { protocols: [] } }, OPTIONS, UNDER],
    ['another target', get, optionsOf({ base_url: 'https://other.example.com/v1', auth: 'bearer' }), UNDER],
    ['the target after its settings changed', get, optionsOf({ base_url: 'https://api.example.com/v1' }), UNDER],
    ['other masks', get, OPTIONS, { ...UNDER, masks: [MASK] }],
    ['a body that streams', get, OPTIONS, { ...UNDER, streams: true }],
    ['addresses it is told', get, OPTIONS, { ...UNDER, resolve: { 'api.example.com': ['10.0.0.1'] } }],
  ])('is not that of a request with %s', (_, payload, options, under) => {
    const plan = memory.plan(get, OPTIONS, UNDER)
    const anew = tried(() => planRequest(payload, options, under))
    expect(tried(() => memory.plan(payload, options, under))).toEqual(anew)
    expect(anew).not.toEqual(plan)
  })

  it('is what planning anew gives, whatever was planned before', () => {
    const payload = fc.record(
      {
        method: fc.constantFrom('GET', 'HEAD', 'DELETE', 'get', 'POST'),
        path: fc.constantFrom('/a', '/A', '/a/', '/a?x=1&y=2', '/a?y=2&x=1', '/%61', '/../a', '//a', '/a;b', 'a'),
        url: fc.constantFrom('https://api.example.com/v1/a', 'https://www.example.com/a', 'http://127.0.0.1/', 'x'),
        headers: fc.array(
          fc.tuple(fc.constantFrom('accept', 'Accept', 'prefer', 'host'), fc.constantFrom('a', ' a', 'b')),
          {
            maxLength: 3,
          },
        ),
        body: fc.constantFrom(undefined, '', 'e30='),
        upgrade: fc.constantFrom(undefined, { protocols: [] }),
      },
      { requiredKeys: ['method'] },
    )
    const options = [
      OPTIONS,
      optionsOf({ base_url: 'https://api.example.com/v1', auth: 'bearer', headers: { prefer: 'own' } }),
      optionsOf({ open: true }),
    ]
    const under = [UNDER, { ...UNDER, masks: [MASK] }, { ...UNDER, streams: true }]
    const asked = fc.tuple(payload, fc.constantFrom(...options), fc.constantFrom(...under))
    fc.assert(
      fc.property(fc.array(asked, { minLength: 2, maxLength: 12 }), (series) => {
        const memory = new PlanMemory()
        for (const one of [...series, ...series]) {
          expect(tried(() => memory.plan(...one))).toEqual(tried(() => planRequest(...one)))
        }
      }),
      { numRuns: 150 },
    )
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

const READ = '{id: read, effect: allow, principals: [group:agents], actions: [http.get], resources: [{path: "/**"}]'
const ASKED = `{id: ask, effect: require_approval, principals: ["*"], actions: [http.get], resources: [{path: "/**"}], approvers: {any_of: [group:lead]}}`
const NOON = Date.parse('2026-01-01T12:00:00Z')

/** One request again and again, while all around it changes. */
describe('C8: a request that was planned before', () => {
  let service: TestService
  let now = NOON - 1
  let isRevoked = false
  let isFrozen = false
  const consents: string[] = []
  const kits: HttpKit[] = []

  beforeAll(async () => {
    service = await startService((_, response) => {
      response.setHeader('content-type', 'application/json').end('{"ssn":"777-11"}')
    })
  })
  afterAll(async () => {
    for (const kit of kits) await kit.close()
    await service.close()
  })

  /** A kit under these rules in which the request was planned, decided and sent before. */
  async function met(...rules: readonly string[]): Promise<HttpKit> {
    const kit = httpKit({
      settings: { base_url: service.url, allow_addresses: ['127.0.0.1'], auth: 'bearer' },
      policy: policyOf(...rules),
      now: () => now,
      admitting: {
        isCurrent: async () => !isRevoked,
        barred: async () => (isFrozen ? new SallyportError('ERR_DENIED', 'The caller is frozen.') : undefined),
      },
      async consent({ session }) {
        consents.push(session.principal.id)
        throw new SallyportError('ERR_APPROVAL_PENDING', 'Nobody answers here.')
      },
    })
    kits.push(kit)
    expect(await bodyOf(kit)).toBe('{"ssn":"777-11"}')
    const [first, second] = [await kit.judged(REQUEST), await kit.judged(REQUEST)]
    // Otherwise nothing below would say anything about what is remembered.
    expect(second.plan).toBe(first.plan)
    return kit
  }

  it('is decided by the policy of the moment', async () => {
    const kit = await met(`${READ}}`)
    expect((await kit.judged(REQUEST)).decision).toBe((await kit.judged(REQUEST)).decision)
    kit.reload(policyOf('{id: stop, effect: deny, actions: ["http.*"]}', `${READ}}`))
    expect((await kit.failure(REQUEST)).facts.rules).toEqual(['stop'])
    kit.reload(policyOf(ASKED))
    expect((await kit.failure(REQUEST)).code).toBe('ERR_APPROVAL_PENDING')
    kit.reload(`${policyOf(`${READ}}`)}masks:\n  - {fields: ["**.ssn"], transform: redact}`)
    expect(await bodyOf(kit)).toBe('{"ssn":"[REDACTED:field]"}')
    kit.reload(policyOf(`${READ}}`))
    expect(await bodyOf(kit)).toBe('{"ssn":"777-11"}')
  })

  it('is decided for who asks now, from where, and about which target', async () => {
    const kit = await met(
      `${READ}}`,
      `{id: elsewhere, effect: deny, actions: ["http.*"], when: "session.door == 'elsewhere'"}`,
    )
    const call = kit.of(REQUEST)
    const by = (principal: Principal): Call => ({ ...call, session: { ...call.session, principal } })
    expect(await outcomeOf(kit, call)).toBe('ran')
    expect(await outcomeOf(kit, by({ ...AGENT, groups: [] }))).toBe('ERR_DENIED')
    expect(await outcomeOf(kit, by({ ...AGENT, id: 'other' }))).toBe('ran')
    expect(await outcomeOf(kit, { ...call, session: { ...call.session, door: 'elsewhere' } })).toBe('ERR_DENIED')
    const moved = optionsOf({ base_url: 'http://10.0.0.1/', allow_addresses: ['10.0.0.1'], auth: 'bearer' })
    const judged = await kit.judgedCall({ ...call, target: { ...kit.target, options: moved } })
    expect(judged.plan.exact).toMatchObject({ url: 'http://10.0.0.1/orders/7?state=open' })
    expect(await outcomeOf(kit, call)).toBe('ran')
  })

  it('shows each caller what its own masks leave', async () => {
    const kit = await met(`${READ}}`)
    kit.reload(`${policyOf(`${READ}}`)}masks:\n  - {fields: ["**.ssn"], transform: redact, unless: [group:privacy]}`)
    const call = kit.of(REQUEST)
    const trusted = { ...AGENT, groups: ['agents', 'privacy'] }
    const shownTo = (principal: Principal) => shownOf(kit, { ...call, session: { ...call.session, principal } })
    expect(await shownTo(trusted)).toBe('{"ssn":"777-11"}')
    expect(await shownTo(AGENT)).toBe('{"ssn":"[REDACTED:field]"}')
    expect(await shownTo(trusted)).toBe('{"ssn":"777-11"}')
  })

  it('is decided anew where the time counts', async () => {
    const kit = await met(`${READ}, when: "context.now < timestamp('2026-01-01T12:00:00Z')"}`)
    now = NOON
    expect((await kit.failure(REQUEST)).code).toBe('ERR_DENIED')
    now = NOON - 1
    expect(await bodyOf(kit)).toBe('{"ssn":"777-11"}')
  })

  it('counts each time, and runs for nobody whose token is revoked or who is frozen', async () => {
    const kit = await met(`${READ}, limits: {rate: 2/min}}`)
    isRevoked = true
    expect((await kit.failure(REQUEST)).code).toBe('ERR_UNAUTHENTICATED')
    isRevoked = false
    isFrozen = true
    expect((await kit.failure(REQUEST)).message).toBe('The caller is frozen.')
    isFrozen = false
    const before = service.seen.length
    expect(await bodyOf(kit)).toBe('{"ssn":"777-11"}')
    expect((await kit.failure(REQUEST)).facts).toMatchObject({ rules: ['read'], limit: 'rule:read:rate' })
    expect(service.seen.length).toBe(before + 1)
  })

  it('is asked about for each caller, each time', async () => {
    const kit = await met(`${READ}}`)
    kit.reload(policyOf(ASKED))
    const call = kit.of(REQUEST)
    const other = { ...call, session: { ...call.session, principal: { ...AGENT, id: 'other' } } }
    for (const one of [call, other, call]) expect(await outcomeOf(kit, one)).toBe('ERR_APPROVAL_PENDING')
    expect(consents.slice(-3)).toEqual(['loop', 'other', 'loop'])
  })

  it('is written to by nobody it passes', async () => {
    const kit = await met(`${READ}, limits: {rate: 9/min}}`)
    const { plan, decision } = await kit.judged(REQUEST)
    const before = JSON.stringify([plan, decision])
    freeze(plan)
    freeze(decision)
    for (let n = 0; n < 3; n++) expect(await bodyOf(kit)).toBe('{"ssn":"777-11"}')
    expect(await kit.preview(kit.of(REQUEST))).toBeDefined()
    expect((await kit.judged(REQUEST)).plan).toBe(plan)
    expect(JSON.stringify([plan, decision])).toBe(before)
  })
})

const REQUEST = { path: '/orders/7?state=open', headers: { accept: 'application/json' } }

function policyOf(...rules: readonly string[]): string {
  return `rules:\n${rules.map((rule) => `  - ${rule}\n`).join('')}`
}

async function bodyOf(kit: HttpKit): Promise<unknown> {
  return (await kit.ask(REQUEST)).structured['body']
}

async function shownOf(kit: HttpKit, call: Call): Promise<string> {
  const pieces: Uint8Array[] = []
  for await (const chunk of kit.run(call)) {
    if (chunk.kind === 'data' && chunk.channel === 'body') pieces.push(chunk.bytes)
  }
  return Buffer.concat(pieces).toString('utf8')
}

async function outcomeOf(kit: HttpKit, call: Call): Promise<string> {
  try {
    await shownOf(kit, call)
    return 'ran'
  } catch (error) {
    return SallyportError.from(error).code
  }
}

function freeze(value: unknown): void {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return
  Object.freeze(value)
  for (const inner of Object.values(value)) freeze(inner)
}

/** What comes of it, be it an error. */
function tried<T>(work: () => T): T | string {
  try {
    return work()
  } catch (error) {
    return String(error)
  }
}
