import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import type { Answer } from '../../src/approval/inbox.ts'
import type { TicketView } from '../../src/approval/view.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Neighbourhood } from '../../src/doors/admin/guard.ts'
import { BROWSER_SESSION_MS, createBrowserSessions } from '../../src/identity/browser-sessions.ts'
import { openLowdbStore } from '../../src/store/lowdb-store.ts'
import { temporaryDirectory } from '../store/kit.ts'
import { BEARERS, inboxOf, openAdmin, type Reply } from './kit.ts'

const APPROVER = 'sp_token_of_approver'

const TICKET: TicketView = {
  id: 't1',
  state: 'pending',
  digest: 'd1',
  requester: { id: 'bot', kind: 'agent', owner: 'maria' },
  target: 'shop-db',
  protocol: 'postgres',
  tool: 'query_database',
  verbs: ['sql.update'],
  rules: ['writes'],
  policyVersion: 'v1',
  decisionReason: 'Writes need a person.',
  request: { text: 'UPDATE orders SET note = $1', params: ['x', null] },
  requirements: [
    { rule: 'writes', anyOf: ['group:dba'], count: 1, reasonRequired: false, expiresMs: 60_000, by: [], isMet: false },
  ],
  votes: [],
  createdAt: 'now',
  expiresAt: 'later',
  mayAnswer: true,
  unresolved: [],
  history: [],
}

let close: () => Promise<void> = async () => undefined
afterEach(() => close())

/** The door with real sessions over a real store, and a ticket whose votes are kept. */
async function open(ticket: TicketView = TICKET, place: Partial<Neighbourhood> = {}) {
  const directory = await temporaryDirectory()
  const clock = { ms: 1_000_000 }
  const store = await openLowdbStore({
    file: path.join(directory, 'store.json'),
    blobs: path.join(directory, 'blobs'),
    key: randomBytes(32),
    mustExist: false,
    now: () => clock.ms,
  })
  onTestFinished(() => store.close())
  const gone = new Set<string>()
  const browsers = createBrowserSessions({
    store,
    identity: {
      current: async (id) => [...BEARERS.values()].find((one) => one.credentialId === id && !gone.has(one.id)),
    },
    now: () => clock.ms,
  })
  const answers: Answer[] = []
  const approvals = inboxOf(ticket, {
    vote: async (answer) => {
      if (answer.digest !== ticket.digest) {
        throw new SallyportError('ERR_APPROVAL_STALE', 'The vote is for something else than this ticket asks.')
      }
      answers.push(answer)
      return ticket
    },
  })
  const door = await openAdmin({ browsers, approvals }, place)
  close = door.close
  const own = door.url

  const post = (to: string, fields: Record<string, string>, headers: Record<string, string> = {}): Promise<Reply> =>
    door.ask('POST', to, {
      body: new URLSearchParams(fields).toString(),
      headers: { 'content-type': 'application/x-www-form-urlencoded', origin: own, ...headers },
    })
  const get = (at: string, headers: Record<string, string> = {}): Promise<Reply> => door.ask('GET', at, { headers })
  /** Returns what a browser would send from then on. */
  const signIn = async (token = APPROVER): Promise<string> => {
    const reply = await post('/sign-in', { token, ticket: 't1' })
    expect([reply.status, reply.headers['www-authenticate']]).toEqual([303, undefined])
    return cookieOf(reply)
  }
  const formOf = async (cookie: string): Promise<string> =>
    /name="form" value="([^"]+)"/u.exec((await get('/approvals/t1', { cookie })).text)?.[1] ?? ''
  return { ...door, own, post, get, signIn, formOf, answers, gone, clock, store }
}

function cookieOf({ headers }: Reply): string {
  return String(headers['set-cookie']).split(';')[0] ?? ''
}

