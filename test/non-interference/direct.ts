/** The same question without a gateway between: what PostgreSQL itself would let the role see. */
import { Client, type Notification, type QueryResult } from 'pg'
import type { TestDatabase, TestRole } from '../services/postgres.ts'
import { rawIn } from './secrets.ts'
import type { World } from './world.ts'

/** How often an attempt must tell the copies apart to be believed: a busy machine does not do so thrice. */
const TRIES = 3

/**
 * The statements by which the copies could be told apart, or that show a masked value they did not bring along, each
 * time they are asked. What differs between the first copy and its twin as well is no secret.
 */
export async function flagged(world: World, statements: readonly string[]): Promise<readonly string[]> {
  const copies = world.databases
  const told: string[] = []
  const clients = await Promise.all(copies.map((db) => open(db, world.role)))
  const isTold = async (sql: string): Promise<boolean> => {
    const seen = await Promise.all(clients.map((client, i) => answer(client, copies[i] as TestDatabase, sql)))
    const twin = seen.pop()
    if (twin === seen[0] && new Set(seen).size > 1) return true
    return rawIn(sql) === undefined && seen.some((text) => rawIn(text) !== undefined)
  }
  try {
    for (const sql of statements) {
      let tries = 0
      while (tries < TRIES && (await isTold(sql))) tries += 1
      if (tries === TRIES) told.push(sql)
    }
  } finally {
    await Promise.all(clients.map((client) => client.end()))
  }
  return told
}

/** Result columns as PostgreSQL describes them to a client that asks it directly, as `name type`. */
export async function columnsOf(client: Client, sql: string): Promise<readonly string[] | undefined> {
  await client.query('BEGIN')
  try {
    const { fields } = await client.query(sql)
    await client.query('SET LOCAL search_path = pg_catalog')
    const { rows } = await client.query<{ type: string }>(
      `SELECT format_type(o, CASE WHEN t = -1 THEN NULL ELSE t END) AS type FROM unnest($1::oid[], $2::int[]) WITH ORDINALITY u(o, t, n) ORDER BY n`,
      [fields.map(({ dataTypeID }) => dataTypeID), fields.map(({ dataTypeModifier }) => dataTypeModifier)],
    )
    return fields.map(({ name }, i) => `${name} ${rows[i]?.type ?? ''}`)
  } catch {
    return undefined
  } finally {
    await client.query('ROLLBACK')
  }
}

export async function open({ host, port, name }: TestDatabase, { user, password }: TestRole): Promise<Client> {
  const client = new Client({ host, port, database: name, user, password, types: { getTypeParser: () => String } })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

async function answer(client: Client, db: TestDatabase, sql: string): Promise<string> {
  const said: string[] = []
  const notice = ({ message }: { readonly message?: string | undefined }): void => void said.push(message ?? '')
  const told = ({ payload = '' }: Notification): void => void said.push(payload)
  const copied = ({ chunk }: { chunk: Buffer }): void => void said.push(chunk.toString('latin1'))
  const { connection } = client as unknown as { connection: NodeJS.EventEmitter }
  client.on('notice', notice).on('notification', told)
  connection.on('copyData', copied)
  try {
    await client.query(`BEGIN; SET LOCAL statement_timeout = '2s'`)
    const results = await client.query<unknown[]>({ text: sql, rowMode: 'array' })
    for (const { rows, rowCount } of [results].flat() as QueryResult<unknown[]>[])
      said.push(JSON.stringify([rows, rowCount]))
  } catch (error) {
    const { message, detail, where, code } = error as Record<string, unknown>
    said.push(JSON.stringify([message, detail, where, code]))
  } finally {
    await client.query('ROLLBACK')
    client.off('notice', notice).off('notification', told)
    connection.off('copyData', copied)
  }
  return said.join('\n').replaceAll(db.name, 'DB')
}
