import { beforeAll, describe, expect, it } from 'vitest'
import { loadParser, planQuery } from '../../src/protocols/postgres/plan.ts'
import { taxonomy } from '../../src/protocols/postgres/taxonomy.ts'
import { line, relation, shopCatalog } from './plan-fixture.ts'

beforeAll(loadParser)

const catalog = shopCatalog()

function parts(sql: string, count = 0): readonly string[] {
  const params = Array.from({ length: count }, () => 'x')
  return planQuery({ sql, params }, catalog, { masks: [] }).action.parts.map(line).sort()
}

const ALL_ORDERS = 'customer_id,id,note,price,status'
const ALL_CUSTOMERS = 'email,id,name,plan,ssn'
const DELETE_CUSTOMERS = [
  `sql.delete public.customers(${ALL_CUSTOMERS})`,
  `sql.delete public.orders(${ALL_ORDERS}) via cascade`,
]

describe('parts of statements that are understood', () => {
  const table: readonly (readonly [sql: string, expected: readonly string[], params?: number])[] = [
    ['select 1', ['sql.select -']],
    ['values (1), (2)', ['sql.select -']],
    ['select now(), random()', ['sql.select -']],
    ['select id, note from orders', ['sql.select public.orders(id,note)']],
    ['select * from orders', [`sql.select public.orders(${ALL_ORDERS})`]],
    ['table orders', [`sql.select public.orders(${ALL_ORDERS})`]],
    ['select count(*) from orders', ['sql.select public.orders()']],
    ['select o from orders o', [`sql.select public.orders(${ALL_ORDERS})`]],
    ['select o.* from orders o', [`sql.select public.orders(${ALL_ORDERS})`]],
    ['select orders.id from public.orders', ['sql.select public.orders(id)']],
    ['select public.orders.id from public.orders', ['sql.select public.orders(id)']],
    ['select shop.public.orders.id from shop.public.orders', ['sql.select public.orders(id)']],
    ['select x.a from orders x(a, b)', ['sql.select public.orders(id)']],
    ['select ctid from orders', ['sql.select public.orders(ctid)']],
    ['select id from orders where status = $1', ['sql.select public.orders(id,status)'], 1],
    ['select id from orders order by price', ['sql.select public.orders(id,price)']],
    ['select id as x from orders order by x', ['sql.select public.orders(id)']],
    [
      'select status, count(*) from orders group by 1 having max(note) > $1',
      ['sql.select public.orders(note,status)'],
      1,
    ],
    ['select lower(note) from orders', ['sql.select public.orders(note)']],
    ['select row_to_json(o) from orders o', [`sql.select public.orders(${ALL_ORDERS})`]],
    ['select sum(1) over (partition by status order by id) from orders', ['sql.select public.orders(id,status)']],
    ['select "Id" from "Mixed Case"', ['sql.select public."Mixed Case"(Id)']],
    ['select token from private.secret', ['sql.select private.secret(token)']],
    ['select relname from pg_class', ['sql.select pg_catalog.pg_class(relname)']],
    ['select * from pg_stats', ['sql.monitor pg_catalog.pg_stats(histogram_bounds,tablename)']],
    [
      'select c.name, o.note from customers c join orders o on o.customer_id = c.id',
      ['sql.select public.customers(id,name)', 'sql.select public.orders(customer_id,note)'],
    ],
    [
      'select 1 from customers natural join orders',
      ['sql.select public.customers(id)', 'sql.select public.orders(id)'],
    ],
    [
      'select 1 from customers join orders using (id)',
      ['sql.select public.customers(id)', 'sql.select public.orders(id)'],
    ],
    [
      'select j.note from (customers c join orders o on true) j',
      ['sql.select public.customers()', 'sql.select public.orders(note)'],
    ],
    [
      'select id from customers union select customer_id from orders order by 1',
      ['sql.select public.customers(id)', 'sql.select public.orders(customer_id)'],
    ],
    [
      'select (select max(note) from orders o where o.customer_id = c.id) from customers c',
      ['sql.select public.customers(id)', 'sql.select public.orders(customer_id,note)'],
    ],
    ['select 1 from customers c, lateral (select c.email) x', ['sql.select public.customers(email)']],
    ['select * from generate_series(1, 3) g', ['sql.select -']],
    ['select id from orders for update', ['sql.lock public.orders()', 'sql.select public.orders(id)']],
    [
      'select 1 from orders o, customers c for share of o',
      ['sql.lock public.orders()', 'sql.select public.customers()', 'sql.select public.orders()'],
    ],
    ["insert into orders (id, note) values (1, 'x')", ['sql.insert public.orders(id,note)']],
    ['insert into orders values (1)', [`sql.insert public.orders(${ALL_ORDERS})`]],
    ['insert into orders default values', ['sql.insert public.orders()']],
    [
      'insert into orders (note) select email from customers',
      ['sql.insert public.orders(note)', 'sql.select public.customers(email)'],
    ],
    [
      'insert into orders (id) values (1) returning note',
      ['sql.insert public.orders(id)', 'sql.select public.orders(note)'],
    ],
    [
      'insert into orders (id, note) values (1, $1) on conflict (id) do update set note = excluded.note',
      ['sql.insert public.orders(id,note)', 'sql.select public.orders(id)', 'sql.update public.orders(note)'],
      1,
    ],
    ['update orders set note = $1', ['sql.update public.orders(note)'], 1],
    [
      'update orders set note = status where id = 1',
      ['sql.select public.orders(id,status)', 'sql.update public.orders(note)'],
    ],
    [
      'update orders set note = c.email from customers c',
      ['sql.select public.customers(email)', 'sql.update public.orders(note)'],
    ],
    [
      'update orders set (note, status) = (select name, plan from customers)',
      ['sql.select public.customers(name,plan)', 'sql.update public.orders(note,status)'],
    ],
    ['delete from orders', [`sql.delete public.orders(${ALL_ORDERS})`]],
    [
      'delete from orders using customers c where c.id = customer_id',
      [
        `sql.delete public.orders(${ALL_ORDERS})`,
        'sql.select public.customers(id)',
        'sql.select public.orders(customer_id)',
      ],
    ],
    ['delete from customers', DELETE_CUSTOMERS],
    ["insert into logged values (1, '')", ['sql.call public.audit() via trigger', 'sql.insert public.logged(id,note)']],
    ['delete from logged', ['sql.delete public.logged(id,note)']],
    [
      'merge into orders o using customers c on o.id = c.id when matched then delete when not matched then insert (id) values (c.id)',
      [
        `sql.delete public.orders(${ALL_ORDERS})`,
        'sql.insert public.orders(id)',
        'sql.merge public.orders(id)',
        'sql.select public.customers(id)',
        'sql.select public.orders(id)',
      ],
    ],
    ['explain select id from orders', ['sql.explain -', 'sql.select public.orders(id)']],
    ['explain (analyze, format json) delete from orders', [`sql.delete public.orders(${ALL_ORDERS})`, 'sql.explain -']],
    ['show Search_Path', ['sql.show search_path']],
    ['show transaction isolation level', ['sql.show transaction_isolation']],
    ["select current_setting('TimeZone')", ['sql.select -']],
    ['select add_one(id) from orders', ['sql.call public.add_one(integer)', 'sql.select public.orders(id)']],
    ["select json_object('a': note returning text) from orders", ['sql.select public.orders(note)']],
    ['select xmlelement(name a, note) from orders', ['sql.select public.orders(note)']],
    ["select j.x from json_table('[]', '$[*]' columns (x int path '$')) j", ['sql.select -']],
    ['select id from orders tablesample bernoulli (10)', ['sql.select public.orders(id)']],
  ]
  it.each(table.map(([sql, expected, count]) => ({ sql, expected, count })))('$sql', ({ sql, expected, count }) => {
    expect(parts(sql, count)).toEqual([...expected].sort())
  })

  it('C3: a text without a statement has no part', () => {
    for (const sql of ['', ' ', '-- x', '/* x /* y */ */', ';', ';;']) expect(parts(sql)).toEqual([])
  })

  it('uses only verbs and attributes that the taxonomy names', () => {
    const verbs = new Map(taxonomy.verbs.map((verb) => [verb.verb, verb]))
    for (const [sql, , params] of [...table, ['drop table orders', []] as const, ['call audit()', []] as const]) {
      const plan = planQuery({ sql, params: Array.from({ length: params ?? 0 }, () => 'x') }, catalog, { masks: [] })
      for (const part of plan.action.parts) {
        expect(Object.keys(part.attributes).sort()).toEqual(Object.keys(verbs.get(part.verb)?.attributes ?? {}).sort())
      }
      expect(Object.keys(plan.action.attributes).sort()).toEqual(Object.keys(taxonomy.actionAttributes).sort())
    }
  })
})

