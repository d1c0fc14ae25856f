/** Requests through the whole spine to real servers on loopback, friendly and hostile. */
import { createHash, randomBytes } from 'node:crypto'
import type { OutgoingHttpHeaders } from 'node:http'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { selfSigned } from '../../src/self-signed.ts'
import { startRaw, startService, type Answering, type TestService } from '../services/http.ts'
import { httpKit, SECRET, type HttpKit } from './kit.ts'

const ALLOW = 'rules: [{id: all, effect: allow, principals: ["*"], actions: ["http.*"], resources: ["**"]}]'
const DETECT = `${ALLOW}\nmasks: [{detect: [email, credit_card, jwt], transform: redact}]`

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function service(answer: Answering, more: { policy?: string; settings?: object } = {}) {
  const server = await startService(answer)
  closers.push(() => server.close())
  return { server, ...through(server, more) }
}

function through(server: TestService, more: { policy?: string; settings?: object } = {}): { kit: HttpKit } {
  const kit = httpKit({
    settings: { base_url: server.url, allow_addresses: ['127.0.0.1'], auth: 'bearer', ...more.settings },
    policy: more.policy ?? ALLOW,
  })
  closers.push(() => kit.close())
  return { kit }
}

describe('an ordinary service', () => {
  it('C1: gets exactly what was judged, with the credential the caller never sees', async () => {
    const { server, kit } = await service((_, response) => {
      response.setHeader('content-type', 'application/json').end('{"ok": true}')
    })
    const { structured } = await kit.ask({
      method: 'POST',
      path: '/v1/refunds/7',
      query: { a: 'x y', b: [1, 2] },
      headers: { 'If-Match': '"v1"' },
      body: { amount: 5 },
    })
    expect(structured).toMatchObject({ status: 'ok', http_status: 200, body: '{"ok": true}', truncated: false })
    const [seen] = server.seen
    expect(seen).toMatchObject({ method: 'POST', url: '/v1/refunds/7?a=x+y&b=1&b=2', body: '{"amount":5}' })
    expect(seen?.headers).toMatchObject({
      authorization: `Bearer ${SECRET}`,
      'content-type': 'application/json',
      'content-length': '12',
      'if-match': '"v1"',
      // What could not be decoded could not be masked.
      'accept-encoding': 'gzip, deflate, br',
      host: `127.0.0.1:${server.port}`,
    })
    expect(kit.recorded()).not.toContain(SECRET)
  })

  it('shows an approver method, URL, headers and body as they will be sent, with the digest', async () => {
    const { kit } = await service((_, response) => void response.end())
    const { shown } = await kit.judged({ method: 'PUT', path: '/x?y=1', body: { amount: 5 } })
    const digest = createHash('sha256').update('{"amount":5}').digest('hex')
    expect(shown.text).toMatch(/^PUT http:\/\/127\.0\.0\.1:\d+\/x\?y=1\ncontent-type: application\/json\n/)
    expect(shown.text).toContain('authorization: [bearer credential]')
    expect(shown.text).toContain(`\n\n{"amount":5}\n\n[body: 12 bytes, SHA-256 ${digest}]`)
  })

  it('keeps its cookies and connection headers to itself', async () => {
    const { kit } = await service((_, response) => {
      response
        .setHeader('set-cookie', 'session=1')
        .setHeader('x-kept', 'yes')
        .setHeader('connection', 'x-dropped, close')
      response.setHeader('x-dropped', 'no').setHeader('content-type', 'text/plain').end('hi')
    })
    const { structured } = await kit.ask({ path: '/' })
    const names = Object.keys(structured['headers'] as object)
    expect(names).toContain('x-kept')
    expect(names).not.toEqual(expect.arrayContaining(['set-cookie']))
    expect(names.some((name) => ['set-cookie', 'connection', 'x-dropped', 'content-length'].includes(name))).toBe(false)
  })

  it('answers statuses of its own, which are no error of ours', async () => {
    const { kit } = await service((_, response) => void response.writeHead(404).end('nothing'))
    expect((await kit.ask({ path: '/x' })).structured).toMatchObject({
      status: 'ok',
      http_status: 404,
      body: 'nothing',
    })
  })

  it('is spoken to by basic and by header credentials', async () => {
    const answer: Answering = (_, response) => void response.end()
    const basic = await service(answer, { settings: { auth: 'basic' } })
    await basic.kit.ask({ path: '/' })
    expect(basic.server.seen[0]?.headers.authorization).toBe(
      `Basic ${Buffer.from(`robot:${SECRET}`).toString('base64')}`,
    )
    const header = await service(answer, { settings: { auth: { header: 'X-Api-Key', prefix: 'Key ' } } })
    await header.kit.ask({ path: '/' })
    expect(header.server.seen[0]?.headers['x-api-key']).toBe(`Key ${SECRET}`)
    expect((await header.kit.failure({ path: '/', headers: { 'X-Api-Key': 'mine' } })).code).toBe('ERR_INVALID_INPUT')
  })

  it('proves who it is', async () => {
    const dir = mkdtempSync(path.join(tmpdir(), 'http-tls-'))
    closers.push(() => rmSync(dir, { recursive: true }))
    const certificate = selfSigned(['localhost'])
    const ca = path.join(dir, 'ca.pem')
    writeFileSync(ca, certificate.cert)
    const server = await startService((_, response) => void response.end('secret place'), certificate)
    closers.push(() => server.close())
    const settings = { base_url: `https://localhost:${server.port}`, allow_addresses: ['127.0.0.1'], auth: 'bearer' }
    const names = { localhost: [['127.0.0.1']], 'other.example': [['127.0.0.1']] }
    const make = (more: object): HttpKit => {
      const kit = httpKit({ settings: { ...settings, ...more }, policy: ALLOW, names })
      closers.push(() => kit.close())
      return kit
    }
    expect((await make({ tls: { ca } }).ask({ path: '/' })).structured['body']).toBe('secret place')
    const unproven = await make({}).failure({ path: '/' })
    const misnamed = await make({ base_url: `https://other.example:${server.port}`, tls: { ca } }).failure({
      path: '/',
    })
    for (const error of [unproven, misnamed]) {
      expect(error.code).toBe('ERR_UPSTREAM_UNREACHABLE')
      expect(error.message).toContain('TLS')
    }
    expect(server.seen).toHaveLength(1)
  })
})

