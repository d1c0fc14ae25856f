/** The HTTP door as it listens in the product, under clients and services that mean harm; real sockets, one world. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { request as undiciRequest } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listen, type Listener } from '../../src/listen.ts'
import { startRaw, startService, type TestService } from '../services/http.ts'
import { httpKit, SLOTS, TOKEN, type HttpKit } from './kit.ts'

const ALLOW = 'rules: [{id: all, effect: allow, principals: ["*"], actions: ["http.*"], resources: ["**"]}]'
const HEAD = `Host: x\r\nAuthorization: Bearer ${TOKEN}\r\n`
const bearer = { authorization: `Bearer ${TOKEN}` }
const LAST_MS = 30_000

interface World {
  readonly kit: HttpKit
  readonly door: Listener
  readonly port: number
  readonly url: string
}

const closers: (() => unknown)[] = []
afterAll(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

/** @param hurry ends requests that come slowly; without it no stop of the machine makes any look slow. */
async function open(service: TestService, settings: object = {}, hurry = false): Promise<World> {
  closers.push(() => service.close())
  const kit = httpKit({
    settings: { base_url: `${service.url}/base`, allow_addresses: ['127.0.0.1'], auth: 'bearer', ...settings },
    policy: ALLOW,
  })
  closers.push(() => kit.close())
  const door = await listen('listen.http', kit.door, { host: '127.0.0.1', port: 0 }, undefined, {
    upgrade: kit.upgrade,
    ...(hurry && { headersMs: 400, requestMs: 800, checkMs: 100 }),
  })
  closers.push(() => door.close(0))
  return { kit, door, port: Number(new URL(door.url).port), url: `${door.url}/service` }
}

function dial(port: number, bytes: string): Socket {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  socket.write(bytes)
  return socket
}

/** Sends bytes and returns what comes back until the door hangs up. */
const said = (port: number, bytes: string): Promise<string> => text(dial(port, bytes))

