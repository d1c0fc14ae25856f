/** Whose connection to a host a call may use: nobody's but its own session's, made with its own secret. */
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import ssh2, { type ParsedKey } from 'ssh2'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Session } from '../../src/core/call.ts'
import type { Target } from '../../src/core/target.ts'
import { fingerprintOf } from '../../src/protocols/ssh/algorithms.ts'
import { hostKeyFrom } from '../../src/protocols/ssh/host-key.ts'
import { sshOptions, sshSchema } from '../../src/protocols/ssh/options.ts'
import { Upstreams, type Lease } from '../../src/protocols/ssh/upstreams.ts'
import { AGENT, sshTarget } from './connector-kit.ts'

const HOST_KEY = hostKeyFrom(new Uint8Array(32).fill(7))

describe('a connection to a host', () => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    const host = new ssh2.Server({ hostKeys: [HOST_KEY] }, (connection) => {
      connection.on('error', () => undefined)
      connection.on('authentication', (context) => context.accept())
    })
    host.injectSocket(socket)
  })
  let upstreams = new Upstreams()
  let target: Target
  const ends: AbortController[] = []
  const never = new AbortController().signal

  beforeAll(async () => {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
  afterEach(() => {
    for (const end of ends.splice(0)) end.abort()
    upstreams.close()
    upstreams = new Upstreams()
  })
  afterAll(() => server.close())

  function targetNamed(name: string, user = 'deploy'): Target {
    const port = (server.address() as AddressInfo).port
    const key = fingerprintOf((ssh2.utils.parseKey(HOST_KEY) as ParsedKey).getPublicSSH())
    const options = sshOptions(sshSchema.parse({ host: '127.0.0.1', port, user, host_keys: [key] }))
    return sshTarget(name, options)
  }

  function session(id: string): Session {
    const end = new AbortController()
    ends.push(end)
    const recording = {} as Session['recording']
    return { id, principal: AGENT, door: 'test', recording, signal: end.signal }
  }

  const secretOf = (byte: number) => ({ value: hostKeyFrom(new Uint8Array(32).fill(byte)) })
  const take = (of: Session, secret = secretOf(1), at = target): Promise<Lease> => upstreams.take(of, at, secret, never)

  it('serves the next call of its session', async () => {
    target = targetNamed('box')
    const mine = session('a')
    const first = await take(mine)
    first.release()
    const second = await take(mine)
    expect(second).toMatchObject({ client: first.client, isKept: true })
  })

  it('serves no other session, though caller, target and secret are the same', async () => {
    target = targetNamed('box')
    const first = await take(session('a'))
    first.release()
    const other = await take(session('a'))
    expect(other.isKept).toBe(false)
    expect(other.client).not.toBe(first.client)
  })

  it('serves no call with another secret', async () => {
    target = targetNamed('box')
    const mine = session('a')
    const first = await take(mine)
    first.release()
    const other = await take(mine, secretOf(2))
    expect(other.isKept).toBe(false)
    expect(other.client).not.toBe(first.client)
  })

  it.each([
    ['another name', () => targetNamed('vault')],
    ['another account', () => targetNamed('box', 'root')],
  ])('serves no target of %s', async (_what, other) => {
    target = targetNamed('box')
    const mine = session('a')
    const first = await take(mine)
    first.release()
    const second = await take(mine, secretOf(1), other())
    expect(second.isKept).toBe(false)
    expect(second.client).not.toBe(first.client)
  })

  it('carries eight channels at once, and the ninth goes to another', async () => {
    target = targetNamed('box')
    const mine = session('a')
    const eight: Lease[] = []
    for (let n = 0; n < 8; n++) eight.push(await take(mine))
    expect(new Set(eight.map(({ client }) => client)).size).toBe(1)
    const ninth = await take(mine)
    expect(ninth.client).not.toBe(eight[0]?.client)
  })

  it('that was given back as broken serves nobody', async () => {
    target = targetNamed('box')
    const mine = session('a')
    const first = await take(mine)
    first.release(true)
    expect((await take(mine)).client).not.toBe(first.client)
  })

  it('ends with its session', async () => {
    target = targetNamed('box')
    const mine = session('a')
    const lease = await take(mine)
    lease.release()
    // At once: one that nobody uses would end by itself half a minute later.
    const end = vi.spyOn(lease.client, 'end')
    ends[0]?.abort()
    expect(end).toHaveBeenCalledOnce()
  })

  it('is not kept for a session that ended while it was made', async () => {
    target = targetNamed('box')
    const taking = take(session('a'))
    ends[0]?.abort()
    await expect(taking).rejects.toMatchObject({ code: 'ERR_CANCELLED' })
  })

  it('is made for nobody once the gateway is shutting down', async () => {
    target = targetNamed('box')
    upstreams.close()
    await expect(take(session('a'))).rejects.toMatchObject({ code: 'ERR_SHUTTING_DOWN' })
  })
})
