/**
 * The rules of masking that live in a session, each by its number, through the PostgreSQL door with real clients before
 * real servers.
 */
import { spawn } from 'node:child_process'
import { Client, type DatabaseError } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ServerVersion } from '../services/postgres.ts'
import { has } from '../setup/needs.ts'
import { openWorld, type World } from './world.ts'

const MARKER = /zq-\d|77-777/
const SCHEMA = `
  CREATE TABLE customers (id int PRIMARY KEY, name text, ssn text CHECK (length(ssn) > 3));
  INSERT INTO customers VALUES (1, 'Ada', 'zq-111'), (2, 'Bob', '77-7777'), (3, 'Eve', NULL);
  CREATE TABLE orders (id int PRIMARY KEY, item text);
  INSERT INTO orders SELECT n, 'item ' || n FROM generate_series(1, 9) n;
  CREATE SCHEMA other;
  CREATE TABLE other.customers (id int, ssn text);
  CREATE FUNCTION leak(customers) RETURNS text LANGUAGE sql AS 'SELECT $1.ssn';
  CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'was %', OLD.ssn; RETURN NEW; END $$;
  CREATE TRIGGER tells BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION tell();
`
const GRANTS = `GRANT SELECT, INSERT, UPDATE, DELETE ON customers, orders, other.customers TO $role;
  GRANT USAGE ON SCHEMA other TO $role; GRANT CREATE ON SCHEMA public TO $role`
const POLICY = `
targets: [db]
rules:
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["public.*", "other.*"]}
  - {id: write, effect: allow, principals: [group:agents], actions: ["sql.insert", "sql.update", "sql.delete", "sql.create"], resources: ["public.*"]}
  - {id: calls, effect: allow, principals: [group:agents], actions: [sql.call], resources: ["public.leak(public.customers)", "public.tell()"]}
  - {id: sets, effect: allow, principals: [group:setters], actions: [sql.set, sql.set_role], resources: ["*"]}
  - {id: copies, effect: allow, principals: [group:copiers], actions: [sql.copy], resources: ["public.*", "-"]}
masks:
  - {columns: [public.customers.ssn], transform: redact}
`

