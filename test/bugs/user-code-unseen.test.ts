/** Functions of users that PostgreSQL runs by itself, and views whose text names nothing of what they read. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copies, mask, type Copies } from './sql-kit.ts'

const TABLES = (ssn: string): string => `
  CREATE TABLE people (id int PRIMARY KEY, ssn text);
  INSERT INTO people VALUES (1, '${ssn}');
  CREATE FUNCTION is_new(text) RETURNS bool LANGUAGE sql STABLE AS
    $$ SELECT NOT EXISTS (SELECT FROM public.people p WHERE p.ssn = $1) $$;
  CREATE DOMAIN fresh AS text CHECK (is_new(VALUE));
  CREATE DOMAIN fresher AS fresh;
  CREATE TYPE fresh_range AS RANGE (SUBTYPE = fresh);
  CREATE TYPE pair AS (a fresh);
  CREATE TABLE pairs (id int, p pair);
  INSERT INTO pairs VALUES (1, NULL);
  CREATE TABLE late (id int);
  INSERT INTO late VALUES (1);
  ALTER TABLE late ADD COLUMN ssn text DEFAULT '${ssn}';
  CREATE VIEW statistics AS SELECT tablename, histogram_bounds::text, most_common_vals::text FROM pg_stats;
  CREATE VIEW over_statistics AS SELECT * FROM statistics;
  CREATE VIEW as_xml AS SELECT query_to_xml('SELECT ssn FROM people', true, false, '');
  CREATE VIEW plain AS SELECT id, now() > 'epoch' AS at, upper('x') AS x FROM pairs;`

const CAST = `
  CREATE TYPE mood AS ENUM ('fine');
  CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE sql STABLE AS $$ SELECT to_json(ssn) FROM public.people $$;
  CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
  CREATE TABLE moods (id int, m mood);
  INSERT INTO moods VALUES (1, 'fine');
  CREATE VIEW mood_view AS SELECT to_json(m) FROM moods;`

const COMPARISON = `
  CREATE TABLE docs (id int, doc json);
  INSERT INTO docs VALUES (1, '1'), (2, '2');
  CREATE FUNCTION json_cmp(json, json) RETURNS int LANGUAGE sql STABLE AS
    $$ SELECT CASE WHEN (SELECT max(ssn) FROM public.people) = 'zq1' THEN 0 ELSE bttextcmp($1::text, $2::text) END $$;
  CREATE FUNCTION json_eq(json, json) RETURNS bool LANGUAGE sql STABLE AS $$ SELECT json_cmp($1, $2) = 0 $$;
  CREATE FUNCTION json_lt(json, json) RETURNS bool LANGUAGE sql STABLE AS $$ SELECT json_cmp($1, $2) < 0 $$;
  CREATE OPERATOR = (LEFTARG = json, RIGHTARG = json, PROCEDURE = json_eq);
  CREATE OPERATOR < (LEFTARG = json, RIGHTARG = json, PROCEDURE = json_lt);
  CREATE OPERATOR CLASS json_ops DEFAULT FOR TYPE json USING btree AS
    OPERATOR 1 <, OPERATOR 3 =, FUNCTION 1 json_cmp(json, json);`

const MASKS = ['people.ssn', 'late.ssn'].map((name) => mask(name))

let plain: Copies
let casts: Copies
let comparisons: Copies
beforeAll(async () => {
  plain = await copies([TABLES('zq1'), TABLES('zq2')], MASKS)
  casts = await copies([TABLES('zq1') + CAST, TABLES('zq2') + CAST], MASKS)
  comparisons = await copies([TABLES('zq1') + COMPARISON, TABLES('zq2') + COMPARISON], MASKS)
})
afterAll(async () => {
  await plain.close()
  await casts.close()
  await comparisons.close()
})

describe('C9: what runs without being called is refused where anything is masked', () => {
  it.each([
    `SELECT 'zq1'::fresh`,
    `SELECT 'zq1'::fresher`,
    `SELECT CAST('zq1' AS fresher)`,
    `SELECT '[zq1,zq3]'::fresh_range`,
    `SELECT '{[zq1,zq3]}'::fresh_multirange`,
    `SELECT '(zq1)'::pair`,
    `SELECT jsonb_populate_record(p, '{"a": "zq1"}') FROM pairs`,
    `SELECT json_populate_recordset(p, '[{"a": "zq1"}]') FROM pairs`,
    `SELECT * FROM statistics`,
    `SELECT * FROM over_statistics`,
    `SELECT * FROM as_xml`,
    `SELECT attmissingval::text FROM pg_attribute WHERE attrelid = 'late'::regclass`,
  ])('%s', async (sql) => {
    for (const answer of await plain.ask(sql)) expect(answer).toMatch(/^refused /)
  })

  it.each([
    'SELECT * FROM pg_attribute WHERE attrelid >= 16384',
    'SELECT a FROM pg_attribute a WHERE attrelid >= 16384',
    'SELECT a.* FROM pg_attribute a WHERE attrelid >= 16384',
    'SELECT row_to_json(a) FROM pg_attribute a WHERE attrelid >= 16384',
    `SELECT to_jsonb(a) -> 'attmissingval' FROM pg_attribute a WHERE attrelid >= 16384`,
    'SELECT * FROM pg_attribute a (a1, a2, a3, a4, a5, a6, a7, a8, a9) WHERE a1 >= 16384',
    'TABLE pg_attribute',
  ])('the value a column had before it was added is shown by nothing: %s', async (sql) => {
    for (const answer of await plain.ask(sql)) {
      expect(answer).toMatch(/"kind":"exit"/u)
      expect(answer).not.toMatch(/zq[12]|7a7131/u)
    }
    const counts = await plain.ask(`SELECT count(*) FROM (${sql}) x WHERE x::text LIKE '%zq1%'`)
    for (const count of counts) expect(count).toMatch(/^refused |\[\["0"\]\]/u)
    // It is there: whoever asks the database itself is told.
    const [db] = plain.databases
    const direct = await db?.admin.query(`SELECT FROM pg_attribute WHERE attmissingval::text LIKE '%zq1%'`)
    expect(direct?.rowCount).toBe(1)
  })

  it.each([
    'SELECT to_json(m) FROM moods',
    'SELECT row_to_json(moods) FROM moods',
    'SELECT json_agg(m) FROM moods',
    'SELECT jsonb_build_object($$a$$, m) FROM moods',
    'SELECT json_array(m) FROM moods',
    'SELECT json_arrayagg(m) FROM moods',
    `SELECT json_object('a': m) FROM moods`,
    `SELECT json_objectagg('a': m) FROM moods`,
    'SELECT json_scalar(m) FROM moods',
    'SELECT * FROM mood_view',
  ])('a cast to JSON: %s', async (sql) => {
    for (const answer of await casts.ask(sql)) expect(answer).toMatch(/^refused /)
  })

  it.each([
    'SELECT count(*) FROM docs GROUP BY doc',
    'SELECT count(DISTINCT doc) FROM docs',
    'SELECT doc FROM docs UNION SELECT doc FROM docs',
    'SELECT id, rank() OVER (ORDER BY doc) FROM docs',
    'SELECT d FROM docs d ORDER BY d',
  ])('a comparison of a type: %s', async (sql) => {
    for (const answer of await comparisons.ask(sql)) expect(answer).toMatch(/^refused /)
  })

  it.each(['SELECT * FROM plain', 'SELECT id, m FROM moods', `SELECT json_build_object('a', 1)`])(
    'and what runs no such thing is answered: %s',
    async (sql) => {
      const world = sql.includes('moods') ? casts : plain
      for (const answer of await world.ask(sql)) expect(answer).toContain('"kind":"exit"')
    },
  )
})
