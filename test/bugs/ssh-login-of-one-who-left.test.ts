/**
 * A client that went away while its token was looked at was counted among its principal's connections for good: 32 of
 * them, and nobody logged in with that token any more until the gateway was started anew.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import ssh2, { type Client } from 'ssh2'
import { afterEach, expect, it } from 'vitest'
import { hostKeyFrom } from '../../src/protocols/ssh/host-key.ts'
import { createSshListener } from '../../src/protocols/ssh/listener.ts'
import { AGENT } from '../ssh/connector-kit.ts'

const CONNECTIONS_MAX = 32

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

it('who goes away while a token is looked at takes no place of its principal', async () => {
  const looking: (() => void)[] = []
  let isSlow = true
  const door = await createSshListener({
    authenticate: async () => {
      if (isSlow) await new Promise<void>((resolve) => void looking.push(resolve))
      return AGENT
    },
    authenticateKey: () => Promise.reject(new Error('No key is known here.')),
    sessions: { open: () => Promise.reject(new Error('Nobody gets that far here.')) },
    run: () => {
      throw new Error('Nothing is run here.')
    },
    target: () => undefined,
    holdMs: 0,
    hostKey: hostKeyFrom(randomBytes(32)),
    now: () => performance.now(),
    onFault: () => undefined,
  })
  closers.push(() => door.close())
  const left: Promise<unknown>[] = []
  const server = createServer({ noDelay: true }, (socket) => {
    left.push(once(socket, 'close'))
    door.connection(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => server.close())
  const { port } = server.address() as AddressInfo
  const connecting = (): Client => {
    const client = new ssh2.Client()
    client.on('error', () => undefined)
    client.on('keyboard-interactive', (_name, _words, _language, _prompts, finish) => finish(['token']))
    client.connect({ host: '127.0.0.1', port, username: 'box', tryKeyboard: true })
    closers.push(() => client.destroy())
    return client
  }
  for (let each = 0; each < CONNECTIONS_MAX; each++) {
    const client = connecting()
    await expect.poll(() => looking.length, { timeout: 60_000, interval: 5 }).toBe(each + 1)
    client.destroy()
    await left[each]
    looking[each]?.()
  }
  isSlow = false
  const last = connecting()
  await expect(Promise.race([once(last, 'ready'), once(last, 'close').then(() => 'sent away')])).resolves.toEqual([])
}, 180_000)
