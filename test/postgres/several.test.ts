/** Several statements in one call: judged all, run in one transaction, all or nothing. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answerRows } from '../../tools/rows.ts'
import { shopSql } from '../../src/cli/demo/shop.ts'
import type { Protocol } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { ColumnMask, Obligations } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Target } from '../../src/core/target.ts'
import { createPostgres, POSTGRES_SETTINGS } from '../../src/protocols/postgres/index.ts'
import type { PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { createDatabase, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { has } from '../setup/needs.ts'
import { callOf, permitOf } from './connector-kit.ts'

const MASKS: readonly ColumnMask[] = [
  { schema: 'public', table: 'customers', column: 'ssn', transform: 'redact' },
  { schema: 'public', table: 'customers', column: 'card', transform: 'null' },
]

const MORE = `
CREATE TABLE log (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE watched (id int PRIMARY KEY, changed timestamptz);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.changed := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION touch();
CREATE FUNCTION sneaky_path() RETURNS int LANGUAGE plpgsql STABLE AS
  $$ BEGIN PERFORM set_config('search_path', 'evil', false); RETURN 1; END $$;
CREATE FUNCTION sneaky_quotes() RETURNS int LANGUAGE plpgsql STABLE AS
  $$ BEGIN PERFORM set_config('backslash_quote', 'on', false); RETURN 1; END $$;
CREATE FUNCTION sneaky_belt() RETURNS int LANGUAGE plpgsql VOLATILE AS
  $$ BEGIN INSERT INTO log(note) VALUES ('by a function'); RETURN 1; END $$;
CREATE FUNCTION lying() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN sneaky_belt(); END $$;
CREATE FUNCTION builds() RETURNS int LANGUAGE plpgsql VOLATILE AS
  $$ BEGIN EXECUTE 'CREATE TABLE built (a int)'; RETURN 1; END $$;
CREATE FUNCTION harmless() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
`

describe.each([
  { server: '18', isThere: true },
  { server: '15', isThere: has('postgresql-15') },
] as const)('PostgreSQL $server', ({ server, isThere }) => {
  describe.runIf(isThere)('several statements in one call', () => {
    let db: TestDatabase
    let role: TestRole
    let target: Target
    let protocol: Protocol<PostgresPlan>
    let secrets: string[]

    beforeAll(async () => {
      db = await createDatabase(shopSql() + MORE, { server })
      role = await db.role(
        'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $role; GRANT CREATE ON SCHEMA public TO $role',
      )
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
    beforeEach(async () => {
      await db.admin.query('DELETE FROM log; DELETE FROM watched')
    })

    interface Options {
      readonly masks?: readonly ColumnMask[]
      readonly params?: readonly string[]
      readonly obligations?: Partial<Obligations>
      readonly between?: () => Promise<unknown>
    }

    async function planned(sql: string, { masks = [], params = [] }: Options = {}): Promise<PostgresPlan> {
      const { signal } = new AbortController()
      const secret = { user: role.user, value: role.password }
      return protocol.plan(callOf(target, { sql, params }, signal), { masks, secret: async () => secret, signal })
    }

    async function ask(sql: string, options: Options = {}): Promise<Chunk[]> {
      const { signal } = new AbortController()
      const secret = { user: role.user, value: role.password }
      const plan = await planned(sql, options)
      await options.between?.()
      const chunks: Chunk[] = []
      const call = callOf(target, { sql, params: options.params ?? [] }, signal)
      for await (const chunk of protocol.execute(call, plan, permitOf(signal, options.obligations), secret)) {
        chunks.push(chunk)
      }
      return chunks
    }

    async function failure(sql: string, options: Options = {}): Promise<SallyportError> {
      try {
        await ask(sql, options)
      } catch (error) {
        if (error instanceof SallyportError) return error
        throw error
      }
      throw new Error('The call did not fail.')
    }

    const notes = async (): Promise<string[]> =>
      (await db.admin.query<{ note: string }>('SELECT note FROM log ORDER BY note')).rows.map(({ note }) => note)

    const exitOf = (chunks: readonly Chunk[]): Extract<Chunk, { kind: 'exit' }> => {
      const exit = chunks.at(-1)
      if (exit?.kind !== 'exit') throw new Error('A result ends with its exit.')
      return exit
    }

    const rowsOf = (chunks: readonly Chunk[]): unknown[] =>
      chunks.flatMap((chunk) => (chunk.kind === 'data' && chunk.channel === 'rows' ? chunk.rows : []))

    it('all have run when the call has ended, and each says what came of it', async () => {
      const chunks = await ask(
        `INSERT INTO log(note) VALUES ('a'), ('b') RETURNING note; SELECT count(*) FROM log; UPDATE log SET note = upper(note)`,
      )
      expect(await notes()).toEqual(['A', 'B'])
      expect(chunks.map(({ kind }) => kind)).toEqual(['head', 'data', 'head', 'data', 'head', 'exit'])
      expect(rowsOf(chunks)).toEqual([['a'], ['b'], ['2']])
      expect(exitOf(chunks)).toEqual({
        kind: 'exit',
        status: 'INSERT 0 2; SELECT 1; UPDATE 2',
        rowCount: 5,
        truncated: false,
        results: [
          { status: 'INSERT 0 2', rowCount: 2, truncated: false },
          { status: 'SELECT 1', rowCount: 1, truncated: false },
          { status: 'UPDATE 2', rowCount: 2, truncated: false },
        ],
      })
    })

    it.each([
      ['the second', `INSERT INTO log(note) VALUES ('x'); SELECT 1/0`, '22012'],
      ['the last', `SELECT 1; INSERT INTO log(note) VALUES ('x'); INSERT INTO log(note) VALUES (NULL)`, '23502'],
      ['one that only the database finds wrong', `INSERT INTO log(note) VALUES ('x'); SELECT 'a'::int`, '22P02'],
      ['the commit itself', `INSERT INTO log(note) VALUES ('x'); INSERT INTO log(note) VALUES ('x')`, '23505'],
    ])('nothing has happened when %s fails', async (_which, sql, sqlstate) => {
      const error = await failure(sql)
      expect(error.code).toBe('ERR_UPSTREAM_REJECTED')
      expect(error.facts).toMatchObject({ sqlstate, noEffect: true })
      expect(await notes()).toEqual([])
    })

    it('C5: the parts of all of them are judged, and a write behind a read is one of them', async () => {
      const plan = await planned(`SELECT id FROM orders; /* only a read */ DELETE FROM log -- WHERE true`)
      expect(plan.kind).toBe('several')
      expect(plan.readOnly).toBe(false)
      expect(plan.action.attributes).toMatchObject({ statement: 'several', statement_count: 2 })
      expect(
        plan.action.parts.map(({ verb, resource }) => `${verb} ${'name' in resource ? resource.name : '-'}`),
      ).toEqual(['sql.select public.orders', 'sql.delete public.log'])
      expect(plan.action.parts[1]?.attributes['has_where']).toBe(false)
    })

    it.each([
      `SELECT 'a;DELETE FROM log;--'; SELECT 2`,
      `SELECT $$;DELETE FROM log;$$; SELECT 2`,
      `SELECT 1 /* ; DELETE FROM log; /* nested ; */ */; SELECT 2 -- ; DELETE FROM log`,
      `SELECT 1;;;; SELECT E'\\';DELETE FROM log;--'`,
      `SELECT 1 AS ";DELETE FROM log"; SELECT 2;`,
    ])('a semicolon that ends no statement is none: %s', async (sql) => {
      const plan = await planned(sql)
      expect(plan.action.attributes['statement_count']).toBe(2)
      expect(plan.action.parts.map(({ verb }) => verb)).toEqual(['sql.select', 'sql.select'])
      expect(exitOf(await ask(sql)).results).toHaveLength(2)
    })

    it('reads alone run READ ONLY, and a read among writes does so too', async () => {
      expect(rowsOf(await ask(`SHOW transaction_read_only; SHOW transaction_read_only`))).toEqual([['on'], ['on']])
      const sql = `INSERT INTO log(note) VALUES ('x'); SHOW transaction_read_only; INSERT INTO log(note) VALUES ('y'); SELECT note FROM log`
      expect(rowsOf(await ask(sql))).toEqual([['on'], ['x'], ['y']])
      // What claims to only read and does not is stopped by the database.
      await db.admin.query('DELETE FROM log')
      const error = await failure(`SELECT lying(); INSERT INTO log(note) VALUES ('x')`)
      expect(error.facts.sqlstate).toMatch(/^(25006|0A000)$/)
      expect(await notes()).toEqual([])
    })

    it.each([
      [`BEGIN; SELECT 1`, 'sql.session'],
      [`SELECT 1; COMMIT; DELETE FROM log`, 'sql.session'],
      [`DELETE FROM log; ROLLBACK`, 'sql.session'],
      [`SAVEPOINT a; SELECT 1`, 'sql.session'],
      [`SET search_path TO evil; SELECT 1`, 'sql.session'],
      [`SET LOCAL search_path TO evil; SELECT 1`, 'sql.session'],
      [`SELECT set_config('search_path', 'evil', true); SELECT 1`, 'sql.session'],
      [`PREPARE p AS SELECT 1; EXECUTE p`, 'sql.session'],
      [`DECLARE c CURSOR FOR SELECT 1; FETCH c`, 'sql.session'],
      [`SELECT 1; COPY log(note) FROM STDIN`, 'sql.session'],
      [`SELECT 1; COPY log TO STDOUT`, 'sql.session'],
      [`SELECT 1; VACUUM log`, 'sql.outside_transaction'],
      [`LISTEN x; SELECT 1`, 'sql.session'],
      [`CREATE TABLE t (a int); SELECT 1`, 'sql.several'],
      [`SELECT id INTO t FROM orders; SELECT 1`, 'sql.several'],
      [`TRUNCATE log; SELECT 1`, 'sql.several'],
      [`ALTER TABLE log RENAME TO logs; DELETE FROM log`, 'sql.several'],
      [`SELECT 1; SELECT nothing_of_that_name`, 'sql.unknown'],
    ])('refuses %s', async (sql, construct) => {
      const { refused } = await planned(sql)
      expect(refused?.hint ?? '').not.toBe('')
      expect(refused?.construct).toBe(construct)
      expect((await failure(sql)).code).toBe('ERR_DENIED')
    })

    it('a statement that changes the schema may be the last one', async () => {
      expect(exitOf(await ask(`INSERT INTO log(note) VALUES ('x'); CREATE TABLE made (a int)`)).status).toBe(
        'INSERT 0 1; CREATE TABLE',
      )
      await db.admin.query('DROP TABLE made')
    })

    it('functions and triggers that change neither schema nor settings stand in nobody’s way', async () => {
      const sql = `INSERT INTO watched(id) VALUES (1); UPDATE watched SET id = 2; SELECT harmless(); SELECT id FROM watched`
      expect(rowsOf(await ask(sql))).toEqual([['1'], ['2']])
    })

    it.each([
      'SELECT sneaky_path(); DELETE FROM log',
      'SELECT sneaky_quotes(); DELETE FROM log',
      'SELECT builds(); DELETE FROM log',
    ])('C7: what changes what the next statement means is found out before that runs: %s', async (sql) => {
      await db.admin.query(`INSERT INTO log(note) VALUES ('kept')`)
      const error = await failure(sql)
      expect(error.code).toBe('ERR_UPSTREAM_REJECTED')
      // From version 18 on the server tells of a changed search_path at once, and the connection ends with it.
      const isTold = server === '18' && sql.includes('path')
      expect(error.facts).toMatchObject(isTold ? {} : { construct: 'sql.several', noEffect: true })
      expect(await notes()).toEqual(['kept'])
      expect((await db.admin.query(`SELECT to_regclass('built') AS r`)).rows).toEqual([{ r: null }])
    })

    it('C8: a schema that changed between plan and execution is noticed', async () => {
      const sql = `INSERT INTO log(note) VALUES ('x'); SELECT * FROM log`
      const error = await failure(sql, { between: () => db.admin.query('ALTER TABLE log ADD COLUMN extra text') })
      expect(error.code).toBe('ERR_UPSTREAM_REJECTED')
      expect(await notes()).toEqual([])
      await db.admin.query('ALTER TABLE log DROP COLUMN extra')
    })

    it('C9: each of them is rewritten', async () => {
      const sql = `SELECT * FROM customers; INSERT INTO log(note) VALUES ('x'); SELECT string_agg(ssn, ',') FROM customers; TABLE customers`
      const said = JSON.stringify(await ask(sql, { masks: MASKS }))
      expect(secrets.filter((secret) => said.includes(secret))).toEqual([])
      expect(await notes()).toEqual(['x'])
    })

    it.each([
      `SELECT name FROM customers; SELECT nothing_of_that_name`,
      `SELECT nothing_of_that_name; INSERT INTO log(note) VALUES ('x')`,
      `INSERT INTO log(note) VALUES ('x'); UPDATE customers SET ssn = 'y'`,
      `INSERT INTO log(note) VALUES ('x'); SELECT * FROM pg_stats`,
    ])('C4: one that cannot be judged under masks keeps all from running: %s', async (sql) => {
      const plan = await planned(sql, { masks: MASKS })
      expect(plan.refused).toBeDefined()
      expect((await failure(sql, { masks: MASKS })).code).toBe('ERR_DENIED')
      expect(await notes()).toEqual([])
    })

    it('C10: whoever records or approves sees every statement, without a value that meets a mask', async () => {
      const plain = `SELECT 1; DELETE FROM log -- all`
      expect((await planned(plain)).shown.text).toBe(plain)
      const sql = `DELETE FROM log WHERE note = 'n'; SELECT name FROM customers WHERE ssn IN ('123-45-6789')`
      const { shown } = await planned(sql, { masks: MASKS.map((mask) => ({ ...mask, onPredicate: 'mask' as const })) })
      expect(shown.text).toContain('DELETE FROM log')
      expect(shown.text).toContain('SELECT name FROM customers')
      expect(shown.text).not.toContain('123-45-6789')
    })

    it('C11: the digest is over all of them', async () => {
      const exact = async (sql: string): Promise<string> => JSON.stringify((await planned(sql)).exact)
      const one = await exact(`SELECT 1; DELETE FROM log WHERE id = 1`)
      expect(await exact(`SELECT 1; DELETE FROM log WHERE id = 1`)).toBe(one)
      expect(await exact(`SELECT 1; DELETE FROM log WHERE id = 2`)).not.toBe(one)
      expect(await exact(`DELETE FROM log WHERE id = 1; SELECT 1`)).not.toBe(one)
    })

    it('values belong to a single statement', async () => {
      const error = await failure(`SELECT $1; SELECT 2`, { params: ['1'] })
      expect(error.code).toBe('ERR_INVALID_INPUT')
      expect((await failure(`SELECT 1; SELECT $1`)).code).toBe('ERR_INVALID_INPUT')
    })

    it('more than a hundred are too many', async () => {
      const many = (count: number): string => Array.from({ length: count }, () => 'SELECT 1').join(';')
      expect((await planned(many(100))).kind).toBe('several')
      expect((await planned(many(101))).action.parts.map(({ verb }) => verb)).toEqual(['sql.unknown'])
    })

    it('limits on rows and bytes hold over all of them', async () => {
      const sql = `SELECT generate_series(1, 3); SELECT generate_series(1, 3); INSERT INTO log(note) VALUES ('x'); SELECT 1`
      const chunks = await ask(sql, { obligations: { rowsMax: 5 } })
      expect(rowsOf(chunks)).toHaveLength(5)
      expect(exitOf(chunks)).toMatchObject({ truncated: true, truncatedBy: 'rows' })
      expect(exitOf(chunks).results?.map(({ status, truncated }) => [status, truncated])).toEqual([
        ['SELECT 3', false],
        ['SELECT 2', true],
        ['INSERT 0 1', false],
        ['SELECT 0', true],
      ])
      expect(await notes()).toEqual(['x'])
      const wide = await ask(`SELECT repeat('x', 600); SELECT repeat('y', 600); SELECT 1`, {
        obligations: { bytesMax: 1000 },
      })
      expect(rowsOf(wide).map((row) => (row as string[])[0]?.length)).toEqual([600, 1])
    })

    it('the time limit holds over all of them', async () => {
      const sql = `INSERT INTO log(note) VALUES ('x'); SELECT pg_sleep(0.2); SELECT pg_sleep(0.2); SELECT pg_sleep(30)`
      const error = await failure(sql, { obligations: { timeoutMs: 500 } })
      expect(error.code).toBe('ERR_TIMEOUT')
      expect(error.facts.noEffect).toBe(true)
      expect(await notes()).toEqual([])
    })

    it('a caller who goes away half-way leaves nothing behind', async () => {
      const { signal } = new AbortController()
      const secret = { user: role.user, value: role.password }
      const sql = `INSERT INTO log(note) VALUES ('x') RETURNING note; SELECT 1`
      const plan = await planned(sql)
      for await (const chunk of protocol.execute(callOf(target, { sql }, signal), plan, permitOf(signal), secret)) {
        if (chunk.kind === 'data') break
      }
      expect(await notes()).toEqual([])
    })

    it('the answer says it statement by statement', async () => {
      const chunks = await ask(`INSERT INTO log(note) VALUES ('x'); SELECT id, note FROM log`)
      async function* again(): AsyncGenerator<Chunk> {
        yield* chunks
      }
      const { structured, text } = await answerRows(again(), { target: 'shop-db', bytesMax: 1e6, fence: '--- f ---' })
      expect(structured).toMatchObject({
        status: 'ok',
        results: [
          { command: 'INSERT 0 1', row_count: 1, truncated: false },
          { command: 'SELECT 1', row_count: 1, rows: [[expect.any(Number), 'x']] },
        ],
        command: 'INSERT 0 1; SELECT 1',
        truncated: false,
      })
      expect(structured).not.toHaveProperty('rows')
      expect(text).toMatch(/2 statements ran on shop-db in one transaction/)
      expect(text).toMatch(/1\. INSERT 0 1\.\n2\. SELECT 1\.\n--- f ---\nid\tnote/)
    })
  })
})
