/**
 * Two databases of the same tables: in one the masked columns hold values, in its twin they hold what the masks show. A
 * statement sent to the first under policy must answer as the second does when asked directly.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Client } from 'pg'
import type { Protocol } from '../../src/core/call.ts'
import type { ColumnMask, Decision } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Target } from '../../src/core/target.ts'
import { decide } from '../../src/policy/decide.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import { CatalogKeeper } from '../../src/protocols/postgres/catalog-load.ts'
import { createPostgres, endpointOf, postgresOptions, postgresSchema } from '../../src/protocols/postgres/index.ts'
import { planStatement, planStatements, type PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { afterEffect, type SessionView } from '../../src/protocols/postgres/session.ts'
import { taxonomy } from '../../src/protocols/postgres/taxonomy.ts'
import { callOf, permitOf } from '../postgres/connector-kit.ts'
import { cluster } from '../services/postgres.ts'

/** A statement as a tool sends it. `{class:orders}` stands for the OID that name has. */
export interface Sent {
  readonly sql: string
  readonly params?: readonly (string | null)[]
}

/** Columns as name and type, and cells as text. */
export interface Result {
  readonly columns: readonly string[]
  readonly rows: readonly (readonly (string | null)[])[]
}

/** What became of a statement. */
export type Outcome =
  | { readonly is: 'same'; readonly rows: number }
  | { readonly is: 'refused'; readonly reason: string }
  | { readonly is: 'different'; readonly governed: Result; readonly direct: Result }
  | { readonly is: 'failed'; readonly message: string }

export interface Replay {
  /** Plans, decides, runs through the protocol and compares. */
  replay(sent: Sent): Promise<Outcome>
  /** What policy says of it, without running it. */
  judge(sent: Sent): Promise<{ readonly plan: PostgresPlan; readonly decision: Decision }>
  /**
   * What becomes of each statement of a text in a session that has prepared and declared `held`: why it would not run,
   * and what the session holds then.
   */
  inSession(
    sent: Sent,
    held: SessionView,
  ): Promise<{ readonly refusals: readonly string[]; readonly held: SessionView }>
  close(): Promise<void>
}

const POLICY = `
targets: [shop]
rules:
  - {id: clients, effect: allow, principals: [group:people], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:people], actions: [sql.select], resources: ["public.*"]}
masks:
  - {columns: [public.customers.ssn, public.customers.card], transform: redact}
`
const MASKS: readonly ColumnMask[] = ['ssn', 'card'].map((column) => ({
  schema: 'public',
  table: 'customers',
  column,
  transform: 'redact',
}))
/** Makes the twin. Every row is written anew in the order it had, so that answers without an order come in the same one. */
const AS_MASKED = `UPDATE customers SET ssn = '[masked]', card = '[masked]'`
/** The same for the original, so that both have the same size. */
const AS_IT_IS = 'UPDATE customers SET ssn = ssn, card = card'
/** What a session of the gateway starts with. */
const SEARCH_PATH = String.raw`-c search_path="public",\ "pg_temp"`
/** Statements about every database of the server: other suites make and drop theirs meanwhile, so only columns are compared. */
const OF_THE_SERVER = /\bpg_database d\b/u

/** OIDs of what the shop's SQL made, by kind and name. */
const NAMES = `SELECT 'class:' || oid::regclass, oid::text FROM pg_class WHERE oid >= 16384
UNION ALL SELECT 'type:' || oid::regtype, oid::text FROM pg_type WHERE oid >= 16384
UNION ALL SELECT 'proc:' || oid::regprocedure, oid::text FROM pg_proc WHERE oid >= 16384
UNION ALL SELECT 'namespace:' || nspname, oid::text FROM pg_namespace
UNION ALL SELECT 'constraint:' || conname || '@' || conrelid::regclass, oid::text FROM pg_constraint WHERE oid >= 16384
UNION ALL SELECT 'rewrite:' || rulename || '@' || ev_class::regclass, oid::text FROM pg_rewrite WHERE oid >= 16384
UNION ALL SELECT 'attrdef:' || adnum || '@' || adrelid::regclass, oid::text FROM pg_attrdef WHERE oid >= 16384`

