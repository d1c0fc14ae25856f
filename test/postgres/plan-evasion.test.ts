import * as fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import type { CatalogRows } from '../../src/protocols/postgres/catalog.ts'
import { STATEMENT_BYTES_MAX } from '../../src/protocols/postgres/parse.ts'
import { loadParser, planQuery, type PlanUnder, type PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { addOne, fn, line, mask, shopCatalog } from './plan-fixture.ts'

beforeEach(loadParser)

const catalog = shopCatalog()

function plan(sql: string, more: Partial<CatalogRows> = {}): PostgresPlan {
  return planQuery({ sql }, Object.keys(more).length === 0 ? catalog : shopCatalog(more), { masks: [] })
}

function verbs(sql: string): readonly string[] {
  return plan(sql).action.parts.map((part) => part.verb)
}

describe('statements that are not what they look like', () => {
  it.each([
    ['with d as (delete from orders returning *) select * from d', 'sql.delete'],
    ['with d as (update orders set note = $$x$$ returning 1) select 1', 'sql.update'],
    ['with i as (insert into orders (id) values (1) returning 1) select 1 where false', 'sql.insert'],
    ['explain analyze delete from orders', 'sql.delete'],
    ['explain (analyze off) delete from orders', 'sql.delete'],
    ['explain (costs off, analyze true) delete from orders', 'sql.delete'],
    ['select id from orders for no key update', 'sql.lock'],
    ['select 1 from (select id from orders) x for update', 'sql.lock'],
    ['/* select 1 */ delete /* x */ from/**/orders -- where id = 1', 'sql.delete'],
    ['DELETE FROM"orders"', 'sql.delete'],
    ['delete from U&"\\006frders"', 'sql.delete'],
    ['delete from only orders', 'sql.delete'],
  ])('%s has %s and is not read-only', (sql, verb) => {
    expect(verbs(sql)).toContain(verb)
    expect(verbs(sql)).not.toContain('sql.unknown')
    expect(plan(sql).readOnly).toBe(false)
  })

  it.each([
    ['select 1; drop table orders', 2, false],
    ['select 1; select 2', 2, false],
    ['select 1; commit; delete from orders; begin', 4, true],
    ['select * from orders; -- x', 1, false],
    ['begin; select 1', 2, true],
    ['drop table orders; select 1', 2, true],
  ])('counts the statements of %s', (sql, count, isRefused) => {
    expect(plan(sql).action.attributes['statement_count']).toBe(count)
    expect(plan(sql).refused !== undefined).toBe(isRefused)
  })

  it('names a DROP that hides behind a SELECT', () => {
    expect(plan('select 1; drop table orders').action.parts.map(line)).toContain('sql.drop public.orders')
  })

  it.each([
    ['a NUL, behind which the backend might see more', 'select 1\0; drop table orders'],
    ['half a surrogate pair', "select '\ud800'"],
    ['a syntax error', 'selec 1'],
    ['a no-break space', 'select\u00a01'],
    ['two statements run together', 'select 1 drop table orders'],
    ['an unfinished string', "select 'a"],
    ['an unfinished comment', 'select 1 /* /* */'],
    ['parentheses without end', `select ${'('.repeat(20_000)}1${')'.repeat(20_000)}`],
    ['terms without end', `select ${'1+'.repeat(20_000)}1`],
    ['a statement that is too long', `select '${'x'.repeat(STATEMENT_BYTES_MAX)}'`],
    ['one that is too long in bytes only', `select '${'é'.repeat(STATEMENT_BYTES_MAX / 2)}'`],
  ])('C4: does not understand %s', (_name, sql) => {
    expect(verbs(sql)).toEqual(['sql.unknown'])
    expect(plan(sql).readOnly).toBe(false)
  })

  it('C4: walks what is nested deeply or calls it unknown', () => {
    for (const depth of [500, 2000, 4000, 8000]) {
      const sql = `select ${'not '.repeat(depth)}true from orders`
      const found = verbs(sql)
      expect(found.includes('sql.unknown') || found.includes('sql.select')).toBe(true)
    }
  })
})

describe('functions in every position', () => {
  const places: readonly string[] = [
    'select $f',
    'select * from $f',
    'select * from $f as x(a)',
    'select * from rows from ($f, generate_series(1, 2))',
    'select 1 from orders, lateral $f x',
    'select 1 from orders join $f x on true',
    'select 1 from orders o join customers c on $f is null',
    'select 1 from orders where $f is null',
    'select 1 from orders group by $f',
    'select count(*) from orders having $f is null',
    'select 1 from orders order by $f',
    'select 1 from orders limit (select 1 where $f is null)',
    'select 1 offset (select 1 where $f is null)',
    'values ((select 1 where $f is null))',
    'select (select $f)',
    'select exists (select $f)',
    'select 1 in (select 1 where $f is null)',
    'select array[($f)::text]',
    'select array(select $f)',
    'select row($f)',
    'select case when $f is null then 1 end',
    'select case 1 when 1 then 2 else (select 3 where $f is null) end',
    'select coalesce(null, ($f)::text)',
    'select nullif($f, null)',
    'select greatest(($f)::text)',
    'select ($f)::text',
    'select cast($f as text)',
    'select ($f) collate "C"',
    'select ($f) is distinct from null',
    'select not ($f is null)',
    'select concat(variadic array[($f)::text])',
    'select sum(1) filter (where $f is null)',
    'select sum(1) over (order by $f)',
    'select sum(1) over w from orders window w as (partition by $f)',
    'select string_agg($$a$$, $$b$$ order by $f)',
    'select percentile_cont(0.5) within group (order by $f)',
    "select json_object('a': $f)",
    'select json_array($f)',
    'select json_arrayagg($f)',
    "select json_value('{}', '$' passing $f as x)",
    "select json_value('{}', '$' default $f on empty)",
    'select xmlelement(name a, $f)',
    'select xmlforest($f as a)',
    "select * from xmltable('/a' passing ($f) columns b int) x",
    "select * from json_table('[]', '$' passing $f as a columns (b int)) x",
    'select 1 from orders tablesample system (($f)::int)',
    'with x as (select $f) select 1',
    'with recursive x(a) as (select 1 union all select 2 from x where $f is null) select 1 from x',
    'select 1 union select 2 where $f is null',
    'select ((select o from orders o limit 1)).note || ($f)::text',
    'select (array[1])[($f)::int]',
    'select $$a$$ like any (array[($f)::text])',
    'select 1 between 0 and ($f)::int',
    'insert into orders (note) values (($f)::text)',
    'insert into orders (note) select $f',
    'insert into orders (id) values (1) on conflict (id) do update set note = ($f)::text',
    'insert into orders (id) values (1) on conflict (id) do update set note = $$a$$ where $f is null',
    'insert into orders (id) values (1) returning $f',
    'update orders set note = ($f)::text',
    'update orders set (note, status) = ($f, null)',
    'update orders set note = $$a$$ where $f is null',
    'update orders set note = $$a$$ from $f x',
    'delete from orders where $f is null',
    'delete from orders using $f x',
    'delete from orders returning $f',
    'merge into orders using customers c on $f is null when matched then do nothing',
    'merge into orders using (select $f) c on true when matched and $f is null then do nothing',
    'merge into orders using customers c on true when matched then update set note = ($f)::text',
    'merge into orders using customers c on true when not matched then insert (note) values (($f)::text)',
    'explain select $f',
  ]
  it.each(places)('finds the call in: %s', (place) => {
    for (const call of [
      "pg_read_file('/etc/passwd')",
      '"pg_read_file"($$x$$)',
      'U&"pg\\005fread_file"/**/(\'x\')',
      "pg_catalog.pg_read_file('x')",
    ]) {
      const sql = place.replaceAll('$f', () => call)
      const parts = plan(sql).action.parts.map(line)
      expect(parts.join()).toContain('sql.call pg_catalog.pg_read_file(text)')
      expect(plan(sql).readOnly).toBe(false)
    }
  })

  it.each([
    'pg_sleep(1)',
    "set_config(lower('role'), 'x', false)",
    "nextval('s')",
    'pg_terminate_backend(1)',
    "lo_import('x')",
    "pg_notify('a', 'b')",
    "pg_ls_dir('.')",
    'pg_advisory_lock(1)',
    'pg_reload_conf()',
    "query_to_xml('x', true, true, '')",
    "table_to_xml('customers', true, true, '')",
    "ts_stat('select 1')",
    'lo_get(1)',
    'pg_stat_get_activity(1)',
    "current_setting('app.secret')",
    'current_setting(note)',
    'nowhere(1)',
    'private.nowhere()',
    'dblink($$a$$)',
    'leak(null)',
  ])('does not let %s ride on the rule of the statement', (call) => {
    const found = verbs(`select ${call} from orders`)
    expect(found.includes('sql.call') || found.includes('sql.unknown')).toBe(true)
  })

  it('counts a name with an overload of a user as that user’s function', () => {
    const lower = fn('lower(character varying)')
    expect(plan('select lower(note) from orders', { functions: [lower] }).action.parts.map(line)).toContain(
      'sql.call public.lower(character varying)',
    )
    expect(plan('select pg_catalog.lower(note) from orders', { functions: [lower] }).action.parts).toHaveLength(1)
  })

  it('does not trust a function that a user put into pg_catalog', () => {
    const planted = fn('planted()', { schema: 'pg_catalog', volatility: 'immutable' })
    expect(plan('select planted()', { functions: [planted] }).action.parts.map(line)).toContain(
      'sql.call pg_catalog.planted()',
    )
  })

  it.each([['o.leak'], ['(o).leak'], ['((array_agg(o))[1]).leak'], ['leak(o)'], ['(select o).leak']])(
    'finds the call in attribute notation: %s',
    (call) => {
      const found = plan(`select ${call} from customers o`, {
        functions: [{ ...fn('array_agg(anynonarray)'), oid: 999, schema: 'pg_catalog', volatility: 'immutable' }],
      })
      expect(found.action.parts.map(line).join()).toContain('sql.call public.leak(customers)')
    },
  )

  it('finds operators, casts and types that users made', () => {
    const operators = [{ schema: 'public', name: '===', functionOid: addOne.oid, extension: null }]
    const part = 'sql.call public.add_one(integer)'
    const via = (sql: string, more: Partial<CatalogRows>): string => plan(sql, more).action.parts.map(line).join()
    expect(via('select 1 === 2', { operators })).toContain(`${part} via operator`)
    expect(via('select 1 operator(public.===) 2', { operators })).toContain(`${part} via operator`)
    expect(via('select 1 === any (array[1])', { operators })).toContain(`${part} via operator`)
    expect(via('select id from orders order by id using ===', { operators })).toContain(`${part} via operator`)
    const equals = [{ ...operators[0], schema: 'public', name: '=', functionOid: addOne.oid, extension: null }]
    for (const sql of [
      'select 1 in (2)',
      'select 1 in (select 2)',
      'select nullif(1, 2)',
      'select 1 is distinct from 2',
      'select case 1 when 2 then 3 end',
      'select 1 from orders join customers using (id)',
    ]) {
      expect(via(sql, { operators: equals })).toContain(`${part} via operator`)
    }
    const cast = { source: 'orders', target: 'integer', functionOid: addOne.oid, extension: null }
    expect(via('select 1', { casts: [{ ...cast, context: 'i' }] })).toContain(`${part} via cast`)
    expect(via('select 1', { casts: [{ ...cast, context: 'e' }] })).not.toContain('sql.call')
    expect(via('select o::int from orders o', { casts: [{ ...cast, context: 'e' }] })).toContain(`${part} via cast`)
    const types = [{ schema: 'public', name: 'checked', kind: 'd', functionOids: [addOne.oid], extension: null }]
    for (const type of ['checked', 'public.checked', 'checked[]', '_checked']) {
      expect(via(`select 1::${type}`, { types })).toContain(`${part} via type`)
    }
  })

  it('lets operators of trusted extensions ride', () => {
    const operators = [{ schema: 'public', name: '=', functionOid: addOne.oid, extension: 'citext' }]
    expect(plan('select id from orders where note = $$a$$', { operators }).action.parts.map(line)).toEqual([
      'sql.select public.orders(id,note)',
    ])
  })
})

describe('what cannot be understood', () => {
  it.each([
    'select nosuch from orders',
    'select x.id from orders',
    'select orders.nosuch from orders',
    'select 1 from nowhere',
    'select 1 from private.nowhere',
    'select 1 from other.public.orders',
    'select public.orders.id from orders o',
    'update order_view set id = 1',
    'insert into ruled values (1)',
    'delete from nowhere',
    'update orders set nosuch = 1',
    'insert into orders (nosuch) values (1)',
    'delete from orders where current of c',
    'select 1 from orders tablesample mine (1)',
    'explain (nosuch) select 1',
    'explain (serialize text) select 1',
    'select 1::pg_class.relname%type',
  ])('C4: %s', (sql) => {
    expect(verbs(sql)).toContain('sql.unknown')
  })
})

describe('payloads', () => {
  it.each([
    [null],
    ['select 1'],
    [{}],
    [{ sql: 1 }],
    [{ sql: 'select 1', extra: 1 }],
    [{ sql: 'select 1', params: 'x' }],
    [{ sql: 'select $1', params: [{}] }],
    [{ sql: 'select $1', params: [[1]] }],
    [{ sql: 'select $1', params: [Number.NaN] }],
    [{ sql: 'select $1', params: ['a\0'] }],
    [{ sql: 'select $1', params: ['\udc00'] }],
    [{ sql: 'select 1', max_rows: -1 }],
    [{ sql: 'select 1', max_rows: 1.5 }],
    [{ sql: 'select $1' }],
    [{ sql: 'select 1', params: [1] }],
    [{ sql: 'select $2', params: [1] }],
  ])('refuses %j', (payload) => {
    expect(() => planQuery(payload, catalog, { masks: [] })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_INPUT' }),
    )
  })

  it('refuses more parameters than it will hold', () => {
    for (const params of [Array(1001).fill(1), ['x'.repeat(2 * 1024 * 1024)]]) {
      expect(() => planQuery({ sql: 'select $1', params }, catalog, { masks: [] })).toThrow(
        expect.objectContaining({ code: 'ERR_TOO_LARGE' }),
      )
    }
  })

  it('sends parameters in the text form of PostgreSQL', () => {
    const { params } = planQuery({ sql: 'select $1, $2, $3, $4, $5', params: ['a', 1.5, true, null, 1e21] }, catalog, {
      masks: [],
    })
    expect(params).toEqual(['a', '1.5', 'true', null, '1e+21'])
  })

  it('C11: digests text, parameters, row limit and the path names are looked up on', () => {
    const exact = (sql: string, more: object = {}, rows: Partial<CatalogRows> = {}): string =>
      JSON.stringify(planQuery({ sql, ...more }, shopCatalog(rows), { masks: [] }).exact)
    const base = exact('select $1', { params: ['1'] })
    expect(exact('select $1', { params: ['1'] }, { fingerprint: 'another' })).toBe(base)
    expect(exact('select $1', { params: ['2'] })).not.toBe(base)
    expect(exact('select  $1', { params: ['1'] })).not.toBe(base)
    expect(exact('select $1', { params: ['1'], max_rows: 1 })).not.toBe(base)
    expect(exact('select $1', { params: ['1'] }, { searchPath: ['public', 'pg_catalog'] })).not.toBe(base)
    expect(exact('select $1', { params: ['1'] }, { database: 'other' })).not.toBe(base)
  })
})

/** What became of a text, in a word. */
function outcome(sql: string, under: PlanUnder): string {
  try {
    const made = planQuery({ sql }, catalog, under)
    return made.action.parts.length > 0 || made.action.attributes['statement_count'] === 0 ? 'planned' : 'empty'
  } catch (error) {
    return error instanceof SallyportError && error.code !== 'ERR_INTERNAL' ? error.code : 'untyped'
  }
}

describe('anything at all', () => {
  const words = fc.constantFrom(
    'select',
    'from',
    'customers',
    'orders',
    'ssn',
    '*',
    ',',
    '(',
    ')',
    'with',
    'as',
    'update',
    'set',
    '=',
    'where',
    'delete',
    'insert',
    'into',
    'values',
    'returning',
    'c',
    'lateral',
    'join',
    'on',
    'using',
    'union',
    '1',
    "'a'",
    '$1',
    'public',
    '.',
    'only',
    'table',
    'for',
    'of',
    'limit',
    'natural',
    'é',
    '"',
    '--',
    '/*',
    '*/',
    ';',
    '::',
    'text',
    'U&"x"',
  )
  const texts = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.array(words, { maxLength: 25 }).map((list) => list.join(' ')),
    fc.array(words, { maxLength: 15 }).map((list) => `select ${list.join('')}`),
  )

  it('never throws anything but a SallyportError', () => {
    const under = [{ masks: [] }, { masks: [mask('ssn'), mask('name', 'partial')] }]
    fc.assert(
      fc.property(texts, fc.constantFrom(...under), (sql, masks) => {
        expect(outcome(sql, masks)).not.toMatch(/untyped|empty/)
      }),
      { numRuns: 3000 },
    )
  })
})
