import { beforeAll, describe, expect, it } from 'vitest'
import { loadParser, planQuery } from '../../src/protocols/postgres/plan.ts'
import { fn, mask, relation, shopCatalog } from './plan-fixture.ts'

const TIES = [{ kind: 'index', columns: ['city', 'ssn'], evaluates: false, countsNull: false }] as const
const COLUMNS = ['id:integer!', 'city:text', 'ssn:text', 'Date:date', 'total:bigint', 'price:numeric']
const catalog = shopCatalog({
  relations: [
    relation('cust', COLUMNS, { primaryKey: ['id'], uniqueColumns: ['id'], ties: TIES }),
    relation('pair', COLUMNS, { primaryKey: ['id', 'city'], ties: TIES }),
    relation('dated', COLUMNS, { primaryKey: ['Date'], ties: TIES }),
    relation('keyless', COLUMNS, { ties: TIES }),
    relation('hidden', COLUMNS, { primaryKey: ['ssn'], ties: TIES }),
    relation('guarded', COLUMNS, { primaryKey: ['id'], ties: TIES, hasRls: true }),
    relation('family', COLUMNS, { primaryKey: ['id'], ties: TIES, children: [1] }),
    relation('parted', COLUMNS, { primaryKey: ['id'], ties: TIES, kind: 'partitioned_table' }),
  ],
  functions: [fn('dice(integer)'), fn('min(bigint)', { oid: 900, schema: 'pg_catalog', volatility: 'immutable' })],
})
const MASKS = ['cust', 'pair', 'dated', 'keyless', 'hidden', 'guarded', 'family', 'parted'].map((table) =>
  mask('ssn', 'redact', table),
)

/** Whether rows are kept from coming in the order of an index. */
function isHidden(sql: string): boolean {
  const plan = planQuery({ sql }, catalog, { masks: MASKS })
  expect(plan.action.parts.map(({ verb }) => verb)).not.toContain('sql.unknown')
  return plan.hidesOrder === true
}

