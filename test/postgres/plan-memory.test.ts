import { beforeAll, describe, expect, it } from 'vitest'
import type { ColumnMask } from '../../src/core/decision.ts'
import type { Catalog } from '../../src/protocols/postgres/catalog.ts'
import { loadParser, planQuery, type PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { shopCatalog } from './plan-fixture.ts'

const SSN: ColumnMask = { schema: 'public', table: 'customers', column: 'ssn', transform: 'redact' }
const SQL = 'SELECT ssn, name FROM customers WHERE id = $1'

const STATEMENTS: readonly (readonly [string, readonly unknown[]])[] = [
  [SQL, [7]],
  ['SELECT * FROM orders WHERE note = $1 AND id = $2', ['free text', 3]],
  ["SELECT name FROM customers WHERE name = 'Ada'", []],
  ['INSERT INTO orders (id, note) VALUES ($1, $2)', [1, null]],
  ['UPDATE orders SET note = $1 WHERE id = 4', ['x']],
  ['EXPLAIN SELECT id FROM orders', []],
]

describe('C8: a plan that was made before', () => {
  let catalog: Catalog
  const plan = (
    sql: string,
    params: readonly unknown[],
    masks: readonly ColumnMask[] = [SSN],
    on = catalog,
  ): PostgresPlan => planQuery({ sql, params }, on, { masks })

  beforeAll(async () => {
    await loadParser()
    catalog = shopCatalog()
  })

  it.each(STATEMENTS)('is the plan it would be anew: %s', (sql, params) => {
    plan(sql, params)
    expect(plan(sql, params)).toEqual(plan(sql, params, [SSN], shopCatalog()))
  })

  it('is another one where an operator vouches for more, or for less', () => {
    const sql = 'SELECT add_one(id) FROM orders'
    const construct = (trustedFunctions?: readonly string[]): string | undefined =>
      planQuery({ sql }, catalog, { masks: [SSN], ...(trustedFunctions && { trustedFunctions }) }).refused?.construct
    const trusting = (): string | undefined => construct(['public.add_one(integer)'])
    expect([trusting(), construct(), trusting(), construct(), construct([])]).toEqual([
      undefined,
      'sql.mask.function',
      undefined,
      'sql.mask.function',
      'sql.mask.function',
    ])
  })

  it('keeps no value of the call it was made for', () => {
    const sql = 'SELECT note FROM orders WHERE note = $1 OR status = $2'
    plan(sql, ['first-secret', 'first-other'])
    const second = JSON.stringify(plan(sql, ['second', null]))
    expect(second).not.toContain('first')
    expect(plan(sql, ['second', null])).toMatchObject({
      params: ['second', null],
      shown: { params: ['second', null] },
      exact: { params: ['second', null] },
    })
  })

  it('keeps no row limit of the call it was made for', () => {
    planQuery({ sql: SQL, params: [1], max_rows: 3 }, catalog, { masks: [SSN] })
    expect(plan(SQL, [1]).rowsMax).toBeUndefined()
    expect(plan(SQL, [1]).exact).toMatchObject({ max_rows: null })
    expect(planQuery({ sql: SQL, params: [1], max_rows: 5 }, catalog, { masks: [SSN] }).rowsMax).toBe(5)
  })

  it('hides the values of the second call as it hid those of the first', () => {
    plan(SQL, [1])
    expect(plan(SQL, ['123-45-6789']).shown.params).toEqual(['•'])
  })

  it('is not used under other masks', () => {
    const masked = plan(SQL, [1])
    const plain = plan(SQL, [1], [])
    expect(plain.sql).not.toBe(masked.sql)
    expect(plan(SQL, [1], []).sql).toBe(plain.sql)
    expect(plan(SQL, [1]).sql).toBe(masked.sql)
    expect(plan(SQL, [1], [{ ...SSN, transform: 'partial' }]).sql).not.toBe(masked.sql)
  })

  it('is not used with another catalog', () => {
    plan(SQL, [1])
    const other = shopCatalog({ fingerprint: 'f2' })
    expect(plan(SQL, [1], [SSN], other).fingerprint).toBe('f2')
  })

  it('is not used with another number of parameters', () => {
    plan(SQL, [1])
    expect(() => plan(SQL, [1, 2])).toThrow(/1 parameters but 2/u)
    expect(() => plan(SQL, [])).toThrow(/1 parameters but 0/u)
  })

  it('tells texts apart that differ in one literal', () => {
    const one = plan("SELECT id FROM orders WHERE note = 'a'", [])
    const two = plan("SELECT id FROM orders WHERE note = 'b'", [])
    expect(one.sql).toContain("'a'")
    expect(two.sql).toContain("'b'")
  })

  it('C11: names what will be sent, so that other masks are another call', () => {
    expect(plan(SQL, [1]).exact).not.toEqual(plan(SQL, [1], []).exact)
  })

  it('is forgotten when too many others came after it, and then made anew', () => {
    const first = plan(SQL, [1])
    for (let n = 0; n < 600; n++) plan(`SELECT ${n} FROM orders`, [])
    expect(plan(SQL, [1])).toEqual(first)
  })
})