describe('a client that means harm', () => {
  let world: World
  let hurried: World
  let service: TestService
  const held = new Set<() => void>()

  beforeAll(async () => {
    service = await startService(async ({ url }, response) => {
      if (url === '/base/held') await new Promise<void>((resolve) => held.add(resolve))
      if (url === '/base/stream') {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        const timer = setInterval(() => response.write('data: 1\n\n'), 5)
        response.on('close', () => {
          clearInterval(timer)
          gone.push(url)
        })
        return
      }
      response.end('reached')
    })
    world = await open(service, { request_bytes: '2MiB' })
    hurried = await open(service, {}, true)
  })
  const gone: string[] = []

  it('is hung up on while it sends its headers byte by byte, its body byte by byte, or nothing at all', async () => {
    const slowly = async (first: string, drop: string): Promise<string> => {
      const socket = dial(hurried.port, first)
      const timer = setInterval(() => socket.write(drop), 50)
      try {
        return await text(socket)
      } finally {
        clearInterval(timer)
      }
    }
    const answers = await Promise.all([
      slowly(`GET /service/slow HTTP/1.1\r\n${HEAD}`, 'X-A: b\r\n'),
      slowly(`POST /service/slow HTTP/1.1\r\n${HEAD}Content-Length: 1000\r\n\r\n`, 'x'),
      slowly(`POST /service/slow HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n`, '1\r\nx\r\n'),
      said(hurried.port, ''),
      ...Array.from({ length: 50 }, () => said(hurried.port, 'G')),
    ])
    for (const answer of answers) expect(answer).toMatch(/^(?:HTTP\/1\.1 408 |$)/u)
    expect(service.seen.map(({ url }) => url)).not.toContain('/base/slow')
    // Whoever means none is served all the same.
    expect(await (await fetch(`${world.url}/after`, { headers: bearer })).text()).toBe('reached')
  })

  it('is hung up on with chunks without an end, and told 431 of headers without one', async () => {
    const socket = dial(world.port, `POST /service/endless HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n`)
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`
    let sent = 0
    const pour = (): void => {
      while (!socket.destroyed && sent < 1000) {
        sent++
        if (!socket.write(chunk)) return void socket.once('drain', pour)
      }
    }
    pour()
    const answer = await text(socket).catch(() => '')
    // It goes on sending while it is told, so the network may drop what it was told; it is hung up on for certain.
    expect(answer).toMatch(/^(?:HTTP\/1\.1 413 |$)/u)
    expect(sent).toBeLessThan(1000)
    expect(service.seen.map(({ url }) => url)).not.toContain('/base/endless')
    expect(await said(world.port, `GET /service/x HTTP/1.1\r\n${HEAD}${'X-A: b\r\n'.repeat(10_000)}\r\n`)).toMatch(
      /^HTTP\/1\.1 431 /u,
    )
    expect(await said(world.port, `GET /service/x HTTP/1.1\r\n${HEAD}X: ${'b'.repeat(100_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431 /u,
    )
  })

  for (const [what, line, lines, body = ''] of [
    ['a whole URL', 'GET http://evil.example/service/x HTTP/1.1', HEAD],
    ['a whole URL of the door itself', 'GET http://x/service/x HTTP/1.1', HEAD],
    ['an authority', 'CONNECT 127.0.0.1:22 HTTP/1.1', HEAD],
    ['an asterisk', 'OPTIONS * HTTP/1.1', HEAD],
    ['two slashes', 'GET //service/x HTTP/1.1', HEAD],
    ['a name and a password', 'GET /user:pw@evil.example/x HTTP/1.1', HEAD],
    ['a colon behind the target', 'GET /service:80/x HTTP/1.1', HEAD],
    ['TRACE', 'TRACE /service/x HTTP/1.1', HEAD],
    ['HTTP/1.0 without a host', 'GET /service/x HTTP/1.0', `Authorization: Bearer ${TOKEN}\r\n`],
    ['an older HTTP', 'GET /service/x HTTP/0.9', HEAD],
    ['a newer HTTP', 'GET /service/x HTTP/2.0', HEAD],
    ['chunks in HTTP/1.0', 'POST /service/x HTTP/1.0', `${HEAD}Transfer-Encoding: chunked\r\n`, '1\r\nx\r\n0\r\n\r\n'],
    ['an empty Host and another', 'GET /service/x HTTP/1.1', `Host:\r\n${HEAD}`],
    ['a header without a name', 'GET /service/x HTTP/1.1', `${HEAD}: b\r\n`],
    ['a blank before a colon', 'GET /service/x HTTP/1.1', `${HEAD}X : b\r\n`],
    ['a NUL in a header', 'GET /service/x HTTP/1.1', `${HEAD}X: a\0b\r\n`],
    ['two types of its body', 'POST /service/x HTTP/1.1', `${HEAD}Content-Type: text/a\r\nContent-Type: text/b\r\n`],
    ['a bare carriage return', 'GET /service/x HTTP/1.1', `${HEAD}X: a\rTransfer-Encoding: chunked\r\n`],
  ] as const) {
    it(`reaches nothing with ${what}`, async () => {
      const before = service.seen.length
      const answer = await said(world.port, `${line}\r\n${lines}Connection: close\r\n\r\n${body}`)
      expect(answer).not.toContain('reached')
      expect(answer).toMatch(/^(?:HTTP\/1\.1 [45]\d\d |$)/u)
      expect(service.seen.length).toBe(before)
      expect(world.kit.faults).toEqual([])
    })
  }

  it('is told 413 of a body that says it is too long, and of one that turns out to be, before it has sent it', async () => {
    const declared = `POST /service/long HTTP/1.1\r\n${HEAD}Content-Length: 3000000\r\n\r\n`
    // Reading on until the request ends would make the next one wait for whatever it says is still to come.
    expect(await said(world.port, declared)).toMatch(/^HTTP\/1\.1 413 .*\r\nconnection: close\r\n/isu)
    const small = await open(await startService((_, response) => void response.end('reached')), {
      request_bytes: '64KiB',
    })
    const chunk = `18000\r\n${'x'.repeat(0x18000)}\r\n`
    expect(
      await said(small.port, `POST /service/long HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n${chunk}`),
    ).toMatch(/^HTTP\/1\.1 413 /u)
    expect(service.seen.map(({ url }) => url)).not.toContain('/base/long')
  })

  it('has each of its pipelined requests judged, and none behind one that was refused unread', async () => {
    const before = service.seen.length
    const one = (at: string): string => `GET /service/${at} HTTP/1.1\r\n${HEAD}\r\n`
    await said(world.port, `${one('a')}${one('b')}GET /service/c HTTP/1.1\r\n${HEAD}Connection: close\r\n\r\n`)
    expect(service.seen.slice(before).map(({ url }) => url)).toEqual(['/base/a', '/base/b', '/base/c'])
    const rest = one('hidden')
    const after = service.seen.length
    await said(
      world.port,
      `POST /service/x HTTP/1.1\r\n${HEAD}Content-Encoding: gzip\r\nContent-Length: ${rest.length + 100}\r\n\r\n${rest}`,
    )
    expect(service.seen.length).toBe(after)
  })

  it('has no trailer that reaches the service', async () => {
    const before = service.seen.length
    await said(
      world.port,
      `POST /service/t HTTP/1.1\r\n${HEAD}Connection: close\r\nTrailer: Authorization\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAuthorization: Bearer evil\r\nX-Evil: 1\r\n\r\n`,
    )
    const [seen] = service.seen.slice(before)
    expect([seen?.body, seen?.headers['x-evil'], seen?.headers['trailer']]).toEqual(['x', undefined, undefined])
    expect(seen?.headers.authorization).not.toContain('evil')
  })

  it('takes its call along when it hangs up, in the middle of what it sends and of what it is sent', async () => {
    const socket = dial(world.port, `GET /service/stream HTTP/1.1\r\n${HEAD}\r\n`)
    await once(socket, 'data')
    socket.destroy()
    await expect.poll(() => gone, { timeout: LAST_MS }).toEqual(['/base/stream'])
    const before = service.seen.length
    const sending = dial(world.port, `POST /service/half HTTP/1.1\r\n${HEAD}Content-Length: 100\r\n\r\nhalf`)
    await once(sending, 'connect')
    sending.destroy()
    await fetch(`${world.url}/then`, { headers: bearer })
    expect(service.seen.slice(before).map(({ url }) => url)).toEqual(['/base/then'])
  })

  it('has so many requests at once and no more, until one of them ends', async () => {
    const waiting = Array.from({ length: SLOTS }, () => fetch(`${world.url}/held`, { headers: bearer }))
    await expect.poll(() => held.size, { timeout: LAST_MS }).toBe(SLOTS)
    const refused = await fetch(`${world.url}/more`, { headers: bearer })
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1'])
    expect(await refused.json()).toMatchObject({ code: 'ERR_LIMIT_CONCURRENCY' })
    for (const go of held) go()
    for (const answer of await Promise.all(waiting)) expect(await answer.text()).toBe('reached')
    await expect
      .poll(async () => (await fetch(`${world.url}/more`, { headers: bearer })).status, { timeout: LAST_MS })
      .toBe(200)
  })
})

describe('a service that means harm', () => {
  let world: World
  let impatient: World
  let answering: (socket: Socket) => void = () => undefined
  const hungUp: number[] = []

  beforeAll(async () => {
    const service = await startRaw((socket) => {
      socket.on('close', () => hungUp.push(1))
      socket.once('data', () => answering(socket))
    })
    world = await open(service, { bytes: '1MiB' })
    impatient = await open(service, { response_timeout: '500ms' })
  })

  /** What a client gets: the status, and whether the body was whole. */
  async function ask(
    answer: (socket: Socket) => void,
    { url } = world,
  ): Promise<{ status: number; body: string | undefined }> {
    answering = answer
    const { statusCode, body } = await undiciRequest(`${url}/x`, { headers: bearer })
    return { status: statusCode, body: await body.text().catch(() => undefined) }
  }
  const OK = 'HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n'
  const hint = 'HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n'

  it('may hint at what comes, and not for ever', async () => {
    expect(await ask((socket) => socket.end(`${hint}${hint}${OK}content-length: 2\r\n\r\nhi`))).toEqual({
      status: 200,
      body: 'hi',
    })
    const endless = await ask((socket) => {
      const timer = setInterval(() => socket.write(hint), 1)
      socket.on('close', () => clearInterval(timer))
    })
    expect([endless.status, endless.body]).toEqual([502, expect.stringContaining('interim answers')])
  })

  it('cannot switch to a protocol nobody asked for, or continue what was complete', async () => {
    for (const line of ['101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket', '100 Continue']) {
      expect((await ask((socket) => socket.end(`HTTP/1.1 ${line}\r\n\r\n`))).status).toBe(502)
    }
  })

  it('is cut off with headers that do not end, and with trailers that do not', async () => {
    const pour = (first: string) => (socket: Socket) => {
      socket.write(first)
      const timer = setInterval(() => socket.write('x-a: b\r\n'.repeat(200)), 1)
      socket.on('close', () => clearInterval(timer))
    }
    expect((await ask(pour('HTTP/1.1 200 OK\r\n'))).status).toBe(502)
    const trailing = await ask(pour(`${OK}transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n`))
    expect(trailing.status === 200 ? trailing.body : undefined).toBeUndefined()
  })

  it('has no trailer that reaches the client', async () => {
    answering = (socket) => socket.end(`${OK}transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nset-cookie: a=b\r\n\r\n`)
    const answer = await said(world.port, `GET /service/x HTTP/1.1\r\n${HEAD}Connection: close\r\n\r\n`)
    expect(answer).toContain('hi')
    expect(answer).not.toContain('set-cookie')
  })

  for (const [what, serve] of [
    ['hangs up in the middle', (socket: Socket) => socket.end(`${OK}content-length: 100000\r\n\r\nhalf`)],
    ['breaks off its chunks', (socket: Socket) => socket.end(`${OK}transfer-encoding: chunked\r\n\r\nff\r\nhalf`)],
    ['says less than it has', (socket: Socket) => socket.end(`${OK}content-length: 4\r\n\r\nha`)],
    [
      'blows up on the way',
      (socket: Socket) => {
        const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024, 'a'))
        socket.write(`${OK}content-encoding: gzip\r\ncontent-length: ${bomb.length}\r\n\r\n`)
        socket.end(bomb)
      },
    ],
  ] as const) {
    it(`never looks whole when it ${what}`, async () => {
      const { status, body } = await ask(serve)
      expect(status >= 500 || body === undefined).toBe(true)
    })
  }

  for (const status of [300, 301, 304, 305, 306, 308, 310, 399]) {
    it(`leads no client out of the gateway with ${status}`, async () => {
      const send = (place: string): Promise<string> => {
        answering = (socket) =>
          socket.end(`HTTP/1.1 ${status} Elsewhere\r\nlocation: ${place}\r\ncontent-length: 0\r\n\r\n`)
        return said(world.port, `GET /service/x HTTP/1.1\r\n${HEAD}Connection: close\r\n\r\n`)
      }
      for (const place of ['http://evil.example/?t=1', '//evil.example/', '/other', 'http://[', '/base/../x']) {
        const answer = await send(place)
        expect([place, answer]).toEqual([place, expect.stringMatching(/^HTTP\/1\.1 502 /u)])
        expect(answer).not.toContain('evil')
      }
      expect(await send('/base/new?y=1')).toContain('\r\nlocation: /service/new?y=1\r\n')
    })
  }

  it('cannot say what only the gateway says', async () => {
    answering = (socket) =>
      socket.end(
        `${OK}sallyport-ticket: t\r\nSallyport-Replayed: true\r\nsallyport-x: y\r\ncontent-length: 2\r\n\r\nhi`,
      )
    const answer = await said(world.port, `GET /service/x HTTP/1.1\r\n${HEAD}Connection: close\r\n\r\n`)
    expect(answer).toMatch(/^HTTP\/1\.1 200 .*hi$/su)
    expect(answer.toLowerCase()).not.toContain('sallyport-')
  })

  it('is understood with headers that are names of what every object has', async () => {
    const names = ['constructor', '__proto__', 'toString', 'hasOwnProperty']
    answering = (socket) =>
      socket.end(`${OK}${names.map((name) => `${name}: 1\r\n${name}: 2\r\n`).join('')}content-length: 2\r\n\r\nhi`)
    const answer = await said(world.port, `GET /service/x HTTP/1.1\r\n${HEAD}Connection: close\r\n\r\n`)
    expect(answer).toMatch(/^HTTP\/1\.1 200 .*hi$/su)
    expect(world.kit.faults).toEqual([])
  })

  it('never looks whole when it stops in the middle', async () => {
    const half = (socket: Socket) => void socket.write(`${OK}content-length: 100000\r\n\r\nhalf`)
    const { status, body } = await ask(half, impatient)
    expect(status >= 500 || body === undefined).toBe(true)
  })

  it('is hung up on when nobody reads it any more', async () => {
    const before = hungUp.length
    answering = (socket) => {
      socket.write(`${OK}transfer-encoding: chunked\r\n\r\n`)
      const timer = setInterval(() => socket.write('2\r\nhi\r\n'), 5)
      socket.on('close', () => clearInterval(timer))
    }
    const client = dial(world.port, `GET /service/x HTTP/1.1\r\n${HEAD}\r\n`)
    await once(client, 'data')
    client.destroy()
    await expect.poll(() => hungUp.length, { timeout: LAST_MS }).toBeGreaterThan(before)
    expect(world.kit.faults).toEqual([])
  })
})
