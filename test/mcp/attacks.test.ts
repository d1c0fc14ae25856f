import { request } from 'node:http'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Call } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { McpDoorDeps } from '../../src/doors/mcp/deps.ts'
import {
  AGENT,
  deferred,
  depsOf,
  echo,
  INITIALIZE,
  legacyCall,
  modernCall,
  openRaw,
  raw,
  startGateway,
  PATIENT,
} from './harness.ts'
import type { Gateway } from './harness.ts'

const QUERY = { target: 'shop-db', sql: 'SELECT 1' }

let gateway: Gateway
async function restart(deps: Partial<McpDoorDeps>): Promise<void> {
  await gateway.close()
  gateway = await startGateway(deps)
}
beforeEach(async () => {
  gateway = await startGateway()
})
afterEach(() => gateway.close())

/** The gateway still answers somebody who does nothing wrong. */
async function expectAlive(): Promise<void> {
  const response = await raw(gateway.url, modernCall(QUERY))
  expect(response.status).toBe(200)
  expect(await response.text()).toContain('agent-7')
}

describe('who may come in', () => {
  it.each([
    ['POST', INITIALIZE],
    ['GET', undefined],
    ['DELETE', undefined],
  ])('answers %s without a token with 401 and a challenge', async (method, body) => {
    const response = await raw(gateway.url, { method, token: null, body })
    expect(response.status).toBe(401)
    expect(response.headers.get('www-authenticate')).toMatch(/^Bearer /)
    expect(gateway.sessions.list()).toEqual([])
  })

  it.each(['wrong', 'token-agent, Bearer token-maria', '', 'x'.repeat(5000)])(
    'does not take the token %j',
    async (token) => {
      const response = await raw(gateway.url, { token, body: INITIALIZE })
      expect(response.status).toBe(401)
    },
  )

  it('takes no token from the URL', async () => {
    const url = new URL('?access_token=token-agent&token=token-agent', gateway.url)
    expect((await raw(url, { token: null, body: INITIALIZE })).status).toBe(401)
  })

  it('does not serve a host name it was not given: DNS rebinding', async () => {
    expect(await statusFor({ host: 'evil.example' })).toBe(403)
    expect(await statusFor({ host: '127.0.0.1.evil.example' })).toBe(403)
    expect(await statusFor({ host: 'localhost:1234' })).toBe(200)
  })

  it('does not serve a web page of another origin', async () => {
    for (const origin of ['https://evil.example', 'null', 'http://localhost.evil.example']) {
      expect(await statusFor({ host: '127.0.0.1', origin })).toBe(403)
    }
    expect(await statusFor({ host: '127.0.0.1', origin: 'http://localhost:3000' })).toBe(200)
  })

  it('serves exactly the host names it was given', async () => {
    await restart({ allowedHosts: ['gateway.example'] })
    expect(await statusFor({ host: 'gateway.example:8443' })).toBe(200)
    expect(await statusFor({ host: '127.0.0.1' })).toBe(403)
  })

  it('knows an IPv6 address with and without brackets', async () => {
    await restart({ allowedHosts: ['::1', '[fd00::7]'] })
    expect(await statusFor({ host: '[::1]:7400' })).toBe(200)
    expect(await statusFor({ host: '[fd00::7]' })).toBe(200)
    expect(await statusFor({ host: '[::2]' })).toBe(403)
  })

  it.each(['a b', '../x', '-x', 'ü', 'x'.repeat(65), 'a,b'])('refuses the run name %j', async (run) => {
    const headers = { 'sallyport-run': encodeURI(run) === run ? run : Buffer.from(run).toString('latin1') }
    const response = await raw(gateway.url, { body: INITIALIZE, headers })
    expect(response.status).toBe(400)
    expect(gateway.sessions.list()).toEqual([])
  })

  it('knows POST, GET and DELETE only', async () => {
    for (const method of ['PUT', 'PATCH', 'OPTIONS']) {
      const response = await raw(gateway.url, { method })
      expect(response.status).toBe(405)
      expect(response.headers.get('access-control-allow-origin')).toBeNull()
    }
  })

  /** `fetch` sets Host itself, so this goes below it. */
  function statusFor(headers: Record<string, string>): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      const outgoing = request(
        gateway.url,
        {
          method: 'POST',
          headers: {
            authorization: 'Bearer token-agent',
            'content-type': 'application/json',
            accept: 'application/json, text/event-stream',
            ...headers,
          },
        },
        (response) => {
          response.resume()
          resolve(response.statusCode)
        },
      )
      outgoing.on('error', reject)
      outgoing.end(JSON.stringify(INITIALIZE))
    })
  }
})