describe('signing in at the approval page', () => {
  it('takes a token by a form and puts a cookie in its place that no script and no other site can use', async () => {
    const { post, get } = await open()
    const reply = await post('/sign-in', { token: APPROVER, ticket: 't1' })
    expect(reply.headers['location']).toBe('/approvals/t1')
    const cookie = String(reply.headers['set-cookie'])
    expect(cookie).toMatch(
      /^sallyport=[A-Za-z0-9_-]{43}; Max-Age=3600; Path=\/; Expires=[^;]+; HttpOnly; SameSite=Strict$/u,
    )
    expect(cookie).not.toContain('sp_')
    expect((await get('/approvals', { cookie: cookieOf(reply) })).text).toContain('signed in as <bdi>approver</bdi>')
  })

  it.each([
    ['TLS', { isTls: true }, 'https://127.0.0.1'],
    ['something that speaks TLS', { publicOrigin: 'https://approve.example' }, 'https://approve.example'],
  ])('binds the cookie to this host and to TLS behind %s', async (_what, place, origin) => {
    const { post } = await open(TICKET, place)
    const headers = { origin, host: '127.0.0.1' }
    expect(String((await post('/sign-in', { token: APPROVER }, headers)).headers['set-cookie'])).toMatch(
      /^__Host-sallyport=.*; Path=\/; .*; Secure; SameSite=Strict$/u,
    )
  })

  it.each([' ', 'sp_wrong', 'sp_token_of_approver x', 'x'.repeat(5000)])('refuses %#', async (token) => {
    const { post } = await open()
    const reply = await post('/sign-in', { token })
    expect(reply.status).toBe(401)
    expect(reply.headers['set-cookie']).toBeUndefined()
    expect(reply.text).not.toContain(`"${token}"`)
  })

  it('refuses a token whose bearer has no role here, and writes that down', async () => {
    const { post, acts } = await open()
    const reply = await post('/sign-in', { token: 'sp_token_of_caller' })
    expect([reply.status, reply.headers['set-cookie']]).toEqual([403, undefined])
    expect(acts.map(({ act, outcome }) => [act, outcome])).toEqual([['page.sign_in', 'refused']])
  })

  it('takes no token from a URL or a header, and no cookie at the routes', async () => {
    const { get, ask, signIn } = await open()
    expect((await get(`/approvals?token=${APPROVER}`)).status).toBe(401)
    expect((await ask('GET', '/approvals', { token: APPROVER })).status).toBe(401)
    expect((await get('/sign-in')).status).toBe(401)
    const cookie = await signIn()
    expect((await get('/v1/approvals', { cookie })).status).toBe(401)
  })

  it('leads nowhere but to a ticket', async () => {
    const { post } = await open()
    for (const ticket of ['//evil.example', 'https://evil.example', '../../v1/tokens', '\\evil', '\r\nx: y']) {
      const reply = await post('/sign-in', { token: APPROVER, ticket })
      expect(reply.headers['location']).toBe('/approvals')
    }
  })

  it('is written down before there is a session', async () => {
    const { signIn, acts } = await open()
    await signIn()
    expect(acts.map(({ act, outcome, by }) => [act, outcome, by.id])).toEqual([
      ['page.sign_in', 'attempted', 'approver'],
      ['page.sign_in', 'done', 'approver'],
    ])
  })
})

describe('a session of the approval page', () => {
  it('is never the one the browser came with', async () => {
    const { post, get, signIn } = await open()
    const planted = `sallyport=${randomBytes(32).toString('base64url')}`
    const mine = cookieOf(await post('/sign-in', { token: APPROVER }, { cookie: planted }))
    expect(mine).not.toBe(planted)
    expect((await get('/approvals', { cookie: planted })).status).toBe(401)
    const other = await signIn('sp_token_of_operator')
    const again = cookieOf(await post('/sign-in', { token: APPROVER }, { cookie: other }))
    expect((await get('/approvals', { cookie: other })).status).toBe(401)
    expect((await get('/approvals', { cookie: `${again}; ${planted}` })).status).toBe(401)
    expect((await get('/approvals', { cookie: again })).status).toBe(200)
  })

  it('ends with its token, also between a page and its form', async () => {
    const { get, post, signIn, formOf, gone, answers } = await open()
    const cookie = await signIn()
    const form = await formOf(cookie)
    gone.add('approver')
    expect((await get('/approvals/t1', { cookie })).status).toBe(401)
    const reply = await post('/approvals/t1', { form, digest: 'd1', decision: 'approve' }, { cookie })
    expect([reply.status, answers]).toEqual([401, []])
    expect(reply.text).toContain('nothing was answered')
  })

  it('ends after an hour, and when its person signs out', async () => {
    const { get, post, signIn, formOf, clock } = await open()
    const first = await signIn()
    clock.ms += BROWSER_SESSION_MS - 1
    expect((await get('/approvals', { cookie: first })).status).toBe(200)
    clock.ms += 1
    expect((await get('/approvals', { cookie: first })).status).toBe(401)
    const second = await signIn()
    expect((await post('/sign-out', { form: 'guessed' }, { cookie: second })).status).toBe(403)
    expect((await get('/approvals', { cookie: second })).status).toBe(200)
    const out = await post('/sign-out', { form: await formOf(second) }, { cookie: second })
    expect(String(out.headers['set-cookie'])).toMatch(/^sallyport=; .*Expires=Thu, 01 Jan 1970/u)
    expect((await get('/approvals', { cookie: second })).status).toBe(401)
  })

  it('does not stand in the store as itself, and makes room for newer ones of its token', async () => {
    const { get, signIn, store } = await open()
    const cookies: string[] = []
    for (let n = 0; n < 10; n++) cookies.push(await signIn())
    const stored = await store.list('browsers')
    expect(stored).toHaveLength(8)
    const kept = JSON.stringify(stored)
    for (const cookie of cookies) expect(kept).not.toContain(cookie.slice('sallyport='.length))
    expect((await get('/approvals', { cookie: cookies[9] ?? '' })).status).toBe(200)
  })
})

