import { array, assert, constantFrom, nat, property } from 'fast-check'
import { ok } from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import type { ColumnMask } from '../../src/core/decision.ts'
import type { Catalog } from '../../src/protocols/postgres/catalog.ts'
import { loadParser, planQuery, type PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { shapeOf, withoutLiterals } from '../../src/protocols/postgres/shape.ts'
import { shownWithoutValues } from '../../src/protocols/postgres/shown.ts'
import { mask, shopCatalog } from './plan-fixture.ts'

const MASKS: readonly ColumnMask[] = [
  mask('ssn'),
  { ...mask('plan', 'partial'), allowWrite: true },
  { ...mask('note', 'redact', 'orders'), onPredicate: 'mask' },
]

/** Statements of both corpora, with plain strings where they have dollar-quoted ones. */
function corpus(name: string): readonly string[] {
  return readFileSync(new URL(`../non-interference/corpus/${name}.txt`, import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.slice(line.indexOf('|') + 1).trim())
    .map((sql) => sql.replace(/\$\$([^$]*)\$\$/g, (_, text: string) => `'${text.replaceAll("'", "''")}'`))
}

/** Where literals are read, moved, or stand beside what is rewritten. */
const STATEMENTS: readonly string[] = [
  'SELECT id FROM orders WHERE 1 = 1',
  'DELETE FROM orders WHERE 1 = 2',
  "UPDATE orders SET status = 'a' WHERE 'x' = 'y'",
  'SELECT name, ssn FROM customers WHERE id = 5',
  "SELECT c.*, 'x' AS x, 7 AS y FROM customers AS c WHERE c.id = 1 AND c.name = 'Ada' ORDER BY 2 LIMIT 10",
  'SELECT id, name FROM customers GROUP BY 1, 2',
  'SELECT ssn, count(*) FROM customers GROUP BY 1',
  'SELECT 3, ssn, name FROM customers GROUP BY id, 2',
  'SELECT count(*) FROM customers TABLESAMPLE bernoulli (10) REPEATABLE (4) WHERE id > 2',
  "SELECT set_config('statement_timeout', '5', true)",
  "SELECT current_setting('server_version')",
  'SELECT id::float(24), now()::timestamp(3), current_timestamp(3) FROM customers WHERE id = 5',
  'SELECT -5, - 7, +3, 1.5, -2.5, 0, 00, 7 FROM customers',
  "SELECT interval '1' day, interval(3) '2', date '2020-01-01' FROM customers WHERE id < 9",
  "INSERT INTO customers (id, name, plan) VALUES (1, 'Ada', 'gold')",
  "INSERT INTO orders (id, note) VALUES (7, 'free'), (8, 'text') RETURNING id, note, 9",
  "UPDATE customers SET plan = 'gold' WHERE id = 4 RETURNING id, ssn",
  "UPDATE orders SET (id, note) = (SELECT id, 'x' FROM customers WHERE id = 3) WHERE id = 2",
  "SELECT id FROM orders WHERE note = 'secret'",
  "SELECT j -> 'a' -> 2 FROM (SELECT row_to_json(c) j FROM customers c WHERE id = 1) s",
  "SELECT id FROM public.customers WHERE (ctid = '(0,1)') AND id IN (1, 2, 3)",
  "SELECT substring(name, 2, 3), name LIKE 'a%' ESCAPE 'x' FROM customers WHERE name ~ 'b'",
  "SELECT 'ä', name FROM customers WHERE name = 'Zoë' AND id = 3",
  'SELECT a[1:2], (ARRAY[5, 6])[2] FROM (SELECT ARRAY[1, 2, 3] a) s',
  'SELECT id FROM customers ORDER BY id FETCH FIRST 3 ROWS ONLY',
  'SELECT sum(id) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND 3 FOLLOWING) FROM customers',
]

/** What may stand in place of a literal of its kind, awkward ones among it. */
const STRINGS = [
  "'b'",
  "'it''s'",
  "'table'",
  "'a -- b'",
  "'/* c */'",
  "'current of'",
  "') FROM customers --'",
  "'  '",
  "'Grüße'",
  "'{1,2}'",
  "'====='",
  "'role'",
  "''''",
  "'$1'",
  "'customers.ssn'",
]
const WHOLE = ['2', '3', '10', '999999999', '45']
const DECIMAL = ['2.5', '0.0', '00.10', '12345678901234567890.5']

describe('C8: a plan made of one for another text of its shape', () => {
  let catalog: Catalog
  const plan = (sql: string, on: Catalog, masks = MASKS): PostgresPlan | string => {
    try {
      return planQuery({ sql }, on, { masks })
    } catch (error) {
      return String(error)
    }
  }

  beforeAll(async () => {
    await loadParser()
    catalog = shopCatalog()
  })

  /** The text with other literals: position by position taken from what may stand there. */
  function another(sql: string, picks: readonly number[]): string {
    const shape = shapeOf(sql)
    if (shape === undefined) return sql
    let text = ''
    let at = 0
    for (const [index, literal] of shape.literals.entries()) {
      const pool = literal.startsWith("'") ? STRINGS : literal.includes('.') ? DECIMAL : WHOLE
      const start = shape.starts[index] ?? 0
      const pick = picks[index % picks.length] ?? 0
      const kept = pick % (pool.length + 2)
      text += shape.bytes.slice(at, start) + Buffer.from(pool[kept] ?? literal).toString('latin1')
      at = start + literal.length
    }
    return Buffer.from(text + shape.bytes.slice(at), 'latin1').toString('utf8')
  }

  it('is the plan it would be anew, whatever its literals are', () => {
    const all = [...STATEMENTS, ...corpus('leaks'), ...corpus('legitimate')].filter(
      (sql) => (shapeOf(sql)?.literals.length ?? 0) > 0,
    )
    expect(all.length).toBeGreaterThan(300)
    let made = 0
    assert(
      property(
        constantFrom(...all),
        array(array(nat(97), { minLength: 3, maxLength: 7 }), { minLength: 4, maxLength: 4 }),
        (sql, picks) => {
          const actions = new Set<unknown>()
          for (const text of [sql, ...picks.map((pick) => another(sql, pick))]) {
            for (const masks of [MASKS, []]) {
              const remembered = plan(text, catalog, [...masks])
              const anew = plan(text, { ...catalog }, [...masks])
              // Much quicker than `toEqual`, and as strict.
              ok(isDeepStrictEqual(remembered, anew), `${text}\n${JSON.stringify([remembered, anew])}`)
              if (typeof remembered === 'string') continue
              if (actions.has(remembered.action)) made += 1
              actions.add(remembered.action)
            }
          }
        },
      ),
      { numRuns: 400 },
    )
    // It is no proof about plans that were made anew each time.
    expect(made).toBeGreaterThan(500)
  })

  it('is not used where a literal was read', () => {
    const where = (sql: string): unknown => {
      const made = plan(sql, catalog)
      return typeof made === 'string' ? made : made.action.parts[0]?.attributes['has_where']
    }
    const asked = ['1 = 2', '3 = 4', '5 = 5', '6 = 7', '8 = 8', '9 = 9'].map((filter) =>
      where(`DELETE FROM orders WHERE id + ${filter.replace('=', '= id +')}`),
    )
    expect(asked).toEqual([true, true, false, true, false, false])
    const set = (ms: number): unknown => {
      const made = plan(`SELECT set_config('statement_timeout', '${ms}', false)`, catalog)
      return typeof made === 'string' ? made : made.action.parts.at(-1)?.attributes['value']
    }
    expect([11, 12, 13, 14].map(set)).toEqual(['11', '12', '13', '14'])
    const grouped = [1, 2, 1, 2, 2, 1].map((column, n) => {
      const made = plan(`SELECT id, name, email FROM customers WHERE id > 1${n} GROUP BY ${column}`, catalog)
      return typeof made === 'string' ? made : made.sql
    })
    expect(grouped.map((sql) => sql.includes('GROUP BY "customers"'))).toEqual([true, false, true, false, false, true])
  })

  it('holds the literals of its own text and of no other', () => {
    const text = (id: number, name: string): string => `SELECT ssn, '${name}' AS n FROM customers WHERE id = ${id}`
    for (const [id, name] of [
      [1, 'first'],
      [2, 'second'],
      [3, 'third'],
      [44444, "f'o''u'r"],
    ] as const) {
      const made = plan(text(id, name.replaceAll("'", "''")), catalog)
      const all = JSON.stringify(made)
      expect(all).toContain(name.replaceAll("'", "''"))
      expect(['first', 'second', 'third'].filter((one) => one !== name && all.includes(one))).toEqual([])
    }
  })

  it('is the very same object for a text without values that comes again', () => {
    const sql = 'SELECT name FROM customers WHERE id = 5'
    expect(plan(sql, catalog)).toBe(plan(sql, catalog))
  })
})

describe('the shape of a text', () => {
  it.each([
    ["SELECT E'a'"],
    ["SELECT N'a'"],
    ["SELECT U&'a' UESCAPE '!'"],
    ['SELECT U&"a"'],
    ["SELECT B'1', X'1F'"],
    ['SELECT $$a$$'],
    ['SELECT $a$b$a$'],
    ["SELECT 'a' -- b"],
    ["SELECT 'a' /* b */"],
    ["SELECT 'a\\b'"],
    ["SELECT 'a'\n'b'"],
    ["SELECT 'a'b"],
    ['SELECT 1e5'],
    ['SELECT 1a'],
    ['SELECT 0x1F'],
    ['SELECT 1_000'],
    ['SELECT .5'],
    ['SELECT 1.'],
    ['SELECT 1..2'],
    ["SELECT 'a"],
    ['SELECT "a'],
    ['SELECT $1a'],
    ["SELECT $1'a'"],
    ['SELECT \u0001'],
    ['SELECT \ud800'],
    ['SELECT "\u0001"'],
    ["SELECT '\u0003'"],
  ])('is not certain of %j', (sql) => {
    expect(shapeOf(sql)).toBeUndefined()
  })

  it('is only looked for in short texts', () => {
    expect(shapeOf(`SELECT ${'1,'.repeat(3000)}1`)).toBeUndefined()
  })

  it.each([
    ["SELECT 'a', 5, 1.5 FROM t WHERE a = $1", ["'a'", '5', '1.5']],
    ['SELECT a1, "b""2", t.c3 FROM t', []],
    ["SELECT 0, 00, '', 12345678901", []],
    ["SELECT 'it''s', ''''", ["'it''s'", "''''"]],
    ["SELECT 'ä', 7", [Buffer.from("'ä'").toString('latin1'), '7']],
    ['SELECT a$1, b FROM t LIMIT 5;', ['5']],
  ] as const)('of %j leaves out its literals', (sql, literals) => {
    expect(shapeOf(sql)?.literals).toEqual(literals)
  })

  it('is the same for texts with other literals of the same kinds, and for no others', () => {
    const key = (sql: string): string | undefined => shapeOf(sql)?.key
    expect(key("SELECT 'a', 5")).toBe(key("SELECT 'bcd', 77"))
    const others = [
      "SELECT 'a', 5",
      "SELECT 'a', 'b'",
      "SELECT 'a', 1.5",
      "SELECT 'a', 0",
      "SELECT '', 5",
      "SELECT 'a' , 5",
    ]
    expect(new Set(others.map(key)).size).toBe(others.length)
  })
})

describe('a text without its literals', () => {
  const MARK = '\u2022'
  const scanned = (sql: string): string => shownWithoutValues(`${sql}/**/`, []).text

  beforeAll(loadParser)

  it.each([...STATEMENTS, ...corpus('legitimate'), ...corpus('leaks')])(
    'C10: is what the scanner makes of it, or nothing: %s',
    (sql) => {
      expect(withoutLiterals(sql, MARK) ?? scanned(sql)).toBe(scanned(sql))
    },
  )

  it.each([
    "select E'a', 1",
    "select 'a'\n'b'",
    "select U&'\\0061'",
    'select $$secret$$',
    "select B'01'",
    'select 1e5',
    'select 0x1F',
    'select 1_000',
    "select 'a' -- 'b'",
    "select 'a' /* 'b' */",
    "select 1'x'",
    'select $4111111111111111',
  ])('C10: is left to the scanner where it is not certain: %s', (sql) => {
    expect(withoutLiterals(sql, MARK)).toBeUndefined()
  })

  it('C10: holds no value of texts made of awkward pieces', () => {
    const pieces = [
      ...STRINGS,
      ...WHOLE,
      ...DECIMAL,
      ' ',
      '\n',
      '-',
      '.',
      '"a b"',
      'x',
      '$1',
      '(',
      ',',
      '::text',
      '||',
      '&',
      'ä',
      'U',
    ]
    assert(
      property(array(constantFrom(...pieces), { maxLength: 12 }), (parts) => {
        const sql = `select ${parts.join('')}`
        const plain = withoutLiterals(sql, MARK)
        return plain === undefined || plain === scanned(sql)
      }),
      { numRuns: 3000 },
    )
  })
})