describe('WITH', () => {
  it.each([
    [
      'with customers as (select * from customers) select ssn from customers',
      [`sql.select public.customers(${ALL_CUSTOMERS})`],
    ],
    ['with customers as (select 1 as ssn) select ssn from customers', ['sql.select -']],
    ['with customers as (select 1 as ssn) select ssn from public.customers', ['sql.select public.customers(ssn)']],
    [
      'with recursive customers as (select 1 as n union all select n + 1 from customers) select n from customers',
      ['sql.select -'],
    ],
    ['with a as (select * from b), b as (select 1) select * from a', ['sql.select -', 'sql.unknown -']],
    ['with recursive a as (select * from b), b as (select 1) select * from a', ['sql.select -']],
    ['with customers as (select 1) delete from customers', DELETE_CUSTOMERS],
    [
      'with customers as (select 1) select (with customers as (select id from orders) select max(id) from customers)',
      ['sql.select public.orders(id)'],
    ],
    ['select 1 from (with orders as (select 1) select * from orders) x, orders', ['sql.select public.orders()']],
    [
      'with d as (delete from orders returning note) select note from d',
      [`sql.delete public.orders(${ALL_ORDERS})`, 'sql.select public.orders(note)'],
    ],
    [
      'with x as (update orders set note = $$a$$ returning *) insert into logged select 1, note from x',
      [
        'sql.call public.audit() via trigger',
        'sql.insert public.logged(id,note)',
        `sql.select public.orders(${ALL_ORDERS})`,
        'sql.update public.orders(note)',
      ],
    ],
    ['with x(a) as (select ssn from customers) select (select a) from x', ['sql.select public.customers(ssn)']],
  ] as const)('C3: names resolve in order: %s', (sql, expected) => {
    expect(parts(sql)).toEqual([...expected].sort())
  })
})

