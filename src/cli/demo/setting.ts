import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Client } from 'pg'
import { makeOperator } from '../../bootstrap.ts'
import { createClosers } from '../../closers.ts'
import { loadConfig, type Config } from '../../config.ts'
import { start, type Gateway } from '../../main.ts'
import { createLog } from '../../telemetry/log.ts'
import { adminClient, type AdminClient } from '../admin-client.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from './embedded-postgres.ts'
import { BACKEND_ROLE, backendRoleSql, DEMO_POLICY, DEMO_TARGET } from './policy.ts'
import { shopSql } from './shop.ts'

/** Everything the demo plays with. Whoever opens it closes it. */
export interface Setting {
  readonly dir: string
  readonly config: Config
  readonly gateway: Gateway
  readonly tokens: DemoTokens
  readonly operator: AdminClient
  /** Asks the database itself, past the gateway, as its owner. */
  readonly truth: (sql: string) => Promise<string>
  /** Ends everything; nothing is left running and no file is left. */
  close(): Promise<void>
}

/** Who takes part, by the token they hold. */
export interface DemoTokens {
  readonly operator: string
  /** The agent's, owned by sam. */
  readonly agent: string
  /** Maria's, a database administrator. */
  readonly approver: string
}

/** Ports of `demo --keep`, as the documentation names them; the short demo takes free ones. */
const PORTS_KEPT = { mcp: 7400, admin: 7401 }

const LIFE_MS = 24 * 60 * 60_000

/** Opens a private PostgreSQL with a shop in it and a gateway before it, all in a directory of its own. */
export async function openSetting(options: { readonly keep: boolean }): Promise<Setting> {
  const closers = createClosers(() => undefined)
  try {
    const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-demo-'))
    closers.add('files', () => rm(dir, { recursive: true, force: true }))
    const database = await startEmbeddedPostgres()
    closers.add('database', () => database.stop())
    const owner = await openOwner(database)
    closers.add('owner', () => owner.end())
    const secret = randomBytes(24).toString('base64url')
    await owner.query(shopSql())
    await owner.query(backendRoleSql(secret))
    const config = await writeFiles(dir, database, secret, options.keep)

    const operatorToken = (await makeOperator(config, 'olga', { expiresInMs: LIFE_MS })).token
    // The short demo tells its story itself; a log between its lines would only hide it.
    const gateway = await start(config, { log: createLog({ level: 'error' }), drainMs: 2_000 })
    closers.add('gateway', () => gateway.close())
    const operator = adminClient(gateway.urls.admin, operatorToken)
    const tokens = { operator: operatorToken, ...(await makeTokens(operator)) }
    return {
      dir,
      config,
      gateway,
      tokens,
      operator,
      truth: async (sql) => String(Object.values((await owner.query<Record<string, unknown>>(sql)).rows[0] ?? {})[0]),
      close: () => closers.close(),
    }
  } catch (error) {
    await closers.close()
    throw error
  }
}

async function openOwner({ host, port, user, password }: EmbeddedPostgres): Promise<Client> {
  const client = new Client({ host, port, user, password, database: 'postgres' })
  // The server ends after us, or with us when we are killed; neither is an error worth a stack trace.
  client.on('error', () => undefined)
  await client.connect()
  return client
}

async function writeFiles(dir: string, database: EmbeddedPostgres, secret: string, keep: boolean): Promise<Config> {
  const policies = path.join(dir, 'policies')
  const ports = keep ? PORTS_KEPT : { mcp: 0, admin: 0 }
  await mkdir(policies)
  await writeFile(path.join(policies, 'shop.yaml'), DEMO_POLICY)
  await writeFile(path.join(dir, 'shop-db.password'), `${secret}\n`, { mode: 0o600 })
  const file = path.join(dir, 'sallyport.yaml')
  await writeFile(
    file,
    `listen:
  mcp: 127.0.0.1:${ports.mcp}
  admin: 127.0.0.1:${ports.admin}
policies: policies
targets:
  ${DEMO_TARGET}:
    protocol: postgres
    host: ${database.host}
    port: ${database.port}
    database: postgres
    tls: disable
    credential: {user: ${BACKEND_ROLE}, file: shop-db.password}
`,
  )
  return loadConfig(file)
}

async function makeTokens(operator: AdminClient): Promise<Omit<DemoTokens, 'operator'>> {
  const make = async (token: object): Promise<string> => {
    return (await operator.post<{ readonly token: string }>('/v1/tokens', { expires_in_ms: LIFE_MS, ...token })).token
  }
  return {
    agent: await make({ principal: 'shop-bot', kind: 'agent', owner: 'sam', groups: ['agents'], roles: ['caller'] }),
    approver: await make({ principal: 'maria', kind: 'person', owner: 'maria', groups: ['dba'], roles: ['approver'] }),
  }
}