describe('messages that are none', () => {
  const deep = `${'['.repeat(5000)}${']'.repeat(5000)}`
  it.each<readonly [string, string | Uint8Array, number]>([
    ['text that is no JSON', 'SELECT secret FROM t', 400],
    ['nothing', '', 400],
    ['half a message', '{"jsonrpc":"2.0","id":1,"method":"tools/ca', 400],
    ['a number', '7', 400],
    ['null', 'null', 400],
    ['an empty batch', '[]', 400],
    ['a message of another protocol', '{"method":"initialize","id":1}', 400],
    ['deep nesting', deep, 400],
    [
      'deep nesting in arguments',
      JSON.stringify(legacyCall({ a: JSON.parse(`${'['.repeat(60)}${']'.repeat(60)}`) })),
      400,
    ],
    ['bytes that are no UTF-8', new Uint8Array([0x22, 0xff, 0x22]), 400],
    ['a tool call without a session', JSON.stringify(legacyCall(QUERY)), 400],
  ])('answers %s with an error and stays up', async (_, body, status) => {
    const response = await raw(gateway.url, { body })
    const text = await response.text()
    expect(response.status).toBe(status)
    expect(JSON.parse(text)).toMatchObject({ jsonrpc: '2.0', error: { code: expect.any(Number) } })
    // A parser that quotes what it could not read would leak it into clients and their logs.
    expect(text).not.toContain('secret')
    await expectAlive()
  })

  it('counts brackets outside strings only', async () => {
    const response = await raw(gateway.url, modernCall({ ...QUERY, sql: `SELECT '${'["{\\"'.repeat(200)}'` }))
    expect(response.status).toBe(200)
  })

  it('refuses a body that is too large, declared or not', async () => {
    const large = JSON.stringify(legacyCall({ ...QUERY, sql: 'x'.repeat(1024 * 1024) }))
    expect((await raw(gateway.url, { body: large })).status).toBe(413)
    const chunked = await raw(gateway.url, { body: new Blob([large]).stream() })
    expect(chunked.status).toBe(413)
    await expectAlive()
  })

  it('takes JSON only, uncompressed', async () => {
    const wrongType = await raw(gateway.url, { ...modernCall(QUERY), headers: { 'content-type': 'text/plain' } })
    expect(wrongType.status).toBe(415)
    const gzip = await raw(gateway.url, { body: INITIALIZE, headers: { 'content-encoding': 'gzip' } })
    expect(gzip.status).toBe(415)
  })
})

describe('tool calls the protocol layer refuses', () => {
  it.each<readonly [string, unknown, unknown]>([
    ['a tool name that is no text', 7, {}],
    ['no tool name', undefined, {}],
    ['arguments that are text', 'query_database', 'DROP TABLE x'],
    ['arguments that are a list', 'query_database', ['DROP TABLE x']],
  ])('are recorded in both eras: %s', async (_, name, args) => {
    const id = await openRaw(gateway.url)
    const legacy = await raw(gateway.url, { body: legacyCall(args, name), headers: { 'mcp-session-id': id } })
    await legacy.text()
    await expect.poll(() => gateway.refusals.length, PATIENT).toBe(1)
    const modern = await raw(gateway.url, modernCall(args, name))
    await modern.text()
    await expect.poll(() => gateway.refusals.length, PATIENT).toBe(2)
    expect(gateway.refusals.map(({ principal }) => principal)).toEqual(['agent-7', 'agent-7'])
  })

  it('are recorded when headers and body name different tools', async () => {
    const { body, headers } = modernCall(QUERY)
    const response = await raw(gateway.url, { body, headers: { ...headers, 'mcp-name': 'approval_status' } })
    expect(response.status).toBe(400)
    await expect.poll(() => gateway.refusals.length, PATIENT).toBe(1)
  })

  it('are recorded when they come without a session', async () => {
    expect((await raw(gateway.url, { body: legacyCall(QUERY) })).status).toBe(400)
    await expect.poll(() => gateway.refusals.length, PATIENT).toBe(1)
  })
})

