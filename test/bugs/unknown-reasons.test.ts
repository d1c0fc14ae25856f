/** A caller who is told only `sql.unknown` cannot correct itself; a reason that quotes values would spread them. */
import { beforeAll, describe, expect, it } from 'vitest'
import type { ColumnMask } from '../../src/core/decision.ts'
import { decide } from '../../src/policy/decide.ts'
import { loadParser, planQuery } from '../../src/protocols/postgres/plan.ts'
import { KNOWN, load, question, rules } from '../policy/kit.ts'
import { shopCatalog } from '../postgres/plan-fixture.ts'

const catalog = shopCatalog()
const MASKS: readonly ColumnMask[] = [{ schema: 'public', table: 'customers', column: 'ssn', transform: 'redact' }]
const READ = '{id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["**"]}'
const DENY = '{id: odd, effect: deny, principals: [group:agents], actions: [sql.unknown]}'

function reasonOf(sql: string, options: { readonly isMasked?: boolean; readonly more?: string[] } = {}): string {
  const { isMasked = false, more = [] } = options
  const masks = isMasked ? '\nmasks:\n  - {columns: [public.customers.ssn], transform: redact}\n' : ''
  const policy = load(`${rules(READ, ...more)}${masks}`, KNOWN)
  const { action } = planQuery({ sql }, catalog, { masks: isMasked ? MASKS : [] })
  const { effect, reason } = decide(policy, question(action.parts))
  expect(effect).toBe('deny')
  return reason
}

beforeAll(loadParser)

describe('a denial of what was not understood says what that was', () => {
  it.each([
    ['SELECT foo FROM orders', /column "foo" was not found/],
    ['SELECT * FROM nowhere', /relation "nowhere" was not found/],
    ['SELECT 1; SELECT foo FROM orders', /statement 2: column "foo" was not found/i],
    ['SELEC 1', /not valid PostgreSQL/],
    ['SELECT made_up(1)', /function "made_up" was not found/],
    ['SELECT x.id FROM orders', /"x" is not in the FROM clause/],
  ])('%s', (sql, words) => {
    expect(reasonOf(sql)).toMatch(words)
    expect(reasonOf(sql, { isMasked: true })).toMatch(words)
    expect(reasonOf(sql, { more: [DENY] })).toMatch(words)
  })

  it('and quotes nothing that may be a value', () => {
    // Some write strings in double quotes, which makes names of them.
    for (const value of ['123-45-6789', 'ada@example.com', "it's", '4111 1111', '2020-01-01', 'a\nb']) {
      for (const sql of [
        `SELECT * FROM customers WHERE ssn = "${value}"`,
        `SELECT * FROM "${value}"`,
        `SELECT "${value}".id FROM orders`,
        `SELECT "${value}"(1)`,
        `EXPLAIN ("${value}") SELECT 1`,
        `INSERT INTO orders ("${value}") VALUES (1)`,
        `SELECT '${value.replaceAll("'", "''")}' FROM nowhere`,
      ]) {
        const reason = reasonOf(sql, { isMasked: true })
        expect(reason).not.toContain(value)
        expect(reason).toMatch(/not found|not understood|not in the FROM/)
      }
    }
  })

  it('C10: and the request that is shown holds no such value either', () => {
    const shown = (sql: string): string => planQuery({ sql }, catalog, { masks: MASKS }).shown.text
    expect(shown('SELECT * FROM customers WHERE ssn = "123-45-6789"')).toBe('SELECT * FROM customers WHERE ssn = "•"')
    expect(shown('SELECT U&"123\\002d45" FROM orders')).toBe('SELECT "•" FROM orders')
    expect(shown('SELECT "note", "odd" FROM orders')).toBe('SELECT "note", "odd" FROM orders')
  })

  it('and stays short', () => {
    const columns = Array.from({ length: 500 }, (_, i) => `missing_column_${i}`).join()
    expect(reasonOf(`SELECT ${columns} FROM orders`).length).toBeLessThan(600)
  })
})