describe('policy', () => {
  const REFUNDS = `rules:
  - {id: refunds, effect: allow, principals: ["*"], actions: [http.post], resources: [{path: "/v1/refunds/{id:int}"}], when: "part.body.amount <= 100"}
  - {id: read, effect: allow, principals: ["*"], actions: [http.get], resources: [{path: "/v1/**"}]}
  - {id: no-admin, effect: deny, principals: ["*"], actions: ["http.*"], resources: [{path: "/v1/admin/**"}, {path: "/v1/admin"}]}`

  for (const [what, args, effect] of [
    ['what a rule names', { method: 'POST', path: '/v1/refunds/7', body: { amount: 100 } }, 'allow'],
    ['an amount beyond the rule', { method: 'POST', path: '/v1/refunds/7', body: { amount: 101 } }, 'deny'],
    ['no body', { method: 'POST', path: '/v1/refunds/7' }, 'deny'],
    ['an amount that is a text', { method: 'POST', path: '/v1/refunds/7', body: { amount: '5' } }, 'deny'],
    [
      'equal keys',
      {
        method: 'POST',
        path: '/v1/refunds/7',
        body: '{"amount":5,"amount":500}',
        headers: { 'content-type': 'application/json' },
      },
      'deny',
    ],
    ['an id with a line break', { method: 'POST', path: '/v1/refunds/7%0a', body: { amount: 5 } }, 'deny'],
    ['another path', { method: 'POST', path: '/v1/refunds/7/x', body: { amount: 5 } }, 'deny'],
    ['another method', { method: 'DELETE', path: '/v1/refunds/7' }, 'deny'],
    ['a deep path', { path: '/v1/a/b/c' }, 'allow'],
    ['what a deny names', { path: '/v1/admin/x' }, 'deny'],
    ['what a deny names, escaped', { path: '/v1/%61dmin/x' }, 'deny'],
    ['what a deny names, escaped twice', { path: '/v1/%2561dmin/x' }, 'deny'],
    ['what a deny names, in capitals', { path: '/v1/ADMIN/x' }, 'deny'],
    ['what a deny names, behind a parameter', { path: '/v1/admin;a=b/x' }, 'deny'],
    ['an escaped slash', { path: '/v1/x%2fadmin' }, 'deny'],
    ['an escaped backslash', { path: '/v1/x%5cadmin' }, 'deny'],
    ['a doubled slash', { path: '/v1//admin' }, 'deny'],
    ['an escaped NUL', { path: '/v1/x%00' }, 'deny'],
  ] as const) {
    it(`${effect === 'allow' ? 'allows' : 'denies'} ${what}`, async () => {
      const { kit } = await service((_, response) => void response.end(), { policy: REFUNDS })
      expect((await kit.judged(args)).decision.effect).toBe(effect)
    })
  }

  it('C3: is asked about the host where the caller chooses it', async () => {
    const kit = httpKit({
      settings: { open: true },
      policy: `rules:
  - {id: api, effect: allow, principals: ["*"], actions: [http.get], resources: [{host: "*.example.com", path: "/**"}]}
  - {id: paths, effect: allow, principals: ["*"], actions: [http.get], resources: [{path: "/v1/**"}]}`,
    })
    closers.push(() => kit.close())
    const effectOf = async (url: string): Promise<string> => (await kit.judged({ url })).decision.effect
    expect(await effectOf('https://api.example.com/v1/x')).toBe('allow')
    expect(await effectOf('https://example.com/v1/x')).toBe('deny')
    expect(await effectOf('https://a.b.example.com/v1/x')).toBe('deny')
    expect(await effectOf('https://evil.example/v1/x')).toBe('deny')
  })
})

