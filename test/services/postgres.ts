/**
 * The run's PostgreSQL servers, and a database of its own for each test file.
 *
 * Version 18 comes with npm and is always there; version 15 is Debian's, and a suite that asks for it stands under
 * `describe.runIf(has('postgresql-15'))`.
 */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { Client } from 'pg'
import { inject } from 'vitest'

/** Major version of a server. */
export type ServerVersion = '15' | '18'

/** Where a server of the run listens, and its superuser. */
export interface Cluster {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: string
}

/** A database of one test file. */
export interface TestDatabase extends Cluster {
  /** The database's name. */
  readonly name: string
  /** Connected as superuser. Ended by `drop`. */
  readonly admin: Client
  /** Opens one more superuser connection; whoever opens it ends it. */
  connect(): Promise<Client>
  /** Makes a login role without any right of its own and runs `grants`, in which `$role` stands for its quoted name. */
  role(grants?: string): Promise<TestRole>
  /** Ends `admin`, drops the database with all connections to it and the roles made for it. */
  drop(): Promise<void>
}

/** A login role. */
export interface TestRole {
  readonly user: string
  readonly password: string
}

const addresses = new Map<ServerVersion, Promise<Cluster>>()

/** Returns the run's server of a version, starting it when this is the first use. */
export function cluster(version: ServerVersion = '18'): Promise<Cluster> {
  const address = addresses.get(version) ?? ask(version)
  addresses.set(version, address)
  return address
}

async function ask(version: ServerVersion): Promise<Cluster> {
  const port = inject('postgresBrokers')[version]
  const answer = JSON.parse(await text(connect(port, '127.0.0.1'))) as Cluster | { error: string }
  if ('error' in answer) throw new Error(answer.error)
  return answer
}

/**
 * Makes a database and runs `sql` in it as superuser.
 *
 * ```ts
 * const db = await createDatabase(shopSql())
 * afterAll(() => db.drop())
 * ```
 */
export async function createDatabase(
  sql = '',
  options: {
    readonly server?: ServerVersion
    /** Name of a database nobody is connected to, to be copied with all OIDs. */
    readonly template?: string
  } = {},
): Promise<TestDatabase> {
  const server = await cluster(options.server)
  const name = `t_${randomBytes(6).toString('hex')}`
  await once(server, `CREATE DATABASE ${name} TEMPLATE ${options.template ?? 'template0'}`)
  const open = async (): Promise<Client> => {
    const client = new Client({ ...server, database: name })
    // Suites end and restart backends on purpose.
    client.on('error', () => undefined)
    await client.connect()
    return client
  }
  const admin = await open()
  if (sql !== '') await admin.query(sql)
  const roles: string[] = []
  return {
    ...server,
    name,
    admin,
    connect: open,
    async role(grants = '') {
      const user = `r_${randomBytes(6).toString('hex')}`
      const password = randomBytes(12).toString('hex')
      await admin.query(`CREATE ROLE ${user} LOGIN PASSWORD '${password}'`)
      roles.push(user)
      if (grants !== '') await admin.query(grants.replaceAll('$role', user))
      return { user, password }
    },
    async drop() {
      for (const role of roles) await admin.query(`DROP OWNED BY ${role} CASCADE`).catch(() => undefined)
      await admin.end()
      await once(server, `DROP DATABASE ${name} WITH (FORCE)`)
      for (const role of roles) await once(server, `DROP ROLE IF EXISTS ${role}`)
    },
  }
}

async function once(server: Cluster, sql: string): Promise<void> {
  const client = new Client({ ...server, database: 'postgres' })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
