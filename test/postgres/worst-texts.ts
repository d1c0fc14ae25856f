/**
 * Texts that cost the most to plan for their length, of the shop in `plan-fixture.ts` or of tables nobody has: near the
 * limits of length, words or steps. Used by a test that counts steps and a bench that measures time.
 */

/** `count` pieces. */
function list(count: number, piece: (n: number) => string, between = ', '): string {
  return Array.from({ length: Math.floor(count) }, (_, n) => piece(n)).join(between)
}

function joins(depth: number): string {
  let from = 'orders o'
  for (let n = 0; n < depth; n++) from = `(${from} JOIN orders o${n} USING (id)) AS j${n}`
  return from
}

/** Sized for 20,000 words. */
const TEXTS: readonly (readonly [name: string, text: (part: number) => string])[] = [
  ['columns nobody has, each in a query', (p) => `SELECT ${list(6000 * p, (n) => `(SELECT c${n})`)} FROM orders`],
  ['columns nobody has', (p) => `SELECT ${list(15_000 * p, (n) => `c${n}`)} FROM orders`],
  ['quoted columns nobody has', (p) => `SELECT ${list(9000 * p, (n) => `"c ${n}"`)} FROM orders`],
  ['functions nobody has', (p) => `SELECT ${list(13_000 * p, (n) => `f${n}()`)}`],
  ['functions', (p) => `SELECT ${list(9000 * p, () => 'lower(note)')} FROM orders`],
  ['casts', (p) => `SELECT ${list(6500 * p, () => 'id::int4')} FROM orders`],
  ['queries in a list', (p) => `SELECT ${list(4900 * p, () => '(SELECT id FROM orders)')}`],
  ['queries of a masked table', (p) => `SELECT ${list(900 * p, () => '(SELECT ssn FROM customers)')}`],
  ['mentions of a masked table', (p) => `SELECT 1 FROM ${list(900 * p, (n) => `customers c${n}`)}`],
  ['a union of many', (p) => list(1400 * p, () => 'SELECT id FROM orders', ' UNION ALL ')],
  ['a union of masked ones', (p) => list(600 * p, () => 'SELECT ssn FROM customers', ' UNION ALL ')],
  ['WITH queries', (p) => `WITH ${list(3000 * p, (n) => `a${n} AS (SELECT id FROM orders)`)} SELECT 1`],
  [
    'WITH queries of each other',
    (p) =>
      `WITH a0 AS (SELECT id FROM orders), ${list(2800 * p, (n) => `a${n + 1} AS (SELECT id FROM a${n})`)} SELECT 1`,
  ],
  ['joins', (p) => `SELECT 1 FROM orders o ${list(1600 * p, (n) => `JOIN orders o${n} USING (id)`, ' ')}`],
  ['joins in joins', (p) => `SELECT nope FROM ${joins(600 * p)}`],
  [
    'names of the result',
    (p) => `SELECT ${list(4500 * p, (n) => `1 AS c${n}`)} FROM orders ORDER BY ${list(4500 * p, (n) => `c${n}`)}`,
  ],
  ['windows', (p) => `SELECT ${list(3300 * p, () => 'count(*) OVER (ORDER BY id)')} FROM orders`],
  ['stars', (p) => `SELECT ${list(19_000 * p, () => '*')} FROM orders`],
  ['stars beside system columns', (p) => `SELECT ${list(6000 * p, () => 'c.*')}, ctid FROM customers c`],
  ['values', (p) => `INSERT INTO orders (id, note) VALUES ${list(9000 * p, (n) => `(${n}, 'x')`)}`],
  ['assignments', (p) => `UPDATE orders SET ${list(6500 * p, (n) => `c${n} = 1`)}`],
  [
    'a row for many columns',
    (p) => `UPDATE orders SET (${list(90 * p, () => 'note')}) = (SELECT ${list(90 * p, () => 'id')} FROM customers)`,
  ],
  ['RETURNING', (p) => `UPDATE orders SET note = 'x' RETURNING ${list(19_000 * p, () => 'id')}`],
  ['names of relations in front', (p) => `SELECT ${list(6000 * p, () => 'public.customers.id')} FROM public.customers`],
  [
    'groups by primary keys',
    (p) => `SELECT 1 FROM ${list(400 * p, (n) => `customers c${n}`)} GROUP BY ${list(400 * p, (n) => `c${n}.id`)}`,
  ],
  ['JSON', (p) => `SELECT ${list(4950 * p, () => "json_object('a': id)")} FROM orders`],
  ['CASE', (p) => `SELECT ${list(2800 * p, (n) => `CASE id WHEN ${n} THEN 1 END`)} FROM orders`],
  [
    'a trigger',
    (p) =>
      `CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION audit(${list(15_000 * p, (n) => `'${n}'`)})`,
  ],
  ['a table', (p) => `CREATE TABLE t (${list(4900 * p, (n) => `c${n} int DEFAULT ${n}`)})`],
  ['tables to drop', (p) => `DROP TABLE ${list(15_000 * p, (n) => `t${n}`)}`],
  ['rights', (p) => `GRANT SELECT ON ${list(10_000 * p, (n) => `t${n}`)} TO ${list(9000 * p, (n) => `r${n}`)}`],
  ['rights of few on many', (p) => `GRANT SELECT ON ${list(19_000 * p, (n) => `t${n}`)} TO r`],
  ['parts of a large object', (p) => `ALTER TABLE orders ${list(4000 * p, (n) => `DROP COLUMN c${n} CASCADE`)}`],
  ['conditions', (p) => `SELECT 1 FROM orders WHERE ${list(4950 * p, (n) => `id = ${n}`, ' OR ')}`],
  [
    'conditions within conditions',
    (p) => `SELECT 1 FROM orders WHERE ${list(1400 * p, () => '(id = 1 OR NOT', ' ')} true ${')'.repeat(1400 * p)}`,
  ],
  ['a list of values', (p) => `SELECT 1 FROM orders WHERE id IN (${list(19_000 * p, (n) => `${n}`)})`],
  [
    'queries within queries',
    (p) => `SELECT 1 FROM ${'(SELECT * FROM '.repeat(500 * p)}customers${') x'.repeat(500 * p)}`,
  ],
  [
    'subqueries in a condition',
    (p) => `SELECT 1 FROM customers WHERE ${list(2000 * p, () => 'EXISTS (SELECT ssn)', ' AND ')}`,
  ],
  ['natural joins', (p) => `SELECT * FROM customers c ${list(1500 * p, (n) => `NATURAL JOIN customers c${n}`, ' ')}`],
  ['statements', (p) => list(4900 * p, () => 'SELECT id FROM orders', ';')],
  ['statements of a masked table', (p) => list(1200 * p, () => 'SELECT ssn FROM customers', ';')],
  ['a view', (p) => `CREATE VIEW v AS ${list(900 * p, () => 'SELECT id FROM orders', ' UNION ALL ')}`],
  ['a long string', (p) => `SELECT '${'x'.repeat(130_000 * p)}'`],
  ['parentheses', (p) => `SELECT ${'('.repeat(1500 * p)}1${')'.repeat(1500 * p)}`],
]

/** What makes a text of 20,000 words one of the most that are read. */
const MOST = 0.745

/** By name, with a part of the text that is nearest to its limit: 1 is all of it. */
export const WORST_TEXTS = TEXTS.map(([name, text]): readonly [name: string, text: (part: number) => string] => [
  name,
  (part) => text(part * MOST),
])
