import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, describe, expect, it } from 'vitest'
import { listen } from '../../src/listen.ts'
import { httpKit, TOKEN } from '../http/kit.ts'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

/** Sends all of it before it reads a byte, as many clients do, and returns what it was told. */
async function stubborn(port: number, head: string, piece: string, count: number): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  closers.push(() => socket.destroy())
  await once(socket, 'connect')
  socket.write(head)
  for (let sent = 0; sent < count; sent++) if (!socket.write(piece)) await once(socket, 'drain')
  return text(socket)
}

describe('a client of the HTTP door that sends more than is taken', () => {
  it.each([
    ['says how long it is', 'Content-Length: 30000000', 'x'.repeat(50_000), 600],
    ['sends it in chunks', 'Transfer-Encoding: chunked', `c350\r\n${'x'.repeat(50_000)}\r\n`, 600],
    ['sends not all of it, and waits', 'Content-Length: 3000000', 'x'.repeat(50_000), 20],
  ])('reads why, also when it %s before it looks', async (_, framing, piece, count) => {
    const kit = httpKit({
      settings: { base_url: 'http://127.0.0.1:9/base', allow_addresses: ['127.0.0.1'], request_bytes: '64KiB' },
      policy: 'rules: [{id: all, effect: allow, principals: ["*"], actions: ["http.*"], resources: ["**"]}]',
    })
    closers.push(() => kit.close())
    const door = await listen('listen.http', kit.door, { host: '127.0.0.1', port: 0 }, undefined, {})
    closers.push(() => door.close(0))
    const head = `POST /service/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n${framing}\r\n\r\n`
    const told = await stubborn(Number(new URL(door.url).port), head, piece, count)
    expect(told).toMatch(/^HTTP\/1\.1 413 .*\r\nconnection: close\r\n/isu)
    expect(told).toContain('ERR_TOO_LARGE')
  })
})
