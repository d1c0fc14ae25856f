/** WebSockets through the door: refused unless a rule names them, then message by message, masked and recorded. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { startRaw, startService } from '../services/http.ts'
import { httpKit, SECRET, SLOTS, TOKEN, type HttpKit } from './kit.ts'

const RULES = `rules:
  - {id: read, effect: allow, principals: ["*"], actions: ["http.*", class:exec], resources: ["**"]}
  - {id: talk, effect: allow, principals: ["*"], actions: [http.upgrade], resources: [{path: "/live/**"}], limits: {bytes: 64KiB}}
  - {id: quiet, effect: deny, principals: ["*"], actions: ["http.*"], resources: [{path: "/live/admin/**"}]}
  - {id: ask, effect: require_approval, principals: ["*"], actions: [http.upgrade], resources: [{path: "/live/guarded/**"}], approvers: {any_of: [group:lead]}}
masks:
  - {detect: [email], transform: redact}`

/** A client that has nothing to say. */
async function* silence(): AsyncGenerator<Uint8Array> {}

describe('a WebSocket', () => {
  let service: Server
  let kit: HttpKit
  let masked: HttpKit
  const doors: Server[] = []
  const ports: number[] = []
  const asked: { url: string; headers: NodeJS.Dict<string | string[]> }[] = []

  beforeAll(async () => {
    service = createServer((_, response) => void response.end('plain')).listen(0, '127.0.0.1')
    const server = new WebSocketServer({ server: service, handleProtocols: (offered) => [...offered][0] ?? false })
    server.on('connection', (socket, { url = '', headers }) => {
      asked.push({ url, headers })
      socket.on('error', () => undefined)
      socket.on('message', (data, isBinary) => {
        const said = (data as Buffer).toString()
        if (said === 'bytes') socket.send(Buffer.from([1, 2, 3]))
        else if (said === 'flood') for (let n = 0; n < 100; n++) socket.send('x'.repeat(1024))
        else if (said === 'end') socket.close(4001)
        else if (said === 'vanish') socket.terminate()
        else socket.send(isBinary ? 'bytes came' : `${said} for ada@example.com, ${String(headers['authorization'])}`)
      })
    })
    await once(service, 'listening')
    const { port } = service.address() as AddressInfo
    const settings = { base_url: `http://127.0.0.1:${port}/base`, allow_addresses: ['127.0.0.1'], auth: 'bearer' }
    kit = httpKit({ settings, policy: RULES })
    masked = httpKit({ settings, policy: `${RULES}\n  - {fields: ["**.ssn"], transform: redact}` })
    for (const one of [kit, masked]) {
      const door = createServer(one.door).listen(0, '127.0.0.1')
      door.on('upgrade', (request, socket, head: Buffer) => {
        one.upgrade(request, socket, head, (plain) => void door.emit('connection', plain))
      })
      await once(door, 'listening')
      doors.push(door)
      ports.push((door.address() as AddressInfo).port)
    }
  })
  afterAll(async () => {
    for (const door of doors) door.close()
    await kit.close()
    await masked.close()
    service.closeAllConnections()
    service.close()
  })

  const dial = (path: string, more: { door?: number; protocols?: string[]; token?: string } = {}): WebSocket =>
    new WebSocket(`ws://127.0.0.1:${ports[more.door ?? 0]}/service${path}`, more.protocols ?? [], {
      headers: { authorization: `Bearer ${more.token ?? TOKEN}`, cookie: 'a=b', 'x-forwarded-host': 'evil' },
    })
  const refusal = async (socket: WebSocket): Promise<[number | undefined, unknown]> => {
    socket.on('error', () => undefined)
    const answer = await new Promise<IncomingMessage | undefined>((resolve) => {
      socket.once('unexpected-response', (_request, response) => resolve(response))
      socket.once('open', () => resolve(undefined))
    })
    if (answer === undefined) socket.terminate()
    return answer === undefined ? [101, undefined] : [answer.statusCode, JSON.parse(await text(answer))]
  }
  const hear = async (socket: WebSocket): Promise<string> => {
    const [data] = (await once(socket, 'message')) as [Buffer]
    return data.toString()
  }
  const closed = async (socket: WebSocket): Promise<unknown> => {
    const [code] = (await once(socket, 'close')) as [number]
    return code
  }

  for (const [what, path, status, code] of [
    ['no rule names it, whatever its wildcards and classes', '/other', 403, 'ERR_DENIED'],
    ['a deny covers the path, by a wildcard', '/live/admin/x', 403, 'ERR_DENIED'],
    ['an approval is asked for what nobody can see yet', '/live/guarded/x', 202, 'ERR_APPROVAL_PENDING'],
  ] as const) {
    it(`is refused where ${what}`, async () => {
      const before = asked.length
      expect(await refusal(dial(path))).toEqual([status, expect.objectContaining({ code })])
      expect(asked.length).toBe(before)
    })
  }

  it('is refused without a token, and on a target whose fields are masked', async () => {
    expect((await refusal(dial('/live/x', { token: 'wrong' })))[0]).toBe(401)
    expect(await refusal(dial('/live/x', { door: 1 }))).toEqual([
      403,
      expect.objectContaining({ construct: 'http.upgrade_over_fields' }),
    ])
  })

  it('talks where a rule names it: with the credential, masked toward the client, recorded in both directions', async () => {
    const socket = dial('/live/x?y=1', { protocols: ['chat', 'other'] })
    await once(socket, 'open')
    expect(socket.protocol).toBe('chat')
    socket.send('hello from bob@example.com')
    // The service gets what was said; what it says, and what is written down, is masked.
    expect(await hear(socket)).toBe('hello from [REDACTED:email] for [REDACTED:email], Bearer [REDACTED:credential]')
    socket.send(Buffer.from([9, 9]))
    expect(await hear(socket)).toContain('bytes came')
    const { url, headers } = asked.at(-1) ?? { url: '', headers: {} }
    expect([url, headers['authorization'], headers['cookie'], headers['x-forwarded-host']]).toEqual([
      '/base/live/x?y=1',
      `Bearer ${SECRET}`,
      undefined,
      undefined,
    ])
    const ended = closed(socket)
    socket.close()
    await ended
    await expect.poll(() => kit.recorded()).toContain('"ending":"done"')
    const recorded = kit.recorded()
    expect(recorded).toContain('["caller","text","hello from [REDACTED:email]"]')
    expect(recorded).toContain('["caller","binary","CQk="]')
    expect(recorded).toContain('upgrade: websocket\\nsec-websocket-protocol: chat, other')
    expect(recorded).not.toContain('bob@example.com')
    expect(recorded).not.toContain(SECRET)
  })

  for (const [what, said, code] of [
    ['a message that is not text', 'bytes', 1003],
    ['more than policy allows', 'flood', 1009],
    ['the end the service gives it', 'end', 4001],
    ['a service that goes away', 'vanish', 1000],
  ] as const) {
    it(`ends with ${what}`, async () => {
      const socket = dial('/live/x')
      const ended = closed(socket)
      await once(socket, 'open')
      socket.send(said)
      expect(await ended).toBe(code)
    })
  }

  it('leaves an offer of HTTP/2 alone: the request is one like any other, its body too', async () => {
    const socket = connect(ports[0] ?? 0, '127.0.0.1')
    socket.write(
      `POST /service/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 2\r\n\r\nhi`,
    )
    const [first] = (await once(socket, 'data')) as [Buffer]
    socket.destroy()
    expect(first.toString()).toMatch(/^HTTP\/1\.1 200 /u)
  })

  it('takes one of its caller’s places at the door for as long as it lasts', async () => {
    const talks = await Promise.all(
      Array.from({ length: SLOTS }, async () => {
        const socket = dial('/live/x')
        await once(socket, 'open')
        return socket
      }),
    )
    expect(await refusal(dial('/live/x'))).toEqual([429, expect.objectContaining({ code: 'ERR_LIMIT_CONCURRENCY' })])
    const plain = (): Promise<Response> =>
      fetch(`http://127.0.0.1:${ports[0]}/service/x`, { headers: { authorization: `Bearer ${TOKEN}` } })
    expect((await plain()).status).toBe(429)
    for (const socket of talks) socket.close()
    await expect.poll(async () => (await plain()).status).toBe(200)
  })

  it('is connected to the address that was vetted, whatever the system says the name is by then', async () => {
    const plain = await startService((_, response) => void response.end('elsewhere'))
    const vetted = await startService((_, response) => void response.writeHead(418).end(), undefined, {
      host: '127.0.0.2',
      port: plain.port,
    })
    const pinned = httpKit({
      settings: { base_url: `http://localhost:${plain.port}`, allow_addresses: ['127.0.0.2'], auth: 'bearer' },
      policy: RULES,
      names: { localhost: [['127.0.0.2']] },
    })
    try {
      await expect(heads(pinned)).rejects.toThrow('it answered 418')
      expect([plain.connections(), vetted.connections()]).toEqual([0, 1])
    } finally {
      await pinned.close()
      await plain.close()
      await vetted.close()
    }
  })

  /** Asks for a WebSocket by the spine alone and returns the first thing that comes of it. */
  async function heads(one: HttpKit, protocols: readonly string[] = []): Promise<unknown> {
    const said = one.run(
      one.call({ method: 'GET', path: '/live/x', headers: [], upgrade: { protocols } }, { input: silence() }),
    )
    try {
      const first = await said.next()
      return first.value
    } finally {
      await said.return()
    }
  }

  const accept = (key: string): string =>
    createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
  for (const [what, protocols, status, lines] of [
    ['no answer to its key', [], '101 Switching Protocols', () => []],
    ['the answer to another key', [], '101 Switching Protocols', () => [`Sec-WebSocket-Accept: ${accept('other')}`]],
    ['its own key', [], '101 Switching Protocols', (key: string) => [`Sec-WebSocket-Accept: ${key}`]],
    [
      'an extension nobody offered',
      [],
      '101 Switching Protocols',
      (key: string) => [`Sec-WebSocket-Accept: ${accept(key)}`, 'Sec-WebSocket-Extensions: permessage-deflate'],
    ],
    [
      'a protocol nobody offered',
      ['chat'],
      '101 Switching Protocols',
      (key: string) => [`Sec-WebSocket-Accept: ${accept(key)}`, 'Sec-WebSocket-Protocol: other'],
    ],
    [
      'a protocol though none was offered',
      [],
      '101 Switching Protocols',
      (key: string) => [`Sec-WebSocket-Accept: ${accept(key)}`, 'Sec-WebSocket-Protocol: chat'],
    ],
    [
      'none of the protocols that were offered',
      ['chat'],
      '101 Switching Protocols',
      (key: string) => [`Sec-WebSocket-Accept: ${accept(key)}`],
    ],
    ['success of another kind', [], '200 OK', (key: string) => [`Sec-WebSocket-Accept: ${accept(key)}`]],
    ['a place elsewhere', [], '307 Temporary Redirect', () => ['Location: ws://127.0.0.1:1/']],
  ] as const) {
    it(`is not opened by a service that answers with ${what}`, async () => {
      const hostile = await startRaw((socket) => {
        socket.once('data', (bytes: Buffer) => {
          const [, key = ''] = /sec-websocket-key: (\S+)/iu.exec(bytes.toString('latin1')) ?? []
          const head = [`HTTP/1.1 ${status}`, 'Connection: Upgrade', 'Upgrade: websocket', ...lines(key)]
          // The beginning of a conversation stands right behind it.
          socket.write(Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), Buffer.from([0x81, 2, 104, 105])]))
        })
      })
      const one = httpKit({
        settings: { base_url: hostile.url, allow_addresses: ['127.0.0.1'], auth: 'bearer' },
        policy: RULES,
      })
      try {
        await expect(heads(one, protocols)).rejects.toMatchObject({ code: 'ERR_UPSTREAM_REJECTED' })
      } finally {
        await one.close()
        await hostile.close()
      }
    })
  }

  it('is not begun with the compression a client offers', async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${ports[0]}/service/live/x`, {
      headers: { authorization: `Bearer ${TOKEN}` },
      perMessageDeflate: true,
    })
    const [answer] = (await once(socket, 'upgrade')) as [IncomingMessage]
    socket.terminate()
    expect([answer.statusCode, answer.headers['sec-websocket-extensions']]).toEqual([101, undefined])
    expect(asked.at(-1)?.headers['sec-websocket-extensions']).toBeUndefined()
  })

  for (const [what, lines] of [
    ['another protocol', 'Upgrade: tls/1.0\r\n'],
    ['two protocols', 'Upgrade: websocket\r\nUpgrade: websocket\r\n'],
    ['no key', 'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'],
    [
      'an old version',
      'Upgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n',
    ],
    [
      'a body',
      'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 4\r\n',
    ],
  ] as const) {
    it(`is not begun with ${what}`, async () => {
      const before = asked.length
      const socket = connect(ports[0] ?? 0, '127.0.0.1')
      socket.write(
        `GET /service/live/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nConnection: Upgrade\r\n${lines}\r\n`,
      )
      // Not to its end: what is taken by mistake has none.
      const [answer] = (await once(socket, 'data')) as [Buffer]
      socket.destroy()
      expect(answer.toString('latin1')).toMatch(/^HTTP\/1\.1 40[03] /u)
      expect(asked.length).toBe(before)
      expect(kit.faults).toEqual([])
    })
  }
})
