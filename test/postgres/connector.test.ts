import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { shopSql } from '../../src/cli/demo/shop.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { createDatabase, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { connectorKit, until, type ConnectorKit } from './connector-kit.ts'

let db: TestDatabase
let role: TestRole
let kit: ConnectorKit

beforeAll(async () => {
  db = await createDatabase(
    `${shopSql()}
     CREATE TABLE public.counter (n integer NOT NULL);
     INSERT INTO public.counter VALUES (0);
     CREATE TABLE public.codes (code text UNIQUE DEFERRABLE INITIALLY DEFERRED);
     CREATE TABLE public.typed (a varchar(12), b numeric(8,3), c timestamptz(2), d char(3), e integer[], f time(1),
       g bit(4), h numeric, i public.customers);
     CREATE FUNCTION public.shout(what text) RETURNS text LANGUAGE plpgsql AS
       $f$ BEGIN RAISE NOTICE 'heard %', what; RETURN upper(what); END $f$;
     CREATE FUNCTION public.bump() RETURNS integer LANGUAGE sql AS
       $f$ UPDATE public.counter SET n = n + 1 RETURNING n $f$;`,
  )
  role = await db.role(
    `GRANT USAGE, CREATE ON SCHEMA public TO $role;
     GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $role`,
  )
  kit = connectorKit(db, role, { pool: 2 })
})
afterAll(async () => {
  await kit.close()
  await db.drop()
})

async function counter(): Promise<number> {
  return (await db.admin.query<{ n: number }>('SELECT n FROM counter')).rows[0]?.n ?? -1
}