describe('an answer from the approval page', () => {
  it('is the answer of who signed in, to what they saw', async () => {
    const { post, signIn, formOf, answers } = await open()
    const cookie = await signIn()
    const form = await formOf(cookie)
    const fields = { form, digest: 'd1', decision: 'deny', reason: ' not on a Friday ' }
    const reply = await post('/approvals/t1', fields, { cookie })
    expect([reply.status, reply.headers['location']]).toEqual([303, '/approvals/t1'])
    expect(answers).toMatchObject([
      { viewer: { id: 'approver' }, ticket: 't1', digest: 'd1', decision: 'deny', reason: 'not on a Friday' },
    ])
  })

  it('C11: is refused when the ticket asks something else by now', async () => {
    const { post, signIn, formOf, answers } = await open()
    const cookie = await signIn()
    const reply = await post(
      '/approvals/t1',
      { form: await formOf(cookie), digest: 'd0', decision: 'approve' },
      { cookie },
    )
    expect([reply.status, answers]).toEqual([409, []])
    expect(reply.text).toContain('ERR_APPROVAL_STALE')
    expect(reply.text).toContain('href="/approvals/t1"')
  })

  const FORGED: readonly (readonly [string, Record<string, string>])[] = [
    ['another site', { origin: 'https://evil.example' }],
    ['a site the configuration lets call the routes', { origin: 'https://good.example' }],
    ['a page without an origin', { origin: 'null' }],
    ['nobody', { origin: '' }],
    ['another port', { origin: 'http://127.0.0.1:1' }],
    ['the same name over TLS', { origin: 'https://127.0.0.1' }],
    ['a site under the same domain, so the browser says', { 'sec-fetch-site': 'same-site' }],
    ['another site, so the browser says', { 'sec-fetch-site': 'cross-site' }],
  ]
  it.each(FORGED)('is refused from %s', async (_who, headers) => {
    const { post, signIn, formOf, answers } = await open()
    const cookie = await signIn()
    const form = await formOf(cookie)
    for (const to of ['/approvals/t1', '/sign-in', '/sign-out']) {
      const reply = await post(to, { form, digest: 'd1', decision: 'approve', token: APPROVER }, { cookie, ...headers })
      expect([to, reply.status, reply.headers['set-cookie']]).toEqual([to, 403, undefined])
    }
    expect(answers).toEqual([])
  })

  it('is refused without the token of its session, and with that of another', async () => {
    const { post, signIn, formOf, answers } = await open()
    const cookie = await signIn()
    const others = await formOf(await signIn('sp_token_of_operator'))
    for (const form of ['', 'x', others]) {
      expect((await post('/approvals/t1', { form, digest: 'd1', decision: 'approve' }, { cookie })).status).toBe(403)
    }
    expect(answers).toEqual([])
  })

  it('C13: is refused from whoever is no approver, and that is written down', async () => {
    const { post, signIn, formOf, answers, acts } = await open()
    const cookie = await signIn('sp_token_of_operator')
    const form = await formOf(cookie)
    expect((await post('/approvals/t1', { form, digest: 'd1', decision: 'approve' }, { cookie })).status).toBe(403)
    expect(answers).toEqual([])
    expect(acts.at(-1)).toMatchObject({ act: 'page.vote', outcome: 'refused', by: { id: 'operator' } })
  })

  it('is refused in any other form than the page sends', async () => {
    const { ask, own, post, signIn, formOf, answers } = await open()
    const cookie = await signIn()
    const form = await formOf(cookie)
    const headers = { cookie, origin: own }
    const whole = `form=${form}&digest=d1`
    const cases: readonly (readonly [string, string, number])[] = [
      [`${whole}&decision=deny&decision=approve`, 'application/x-www-form-urlencoded', 400],
      [`${whole}&decision=maybe`, 'application/x-www-form-urlencoded', 400],
      [`form=${form}&decision=approve`, 'application/x-www-form-urlencoded', 400],
      [`${whole}&decision=approve`, 'text/plain', 400],
      [JSON.stringify({ form, digest: 'd1', decision: 'approve' }), 'application/json', 400],
      [`${whole}&decision=approve&reason=${'x'.repeat(40_000)}`, 'application/x-www-form-urlencoded', 413],
    ]
    for (const [body, type, status] of cases) {
      const reply = await ask('POST', '/approvals/t1', { body, headers: { ...headers, 'content-type': type } })
      expect([body.slice(0, 60), reply.status]).toEqual([body.slice(0, 60), status])
    }
    expect((await ask('GET', `/approvals/t1?${whole}&decision=approve`, { headers })).status).toBe(200)
    expect((await post('/approvals/%ff', {}, headers)).status).toBe(400)
    expect(answers).toEqual([])
  })
})

