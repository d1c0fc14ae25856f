/** Starts what every suite shares, when the first suite asks for it: suites of pure rooms pay nothing. */
import { createServer } from 'node:net'
import type { TestProject } from 'vitest/node'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../src/cli/demo/embedded-postgres.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Port on 127.0.0.1 that answers a connection with the address of the run's PostgreSQL, as JSON. */
    readonly postgresBroker: number
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  let cluster: Promise<EmbeddedPostgres> | undefined
  const broker = createServer((socket) => {
    socket.on('error', () => undefined)
    cluster ??= startEmbeddedPostgres({ settings: { max_connections: '200' } })
    cluster.then(
      ({ host, port, user, password }) => socket.end(JSON.stringify({ host, port, user, password })),
      (error: unknown) => socket.end(JSON.stringify({ error: String(error) })),
    )
  })
  await new Promise<void>((resolve) => broker.listen(0, '127.0.0.1', resolve))
  const address = broker.address()
  if (address === null || typeof address === 'string') throw new Error('The broker has no port.')
  project.provide('postgresBroker', address.port)
  return async () => {
    broker.close()
    await (await cluster?.catch(() => undefined))?.stop()
  }
}
