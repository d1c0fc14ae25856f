/**
 * Random statements against databases that differ only in masked values: whatever a caller can see must be the same.
 *
 * The generator writes statements PostgreSQL mostly accepts; names, joins, nesting, whole rows and writes are what it
 * varies. A seed makes a run repeatable; another one is tried with SALLYPORT_SEED.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copies, mask, type Copies } from './sql-kit.ts'

const STATEMENTS = 150
const SEED = Number(process.env['SALLYPORT_SEED'] ?? 20_261)

interface Table {
  readonly name: string
  readonly texts: readonly string[]
  readonly numbers: readonly string[]
  readonly writable: string
}

const TABLES: readonly Table[] = [
  { name: 'people', texts: ['name', 'ssn', 'tail', 'plan'], numbers: ['id', 'team', 'salary'], writable: 'plan' },
  { name: 'orders', texts: ['note'], numbers: ['id', 'person', 'amount'], writable: 'note' },
  { name: '"Odd Name"', texts: ['"Secret"', 'note'], numbers: ['id'], writable: 'note' },
  { name: 'parted', texts: ['ssn', 'note'], numbers: ['id'], writable: 'note' },
  { name: 'base', texts: ['ssn', 'note'], numbers: ['id'], writable: 'note' },
]

function schema(ssns: readonly (string | null)[], salaries: readonly (number | null)[]): string {
  const rows = Array.from({ length: 12 }, (_, i) => {
    const ssn = ssns[i % ssns.length] ?? null
    return `(${i + 1}, 'name ${i % 5}', ${i % 3}, ${ssn === null ? 'NULL' : `'${ssn}'`}, ${salaries[i % salaries.length] ?? 'NULL'}, '${i % 2 === 0 ? 'free' : 'paid'}')`
  })
  return `
    CREATE TABLE people (id int PRIMARY KEY, name text, team int, ssn text, salary numeric, plan text,
      tail text GENERATED ALWAYS AS (right(ssn, 4)) STORED);
    INSERT INTO people VALUES ${rows.join()};
    CREATE INDEX ON people (team, ssn);
    CREATE TABLE orders (id int PRIMARY KEY, person int REFERENCES people, amount numeric, note text);
    INSERT INTO orders SELECT i, 1 + i % 12, i * 1.5, 'note ' || i % 4 FROM generate_series(1, 20) i;
    CREATE TABLE "Odd Name" (id int, "Secret" text, note text);
    INSERT INTO "Odd Name" SELECT id, ssn, plan FROM people;
    CREATE TABLE parted (id int, ssn text, note text) PARTITION BY RANGE (id);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (6);
    CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (6) TO (99);
    INSERT INTO parted SELECT id, ssn, name FROM people;
    CREATE TABLE base (id int, ssn text, note text);
    CREATE TABLE child (extra int) INHERITS (base);
    INSERT INTO base SELECT id, ssn, name FROM people WHERE id < 5;
    INSERT INTO child SELECT id, ssn, name, team FROM people WHERE id > 8`
}

/** Writes statements. */
class Writer {
  #state: number
  #names = 0

  constructor(seed: number) {
    this.#state = seed
  }