async function backends(where: string): Promise<number> {
  const { rows } = await db.admin.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM pg_stat_activity WHERE usename = $1 AND datname = $2 AND ${where}`,
    [role.user, db.name],
  )
  return rows[0]?.n ?? -1
}

describe('a result', () => {
  it('comes as head, rows in text form, exit', async () => {
    const { columns, rows, exit, chunks } = await kit.ask({
      sql: 'SELECT id, name, NULL::text AS nothing FROM customers WHERE id = ANY ($1::int[]) ORDER BY id',
      params: ['{1,2}'],
    })
    expect(columns.map(({ name, type }) => `${name} ${type}`)).toEqual(['id integer', 'name text', 'nothing text'])
    expect(rows).toEqual([
      ['1', expect.any(String), null],
      ['2', expect.any(String), null],
    ])
    expect(exit).toEqual({ kind: 'exit', status: 'SELECT 2', rowCount: 2, truncated: false })
    expect(chunks.map(({ kind }) => kind)).toEqual(['head', 'data', 'exit'])
  })

  it('has a head also when it has no rows', async () => {
    const { columns, rows, exit } = await kit.ask('SELECT id FROM customers WHERE false')
    expect(columns).toEqual([{ name: 'id', type: 'integer' }])
    expect(rows).toEqual([])
    expect(exit.rowCount).toBe(0)
  })

  it('names types as PostgreSQL does', async () => {
    const { columns } = await kit.ask('SELECT * FROM typed')
    const { rows } = await db.admin.query<{ type: string }>(
      `SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute
       WHERE attrelid = 'typed'::regclass AND attnum > 0 ORDER BY attnum`,
    )
    expect(columns.slice(0, 8).map(({ type }) => type)).toEqual(rows.slice(0, 8).map(({ type }) => type))
    expect(columns[8]?.type).toBe('public.customers')
  })

  it('never has more rows than the policy allows, and says that it was cut', async () => {
    const { rows, exit } = await kit.ask('SELECT id FROM orders ORDER BY id', { obligations: { rowsMax: 7 } })
    expect(rows).toHaveLength(7)
    expect(exit).toMatchObject({ truncated: true, truncatedBy: 'rows', rowCount: 7 })
  })

  it.each([
    [299, true],
    [300, false],
    [301, false],
  ])('of 300 rows with a limit of %i is cut: %s', async (rowsMax, truncated) => {
    const { exit } = await kit.ask('SELECT id FROM orders', { obligations: { rowsMax } })
    expect(exit.truncated).toBe(truncated)
  })

  it('has no more rows than the caller asked for, and never more than the policy allows', async () => {
    const less = await kit.ask({ sql: 'SELECT id FROM orders', rowsMax: 3 }, { obligations: { rowsMax: 10 } })
    const more = await kit.ask({ sql: 'SELECT id FROM orders', rowsMax: 30 }, { obligations: { rowsMax: 10 } })
    expect([less.rows.length, more.rows.length]).toEqual([3, 10])
  })

  it('is cut before it exceeds the byte limit', async () => {
    const { rows, exit } = await kit.ask(`SELECT repeat('x', 100) FROM generate_series(1, 500)`, {
      obligations: { bytesMax: 1050 },
    })
    expect(rows).toHaveLength(10)
    expect(exit).toMatchObject({ truncated: true, truncatedBy: 'bytes' })
  })

  it('is refused clearly when its first row alone exceeds the byte limit', async () => {
    const error = await kit.failure(`SELECT repeat('x', 5000)`, { obligations: { bytesMax: 1000 } })
    expect(error.code).toBe('ERR_TOO_LARGE')
    expect(error.message).toContain('5000 bytes')
  })

  it('ends the backend query when far more was sent than may be shown', async () => {
    const { exit } = await kit.ask(`SELECT repeat('x', 100000), pg_sleep(0) FROM generate_series(1, 1000000)`, {
      obligations: { bytesMax: 200_000, rowsMax: 1_000_000 },
    })
    expect(exit).toMatchObject({ truncated: true, truncatedBy: 'bytes', rowCount: 2 })
    expect(await backends(`state = 'active'`)).toBe(0)
  })

  it('never gathers one huge value', async () => {
    const error = await kit.failure(`SELECT repeat('x', 50000000)`, { obligations: { bytesMax: 1e9 } })
    expect(error.code).toBe('ERR_TOO_LARGE')
  })

  it('comes in chunks of tens of kilobytes, and no faster than it is taken', async () => {
    const rss = process.memoryUsage().rss
    let bytes = 0
    let chunks = 0
    for await (const chunk of kit.start(
      { sql: `SELECT repeat('x', 1000) FROM generate_series(1, 100000)` },
      { obligations: { rowsMax: 1e6, bytesMax: 1e9 } },
    )) {
      if (chunk.kind !== 'data' || chunk.channel !== 'rows') continue
      chunks++
      for (const [cell] of chunk.rows) bytes += cell?.length ?? 0
      // A slow consumer: the backend has to wait, not our memory.
      if (chunks % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    expect(bytes).toBe(100_000_000)
    expect(chunks).toBeGreaterThan(200)
    expect(chunks).toBeLessThan(4000)
    expect(process.memoryUsage().rss - rss).toBeLessThan(150e6)
  })
})

describe('a write', () => {
  it('is committed before its exit is told', async () => {
    const { exit } = await kit.ask({ sql: 'UPDATE counter SET n = 41', kind: 'update', readOnly: false })
    expect(exit).toMatchObject({ status: 'UPDATE 1', rowCount: 1, truncated: false })
    expect(await counter()).toBe(41)
  })

  it('runs to its end when only its rows are cut', async () => {
    const { rows, exit } = await kit.ask(
      { sql: `UPDATE products SET stock = 5 RETURNING id`, kind: 'update', readOnly: false },
      { obligations: { rowsMax: 4 } },
    )
    expect(rows).toHaveLength(4)
    expect(exit).toMatchObject({ status: 'UPDATE 40', rowCount: 40, truncated: true })
    const { rows: stock } = await db.admin.query('SELECT DISTINCT stock FROM products')
    expect(stock).toEqual([{ stock: 5 }])
  })

  it('of a function that is called for every row runs for every row', async () => {
    const before = await counter()
    const { rows } = await kit.ask(
      { sql: 'SELECT bump() FROM generate_series(1, 20)', readOnly: false },
      { obligations: { rowsMax: 2 } },
    )
    expect(rows).toHaveLength(2)
    expect(await counter()).toBe(before + 20)
  })

  it('is rolled back when its caller goes away before the end', async () => {
    const before = await counter()
    const stream = kit.start({ sql: 'UPDATE counter SET n = -1 RETURNING n', kind: 'update', readOnly: false })
    await stream.next()
    await stream.return()
    expect(await counter()).toBe(before)
    expect(await backends(`state <> 'idle'`)).toBe(0)
  })

  it('is rolled back when its own row is too large to show', async () => {
    const before = await counter()
    const sql = `UPDATE counter SET n = -1 RETURNING repeat('x', 5000)`
    const error = await kit.failure({ sql, kind: 'update', readOnly: false }, { obligations: { bytesMax: 1000 } })
    expect(error.code).toBe('ERR_TOO_LARGE')
    expect(await counter()).toBe(before)
  })

  it('whose COMMIT fails is reported as rejected', async () => {
    const sql = `INSERT INTO codes VALUES ('a'), ('a')`
    const error = await kit.failure({ sql, kind: 'insert', readOnly: false })
    expect(error).toMatchObject({ code: 'ERR_UPSTREAM_REJECTED', facts: { sqlstate: '23505' } })
    expect((await db.admin.query('SELECT FROM codes')).rowCount).toBe(0)
  })

  it('whose COMMIT got no answer has an unknown outcome, and says so', async () => {
    // A deferred trigger runs inside COMMIT; there it ends its own backend.
    await db.admin.query(`
      CREATE TABLE public.doomed (a int);
      GRANT INSERT ON public.doomed TO ${role.user};
      CREATE FUNCTION public.die() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        $f$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); RETURN NULL; END $f$;
      CREATE CONSTRAINT TRIGGER die AFTER INSERT ON public.doomed DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.die()`)
    const error = await kit.failure({ sql: 'INSERT INTO doomed VALUES (1)', kind: 'insert', readOnly: false })
    expect(error.code).toBe('ERR_OUTCOME_UNKNOWN')
  })
})

describe('the READ ONLY belt', () => {
  it.each([
    'WITH gone AS (DELETE FROM orders RETURNING 1) SELECT count(*) FROM gone',
    'SELECT bump()',
    `SELECT set_config('transaction_read_only', 'off', false)`,
    'SELECT id FROM orders LIMIT 1 FOR UPDATE',
  ])('holds %s', async (sql) => {
    const before = await counter()
    const error = await kit.failure({ sql, readOnly: true })
    expect(error.code).toBe('ERR_UPSTREAM_REJECTED')
    expect(['25006', '25001', '55000']).toContain(error.facts.sqlstate)
    expect(await counter()).toBe(before)
  })

  it('holds SET TRANSACTION READ WRITE, because a query has run before it', async () => {
    const error = await kit.failure({ sql: 'SET TRANSACTION READ WRITE', readOnly: true })
    expect(error.facts.sqlstate).toBe('25001')
  })

  it('holds a second statement after the first', async () => {
    const error = await kit.failure({ sql: 'SELECT 1; UPDATE counter SET n = -5', readOnly: true })
    expect(error.facts.sqlstate).toBe('42601')
  })
})

describe('cancelling', () => {
  it('ends the query at the backend and not only here', async () => {
    const controller = new AbortController()
    const why = new SallyportError('ERR_CANCELLED', 'The caller cancelled the call.')
    const asked = kit.failure('SELECT pg_sleep(60)', { signal: controller.signal })
    await until(async () => (await backends(`query LIKE '%pg_sleep(60)%' AND state = 'active'`)) === 1)
    controller.abort(why)
    expect(await asked).toBe(why)
    expect(await backends(`query LIKE '%pg_sleep(60)%' AND state = 'active'`)).toBe(0)
  })

  it('of a write leaves nothing of it', async () => {
    const before = await counter()
    const controller = new AbortController()
    const sql = 'WITH w AS (UPDATE counter SET n = -9 RETURNING n) SELECT n, pg_sleep(61) FROM w'
    const asked = kit.failure({ sql, readOnly: false }, { signal: controller.signal })
    await until(async () => (await backends(`query LIKE '%pg_sleep(61)%' AND state = 'active'`)) === 1)
    controller.abort()
    expect((await asked).code).toBe('ERR_CANCELLED')
    expect(await counter()).toBe(before)
  })

  it('happens when the caller stops pulling in the middle of a long result', async () => {
    const stream = kit.start(
      { sql: `SELECT repeat('y', 10000) FROM generate_series(1, 1000000)` },
      { obligations: { rowsMax: 1e6, bytesMax: 1e9 } },
    )
    await stream.next()
    await stream.next()
    await stream.return()
    // The statement has ended; its session goes as soon as the server sees that nobody holds it.
    expect(await backends(`state = 'active'`)).toBe(0)
    await until(async () => (await backends(`state <> 'idle'`)) === 0)
    expect((await kit.ask('SELECT 1')).rows).toEqual([['1']])
  })

  it('does not need the caller to pull', async () => {
    const controller = new AbortController()
    const stream = kit.start(
      { sql: `SELECT repeat('z', 10000) FROM generate_series(1, 1000000)` },
      { obligations: { rowsMax: 1e6, bytesMax: 1e9 }, signal: controller.signal },
    )
    await stream.next()
    await until(async () => (await backends(`query LIKE '%repeat(''z''%' AND state = 'active'`)) === 1)
    controller.abort()
    await until(async () => (await backends(`query LIKE '%repeat(''z''%' AND state = 'active'`)) === 0)
    await expect(stream.next().then(() => stream.next())).rejects.toMatchObject({ code: 'ERR_CANCELLED' })
  })

  it('by the time limit of the policy is a timeout', async () => {
    const error = await kit.failure('SELECT pg_sleep(62)', { obligations: { timeoutMs: 150 } })
    expect(error.code).toBe('ERR_TIMEOUT')
    await until(async () => (await backends(`query LIKE '%pg_sleep(62)%' AND state = 'active'`)) === 0)
  })

  it('while the call waits for a connection frees its place', async () => {
    const holders = [1, 2].map(() => kit.start({ sql: 'SELECT 1', readOnly: false }))
    for (const holder of holders) await holder.next()
    const controller = new AbortController()
    const waiting = kit.failure('SELECT 2', { signal: controller.signal })
    controller.abort(new SallyportError('ERR_CANCELLED', 'Gone.'))
    expect((await waiting).code).toBe('ERR_CANCELLED')
    for (const holder of holders) await holder.return()
    expect((await kit.ask('SELECT 3')).rows).toEqual([['3']])
  })
})

describe('C10: what the backend says', () => {
  const masks = [{ schema: 'public', table: 'customers', column: 'ssn', transform: 'redact' }] as const

  it('without masks keeps the message and where it points, and never the detail', async () => {
    const error = await kit.failure(`SELECT nope FROM customers`)
    expect(error).toMatchObject({ code: 'ERR_UPSTREAM_REJECTED', facts: { sqlstate: '42703' } })
    expect(error.message).toContain('column "nope" does not exist at character 8')
    const sql = `INSERT INTO customers SELECT 999, name, email, ssn FROM customers WHERE id = 1`
    const unique = await kit.failure({ sql, kind: 'insert', readOnly: false })
    expect(JSON.stringify(unique) + unique.message).not.toContain('@example.com')
  })

  it('with any mask keeps only what the SQLSTATE says', async () => {
    const attempts = [
      'SELECT ssn::int FROM customers',
      `INSERT INTO customers SELECT 999, name, email, ssn FROM customers WHERE id = 1`,
      `DO $$ BEGIN RAISE EXCEPTION '%', (SELECT ssn FROM customers LIMIT 1); END $$`,
    ]
    const { rows } = await db.admin.query<{ ssn: string; email: string }>('SELECT ssn, email FROM customers')
    for (const sql of attempts) {
      const error = await kit.failure({ sql, kind: 'unknown', readOnly: false }, { masks })
      expect(error.code).toBe('ERR_UPSTREAM_REJECTED')
      const said = JSON.stringify([error, error.message, error.cause])
      for (const { ssn, email } of rows) expect(said.includes(ssn) || said.includes(email)).toBe(false)
    }
  })

  it('passes notices on without masks, and only their SQLSTATE with them', async () => {
    const open = await kit.ask({ sql: `SELECT shout('rain')`, readOnly: false })
    expect(open.notices).toEqual([{ kind: 'notice', severity: 'NOTICE', text: 'heard rain' }])
    const masked = await kit.ask({ sql: `SELECT shout('rain')`, readOnly: false }, { masks })
    expect(masked.notices).toEqual([{ kind: 'notice', severity: 'NOTICE', text: 'SQLSTATE 00000' }])
  })
})

describe('C9: the tripwire', () => {
  it.each([
    ['a masked column', 'SELECT id, ssn FROM customers'],
    ['a masked column under another name', 'SELECT x.s FROM (SELECT ssn AS s FROM customers) x'],
    ['a whole row', 'SELECT c FROM customers c'],
  ])('stops a result that shows %s', async (_, sql) => {
    const { rows } = await db.admin.query<{ oid: number; attnum: number }>(
      `SELECT attrelid::int AS oid, attnum FROM pg_attribute WHERE attrelid = 'customers'::regclass AND attname = 'ssn'`,
    )
    const tripwire = rows.map(({ oid, attnum }) => ({ relation: oid, attnum, transform: 'redact' as const }))
    const seen: string[] = []
    const stream = kit.start({ sql, tripwire })
    const error = await (async () => {
      for await (const chunk of stream) seen.push(chunk.kind)
      return undefined
    })().catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'ERR_DENIED', facts: { construct: 'sql.mask.tripwire' } })
    expect(seen).toEqual([])
  })
})

describe('COPY', () => {
  it.each(['COPY orders TO STDOUT', 'COPY counter FROM STDIN'])('%s is refused and leaves nothing', async (sql) => {
    const error = await kit.failure({ sql, kind: 'unknown', readOnly: false })
    expect(error.code).toBe('ERR_INVALID_INPUT')
    expect((await kit.ask('SELECT 1')).rows).toEqual([['1']])
  })
})