describe('rows of a parent', () => {
  it('C3: lie in its children, whose triggers run, however deep', () => {
    const [audit] = catalog.functions.filter(({ name }) => name === 'audit')
    const fired = { name: 't', insert: true, update: true, delete: false, truncate: false }
    const leaf = relation('leaf', ['id:integer'], { triggers: [{ ...fired, functionOid: audit?.oid ?? 0 }] })
    const middle = relation('middle', ['id:integer'], { children: [leaf.oid] })
    const top = relation('top', ['id:integer'], { kind: 'partitioned_table', children: [middle.oid] })
    const family = shopCatalog({ relations: [top, middle, leaf] })
    const seen = (sql: string): readonly string[] =>
      planQuery({ sql }, family, { masks: [] }).action.parts.map(line).sort()
    const call = 'sql.call public.audit() via trigger'
    expect(seen('update top set id = 2')).toEqual([call, 'sql.update public.top(id)'])
    expect(seen('insert into middle values (1)')).toEqual([call, 'sql.insert public.middle(id)'])
    expect(seen('delete from top')).toEqual(['sql.delete public.top(id)'])
  })
})

describe('scoping never under-reads', () => {
  it.each([
    // ON sees its own two sides only, so `ssn` here is the outer one although a neighbour might have it.
    [
      'select (select 1 from orders a, logged l join "Mixed Case" m on note = ssn limit 1) from customers',
      'public.customers',
      'ssn',
    ],
    // Without LATERAL a sub-select in FROM cannot see its neighbour, so the outer table is meant.
    ['select (select max(x.e) from orders email, (select email as e) x) from customers', 'public.customers', 'email'],
    ['select (select ssn from generate_series(1, 2) g) from customers', 'public.customers', 'ssn'],
    ['select (select s from (select ssn) q(s)) from customers', 'public.customers', 'ssn'],
    ['select customers from customers', 'public.customers', 'ssn'],
    ['select (customers).ssn from customers', 'public.customers', 'ssn'],
    ['select (c.*).ssn from customers c', 'public.customers', 'ssn'],
    ['select count(c) from customers c', 'public.customers', 'ssn'],
    ['select ssn(c) from customers c', 'public.customers', 'ssn'],
    ['select c.row_to_json from customers c', 'public.customers', 'ssn'],
    ['select j from (customers c cross join orders o) j', 'public.customers', 'ssn'],
    ['select j.e from (customers c cross join orders o) j(a, b, d, e)', 'public.customers', 'ssn'],
    ['select 1 from customers c where exists (select 1 from orders where note = ssn)', 'public.customers', 'ssn'],
    ['select id from customers order by ssn', 'public.customers', 'ssn'],
    ['select id from customers limit (select count(*) from customers where ssn is null)', 'public.customers', 'ssn'],
    ['select id from customers group by grouping sets ((id), (ssn, id))', 'public.customers', 'ssn'],
    ['select count(*) filter (where ssn is null) from customers', 'public.customers', 'ssn'],
    ['select string_agg(name, $$,$$ order by ssn) from customers', 'public.customers', 'ssn'],
    ['select percentile_cont(0.5) within group (order by ssn) from customers', 'public.customers', 'ssn'],
    ['select 1 from customers window w as (order by ssn)', 'public.customers', 'ssn'],
    ['select distinct on (ssn) id from customers', 'public.customers', 'ssn'],
    ['select case ssn when $$1$$ then 1 end from customers', 'public.customers', 'ssn'],
    ['select 1 from customers, xmltable($$/a$$ passing (ssn::xml) columns b int) x', 'public.customers', 'ssn'],
    ['select 1 from customers, json_table(ssn, $$$$ columns (b int)) x', 'public.customers', 'ssn'],
    ['select json_value(ssn, $$$$) is json from customers', 'public.customers', 'ssn'],
    ['select array(select ssn) from customers', 'public.customers', 'ssn'],
    ['select json_array(select ssn from customers)', 'public.customers', 'ssn'],
    ['select email from (orders o cross join customers c) q(a)', 'public.customers', 'email'],
    ['select x from customers t(a, b, d, x)', 'public.customers', 'ssn'],
    ['select 1 from orders natural join customers t(a, b, note)', 'public.customers', 'email'],
    ['update orders set note = (select ssn from customers limit 1)', 'public.customers', 'ssn'],
    ['insert into orders (note) values ((select ssn from customers limit 1))', 'public.customers', 'ssn'],
    ['delete from orders where exists (select 1 from customers where ssn = note)', 'public.customers', 'ssn'],
    ['insert into customers (id) values (1) returning (select ssn)', 'public.customers', 'ssn'],
    ['update customers set plan = $$$$ returning old.ssn', 'public.customers', 'ssn'],
    ['delete from customers returning with (old as o) o.*', 'public.customers', 'ssn'],
    ['insert into customers (id) values (1) on conflict (ssn) do nothing', 'public.customers', 'ssn'],
    ['insert into customers (id) values (1) on conflict (id) where ssn is null do nothing', 'public.customers', 'ssn'],
    [
      'merge into orders o using customers c on true when matched and c.ssn is null then do nothing',
      'public.customers',
      'ssn',
    ],
  ])('%s', (sql, name, column) => {
    const plan = planQuery({ sql }, catalog, { masks: [] })
    const read = plan.action.parts.find(
      (part) => part.verb === 'sql.select' && part.resource.type === 'sql' && part.resource.name === name,
    )
    expect(read?.attributes['columns_read']).toContain(column)
  })
})

