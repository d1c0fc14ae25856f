/**
 * PostgreSQL itself says which columns a query reads: make it a view and look at what the view depends on. For queries
 * made up at random, out of names that collide on purpose, the planner must name at least those columns and functions.
 */
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Catalog } from '../../src/protocols/postgres/catalog.ts'
import { loadParser, planQuery } from '../../src/protocols/postgres/plan.ts'
import { endpointOf, postgresOptions, postgresSchema } from '../../src/protocols/postgres/index.ts'
import { postgresProtocol } from '../../src/protocols/postgres/protocol.ts'
import { createDatabase, type TestDatabase } from '../services/postgres.ts'
import { callOf } from './connector-kit.ts'

const RUNS = 1500

let db: TestDatabase
let catalog: Catalog

beforeAll(async () => {
  await loadParser()
  db = await createDatabase(`
    CREATE TABLE a (x int, y int, t int);
    CREATE TABLE b (x int, z int, a int);
    CREATE TABLE c (y int, z int, w int);
    CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
    CREATE FUNCTION v(a) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'`)
  const options = postgresOptions(
    postgresSchema.parse({ host: db.host, port: db.port, database: db.name, tls: 'disable' }),
  )
  const target = {
    name: 'oracle',
    protocol: 'postgres',
    labels: {},
    mode: 'enforce',
    record: 'full',
    endpoint: endpointOf(options),
    options,
  } as const
  const protocol = postgresProtocol((payload, loaded, under) => {
    catalog = loaded
    return planQuery(payload, loaded, under)
  })
  const { signal } = new AbortController()
  const secret = async (): Promise<{ user: string; value: string }> => ({ user: db.user, value: db.password })
  await protocol.plan(callOf(target, { sql: 'select 1' }, signal), { masks: [], secret, signal })
  await protocol.close()
})
afterAll(() => db.drop())

const DEPENDS = `
  SELECT DISTINCT CASE d.refclassid WHEN 'pg_class'::regclass
    THEN d.refobjid::regclass || '.' || (SELECT attname FROM pg_attribute WHERE attrelid = d.refobjid AND attnum = d.refobjsubid)
    ELSE d.refobjid::regprocedure::text END AS name
  FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
  WHERE r.ev_class = 'pg_temp.judged'::regclass AND d.refobjid <> r.ev_class
    AND (d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 OR d.refclassid = 'pg_proc'::regclass)`

/** What PostgreSQL says the query reads and runs; undefined when it is no valid query. */
async function truth(sql: string): Promise<readonly string[] | undefined> {
  await db.admin.query('BEGIN')
  try {
    await db.admin.query(`CREATE TEMP VIEW judged AS ${sql}`)
    const { rows } = await db.admin.query<{ name: string }>(DEPENDS)
    return rows.map(({ name }) => name)
  } catch {
    return undefined
  } finally {
    await db.admin.query('ROLLBACK')
  }
}

/** What the planner says it reads and runs; undefined when it does not understand it. */
function planned(sql: string): ReadonlySet<string> | undefined {
  const names = new Set<string>()
  for (const { verb, resource, attributes } of planQuery({ sql }, catalog, { masks: [] }).action.parts) {
    if (verb === 'sql.unknown') return undefined
    if (resource.type !== 'sql') continue
    const name = resource.name.replace(/^public\./, '')
    if (verb === 'sql.call') names.add(name.replace('(public.', '('))
    const read = attributes['columns_read']
    if (Array.isArray(read)) for (const column of read) names.add(`${name}.${String(column)}`)
  }
  return names
}

const pick = fc.constantFrom
const tables = pick('a', 'b', 'c')
const aliases = pick('', '', '', ' a', ' b', ' x', ' t', ' q', ' x(y, z)', ' q(a)', ' t(x, y, z)')
const columnNames = pick('x', 'x', 'y', 'y', 'z', 't', 'a', 'q')
const qualifiers = pick('a', 'b', 'c', 'x', 't', 'q', 'public.a', 'public.b')

