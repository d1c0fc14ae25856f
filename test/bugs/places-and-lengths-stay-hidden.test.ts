/**
 * What tells where rows lie, or how long they are, tells of masked values: EXPLAIN of a table that is partitioned by one,
 * counters and sizes of its partitions, EXPLAIN where a mask is made of the value, and an index that a row is too long for.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copies, mask, type Copies } from './sql-kit.ts'

const schema = (ssn: string): string => `
  CREATE TABLE placed (id int, ssn text, note text) PARTITION BY LIST (ssn);
  CREATE TABLE placed_a PARTITION OF placed FOR VALUES IN ('a');
  CREATE TABLE placed_b PARTITION OF placed FOR VALUES IN ('${'b'.repeat(30)}');
  INSERT INTO placed VALUES (1, '${ssn}', 'n'), (2, 'a', 'n');
  CREATE TABLE clustered (id int PRIMARY KEY, ssn text);
  CREATE INDEX by_ssn ON clustered (ssn);
  INSERT INTO clustered VALUES (1, '${ssn}'), (2, 'b');
  CLUSTER clustered USING by_ssn;
  CREATE TABLE cards (id int PRIMARY KEY, card text, note text);
  INSERT INTO cards VALUES (1, repeat('${ssn}', 20) || '1234', 'n');
  CREATE TABLE people (id int PRIMARY KEY, plan text, ssn text, since timestamptz, kind varchar(20));
  CREATE INDEX plan_ssn ON people (plan, ssn);
  CREATE INDEX since_ssn ON people (since, ssn);
  CREATE INDEX kind_ssn ON people (kind, ssn);
  INSERT INTO people VALUES (1, 'p', repeat('${ssn}', 3), now(), 'k');
  CREATE TABLE plain (id int PRIMARY KEY, note text);
  CREATE VIEW counted AS SELECT relname, n_tup_del FROM pg_stat_xact_user_tables;
  CREATE VIEW locked AS SELECT relation, tuple FROM pg_locks;
  ANALYZE;`

let world: Copies
beforeAll(async () => {
  const masks = [mask('placed.ssn', 'null'), mask('clustered.ssn'), mask('cards.card', 'partial'), mask('people.ssn')]
  world = await copies([schema('a'), schema('b'.repeat(30))], masks)
})
afterAll(() => world.close())

const QUIET = 'ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF'

describe('C9: what EXPLAIN and counters tell besides rows', () => {
  it.each([
    `EXPLAIN (${QUIET}) SELECT id FROM placed WHERE id = 1`,
    'EXPLAIN SELECT id FROM placed WHERE id = 1',
    `EXPLAIN (${QUIET}) DELETE FROM placed WHERE id = 1`,
    `EXPLAIN (${QUIET}) INSERT INTO plain SELECT id FROM placed WHERE id = 1`,
    `EXPLAIN (${QUIET}) SELECT (SELECT note FROM placed p WHERE p.id = o.id) FROM plain o`,
    'EXPLAIN (ANALYZE) SELECT id FROM clustered WHERE id < 5',
    `EXPLAIN (${QUIET}) SELECT x.card FROM plain o JOIN (SELECT card, g FROM cards, generate_series(1, 9) g) x ON x.g = o.id`,
    'EXPLAIN SELECT a.card FROM cards a JOIN plain o USING (id)',
    'EXPLAIN SELECT * FROM cards',
    `EXPLAIN (ANALYZE, WAL) UPDATE people SET kind = 'x'`,
    'EXPLAIN (ANALYZE, WAL) DECLARE c CURSOR FOR SELECT id FROM placed',
  ])('refuses %s', async (sql) => {
    expect(await world.ask(sql)).toEqual(['refused sql.mask.explain', 'refused sql.mask.explain'])
  })

  it.each([
    'SELECT wal_bytes FROM pg_stat_wal',
    'SELECT n_tup_del FROM pg_stat_xact_user_tables',
    'SELECT * FROM pg_stat_all_indexes',
    'SELECT heap_blks_hit FROM pg_statio_user_tables',
    `SELECT pg_stat_get_live_tuples('placed_a'::regclass)`,
    `SELECT pg_catalog.pg_stat_get_numscans('placed_a'::regclass)`,
    `SELECT relation::regclass FROM pg_locks WHERE mode = 'SIReadLock'`,
    `SELECT pg_relation_size('placed_a')`,
    `SELECT pg_catalog.pg_total_relation_size(oid) FROM pg_class WHERE relname = 'placed_a'`,
    `SELECT pg_table_size('placed_a'), pg_indexes_size('placed_a')`,
  ])('refuses %s where a masked column decides on the partition', async (sql) => {
    expect(await world.ask(sql)).toEqual(['refused sql.mask.catalog', 'refused sql.mask.catalog'])
  })

  it('C9: copies tell themselves apart by what ANALYZE noted of their partitions', async () => {
    const sql = `SELECT reltuples FROM pg_class WHERE relname = 'placed_a'`
    const direct = await Promise.all(world.databases.map(async ({ admin }) => (await admin.query(sql)).rows))
    expect(direct).toEqual([[{ reltuples: 2 }], [{ reltuples: 1 }]])
  })

  it.each([
    `SELECT relname, reltuples, relpages, relallvisible FROM pg_class WHERE relname LIKE 'placed%' ORDER BY relname`,
    `SELECT to_jsonb(c) ->> 'reltuples' FROM pg_class c WHERE relname = 'placed_a'`,
    `SELECT count(*) FROM pg_catalog.pg_class WHERE relname LIKE 'placed%' AND pg_class.reltuples > 1`,
    `SELECT relname, sum(c.reltuples) OVER () FROM pg_class c WHERE relname IN ('placed_a', 'plain') ORDER BY 1`,
  ])('C9: says of no table how many rows ANALYZE found: %s', async (sql) => {
    const [one = '', other] = await world.ask(sql)
    expect(one).toContain('"kind":"exit"')
    expect(other).toBe(one)
  })

  it.each(['counted', 'locked'])('refuses a view over what counts: %s', async (view) => {
    expect(await world.ask(`SELECT * FROM ${view}`)).toEqual([
      'refused sql.view_over_mask',
      'refused sql.view_over_mask',
    ])
  })

  it.each([
    'SELECT id, note FROM placed ORDER BY id',
    'EXPLAIN (COSTS OFF) SELECT note FROM cards WHERE id = 1',
    'EXPLAIN (COSTS OFF) SELECT ssn, kind FROM people',
    `EXPLAIN (${QUIET}) UPDATE people SET kind = 'x' WHERE id = 1`,
  ])('answers %s, and alike', async (sql) => {
    const [one = '', other] = await world.ask(sql)
    expect(one).toContain('"kind":"exit"')
    expect(other).toBe(one)
  })
})

describe('C9: a value beside a masked one in an index', () => {
  const long = `left((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 90) i), 2650)`

  it.each([
    `UPDATE people SET plan = ${long}`,
    `UPDATE people SET plan = '${'x'.repeat(257)}'`,
    `UPDATE people SET plan = ${'1234567890'.repeat(26)}`,
    'UPDATE people SET plan = 1e2650',
    `UPDATE people SET plan = B'${'01'.repeat(130)}'`,
    'UPDATE people SET plan = plan || plan',
    `UPDATE people SET (id, plan) = (SELECT id, note FROM plain)`,
    `WITH w AS (UPDATE people SET plan = ${long} RETURNING id) SELECT * FROM w`,
    `INSERT INTO people (id, plan) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET plan = ${long}`,
    `MERGE INTO people p USING plain o ON p.id = o.id WHEN MATCHED THEN UPDATE SET plan = o.note`,
    `MERGE INTO people p USING plain o ON p.id = o.id WHEN MATCHED AND o.id = 1 THEN UPDATE SET plan = 'x' WHEN MATCHED THEN UPDATE SET plan = o.note`,
    'UPDATE people SET (id, plan) = (1, kind || kind)',
    'UPDATE people SET plan = $1',
  ])('cannot be as long as the index just takes: %s', async (sql) => {
    const params = sql.includes('$1') ? ['x'.repeat(257)] : undefined
    expect(await world.ask(sql, params)).toEqual(['refused sql.mask.constraint', 'refused sql.mask.constraint'])
  })

  it.each([
    ['UPDATE people SET plan = $1 WHERE $1::numeric > 0', '1e131000'],
    ['WITH w AS (SELECT $1::numeric[]) UPDATE people SET plan = $01', '{1.e131000,1E131000}'],
  ])('cannot be a number whose digits are far more than is written: %s', async (sql, param) => {
    expect(await world.ask(sql, [param])).toEqual(['refused sql.mask.constraint', 'refused sql.mask.constraint'])
  })

  it.each([
    [`UPDATE people SET plan = 'short' WHERE id = 1`, undefined],
    [`UPDATE people SET (id, plan) = (1, 'x') WHERE id = 1`, undefined],
    ['UPDATE people SET plan = NULL', undefined],
    ['UPDATE people SET plan = DEFAULT', undefined],
    ['UPDATE people SET plan = $1', ['short']],
    ['UPDATE people SET plan = $1', [null]],
    ['UPDATE people SET plan = $1 WHERE id = 1', ['1e131000']],
    ['UPDATE people SET since = now(), kind = upper(kind), id = id + 1', undefined],
    [`INSERT INTO people (id, plan) VALUES (7, repeat('x', 300))`, undefined],
  ])('may be anything short, or of a type that is: %s', async (sql, params) => {
    const [one = '', other] = await world.ask(sql, params)
    expect(one).toContain('"kind":"exit"')
    expect(other).toBe(one)
  })

  it('is looked at for each value of a parameter', async () => {
    const sql = 'UPDATE people SET plan = $1 WHERE id = 7'
    expect((await world.ask(sql, ['short']))[0]).toContain('"kind":"exit"')
    expect((await world.ask(sql, ['x'.repeat(300)]))[0]).toBe('refused sql.mask.constraint')
    expect((await world.ask(sql, ['short']))[0]).toContain('"kind":"exit"')
  })
})
