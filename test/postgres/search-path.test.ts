/** What is not understood while names are looked up somewhere else than the target says. */
import { beforeEach, describe, expect, it } from 'vitest'
import { loadParser, planQuery, type PlanUnder, type PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { isNameless, withSearchPath } from '../../src/protocols/postgres/search-path.ts'
import { fn, relation, shopCatalog } from './plan-fixture.ts'

beforeEach(loadParser)

const least = fn('least_of(text)', { schema: 'other', language: 'sql' })
const catalog = shopCatalog({
  relations: [
    ...shopCatalog().relations,
    relation('orders', ['id:integer!', 'hidden:text'], { oid: 91_000, schema: 'other' }),
    relation('pg_settings', ['name:text', 'setting:text'], { oid: 12_000, schema: 'pg_catalog', builtin: true }),
    relation('pg_settings', ['name:text'], { oid: 91_001, schema: 'public' }),
  ],
  functions: [...shopCatalog().functions, least],
})

function planned(sql: string, path?: readonly string[], more: Partial<PlanUnder> = {}): PostgresPlan {
  const seen = path === undefined ? catalog : withSearchPath(catalog, path)
  if (seen === undefined) throw new Error('The path is not taken.')
  return planQuery({ sql }, seen, { masks: [], door: 'session', ...more })
}

const verbs = (plan: PostgresPlan): readonly string[] => plan.action.parts.map(({ verb }) => verb)

describe('C7: names are looked up where the session does', () => {
  it('finds relations in the order of the path, and pins them there', () => {
    expect(planned('select * from orders', ['pg_catalog', 'other', 'public']).sql).toContain('"other"."orders"')
    expect(planned('select * from orders', ['pg_catalog', 'public', 'other']).sql).toContain('"public"."orders"')
    expect(verbs(planned('select * from orders', ['pg_catalog']))).toContain('sql.unknown')
  })

  it('makes new objects where the server would', () => {
    const [part] = planned('create table fresh (id int)', ['pg_catalog', 'other', 'public']).action.parts
    expect(part?.resource).toMatchObject({ name: 'other.fresh' })
  })

  it('takes no path on which the words of the gateway could mean something else', () => {
    expect(withSearchPath(catalog, ['other', 'pg_catalog'])).toBeUndefined()
    expect(withSearchPath(catalog, [])).toBeUndefined()
  })

  it('takes no path on which a temporary object hides another one', () => {
    expect(withSearchPath(catalog, ['pg_temp_3', 'pg_catalog', 'public'])).toBeUndefined()
    expect(withSearchPath(catalog, ['pg_catalog', 'pg_temp_3', 'public'])).toBeUndefined()
    expect(withSearchPath(catalog, ['pg_temp_3'])).toBeUndefined()
    expect(withSearchPath(catalog, ['pg_catalog', 'public', 'pg_temp_3'])?.searchPath).toEqual(['pg_catalog', 'public'])
  })

  it.each([
    'select add_one(id) from orders',
    'select public.add_one(1)',
    "select least_of('x')",
    'insert into audited values (1)',
    'create view v as select public.add_one(1)',
    'call other.least_of(1)',
  ])('runs no code of users there: %s', (sql) => {
    expect(verbs(planned(sql, ['pg_catalog', 'public', 'other']))).toContain('sql.unknown')
  })

  it.each(['select id from orders', 'update orders set note = upper(note)', 'select now(), 1 + 1'])(
    'and everything else: %s',
    (sql) => {
      expect(verbs(planned(sql, ['pg_catalog', 'public']))).not.toContain('sql.unknown')
    },
  )

  it.each([
    `select set_config('search_path', 'other', true), add_one(1)`,
    `insert into audited select 1 from (select set_config('search_path', 'other', false)) x`,
  ])('no statement moves the path and runs code of users: %s', (sql) => {
    expect(verbs(planned(sql))).toContain('sql.unknown')
  })

  it('the path is not moved under a trigger that may still run', () => {
    for (const sql of ['set search_path = other', `select set_config('search_path', '', false)`]) {
      expect(verbs(planned(sql))).toContain('sql.set')
      expect(verbs(planned(sql))).not.toContain('sql.unknown')
      expect(verbs(planned(sql, undefined, { owesCode: true }))).toContain('sql.unknown')
    }
    expect(verbs(planned('reset search_path', undefined, { owesCode: true }))).not.toContain('sql.unknown')
  })

  it.each(['begin', 'rollback to s', 'set search_path = x', 'reset all', 'show search_path', 'discard all', 'commit'])(
    'looks no name up: %s',
    (sql) => expect(isNameless(sql)).toBe(true),
  )

  it.each(['select 1', 'begin; select f()', 'fetch c', 'execute p', 'lock orders', ''])(
    'may look a name up: %s',
    (sql) => expect(isNameless(sql)).toBe(false),
  )
})

describe('R16: settings that are named by a query or given a parameter', () => {
  const RESTRICT = `SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'`
  const settings = (plan: PostgresPlan): readonly unknown[] =>
    plan.action.parts
      .filter(({ verb }) => verb === 'sql.set')
      .map(({ resource, attributes }) => ({ ...resource, ...attributes }))

  it('is understood as the setting its condition names', () => {
    const plan = planned(RESTRICT)
    expect(verbs(plan)).not.toContain('sql.unknown')
    expect(settings(plan)).toEqual([
      expect.objectContaining({ name: 'restrict_nonsystem_relation_kind', value: 'view, foreign-table' }),
    ])
  })

  it.each([
    `select set_config(name, 'x', false) from pg_settings`,
    `select set_config(name, 'x', false) from pg_settings where name = 'work_mem' or true`,
    `select set_config(name, 'x', false) from pg_settings where name <> 'work_mem'`,
    `select set_config(name, 'x', false) from pg_settings where 'work_mem' = name`,
    `select set_config(name, 'x', false) from pg_settings where name = $1`,
    `select set_config(name, setting, false) from pg_settings where name = 'work_mem'`,
    `select set_config(setting, 'x', false) from pg_settings where name = 'work_mem'`,
    `select set_config(name, 'x', false) from pg_settings s (x, name) where name = 'work_mem'`,
    `select set_config(name, 'x', false) from (select 'role' as name) pg_settings where name = 'work_mem'`,
    `select set_config(name, 'x', false) from pg_settings, orders where name = 'work_mem'`,
    `select set_config(name, 'x', false), 1 from pg_settings where name = 'work_mem'`,
    `select set_config(name, 'x', false) filter (where true) from pg_settings where name = 'work_mem'`,
    `select 1 from (select set_config(name, 'x', false) from pg_settings where name = 'work_mem') x`,
    `with pg_settings as (select 'role' as name) select set_config(name, 'x', false) from pg_settings where name = 'work_mem'`,
    `select set_config(name, 'x', false) from public.pg_settings where name = 'work_mem'`,
    `select set_config($1, 'x', false)`,
    `select set_config('work_mem', 'x', $1)`,
    `select set_config('work_mem', upper($1), false)`,
  ])('any other is not: %s', (sql) => {
    const plan = planQuery({ sql, params: sql.includes('$1') ? ['x'] : [] }, catalog, { masks: [], door: 'session' })
    expect(verbs(plan)).toContain('sql.unknown')
  })

  it('a value that is a parameter is what is bound', () => {
    const ask = (params: readonly (string | null)[]) =>
      settings(
        planQuery({ sql: `select set_config('jit', $1, false)`, params }, catalog, { masks: [], door: 'session' }),
      )
    expect(ask(['off'])).toEqual([expect.objectContaining({ name: 'jit', value: 'off', reset: false })])
    expect(ask([null])).toEqual([expect.objectContaining({ name: 'jit', value: '', reset: true })])
  })
})
