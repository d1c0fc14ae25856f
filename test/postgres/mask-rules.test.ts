/**
 * The rules of masking by rewriting, each by its number, against real servers: two databases that differ in nothing but
 * masked values must answer alike, and what is sent must be what the rule says.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Protocol } from '../../src/core/call.ts'
import type { ColumnMask, Transform } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Target } from '../../src/core/target.ts'
import { createPostgres, endpointOf, postgresOptions, postgresSchema } from '../../src/protocols/postgres/index.ts'
import type { PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { createDatabase, type ServerVersion, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { has } from '../setup/needs.ts'
import { callOf, permitOf } from './connector-kit.ts'

const SECRETS = [
  ["'zq1-123-45-6789'", "'zq1-b'", 'NULL'],
  ['NULL', "'zq2-zzzzzzzzzzzzzzzz'", "'zq2-a'"],
] as const
const MARKER = /zq[12]/

function schemaSql([a, b, c]: (typeof SECRETS)[number]): string {
  const rows = [a, b, c].map((ssn, i) => `(${i + 1}, 'name ${i + 1}', ${ssn}, 'free')`).join(', ')
  return `
    CREATE DOMAIN short_code AS varchar(20);
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, ssn text, plan text,
      tail text GENERATED ALWAYS AS (right(ssn, 4)) STORED);
    INSERT INTO customers VALUES ${rows};
    CREATE TABLE orders (id int PRIMARY KEY, customer_id int, note text);
    INSERT INTO orders SELECT i, 1 + i % 3, 'note ' || i FROM generate_series(1, 6) i;
    CREATE TABLE archive (id int, name text, ssn text, plan text, tail text);
    CREATE TABLE typed (id int PRIMARY KEY, v4 varchar(4), c2 char(2), ch "char", dom short_code, num numeric(8,3),
      day date, arr text[], js json, pt point, bits bit(3), vb varbit(5), col text COLLATE "C", rng int4range);
    INSERT INTO typed (id, v4, dom, col) SELECT id, left(ssn, 4), left(ssn, 20), ssn FROM customers;
    CREATE VIEW id_view AS SELECT id, name, count(*) OVER () FROM customers;
    CREATE VIEW ssn_view AS SELECT id FROM customers ORDER BY ssn;
    CREATE VIEW row_view AS SELECT c.id, row_to_json(c) AS j FROM customers c;
    CREATE MATERIALIZED VIEW id_mat AS SELECT id, plan FROM customers;
    CREATE TABLE lying (id int PRIMARY KEY, ssn text);
    CREATE INDEX lying_by_ssn ON lying (ssn);
    INSERT INTO lying SELECT id, ssn FROM customers;
    CLUSTER lying USING lying_by_ssn;
    CREATE TABLE pieces (id int, ssn text) PARTITION BY LIST (ssn);
    CREATE TABLE pieces_rest PARTITION OF pieces DEFAULT;
    INSERT INTO pieces SELECT id, ssn FROM customers;
    CREATE TABLE tenants (id int PRIMARY KEY, ssn text);
    INSERT INTO tenants SELECT id, ssn FROM customers;
    ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
    CREATE POLICY by_ssn ON tenants USING (ssn > 'zq1-b');
    CREATE VIEW tenant_view AS SELECT id FROM tenants;
    CREATE TABLE uniq (id int PRIMARY KEY, ssn text UNIQUE);
    INSERT INTO uniq SELECT id, ssn FROM customers;
    CREATE SCHEMA other;
    CREATE TABLE other.customers (id int, ssn text);
    CREATE TABLE other.orders (id int);
    CREATE SCHEMA hidden;
    CREATE TYPE hidden.mood AS ENUM ('zq1', 'zq2');
    CREATE TABLE moody (id int PRIMARY KEY, m hidden.mood);
    INSERT INTO moody VALUES (1, 'zq1');
    ALTER TABLE customers ADD COLUMN later text DEFAULT 'plain';
    ANALYZE`
}

const mask = (table: string, column: string, transform: Transform = 'redact'): ColumnMask => ({
  schema: 'public',
  table,
  column,
  transform,
})

const TYPED = ['v4', 'c2', 'ch', 'dom', 'num', 'day', 'arr', 'js', 'pt', 'bits', 'vb', 'col', 'rng']
const MASKS: readonly ColumnMask[] = [
  ...['customers', 'lying', 'pieces', 'tenants', 'uniq'].map((table) => mask(table, 'ssn')),
  ...TYPED.map((column) => mask('typed', column)),
]

interface Copy {
  readonly db: TestDatabase
  readonly role: TestRole
  readonly target: Target
}

describe.each<ServerVersion>(['18', '15'])('on PostgreSQL %s', (version) => {
  describe.runIf(version === '18' || has('postgresql-15'))('masks', () => {
    const copies: Copy[] = []
    let protocol: Protocol<PostgresPlan>

    beforeAll(async () => {
      protocol = createPostgres()
      for (const secrets of SECRETS) {
        const db = await createDatabase(schemaSql(secrets), { server: version })
        const role = await db.role(
          'GRANT USAGE ON SCHEMA public, other TO $role; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, other TO $role',
        )
        const { host, port, name } = db
        const options = postgresOptions(postgresSchema.parse({ host, port, database: name, tls: 'disable', pool: 1 }))
        const target: Target = {
          name: `copy-${copies.length}-${version}`,
          protocol: 'postgres',
          labels: {},
          mode: 'enforce',
          record: 'full',
          endpoint: endpointOf(options),
          options,
        }
        copies.push({ db, role, target })
      }
    })

    afterAll(async () => {
      await protocol.close?.()
      for (const { db } of copies) await db.drop()
    })

    async function one(copy: Copy, sql: string, masks: readonly ColumnMask[], between?: () => Promise<unknown>) {
      const { signal } = new AbortController()
      const secret = { user: copy.role.user, value: copy.role.password }
      const call = callOf(copy.target, { sql }, signal)
      const plan = await protocol.plan(call, { masks, secret: async () => secret, signal })
      await between?.()
      const seen: unknown[] = []
      try {
        for await (const chunk of protocol.execute(call, plan, permitOf(signal), secret)) seen.push(chunk)
      } catch (error) {
        if (!(error instanceof SallyportError)) throw error
        seen.push(error.facts.construct ?? error.message)
      }
      return { sent: plan.sql, construct: plan.refused?.construct, seen: JSON.stringify(seen) }
    }

    /** Asks both copies; says what the first answered, after they were found to answer alike. */
    async function ask(sql: string, masks = MASKS): Promise<Awaited<ReturnType<typeof one>>> {
      const all = await Promise.all(copies.map((copy) => one(copy, sql, masks)))
      const [first, second] = all.map(({ seen }, i) => seen.replaceAll(copies[i]?.db.name ?? '', 'DB'))
      expect(second).toBe(first)
      expect(first).not.toMatch(MARKER)
      return all[0] ?? { sent: '', construct: undefined, seen: '' }
    }

    async function answered(sql: string, masks = MASKS): Promise<string> {
      const { construct, seen } = await ask(sql, masks)
      expect(construct).toBeUndefined()
      expect(seen).toContain('"kind":"exit"')
      return seen
    }

    async function refused(sql: string, masks = MASKS): Promise<string | undefined> {
      return (await ask(sql, masks)).construct
    }

    it('R1: a mask whose column is gone closes the database', async () => {
      expect(await refused('select 1', [mask('customers', 'gone')]).catch((error: unknown) => error)).toMatchObject({
        facts: { construct: 'sql.mask.binding' },
      })
    })

    const SWAPS = {
      'two tables swapped names': (a: string, b: string) =>
        `ALTER TABLE ${a} RENAME TO x; ALTER TABLE ${b} RENAME TO ${a}; ALTER TABLE x RENAME TO ${b}`,
      'two schemas swapped names': () =>
        'ALTER SCHEMA public RENAME TO x; ALTER SCHEMA other RENAME TO public; ALTER SCHEMA x RENAME TO other',
      'two columns swapped names': () =>
        'ALTER TABLE customers RENAME ssn TO x; ALTER TABLE customers RENAME name TO ssn; ALTER TABLE customers RENAME x TO name',
    }

    it.each([
      ['two tables swapped names', 'select ssn from archive order by 1'],
      ['two schemas swapped names', 'select ssn from other.customers order by 1'],
      ['two columns swapped names', 'select name from customers order by 1'],
    ] as const)('R1: a mask guards its column, not its name: %s', async (what, sql) => {
      const [copy] = copies
      if (copy === undefined) throw new Error('no copy')
      // In one transaction, so that no look ever finds a name without its table.
      const swap = () => copy.db.admin.query(`BEGIN; ${SWAPS[what]('customers', 'archive')}; COMMIT`)
      const ask = (between?: () => Promise<unknown>) =>
        one(copy, sql, MASKS, between).catch((error: unknown) => {
          if (!(error instanceof SallyportError)) throw error
          return { seen: error.facts.construct ?? error.message }
        })
      expect((await ask()).seen).not.toMatch(MARKER)
      let meanwhile = ''
      let afterwards = ''
      try {
        meanwhile = (await ask(swap)).seen
        afterwards = (await ask()).seen
        // It is there for whoever asks for it by its new name.
        expect(JSON.stringify((await copy.db.admin.query(sql)).rows)).toMatch(MARKER)
      } finally {
        await swap()
      }
      expect(meanwhile).not.toMatch(MARKER)
      expect(meanwhile).not.toContain('"kind":"head"')
      expect(afterwards).toBe('sql.mask.binding')
    })

    it('R2: nothing is shown when the schema changed after the plan was made', async () => {
      const [copy] = copies
      if (copy === undefined) throw new Error('no copy')
      const swap = async (): Promise<void> => {
        await copy.db.admin.query('ALTER TABLE archive RENAME TO archive_; ALTER TABLE customers RENAME TO archive')
      }
      const { seen } = await one(copy, 'select * from archive', MASKS, swap).catch((error: unknown) => ({
        seen: String(error),
      }))
      await copy.db.admin.query('ALTER TABLE archive RENAME TO customers; ALTER TABLE archive_ RENAME TO archive')
      expect(seen).not.toMatch(MARKER)
      expect(seen).not.toContain('"kind":"head"')
    })

    it('R4: every relation is pinned, masked or not', async () => {
      const { sent } = await ask('select o.id from orders o join customers c on c.id = o.customer_id order by 1')
      expect(sent).toContain('from "public"."orders" o')
      expect(sent).toContain('FROM "public"."customers") c')
    })

    it('R5: generated columns are masked with what they are made of', async () => {
      expect(await answered('select tail from customers order by id')).toContain('[[null],[null],[null]]')
    })

    it('R6: what is sent is never a text that means something else', async () => {
      expect(await refused('select ssn from customers, other.customers')).toBe('sql.mask.qualified_column')
      expect(await refused('select 1 from (other.customers join public.customers on true) as j')).toBe(
        'sql.mask.qualified_column',
      )
      expect(await refused('update other.customers set id = 1 from public.customers')).toBe('sql.mask.qualified_column')
      await answered('select a.ssn, b.id from public.customers a join other.customers b on a.id = b.id')
      await answered('select public.orders.id, other.orders.id from public.orders, other.orders')
    })

    it('R7: masks have the type, modifier and collation of their columns, and are patterns', async () => {
      const names = TYPED.map((column) => `pg_typeof(${column})`).join(', ')
      expect(await answered(`select ${names} from typed limit 1`)).toContain(
        '["character varying","character","\\"char\\"","character varying","numeric","date","text[]","json","point","bit","bit varying","text","int4range"]',
      )
      for (const column of ['v4', 'c2', 'ch', 'dom', 'col']) await answered(`select 'x' ~ ${column}::text from typed`)
      await answered('select col from typed order by col, id')
      const masked = await answered('select * from typed order by id')
      const [copy] = copies
      const plain = await copy?.db.admin.query({ text: 'select * from typed', rowMode: 'array' })
      expect(plain?.fields.map(({ name }) => name)).toEqual(['id', ...TYPED])
      for (const name of TYPED) expect(masked).toContain(`"name":"${name}"`)
    })

    it('R7: a mask that the database does not take closes its table, and only that', async () => {
      const masks = [...MASKS, mask('moody', 'm')]
      expect(await refused('select id from moody', masks)).toBe('sql.mask.rejected')
      await answered('select id from moody')
      await answered('select id, ssn from customers order by id', masks)
      for (const { db, role } of copies) await db.admin.query(`GRANT USAGE ON SCHEMA hidden TO "${role.user}"`)
      expect(await answered('select id, m from moody', masks)).toContain('[["1",null]]')
    })

    it('R8: names mean what PostgreSQL lets them mean', async () => {
      await answered('with customers as (select * from customers) select ssn from customers order by id')
      expect(await answered('with customers as (select 1 as ssn) select ssn from customers')).toContain('[["1"]]')
      await answered('with customers as (select 1) delete from customers where id = 99 returning ssn')
      await answered('select c.id from customers c where id = 1 for update of c')
    })

    it.each([
      'select ssn from only customers order by id',
      'select ssn from customers * order by id',
      'table customers',
      'table only customers',
      'select public.customers.ssn from public.customers order by public.customers.id',
      'select public.customers.*, public.customers.ctid from public.customers order by id',
      'select ctid, id from customers order by ctid',
      'select c.*, c.ctid from customers c order by c.ctid',
      'select *, ctid, tableoid::regclass from customers order by id',
      'select o.*, c.*, c.ctid from orders o join customers c on c.id = o.customer_id order by o.id',
      "select id from customers where ctid = '(0,1)'",
      'select x.a, x.ctid from customers x(a, b) order by 1',
      'select c.id, c.ctid, count(*) from customers c group by c.id order by 1',
      'select count(*) from customers tablesample system (100)',
      'select id, ssn from customers c tablesample bernoulli (100) repeatable (1) where c.id > 0 order by id',
      'select c.*, count(o.id) from customers c left join orders o on o.customer_id = c.id group by c.id order by c.id',
      'insert into customers (id, name) values (60, $$x$$) returning *',
      'insert into customers (id, name) values (61, $$x$$) returning id, ssn as s, public.customers.tail',
      'update customers c set plan = $$paid$$ where c.id = 60 returning c.*, c.ssn x',
      'update customers set plan = $$paid$$ from orders o where o.id = 1 and customers.id = o.customer_id returning *',
      'update orders o set note = o.note from customers c where c.id = o.customer_id and o.id = 2 returning o.*, c.ssn',
      'delete from customers where id in (60, 61) returning *',
      'with d as (delete from customers where id = 99 returning *) select * from d',
      'delete from customers where id = 99 returning (ssn)',
      'with d as (delete from customers where id = 99 returning id, ((ssn)), ( /* c */ tail )) select * from d',
      'update customers set plan = plan where id = 1 returning (customers.ssn) as s, (id)',
      `select x.v from customers c, xmltable('/r' passing xmlelement(name r, c.ssn) columns v text path '.') x order by c.id`,
      'select x.* from customers c, lateral (select c.ssn, c.id) x(a, b) order by b',
      'select (select string_agg(ssn, $$,$$ order by id) from customers), array(select c from customers c order by id)',
    ])('R9: %s', async (sql) => {
      expect(await answered(sql)).toContain('"kind":"exit"')
    })

    it('R9: what PostgreSQL 18 returns of old and new rows is masked', async () => {
      const sql = 'update customers set plan = plan where id = 1 returning old.ssn, new.*, with_old.ssn'
      const named = sql.replace('returning', 'returning with (old as with_old)').replace('old.ssn,', '')
      const { construct } = await ask(named)
      expect(construct).toBeUndefined()
    })

    const newer = [
      'merge into customers c using orders o on c.id = o.id when matched then update set plan = plan returning c.ssn, c.id, o.note',
      'merge into customers using orders o on customers.id = o.id when matched then do nothing returning customers.ssn',
      'update customers set plan = $$again$$ where id = 1 returning old.ssn, new.ssn, old.plan, new.plan, ssn',
      'update customers set plan = $$paid$$ where id = 1 returning old.*, new.*',
      'update customers set plan = plan where id = 1 returning with (old as o, new as n) o.ssn, n.tail, o.id',
      'delete from customers where id = 99 returning old.*, new.ssn',
      `select j.v from customers c, json_table(json_build_object('s', c.ssn), '$' columns (v text path '$.s')) j order by c.id`,
      `select json_object('s': ssn), json_array(ssn), json_scalar(ssn), json_value(json_build_object('s', ssn)::jsonb, '$.s') from customers order by id`,
    ]
    it.each(version === '18' ? newer : [])('R9: %s', async (sql) => {
      expect(await answered(sql)).toContain('"kind":"exit"')
    })

    it.each([
      ['select c, c.ctid from customers c', 'sql.mask.system_column'],
      ['select a.ctid from customers a natural join orders', 'sql.mask.system_column'],
      ['update customers set plan = plan returning upper(ssn)', 'sql.mask.returning'],
      ['with d as (delete from customers returning *) insert into archive select * from d', 'sql.mask.returning'],
      ['delete from lying where id = 1 returning id', 'sql.mask.row_order'],
      ['select ctid from lying', 'sql.mask.system_column'],
      ['select id from pieces_rest', 'sql.mask.partition'],
      ['select tableoid from pieces', 'sql.mask.system_column'],
    ])('R9: refuses %s with %s', async (sql, construct) => {
      expect(await refused(sql)).toBe(construct)
    })

    it('rows that lie in the order of a masked column are shown in another', async () => {
      expect(await answered('select id from lying')).toContain('[["1"],["2"],["3"]]')
      expect(await answered('select id from lying limit 1')).toContain('[["1"]]')
      await answered('select id, ssn from pieces')
      await answered('select array_agg(id) from lying')
    })

    it('R11: what statistics hold is not shown, and the rest of the catalog is', async () => {
      expect(await refused('select * from pg_stats')).toBe('sql.mask.catalog')
      await answered("select relname from pg_class where relname = 'customers'")
      // What pg_dump asks of every table.
      const sql = `select a.attname, case when a.atthasmissing and not a.attisdropped then a.attmissingval else null end
        from pg_catalog.pg_attribute a where a.attrelid = 'public.customers'::regclass and a.attnum > 0 order by a.attnum`
      expect(await answered(sql)).not.toContain('plain')
    })

    it('R12: a view over other columns is no more than its table; one that reads a masked one is refused', async () => {
      await answered('select * from id_view order by id')
      await answered('select * from id_mat order by id')
      for (const view of ['ssn_view', 'row_view', 'tenant_view']) {
        expect(await refused(`select id from ${view}`)).toBe('sql.view_over_mask')
      }
      expect(await refused('select id from tenants')).toBe('sql.mask.policy')
      expect(await refused('delete from tenants')).toBe('sql.mask.policy')
    })

    it('R13: a masked column is written only where it tells nothing, or where the operator says so', async () => {
      const free = MASKS.map((one) => ({ ...one, allowWrite: true }))
      expect(await refused("update customers set ssn = 'x' where id = 99")).toBe('sql.mask.update')
      expect(await refused("insert into uniq values (9, 'x')")).toBe('sql.mask.unique')
      await answered("insert into archive (id, ssn) values (1, 'x')")
      await answered("update customers set ssn = 'x' where id = 99", free)
      await answered("insert into uniq values (9, 'x')", free)
      await answered('delete from uniq where id = 9')
      expect(await refused('update customers set ssn = name where ssn is null', free)).toBe('sql.mask.dml_read')
    })

    it('R14: no copy of masked data is made', async () => {
      for (const sql of ['select * into c2 from customers', 'create table c2 as select * from customers']) {
        expect(await refused(sql)).toBeDefined()
      }
    })

    it('R15: a condition on a mask is refused, unless it finds nothing or the operator wants it', async () => {
      const compared = MASKS.map((one) => ({ ...one, onPredicate: 'mask' as const }))
      expect(await refused("select id from customers where ssn = 'zz'")).toBe('sql.mask.predicate')
      expect(await answered("select count(*) from customers where ssn = '[masked]'", compared)).toContain('[["3"]]')
      // Masks of types that hold no text are NULL, and comparing with NULL finds nothing.
      expect(await answered('select count(*) from typed where num > 0 or num is not null')).toContain('[["0"]]')
    })

    it('R18: a result that would show a masked column as such is stopped', async () => {
      const { construct } = await ask('select ssn from customers')
      expect(construct).toBeUndefined()
      const [copy] = copies
      const { signal } = new AbortController()
      const secret = { user: copy?.role.user ?? '', value: copy?.role.password ?? '' }
      if (copy === undefined) throw new Error('no copy')
      const call = callOf(copy.target, { sql: 'select ssn from customers' }, signal)
      const plan = await protocol.plan(call, { masks: MASKS, secret: async () => secret, signal })
      const broken = { ...plan, sql: 'select ssn from public.customers' }
      const run = async (): Promise<void> => {
        for await (const chunk of protocol.execute(call, broken, permitOf(signal), secret)) {
          expect(JSON.stringify(chunk)).not.toMatch(MARKER)
        }
      }
      await expect(run()).rejects.toMatchObject({ facts: { construct: 'sql.mask.tripwire' } })
    })
  })
})