describe('a session of the 2025 era', () => {
  const use = (id: string, token: string, method = 'POST'): Promise<Response> =>
    raw(gateway.url, {
      token,
      method,
      headers: { 'mcp-session-id': id },
      ...(method === 'POST' && { body: legacyCall(QUERY) }),
    })

  it('serves nobody but the principal who opened it, and records who tried', async () => {
    const id = await openRaw(gateway.url)
    for (const method of ['POST', 'GET', 'DELETE']) {
      const response = await use(id, 'token-rival', method)
      expect(response.status).toBe(404)
      expect(await response.text()).not.toContain('agent-7')
    }
    expect(gateway.refusals.map(({ principal, tool, code }) => [principal, tool, code])).toEqual(
      Array.from({ length: 3 }, () => ['agent-8', 'mcp.session', 'ERR_FORBIDDEN']),
    )
    const own = await use(id, 'token-agent')
    expect(await own.text()).toContain('agent-7')
  })

  it('serves no other token of the same principal', async () => {
    gateway.tokens.set('token-agent-2', { ...AGENT, credentialId: 'cred-agent-7b' })
    const id = await openRaw(gateway.url)
    expect((await use(id, 'token-agent-2')).status).toBe(404)
  })

  it('is named by its id only: a missing id never means the only session there is', async () => {
    await openRaw(gateway.url)
    expect((await raw(gateway.url, { body: legacyCall(QUERY) })).status).toBe(400)
    expect((await raw(gateway.url, { method: 'GET' })).status).toBe(400)
    expect((await use('00000000-0000-4000-8000-000000000000', 'token-agent')).status).toBe(404)
  })

  it('never shows its id where sessions are listed or recorded', async () => {
    const id = await openRaw(gateway.url)
    expect(gateway.sessions.list().map((session) => session.id)).not.toContain(id)
  })

  it('ends with the token that opened it', async () => {
    const id = await openRaw(gateway.url)
    gateway.tokens.delete('token-agent')
    expect((await use(id, 'token-agent')).status).toBe(401)
    await expect.poll(() => gateway.sessions.list(), PATIENT).toEqual([])
    gateway.tokens.set('token-agent', AGENT)
    expect((await use(id, 'token-agent')).status).toBe(404)
  })

  it('does not end because somebody presents its id with a bad token', async () => {
    const id = await openRaw(gateway.url)
    expect((await use(id, 'made-up')).status).toBe(401)
    expect((await use(id, 'token-agent')).status).toBe(200)
  })

  it('C2: ends when the groups of its principal change', async () => {
    const id = await openRaw(gateway.url)
    gateway.tokens.set('token-agent', { ...AGENT, groups: ['admins'] })
    expect((await use(id, 'token-agent')).status).toBe(404)
    await expect
      .poll(() => gateway.sessions.list().flatMap(({ principal }) => principal.groups), PATIENT)
      .toEqual(['admins'])
  })

  it('ends when the gateway ends it, and its running calls with it', async () => {
    const started = deferred()
    const ended = deferred()
    await restart({
      run: async function* (one: Call): AsyncGenerator<Chunk> {
        one.session.signal.addEventListener('abort', () => ended.resolve())
        started.resolve()
        await ended.promise
        yield* echo(one)
      },
    })
    const id = await openRaw(gateway.url)
    const stream = await raw(gateway.url, { method: 'GET', headers: { 'mcp-session-id': id } })
    const calling = use(id, 'token-agent')
    await started.promise
    await gateway.door.close()
    await ended.promise
    await stream.text() // the stream ends
    await (await calling).text()
    expect((await use(id, 'token-agent')).status).toBe(404)
  })

  it('is ended by DELETE', async () => {
    const id = await openRaw(gateway.url)
    expect((await use(id, 'token-agent', 'DELETE')).status).toBe(200)
    expect(gateway.sessions.list()).toEqual([])
    expect((await use(id, 'token-agent')).status).toBe(404)
  })

  it('is ended when nobody uses it', async () => {
    await restart({ limits: { sessionIdleMs: 0, sweepMs: 10 } })
    const id = await openRaw(gateway.url)
    expect(id).not.toBe('')
    await expect.poll(() => gateway.sessions.list(), PATIENT).toEqual([])
  })

  it('is not ended while its client listens', async () => {
    await restart({ limits: { sessionIdleMs: 100, sweepMs: 5 } })
    const listening = async (): Promise<Response> => {
      const id = await openRaw(gateway.url)
      const stream = await raw(gateway.url, { method: 'GET', headers: { 'mcp-session-id': id } })
      // A machine that was busy for so long has let it end before its client listened.
      return stream.status === 404 ? listening() : stream
    }
    const stream = await listening()
    const other = await openRaw(gateway.url, 'token-rival')
    expect(other).not.toBe('')
    await expect.poll(() => gateway.sessions.list().map(({ principal }) => principal.id), PATIENT).toEqual(['agent-7'])
    await stream.body?.cancel()
    await expect.poll(() => gateway.sessions.list(), PATIENT).toEqual([])
  })

  it('makes room for a newer one of the same principal, never of another', async () => {
    await restart({ limits: { sessionsPerPrincipalMax: 2 } })
    const rival = await openRaw(gateway.url, 'token-rival')
    const [first, second, third] = [
      await openRaw(gateway.url),
      await openRaw(gateway.url),
      await openRaw(gateway.url),
    ] as const
    expect((await use(first, 'token-agent')).status).toBe(404)
    expect((await use(second, 'token-agent')).status).toBe(200)
    expect((await use(third, 'token-agent')).status).toBe(200)
    expect((await use(rival, 'token-rival')).status).toBe(200)
  })

  it('is refused when the gateway is full, also to many who ask while the first are being opened', async () => {
    const { sessions } = depsOf()
    const refused = deferred()
    await restart({
      limits: { sessionsMax: 3 },
      sessions: { ...sessions, open: async (caller) => (await refused.promise, sessions.open(caller)) },
    })
    let refusals = 0
    const responses = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const response = await raw(gateway.url, { body: INITIALIZE })
        if (response.status === 429 && ++refusals === 5) refused.resolve()
        return response
      }),
    )
    expect(responses.filter(({ status }) => status === 200)).toHaveLength(3)
    expect(sessions.list()).toHaveLength(3)
  })

  it('leaves nothing behind when its opening fails', async () => {
    const response = await raw(gateway.url, { body: INITIALIZE, headers: { accept: 'text/plain' } })
    expect(response.status).toBe(406)
    await expect.poll(() => gateway.sessions.list(), PATIENT).toEqual([])
  })
})

