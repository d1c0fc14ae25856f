import { readFile } from 'node:fs/promises'
import type { AddressInfo, Socket } from 'node:net'
import { createSecureContext, type SecureContext } from 'node:tls'
import type { Closers } from './closers.ts'
import { isLoopback, type Config, type PostgresListen } from './config.ts'
import { SallyportError } from './core/errors.ts'
import type { Session } from './core/call.ts'
import { govern, judge } from './gateway/gateway.ts'
import type { Building } from './main.ts'
import { isOpenTo } from './policy/open.ts'
import { createPostgresDoor } from './protocols/postgres/listener.ts'
import type { PostgresOptions } from './protocols/postgres/options.ts'
import { selfSigned } from './self-signed.ts'

/** The open PostgreSQL door. */
export interface OpenPostgresDoor {
  /** `postgres://127.0.0.1:7432`; the database is the target's name. */
  readonly url: string
  reloadTls(): Promise<void>
  drain(): void
}

/** Tools as metrics and recordings name them. */
export const WIRE_TOOLS: readonly string[] = [
  'postgres.query',
  'postgres.parse',
  'postgres.execute',
  'postgres.function_call',
]

/** Opens the door, if there is to be one. */
export async function openPostgresDoor(building: Building, closers: Closers): Promise<OpenPostgresDoor | undefined> {
  const { config, rooms, sessions, identity, approvals, traffic, policies, postgres, log } = building
  const settings = config.listen.postgres
  if (settings === undefined) return undefined
  let context = await contextOf(config.tls)
  const door = createPostgresDoor(
    {
      tls: () => context,
      auth: settings.auth,
      isLocal: (socket) => isLocal(socket),
      scram: (user) => identity.scram(user),
      authenticate: (token) => identity.authenticate(token),
      target(principal, name) {
        const target = config.targets.find((one) => one.name === name && one.protocol === 'postgres')
        if (target === undefined) return undefined
        return policies.current().effectiveFor(principal, target).length > 0 ? target : undefined
      },
      statementTimeoutMs: ({ options }) => (options as PostgresOptions).statementTimeoutMs,
      openSession: (principal) => sessions.open({ principal, door: 'postgres' }),
      async connect(principal, target, startup, signal) {
        const secret = await rooms.credentials.read(target)
        return postgres.openWire(target, secret, startup, signal, isOpenTo(policies.current(), principal, target))
      },
      run: (call) => traffic.count(call, govern(call, rooms)),
      judge: (call) => judge(call, rooms),
      async withdraw(ticket: string, session: Session) {
        await approvals.inbox.cancel(session.principal, ticket)
      },
      policyVersion: () => policies.current().version,
      isOpen: (principal, target) => isOpenTo(policies.current(), principal, target),
      onFault: (error) => log.error({ err: error }, 'the PostgreSQL door met an error'),
    },
    settings,
  )
  const { port } = await opened(door.server, settings)
  closers.add('listen.postgres', () => door.close())
  const { host } = settings.address
  return {
    url: `postgres://${host.includes(':') ? `[${host}]` : host}:${port}`,
    async reloadTls() {
      if (config.tls !== undefined) context = await contextOf(config.tls)
    },
    drain: () => door.drain(),
  }
}

function opened(
  server: ReturnType<typeof createPostgresDoor>['server'],
  { address: { host, port } }: PostgresListen,
): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'is in use by another process' : `cannot be listened on (${error.code})`
      reject(new SallyportError('ERR_CONFIG_INVALID', `listen.postgres: ${host}:${port} ${why}.`, { cause: error }))
    })
    server.listen(port, host, () => resolve(server.address() as AddressInfo))
  })
}

/** The configured certificate, or one made for clients of this machine. */
async function contextOf(tls: Config['tls']): Promise<SecureContext> {
  const made = tls === undefined ? selfSigned(['localhost'], [LOOPBACK_V4, LOOPBACK_V6]) : undefined
  const key = made?.key ?? (await readFile(tls?.keyFile ?? ''))
  const cert = made?.cert ?? (await readFile(tls?.certFile ?? ''))
  return createSecureContext({ key, cert, minVersion: 'TLSv1.2' })
}

const LOOPBACK_V4 = [127, 0, 0, 1]
const LOOPBACK_V6 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]

/** Whether the other end of a socket is on this machine. */
function isLocal({ remoteAddress = '' }: Socket): boolean {
  return isLoopback(remoteAddress.replace(/^::ffff:/u, ''))
}