  statement(): string {
    return this.#chance(0.15) ? this.#write() : this.#select([], 2)
  }

  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  #chance(probability: number): boolean {
    return this.#random() < probability
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)] as T
  }

  #select(outer: readonly string[], depth: number): string {
    const items: { readonly alias: string; readonly table: Table }[] = []
    let from = ''
    do {
      const item = { alias: `a${this.#names++}`, table: this.#pick(TABLES) }
      const [left] = items
      const join = this.#pick(['JOIN', 'LEFT JOIN', 'FULL JOIN'])
      const name = `${this.#chance(0.1) ? 'ONLY ' : ''}${this.#chance(0.3) ? 'public.' : ''}${item.table.name} ${item.alias}`
      from += left === undefined ? name : ` ${join} ${name} ON ${left.alias}.id = ${item.alias}.id`
      items.push(item)
    } while (this.#chance(0.4) && items.length < 3)
    const texts = items.flatMap(({ alias, table }) => table.texts.map((column) => `${alias}.${column}`))
    const numbers = items.flatMap(({ alias, table }) => table.numbers.map((column) => `${alias}.${column}`))
    const scope = [...texts, ...outer]
    const text = (): string => this.#pick([...scope, "'x'"])
    const row = this.#pick(items).alias
    const expressions = [
      () => text(),
      () => `upper(${text()}) || ${this.#pick(numbers)}`,
      () => `CASE WHEN ${text()} < ${text()} THEN ${text()} END`,
      () => this.#pick([`${row}::text`, `row_to_json(${row})::text`, `(${row} IS NULL)::text`]),
      () => `length(${text()})::text`,
      () => (depth > 0 ? `(SELECT max(c0) FROM (${this.#select(scope, depth - 1)}) AS s)` : text()),
      () => `lag(${text()}) OVER (ORDER BY ${this.#pick(numbers)}, ${text()})`,
    ]
    const where = this.#chance(0.4) ? ` WHERE ${this.#condition(numbers, scope, depth)}` : ''
    if (this.#chance(0.2)) {
      const key = this.#pick(texts)
      const total = this.#pick([
        `count(${text()})`,
        `string_agg(${text()}, ',' ORDER BY ${text()}, ${this.#pick(numbers)})`,
      ])
      return `SELECT ${key} AS c0, ${total} AS c1 FROM ${from}${where} GROUP BY ${key} ORDER BY 1, 2`
    }
    if (outer.length === 0 && depth === 2 && this.#chance(0.2)) return `SELECT * FROM ${from}${where}`
    const list = `${this.#pick(expressions)()} AS c0`
    const rest = depth === 2 ? `, ${this.#pick(expressions)()} AS c1` : ''
    const order = this.#chance(0.4) ? ` ORDER BY 1 LIMIT ${1 + Math.floor(this.#random() * 5)}` : ''
    return `SELECT ${list}${rest} FROM ${from}${where}${order}`
  }

  #condition(numbers: readonly string[], texts: readonly string[], depth: number): string {
    const forms = [
      () => `${this.#pick(numbers)} > 3`,
      () => `${this.#pick(texts)} = ${this.#pick(texts)}`,
      () => `${this.#pick(texts)} IS NOT NULL`,
      () => (depth > 0 ? `EXISTS (${this.#select(texts, depth - 1)})` : 'true'),
      () => (depth > 0 ? `${this.#pick(texts)} IN (SELECT c0 FROM (${this.#select(texts, depth - 1)}) AS s)` : 'true'),
    ]
    return this.#pick(forms)()
  }

  #write(): string {
    const { name, texts, numbers, writable } = this.#pick(TABLES)
    const column = this.#pick(texts)
    const returning = this.#pick([
      '',
      ' RETURNING *',
      ` RETURNING ${column}`,
      ` RETURNING old.${column}, new.${writable}`,
    ])
    const value = this.#pick(["'w'", column, '(SELECT max(ssn) FROM people)'])
    return this.#pick([
      `UPDATE ${name} SET ${writable} = ${value} WHERE ${this.#pick(numbers)} = 3${returning}`,
      `UPDATE ${name} SET ${writable} = ${value} WHERE ${column} > 'm'${returning}`,
      `INSERT INTO ${name} (id, ${writable}) SELECT 50 + count(*), max(${column}) FROM ${name}${returning}`,
      `DELETE FROM ${name} WHERE id > 90 AND ${column} IS NULL${returning}`,
      `MERGE INTO ${name} t USING people s ON t.id = s.id AND s.id = 4 WHEN MATCHED THEN UPDATE SET ${writable} = ${value}`,
    ])
  }
}

let world: Copies
beforeAll(async () => {
  const masks = ['people.ssn', '"Odd Name".Secret', 'parted.ssn', 'base.ssn'].map((name) =>
    mask(name.replaceAll('"', ''), 'null'),
  )
  world = await copies(
    [
      schema(['zq1-123', 'zq1-a', 'zq1-zzzz', null], [771_001, -771_002, 20, null]),
      schema(['zq2-z', null, 'zq2-000-00-0000-0000', 'zq2-b', 'zq2-b'], [20, 10, 772_000_003, null]),
      schema([null, null, 'zq3-same'], [5]),
    ],
    [...masks, mask('people.salary', 'null')],
  )
}, 60_000)
afterAll(() => world.close())

describe('C9: databases that differ only in masked values', () => {
  it(`answer ${STATEMENTS} random statements alike (seed ${SEED})`, async () => {
    const writer = new Writer(SEED)
    let answered = 0
    for (let i = 0; i < STATEMENTS; i++) {
      const sql = writer.statement()
      const [first = '', ...others] = (await world.ask(sql)).map(withoutBorders)
      for (const answer of others) expect({ sql, answer }).toEqual({ sql, answer: first })
      expect({ sql, shown: /zq\d|77[12]0/.exec(first) }).toEqual({ sql, shown: null })
      if (first.includes('"kind":"exit"')) answered++
    }
    expect(answered).toBeGreaterThan(STATEMENTS / 2)
  }, 120_000)
})

/** Where one chunk of rows ends and the next begins is a matter of time. */
function withoutBorders(answer: string): string {
  return answer.replaceAll(']]},{"kind":"data","channel":"rows","rows":[[', '],[')
}