describe.each<ServerVersion>(['18', '15'])('the PostgreSQL door before PostgreSQL %s', (version) => {
  describe.runIf(version === '18' || has('postgresql-15'))('masks', () => {
    let world: World
    let reader = ''
    let copier = ''

    beforeAll(async () => {
      world = await openWorld({ schema: SCHEMA, grants: GRANTS, policy: POLICY, server: version })
      const who = { principal: 'loop', kind: 'agent', owner: 'maria', roles: ['caller'] }
      reader = await world.token({ ...who, groups: ['agents', 'setters'] })
      copier = await world.token({ ...who, principal: 'copier', groups: ['agents', 'setters', 'copiers'] })
    }, 60_000)
    afterAll(async () => world?.close())

    /** What one session is told, statement by statement: rows, or the SQLSTATE and everything the error says. */
    async function session(statements: readonly string[]): Promise<readonly string[]> {
      const client = new Client({
        host: '127.0.0.1',
        port: world.wirePort,
        user: 'loop',
        password: reader,
        database: 'db',
      })
      const told: string[] = []
      client.on('notice', (notice) => told.push(`notice ${notice.message}`))
      client.on('error', () => undefined)
      await client.connect()
      try {
        for (const sql of statements) told.push(await asked(client, sql))
      } finally {
        await client.end()
      }
      expect(JSON.stringify(told)).not.toMatch(MARKER)
      return told
    }

    async function asked(client: Client, sql: string): Promise<string> {
      try {
        const { rows, command } = await client.query<unknown[]>({ text: sql, rowMode: 'array' })
        return rows.length > 0 ? JSON.stringify(rows) : command
      } catch (error) {
        const { code, message, detail, where, hint } = error as DatabaseError
        return `${code} ${message} ${detail ?? ''}${where ?? ''}${hint ?? ''}`
      }
    }

    it('R3: a name that only an open transaction knows is refused, and answers once it is there for all', async () => {
      const told = await session([
        'begin',
        'set transaction isolation level repeatable read, read only',
        'select ssn from customers where id = 1',
        'commit',
        'begin',
        'create table fresh as select 1 as id',
        'select id from fresh',
        'rollback',
        'create table fresh2 (id int)',
        'select count(*) from fresh2',
      ])
      expect(told.slice(0, 4)).toEqual(['BEGIN', 'SET', '[["[masked]"]]', 'COMMIT'])
      expect(told[6]).toMatch(/^42501 /)
      expect(told.at(-1)).toBe('[["0"]]')
    })

    it('R3: names mean what they meant when the session began', async () => {
      const told = await session(['set search_path = other, public', 'select ssn from customers where id = 1'])
      // Whether the path may be set or not: the masked table is shown masked, or nothing is.
      expect(told[1]).toMatch(/^\[\["\[masked\]"\]\]$|^SELECT$|^42501 /)
    })

    it.each([
      'select c.leak from customers c',
      'select (c).leak from customers c',
      'select leak(c) from customers c',
      'select leak(c.*) from customers c',
      "select query_to_xml('select ssn from customers', true, true, '')",
      "select pg_read_file('/etc/passwd')",
      'select most_common_vals from pg_stats',
    ])('R10: code that could read what is masked is refused: %s', async (sql) => {
      expect((await session([sql]))[0]).toMatch(/^42501 /)
    })

    it.each([
      'set role postgres',
      'set session authorization postgres',
      'set standard_conforming_strings = off',
      "set client_encoding = 'SQL_ASCII'",
      "select set_config('standard_conforming_strings', 'off', false)",
      "select set_config(name, 'off', false) from pg_settings where name = 'standard_conforming_strings'",
      'set session_replication_role = replica',
    ])('R16: a setting that changes what statements mean is refused, whatever rules say: %s', async (sql) => {
      const [first, second] = await session([sql, 'select ssn from customers where id = 1'])
      expect(first).not.toMatch(/^SET|^\[/)
      expect(second).toBe('[["[masked]"]]')
    })

    it('R17: a refusal fails the transaction as an error does, and errors and notices tell nothing', async () => {
      const told = await session([
        'begin',
        'select c.leak from customers c',
        'select 1',
        'rollback',
        'select 1 as one',
        'insert into customers (id, name) values (1, $$x$$)',
        "insert into customers (id, ssn) values (9, 'zz')",
        'update customers set name = name where id = 1',
      ])
      expect(told[1]).toMatch(/^42501 /)
      expect(told[2]).toMatch(/^25P02 /)
      expect(told.slice(3, 5)).toEqual(['ROLLBACK', '[[1]]'])
      expect(told[5]).not.toMatch(/Ada|Failing row|Key \(/)
      expect(told[6]).not.toMatch(/Failing row/)
      expect(told.filter((line) => line.startsWith('notice')).join()).not.toContain('was')
    })

    it('R19: what was prepared or declared is judged again when it runs, and a FunctionCall is not served', async () => {
      const told = await session([
        'prepare p as select * from customers order by id limit 1',
        'execute p',
        'begin',
        'declare c cursor for select ssn, name from customers order by id',
        'fetch 1 from c',
        'commit',
      ])
      expect(told[1]).toBe('[[1,"Ada","[masked]"]]')
      expect(told[4]).toBe('[["[masked]","Ada"]]')
      const client = new Client({
        host: '127.0.0.1',
        port: world.wirePort,
        user: 'loop',
        password: reader,
        database: 'db',
      })
      client.on('error', () => undefined)
      await client.connect()
      try {
        const named = { name: 'n', text: 'select * from customers order by id limit 1', rowMode: 'array' as const }
        expect((await client.query(named)).rows).toEqual([[1, 'Ada', '[masked]']])
        await client.query('prepare q as select * from customers order by id limit 1')
        await world.db.admin.query(
          'ALTER TABLE customers RENAME COLUMN ssn TO gone; ALTER TABLE customers RENAME gone TO ssn',
        )
        await world.db.admin.query(`ALTER TABLE customers ADD COLUMN IF NOT EXISTS later text DEFAULT 'plain'`)
        const again = [await asked(client, 'execute q'), await asked(client, 'execute q')]
        again.push(await client.query(named).then(({ rows }) => JSON.stringify(rows), String))
        expect(again.join()).not.toMatch(MARKER)
        // The first look finds another schema than was judged; the next one knows it.
        expect(again[0]).toMatch(/^(?:40001|42501) /)
        expect(again[1]).toMatch(/^42501 .*Make it anew/)
        const call = Buffer.alloc(15)
        call.write('F')
        call.writeInt32BE(14, 1)
        call.writeInt32BE(1598, 5)
        const socket = (client as unknown as { connection: { stream: NodeJS.WritableStream } }).connection.stream
        const failed = new Promise<string>((resolve) =>
          (client as unknown as { connection: NodeJS.EventEmitter }).connection.once(
            'errorMessage',
            ({ code }: { code: string }) => resolve(code),
          ),
        )
        socket.write(call)
        expect(await failed).toBe('0A000')
      } finally {
        await client.end()
      }
    })

    it.runIf(has('psql'))(
      'R20: rows of a table are copied out only where a rule allows COPY, and a copy holds masks',
      async () => {
        const denied = await psql('copy customers (id, name, ssn) to stdout;', reader)
        expect(denied.out).toBe('')
        expect(denied.err).toContain('sql.copy')
        const copied = await psql(
          'copy customers (id, name, ssn) to stdout;\ncopy (select ssn from customers order by id) to stdout with csv;',
          copier,
        )
        expect(copied.err).toBe('')
        expect(copied.out).toContain('1\tAda\t[masked]\n')
        const binary = await psql('copy customers to stdout (format binary);', copier)
        expect(binary.out).toBe('')
      },
    )

    it.runIf(has('psql'))('R20: pg_dump of a masked table is refused', async () => {
      const { out, code } = await run('pg_dump', ['--data-only', '-t', 'public.customers'], reader)
      expect(code).not.toBe(0)
      expect(out).not.toMatch(/Ada/)
    })

    const psql = (input: string, token: string) => run('psql', ['-X', '-A', '-t'], token, input)

    async function run(program: string, args: readonly string[], token: string, input = '') {
      const user = token === copier ? 'copier' : 'loop'
      const url = `host=127.0.0.1 port=${world.wirePort} user=${user} dbname=db`
      const child = spawn(program, [...args, '-d', url], {
        env: { PATH: process.env['PATH'], PGPASSWORD: token, PGCLIENTENCODING: 'UTF8', LC_ALL: 'C' },
      })
      let [out, err] = ['', '']
      child.stdout.on('data', (data: Buffer) => (out += data.toString()))
      child.stderr.on('data', (data: Buffer) => (err += data.toString()))
      child.stdin.end(input)
      const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
      expect(out + err).not.toMatch(MARKER)
      return { code, out, err }
    }
  })
})