describe('what the approval page lets a text do', () => {
  const EVIL = `</pre></textarea><script>alert(1)</script><img src=x onerror=alert(1)>"'&\u202e\u001b[31m\u0000\u200b`

  /** Every text of a ticket, whoever wrote it, as an attacker would. */
  function evil<T>(value: T, at = ''): T {
    if (typeof value === 'string') return (at === 'state' || at === 'id' ? value : `${at}${EVIL}`) as T
    if (Array.isArray(value)) return value.map((one: unknown) => evil(one, at)) as T
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, evil(one, name)])) as T
  }

  const FULL: TicketView = evil<TicketView>({
    ...TICKET,
    requester: { id: 'bot', kind: 'agent', owner: 'maria', actsFor: 'ana' },
    preview: {
      sections: [{ title: 'rows', text: 'a', table: { columns: ['c'], rows: [['v', null]] }, more: 3 }],
      missing: 'm',
    },
    follows: 't0',
    agentSays: 'it is urgent',
    votes: [{ by: 'bob', owner: 'bob', decision: 'approve', reason: 'r', at: 'then' }],
    outcome: { code: 'c', message: 'm', resolvedBy: 'bob', reason: 'r' },
    unresolved: ['t9'],
    history: [{ at: 'then', to: 'pending', by: 'bot', why: 'w' }],
  })
  const TICKETS: readonly (readonly [string, TicketView])[] = [
    ['open', { ...FULL, id: 't1', state: 'pending' }],
    ['not for the viewer', { ...FULL, id: 't1', state: 'pending', mayAnswer: false, whyNot: EVIL }],
    ['over', { ...FULL, id: 't1', state: 'done', mayAnswer: false }],
  ]

  it.each(TICKETS)('is to be read, in every field of a ticket that is %s', async (_what, ticket) => {
    const { get, signIn } = await open(ticket)
    const cookie = await signIn()
    for (const at of ['/approvals', '/approvals/t1']) {
      const { text } = await get(at, { cookie })
      expect(text).not.toMatch(/<script|<img|(?!\n)\p{Cc}|\p{Cf}/u)
      // Each mark it could leave an attribute or an element by is written as an entity.
      expect(text).toContain('&lt;script&gt;alert(1)&lt;/script&gt;')
      expect(text).toContain('&quot;&#39;&amp;&lt;U+202E&gt;&lt;U+001B&gt;[31m&lt;U+0000&gt;&lt;U+200B&gt;')
    }
  })

  it('is to be read in what the page says of a mistake', async () => {
    const { get, signIn } = await open()
    const cookie = await signIn()
    const { text } = await get(`/approvals/${encodeURIComponent('<script>')}`, { cookie })
    expect(text).not.toContain('<script')
  })

  it('shows the whole ticket: a statement is not cut, NULL is not the text NULL, claims are marked', async () => {
    const long = `SELECT '${'long '.repeat(20_000)}' AS the_end`
    const { get, signIn } = await open({
      ...FULL,
      id: 't1',
      state: 'pending',
      request: { text: long, params: [null, 'NULL'] },
    })
    const { text } = await get('/approvals/t1', { cookie: await signIn() })
    expect(text).toContain('AS the_end')
    expect(text).toContain('<span class="null">NULL</span>')
    expect(text).toContain('<span class="text">NULL</span>')
    expect(text.replaceAll(/\s+/gu, ' ')).toContain('Nobody checked them.')
    expect(text.replaceAll(/\s+/gu, ' ')).toContain('… and 3 more that are not shown')
  })

  it('lets no page of another site show it, run in it, or learn of it', async () => {
    const { get, post, signIn } = await open()
    const cookie = await signIn()
    const replies = [
      await get('/approvals'),
      await get('/approvals/t1', { cookie }),
      await get('/approvals/%ff', { cookie }),
      await post('/sign-in', { token: 'sp_wrong' }),
      await post('/sign-in', { token: APPROVER }, { origin: 'https://evil.example' }),
    ]
    for (const { headers, text } of replies) {
      expect(headers['content-security-policy']).toMatch(
        /^default-src 'none'; style-src 'sha256-[^']+'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'$/u,
      )
      expect(headers).toMatchObject({
        'x-frame-options': 'DENY',
        'referrer-policy': 'same-origin',
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        'cross-origin-opener-policy': 'same-origin',
        'cross-origin-resource-policy': 'same-origin',
        'content-type': 'text/html; charset=utf-8',
      })
      expect(headers['access-control-allow-origin']).toBeUndefined()
      expect(text).not.toMatch(/<script|style=|https?:\/\//u)
    }
  })

  it('answers to no other name than its own', async () => {
    const { get, post, signIn } = await open()
    const cookie = await signIn()
    expect((await get('/approvals/t1', { cookie, host: 'evil.example' })).status).toBe(403)
    const rebound = { cookie, host: 'evil.example', origin: 'http://evil.example' }
    expect((await post('/approvals/t1', { decision: 'approve', digest: 'd1' }, rebound)).status).toBe(403)
  })

  it('asks again by itself when another site led there, so that the cookie comes along', async () => {
    const { get, signIn } = await open()
    const step = await get('/approvals/t1', { 'sec-fetch-site': 'cross-site' })
    expect([step.status, step.headers['set-cookie']]).toEqual([200, undefined])
    expect(step.text).toContain('http-equiv="refresh" content="0"')
    expect(step.text).not.toContain('UPDATE orders')
    expect((await get('/approvals/t1', { 'sec-fetch-site': 'same-origin', cookie: await signIn() })).text).toContain(
      'UPDATE orders',
    )
  })
})

