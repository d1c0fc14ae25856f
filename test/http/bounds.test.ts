/** What the connector takes from a service, and no more: codings, bodies nobody reads, redirects to other protocols. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { redirectOf } from '../../src/protocols/http/redirect.ts'
import type { HttpOptions } from '../../src/protocols/http/options.ts'
import type { HttpPlan } from '../../src/protocols/http/plan.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { listen } from '../../src/listen.ts'
import { startService, type Answering } from '../services/http.ts'
import { httpKit, type HttpKit } from './kit.ts'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function serving(answer: Answering, settings: object = {}): Promise<HttpKit> {
  const server = await startService(answer)
  closers.push(() => server.close())
  const kit = httpKit({
    settings: { base_url: server.url, allow_addresses: ['127.0.0.1'], auth: 'bearer', ...settings },
    policy: 'rules: [{id: all, effect: allow, principals: ["*"], actions: ["http.*"], resources: ["**"]}]',
  })
  closers.push(() => kit.close())
  return kit
}

describe('an answer', () => {
  it.each([
    ['in one header', 'gzip, gzip'],
    ['in two', ['gzip', 'gzip']],
  ])('in two content codings, %s, is not shown: what one of them hides no mask would meet', async (_, coding) => {
    const twice = gzipSync(gzipSync('ana@example.com'))
    const kit = await serving((_seen, response) => {
      response.setHeader('content-encoding', coding)
      response.setHeader('content-type', 'text/plain')
      response.end(twice)
    })
    expect((await kit.failure({ path: '/' })).code).toBe('ERR_UPSTREAM_REJECTED')
  })

  it('whose body is withheld is not read on: its connection ends', async () => {
    let closed: Promise<unknown> | undefined
    const kit = await serving((_, response) => {
      closed = once(response, 'close')
      response.writeHead(200, { 'content-type': 'image/png' })
      const pour = (): void => {
        while (!response.destroyed) if (!response.write(Buffer.alloc(65_536))) return void response.once('drain', pour)
      }
      pour()
    })
    expect((await kit.ask({ path: '/' })).text).toContain('withheld')
    await closed
  })

  it('nobody reads waits at its service, and comes whole when it is read', async () => {
    const total = 64 * 1024 * 1024
    let sent = 0
    const kit = await serving(
      (seen, response) => {
        if (seen.url === '/small') {
          response.end('x')
          return
        }
        response.writeHead(200, { 'content-type': 'text/plain' })
        const pour = (): void => {
          while (sent < total) {
            sent += 65_536
            if (!response.write(Buffer.alloc(65_536, 120))) return void response.once('drain', pour)
          }
          response.end()
        }
        pour()
      },
      { bytes: '128MiB' },
    )
    let read = 0
    let sentUnread = total
    for await (const chunk of kit.run(kit.of({ path: '/large' }))) {
      if (chunk.kind !== 'data' || chunk.channel !== 'body') continue
      // Time enough for all of it, if anybody took it.
      if (read === 0) for (let other = 0; other < 50; other++) await kit.ask({ path: '/small' })
      if (read === 0) sentUnread = sent
      read += chunk.bytes.length
    }
    expect(sentUnread).toBeLessThan(total / 2)
    expect(read).toBe(total)
  })
})

describe('a call that was cancelled while it waited for a connection', () => {
  it('is never sent', async () => {
    const seen: string[] = []
    let release: () => void = () => undefined
    const kit = await serving(
      (asked, response) => {
        seen.push(asked.url)
        if (asked.url === '/first') release = () => void response.end('first')
        else response.end('other')
      },
      { connections: 1 },
    )
    const first = kit.ask({ path: '/first' })
    await expect.poll(() => seen).toEqual(['/first'])
    const cancel = new AbortController()
    const run = async (): Promise<void> => {
      for await (const _ of kit.run({ ...kit.of({ path: '/second' }), signal: cancel.signal })) continue
    }
    const waiting = run()
    const failed = waiting.catch((error: unknown) => SallyportError.from(error).code)
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate)
    cancel.abort(new SallyportError('ERR_CANCELLED', 'It was cancelled.'))
    expect(await failed).toBe('ERR_CANCELLED')
    release()
    await first
    await kit.ask({ path: '/third' })
    expect(seen).toEqual(['/first', '/third'])
  })
})

describe('a request of nobody', () => {
  it('is told that it is nobody’s, whatever else is wrong with it', async () => {
    const kit = await serving((_, response) => void response.end())
    const door = await listen('listen.http', kit.door, { host: '127.0.0.1', port: 0 }, undefined, {})
    closers.push(() => door.close(0))
    const socket = connect(Number(new URL(door.url).port), '127.0.0.1')
    socket.end('GET //../x HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n')
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 401 /u)
  })
})

describe('on open egress', () => {
  it.each(['ftp://files.example/x', 'file:///etc/passwd', 'javascript:alert(1)', 'ws://chat.example/'])(
    'nobody is sent to %s',
    (location) => {
      const plan = { request: { url: new URL('https://www.example.com/') } } as HttpPlan
      const options = { baseUrl: undefined } as unknown as HttpOptions
      expect(redirectOf(302, [['location', location]], plan, options)).toBeUndefined()
      expect(redirectOf(302, [['location', '/on']], plan, options)).toBe('https://www.example.com/on')
    },
  )
})