const { query } = fc.letrec<{ query: string; source: string; expression: string; select: string; with: string }>(
  (tie) => ({
    expression: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      columnNames,
      fc.tuple(qualifiers, columnNames).map(([q, c]) => `${q}.${c}`),
      columnNames,
      fc.tuple(qualifiers, columnNames).map(([q, c]) => `(${q}).${c}`),
      pick('1', 'f(1)', 'a.v', 'count(*) over ()'),
      tie('expression').map((e) => `f(${e}::text::int)`),
      fc.tuple(tie('expression'), tie('expression')).map(([l, r]) => `coalesce(${l}::text, ${r}::text)`),
      tie('select').map((s) => `exists (${s})`),
      tie('select').map((s) => `(select count(*) from (${s}) s)`),
      fc.tuple(tie('expression'), tie('expression')).map(([e, f]) => `(select ${e} from (select ${f}) q(x) limit 1)`),
    ),
    source: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.tuple(tables, aliases).map(([t, a]) => `${t}${a}`),
      fc.tuple(tables, aliases).map(([t, a]) => `public.${t}${a}`),
      fc
        .tuple(tie('source'), tie('source'), pick('cross join', 'natural join', 'natural left join'))
        .map(([l, r, j]) => `${l} ${j} ${r}`),
      fc.tuple(tie('source'), tie('source'), columnNames).map(([l, r, c]) => `${l} join ${r} using (${c})`),
      fc.tuple(tie('source'), tie('source'), columnNames).map(([l, r, c]) => `(${l} join ${r} using (${c}) as u)`),
      fc
        .tuple(tie('source'), tie('source'), tie('expression'))
        .map(([l, r, e]) => `${l} left join ${r} on ${e} is null`),
      fc.tuple(tie('source'), tie('source'), aliases).map(([l, r, a]) => `(${l} cross join ${r})${a}`),
      fc
        .tuple(tie('select'), pick('', 'lateral '), pick('s', 'x', 'a', 'q(x)', 't(y, z)'))
        .map(([s, l, a]) => `${l}(${s}) ${a}`),
      fc
        .tuple(tie('expression'), pick('g', 'x', 'y(x)'))
        .map(([e, a]) => `generate_series(1, f(${e}::text::int)) ${a}`),
    ),
    select: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc
        .tuple(fc.array(tie('expression'), { minLength: 1, maxLength: 2 }), fc.array(tie('source'), { maxLength: 2 }))
        .map(
          ([e, s]) =>
            `select ${e.map((one, i) => `${one} as o${i}`).join(', ')}${s.length > 0 ? ` from ${s.join(', ')}` : ''}`,
        ),
      fc
        .tuple(pick('*', 'a.*', 'x.*', 'x', 'a', 'x, y', 'z as x'), tie('source'), fc.option(tie('expression')))
        .map(([t, s, w]) => `select ${t} from ${s}${w === null ? '' : ` where ${w} is null`}`),
      fc
        .tuple(tie('expression'), tie('source'), columnNames)
        .map(([e, s, o]) => `select ${e} as x from ${s} order by ${o}`),
      fc.tuple(tie('expression'), tie('source')).map(([e, s]) => `select count(*) from ${s} group by ${e}`),
      fc
        .tuple(columnNames, tie('source'), columnNames)
        .map(([e, s, o]) => `select ${e} as k, count(*) from ${s} group by ${o}, k order by k`),
      fc.tuple(tie('expression'), tie('expression')).map(([l, r]) => `select ${l}::text union select ${r}::text`),
      tie('with'),
    ),
    with: fc
      .tuple(pick('', 'recursive '), pick('a', 'b', 'x', 'a(x, q)'), tie('select'), tie('select'))
      .map(([r, n, inner, outer]) => `with ${r}${n} as (${inner}) ${outer}`),
    query: tie('select'),
  }),
)

describe('C3: columns and functions of random queries', () => {
  it('are all named by the planner', async () => {
    let judged = 0
    await fc.assert(
      fc.asyncProperty(query, async (sql) => {
        // A view must have names for its columns and needs them to differ; whatever stands inside does not.
        const real = await truth(`select count(*) from (${sql}) judged_query`)
        if (real === undefined) return
        const ours = planned(`select count(*) from (${sql}) judged_query`)
        if (ours === undefined) return
        judged += 1
        expect(real.filter((name) => !ours.has(name))).toEqual([])
      }),
      { numRuns: RUNS, seed: 20_260_101 },
    )
    // Enough of what was made up must be a query at all, or nothing was shown.
    expect(judged).toBeGreaterThan(RUNS / 50)
  })
})