describe('addresses', () => {
  it('are vetted after the look-up, all of them, and before anything is sent', async () => {
    const server = await startService((_, response) => void response.end())
    closers.push(() => server.close())
    const kit = httpKit({
      settings: { open: true, ports: [server.port] },
      policy: 'rules: [{id: all, effect: allow, principals: ["*"], actions: ["http.*"], resources: ["**"]}]',
      names: { 'evil.example': [['127.0.0.1']], 'mixed.example': [['1.1.1.1', '127.0.0.1']] },
    })
    closers.push(() => kit.close())
    for (const host of ['evil.example', 'mixed.example']) {
      const error = await kit.failure({ url: `http://${host}:${server.port}/` })
      expect([error.code, error.facts.construct]).toEqual(['ERR_DENIED', 'http.address'])
    }
    expect(server.connections()).toBe(0)
  })

  it('are looked up once, so that a name that changes changes nothing', async () => {
    const server = await startService((_, response) => void response.end('here'))
    closers.push(() => server.close())
    const kit = httpKit({
      settings: { base_url: `http://rebind.example:${server.port}`, allow_addresses: ['127.0.0.1'], auth: 'bearer' },
      policy: ALLOW,
      names: { 'rebind.example': [['127.0.0.1'], ['10.0.0.1']] },
    })
    closers.push(() => kit.close())
    expect((await kit.ask({ path: '/' })).structured['body']).toBe('here')
    // The second call looks again, and what it finds now is refused, though a connection is still open.
    expect((await kit.failure({ path: '/' })).facts.construct).toBe('http.address')
  })

  it('are the only ones a connection is made to, whatever the system says the name is by then', async () => {
    const elsewhere = await startService((_, response) => void response.end('elsewhere'))
    closers.push(() => elsewhere.close())
    for (const host of ['127.0.0.2', '127.0.0.3']) {
      const one = await startService((_, response) => void response.end(host), undefined, {
        host,
        port: elsewhere.port,
      })
      closers.push(() => one.close())
    }
    // For the system the name is 127.0.0.1, where another server waits at the same port.
    const kit = httpKit({
      settings: {
        base_url: `http://localhost:${elsewhere.port}`,
        allow_addresses: ['127.0.0.2/31'],
        auth: 'bearer',
      },
      policy: ALLOW,
      names: { localhost: [['127.0.0.2'], ['127.0.0.3'], ['127.0.0.2']] },
    })
    closers.push(() => kit.close())
    // Nor does a connection that is still open serve what is to go to another address.
    for (const host of ['127.0.0.2', '127.0.0.3', '127.0.0.2']) {
      expect((await kit.ask({ path: '/' })).structured['body']).toBe(host)
    }
    expect(elsewhere.connections()).toBe(0)
  })

  it('play no part for a request no rule allows: not even the name is looked up', async () => {
    let lookups = 0
    const names = new Proxy({}, { get: () => (lookups++, [['1.1.1.1']]) })
    const kit = httpKit({ settings: { open: true }, policy: 'rules: []', names })
    closers.push(() => kit.close())
    expect((await kit.failure({ url: 'https://what-i-know.evil.example/' })).code).toBe('ERR_DENIED')
    expect(lookups).toBe(0)
  })

  it('are not those of a proxy the environment names', async () => {
    const { kit, server } = await service((_, response) => void response.end('direct'))
    process.env['HTTP_PROXY'] = 'http://127.0.0.1:1'
    process.env['http_proxy'] = 'http://127.0.0.1:1'
    try {
      expect((await kit.ask({ path: '/' })).structured['body']).toBe('direct')
    } finally {
      delete process.env['HTTP_PROXY']
      delete process.env['http_proxy']
    }
    expect(server.connections()).toBe(1)
  })
})

