import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import type { Closers } from './closers.ts'
import type { Config } from './config.ts'
import { SallyportError } from './core/errors.ts'
import { govern } from './gateway/gateway.ts'
import type { Building } from './main.ts'
import { hostKeyFrom } from './protocols/ssh/host-key.ts'
import { createSshListener } from './protocols/ssh/listener.ts'

/** How long a person at a client may wait for an approval; a client that goes away ends the wait. */
const HOLD_MS = 10 * 60_000

/** Opens the SSH door, when the configuration names a place for it. Returns its address. */
export async function openSsh(building: Building, closers: Closers): Promise<string | undefined> {
  const { config, identity, sessions, traffic, rooms, sshSeed, log } = building
  const address = config.listen.ssh
  if (address === undefined) return undefined
  const targets = new Map(config.targets.map((target) => [target.name, target]))
  const door = await createSshListener({
    authenticate: (token) => identity.authenticate(token),
    authenticateKey: (key) => identity.authenticateKey(key),
    sessions,
    run: (call) => traffic.count(call, govern(call, rooms)),
    target: (name) => targets.get(name),
    holdMs: HOLD_MS,
    hostKey: hostKeyFrom(sshSeed),
    now: () => performance.now(),
    onFault: (error) => log.error({ door: 'ssh', err: error }, 'the SSH door met an error'),
  })
  const server = createServer({ noDelay: true }, (socket) => door.connection(socket))
  server.maxConnections = 2048
  const url = await bound(server, address)
  closers.add('listen.ssh', async () => {
    const closed = once(server, 'close')
    server.close()
    await door.close()
    await closed
  })
  return url
}

async function bound(
  server: ReturnType<typeof createServer>,
  { host, port }: NonNullable<Config['listen']['ssh']>,
): Promise<string> {
  try {
    server.listen(port, host)
    await once(server, 'listening')
  } catch (cause) {
    throw new SallyportError('ERR_CONFIG_INVALID', `listen.ssh: nothing can listen on ${host}:${port}.`, { cause })
  }
  const at = server.address() as AddressInfo
  return `ssh://${at.family === 'IPv6' ? `[${at.address}]` : at.address}:${at.port}`
}
