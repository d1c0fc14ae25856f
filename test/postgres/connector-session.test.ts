import { setMaxListeners } from 'node:events'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { shopSql } from '../../src/cli/demo/shop.ts'
import type { SallyportError } from '../../src/core/errors.ts'
import { createDatabase, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { connectorKit, until, type ConnectorKit, type Payload } from './connector-kit.ts'

let db: TestDatabase
let role: TestRole
let kit: ConnectorKit

beforeAll(async () => {
  db = await createDatabase(
    `${shopSql()}
     CREATE FUNCTION public.dirty() RETURNS integer LANGUAGE plpgsql AS $f$ BEGIN
       PERFORM set_config('work_mem', '65kB', false);
       PERFORM set_config('myapp.secret', 'stolen', false);
       CREATE TEMPORARY TABLE IF NOT EXISTS customers (id int, ssn text);
       PERFORM pg_advisory_lock(4711);
       EXECUTE 'PREPARE leftover AS SELECT 1';
       EXECUTE 'LISTEN gossip';
       EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT 1';
       RETURN 1; END $f$;
     CREATE FUNCTION public.unpin(name text, value text) RETURNS text LANGUAGE sql AS
       'SELECT set_config(name, value, false)';`,
  )
  role = await db.role(
    `GRANT USAGE, CREATE ON SCHEMA public TO $role;
     GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $role`,
  )
  // One connection, so that whatever a call leaves behind meets the next one.
  kit = connectorKit(db, role, { pool: 1 })
})
afterAll(async () => {
  await kit.close()
  await db.drop()
})

/** Everything a session can carry from one call to the next, as the backend sees it. */
const TRACES = `SELECT current_setting('work_mem'), COALESCE(current_setting('myapp.secret', true), ''),
  (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
  (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
  (SELECT count(*) FROM pg_prepared_statements WHERE name <> ''),
  (SELECT count(*) FROM pg_listening_channels()),
  (SELECT count(*) FROM pg_cursors WHERE is_holdable),
  current_user, session_user, current_setting('search_path')`

const unknown = (sql: string): Payload => ({ sql, kind: 'unknown', readOnly: false })

describe('C7: nothing of a session reaches the next call', () => {
  it.each([
    [`SET work_mem = '66kB'`],
    [`SET myapp.secret = 'mine'`],
    ['PREPARE leftover AS SELECT 1'],
    ['CREATE TEMPORARY TABLE customers (id int, ssn text)'],
    ['SELECT pg_advisory_lock(4712)'],
    ['LISTEN gossip'],
    ['DECLARE held CURSOR WITH HOLD FOR SELECT 1'],
    ['SET search_path = internal'],
    ['SET ROLE pg_read_all_stats'],
    [`DO $$ BEGIN PERFORM dirty(); END $$`],
    ['COMMIT'],
    ['ROLLBACK'],
    ['BEGIN'],
  ])('after %s, which the policy let through as unknown', async (sql) => {
    const clean = (await kit.ask({ sql: TRACES, readOnly: false })).rows
    await kit.ask(unknown(sql)).catch(() => undefined)
    expect((await kit.ask({ sql: TRACES, readOnly: false })).rows).toEqual(clean)
  })

  it('and a session that ran what was not understood is not used again at all', async () => {
    const pid = async (): Promise<unknown> => (await kit.ask('SELECT pg_backend_pid()')).rows[0]?.[0]
    const before = await pid()
    expect(await pid()).toBe(before)
    await kit.ask(unknown('SELECT 1'))
    expect(await pid()).not.toBe(before)
  })

  it('after a function that a rule allowed to be called', async () => {
    const clean = (await kit.ask({ sql: TRACES, readOnly: false })).rows
    expect((await kit.ask({ sql: 'SELECT dirty()', kind: 'select', readOnly: false })).exit.status).toBe('SELECT 1')
    expect((await kit.ask({ sql: TRACES, readOnly: false })).rows).toEqual(clean)
  })

  it('after a call that was abandoned in the middle', async () => {
    const stream = kit.start({ sql: 'SELECT dirty() FROM generate_series(1, 1)', kind: 'select', readOnly: false })
    await stream.next()
    await stream.return()
    expect((await kit.ask({ sql: TRACES, readOnly: false })).rows[0]?.[1]).toBe('')
  })
})

describe('C7: the session means what the plan thinks', () => {
  const PROBE = `SELECT current_setting('standard_conforming_strings'), current_setting('client_encoding'),
    current_setting('search_path'), current_setting('DateStyle'), 'a\\'`

  it('has its pins, whatever the role and the database say', async () => {
    const drifting = await db.role(`
      ALTER ROLE $role SET standard_conforming_strings = off;
      ALTER ROLE $role SET client_encoding = 'SJIS';
      ALTER ROLE $role SET search_path = internal, public;
      ALTER ROLE $role SET backslash_quote = on;
      ALTER ROLE $role SET default_transaction_read_only = on;
      ALTER ROLE $role SET DateStyle = 'German'`)
    const other = connectorKit(db, drifting)
    try {
      const { rows } = await other.ask(PROBE)
      expect(rows).toEqual([['on', 'UTF8', '"public", "pg_temp"', 'ISO, MDY', 'a\\']])
      // The attack the pin is for: one statement to the parser, two to a backend that reads \' as a quote.
      const attack = `SELECT 'a\\' , 'b; DROP TABLE orders; --'`
      expect((await other.ask(attack)).rows).toEqual([['a\\', 'b; DROP TABLE orders; --']])
    } finally {
      await other.close()
    }
  })

  it.each([
    ['standard_conforming_strings', 'off'],
    ['backslash_quote', 'on'],
    ['search_path', 'internal'],
    ['row_security', 'off'],
  ])('refuses a session in which a login trigger set %s to %s', async (name, value) => {
    const other = connectorKit(db, role)
    await db.admin.query(`
      CREATE FUNCTION public.greet() RETURNS event_trigger LANGUAGE plpgsql AS
        $f$ BEGIN PERFORM set_config('${name}', '${value}', false); END $f$;
      CREATE EVENT TRIGGER greet ON login EXECUTE FUNCTION public.greet()`)
    try {
      const error = await other.failure('SELECT 1')
      expect(error.code).toBe('ERR_UPSTREAM_REJECTED')
      expect(error.message).toContain(`setting ${name}`)
    } finally {
      await db.admin.query('DROP EVENT TRIGGER greet; DROP FUNCTION public.greet()')
      await other.close()
    }
  })

  it('refuses a session that is another role than the one that logged in', async () => {
    const powerful = await db.role()
    const weak = await db.role(`GRANT ${powerful.user} TO $role; ALTER ROLE $role SET role = '${powerful.user}'`)
    const other = connectorKit(db, weak)
    try {
      const error = await other.failure('SELECT 1')
      expect(error.code).toBe('ERR_UPSTREAM_REJECTED')
      expect(error.message).toContain('setting role')
    } finally {
      await other.close()
    }
  })

  it.each([
    ['standard_conforming_strings', 'off', true],
    ['client_encoding', 'SJIS', true],
    ['search_path', 'internal', true],
    ['DateStyle', 'German', true],
    ['backslash_quote', 'on', false],
    ['row_security', 'off', false],
  ])('gives up a connection on which %s was changed to %s', async (name, value, isReported) => {
    const unpin: Payload = { sql: 'SELECT unpin($1, $2)', params: [name, value], kind: 'select', readOnly: false }
    // Settings the backend reports end the call; what it does not report is gone with the session's other traces.
    const codes = await kit.ask(unpin).then(
      () => 'done',
      (error: SallyportError) => error.code,
    )
    expect(codes).toBe(isReported ? 'ERR_UPSTREAM_REJECTED' : 'done')
    expect((await kit.ask(PROBE)).rows).toEqual([['on', 'UTF8', '"public", "pg_temp"', 'ISO, MDY', 'a\\']])
  })

  it('finds the real table although a temporary one has its name', async () => {
    const { rows } = await kit.ask({
      sql: `SELECT dirty(), (SELECT count(*) FROM customers)`,
      kind: 'select',
      readOnly: false,
    })
    expect(rows).toEqual([['1', '50']])
  })
})

describe('C8: a schema that changes between planning and execution', () => {
  it('sends the call back when nothing would tell that it means the same', async () => {
    const masks = [{ schema: 'public', table: 'customers', column: 'ssn', transform: 'redact' }] as const
    const error = await kit.failure('SELECT id, status FROM orders LIMIT 1', {
      masks,
      between: () =>
        db.admin.query(`BEGIN; ALTER TABLE orders RENAME TO x; ALTER TABLE customers RENAME TO orders;
          ALTER TABLE x RENAME TO customers; COMMIT`),
    })
    expect(error).toMatchObject({ code: 'ERR_DENIED', facts: { construct: 'sql.mask.binding' } })
    const later = await kit.failure('SELECT 1')
    expect(later.message).toContain('nothing runs on this target')
    await db.admin.query(`BEGIN; ALTER TABLE orders RENAME TO x; ALTER TABLE customers RENAME TO orders;
      ALTER TABLE x RENAME TO customers; COMMIT`)
    expect((await kit.ask('SELECT 1')).rows).toEqual([['1']])
  })

  it('lets a call run that means the same as before', async () => {
    const { rows } = await kit.ask('SELECT count(*) FROM orders', {
      between: () => db.admin.query('CREATE TABLE unrelated (a int)'),
    })
    expect(rows).toEqual([['300']])
  })

  it('runs nothing of the statement when the guard fails', async () => {
    await db.admin.query('CREATE SEQUENCE seen')
    await db.admin.query(`GRANT ALL ON SEQUENCE seen TO ${role.user}`)
    const { rows } = await kit.ask(
      { sql: `SELECT nextval('seen')`, kind: 'select', readOnly: false },
      { between: () => db.admin.query('CREATE TABLE unrelated_too (a int)') },
    )
    // The first attempts were stopped before Execute: a sequence would remember them, rolled back or not.
    expect(rows).toEqual([['1']])
  })

  it('is not taken for one that changed when only data was written', async () => {
    const { rows } = await kit.ask('SELECT stock FROM products WHERE id = 1', {
      between: () => db.admin.query('UPDATE products SET stock = 77 WHERE id = 1'),
    })
    expect(rows).toEqual([['77']])
  })
})

describe('the pool', () => {
  it('serves many callers with few connections, and each gets its own answer', async () => {
    const few = connectorKit(db, role, { pool: 5 })
    try {
      const answers = await Promise.all(
        Array.from({ length: 40 }, (_, index) =>
          few.ask({ sql: 'SELECT $1::int, pg_sleep(0.01)', params: [`${index}`] }),
        ),
      )
      expect(answers.map(({ rows }) => rows[0]?.[0])).toEqual(Array.from({ length: 40 }, (_, index) => `${index}`))
      const { rows } = await db.admin.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM pg_stat_activity WHERE usename = $1 AND application_name = 'sallyport'`,
        [role.user],
      )
      // Five, one for the catalog, and the two of the other kit.
      expect(rows[0]?.n).toBeLessThanOrEqual(8)
    } finally {
      await few.close()
    }
  })

  it('tells a caller to come back when too many wait already', async () => {
    const narrow = connectorKit(db, role, { pool: 1 })
    const controller = new AbortController()
    setMaxListeners(0, controller.signal)
    try {
      const holder = narrow.start({ sql: 'SELECT 1', readOnly: false })
      await holder.next()
      const waiting = Array.from({ length: 20 }, () => narrow.failure('SELECT 1', { signal: controller.signal }))
      const first = await Promise.race(waiting)
      expect(first).toMatchObject({ code: 'ERR_LIMIT_CONCURRENCY', facts: { retryAfterMs: expect.any(Number) } })
      controller.abort()
      const codes = (await Promise.all(waiting)).map(({ code }) => code)
      expect(codes.filter((code) => code === 'ERR_CANCELLED')).toHaveLength(8)
      await holder.return()
    } finally {
      await narrow.close()
    }
  })

  it('makes new connections when the secret was rotated, and closes the idle old ones', async () => {
    const rotating = await db.role('GRANT SELECT ON customers TO $role')
    const other = connectorKit(db, rotating)
    try {
      await other.ask('SELECT 1')
      await db.admin.query(`ALTER ROLE ${rotating.user} PASSWORD 'rotated'`)
      const { rows } = await other.ask('SELECT count(*) FROM customers', {
        role: { user: rotating.user, password: 'rotated' },
      })
      expect(rows).toEqual([['50']])
      const wrong = await other.failure('SELECT 1', { role: { user: rotating.user, password: 'guessed' } })
      expect(wrong.code).toBe('ERR_UPSTREAM_AUTH')
    } finally {
      await other.close()
    }
  })

  it('replaces a connection the server closed while nobody used it', async () => {
    await kit.ask('SELECT 1')
    await db.admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND pid <> pg_backend_pid()`,
      [role.user],
    )
    expect((await kit.ask('SELECT 2')).rows).toEqual([['2']])
  })

  it('reports a connection that is lost in the middle of a statement, and goes on with another', async () => {
    const asked = kit.failure('SELECT pg_sleep(63)')
    const running = `FROM pg_stat_activity WHERE query LIKE '%pg_sleep(63)%' AND usename = '${role.user}' AND state = 'active'`
    await until(async () => (await db.admin.query(`SELECT ${running}`)).rowCount === 1)
    await db.admin.query(`SELECT pg_terminate_backend(pid) ${running}`)
    expect((await asked).code).toBe('ERR_UPSTREAM_LOST')
    expect((await kit.ask('SELECT 1')).rows).toEqual([['1']])
  })

  it('leaves no connection when it is closed', async () => {
    const passing = await db.role('GRANT SELECT ON customers TO $role')
    const other = connectorKit(db, passing)
    await other.ask('SELECT 1')
    await other.close()
    const left = `SELECT FROM pg_stat_activity WHERE usename = '${passing.user}'`
    await until(async () => (await db.admin.query(left)).rowCount === 0)
    expect((await other.failure('SELECT 1')).code).toBe('ERR_SHUTTING_DOWN')
  })
})

describe('a backend that cannot be used', () => {
  async function failureWith(config: Record<string, unknown>, login: Partial<TestRole> = {}) {
    const other = connectorKit(db, { ...role, ...login }, config)
    try {
      return await other.failure('SELECT 1')
    } finally {
      await other.close()
    }
  }

  it('that is not there is named by target, not by address', async () => {
    const error = await failureWith({ port: 1 })
    expect(error.code).toBe('ERR_UPSTREAM_UNREACHABLE')
    expect(error.message).toContain('shop-db')
    expect(error.message).not.toContain('127.0.0.1')
  })

  it('that refuses our password says so without it', async () => {
    const error = await failureWith({}, { password: 'wrong-pass-word' })
    expect(error.code).toBe('ERR_UPSTREAM_AUTH')
    expect(JSON.stringify([error, error.message, String(error.cause), error.stack])).not.toContain('wrong-pass-word')
  })

  it('that has no such database', async () => {
    const error = await failureWith({ database: 'nowhere' })
    expect(error.code).toBe('ERR_UPSTREAM_UNREACHABLE')
    expect(error.message).toContain('no such database')
  })

  it('that offers no TLS is refused, because TLS is the default', async () => {
    const error = await failureWith({ tls: 'verify' })
    expect(error.code).toBe('ERR_UPSTREAM_UNREACHABLE')
    expect(error.message).toContain('offers no TLS')
  })

  it('never gets a password or a user from our own environment', async () => {
    const before = { ...process.env }
    Object.assign(process.env, { PGPASSWORD: role.password, PGUSER: role.user, PGOPTIONS: '-c search_path=internal' })
    try {
      expect((await failureWith({}, { password: '' })).code).toBe('ERR_UPSTREAM_AUTH')
      expect((await kit.ask('SHOW search_path')).rows).toEqual([['"public", "pg_temp"']])
    } finally {
      for (const name of ['PGPASSWORD', 'PGUSER', 'PGOPTIONS']) {
        if (before[name] === undefined) delete process.env[name]
        else process.env[name] = before[name]
      }
    }
  })
})

describe('describing a target', () => {
  it('lists tables and columns, the part a read of them has, and nothing of the system', async () => {
    const signal = new AbortController().signal
    const secret = async () => ({ user: role.user, value: role.password })
    const { callOf } = await import('./connector-kit.ts')
    const tables = await kit.protocol.describe?.(callOf(kit.target, {}, signal), { masks: [], secret, signal })
    const customers = tables?.find(({ schema, name }) => schema === 'public' && name === 'customers')
    expect(customers).toMatchObject({ kind: 'table', comment: 'People who have an account in the shop' })
    expect(customers?.columns[0]).toEqual({ name: 'id', type: 'integer', nullable: false })
    expect(customers?.reading(['ssn', 'id'])).toMatchObject({
      verb: 'sql.select',
      resource: { type: 'sql', name: 'public.customers', columns: ['id', 'ssn'] },
    })
    expect(tables?.some(({ schema }) => schema === 'pg_catalog' || schema === 'information_schema')).toBe(false)
    expect(tables?.find(({ name }) => name === 'customer_view')?.kind).toBe('view')
  })
})

describe('the bare driver', () => {
  it('would run the attack the pins are for', async () => {
    // Proof that the attack is real and not only imagined: the same text, a session nobody pinned.
    const client = new Client({ ...db, database: db.name })
    await client.connect()
    await client.query(
      'SET standard_conforming_strings = off; SET escape_string_warning = off; CREATE TABLE prey (a int)',
    )
    await client.query(`SELECT 'a\\' , 'b; DROP TABLE prey; --'`)
    expect((await client.query(`SELECT to_regclass('prey') AS prey`)).rows).toEqual([{ prey: null }])
    await client.end()
  })
})