describe('a gateway', () => {
  it('asks nobody about a name that hands out credentials, also where it only observes', async () => {
    const host = 'metadata.google.internal'
    const kit = httpKit({ settings: { open: true }, policy: ALLOW, names: {} })
    closers.push(() => kit.close())
    const call = { ...kit.of({ url: `http://${host}/` }), target: { ...kit.target, mode: 'observe' as const } }
    await expect(kit.run(call).next()).rejects.toMatchObject({
      code: 'ERR_DENIED',
      message: expect.stringContaining('metadata service') as string,
    })
  })

  it('sends nothing once it is closed', async () => {
    const { kit, server } = await service((_, response) => void response.end())
    await kit.close()
    expect((await kit.failure({ path: '/' })).code).toBe('ERR_SHUTTING_DOWN')
    expect(server.connections()).toBe(0)
  })
})

describe('redirects', () => {
  it('name a place beneath the base URL as callers name it', async () => {
    const { kit } = await service((_, response) => void response.writeHead(302, { location: '/base/v2/x?y=1' }).end(), {
      settings: {},
    })
    const answer = await kit.ask({ path: '/v1' })
    expect(answer.redirect).toBe('/base/v2/x?y=1')
    expect(answer.structured['headers']).toMatchObject({ location: '/base/v2/x?y=1' })
  })

  it('are named beneath the base URL, without what only a reader keeps', async () => {
    const server = await startService(
      (_, response) => void response.writeHead(302, { location: '/base/v2?y=1#z' }).end(),
    )
    closers.push(() => server.close())
    const { kit } = through(server, { settings: { base_url: `${server.url}/base` } })
    const answer = await kit.ask({ path: '/v1' })
    expect([answer.redirect, answer.structured['headers']]).toEqual([
      '/v2?y=1',
      expect.objectContaining({ location: '/v2?y=1' }) as object,
    ])
  })

  it('are none when the status does not say so, or when a user stands in the place', async () => {
    const { kit, server } = await service(({ url }, response) => {
      const place = `http://user:pw@127.0.0.1:${server.port}/v2`
      if (url === '/user') response.writeHead(302, { location: place }).end()
      else response.writeHead(200, { location: '/v2' }).end()
    })
    for (const path of ['/user', '/200']) expect((await kit.ask({ path })).redirect).toBeUndefined()
  })

  for (const location of ['http://127.0.0.1:1/x', 'https://evil.example/', '//evil.example/x', 'file:///etc/passwd']) {
    it(`are not followed to ${location}`, async () => {
      const { kit } = await service((_, response) => void response.writeHead(307, { location }).end())
      const answer = await kit.ask({ path: '/v1' })
      expect(answer.redirect).toBeUndefined()
      expect(answer.structured['http_status']).toBe(307)
    })
  }
})

describe('the credential in an answer', () => {
  const bytes = Buffer.from(SECRET)
  for (const [how, text] of [
    ['as it is', SECRET],
    ['in JSON', JSON.stringify({ headers: { authorization: `Bearer ${SECRET}` } })],
    ['in JSON with escapes of slashes', `"${SECRET.replaceAll('/', '\\/')}"`],
    ['in base64', bytes.toString('base64')],
    ['in base64 one byte later', Buffer.concat([Buffer.from('x'), bytes]).toString('base64')],
    ['in base64 two bytes later', Buffer.concat([Buffer.from('xy'), bytes, Buffer.from('tail')]).toString('base64')],
    ['in base64url', bytes.toString('base64url')],
    ['in hexadecimal', bytes.toString('hex')],
    ['in capital hexadecimal', bytes.toString('hex').toUpperCase()],
    ['in a URL', encodeURIComponent(SECRET)],
    ['in a form', new URLSearchParams({ a: SECRET }).toString()],
    ['in HTML', SECRET.replaceAll('&', '&amp;')],
    ['backwards', Array.from(SECRET).reverse().join('')],
    ['in capitals', SECRET.toUpperCase()],
  ] as const) {
    it(`is replaced ${how}, in body and headers, however the body is cut`, async () => {
      const { kit } = await service((_, response) => {
        response.setHeader('content-type', 'text/plain').setHeader('x-echo', text.replaceAll('\n', ''))
        for (const sign of `before ${text} after`) response.write(sign)
        response.end()
      })
      const { structured, text: said } = await kit.ask({ path: '/' })
      for (const shown of [JSON.stringify(structured), said, kit.recorded()]) {
        expect(shown).toContain('[REDACTED:credential]')
        expect(shown).not.toContain(text)
      }
      expect(structured['body']).toMatch(/^before .*after$/s)
    })
  }
})

