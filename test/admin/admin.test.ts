import { afterEach, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { ROUTES } from '../../src/doors/admin/routes.ts'
import { STATUS } from '../../src/doors/admin/status.ts'
import { hostOf } from '../../src/doors/admin/guard.ts'
import type { Route } from '../../src/doors/admin/route.ts'
import { BEARERS, inboxOf, openAdmin } from './kit.ts'

const VALID_BODIES: Readonly<Record<string, unknown>> = {
  '/v1/tokens': { principal: 'bot', kind: 'agent', owner: 'maria', roles: ['caller'], expires_in_ms: 3_600_000 },
  '/v1/freezes': { kind: 'principal', name: 'bot', reason: 'it loops', for_ms: 60_000 },
  '/v1/unfreeze': { kind: 'principal', name: 'bot' },
  '/v1/approvals/:id/vote': { decision: 'approve', digest: 'd1' },
  '/v1/approvals/:id/resolve': { took_effect: true, reason: 'looked at the table' },
}

let door: Awaited<ReturnType<typeof openAdmin>>
afterEach(() => door.close())

function use(route: Route, token?: string) {
  const body = route.method === 'post' ? { body: JSON.stringify(VALID_BODIES[route.path] ?? {}) } : {}
  return door.ask(route.method.toUpperCase(), route.path.replace(':id', 'x1'), {
    ...(token !== undefined && { token }),
    ...body,
  })
}

const CELLS = ROUTES.flatMap((route) =>
  [...BEARERS].map(([token, bearer]) => {
    const open =
      route.audience === 'anybody' ||
      route.audience === 'any-token' ||
      bearer.roles.some((role) => (route.audience as readonly string[]).includes(role))
    return [route.method, route.path, bearer.id, open ? 'serves' : 'refuses', route, token] as const
  }),
)

describe('who may do what at the admin door', () => {
  it.each(CELLS)('%s %s by %s: %s', async (_method, _path, _bearer, expected, route, token) => {
    door = await openAdmin()
    const reply = await use(route, token)
    expect(reply.status).toBe(
      expected === 'serves'
        ? ['/v1/tokens', '/v1/freezes'].includes(route.path) && route.method === 'post'
          ? 201
          : 200
        : 403,
    )
    expect(door.faults).toEqual([])
  })

  it.each(ROUTES.filter(({ audience }) => audience !== 'anybody'))(
    '$method $path knows nobody without a good token',
    async (route) => {
      door = await openAdmin()
      expect((await use(route)).status).toBe(401)
      expect((await use(route, 'sp_wrong')).status).toBe(401)
      expect(door.acts).toEqual([])
    },
  )

  it('says nothing about the gateway to those without a token', async () => {
    door = await openAdmin()
    const health = await door.ask('GET', '/healthz')
    expect(health.text).toBe('{"status":"ok"}')
    expect((await door.ask('GET', '/readyz')).text).toBe('{"status":"ready"}')
    expect(Object.keys(health.headers)).not.toContain('x-powered-by')
    expect((await door.ask('GET', '/v1/no-such-route')).status).toBe(401)
    expect((await door.ask('GET', '/v1/no-such-route', { token: 'sp_token_of_caller' })).status).toBe(404)
  })

  it('C13: only the role approver ever votes', () => {
    const votes = ROUTES.filter(({ path }) => path.includes('vote'))
    expect(votes.map(({ audience }) => audience)).toEqual([['approver']])
  })

  it('every route that changes something is an administrative act', () => {
    const unrecorded = ROUTES.filter(({ act, recordedBy }) => act === undefined && recordedBy === undefined)
    expect(unrecorded.filter(({ method }) => method !== 'get')).toEqual([])
  })
})

describe('administrative acts', () => {
  it('are written down before and after they are done', async () => {
    door = await openAdmin()
    await door.ask('DELETE', '/v1/sessions/s1', { token: 'sp_token_of_operator' })
    expect(door.acts.map(({ act, subject, outcome, by }) => [act, subject, outcome, by.id])).toEqual([
      ['session.kill', 's1', 'attempted', 'operator'],
      ['session.kill', 's1', 'done', 'operator'],
    ])
  })

  it('C16: do not happen when they cannot be written down', async () => {
    let votes = 0
    const full = new SallyportError('ERR_RECORDING_FAILED', 'The recording cannot be written.')
    door = await openAdmin({
      record: () => Promise.reject(full),
      sessions: {
        list: async () => ({ sessions: [], unheard: [] }),
        kill: async () => (votes++, { isKilled: true, unheard: [] }),
      },
    })
    const reply = await door.ask('DELETE', '/v1/sessions/s1', { token: 'sp_token_of_operator' })
    expect(reply.status).toBe(503)
    expect(votes).toBe(0)
  })

  it('are written down when a bearer has not the role for them', async () => {
    door = await openAdmin()
    await door.ask('POST', '/v1/tokens', { token: 'sp_token_of_caller', body: '{}' })
    expect(door.acts.map(({ act, outcome }) => [act, outcome])).toEqual([['post /v1/tokens', 'refused']])
  })

  it('never hold the token that was made', async () => {
    door = await openAdmin()
    const body = JSON.stringify(VALID_BODIES['/v1/tokens'])
    const reply = await door.ask('POST', '/v1/tokens', { token: 'sp_token_of_operator', body })
    expect(reply.text).toContain('sp_fresh')
    expect(JSON.stringify(door.acts)).not.toContain('sp_')
  })

  it('count reading a recording', async () => {
    door = await openAdmin()
    await door.ask('GET', '/v1/recordings/s1', { token: 'sp_token_of_auditor' })
    expect(door.acts.map(({ act, subject, outcome }) => [act, subject, outcome])).toEqual([
      ['recording.show', 's1', 'attempted'],
      ['recording.show', 's1', 'done'],
    ])
  })
})

describe('what a web page could send', () => {
  it.each([
    ['another host', { host: 'evil.example' }],
    ['a host that starts well', { host: '127.0.0.1.evil.example' }],
    ['a user part', { host: 'x@127.0.0.1' }],
    ['an origin', { origin: 'https://evil.example' }],
    ['an opaque origin', { origin: 'null' }],
  ])('is refused: %s', async (_name, headers) => {
    door = await openAdmin()
    const reply = await door.ask('GET', '/v1/whoami', { token: 'sp_token_of_operator', headers })
    expect(reply.status).toBe(403)
    expect(reply.headers['access-control-allow-origin']).toBeUndefined()
  })

  it('a configured origin passes', async () => {
    door = await openAdmin()
    const headers = { origin: 'https://good.example', host: 'localhost:7401' }
    expect((await door.ask('GET', '/v1/whoami', { token: 'sp_token_of_caller', headers })).status).toBe(200)
  })

  it('knows no cookie and no token in the URL', async () => {
    door = await openAdmin()
    const token = 'sp_token_of_operator'
    const headers = { cookie: `token=${token}; authorization=Bearer ${token}` }
    expect((await door.ask('GET', `/v1/whoami?access_token=${token}`, { headers })).status).toBe(401)
  })

  it.each([
    ['example.com:80', 'example.com'],
    ['[::1]:7401', '::1'],
    ['LOCALHOST', 'localhost'],
    ['a b', undefined],
    ['', undefined],
    ['[::1', undefined],
    ['h:port', undefined],
  ])('reads the host of %j as %j', async (header, host) => {
    door = await openAdmin()
    expect(hostOf(header)).toBe(host)
  })
})

describe('bad requests', () => {
  const token = 'sp_token_of_operator'

  it.each([
    ['no JSON', '{"principal": "hunter2"', 400],
    ['a number', '5', 400],
    ['an unknown key', '{"hunter2": 1}', 400],
    ['a missing key', '{"principal": "bot"}', 400],
    ['a life of no number', JSON.stringify({ ...(VALID_BODIES['/v1/tokens'] as object), expires_in_ms: '1' }), 400],
    ['a role that is none', JSON.stringify({ ...(VALID_BODIES['/v1/tokens'] as object), roles: ['root'] }), 400],
    ['too much', JSON.stringify({ principal: 'x'.repeat(70_000) }), 413],
  ])('answers %s with its own status, and stays up', async (_name, body, status) => {
    door = await openAdmin()
    const reply = await door.ask('POST', '/v1/tokens', { token, body })
    expect(reply.status).toBe(status)
    expect(JSON.parse(reply.text)).toHaveProperty('error.code')
    expect(door.faults).toEqual([])
    expect((await door.ask('GET', '/healthz')).status).toBe(200)
  })

  it('takes no other content type: a form of a web page is not JSON', async () => {
    door = await openAdmin()
    const body = JSON.stringify(VALID_BODIES['/v1/tokens'])
    const headers = { 'content-type': 'text/plain' }
    expect((await door.ask('POST', '/v1/tokens', { token, body, headers })).status).toBe(400)
    const chunked = { 'content-type': 'application/x-www-form-urlencoded', 'transfer-encoding': 'chunked' }
    expect((await door.ask('POST', '/v1/tokens', { token, body, headers: chunked })).status).toBe(400)
  })

  it('answers a path that is no percent-encoding', async () => {
    door = await openAdmin()
    expect((await door.ask('GET', '/v1/recordings/%zz', { token: 'sp_token_of_auditor' })).status).toBe(400)
    expect(door.faults).toEqual([])
  })

  it('an unforeseen fault says nothing to the caller and all to the log', async () => {
    door = await openAdmin({
      metrics: () => {
        throw new Error('password=hunter2')
      },
    })
    const reply = await door.ask('GET', '/metrics', { token })
    expect(reply.status).toBe(500)
    expect(reply.text).not.toContain('hunter2')
    expect(door.faults.map(({ code }) => code)).toEqual(['ERR_INTERNAL'])
  })

  it('every code has a status of a failure', async () => {
    door = await openAdmin()
    expect(Object.values(STATUS).filter((status) => status < 400 || status > 599)).toEqual([])
  })
})

describe('watching approvals', () => {
  it('sends each change as an event', async () => {
    door = await openAdmin()
    const reply = await door.ask('GET', '/v1/approvals/watch', { token: 'sp_token_of_approver' })
    expect(reply.headers['content-type']).toBe('text/event-stream')
    expect(reply.text).toContain('data: {"id":"t1","state":"pending"')
  })

  it('shows nothing more once the token is revoked', async () => {
    let next: () => void = () => undefined
    const gate = new Promise<void>((resolve) => (next = resolve))
    const base = await openAdmin()
    const { ticket } = base
    await base.close()
    const desk = inboxOf(ticket, {
      offers: async function* () {
        yield { kind: 'open', ticket: { ...ticket, id: 'before' } }
        door.revoked.add('sp_token_of_approver')
        next()
        await gate
        yield { kind: 'open', ticket: { ...ticket, id: 'after' } }
      },
    })
    door = await openAdmin({ approvals: desk })
    const reply = await door.ask('GET', '/v1/approvals/watch', { token: 'sp_token_of_approver' }).catch(() => undefined)
    expect(reply?.text ?? '').not.toContain('after')
  })
})
