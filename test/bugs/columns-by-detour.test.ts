/** Names that PostgreSQL finds further out than they seem to be: the columns read there need a rule as any others do. */
import { beforeAll, describe, expect, it } from 'vitest'
import { loadParser, planQuery } from '../../src/protocols/postgres/plan.ts'
import { shopCatalog } from '../postgres/plan-fixture.ts'

const catalog = shopCatalog()

function columnsRead(sql: string): unknown {
  const { action } = planQuery({ sql }, catalog, { masks: [] })
  const part = action.parts.find(({ resource }) => resource.type === 'sql' && resource.name === 'public.customers')
  return part?.attributes['columns_read']
}

beforeAll(loadParser)

describe('C3: a column is found where PostgreSQL finds it', () => {
  it.each([
    // The alias of USING has the merged columns only, so `email` is the customer's.
    `SELECT (SELECT email FROM (SELECT x.* FROM (SELECT 1 AS id, 2 AS email) a JOIN (SELECT 1 AS id) b USING (id) AS x) s)
     FROM customers`,
    `SELECT (SELECT email FROM LATERAL (SELECT x.* FROM (SELECT 1 AS id, 2 AS email) a JOIN (SELECT 1 AS id) b USING (id) AS x) s)
     FROM customers`,
  ])('behind the alias of a USING list: %s', (sql) => {
    expect(columnsRead(sql)).toContain('email')
  })

  it.each(['ORDER BY c', 'GROUP BY c'])('in a whole row that looks like an output column: %s', (tail) => {
    const list = tail.startsWith('GROUP') ? '(x).*' : 'x.*'
    expect(columnsRead(`SELECT ${list} FROM customers c, (VALUES (1)) x ${tail}`)).toContain('email')
  })

  it('in DISTINCT ON a whole row', () => {
    expect(columnsRead('SELECT DISTINCT ON (c) x.* FROM customers c, (VALUES (1)) x')).toContain('email')
  })
})
