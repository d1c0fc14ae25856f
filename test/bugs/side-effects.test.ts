/** Code that a write sets off sees what is masked, and RETURNING, the count of rows and errors tell what it made of it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copies, mask, type Copies } from './sql-kit.ts'

function schema(ssn: string): string {
  return `
    CREATE TABLE people (id int PRIMARY KEY, note text, ssn text);
    INSERT INTO people VALUES (1, 'n', '${ssn}'), (2, 'n', 'b');
    CREATE FUNCTION to_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := NEW.ssn; RETURN NEW; END $$;
    CREATE TRIGGER to_note BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION to_note();
    CREATE TABLE veiled (id int PRIMARY KEY, note text, ssn text);
    INSERT INTO veiled VALUES (1, 'n', '${ssn}');
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF OLD.ssn = 'zq1' THEN RETURN NULL; END IF; IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$;
    CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON veiled FOR EACH ROW EXECUTE FUNCTION keep();
    CREATE FUNCTION peek() RETURNS text LANGUAGE sql STABLE AS $$ SELECT min(ssn) FROM public.veiled $$;
    CREATE TABLE stamped (id int, by text DEFAULT peek(), at timestamptz);
    CREATE FUNCTION guess() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF EXISTS (SELECT FROM public.veiled v WHERE v.ssn = NEW.note) THEN RAISE EXCEPTION 'known'; END IF; RETURN NULL; END $$;
    CREATE TABLE guesses (id int PRIMARY KEY, note text);
    CREATE TRIGGER guess AFTER INSERT ON guesses FOR EACH ROW EXECUTE FUNCTION guess();
    CREATE FUNCTION check_note(text) RETURNS bool LANGUAGE sql STABLE AS
      $$ SELECT NOT EXISTS (SELECT FROM public.veiled v WHERE v.ssn = $1) $$;
    CREATE TABLE checked (id int, note text CHECK (check_note(note)));
    CREATE FUNCTION peeked(int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT min(ssn) FROM public.veiled $$;
    CREATE DOMAIN fresh AS text CHECK (check_note(VALUE));
    CREATE TYPE boxed AS (a int, b fresh[]);
    CREATE TABLE domained (id int, note boxed);
    CREATE TYPE mood AS ENUM ('low', 'high');
    CREATE DOMAIN small AS int CHECK (VALUE < 100);
    CREATE TYPE pair AS (a small, b mood[]);
    CREATE TABLE plain (id int, p pair, m mood, s small);
    CREATE TABLE made (id int, g text GENERATED ALWAYS AS (peeked(id)) STORED);
    CREATE TABLE parent (id int PRIMARY KEY);
    INSERT INTO parent VALUES (1);
    CREATE TABLE nested (id int REFERENCES parent ON DELETE CASCADE, ssn text);
    INSERT INTO nested VALUES (1, '${ssn}');
    CREATE TRIGGER keep BEFORE DELETE ON nested FOR EACH ROW EXECUTE FUNCTION keep();
    CREATE TABLE words (id int PRIMARY KEY, ssn text, doc tsvector);
    INSERT INTO words VALUES (1, '${ssn}');
    CREATE TRIGGER words BEFORE UPDATE ON words FOR EACH ROW
      EXECUTE FUNCTION tsvector_update_trigger(doc, 'pg_catalog.english', ssn);
    CREATE TABLE touched (id int PRIMARY KEY, note text, ssn text, at timestamptz);
    INSERT INTO touched VALUES (1, 'n', '${ssn}');
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        NEW.at = now();
        RETURN NEW;
      END;
    $$;
    CREATE TRIGGER touch BEFORE UPDATE ON touched FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE TABLE cond (id int PRIMARY KEY, note text, ssn text);
    INSERT INTO cond VALUES (1, 'n', '${ssn}');
    CREATE TRIGGER touch BEFORE UPDATE ON cond FOR EACH ROW WHEN (OLD.ssn = 'zq1') EXECUTE FUNCTION touch()`
}

let world: Copies
let vouched: Copies
beforeAll(async () => {
  const masks = ['people', 'veiled', 'nested', 'words', 'touched', 'cond'].map((name) => mask(`${name}.ssn`))
  world = await copies([schema('zq1'), schema('zq2')], masks)
  vouched = await copies([schema('zq1')], masks, {
    trusted_functions: ['public.guess()'],
    trusted_side_effects: ['public.people'],
  })
})
afterAll(async () => {
  await world.close()
  await vouched.close()
})

describe('C9: what a write sets off shows nothing of a masked value', () => {
  it.each([
    `UPDATE people SET id = id WHERE id = 1 RETURNING note`,
    `UPDATE people SET id = id WHERE id = 1`,
    `WITH u AS (UPDATE people SET id = id RETURNING note) SELECT * FROM u`,
    `INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = excluded.id RETURNING note`,
    `UPDATE veiled SET id = id WHERE id = 1`,
    `DELETE FROM veiled WHERE id = 1`,
    `MERGE INTO veiled v USING (VALUES (1)) x (i) ON v.id = x.i WHEN MATCHED THEN UPDATE SET note = 'x'`,
    `INSERT INTO stamped (id) VALUES (1) RETURNING by`,
    `INSERT INTO stamped (id) VALUES (1)`,
    `INSERT INTO stamped VALUES (1, DEFAULT) RETURNING *`,
    `INSERT INTO guesses VALUES (1, 'zq1')`,
    `INSERT INTO checked VALUES (1, 'zq1')`,
    `INSERT INTO domained VALUES (1, ROW(1, ARRAY['zq1']))`,
    `INSERT INTO made VALUES (1) RETURNING g`,
    `DELETE FROM parent`,
    `UPDATE words SET id = id RETURNING doc`,
    `UPDATE cond SET note = 'x' RETURNING id`,
  ])('%s', async (sql) => {
    const [first, ...others] = await world.ask(sql)
    expect(others).toEqual(others.map(() => first))
    expect(first).toMatch(/^refused sql\.mask\.side_effects$/)
  })

  it.each([`UPDATE touched SET note = 'x' RETURNING id, note`, `INSERT INTO touched (id) VALUES (2) RETURNING note`])(
    'a trigger that only stamps the time is known: %s',
    async (sql) => {
      for (const answer of await world.ask(sql)) expect(answer).toContain('"kind":"exit"')
    },
  )

  it.each([
    `INSERT INTO plain VALUES (1, '(5,{low})', 'high', 7) RETURNING *`,
    `SELECT '(5,{low})'::pair, '(1,,,)'::plain`,
  ])('types of users that run nothing of theirs are known: %s', async (sql) => {
    for (const answer of await world.ask(sql)) expect(answer).toContain('"kind":"exit"')
  })

  it.each([`UPDATE people SET id = id WHERE id = 1 RETURNING note`, `INSERT INTO guesses VALUES (1, 'x')`])(
    'what an operator vouches for runs: %s',
    async (sql) => {
      expect((await vouched.ask(sql))[0]).toContain('"kind":"exit"')
    },
  )

  it('vouching for one table is vouching for no other', async () => {
    expect((await vouched.ask('UPDATE veiled SET id = id'))[0]).toBe('refused sql.mask.side_effects')
  })
})