describe('what an approval covers, at the approval page', () => {
  const covers = {
    id: 'c1',
    text: 'this statement with <any> parameters',
    uses: 5,
    used: 1,
    isInForce: false,
    mayEnd: false,
  }

  it('is shown, and agreed to only by the button that says so', async () => {
    const { get, post, signIn, formOf, answers } = await open({ ...TICKET, covers })
    const cookie = await signIn()
    const { text } = await get('/approvals/t1', { cookie })
    expect(text).toContain('this statement with &lt;any&gt; parameters')
    expect(text.match(/name="decision" value="[^"]+"/gu)).toEqual(
      ['approve', 'approve-all', 'deny'].map((value) => `name="decision" value="${value}"`),
    )
    const fields = { form: await formOf(cookie), digest: 'd1', covers: 'c1' }
    for (const decision of ['approve', 'approve-all', 'deny']) {
      expect((await post('/approvals/t1', { ...fields, decision }, { cookie })).status).toBe(303)
    }
    expect(answers.map((answer) => [answer.decision, answer.covers])).toEqual([
      ['approve', undefined],
      ['approve', 'c1'],
      ['deny', undefined],
    ])
    const { covers: _, ...less } = fields
    expect((await post('/approvals/t1', { ...less, decision: 'approve-all' }, { cookie })).status).toBe(400)
  })

  it('can be ended once the call itself has run, by those who may, and not agreed to any more', async () => {
    const inForce = { ...covers, isInForce: true, mayEnd: true }
    const { get, post, signIn, formOf, answers } = await open({
      ...TICKET,
      state: 'done',
      mayAnswer: false,
      covers: inForce,
    })
    const cookie = await signIn()
    const { text } = await get('/approvals/t1', { cookie })
    expect(text.match(/name="decision" value="[^"]+"/gu)).toEqual(['name="decision" value="deny"'])
    const form = await formOf(cookie)
    await post('/approvals/t1', { form, digest: 'd1', decision: 'deny' }, { cookie })
    expect(answers).toMatchObject([{ decision: 'deny', digest: 'd1' }])
    expect((await get('/approvals/t1', { cookie: await signIn('sp_token_of_operator') })).text).not.toContain(
      'name="decision"',
    )
  })

  it('is said of a call that nobody was asked about', async () => {
    const { get, signIn } = await open({ ...TICKET, state: 'done', mayAnswer: false, coveredBy: 't0' })
    const { text } = await get('/approvals/t1', { cookie: await signIn() })
    expect(text).toContain('href="/approvals/t0"')
  })
})
