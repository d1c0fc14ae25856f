/** The HTTP door over the whole spine, with the clients people use and with clients nobody should. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { request as undiciRequest } from 'undici'
import { afterEach, describe, expect, it } from 'vitest'
import { startRaw, startService, type Answering, type TestService } from '../services/http.ts'
import { httpKit, SECRET, TOKEN, type HttpKit } from './kit.ts'

const ALLOW = 'rules: [{id: all, effect: allow, principals: ["*"], actions: ["http.*"], resources: ["**"]}]'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

interface Door {
  readonly kit: HttpKit
  readonly server: TestService
  readonly url: string
  readonly port: number
}

interface More {
  readonly policy?: string
  readonly settings?: object
}

async function open(answer: Answering, more: More = {}): Promise<Door> {
  const server = await startService(answer)
  closers.push(() => server.close())
  return before(server, more)
}

async function before(server: TestService, more: More = {}): Promise<Door> {
  const kit = httpKit({
    settings: { base_url: `${server.url}/base`, allow_addresses: ['127.0.0.1'], auth: 'bearer', ...more.settings },
    policy: more.policy ?? ALLOW,
  })
  closers.push(() => kit.close())
  const door: Server = createServer({ keepAliveTimeout: 100 }, kit.door)
  door.listen(0, '127.0.0.1')
  await once(door, 'listening')
  closers.push(() => {
    door.closeAllConnections()
    door.close()
  })
  const { port } = door.address() as AddressInfo
  return { kit, server, port, url: `http://127.0.0.1:${port}/service` }
}

/** Sends bytes as they are and returns everything that comes back until the door hangs up. */
async function raw(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  socket.write(bytes)
  return text(socket)
}

const bearer = { authorization: `Bearer ${TOKEN}` }

describe('an ordinary client', () => {
  const echo: Answering = (seen, response) => {
    response.setHeader('content-type', 'application/json').end(JSON.stringify({ got: seen.body, at: seen.url }))
  }

  it('of curl gets what the service says, with a token instead of a credential', async () => {
    const { server, url } = await open(echo)
    const headers = ['-H', `Authorization: Bearer ${TOKEN}`, '-H', 'Content-Type: application/json']
    const words = ['-sS', '--noproxy', '*', ...headers, '-d', '{"a":1}', `${url}/v1/x?y=%20z`]
    const { stdout } = await promisify(execFile)('curl', words)
    expect(JSON.parse(stdout)).toEqual({ got: '{"a":1}', at: '/base/v1/x?y=%20z' })
    expect(server.seen[0]?.headers.authorization).toBe(`Bearer ${SECRET}`)
  })

  it('of curl with a user and password is the token behind the password', async () => {
    const { url } = await open(echo)
    const { stdout } = await promisify(execFile)('curl', ['-sS', '--noproxy', '*', '-u', `me:${TOKEN}`, `${url}/x`])
    expect(JSON.parse(stdout)).toMatchObject({ at: '/base/x' })
  })

  it('of fetch and undici gets the same', async () => {
    const { url } = await open(echo)
    const fetched = await fetch(`${url}/x`, { headers: bearer })
    expect([fetched.status, await fetched.json()]).toEqual([200, { got: '', at: '/base/x' }])
    const { statusCode, body } = await undiciRequest(`${url}/x`, { method: 'PUT', headers: bearer, body: 'text' })
    expect([statusCode, await body.json()]).toEqual([200, { got: 'text', at: '/base/x' }])
  })

  it('follows redirects that stay within the target, and no others', async () => {
    const { url } = await open((seen, response) => {
      if (seen.url === '/base/old') response.writeHead(302, { location: '/base/new?x=1' }).end()
      else if (seen.url === '/base/out') response.writeHead(302, { location: 'https://evil.example/?token=1' }).end()
      else response.end('new place')
    })
    const followed = await fetch(`${url}/old`, { headers: bearer })
    expect([new URL(followed.url).pathname, await followed.text()]).toEqual(['/service/new', 'new place'])
    const refused = await fetch(`${url}/out`, { headers: bearer, redirect: 'manual' })
    expect([refused.status, refused.headers.get('location')]).toEqual([502, null])
    expect(await refused.text()).not.toContain('evil.example')
  })

  it('streams bodies in both directions without holding them', async () => {
    const size = 3 * 1024 * 1024
    const { url, kit } = await open(
      (seen, response) => {
        response.setHeader('content-type', 'text/plain')
        response.end('b'.repeat(seen.body.length))
      },
      { settings: { request_bytes: '8MiB', bytes: '8MiB' } },
    )
    const answer = await fetch(`${url}/x`, { method: 'POST', headers: bearer, body: 'a'.repeat(size) })
    expect((await answer.text()).length).toBe(size)
    expect(kit.recorded()).toContain('[a body that streams]')
  })

  it('gets events as they come', async () => {
    let send: (event: string) => void = () => undefined
    const { url } = await open((_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      send = (event) => void response.write(`data: ${event}\n\n`)
      send('first')
    })
    const answer = await fetch(`${url}/events`, { headers: bearer })
    const reader = answer.body?.getReader()
    const read = async (): Promise<string> => Buffer.from((await reader?.read())?.value ?? []).toString()
    expect(await read()).toBe('data: first\n\n')
    send('second')
    expect(await read()).toBe('data: second\n\n')
    await reader?.cancel()
  })
})

