/** A primary key in GROUP BY stands for the other columns of its table; a masked table is no table to PostgreSQL. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copies, mask, type Copies } from './sql-kit.ts'

const SCHEMA = `
  CREATE TABLE people (id int PRIMARY KEY, name text, ssn text, team int, doc json);
  INSERT INTO people VALUES (1, 'ada', 's1', 1, '{}'), (2, 'bob', 's2', 1, '{}'), (3, 'cyd', NULL, 2, '{}');
  CREATE TABLE orders (id int PRIMARY KEY, person int, amount int, name text);
  INSERT INTO orders VALUES (1, 1, 10, 'a'), (2, 1, 20, 'b'), (3, 2, 5, 'c'), (4, NULL, 1, 'd');
  CREATE TABLE rooms (house int, room int, note text, code text, PRIMARY KEY (house, room));
  INSERT INTO rooms VALUES (1, 1, 'n', 'c'), (1, 2, 'm', 'd');`

let world: Copies
beforeAll(async () => {
  world = await copies([SCHEMA], [mask('people.ssn', 'null'), mask('rooms.code', 'null')])
})
afterAll(() => world.close())

/** Rows as the server itself answers, with the masked columns emptied there. */
async function expected(sql: string): Promise<unknown> {
  const [db] = world.databases
  const { rows } = (await db?.admin.query({ text: sql, rowMode: 'array' })) ?? { rows: [] }
  return (rows as (string | number | null)[][]).map((row) => row.map((cell) => (cell === null ? null : String(cell))))
}

describe('GROUP BY a primary key of a masked table', () => {
  it.each([
    'SELECT p.id, p.name, count(o.id) FROM people p LEFT JOIN orders o ON o.person = p.id GROUP BY p.id ORDER BY p.id',
    'SELECT people.name, sum(amount) FROM people JOIN orders ON person = people.id GROUP BY people.id ORDER BY 1',
    'SELECT p.name, count(*) FROM people p GROUP BY id ORDER BY 1',
    'SELECT id, name, count(*) FROM people GROUP BY 1 ORDER BY 1',
    'SELECT p.id, upper(p.name) u FROM people p GROUP BY p.id HAVING p.team = 1 ORDER BY p.name DESC',
    'SELECT o.id, p.name, p.team FROM orders o LEFT JOIN people p ON o.person = p.id GROUP BY o.id, p.id ORDER BY o.id',
    'SELECT p.a, p.b FROM people p (a, b) GROUP BY p.a ORDER BY p.a',
    'SELECT public.people.name FROM public.people GROUP BY public.people.id, id ORDER BY 1',
    'SELECT house, room, note FROM rooms GROUP BY room, house ORDER BY room',
    'SELECT (SELECT x.name FROM people x WHERE x.id = p.id GROUP BY x.id) FROM people p GROUP BY p.id ORDER BY p.id',
    `SELECT DISTINCT name FROM people GROUP BY "people" . "id" ORDER BY 1`,
    'WITH g AS (SELECT p.name, max(o.amount) m FROM people p, orders o WHERE o.person = p.id GROUP BY p.id) SELECT * FROM g ORDER BY 1',
  ])('answers as without masks: %s', async (sql) => {
    const [answer = ''] = await world.ask(sql)
    expect(answer).toContain('"kind":"exit"')
    const rows = (JSON.parse(answer) as { rows?: unknown }[]).find((chunk) => chunk.rows !== undefined)?.rows
    expect(rows).toEqual(await expected(sql))
  })

  it('shows the mask of a column it stands for', async () => {
    const [answer] = await world.ask('SELECT ssn, count(*) FROM people p GROUP BY p.id')
    expect(answer).toContain('[[null,"1"],[null,"1"],[null,"1"]]')
  })

  it.each([
    'SELECT name, count(*) FROM people GROUP BY GROUPING SETS ((id), ())',
    'SELECT name FROM people GROUP BY (id)',
    'SELECT people.name FROM people JOIN orders USING (id) GROUP BY id',
    'SELECT note FROM rooms GROUP BY room',
  ])('and says what to write where that is not certain: %s', async (sql) => {
    const [answer] = await world.ask(sql)
    expect(answer).toMatch(/list each|refused sql\.rewrite|"kind":"exit"/)
  })
})
