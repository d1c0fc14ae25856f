/** What moves between planning and execution: nothing may leak by it, and nothing may run with another meaning. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ServerVersion, TestDatabase } from '../services/postgres.ts'
import { openWorld, type World } from './world.ts'

interface Move {
  readonly what: string
  /** Judged before the move, and sent after it. */
  readonly sql: string
  readonly move: string
  readonly back: string
}

const TELLS = `'SELECT string_agg(ssn, '','') FROM public.customers'`

const MOVES: readonly Move[] = [
  {
    what: 'a masked table under another name',
    sql: 'select id, ssn from customers order by id',
    move: 'ALTER TABLE customers RENAME TO moved',
    back: 'ALTER TABLE moved RENAME TO customers',
  },
  {
    what: 'a masked table under the name of another one',
    sql: 'select * from orders order by id',
    move: 'ALTER TABLE orders RENAME TO away; ALTER TABLE customers RENAME TO orders',
    back: 'ALTER TABLE orders RENAME TO customers; ALTER TABLE away RENAME TO orders',
  },
  {
    what: 'a masked column under another name',
    sql: 'select * from customers order by id',
    move: 'ALTER TABLE customers RENAME COLUMN ssn TO shown',
    back: 'ALTER TABLE customers RENAME COLUMN shown TO ssn',
  },
  {
    what: 'a masked column under the name of another one',
    sql: 'select id, name from customers order by id',
    move: 'ALTER TABLE customers RENAME COLUMN name TO away; ALTER TABLE customers RENAME COLUMN ssn TO name',
    back: 'ALTER TABLE customers RENAME COLUMN name TO ssn; ALTER TABLE customers RENAME COLUMN away TO name',
  },
  {
    what: 'a masked table in another schema, and another one in its place',
    sql: 'select id, ssn from customers order by id',
    move: 'ALTER TABLE customers SET SCHEMA away; ALTER TABLE other.customers SET SCHEMA public',
    back: 'ALTER TABLE public.customers SET SCHEMA other; ALTER TABLE away.customers SET SCHEMA public',
  },
  {
    what: 'another view',
    sql: 'select * from order_view order by id',
    move: 'CREATE OR REPLACE VIEW order_view AS SELECT id, ssn AS note FROM customers',
    back: 'CREATE OR REPLACE VIEW order_view AS SELECT id, note FROM orders',
  },
  {
    what: 'a view in place of a table',
    sql: 'select * from sink order by id',
    move: 'ALTER TABLE sink RENAME TO away; CREATE VIEW sink AS SELECT id, ssn AS note FROM customers; GRANT SELECT ON sink TO PUBLIC',
    back: 'DROP VIEW sink; ALTER TABLE away RENAME TO sink',
  },
  {
    what: 'a better overload',
    sql: "select lower('X'::varchar)",
    move: `CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS ${TELLS}`,
    back: 'DROP FUNCTION public.lower(varchar)',
  },
  {
    what: 'a better operator',
    sql: "select 'a'::varchar || 'b'::varchar",
    move: `CREATE FUNCTION tell(varchar, varchar) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS ${TELLS};
      CREATE OPERATOR public.|| (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = tell)`,
    back: 'DROP OPERATOR public.|| (varchar, varchar); DROP FUNCTION tell(varchar, varchar)',
  },
  {
    what: 'a cast',
    sql: 'select kind::text from products order by id',
    move: `CREATE FUNCTION tell(mood) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS ${TELLS};
      CREATE CAST (mood AS text) WITH FUNCTION tell(mood) AS IMPLICIT`,
    back: 'DROP CAST (mood AS text); DROP FUNCTION tell(mood)',
  },
  {
    what: 'a default that reads',
    sql: 'insert into sink (id) values (501)',
    move: 'ALTER TABLE sink ALTER note SET DEFAULT get_ssn(1)',
    back: 'ALTER TABLE sink ALTER note DROP DEFAULT; DELETE FROM sink WHERE id = 501',
  },
  {
    what: 'a trigger that reads',
    sql: "insert into sink values (502, 'x')",
    move: `CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $f$
        BEGIN NEW.note := (SELECT max(ssn) FROM public.customers); RAISE NOTICE '%', NEW.note; RETURN NEW; END$f$;
      CREATE TRIGGER tells BEFORE INSERT ON sink FOR EACH ROW EXECUTE FUNCTION tell()`,
    back: 'DROP TRIGGER tells ON sink; DROP FUNCTION tell(); DELETE FROM sink WHERE id = 502',
  },
  {
    what: 'a row security policy that compares',
    sql: 'select count(*) from orders',
    move: `CREATE POLICY tells ON orders USING (EXISTS (SELECT FROM customers c WHERE c.id = customer_id AND c.ssn > 'zqvkjxw1-b'));
      ALTER TABLE orders ENABLE ROW LEVEL SECURITY`,
    back: 'ALTER TABLE orders DISABLE ROW LEVEL SECURITY; DROP POLICY tells ON orders',
  },
  {
    what: 'another search_path for the role',
    sql: 'select ssn from customers order by id',
    move: 'ALTER ROLE $role SET search_path = other; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $quoted AND datname = current_database()',
    back: 'ALTER ROLE $role RESET search_path',
  },
  {
    what: 'another reading of strings for the role',
    sql: "select 'a\\'' || (select max(ssn) from customers) -- '",
    move: `ALTER ROLE $role SET standard_conforming_strings = off; ALTER ROLE $role SET backslash_quote = on;
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $quoted AND datname = current_database()`,
    back: 'ALTER ROLE $role RESET ALL',
  },
  {
    what: 'a right the role did not have',
    sql: 'select current_setting($$is_superuser$$) is null, id from customers order by id',
    move: 'ALTER ROLE $role BYPASSRLS',
    back: 'ALTER ROLE $role NOBYPASSRLS',
  },
]

