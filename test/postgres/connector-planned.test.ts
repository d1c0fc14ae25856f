import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { shopSql } from '../../src/cli/demo/shop.ts'
import type { Protocol } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { SallyportError } from '../../src/core/errors.ts'
import type { Target } from '../../src/core/target.ts'
import { createPostgres, POSTGRES_SETTINGS } from '../../src/protocols/postgres/index.ts'
import type { PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { createDatabase, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { callOf, permitOf } from './connector-kit.ts'

let db: TestDatabase
let role: TestRole
let target: Target
let protocol: Protocol<PostgresPlan>
let secrets: string[]

const masks = ['ssn', 'card'].map(
  (column) => ({ schema: 'public', table: 'customers', column, transform: 'redact' }) as const,
)

beforeAll(async () => {
  db = await createDatabase(shopSql())
  role = await db.role('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $role')
  const { host, port, name } = db
  const raw = POSTGRES_SETTINGS.schema.parse({ host, port, database: name, tls: 'disable' })
  target = {
    name: 'shop-db',
    protocol: 'postgres',
    labels: {},
    mode: 'enforce',
    record: 'full',
    ...POSTGRES_SETTINGS.finish(raw, (path) => path),
  }
  protocol = createPostgres()
  const { rows } = await db.admin.query<{ ssn: string; card: string | null }>('SELECT ssn, card FROM customers')
  secrets = rows.flatMap(({ ssn, card }) => (card === null ? [ssn] : [ssn, card]))
})
afterAll(async () => {
  await protocol.close()
  await db.drop()
})

/** Plans and executes as the spine does, policy apart. */
async function ask(
  sql: string,
  params: readonly (string | number)[] = [],
  between?: () => Promise<unknown>,
): Promise<Chunk[]> {
  const { signal } = new AbortController()
  const secret = { user: role.user, value: role.password }
  const call = callOf(target, { sql, params }, signal)
  const plan = await protocol.plan(call, { masks, secret: async () => secret, signal })
  await between?.()
  const chunks: Chunk[] = []
  for await (const chunk of protocol.execute(call, plan, permitOf(signal), secret)) chunks.push(chunk)
  return chunks
}

describe('C9: a planned and executed statement', () => {
  it.each([
    'SELECT * FROM customers',
    'SELECT ssn FROM customers',
    `SELECT c.name || ' ' || c.ssn AS both FROM customers c`,
    'SELECT row_to_json(c) FROM customers c',
    'SELECT upper(card) FROM customers UNION SELECT ssn FROM customers',
    'WITH x AS (SELECT * FROM customers) SELECT x.card, o.id FROM x JOIN orders o ON o.customer_id = x.id',
    'SELECT customers FROM customers',
    'SELECT ssn::int FROM customers',
    'SELECT array_agg(ssn ORDER BY ssn) FROM customers',
    'SELECT * FROM customer_view',
    'TABLE customers',
    'UPDATE customers SET plan = plan RETURNING ssn',
  ])('never shows a masked value, in rows or in what goes wrong: %s', async (sql) => {
    const said = await ask(sql).then(
      (chunks) => JSON.stringify(chunks),
      (error: SallyportError) => JSON.stringify([error, error.message, error.detail, String(error.cause)]),
    )
    expect(secrets.filter((secret) => said.includes(secret))).toEqual([])
    expect(said).not.toContain('ERR_INTERNAL')
  })

  it('marks the columns it masked', async () => {
    const [head] = await ask('SELECT id, ssn FROM customers LIMIT 1')
    expect(head).toMatchObject({ kind: 'head', columns: [{ name: 'id' }, { name: 'ssn', masked: 'redact' }] })
  })

  it('runs with its parameters', async () => {
    const chunks = await ask('SELECT count(*) FROM orders WHERE status = $1 AND total > $2', ['delivered', 100])
    const { rows } = await db.admin.query<{ n: string }>(
      `SELECT count(*) AS n FROM orders WHERE status = 'delivered' AND total > 100`,
    )
    expect(chunks[1]).toMatchObject({ kind: 'data', rows: [[rows[0]?.n]] })
  })

  it('is committed when it writes', async () => {
    const chunks = await ask(`UPDATE orders SET status = 'paid' WHERE id = $1`, [7])
    expect(chunks.at(-1)).toMatchObject({ kind: 'exit', status: 'UPDATE 1', rowCount: 1 })
    const { rows } = await db.admin.query('SELECT status FROM orders WHERE id = 7')
    expect(rows).toEqual([{ status: 'paid' }])
  })
})

describe('C8: a schema that changes after the plan was made', () => {
  const VIEW = 'CREATE VIEW public.staff AS SELECT id, ssn AS name FROM public.customers'

  it.each([
    ['a table becomes a view over a masked one', `ALTER TABLE staff RENAME TO old_staff; ${VIEW}`],
    ['a view is replaced', `CREATE OR REPLACE VIEW plain AS SELECT id, card AS name FROM customers`],
    ['a masked table takes the name of an open one', 'DROP TABLE staff CASCADE; ALTER TABLE customers RENAME TO staff'],
    [
      'a policy function is replaced',
      `CREATE OR REPLACE FUNCTION spell(t text) RETURNS text LANGUAGE sql STABLE
      RETURN (SELECT ssn FROM public.customers LIMIT 1)`,
    ],
  ])('does not run when %s', async (what, ddl) => {
    await db.admin.query(`
      CREATE TABLE staff (id int, name text); INSERT INTO staff VALUES (1, 'Ada');
      CREATE VIEW plain AS SELECT id, note AS name FROM orders WHERE id = 1;
      CREATE FUNCTION spell(t text) RETURNS text LANGUAGE sql STABLE RETURN upper(t);
      GRANT SELECT ON staff, plain TO ${role.user}`)
    const sql = what.includes('function')
      ? 'SELECT id, spell(name) FROM staff'
      : `SELECT id, name FROM ${what.includes('view is') ? 'plain' : 'staff'}`
    try {
      const said = await ask(sql, [], () =>
        db.admin.query(`${ddl}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${role.user}`),
      ).then(
        (chunks) => JSON.stringify(chunks),
        (error: SallyportError) => `${error.code} ${error.message}`,
      )
      expect(secrets.filter((secret) => said.includes(secret))).toEqual([])
      expect(said).toMatch(/^ERR_(DENIED|UPSTREAM_REJECTED) /u)
      // The backend's own error would mean that the statement was tried.
      expect(said).not.toContain('The database rejected')
    } finally {
      await db.admin.query(`
        DO $$ BEGIN IF to_regclass('customers') IS NULL THEN ALTER TABLE staff RENAME TO customers; END IF; END $$;
        DROP VIEW IF EXISTS plain; DROP FUNCTION IF EXISTS spell`)
      const { rows } = await db.admin.query<{ kind: string }>(
        `SELECT relkind AS kind FROM pg_class WHERE relname = 'staff'`,
      )
      await db.admin.query(rows[0]?.kind === 'v' ? 'DROP VIEW staff' : 'DROP TABLE IF EXISTS staff')
      await db.admin.query('DROP TABLE IF EXISTS old_staff')
    }
  })

  it('does not run when the same text came to read more than was judged', async () => {
    await db.admin.query(`CREATE TABLE pay (id int); GRANT SELECT ON pay TO ${role.user}`)
    const asked = ask('SELECT * FROM pay', [], () => db.admin.query('ALTER TABLE pay ADD COLUMN salary int'))
    await expect(asked).rejects.toThrow(/changed after the call was judged; nothing ran/u)
  })

  it('runs when what changed is none of its business', async () => {
    const chunks = await ask('SELECT count(*) FROM orders', [], () => db.admin.query('CREATE TABLE elsewhere (a int)'))
    expect(chunks[1]).toMatchObject({ rows: [['300']] })
  })
})