describe('C9: the order of an index over a masked column', () => {
  beforeAll(loadParser)

  it.each([
    'SELECT id, city FROM cust ORDER BY id LIMIT 10',
    'SELECT id, ssn FROM cust WHERE city = $$a$$ ORDER BY id DESC LIMIT 10 OFFSET 20',
    'SELECT * FROM cust ORDER BY id',
    'SELECT c.* FROM cust c WHERE c.id > 5 AND c.city IN ($$a$$, $$b$$) ORDER BY c.id LIMIT 1',
    'SELECT id FROM cust WHERE id BETWEEN 2 AND 5 OR city IS NULL ORDER BY city, id',
    'SELECT city AS c, id AS id FROM cust ORDER BY id FETCH FIRST 3 ROWS WITH TIES',
    'SELECT id FROM pair ORDER BY city, id',
    'SELECT count(*), max(id), min(total), sum(id) FROM cust WHERE city = $$a$$',
    'SELECT count(ssn) FROM keyless',
  ])('may stay where nothing is left to it: %s', (sql) => {
    expect(isHidden(sql)).toBe(false)
  })

  it.each([
    ['no order', 'SELECT id FROM cust WHERE city = $$a$$'],
    ['no order and a limit', 'SELECT id FROM cust LIMIT 1'],
    ['an order with ties', 'SELECT id FROM cust ORDER BY city LIMIT 1'],
    ['a part of the key', 'SELECT id FROM pair ORDER BY id LIMIT 1'],
    ['no key', 'SELECT id FROM keyless ORDER BY id LIMIT 1'],
    ['a masked key', 'SELECT id FROM hidden ORDER BY ssn LIMIT 1'],
    ['a result column with the name of the key', 'SELECT city AS id FROM cust ORDER BY id LIMIT 1'],
    [
      'a result column that gets the name of the key',
      'SELECT $$2020-01-01$$::date, id FROM dated ORDER BY date LIMIT 1',
    ],
    ['a renamed column', 'SELECT b FROM cust AS c (a, id, b) ORDER BY c.id LIMIT 1'],
    ['a position', 'SELECT id FROM cust ORDER BY 1 LIMIT 1'],
    ['an expression', 'SELECT id FROM cust ORDER BY id + 0 LIMIT 1'],
    ['the order of an operator', 'SELECT id FROM cust ORDER BY id USING < LIMIT 1'],
    ['a collation', 'SELECT id FROM pair ORDER BY id, city COLLATE "C" LIMIT 1'],
    ['DISTINCT', 'SELECT DISTINCT city, id FROM cust ORDER BY id'],
    ['DISTINCT ON', 'SELECT DISTINCT ON (city) id FROM cust ORDER BY city, id'],
    ['GROUP BY', 'SELECT city, count(*) FROM cust GROUP BY city, id ORDER BY id'],
    ['a window', 'SELECT id, row_number() OVER () FROM cust ORDER BY id'],
    ['a lock', 'SELECT id FROM cust ORDER BY id LIMIT 1 FOR UPDATE'],
    ['a sample', 'SELECT id FROM cust TABLESAMPLE system (50) ORDER BY id'],
    ['where its rows lie', 'SELECT id, ctid FROM cust ORDER BY id'],
    ['a join', 'SELECT c.id FROM cust c, orders o ORDER BY c.id'],
    ['itself beside it', 'SELECT c.id FROM cust c, cust d ORDER BY c.id'],
    ['a query within', 'SELECT id, (SELECT city FROM cust LIMIT 1) FROM cust ORDER BY id'],
    ['a query of a query', 'SELECT id FROM (SELECT id FROM cust LIMIT 1) c ORDER BY id'],
    ['a WITH query', 'WITH cust AS (SELECT 1 AS id) SELECT id FROM public.cust ORDER BY id'],
    ['a union', 'SELECT id FROM cust UNION ALL SELECT id FROM cust ORDER BY id'],
    ['a function with state in the filter', 'SELECT id FROM cust WHERE random() < 0.5 ORDER BY id'],
    ['a function with state', 'SELECT id, random() FROM cust ORDER BY id'],
    ['a function of a user', 'SELECT id, dice(id) FROM cust ORDER BY id'],
    ['rows that may fail', 'SELECT id FROM cust WHERE 1 / id > 0 ORDER BY id LIMIT 1'],
    ['results that may fail', 'SELECT id, 1 / id FROM cust ORDER BY id LIMIT 1'],
    ['values that may not be cast', 'SELECT id FROM cust WHERE city::int = 1 ORDER BY id LIMIT 1'],
    ['patterns that may be wrong', 'SELECT id FROM cust WHERE city LIKE $$a$$ ORDER BY id LIMIT 1'],
    ['a limit that is made', 'SELECT id FROM cust ORDER BY id LIMIT random() * 9'],
    ['a policy', 'SELECT id FROM guarded ORDER BY id LIMIT 1'],
    ['children', 'SELECT id FROM family ORDER BY id LIMIT 1'],
    ['partitions', 'SELECT id FROM parted ORDER BY id LIMIT 1'],
    ['an aggregate that keeps the order', 'SELECT string_agg(city, $$,$$) FROM cust'],
    ['an aggregate of what can be equal and look different', 'SELECT max(city) FROM cust'],
    ['an aggregate with an order', 'SELECT count(city ORDER BY ssn) FROM cust'],
    ['an aggregate of an expression', 'SELECT max(id + 1) FROM cust'],
    ['an aggregate beside others', 'SELECT count(*), array_agg(id) FROM keyless'],
    ['an aggregate over a window', 'SELECT count(*) OVER () FROM cust'],
    ['groups of aggregates', 'SELECT count(*) FROM cust GROUP BY city'],
    ['EXPLAIN', 'EXPLAIN SELECT id FROM cust ORDER BY id'],
    ['a cursor', 'DECLARE c CURSOR FOR SELECT id FROM cust ORDER BY city'],
  ])('is kept away from a statement with %s', (_, sql) => {
    const plan = planQuery({ sql }, catalog, { masks: MASKS, door: 'session' })
    expect(plan.hidesOrder === true || plan.refused !== undefined || plan.kind === 'unknown').toBe(true)
  })
})