describe('a request that is refused', () => {
  const DENY = `rules:
  - {id: read, effect: allow, principals: ["*"], actions: [http.get], resources: [{path: "/v1/**"}]}
  - {id: no-delete, effect: deny, principals: ["*"], actions: [http.delete], resources: ["**"], reason: Deletions go through support.}
  - {id: ask, effect: require_approval, principals: ["*"], actions: [http.post], resources: ["**"], approvers: {any_of: [group:lead]}}
  - {id: slow, effect: allow, principals: ["*"], actions: [http.put], resources: ["**"], limits: {rate: 1/min}}`

  it('says so in problem details that name the rule', async () => {
    const { url, server } = await open((_, response) => void response.end(), { policy: DENY })
    const answer = await fetch(`${url}/v1/x`, { method: 'DELETE', headers: bearer })
    expect(answer.headers.get('content-type')).toBe('application/problem+json')
    expect(answer.status).toBe(403)
    expect(await answer.json()).toMatchObject({
      status: 403,
      code: 'ERR_DENIED',
      rules: ['no-delete'],
      detail: expect.stringContaining('Deletions go through support.') as string,
    })
    expect(server.connections()).toBe(0)
  })

  it('is answered 202 while a person has not approved it', async () => {
    const { url, server } = await open((_, response) => void response.end(), { policy: DENY })
    const answer = await fetch(`${url}/v1/x`, { method: 'POST', headers: bearer, body: 'x' })
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([202, '5'])
    expect(await answer.json()).toMatchObject({ code: 'ERR_APPROVAL_PENDING' })
    expect(server.connections()).toBe(0)
  })

  it('is answered 429 with the time to wait when there were too many', async () => {
    const { url } = await open((_, response) => void response.end(), { policy: DENY })
    const put = (): Promise<Response> => fetch(`${url}/v1/x`, { method: 'PUT', headers: bearer, body: 'x' })
    expect((await put()).status).toBe(200)
    const second = await put()
    expect(second.status).toBe(429)
    expect(Number(second.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(second.headers.get('content-type')).toBe('application/problem+json')
    expect(await second.json()).toMatchObject({
      status: 429,
      code: 'ERR_LIMIT_RATE',
      rules: ['slow'],
      limit: 'rule:slow:rate',
      detail: expect.stringContaining('slow') as string,
    })
  })

  for (const [what, headers] of [
    ['no token', {}],
    ['a wrong token', { authorization: 'Bearer wrong' }],
    ['another scheme', { authorization: `Digest ${TOKEN}` }],
    ['a basic header without a colon', { authorization: `Basic ${Buffer.from(TOKEN).toString('base64')}` }],
  ] as const) {
    it(`is not looked at with ${what}`, async () => {
      const { url, kit } = await open((_, response) => void response.end())
      const answer = await fetch(`${url}/x`, { headers })
      expect([answer.status, answer.headers.get('www-authenticate')]).toEqual([401, 'Bearer realm="sallyport"'])
      expect(kit.recorded()).toBe('[]')
    })
  }

  it('is told the same of a target that is none and of one that speaks something else', async () => {
    const { port, server } = await open((_, response) => void response.end())
    const told = async (target: string): Promise<readonly unknown[]> => {
      const answer = await fetch(`http://127.0.0.1:${port}/${target}/x`, { headers: bearer })
      return [answer.status, await answer.text()]
    }
    expect(await told('foreign')).toEqual(await told('none'))
    expect((await told('foreign'))[0]).toBe(404)
    expect(server.connections()).toBe(0)
  })
})

describe('an answer that cannot be passed on whole', () => {
  it('breaks off when policy cuts it, so that no client takes it for the whole', async () => {
    const { url } = await open((_, response) => void response.end('x'.repeat(3_000_000)), {
      settings: { bytes: '1MiB' },
    })
    const answer = await fetch(`${url}/x`, { headers: bearer })
    await expect(answer.text()).rejects.toThrow(/terminated/)
  })

  it('is an error when policy cuts it before anything was sent', async () => {
    const { url } = await open((_, response) => void response.end('x'.repeat(300)), { settings: { bytes: '64B' } })
    const answer = await fetch(`${url}/x`, { headers: bearer })
    expect([answer.status, await answer.json()]).toMatchObject([502, { code: 'ERR_UPSTREAM_REJECTED' }])
  })

  it('is an error when its body is withheld', async () => {
    const { url } = await open((_, response) => {
      response.writeHead(200, { 'content-type': 'image/png' }).end('not shown')
    })
    const answer = await fetch(`${url}/x`, { headers: bearer })
    expect([answer.status, await answer.text()]).toEqual([502, expect.stringContaining('withheld')])
  })

  it('breaks off when the service does', async () => {
    const server = await startRaw((socket) =>
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf')),
    )
    closers.push(() => server.close())
    const { port } = await before(server)
    const answer = await raw(port, `GET /service/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`)
    // Either nothing of it was sent yet, or the last chunk never comes.
    expect(answer.startsWith('HTTP/1.1 502 ') || !answer.endsWith('0\r\n\r\n')).toBe(true)
  })
})

describe('bytes that two parsers could cut apart', () => {
  const head = `Host: x\r\nAuthorization: Bearer ${TOKEN}\r\n`
  const hidden = 'DELETE /service/hidden HTTP/1.1\r\n'
  for (const [what, bytes] of [
    [
      'a length and chunks',
      `POST /service/x HTTP/1.1\r\n${head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}${head}\r\n`,
    ],
    [
      'two lengths',
      `POST /service/x HTTP/1.1\r\n${head}Content-Length: 0\r\nContent-Length: 60\r\n\r\n${hidden}${head}\r\n`,
    ],
    ['a length with a sign', `POST /service/x HTTP/1.1\r\n${head}Content-Length: +0\r\n\r\n${hidden}${head}\r\n`],
    [
      'a coding that is no coding',
      `POST /service/x HTTP/1.1\r\n${head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${hidden}${head}\r\n`,
    ],
    [
      'two codings',
      `POST /service/x HTTP/1.1\r\n${head}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n${hidden}${head}\r\n`,
    ],
    [
      'a coding behind a blank',
      `POST /service/x HTTP/1.1\r\n${head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${hidden}${head}\r\n`,
    ],
    ['a folded header', `POST /service/x HTTP/1.1\r\n${head}X: a\r\n b\r\nContent-Length: 0\r\n\r\n`],
    [
      'a chunk size that overflows',
      `POST /service/x HTTP/1.1\r\n${head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n`,
    ],
    ['bare line feeds', `POST /service/x HTTP/1.1\nHost: x\nAuthorization: Bearer ${TOKEN}\nContent-Length: 0\n\n`],
    ['two hosts', `GET /service/x HTTP/1.1\r\n${head}Host: y\r\n\r\n`],
    ['no host', `GET /service/x HTTP/1.1\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`],
    ['two authorizations', `GET /service/x HTTP/1.1\r\n${head}Authorization: Bearer other\r\n\r\n`],
    ['a whole URL as its target', `GET http://evil.example/service/x HTTP/1.1\r\n${head}\r\n`],
    ['an authority as its target', `CONNECT evil.example:443 HTTP/1.1\r\n${head}\r\n`],
    ['another protocol', `GET /service/x HTTP/1.1\r\n${head}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`],
    [
      'a body in another coding',
      `POST /service/x HTTP/1.1\r\n${head}Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx`,
    ],
    ['a climbing path', `GET /service/../x HTTP/1.1\r\n${head}\r\n`],
    ['an escaped climbing path', `GET /service/%2e%2e/x HTTP/1.1\r\n${head}\r\n`],
    ['a target with a capital', `GET /Service/x HTTP/1.1\r\n${head}\r\n`],
  ] as const) {
    it(`reach no service with ${what}`, async () => {
      const { port, server, kit } = await open((_, response) => void response.end('reached'))
      const answer = await raw(port, bytes)
      expect(answer).not.toContain('reached')
      expect(answer === '' || /^HTTP\/1\.1 [45]\d\d /.test(answer)).toBe(true)
      expect(server.seen).toEqual([])
      expect(kit.faults).toEqual([])
    })
  }

  it('reach the service one by one when they are two requests', async () => {
    const { port, server } = await open((_, response) => void response.end('ok'))
    await raw(port, `GET /service/1 HTTP/1.1\r\n${head}\r\nGET /service/2 HTTP/1.1\r\n${head}Connection: close\r\n\r\n`)
    expect(server.seen.map(({ url }) => url)).toEqual(['/base/1', '/base/2'])
  })

  it('lose what chooses another host, method, user or path behind the service', async () => {
    const { port, server } = await open((_, response) => void response.end('ok'))
    const evil = ['X-Forwarded-Host', 'X-Original-URL', 'X-HTTP-Method-Override', 'Cookie', 'Proxy-Authorization', 'TE']
    await raw(
      port,
      `GET /service/x HTTP/1.1\r\n${head}${evil.map((name) => `${name}: evil\r\n`).join('')}Connection: close, Accept\r\nAccept: text/plain\r\nPrefer: x\r\n\r\n`,
    )
    const names = Object.keys(server.seen[0]?.headers ?? {})
    expect(names.filter((name) => evil.some((one) => one.toLowerCase() === name))).toEqual([])
    // A header that `Connection` names is for this connection only.
    expect([names.includes('accept'), names.includes('prefer')]).toEqual([false, true])
    expect(server.seen[0]?.headers.host).toBe(`127.0.0.1:${server.port}`)
  })
})
