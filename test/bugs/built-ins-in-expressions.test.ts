/** Functions of PostgreSQL itself that run SQL, or do something, where nobody calls them: in what is stored with a table. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copies, mask, type Copies } from './sql-kit.ts'

const PEEK = `query_to_xml('SELECT ssn FROM public.people ORDER BY id', true, false, '')`

const TABLES = (ssn: string): string => `
  CREATE TABLE people (id int PRIMARY KEY, ssn text);
  INSERT INTO people VALUES (1, '${ssn}');
  CREATE TABLE by_default (id int, seen text DEFAULT ${PEEK}::text);
  CREATE TABLE by_check (id int, note text CHECK (strpos(${PEEK}::text, note) = 0));
  CREATE DOMAIN unheard AS text CHECK (strpos(${PEEK}::text, VALUE) = 0);
  CREATE TABLE by_type (id int, note unheard);
  CREATE TABLE by_policy (id int, note text);
  INSERT INTO by_policy VALUES (1, 'zq1'), (2, 'zq2');
  ALTER TABLE by_policy ENABLE ROW LEVEL SECURITY;
  CREATE POLICY seen ON by_policy USING (strpos(${PEEK}::text, note) > 0);
  CREATE TABLE by_condition (id int PRIMARY KEY, at timestamptz);
  INSERT INTO by_condition VALUES (1, NULL);
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at = now(); RETURN NEW; END $$;
  CREATE TRIGGER touch BEFORE UPDATE ON by_condition FOR EACH ROW
    WHEN (strpos(${PEEK}::text, 'zq1') > 0) EXECUTE FUNCTION touch();
  CREATE TABLE plain (
    id bigserial PRIMARY KEY, key uuid DEFAULT gen_random_uuid(), at timestamptz DEFAULT clock_timestamp(),
    by text DEFAULT current_setting('app.user', true), note text CHECK (length(note) < 100)
  );`

let world: Copies
beforeAll(async () => {
  world = await copies([TABLES('zq1'), TABLES('zq2')], [mask('people.ssn')])
})
afterAll(() => world.close())

describe('C3, C9: what is stored with a table runs when it is read or written', () => {
  it.each([
    'INSERT INTO by_default (id) VALUES (1) RETURNING seen',
    'UPDATE by_default SET seen = DEFAULT RETURNING seen',
    `INSERT INTO by_check VALUES (1, 'zq1')`,
    `INSERT INTO by_type VALUES (1, 'zq1')`,
    `SELECT 'zq1'::unheard`,
    'SELECT * FROM by_policy',
    'UPDATE by_condition SET id = 1 RETURNING at',
  ])('is refused where anything is masked: %s', async (sql) => {
    for (const answer of await world.ask(sql)) expect(answer).toMatch(/^refused sql\.mask\./)
  })

  it('leaves alone what most tables are made of', async () => {
    const [first, second] = await world.ask(`INSERT INTO plain (id, note) VALUES (1, 'n') RETURNING id, note`)
    expect(first).toContain('"kind":"exit"')
    expect(first).toBe(second)
  })
})