describe('a client that goes away', () => {
  it.each(['2025 era', '2026 era'])('ends its call in the %s', async (era) => {
    const started = deferred()
    const aborted = deferred<unknown>()
    await restart({
      run: async function* (one: Call): AsyncGenerator<Chunk> {
        one.signal.addEventListener('abort', () => aborted.resolve(one.signal.reason))
        started.resolve()
        await aborted.promise
        yield* echo(one)
      },
    })
    const leave = new AbortController()
    const asking =
      era === '2026 era'
        ? raw(gateway.url, { ...modernCall(QUERY), signal: leave.signal })
        : raw(gateway.url, {
            body: legacyCall(QUERY),
            headers: { 'mcp-session-id': await openRaw(gateway.url) },
            signal: leave.signal,
          })
    asking.catch(() => undefined)
    await started.promise
    leave.abort()
    expect(await aborted.promise).toMatchObject({ code: 'ERR_CANCELLED' })
    await expectNothingOpen()
  })

  it('cannot have more requests open than one principal may', async () => {
    const hold = deferred()
    await restart({
      limits: { requestsPerPrincipalMax: 2 },
      run: async function* (one: Call): AsyncGenerator<Chunk> {
        await hold.promise
        yield* echo(one)
      },
    })
    const two = [raw(gateway.url, modernCall(QUERY)), raw(gateway.url, modernCall(QUERY))]
    await Promise.all(two) // the headers are out, the answers are not
    expect((await raw(gateway.url, modernCall(QUERY))).status).toBe(429)
    const rival = raw(gateway.url, { ...modernCall(QUERY), token: 'token-rival' })
    hold.resolve()
    expect((await rival).status).toBe(200)
    for (const response of await Promise.all(two)) await response.text()
    await expect.poll(async () => (await raw(gateway.url, modernCall(QUERY))).status, PATIENT).toBe(200)
  })

  async function expectNothingOpen(): Promise<void> {
    const response = await raw(gateway.url, { method: 'GET' })
    expect(response.status).toBe(400)
  }
})

describe('a stream of the 2026 era', () => {
  it('ends when the session of its caller is ended', async () => {
    const { headers } = modernCall({})
    const response = await raw(gateway.url, {
      body: {
        jsonrpc: '2.0',
        id: 1,
        method: 'subscriptions/listen',
        params: {
          notifications: { resourceSubscriptions: ['policy://effective'] },
          _meta: {
            'io.modelcontextprotocol/protocolVersion': '2026-07-28',
            'io.modelcontextprotocol/clientCapabilities': {},
            'io.modelcontextprotocol/clientInfo': { name: 'raw', version: '1' },
          },
        },
      },
      headers: { 'mcp-protocol-version': headers['mcp-protocol-version'] ?? '', 'mcp-method': 'subscriptions/listen' },
    })
    expect(response.status).toBe(200)
    const reader = response.body?.getReader()
    await reader?.read() // the acknowledgement
    gateway.door.policyChanged()
    const changed = await reader?.read()
    expect(Buffer.from(changed?.value ?? []).toString()).toContain('policy://effective')
    const { SallyportError } = await import('../../src/core/errors.ts')
    await gateway.sessions.end(() => true, new SallyportError('ERR_UNAUTHENTICATED', 'The token was revoked.'))
    const ended = await reader?.read().then(
      ({ done }) => done,
      () => true,
    )
    expect(ended).toBe(true)
  })
})
