/** C14: what a write would change is shown before anybody is asked, and its execution is held to it. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { ColumnMask } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Preview } from '../../src/core/preview.ts'
import { createPostgres, endpointOf, postgresOptions, postgresSchema } from '../../src/protocols/postgres/index.ts'
import { loadParser } from '../../src/protocols/postgres/parse.ts'
import { affectedBy } from '../../src/protocols/postgres/preview/affected.ts'
import { createDatabase, type ServerVersion, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { has } from '../setup/needs.ts'
import { callOf, permitOf } from './connector-kit.ts'

const SCHEMA = `
  CREATE TABLE orders (id int PRIMARY KEY, status text NOT NULL, price numeric(8, 2), secret text, seen int DEFAULT 0);
  CREATE TABLE items (order_id int REFERENCES orders ON DELETE CASCADE, n int, PRIMARY KEY (order_id, n));
  CREATE TABLE notes (item_order int, item_n int, id int PRIMARY KEY, body text,
    FOREIGN KEY (item_order, item_n) REFERENCES items ON DELETE SET NULL);
  CREATE TABLE trees (id int PRIMARY KEY, parent int REFERENCES trees ON DELETE CASCADE);
  CREATE TABLE archive (id int PRIMARY KEY, status text);
  CREATE TABLE keyless (a int, b int);
  CREATE TABLE numbered (id serial PRIMARY KEY, a int);
  CREATE TABLE noticed (id int PRIMARY KEY, a int);
  CREATE TABLE stamped (id int PRIMARY KEY, a int, at timestamptz);
  CREATE TABLE guarded (id int PRIMARY KEY, a int);
  CREATE TABLE parts (id int PRIMARY KEY, a int) PARTITION BY RANGE (id);
  CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10);
  CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (20);
  ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
  CREATE POLICY all_of_it ON guarded USING (true);
  CREATE SEQUENCE tickets;
  CREATE FUNCTION take() RETURNS bigint STABLE LANGUAGE plpgsql AS $f$ BEGIN RETURN nextval('tickets'); END $f$;
  CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM nextval('tickets'); RETURN NEW; END $f$;
  CREATE TRIGGER tell BEFORE INSERT OR UPDATE ON noticed FOR EACH ROW EXECUTE FUNCTION tell();
  CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN NEW.at := now(); RETURN NEW; END $f$;
  CREATE TRIGGER stamp BEFORE UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION stamp();`

const ROWS = `
  TRUNCATE orders, items, notes, trees, archive, keyless, noticed, stamped, parts;
  INSERT INTO orders SELECT n, CASE WHEN n <= 12 THEN 'new' ELSE 'paid' END, n, 'geheim-' || n FROM generate_series(1, 20) n;
  INSERT INTO items SELECT id, n FROM orders, generate_series(1, 2) n;
  INSERT INTO notes VALUES (1, 1, 1, 'a'), (2, 1, 2, 'b');
  INSERT INTO trees VALUES (1, NULL), (2, 1), (3, 2);
  INSERT INTO keyless VALUES (1, 1), (1, 1), (2, 2);
  INSERT INTO noticed VALUES (1, 1);
  INSERT INTO stamped VALUES (1, 1);
  INSERT INTO parts VALUES (1, 1), (11, 1)`

const HIDDEN: readonly ColumnMask[] = [
  { schema: 'public', table: 'orders', column: 'secret', transform: 'redact', allowWrite: true },
]
const SERVERS: readonly ServerVersion[] = has('postgresql-15') ? ['18', '15'] : ['18']

describe.each(SERVERS)('C14: the preview of a write, on PostgreSQL %s', (server) => {
  let db: TestDatabase
  let role: TestRole
  const protocol = createPostgres()

  beforeAll(async () => {
    db = await createDatabase(SCHEMA, { server })
    role = await db.role(
      'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $role; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO $role',
    )
  })
  beforeEach(() => db.admin.query(ROWS))
  afterAll(async () => {
    await protocol.close()
    await db.drop()
  })

  /** Plans and previews a statement; `run` then executes it as approved by that preview. */
  async function held(sql: string, params: readonly (string | null)[] = [], masks: readonly ColumnMask[] = []) {
    const { host, port } = db
    const config = { host, port, database: db.name, tls: 'disable', pool: 2 }
    const options = postgresOptions(postgresSchema.parse(config))
    const target = {
      name: 'db',
      protocol: 'postgres' as const,
      labels: {},
      mode: 'enforce' as const,
      record: 'full' as const,
      endpoint: endpointOf(options),
      options,
    }
    const secret = { user: role.user, value: role.password }
    const { signal } = new AbortController()
    const call = callOf(target, { sql, params }, signal)
    const plan = await protocol.plan(call, { masks, secret: async () => secret, signal })
    const preview = await (protocol.preview?.(call, plan, { masks: HIDDEN, secret: async () => secret, signal }) ??
      Promise.reject(new Error('there are no previews')))
    async function run(guard = preview.guard): Promise<string> {
      const permit = { ...permitOf(signal), ...(guard !== undefined && { guard }) }
      try {
        let status = ''
        for await (const chunk of protocol.execute(call, plan, permit, secret)) {
          if (chunk.kind === 'exit') status = chunk.status
        }
        return status
      } catch (error) {
        if (!(error instanceof SallyportError)) throw error
        return error.facts.askAgain === true ? `${error.code} again` : error.code
      }
    }
    return { preview, run }
  }

  const count = async (where: string): Promise<number> =>
    (await db.admin.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${where}`)).rows[0]?.n ?? -1
  const previewOf = async (sql: string, params: readonly string[] = []): Promise<Preview> =>
    (await held(sql, params)).preview

  it('shows the rows of an UPDATE before and after, and leaves nothing behind', async () => {
    const { preview } = await held('UPDATE orders SET price = price * 2, status = $1 WHERE id <= $2', ['sold', '2'])
    expect(preview.sections).toEqual([
      {
        title: 'UPDATE public.orders: 2 rows',
        table: {
          columns: ['id', 'status', 'status after', 'price', 'price after'],
          rows: [
            ['1', 'new', 'sold', '1.00', '2.00'],
            ['2', 'new', 'sold', '2.00', '4.00'],
          ],
        },
      },
    ])
    expect(preview.missing).toBeUndefined()
    expect(await count(`orders WHERE status = 'sold'`)).toBe(0)
  })

  it('shows what a DELETE removes, what foreign keys remove with it, and how much is not shown', async () => {
    const { sections } = await previewOf(`DELETE FROM orders WHERE status = 'new' RETURNING id`)
    expect(sections[0]).toMatchObject({ title: 'DELETE public.orders: 12 rows', more: 2 })
    expect(sections[0]?.table?.columns).toEqual(['id', 'status', 'price', 'seen', 'secret'])
    expect(sections[1]).toEqual({ title: 'DELETE public.items, by a foreign key: 24 rows' })
    expect(await count('orders')).toBe(20)
  })

  it('C10: shows no masked value, to nobody, though the caller may see it', async () => {
    const removed = await previewOf('DELETE FROM orders WHERE id = 1')
    expect(removed.sections[0]?.table?.rows[0]?.at(-1)).toBe('•')
    const changed = await previewOf(`UPDATE orders SET secret = 'geheim-x' WHERE id = 1`)
    expect(changed.sections[0]?.table).toEqual({ columns: ['id', 'secret'], rows: [['1', '•']] })
    expect(JSON.stringify([removed, changed])).not.toContain('geheim')
  })

  it('says that nothing would change where nothing would', async () => {
    expect(await previewOf('SELECT * FROM orders')).toEqual({ sections: [], touched: {} })
    expect((await previewOf('UPDATE orders SET seen = 1 WHERE false')).sections).toEqual([
      { title: 'UPDATE public.orders: 0 rows' },
    ])
  })

  it('says how the statement would fail, and what of it is in the way', async () => {
    const failing = held('UPDATE orders SET id = 2 WHERE id = 1')
    await expect(failing).rejects.toThrow('would fail')
    await db.admin.query('BEGIN')
    try {
      await db.admin.query('SELECT * FROM orders WHERE id = 1 FOR UPDATE')
      await expect(held('UPDATE orders SET seen = 1 WHERE id = 1')).rejects.toThrow('others hold locks')
    } finally {
      await db.admin.query('ROLLBACK')
    }
  })

  it.each([
    ['a sequence in the text', `UPDATE orders SET seen = nextval('tickets') WHERE id = 1`, 'pg_catalog.nextval'],
    ['a sequence in a default', 'INSERT INTO numbered (a) VALUES (1)', 'nextval'],
    ['a default by name', 'UPDATE numbered SET id = DEFAULT', 'sequence'],
    ['a function that only says it is stable', 'UPDATE orders SET seen = take() WHERE id = 1', 'public.take'],
    ['a trigger', 'UPDATE noticed SET a = 2', 'public.tell'],
    ['an advisory lock', 'DELETE FROM orders WHERE pg_try_advisory_lock(id)', 'pg_try_advisory_lock'],
    ['dice', 'DELETE FROM orders WHERE random() < 0.5', 'random'],
    ['row security', 'DELETE FROM guarded', 'row security'],
    [
      'another table written by the way',
      'WITH gone AS (DELETE FROM orders RETURNING id) INSERT INTO archive SELECT id FROM gone',
      'more than one place',
    ],
    ['a notice to listeners', 'NOTIFY orders', 'not previewed'],
    ['a change of the schema', 'TRUNCATE orders', 'not previewed'],
  ])('tries nothing that escapes a rollback: %s', async (_, sql, why) => {
    const before = (await db.admin.query('SELECT last_value FROM tickets')).rows
    const preview = await previewOf(sql)
    expect(preview).toMatchObject({ sections: [], missing: expect.stringContaining(why) as unknown })
    expect(preview.guard).toBeUndefined()
    expect((await db.admin.query('SELECT last_value FROM tickets')).rows).toEqual(before)
  })

  it('a trigger that only puts the time in is no obstacle', async () => {
    expect((await previewOf('UPDATE stamped SET a = 2 WHERE id = 1')).missing).toBeUndefined()
  })

  it('lets the statement run on the rows that were seen', async () => {
    for (const [sql, params, tag] of [
      ['UPDATE orders SET price = price * 2 WHERE id <= $1', ['2'], 'UPDATE 2'],
      ['UPDATE orders o SET status = $2 FROM items i WHERE i.order_id = o.id AND o.id = $1', ['1', 'x'], 'UPDATE 1'],
      [
        'WITH old AS (SELECT id FROM orders WHERE id > 18) DELETE FROM orders USING old WHERE orders.id = old.id',
        [],
        'DELETE 2',
      ],
      ['UPDATE keyless SET b = 5 WHERE a = 1', [], 'UPDATE 2'],
      ['UPDATE parts SET a = 7', [], 'UPDATE 2'],
      [`INSERT INTO archive SELECT id, status FROM orders WHERE status = 'paid'`, [], 'INSERT 0 6'],
      ['UPDATE orders SET seen = 4 WHERE id = 3 RETURNING id -- why', [], 'UPDATE 1'],
    ] as const) {
      const { preview, run } = await held(sql, params)
      expect([sql, preview.missing, preview.guard === undefined]).toEqual([sql, undefined, false])
      expect(await run()).toBe(tag)
    }
  })

  it('commits nothing when others changed which rows they are: as many, but other keys', async () => {
    const { preview, run } = await held(`DELETE FROM orders WHERE status = 'paid'`)
    await db.admin.query(`UPDATE orders SET status = CASE id WHEN 1 THEN 'paid' ELSE 'new' END WHERE id IN (1, 20)`)
    expect(await run()).toBe('ERR_APPROVAL_STALE again')
    expect(await count('orders')).toBe(20)
    const again = await held(`DELETE FROM orders WHERE status = 'paid'`)
    expect(again.preview.sections[0]?.title).toBe(preview.sections[0]?.title)
    expect(again.preview.guard).not.toBe(preview.guard)
    expect(await again.run()).toBe('DELETE 8')
  })

  it('commits nothing when a row that was seen says something else by now', async () => {
    const { run } = await held('UPDATE orders SET price = price * 2 WHERE id = 3')
    await db.admin.query('UPDATE orders SET price = 900 WHERE id = 3')
    expect(await run()).toBe('ERR_APPROVAL_STALE again')
    const other = await held('UPDATE orders SET price = price * 2 WHERE id = 3')
    // Neither read nor written: what it says was never shown.
    await db.admin.query('UPDATE orders SET seen = seen + 1 WHERE id = 3')
    expect(await other.run()).toBe('UPDATE 1')
  })

  it.each([
    ['one more', 'INSERT INTO items VALUES (1, 3)'],
    ['as many, but others', 'UPDATE items SET n = 7 WHERE order_id = 1 AND n = 2'],
    ['two keys away', 'INSERT INTO notes VALUES (1, 2, 3, NULL)'],
    ['none of them', 'DELETE FROM items WHERE order_id = 1'],
  ])('commits nothing when foreign keys would change other rows than were seen: %s', async (_, change) => {
    const { preview, run } = await held('DELETE FROM orders WHERE id = 1')
    expect(preview.missing).toBeUndefined()
    await db.admin.query(change)
    expect(await run()).toBe('ERR_APPROVAL_STALE again')
    expect(await count('orders WHERE id = 1')).toBe(1)
  })

  it('rows of others that no key changes are nobody’s concern', async () => {
    const { run } = await held('DELETE FROM orders WHERE id = 1')
    await db.admin.query(`INSERT INTO items VALUES (2, 3); UPDATE notes SET body = 'c' WHERE id = 1`)
    expect(await run()).toBe('DELETE 1')
    const other = await held('UPDATE orders SET seen = 9 WHERE id = 2')
    await db.admin.query('DELETE FROM items WHERE order_id = 2')
    expect(await other.run()).toBe('UPDATE 1')
  })

  it('C11: holds an execution to the settings it was tried under', async () => {
    const { preview, run } = await held(`INSERT INTO stamped VALUES (5, 1, '2026-01-01 00:00')`)
    const guard = JSON.parse(preview.guard ?? '{}') as { settings: Record<string, string> }
    const moved = { ...guard, settings: { ...guard.settings, TimeZone: 'Asia/Tokyo' } }
    expect(await run(JSON.stringify(moved))).toBe('ERR_APPROVAL_STALE again')
    expect(await count('stamped')).toBe(1)
    expect(await run()).toBe('INSERT 0 1')
  })

  it('commits nothing when the rows an INSERT reads are others', async () => {
    const { run } = await held(`INSERT INTO archive SELECT id, status FROM orders WHERE status = 'paid'`)
    await db.admin.query(`DELETE FROM orders WHERE id = 20; INSERT INTO orders VALUES (99, 'paid', 1, 'x')`)
    expect(await run()).toBe('ERR_APPROVAL_STALE again')
    expect(await count('archive')).toBe(0)
  })

  it('commits nothing when a writer comes between the comparison and the statement', async () => {
    const { run } = await held(`UPDATE orders SET seen = 5 WHERE status = 'new'`)
    await db.admin.query('BEGIN')
    let result: Promise<string>
    try {
      // Nobody else sees this yet, so the comparison finds every row as it was, and the statement waits for this one.
      await db.admin.query(`UPDATE orders SET status = 'paid' WHERE id = 5`)
      result = run()
      // Not pg_stat_activity, of which a transaction sees one picture only.
      const waiting = 'pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))'
      await expect.poll(() => count(waiting), { interval: 10 }).toBe(1)
    } finally {
      await db.admin.query('COMMIT')
    }
    expect(await result).toBe('ERR_APPROVAL_STALE again')
    expect(await count('orders WHERE seen = 5')).toBe(0)
  })

  it('refuses a guard it cannot read', async () => {
    const { run } = await held('UPDATE orders SET seen = 1 WHERE id = 1')
    expect(await run('{"v":3}')).toBe('ERR_APPROVAL_STALE')
    expect(await count('orders WHERE seen = 1')).toBe(0)
  })

  it('says where the execution is not held to the rows', async () => {
    const conflict = await previewOf(`INSERT INTO archive VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET status = 'y'`)
    expect(conflict).toMatchObject({ missing: expect.stringContaining('not held') as unknown })
    expect(conflict.sections[0]?.title).toBe('INSERT public.archive: 1 row')
    for (const [sql, why] of [
      ['DELETE FROM trees WHERE id = 1', 'back to public.trees'],
      ['INSERT INTO keyless VALUES ((SELECT max(id) FROM orders), 1)', 'cannot be told'],
      ['WITH few AS (SELECT id FROM orders) INSERT INTO keyless SELECT id, 1 FROM few', 'cannot be told'],
    ] as const) {
      const preview = await previewOf(sql)
      expect(preview.missing).toContain(why)
      expect([preview.guard, preview.touched]).toEqual([undefined, undefined])
    }
  })
})

describe('the query that finds what a statement is about', () => {
  beforeAll(loadParser)

  it.each([
    ['UPDATE t SET a = b IS DISTINCT FROM c FROM x WHERE t.i = x.i', 'SELECT 1 FROM t , x WHERE t.i = x.i'],
    [
      'DELETE FROM ONLY t AS o USING x, (SELECT 1) y WHERE o.i = x.i -- no',
      'SELECT 1 FROM ONLY t AS o , x, (SELECT 1) y WHERE o.i = x.i -- no',
    ],
    ['UPDATE t SET a = (SELECT 1 FROM z WHERE true)', 'SELECT 1 FROM t'],
    ["DELETE FROM t WHERE n = 'é' ;", "SELECT 1 FROM t WHERE n = 'é'"],
    ['INSERT INTO t (SELECT 1)', undefined],
    ['INSERT INTO t VALUES (1)', undefined],
    ['WITH update AS (SELECT 1) UPDATE t SET a = 1', undefined],
    ['DELETE FROM t WHERE CURRENT OF c', undefined],
    ['DELETE FROM t; SELECT 1', undefined],
  ])('of %s', (sql, query) => {
    expect(affectedBy(sql)?.select('1').replace(/\s+/gu, ' ').trim()).toBe(query)
  })
})