describe('bodies', () => {
  it('are decoded, whatever coding they come in', async () => {
    for (const [coding, pack] of [
      ['gzip', gzipSync],
      ['deflate', deflateSync],
      ['br', brotliCompressSync],
    ] as const) {
      const { kit } = await service(
        (_, response) => {
          response.writeHead(200, { 'content-type': 'text/plain', 'content-encoding': coding })
          response.end(pack(Buffer.from('mail ada@example.com')))
        },
        { policy: DETECT },
      )
      const { structured } = await kit.ask({ path: '/' })
      expect(structured['body']).toBe('mail [REDACTED:email]')
      expect(structured['headers']).not.toHaveProperty('content-encoding')
    }
  })

  it('are cut at the limit, also those that grow on the way', async () => {
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024, 'a'))
    const { kit } = await service(
      (_, response) => {
        response.writeHead(200, { 'content-type': 'text/plain', 'content-encoding': 'gzip' }).end(bomb)
      },
      { settings: { bytes: '64KiB' } },
    )
    const { structured } = await kit.ask({ path: '/' })
    expect(structured).toMatchObject({ truncated: true, truncated_by: 'bytes' })
    expect((structured['body'] as string).length).toBe(64 * 1024)
  })

  it('are not decoded any further than they are shown, nor is the service read on', async () => {
    const member = gzipSync(
      randomBytes(8 * 1024)
        .toString('base64')
        .repeat(8),
    )
    const MEMBERS = 5_000
    let sent = 0
    let hungUp = false
    const server = await startRaw((socket) => {
      const pour = (): void => {
        while (sent < MEMBERS && !socket.destroyed) {
          sent++
          if (!socket.write(member)) return void socket.once('drain', pour)
        }
      }
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\n\r\n')
        pour()
      })
      socket.on('close', () => (hungUp = true))
    })
    closers.push(() => server.close())
    const { kit } = through(server, { settings: { bytes: '64KiB' } })
    const answer = await kit.ask({ path: '/' }).catch((error: unknown) => ({ structured: { error } }))
    expect(answer.structured).toMatchObject({ truncated: true, truncated_by: 'bytes' })
    await expect.poll(() => hungUp).toBe(true)
    expect(sent).toBeLessThan(MEMBERS)
  })

  for (const [what, headers, body, code] of [
    ['a coding nobody knows', { 'content-encoding': 'zstd' }, 'x', 'ERR_UPSTREAM_REJECTED'],
    ['two codings', { 'content-encoding': 'gzip, br' }, 'x', 'ERR_UPSTREAM_REJECTED'],
    ['two codings in two headers', { 'content-encoding': ['gzip', 'br'] }, 'x', 'ERR_UPSTREAM_REJECTED'],
    ['a coding behind none', { 'content-encoding': ['identity', 'br'] }, 'x', 'ERR_UPSTREAM_REJECTED'],
    ['a coding that is a lie', { 'content-encoding': 'gzip' }, 'no gzip', 'ERR_UPSTREAM_REJECTED'],
  ] as readonly (readonly [string, OutgoingHttpHeaders, string, string])[]) {
    it(`are refused in ${what}`, async () => {
      const { kit } = await service((_, response) => {
        response.writeHead(200, { 'content-type': 'text/plain', ...headers }).end(body)
      })
      expect((await kit.failure({ path: '/' })).code).toBe(code)
    })
  }

  for (const [what, type, body] of [
    ['a picture', 'image/png', Buffer.from([0x89, 0x50])],
    ['UTF-16 under its name', 'text/plain; charset=utf-16', Buffer.from('ada@example.com', 'utf16le')],
    ['UTF-16 under a false name', 'text/plain', Buffer.from('ada@example.com', 'utf16le')],
    ['UTF-7', 'text/html; charset=utf-7', Buffer.from('ada+AEA-example.com')],
    ['UTF-7 behind Latin-1', 'text/html; charset=iso-8859-1; charset=utf-7', Buffer.from('ada+AEA-example.com')],
    ['UTF-7 behind quotes', 'text/html; x=";charset=utf-8"; charset=utf-7', Buffer.from('ada+AEA-example.com')],
    ['a picture behind a text', ['text/plain', 'image/png'], Buffer.from([0x89, 0x50])],
  ] as readonly (readonly [string, string | string[], Buffer])[]) {
    it(`are withheld when they are ${what}`, async () => {
      const { kit } = await service((_, response) => void response.writeHead(200, { 'content-type': type }).end(body))
      const { structured } = await kit.ask({ path: '/' })
      expect(structured['body']).toBe('')
      expect(structured['notices']).toEqual([expect.stringContaining('withheld')])
    })
  }
})

