import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../src/cli/demo/embedded-postgres.ts'
import { selfSigned } from '../../src/self-signed.ts'
import { connectorKit, until, type ConnectorKit } from './connector-kit.ts'

const SERVER = selfSigned(['db.shop.test'])
const OTHER = selfSigned(['db.shop.test'])

let server: EmbeddedPostgres
let folder: string
let admin: Client
const kits: ConnectorKit[] = []

beforeAll(async () => {
  server = await startEmbeddedPostgres({ tls: SERVER })
  folder = await mkdtemp(path.join(tmpdir(), 'sallyport-tls-'))
  await writeFile(path.join(folder, 'ca.pem'), SERVER.cert)
  await writeFile(path.join(folder, 'other.pem'), OTHER.cert)
  await connectAdmin()
})
afterAll(async () => {
  await Promise.all(kits.map((kit) => kit.close()))
  await admin.end().catch(() => undefined)
  await server.stop()
  await rm(folder, { recursive: true, force: true })
})

async function connectAdmin(): Promise<void> {
  admin = new Client({ ...server, database: 'postgres' })
  admin.on('error', () => undefined)
  await admin.connect()
}

function kitWith(tls: unknown, host = server.host): ConnectorKit {
  const kit = connectorKit({ ...server, host, name: 'postgres' }, server, { tls })
  kits.push(kit)
  return kit
}

describe('upstream TLS', () => {
  it('is used, with a certificate that was checked', async () => {
    const kit = kitWith({ ca: path.join(folder, 'ca.pem'), server_name: 'db.shop.test' })
    const { rows } = await kit.ask('SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()')
    expect(rows).toEqual([['t', 'TLSv1.3']])
  })

  it('checks the name it was told and not the one it connects to', async () => {
    const told = kitWith({ ca: path.join(folder, 'ca.pem'), server_name: 'db.shop.test' }, 'localhost')
    expect((await told.ask('SELECT 1')).rows).toEqual([['1']])
    const untold = await kitWith({ ca: path.join(folder, 'ca.pem') }, 'localhost').failure('SELECT 1')
    expect(untold.message).toContain('prove who it is')
  })

  it.each([
    ['a certificate nobody vouches for', 'verify'],
    ['a certificate of somebody else', { ca: 'other.pem', server_name: 'db.shop.test' }],
    ['a certificate for another name', { ca: 'ca.pem', server_name: 'db.other.test' }],
    ['a certificate without the address we connect to', { ca: 'ca.pem' }],
    ['authorities that cannot be read', { ca: 'missing.pem' }],
  ])('refuses %s', async (_, tls) => {
    const resolved = typeof tls === 'string' ? tls : { ...tls, ca: path.join(folder, tls.ca) }
    const error = await kitWith(resolved).failure('SELECT 1')
    expect(error.code).toBe('ERR_UPSTREAM_UNREACHABLE')
    expect(error.message).toMatch(/prove who it is|cannot be read/u)
    expect(error.message).not.toContain('127.0.0.1')
  })

  it('is spoken by cancel requests too, and they end the query', async () => {
    const kit = kitWith({ ca: path.join(folder, 'ca.pem'), server_name: 'db.shop.test' })
    const controller = new AbortController()
    const asked = kit.failure('SELECT pg_sleep(60)', { signal: controller.signal })
    const running = `SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()`
    await until(async () => (await admin.query(running)).rowCount === 1)
    controller.abort()
    expect((await asked).code).toBe('ERR_CANCELLED')
    expect((await admin.query(running)).rowCount).toBe(0)
  })
})

describe('a server that restarts', () => {
  it('ends the calls that run, nothing of theirs committed, and serves the next ones', async () => {
    const kit = kitWith('disable')
    await admin.query('CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)')
    const asked = kit.failure({
      sql: 'WITH w AS (UPDATE kept SET n = 2 RETURNING n) SELECT n, pg_sleep(60) FROM w',
      readOnly: false,
    })
    const running = `SELECT FROM pg_stat_activity WHERE query LIKE 'WITH w AS%' AND state = 'active'`
    await until(async () => (await admin.query(running)).rowCount === 1)
    await server.restart()
    expect((await asked).code).toBe('ERR_UPSTREAM_LOST')
    expect((await kit.ask('SELECT n FROM kept')).rows).toEqual([['1']])
    await connectAdmin()
  })
})