describe('has_where', () => {
  it.each([
    ['delete from orders where id = 1', true],
    ['delete from orders', false],
    ['delete from orders where true', false],
    ['delete from orders where 1 = 1', false],
    ['delete from orders where id = id', false],
    ['delete from orders where id = 1 or true', false],
    ['delete from orders where true and id = 1', true],
    ['delete from orders where not false', false],
    ["delete from orders where 'a' < 'b'", false],
    ['delete from orders where exists (select 1)', false],
    ['with d as (delete from orders) select 1 from customers where id = 1', false],
    ['delete from orders where id in (1, 2)', true],
  ])('%s: %s', (sql, expected) => {
    const part = planQuery({ sql }, catalog, { masks: [] }).action.parts.find((one) => one.verb === 'sql.delete')
    expect(part?.attributes['has_where']).toBe(expected)
  })
})

describe('names', () => {
  it('tells apart names that would read alike', () => {
    const odd = shopCatalog({ relations: [relation('a.b', ['id']), relation('b', ['id'], { schema: 'public.a' })] })
    const name = (sql: string): unknown => planQuery({ sql }, odd, { masks: [] }).action.parts.map(line)
    expect(name('select id from "a.b"')).toEqual(['sql.select public."a.b"(id)'])
    expect(name('select id from "public.a".b')).toEqual(['sql.select "public.a".b(id)'])
  })

  it('C7: pins every relation to its schema', () => {
    const sql = 'select o.id from orders o, U&"c\\0075stomers" c, /* orders */ public . orders -- orders'
    expect(planQuery({ sql }, catalog, { masks: [] }).sql).toBe(
      'select o.id from "public"."orders" o, "public"."customers" c, /* orders */ "public"."orders" -- orders',
    )
  })

  it('edits at bytes, not at characters', () => {
    const sql = "select 'é€😀', id from orders where note = 'ü' and exists (select 1 from customers)"
    expect(planQuery({ sql }, catalog, { masks: [] }).sql).toBe(
      'select \'é€😀\', id from "public"."orders" where note = \'ü\' and exists (select 1 from "public"."customers")',
    )
  })
})
