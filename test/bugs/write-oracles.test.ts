/** Whether a write succeeds told of masked values: through keys, checks, generated columns, unique indexes, policies. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copies, mask, type Copies } from './sql-kit.ts'

function schema(ssn: string, salary: number): string {
  return `
    CREATE TABLE people (id int PRIMARY KEY, name text, ssn text UNIQUE, salary numeric, cap numeric, rate numeric DEFAULT 1,
      bonus numeric(6, 2) GENERATED ALWAYS AS (salary * rate) STORED, CHECK (salary < cap));
    CREATE UNIQUE INDEX ON people (name, COALESCE(ssn, ''));
    INSERT INTO people (id, name, ssn, salary, cap) VALUES (1, 'ada', ${ssn}, ${salary}, 1e9), (2, 'bob', 'b', 5, 1e9);
    CREATE TABLE claims (id int PRIMARY KEY, ssn text REFERENCES people (ssn));
    INSERT INTO claims VALUES (1, NULL);
    CREATE TABLE logins (id int, ssn text, name text) PARTITION BY RANGE (id);
    CREATE TABLE logins_one PARTITION OF logins FOR VALUES FROM (0) TO (9);
    CREATE UNIQUE INDEX ON logins_one (ssn);
    INSERT INTO logins SELECT id, ssn, name FROM people;
    CREATE TABLE guesses (guess text);
    ALTER TABLE guesses ENABLE ROW LEVEL SECURITY;
    CREATE POLICY known ON guesses USING (true) WITH CHECK (EXISTS (SELECT FROM people p WHERE p.ssn = guess));
    CREATE TABLE ledger (team int, account text, tag text, note text, PRIMARY KEY (team, tag));
    INSERT INTO ledger VALUES (1, ${ssn}, 'x', 'n');
    CREATE TABLE accounts (team int, account text, UNIQUE (team, account));
    INSERT INTO accounts VALUES (1, 'a1'), (1, 'zz'), (2, 'a1');
    ALTER TABLE ledger ADD FOREIGN KEY (team, account) REFERENCES accounts (team, account) NOT VALID;
    ALTER TABLE ledger DISABLE TRIGGER ALL; ALTER TABLE ledger ENABLE TRIGGER ALL`
}

let world: Copies
beforeAll(async () => {
  const masks = ['people.ssn', 'people.salary', 'logins.ssn', 'ledger.account'].map((name) => mask(name))
  world = await copies([schema(`'a1'`, 100), schema(`'zz'`, 20), schema('NULL', 7000)], masks)
})
afterAll(() => world.close())

describe('C9: whether a write succeeds tells nothing of a masked value', () => {
  it.each([
    `INSERT INTO claims VALUES (2, 'a1')`,
    `INSERT INTO claims VALUES (2, 'a1') ON CONFLICT DO NOTHING`,
    `UPDATE claims SET ssn = 'a1' WHERE id = 1`,
    `MERGE INTO claims c USING (VALUES (9, 'a1')) v (i, s) ON c.id = v.i WHEN NOT MATCHED THEN INSERT VALUES (v.i, v.s)`,
    `UPDATE people SET cap = 50 WHERE id = 1`,
    `WITH u AS (UPDATE people SET cap = 50 WHERE id = 1 RETURNING id) SELECT * FROM u`,
    `MERGE INTO people p USING (VALUES (1)) v (i) ON p.id = v.i WHEN MATCHED THEN UPDATE SET cap = 50`,
    `INSERT INTO people (id, name, cap) VALUES (1, 'new', 50) ON CONFLICT (id) DO UPDATE SET cap = excluded.cap`,
    `UPDATE people SET rate = 500 WHERE id = 1`,
    `INSERT INTO people (id, name) VALUES (3, 'ada')`,
    `UPDATE people SET name = 'ada' WHERE id = 2`,
    `INSERT INTO logins (id, ssn) VALUES (3, 'a1')`,
    `INSERT INTO guesses VALUES ('a1')`,
    `UPDATE ledger SET team = 2`,
  ])('%s', async (sql) => {
    const [first, ...others] = await world.ask(sql)
    expect(others).toEqual(others.map(() => first))
    expect(first).toMatch(/^refused sql\.mask\.(constraint|foreign_key|policy|unique)$/)
  })

  it.each([
    `INSERT INTO claims (id) VALUES (5)`,
    `UPDATE claims SET id = 6 WHERE id = 5`,
    `UPDATE ledger SET note = 'other'`,
    `INSERT INTO accounts VALUES (3, 'new')`,
    `DELETE FROM claims WHERE id = 6`,
  ])('and a write that meets none of them runs: %s', async (sql) => {
    const [first, ...others] = await world.ask(sql)
    expect(others).toEqual(others.map(() => first))
    expect(first).toContain('"kind":"exit"')
  })
})