export function proveStaleness(server: ServerVersion): void {
  describe(`R2: PostgreSQL ${server}, between planning and execution`, () => {
    let world: World
    let pending: string | undefined
    let turn = Promise.resolve()
    const moved = new Set<TestDatabase>()
    beforeAll(async () => {
      world = await openWorld({
        server,
        mode: 'rewrite',
        copies: 3,
        async between(db) {
          if (pending === undefined || moved.has(db)) return
          moved.add(db)
          // One after the other: roles belong to the whole server.
          const sql = pending
          await (turn = turn.then(async () => void (await db.admin.query(sql))))
        },
      })
      await world.admin('CREATE SCHEMA away')
    })
    afterAll(() => world.close())

    it.each(MOVES)('$what comes', async ({ sql, move, back }) => {
      const named = (text: string): string =>
        text.replaceAll('$role', world.role.user).replaceAll('$quoted', `'${world.role.user}'`)
      const before = await world.ask(sql)
      expect(before.answer.verdict).toBe('same')
      moved.clear()
      pending = named(move)
      const [during, ...others] = await Promise.all(world.gateways.slice(0, 3).map((gateway) => gateway.ask(sql)))
      pending = undefined
      expect(moved.size).toBe(3)
      await world.databases.at(-1)?.admin.query(named(move))
      const after = await world.ask(sql)
      await world.admin(named(back))
      const restored = await world.ask(sql)

      expect(others.map(({ text }) => text)).toEqual([during?.text, during?.text])
      // Either it did not run, or it ran as it was judged.
      expect(during?.verdict === 'same' ? during.text : before.answer.text).toBe(before.answer.text)
      expect([before.finding, after.finding, restored.finding]).toEqual([undefined, undefined, undefined])
      expect(restored.answer.text).toBe(before.answer.text)
    })

    it('C10: recordings and logs hold nothing of it', async () => {
      expect(await world.searchWritten()).toBeUndefined()
    })
  })
}
