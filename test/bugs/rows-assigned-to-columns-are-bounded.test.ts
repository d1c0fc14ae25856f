/**
 * The parser copies what `SET (a, b) = (…)` assigns to each of its columns, and in each copy again: 1,130 characters were
 * a tree of a billion nodes, 2,300 of them took half a second to plan.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { loadParser, parse } from '../../src/protocols/postgres/parse.ts'

const COLUMNS = Array.from({ length: 200 }, () => 'a').join()
const ONES = Array.from({ length: 200 }, () => '1').join()
const SOURCE = `(SELECT ${ONES})`

function nested(depth: number): string {
  let query = 'SELECT 1, 2'
  for (let i = 0; i < depth; i++) query = `WITH x AS (UPDATE o SET (a, b) = (${query}) RETURNING 1) SELECT 1, 2`
  return query
}

const REFUSED: readonly (readonly [string, string])[] = [
  ['plain', `UPDATE o SET (${COLUMNS}) = ${SOURCE}`],
  ['behind another assignment', `UPDATE o SET c = 1, (${COLUMNS}) = ${SOURCE}`],
  ['behind a source with a comma', `UPDATE o SET (a, b) = (1, 2), (${COLUMNS}) = ${SOURCE}`],
  ['of a row', `UPDATE o SET (${COLUMNS}) = ROW (${ONES})`],
  ['without blanks', `UPDATE o SET(${COLUMNS})=${SOURCE}`],
  ['with comments', `UPDATE o SET/**/(${COLUMNS})/* ) */--)\n=/**/${SOURCE}`],
  ['with a comment of a line', `UPDATE o SET (${COLUMNS})--\n= ${SOURCE}`],
  ['within an expression', `UPDATE o SET (${COLUMNS}) = CASE WHEN true THEN ${SOURCE} END`],
  ['behind DISTINCT FROM', `UPDATE o SET (${COLUMNS}) = 1 IS DISTINCT FROM ${SOURCE}`],
  ['of a conflict', `INSERT INTO o VALUES (1) ON CONFLICT (a) DO UPDATE SET (${COLUMNS}) = ${SOURCE}`],
  ['of a merge', `MERGE INTO o USING p ON true WHEN MATCHED THEN UPDATE SET (${COLUMNS}) = ${SOURCE}`],
  ['within a query', `WITH x AS (UPDATE o SET (${COLUMNS}) = ${SOURCE} RETURNING 1) SELECT 1`],
  ['of columns with quotes', `UPDATE o SET (${COLUMNS.replaceAll('a', '"set("')}) = ${SOURCE}`],
  ['of elements', `UPDATE o SET (${COLUMNS.replaceAll('a', 'a[(1)]')}) = ${SOURCE}`],
  ['within each other', nested(12)],
  ['within each other, a thousand times', nested(1000)],
]

const READ: readonly string[] = [
  'UPDATE o SET (a, b) = (SELECT 1, 2) WHERE c = 3',
  `UPDATE o SET (a, b, c, d) = (SELECT 1, 2, 3, 4) WHERE c IN (${ONES.repeat(20)})`,
  `UPDATE o SET a = 1 WHERE ${Array.from({ length: 500 }, (_, i) => `(a, b) = (${i}, ${i})`).join(' OR ')}`,
  `UPDATE o SET ${Array.from({ length: 100 }, (_, i) => `(a${i}, b${i}) = (1, 2)`).join()}`,
  `SELECT (${ONES}) = ${SOURCE}`,
  'UPDATE o SET (a) = (1)',
]

describe('the columns a row is assigned to', () => {
  beforeAll(loadParser)

  it.each(REFUSED)('are bounded where the row is copied: %s', (_, sql) => {
    expect(parse(sql)).toMatchObject({ ok: false, reason: 'too_many_words' })
  })

  it.each(READ)('are read as they were before: %.60s', (sql) => {
    expect(parse(sql)).toMatchObject({ ok: true })
  })
})