describe('hostile services', () => {
  async function raw(serve: Parameters<typeof startRaw>[0], settings: object = {}): Promise<HttpKit> {
    const server = await startRaw(serve)
    closers.push(() => server.close())
    return through(server, { settings }).kit
  }

  for (const [what, bytes, codes] of [
    ['no HTTP', 'SSH-2.0-OpenSSH\r\n', ['ERR_UPSTREAM_REJECTED', 'ERR_UPSTREAM_LOST']],
    ['endless headers', `HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(20_000)}`, ['ERR_UPSTREAM_REJECTED']],
    ['an early close', 'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf', ['ERR_UPSTREAM_LOST']],
    [
      'two lengths',
      'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy',
      ['ERR_UPSTREAM_REJECTED', 'ERR_UPSTREAM_LOST'],
    ],
    [
      'length and chunks',
      'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
      ['ERR_UPSTREAM_REJECTED', 'ERR_UPSTREAM_LOST'],
    ],
    ['a bare carriage return', 'HTTP/1.1 200 OK\r\nx: a\rb: c\r\ncontent-length: 0\r\n\r\n', ['ERR_UPSTREAM_REJECTED']],
    ['nothing at all', '', ['ERR_UPSTREAM_LOST']],
  ] as const) {
    it(`end the call with ${what}`, async () => {
      const kit = await raw((socket) => socket.once('data', () => socket.end(bytes)))
      expect(codes as readonly string[]).toContain((await kit.failure({ path: '/' })).code)
    })
  }

  it('end the call when they stop in the middle', async () => {
    const kit = await raw(
      (socket) => socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf')),
      { response_timeout: '300ms' },
    )
    const { code, message } = await kit.failure({ path: '/' })
    expect([code, message]).toEqual(['ERR_TIMEOUT', expect.stringMatching(/^The service (?:did not|stopped)/u)])
  })

  it('end the call when they say nothing', async () => {
    const kit = await raw((socket) => void socket.resume(), { response_timeout: '300ms' })
    const { code, message } = await kit.failure({ path: '/' })
    expect([code, message]).toEqual(['ERR_TIMEOUT', 'The service did not answer in time.'])
  })

  it('are hung up on when nothing of their body is shown', async () => {
    let hungUp = 0
    const kit = await raw((socket) => {
      socket.once('data', () =>
        socket.write('HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\n'),
      )
      socket.on('close', () => hungUp++)
    })
    expect((await kit.ask({ path: '/' })).structured['notices']).toEqual([expect.stringContaining('withheld')])
    await expect.poll(() => hungUp).toBe(1)
  })

  it('cannot take back what they said of their body', async () => {
    const server = await startRaw((socket) =>
      socket.once('data', () =>
        socket.end(
          'HTTP/1.1 200 OK\r\nconnection: close, content-type\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"ssn":"7"}',
        ),
      ),
    )
    closers.push(() => server.close())
    const { kit } = through(server, { policy: `${ALLOW}\nmasks: [{fields: ["**.ssn"], transform: redact}]` })
    const { structured } = await kit.ask({ path: '/' })
    expect(structured['body']).not.toContain('"7"')
  })

  it('cannot answer the next request with what they sent too much', async () => {
    let requests = 0
    const kit = await raw((socket) =>
      socket.on('data', () => {
        requests++
        socket.write(`HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok`)
        if (requests === 1) socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nevil')
      }),
    )
    expect((await kit.ask({ path: '/1' })).structured['body']).toBe('ok')
    const second = await kit.ask({ path: '/2' }).catch(() => undefined)
    expect(second?.structured['body'] ?? 'ok').toBe('ok')
  })
})
