/** A statement of at most 256 KiB may not keep the process from everything else: nothing runs beside the planner. */
import { beforeEach, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import type { ColumnMask } from '../../src/core/decision.ts'
import { loadParser, planQuery } from '../../src/protocols/postgres/plan.ts'
import { withoutValues } from '../../src/protocols/postgres/shown.ts'
import { shopCatalog } from '../postgres/plan-fixture.ts'

const LIMIT = 256 * 1024
/** Of processor time, which a busy machine does not stretch. What the attacks took before was seconds to centuries. */
const CPU_MS_MAX = 3000

const catalog = shopCatalog()
const masks: readonly ColumnMask[] = [{ schema: 'public', table: 'customers', column: 'ssn', transform: 'redact' }]

/** `head`, as many units as fit into the limit, `tail`. */
function fill(head: string, unit: (index: number) => string, tail = ''): string {
  const pieces = [head]
  let length = head.length + tail.length
  for (let index = 0; ; index++) {
    const piece = unit(index)
    length += piece.length
    if (length > LIMIT) return pieces.join('') + tail
    pieces.push(piece)
  }
}

function nested(depth: number): string {
  let from = 'orders o'
  for (let i = 0; i < depth; i++) from = `(${from} JOIN orders o${i} USING (id)) AS j${i}`
  return from
}

/** By what the statement is refused. */
function constructOf(sql: string): string | undefined {
  try {
    return planQuery({ sql }, catalog, { masks }).refused?.construct
  } catch (error) {
    if (error instanceof SallyportError) return error.facts.construct
    throw error
  }
}

const ATTACKS: readonly (readonly [string, string])[] = [
  [
    'joins whose USING lists have names',
    `SELECT nope FROM orders o${Array.from({ length: 60 }, (_, i) => ` JOIN orders o${i} USING (id) AS x${i}`).join('')}`,
  ],
  ['many columns of many tables', fill(`SELECT id${',id'.repeat(40_000)} FROM orders`, () => ',orders')],
  ['many columns of nested joins', fill('SELECT nope', () => ',nope', ` FROM ${nested(800)}`)],
  ['many masked tables', fill('SELECT 1 FROM customers c', (i) => `,customers c${i}`)],
  ['many masked tables and ONLY', fill('SELECT 1 FROM ONLY customers c', (i) => `,ONLY customers c${i}`)],
  ['stars over many tables', fill('SELECT *', () => ',*', ' FROM orders a, orders b, orders c, customers d')],
  [
    'stars of stars',
    fill(
      `WITH a0 AS (SELECT ${Array.from({ length: 5000 }, (_, i) => `1 c${i}`).join()})`,
      (i) => `,a${i + 1} AS (SELECT *,*,*,*,*,*,*,* FROM a${i})`,
      ' SELECT 1',
    ),
  ],
  ['comments in a row', fill('SELECT 1', () => '/**/')],
  ['comments in comments', `SELECT 1 ${'/*'.repeat(60_000)}${'*/'.repeat(60_000)}`],
  ['operators in a row', fill('SELECT 1 ', () => '+-', '1')],
]

beforeEach(loadParser)

describe('planning takes bounded time', () => {
  it.each(ATTACKS)('with %s', (_, sql) => {
    expect(Buffer.byteLength(sql)).toBeLessThanOrEqual(LIMIT)
    const before = process.cpuUsage()
    expect(constructOf(sql)).toMatch(/^sql\.(unknown|rewrite)$/)
    expect(process.cpuUsage(before).user / 1000).toBeLessThan(CPU_MS_MAX)
  })

  it('also where a text is only read into words', () => {
    const before = process.cpuUsage()
    expect(
      withoutValues(
        fill('SELECT 1', () => '/**/'),
        'SELECT 1',
      ),
    ).toHaveLength(1)
    expect(process.cpuUsage(before).user / 1000).toBeLessThan(CPU_MS_MAX)
  })

  it('and lets large plain statements through', () => {
    const rows = Array.from({ length: 3000 }, (_, i) => `(${i}, 'a note')`).join()
    expect(
      planQuery({ sql: `INSERT INTO orders (id, note) VALUES ${rows}` }, catalog, { masks }).refused,
    ).toBeUndefined()
    const wide = Array.from({ length: 2000 }, (_, i) => `note AS n${i}`).join()
    expect(planQuery({ sql: `SELECT ${wide} FROM orders /*${'*'.repeat(500)}*/` }, catalog, { masks }).refused).toBe(
      undefined,
    )
  })
})
