/** Starts what every suite shares, when the first suite asks for it: suites of pure rooms pay nothing. */
import { createServer, type Server } from 'node:net'
import type { TestProject } from 'vitest/node'
import {
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
} from '../../src/cli/demo/embedded-postgres.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** By version, the port on 127.0.0.1 that answers a connection with the address of the run's server, as JSON. */
    readonly postgresBrokers: Readonly<Record<'15' | '18', number>>
  }
}

/** Where Debian installs PostgreSQL 15. */
const DEBIAN_15 = '/usr/lib/postgresql/15'

interface Broker {
  readonly port: number
  close(): Promise<void>
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const [fifteen, eighteen] = await Promise.all([broker({ installation: DEBIAN_15 }), broker()])
  project.provide('postgresBrokers', { '15': fifteen.port, '18': eighteen.port })
  return async () => {
    await Promise.all([fifteen.close(), eighteen.close()])
  }
}

/** Starts a server when it is first asked where that is. */
async function broker(options: EmbeddedPostgresOptions = {}): Promise<Broker> {
  let cluster: Promise<EmbeddedPostgres> | undefined
  const server: Server = createServer((socket) => {
    socket.on('error', () => undefined)
    // Nothing happens in a test's database but what the test does: statistics, for one, change plans and the order of rows.
    cluster ??= startEmbeddedPostgres({ ...options, settings: { max_connections: '500', autovacuum: 'off' } })
    cluster.then(
      ({ host, port, user, password }) => socket.end(JSON.stringify({ host, port, user, password })),
      (error: unknown) => socket.end(JSON.stringify({ error: String(error) })),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The broker has no port.')
  return {
    port: address.port,
    async close() {
      server.close()
      await (await cluster?.catch(() => undefined))?.stop()
    },
  }
}
