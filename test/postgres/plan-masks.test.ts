import { beforeAll, describe, expect, it } from 'vitest'
import type { ColumnMask } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Catalog } from '../../src/protocols/postgres/catalog.ts'
import { loadParser, planQuery, refusal, type PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { columns, customers, fn, mask, relation, shopCatalog } from './plan-fixture.ts'

beforeAll(loadParser)

const shop = shopCatalog()
const MASKS = [mask('ssn'), mask('email', 'null')]

function plan(
  sql: string,
  masks: readonly ColumnMask[] = MASKS,
  catalog: Catalog = shop,
  params: unknown[] = [],
): PostgresPlan {
  return planQuery({ sql, params }, catalog, { masks })
}

function construct(sql: string, masks: readonly ColumnMask[] = MASKS, catalog: Catalog = shop): string {
  try {
    return plan(sql, masks, catalog).refused?.construct ?? 'accepted'
  } catch (error) {
    if (error instanceof SallyportError && error.code === 'ERR_DENIED') return error.facts.construct ?? 'unnamed'
    throw error
  }
}

const SOURCE =
  '(SELECT "id", "name", (NULL)::text AS "email", (\'[masked]\')::text AS "ssn", "plan" FROM "public"."customers")'

describe('C9: masked columns are replaced at the source', () => {
  it.each([
    ['select ssn from customers', `select ssn from ${SOURCE} AS "customers"`],
    ['select c.ssn from customers c', `select c.ssn from ${SOURCE} c`],
    ['select c.ssn from public.customers as c', `select c.ssn from ${SOURCE} as c`],
    ['select x from customers t(a, b, c, x)', `select x from ${SOURCE} t(a, b, c, x)`],
    ['table customers', `SELECT * FROM ${SOURCE} AS "customers"`],
    ['select * from customers *', `select * from ${SOURCE} AS "customers"`],
    ['select ssn from "customers"', `select ssn from ${SOURCE} AS "customers"`],
    ['select ssn from U&"c!0075stomers" uescape \'!\' x', `select ssn from ${SOURCE} x`],
    ['select public.customers.ssn from customers', `select "customers".ssn from ${SOURCE} AS "customers"`],
    [
      'select public . customers /* . */ . ssn from customers',
      `select "customers" /* . */ . ssn from ${SOURCE} AS "customers"`,
    ],
    ['select 1 where exists (table customers)', `select 1 where exists (SELECT * FROM ${SOURCE} AS "customers")`],
    [
      'with customers as (select * from customers) select * from customers',
      `with customers as (select * from ${SOURCE} AS "customers") select * from customers`,
    ],
    ['explain select ssn from customers', `explain select ssn from ${SOURCE} AS "customers"`],
  ])('%s', (sql, sent) => {
    expect(plan(sql).sql).toBe(sent)
  })

  it('keeps ONLY inside', () => {
    const only = SOURCE.replace('FROM "public"', 'FROM ONLY "public"')
    expect(plan('select ssn from only customers').sql).toBe(`select ssn from ${only} AS "customers"`)
    expect(plan('select ssn from ONLY /* x */ ( customers ) c').sql).toBe(`select ssn from ${only} c`)
    expect(plan('table only customers').sql).toBe(`SELECT * FROM ${only} AS "customers"`)
  })

  it('leaves tables without masks in place, pinned', () => {
    expect(plan('select id from orders').sql).toBe('select id from "public"."orders"')
    expect(plan('select id from orders').touchesMasked).toBe(false)
  })

  it('tells which result columns are masks', () => {
    expect([...plan('select c.id, c.ssn, email as x, upper(ssn) from customers c').maskedOutputs]).toEqual([
      [1, 'redact'],
      [2, 'null'],
    ])
    expect([...plan('select * from customers').maskedOutputs.keys()]).toEqual([2, 3])
    expect(plan('select * from customers join orders using (id)').maskedOutputs.size).toBe(0)
    expect(plan('explain select ssn from customers').maskedOutputs.size).toBe(0)
  })

  it('replaces by type, and keeps modifier and collation', () => {
    const typed = relation('typed', [
      'a:character varying(4)',
      'b:numeric(8,3)',
      'd:text',
      'e:jsonb',
      'f:text',
      'g:public.citext',
    ])
    const cols = typed.columns.map((column) =>
      column.name === 'd'
        ? { ...column, collation: { schema: 'pg_catalog', name: 'C' } }
        : column.name === 'f'
          ? { ...column, type: 'public.checked', typeKind: 'd', baseType: 'text', notNull: true }
          : column,
    )
    const catalog = shopCatalog({ relations: [{ ...typed, columns: cols }] })
    const masks = ['a', 'b', 'd', 'e', 'f', 'g'].map((column) => mask(column, 'redact', 'typed'))
    expect(plan('select 1 from typed', masks, catalog).sql).toBe(
      `select 1 from (SELECT ('mask')::character varying(4) AS "a", (NULL)::numeric(8,3) AS "b", ('[masked]')::text COLLATE "pg_catalog"."C" AS "d", (NULL)::jsonb AS "e", ('[masked]')::text AS "f", ('[masked]')::public.citext AS "g" FROM "public"."typed") AS "typed"`,
    )
  })

  it('names the schema of everything a partial mask runs', () => {
    const { sql } = plan('select name from customers', [mask('name', 'partial')])
    expect(sql).toContain('pg_catalog."right"("name"::pg_catalog.text, 4)')
    expect(sql.replaceAll(/pg_catalog\."?\w+"?\(|OPERATOR\(pg_catalog\.[^)]+\)/g, '')).not.toMatch(
      /\b(right|length)\(|\|\|/,
    )
  })

  it('quotes names that try to leave their quotes', () => {
    const odd = relation('x"; drop table orders; --', ['a"b', 'id'])
    const catalog = shopCatalog({ relations: [odd] })
    const { sql } = plan(
      'select * from "x""; drop table orders; --"',
      [{ schema: 'public', table: odd.name, column: 'a"b', transform: 'redact' }],
      catalog,
    )
    expect(sql).toBe(
      `select * from (SELECT ('[masked]')::text AS "a""b", "id" FROM "public"."x""; drop table orders; --") AS "x""; drop table orders; --"`,
    )
  })
})

describe('C9: what cannot be rewritten is refused by name', () => {
  it.each([
    ['select * from customer_view', 'accepted'],
    ['select * from ssn_view', 'sql.view_over_mask'],
    ['select * from row_view', 'sql.view_over_mask'],
    ['select c.id from orders o, lateral (select id from ssn_view) c', 'sql.view_over_mask'],
    ['select * from customers tablesample system (10)', 'accepted'],
    ['select * from orders o, customers tablesample system (o.id)', 'sql.mask.tablesample'],
    ['select ctid from customers', 'accepted'],
    ['select c, c.ctid from customers c', 'sql.mask.system_column'],
    ['select a.ctid from customers a natural join orders', 'sql.mask.system_column'],
    ['select c.xmin from customers c', 'accepted'],
    ['select public.customers.id from customers, (select 1) customers', 'sql.mask.qualified_column'],
    ['select leak(c) from customers c', 'sql.mask.function'],
    ['select c.leak from customers c', 'sql.mask.function'],
    ['select add_one(1)', 'sql.mask.function'],
    ["select pg_read_file('x')", 'sql.mask.function'],
    ['select lo_get(1)', 'sql.mask.function'],
    ['select pg_stat_get_activity(1)', 'sql.mask.function'],
    ['select * from pg_stats', 'sql.mask.catalog'],
    ['select id from customers where ssn = $$x$$', 'sql.mask.predicate'],
    ['select 1 from customers a join customers b on a.ssn = b.ssn', 'sql.mask.predicate'],
    ['select 1 from customers a join customers b using (ssn)', 'sql.mask.predicate'],
    ['select 1 from customers a natural join customers b', 'sql.mask.predicate'],
    ['select ssn from customers group by ssn having ssn > $$a$$', 'sql.mask.predicate'],
    ['select id from customers where id in (select 1 from customers where ssn is null)', 'sql.mask.predicate'],
    ['select id from customers where email = $$x$$', 'accepted'],
    ['select id from customers order by ssn', 'accepted'],
    ['update customers set ssn = $$x$$', 'sql.mask.update'],
    ['update customers set name = ssn', 'sql.mask.dml_read'],
    ['update customers set name = $$x$$ where ssn is null', 'sql.mask.dml_read'],
    ['update customers set name = c::text from customers c', 'sql.mask.dml_source'],
    ['delete from customers where ssn like $$1%$$', 'sql.mask.dml_read'],
    ['delete from customers returning *', 'accepted'],
    ['delete from customers returning upper(ssn)', 'sql.mask.returning'],
    ['with d as (delete from customers returning *) insert into orders (note) select ssn from d', 'sql.mask.returning'],
    ['delete from customers c returning c', 'sql.mask.returning'],
    ['delete from customers returning id', 'accepted'],
    ['delete from customers returning public.customers.id', 'accepted'],
    ['with customers as (select 1 as ssn) delete from customers returning ssn', 'accepted'],
    ['insert into customers (id, ssn) values (1, $$x$$)', 'accepted'],
    ['insert into customers (id) values (1) returning ssn', 'accepted'],
    ['insert into customers (id) values (1) on conflict (ssn) do nothing', 'sql.mask.dml_read'],
    [
      'insert into customers (id) values (1) on conflict (id) do update set name = customers.email',
      'sql.mask.dml_read',
    ],
    ['insert into customers (id) values (1) on conflict (id) do update set ssn = excluded.ssn', 'sql.mask.update'],
    [
      'insert into customers (id, name) values (1, $$a$$) on conflict (id) do update set name = excluded.name',
      'accepted',
    ],
    ['insert into orders (note) select ssn from customers', 'sql.mask.dml_source'],
    ['insert into orders (note) select name from customers', 'accepted'],
    ['insert into orders select c.* from customers c', 'sql.mask.dml_source'],
    ['with x as (update orders set status = $$a$$ returning id) select ssn from customers', 'sql.mask.dml_source'],
    ['merge into orders o using customers c on o.note = c.ssn when matched then delete', 'sql.mask.dml_source'],
    ['merge into customers c using orders o on o.note = c.ssn when matched then delete', 'sql.mask.dml_read'],
    ['copy customers to stdout', 'sql.session'],
    ['select ssn into x from customers', 'sql.mask.statement'],
    ['drop table customers', 'sql.mask.statement'],
    ['select 1; select ssn from customers where ssn = $$x$$', 'sql.mask.predicate'],
    ['selec ssn', 'sql.unknown'],
    ["select query_to_xml('x', true, true, '')", 'sql.unknown'],
  ])('%s: %s', (sql, expected) => {
    expect(construct(sql)).toBe(expected)
  })

  it('C4: lets the policy say its own word on what it will not run', () => {
    const planned = plan('execute p')
    expect(planned.action.parts.map((part) => part.verb)).toEqual(['sql.prepare', 'sql.unknown'])
    expect(refusal(planned)).toMatchObject({ code: 'ERR_DENIED', facts: { construct: 'sql.unknown' } })
    expect(refusal(plan('select 1'))).toBeUndefined()
  })

  it('runs functions an operator vouches for', () => {
    const under = { masks: MASKS, trustedFunctions: ['public.add_one(integer)'] }
    expect(planQuery({ sql: 'select add_one(id) from customers' }, shop, under).sql).toContain(SOURCE)
    expect(planQuery({ sql: 'select leak(c) from customers c' }, shop, under).refused?.message).toMatch(/leak/)
  })

  it('refuses guesses against a unique, exclusion or foreign key of a masked column', () => {
    const unique = relation('people', ['id:integer', 'ssn', 'boss:integer', 'nick'], {
      uniqueColumns: ['id', 'ssn'],
      foreignKeys: [
        {
          columns: ['boss'],
          references: customers.oid,
          referencedColumns: ['id'],
          onDelete: 'no_action',
          onUpdate: 'cascade',
        },
      ],
    })
    const catalog = shopCatalog({ relations: [unique] })
    const masks = [mask('ssn', 'redact', 'people'), mask('boss', 'redact', 'people')]
    expect(construct('insert into people (ssn) values ($$x$$)', masks, catalog)).toBe('sql.mask.unique')
    expect(construct('insert into people (ssn) values ($$x$$) on conflict do nothing', masks, catalog)).toBe(
      'sql.mask.unique',
    )
    expect(construct('insert into people (boss) values (1)', masks, catalog)).toBe('sql.mask.unique')
    expect(construct('insert into people (nick) values ($$x$$)', masks, catalog)).toBe('accepted')
    expect(construct('update people set id = 1', masks, catalog)).toBe('sql.mask.unique')
    expect(construct('update people set nick = $$x$$', masks, catalog)).toBe('accepted')
    expect(construct('delete from customers where id = 1', masks, catalog)).toBe('sql.mask.foreign_key')
    expect(construct('update customers set id = 2', masks, catalog)).toBe('sql.mask.foreign_key')
    expect(construct('update customers set name = $$x$$', masks, catalog)).toBe('accepted')
  })

  it('refuses views that call functions, and follows views over views', () => {
    const helper = fn('helper()')
    const base = relation('v1', ['id'], {
      kind: 'view',
      dependsOn: [customers.oid],
      ruleReads: [{ relation: customers.oid, column: 'ssn' }],
    })
    const catalog = shopCatalog({
      functions: [helper],
      relations: [
        base,
        relation('v2', ['id'], { kind: 'view', dependsOn: [base.oid] }),
        relation('v3', ['id'], { kind: 'materialized_view', dependsOn: [base.oid] }),
        relation('v4', ['id'], { kind: 'view', readFunctions: [helper.oid] }),
      ],
    })
    for (const view of ['v1', 'v2', 'v3'])
      expect(construct(`select id from ${view}`, MASKS, catalog)).toBe('sql.view_over_mask')
    expect(construct('select id from v4', MASKS, catalog)).toBe('sql.mask.function')
    expect(construct('select id from v4', [], catalog)).toBe('accepted')
    expect(construct('select id from v1', [...MASKS, mask('id', 'redact', 'v1')], catalog)).toBe('accepted')
  })
})

describe('C9: masks are bound to the catalog', () => {
  it('refuses everything while a mask has no column', () => {
    for (const unbound of [mask('gone'), mask('ssn', 'redact', 'gone')])
      expect(construct('select 1', [unbound])).toBe('sql.mask.binding')
  })

  it('refuses a keyed hash', () => {
    expect(construct('select 1', [mask('ssn', 'hash')])).toBe('sql.mask.hash')
  })

  it('spreads over partitions, parents, generated columns and columns that hold rows', () => {
    const parent = relation('parent', ['id', 'ssn'])
    const low = relation('low', ['id', 'ssn'], { parents: [parent.oid] })
    const lower = relation('lower', ['ssn', 'id', 'extra'], { parents: [low.oid] })
    const tail = columns('tail').map((one) => ({ ...one, attnum: 4, generated: true, generatedFrom: ['ssn'] }))
    const rows = columns('rows').map((one) => ({ ...one, attnum: 2, rowTypeOf: lower.oid }))
    const holder = relation('holder', ['id'])
    const catalog = shopCatalog({
      relations: [
        { ...parent, children: [low.oid] },
        { ...low, children: [lower.oid] },
        { ...lower, columns: [...lower.columns, ...tail] },
        { ...holder, columns: [...holder.columns, ...rows] },
      ],
    })
    const { tripwire } = plan('select 1', [mask('ssn', 'redact', 'low')], catalog)
    const has = (oid: number, attnum: number): boolean =>
      tripwire.some((one) => one.relation === oid && one.attnum === attnum)
    expect([has(parent.oid, 2), has(low.oid, 2), has(lower.oid, 1), has(lower.oid, 4), has(holder.oid, 2)]).toEqual([
      true,
      true,
      true,
      true,
      true,
    ])
    expect(tripwire).toHaveLength(5)
  })

  it('C5: redacts where two masks differ', () => {
    expect(plan('select ssn from customers', [mask('ssn', 'null'), mask('ssn', 'partial')]).sql).toContain(
      `('[masked]')::text AS "ssn"`,
    )
  })
})

describe('C10: the request is shown without values', () => {
  it.each([
    [
      "select ssn from customers where name = 'Ada' and id in (1, 2.5, 0x1F, x'ff') -- 123-45-6789",
      "select ssn from customers where name = '•' and id in (•, •, •, '•')",
    ],
    [
      "select /* 123 */ ssn, E'a\\'b', $q$123$q$, U&'12', n'3' from customers",
      "select ssn, '•', '•', '•', n'•' from customers",
    ],
    ["insert into customers (id, ssn) values (1, '123-45-6789')", "insert into customers (id, ssn) values (•, '•')"],
    ['drop table "123"; select x.y, \'5\'', 'drop table "•"; select x.y, \'•\''],
    ['selec 123', '[9 bytes that are no readable statement]'],
    ["select '123", '[11 bytes that are no readable statement]'],
  ])('%s', (sql, shown) => {
    expect(plan(sql).shown.text).toBe(shown)
  })

  it('hides parameters, and says which are NULL', () => {
    const { shown } = plan('select ssn from customers where name = $1 or plan = $2', MASKS, shop, ['Ada', null])
    expect(shown).toEqual({ text: 'select ssn from customers where name = $1 or plan = $2', params: ['•', null] })
  })

  it('C11: shows whoever approves which row a statement is about, when it mentions no masked column', () => {
    expect(plan("update customers set plan = 'gold' where id = 4").shown.text).toContain("'gold' where id = 4")
    expect(plan('update customers set plan = $1 where id = $2', MASKS, shop, ['gold', '4']).shown.params).toEqual([
      'gold',
      '4',
    ])
    expect(plan("insert into customers (id, name) values (9, 'Ada')").shown.text).toContain("(9, 'Ada')")
  })

  it('C11: is another call when another table has the old name', () => {
    const other = shopCatalog({ relations: [{ ...customers, oid: customers.oid + 1000 }] })
    const sql = "update customers set plan = 'gold' where id = 4"
    expect(plan(sql, [], other).exact).not.toEqual(plan(sql, [], shop).exact)
  })

  it('shows what meets no masked column as it is', () => {
    expect(plan("select id from orders where note = 'x'").shown.text).toBe("select id from orders where note = 'x'")
    expect(plan("select 'x'; select 1", []).shown.text).toBe("select 'x'; select 1")
  })
})