export async function openReplay(): Promise<Replay> {
  const server = await cluster('15')
  const name = `t_${randomBytes(6).toString('hex')}`
  const admin = await connected({ ...server, database: 'postgres' })
  await admin.query(`CREATE DATABASE ${name} TEMPLATE template0`)
  const maker = await connected({ ...server, database: name })
  await maker.query(readFileSync(new URL('./shop.sql', import.meta.url), 'utf8'))
  await maker.end()
  await admin.query(`CREATE DATABASE ${name}_twin TEMPLATE ${name}`)
  const direct = await connected({ ...server, database: `${name}_twin`, options: SEARCH_PATH })
  await direct.query(AS_MASKED)
  const own = await connected({ ...server, database: name })
  await own.query(AS_IT_IS)
  await own.end()
  const names = new Map<string, string>((await rowsOf(direct, NAMES)).rows.map(([key, oid]) => [key ?? '', oid ?? '']))
  const { host, port, user, password } = server
  const options = postgresOptions(postgresSchema.parse({ host, port, database: name, tls: 'disable' }))
  const target: Target = {
    name: 'shop',
    protocol: 'postgres',
    labels: {},
    mode: 'enforce',
    record: 'full',
    endpoint: endpointOf(options),
    options,
  }
  const { policy, problems } = loadPolicy([{ path: 'shop.yaml', text: POLICY }], {
    targets: [target],
    taxonomies: [taxonomy],
  })
  if (policy === undefined) throw new Error(JSON.stringify(problems))
  const protocol: Protocol<PostgresPlan> = createPostgres()
  const { signal } = new AbortController()
  const secret = { user, value: password }

  const { rows: databases } = await admin.query<{ oid: string }>(
    'SELECT oid::text FROM pg_database WHERE datname LIKE $1 ORDER BY oid',
    [`${name}%`],
  )
  const [ownOid = '', otherOid = ''] = databases.map(({ oid }) => oid)
  const twin: Twin = {
    asOriginal: (text) =>
      text.replaceAll(`${name}_twin`, name).replaceAll(new RegExp(`\\b${otherOid}\\b`, 'gu'), ownOid),
  }
  names.set('database:shop', ownOid)
  const resolved = (text: string): string =>
    text.replaceAll(/\{([a-z]+:[^{}]+)\}/gu, (whole, key: string) => names.get(key) ?? whole)
  const payloadOf = ({ sql, params }: Sent): { sql: string; params?: readonly (string | null)[] } => ({
    sql: resolved(sql),
    ...(params !== undefined && { params: params.map((param) => (param === null ? null : resolved(param))) }),
  })

  async function judge(
    sent: Sent,
  ): Promise<{ call: ReturnType<typeof callOf>; plan: PostgresPlan; decision: Decision }> {
    const call = callOf(target, payloadOf(sent), signal)
    const plan = await protocol.plan(call, { masks: MASKS, secret: async () => secret, signal })
    const principal = { ...call.session.principal, groups: ['people'] }
    const session = { id: call.session.id, door: 'test' }
    const decision = decide(policy as never, { principal, target, session, action: plan.action, now: 0 })
    return { call, plan, decision }
  }

  async function governed(sent: Sent): Promise<Result | { readonly reason: string }> {
    const { call, plan, decision } = await judge(sent)
    if (decision.effect !== 'allow') return { reason: reasonOf(plan, decision) }
    const columns: string[] = []
    const rows: (string | null)[][] = []
    for await (const chunk of protocol.execute(
      call,
      plan,
      permitOf(signal, { rowsMax: 100_000, bytesMax: 64 * 1024 ** 2 }),
      secret,
    )) {
      if (chunk.kind === 'head') columns.push(...(chunk.columns ?? []).map((column) => `${column.name} ${column.type}`))
      if (chunk.kind === 'data' && chunk.channel === 'rows') rows.push(...(chunk.rows as (string | null)[][]))
    }
    return { columns, rows }
  }

  const keeper = new CatalogKeeper({ target: target.name, options })

  return {
    judge,
    async inSession(sent, held) {
      const { catalog } = await keeper.current(async () => secret, signal)
      const { sql, params } = payloadOf(sent)
      const call = callOf(target, { sql }, signal)
      const under = { masks: MASKS, door: 'session' as const }
      const statements =
        params === undefined
          ? planStatements(sql, catalog, { ...under, session: held }).map(({ plan }) => plan)
          : [planStatement({ sql, params }, catalog, { ...under, session: held })]
      const refusals: string[] = []
      let now = held
      for (const plan of statements) {
        const principal = { ...call.session.principal, groups: ['people'] }
        const session = { id: call.session.id, door: 'test' }
        const decision = decide(policy, { principal, target, session, action: plan.action, now: 0 })
        if (decision.effect !== 'allow') refusals.push(reasonOf(plan, decision))
        else if (plan.refused !== undefined) refusals.push(`${plan.refused.construct} ${plan.refused.message}`)
        now = afterEffect(now, plan.session)
      }
      return { refusals, held: now }
    },
    async replay(sent) {
      let result: Awaited<ReturnType<typeof governed>>
      try {
        result = await governed(sent)
      } catch (error) {
        if (!(error instanceof SallyportError)) throw error
        if (error.code === 'ERR_DENIED') return { is: 'refused', reason: error.message }
        return { is: 'failed', message: `${error.code} ${error.message}` }
      }
      if ('reason' in result) return { is: 'refused', reason: result.reason }
      names.set('database:shop', otherOid)
      const again = payloadOf(sent)
      names.set('database:shop', ownOid)
      const { columns, rows } = await rowsOf(direct, again.sql, again.params)
      const expected = { columns: await typed(direct, columns), rows }
      if (isSame(result, expected, sent.sql, twin)) return { is: 'same', rows: rows.length }
      return { is: 'different', governed: result, direct: expected }
    },
    async close() {
      await protocol.close()
      await keeper.close()
      await direct.end()
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`)
      await admin.query(`DROP DATABASE ${name}_twin WITH (FORCE)`)
      await admin.end()
    },
  }
}

function reasonOf(plan: PostgresPlan, decision: Decision): string {
  const denied = plan.action.parts.filter((_, i) => decision.parts[i]?.effect !== 'allow')
  return denied
    .map(({ verb, resource, attributes }) => {
      const reasons = attributes['reasons']
      return `${verb} ${Array.isArray(reasons) ? reasons.join(' ') : 'name' in resource ? (resource.name ?? '') : '-'}`
    })
    .join('; ')
}

async function connected(config: ConstructorParameters<typeof Client>[0]): Promise<Client> {
  const client = new Client(config)
  client.on('error', () => undefined)
  await client.connect()
  return client
}

/** Names of types, as the session of the gateway writes them, where the raw description has numbers. */
async function typed(client: Client, columns: readonly string[]): Promise<string[]> {
  const known: string[] = []
  for (const column of columns) {
    const [, oid = '', typmod = '', name = ''] = /^(\d+) (-?\d+) (.*)$/su.exec(column) ?? []
    known.push(`${name} ${await typeName(client, oid, typmod)}`)
  }
  return known
}

const typeNames = new Map<string, string>()

async function typeName(client: Client, oid: string, typmod: string): Promise<string> {
  const key = `${client.database ?? ''} ${oid} ${typmod}`
  let name = typeNames.get(key)
  if (name === undefined) {
    await client.query(`SET search_path = ''`)
    const { rows } = await client.query<{ name: string }>('SELECT pg_catalog.format_type($1, $2) AS name', [
      oid,
      typmod,
    ])
    await client.query('RESET search_path')
    typeNames.set(key, (name = rows[0]?.name ?? ''))
  }
  return name
}

/** The twin's own name and number. */
interface Twin {
  asOriginal(text: string): string
}

/** Without ORDER BY at its end, rows may come in any order; the twin has its own name. */
function isSame(governed: Result, direct: Result, sql: string, twin: Twin): boolean {
  const order = (rows: Result['rows']): readonly string[] => {
    const texts = rows.map((row) => JSON.stringify(row))
    return /order\s+by[^()]*$/iu.test(sql) ? texts : texts.sort()
  }
  const text = ({ columns, rows }: Result): string =>
    twin.asOriginal(JSON.stringify([columns, OF_THE_SERVER.test(sql) ? [] : order(rows)]))
  return text(governed) === text(direct)
}

/** Cells as the server wrote them; a column is the numbers of its type and its name. */
async function rowsOf(client: Client, sql: string, params?: readonly (string | null)[]): Promise<Result> {
  await client.query('BEGIN READ ONLY')
  try {
    const raw = { getTypeParser: () => (value: unknown) => value }
    const { fields, rows } = await client.query({
      text: sql,
      values: [...(params ?? [])],
      rowMode: 'array',
      types: raw,
    })
    return {
      columns: fields.map((field) => `${field.dataTypeID} ${field.dataTypeModifier} ${field.name}`),
      rows: rows as unknown as Result['rows'],
    }
  } finally {
    await client.query('ROLLBACK')
  }
}
