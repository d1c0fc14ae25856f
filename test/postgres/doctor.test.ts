/** `sallyport doctor`: what it finds, and that the SQL it prints makes a role that PostgreSQL itself holds. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ColumnMask } from '../../src/core/decision.ts'
import type { Target } from '../../src/core/target.ts'
import { examine, undercuts, type Examination } from '../../src/protocols/postgres/doctor.ts'
import { endpointOf, postgresOptions, postgresSchema } from '../../src/protocols/postgres/index.ts'
import { createDatabase, type ServerVersion, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { has } from '../setup/needs.ts'

const SCHEMA = `
  CREATE TABLE customers (id serial PRIMARY KEY, name text, ssn text UNIQUE, card varchar(19), "Odd ""name" text,
    ssn4 text GENERATED ALWAYS AS (pg_catalog."right"(ssn, 4)) STORED);
  INSERT INTO customers (name, ssn, card) VALUES ('ada', '123-45-6789', '4111111111111111'), ('bob', '987-65-4321', '42');
  CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, note text, details jsonb, tags text[]);
  INSERT INTO orders (customer, note, details, tags) VALUES (1, 'ssn is 123-45-6789, call back', '{"s": ["987-65-4321"]}', '{x}');
  CREATE TABLE logins (id int, ssn text, at date) PARTITION BY RANGE (id);
  CREATE TABLE logins_one PARTITION OF logins FOR VALUES FROM (0) TO (9);
  CREATE SCHEMA hidden;
  CREATE TYPE hidden.mood AS ENUM ('sad', 'ok');
  CREATE TABLE moody (id int, m hidden.mood);
  CREATE TABLE unrelated (id int, secret text);
  CREATE VIEW shown AS SELECT id, ssn FROM customers;
  CREATE MATERIALIZED VIEW kept AS SELECT id, card FROM customers;
  CREATE FUNCTION peek(int) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT ssn FROM public.customers WHERE id = $1';
  CREATE PROCEDURE poke() LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
  CREATE FUNCTION look(int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.customers WHERE id = $1';
  CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
  CREATE TRIGGER logged AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION log_it();
  CREATE STATISTICS pairs ON name, ssn FROM customers;
  CREATE INDEX ON customers (lower(card));
  GRANT SELECT (ssn), TRIGGER ON customers TO PUBLIC;
  GRANT CREATE ON SCHEMA public TO PUBLIC;
  ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC`

const mask = (name: string, transform: ColumnMask['transform'] = 'redact'): ColumnMask => {
  const [table = '', column = ''] = name.split('.')
  return { schema: 'public', table, column, transform }
}
const MASKS = [
  mask('customers.ssn'),
  mask('customers.card', 'partial'),
  mask('customers.Odd "name', 'null'),
  mask('logins.ssn'),
]

/** What the policy of these tests needs: reads of everything but one table, and orders written. */
const needs = (verb: string, { name }: { readonly name: string }): boolean =>
  name !== 'unrelated' && (verb === 'sql.select' || (name === 'orders' && verb !== 'sql.delete'))

const SERVERS: readonly ServerVersion[] = has('postgresql-15') ? ['18', '15'] : ['18']

describe.each(SERVERS)('the doctor, on PostgreSQL %s', (server) => {
  let db: TestDatabase
  const { signal } = new AbortController()

  beforeAll(async () => {
    db = await createDatabase(SCHEMA, { server })
  })
  afterAll(() => db.drop())

  function targetOf(masking: string): Target {
    const { host, port } = db
    const options = postgresOptions(postgresSchema.parse({ host, port, database: db.name, tls: 'disable', masking }))
    return {
      name: 'shop-db',
      protocol: 'postgres',
      labels: {},
      mode: 'enforce',
      record: 'full',
      endpoint: endpointOf(options),
      options,
    }
  }

  const examined = (role: Pick<TestRole, 'user' | 'password'>, masks = MASKS): Promise<Examination> =>
    examine({
      target: targetOf('enforced'),
      masks,
      secret: async () => ({ user: role.user, value: role.password }),
      signal,
    })

  const ids = ({ findings }: Examination, severity: string): string[] =>
    [...new Set(findings.filter((one) => one.severity === severity).map(({ id }) => id))].sort()

  it('R7: says which masks the database does not take, and that it takes them once the role may use the type', async () => {
    const role = await db.role('GRANT SELECT ON moody TO $role')
    const masks = [...MASKS, mask('moody.m')]
    const rejected = async (): Promise<readonly string[]> =>
      (await examined(role, masks)).findings.filter(({ id }) => id === 'mask.rejected').map(({ message }) => message)
    expect(await rejected()).toEqual([
      "A mask of public.moody cannot be made at this database: its role may not use the column's type. Every statement that reads the table is refused.",
    ])
    await db.admin.query(`GRANT USAGE ON SCHEMA hidden TO ${role.user}`)
    expect(await rejected()).toEqual([])
  })

  it('finds what undoes masks, and the printed SQL heals all of it', async () => {
    const role = await db.role(`ALTER ROLE $role CREATEROLE BYPASSRLS; GRANT pg_read_all_data, pg_monitor TO $role;
      GRANT ALL ON ALL TABLES IN SCHEMA public TO $role; GRANT CREATE ON DATABASE ${db.name} TO $role;
      GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO $role; ALTER ROLE $role SET session_replication_role = origin`)
    await db.admin.query(`ALTER ROLE ${role.user} SET lo_compat_privileges = on`)
    const before = await examined(role)
    expect(before.masking).toBe('rewrite')
    expect(ids(before, 'error')).toEqual(
      expect.arrayContaining([
        'code.definer',
        'code.view',
        'rights.grave',
        'rights.public',
        'role.guarded_function',
        'role.member.pg_read_all_data',
      ]),
    )
    expect(ids(before, 'warning')).toEqual(
      expect.arrayContaining([
        'around.setting',
        'mask.readable',
        'mask.unique',
        'rights.create',
        'rights.create_schema',
        'rights.default',
        'role.bypassrls',
        'role.member.pg_monitor',
      ]),
    )
    expect([...ids(before, 'error'), ...ids(before, 'warning')]).toContain('role.createrole')
    expect(JSON.stringify(before.findings)).not.toMatch(/123-45|411111/u)

    const printed = before.leastPrivilege(needs)
    expect(printed.role).toBe(role.user)
    await db.admin.query(printed.sql)
    const after = await examined(role)
    expect(after.masking).toBe('enforced')
    expect(after.findings.filter(({ severity }) => severity !== 'info')).toEqual([])
    // And again: the same text may be run twice, and so may what is printed now.
    await db.admin.query(after.leastPrivilege(needs).sql)
    expect((await examined(role)).masking).toBe('enforced')
  })

  it('prints another role where grants cannot bind the one in use, and PostgreSQL holds that one', async () => {
    const admin = { user: db.user, password: db.password }
    const before = await examined(admin)
    expect(ids(before, 'error')).toContain('role.superuser')
    const printed = before.leastPrivilege(needs)
    expect(printed.role).toBe(`sallyport_${db.name}`)
    await db.admin.query(printed.sql)
    await db.admin.query(printed.sql.replaceAll(/^ALTER TABLE .* ADD COLUMN[^;]*;$/gmsu, ''))
    await db.admin.query(`ALTER ROLE ${printed.role} PASSWORD 'pw'`)
    try {
      const role = { user: printed.role, password: 'pw' }
      const after = await examined(role)
      expect(after.masking).toBe('enforced')
      expect(after.findings.filter(({ severity }) => severity !== 'info')).toEqual([])

      const client = await db.connect()
      try {
        await client.query(`SET SESSION AUTHORIZATION ${printed.role}`)
        await client.query('SET default_transaction_read_only = off')
        for (const sql of [
          'SELECT ssn FROM customers',
          'SELECT * FROM customers',
          'SELECT c FROM customers c',
          'SELECT ssn4 FROM customers',
          'SELECT * FROM shown',
          'SELECT * FROM kept',
          'SELECT peek(1)',
          'SELECT look(1)',
          'CALL poke()',
          'SELECT ssn FROM logins_one',
          'SELECT secret FROM unrelated',
          "UPDATE customers SET ssn = 'x'",
          'CREATE TABLE mine ()',
          'DELETE FROM orders',
        ]) {
          await expect(client.query(sql)).rejects.toMatchObject({ code: '42501' })
        }
        const { rows } = await client.query('SELECT id, name, card_masked FROM customers ORDER BY id')
        expect(rows).toEqual([
          { id: 1, name: 'ada', card_masked: '****1111' },
          { id: 2, name: 'bob', card_masked: '****' },
        ])
        await client.query("INSERT INTO orders (note) VALUES ('n')")
        const shown = await client.query(
          "SELECT count(*)::int AS n FROM pg_stats WHERE attname IN ('ssn', 'card', 'ssn4')",
        )
        expect(shown.rows).toEqual([{ n: 0 }])
      } finally {
        await client.end()
      }
    } finally {
      await db.admin.query(`DROP OWNED BY ${printed.role}`)
      await db.admin.query(`DROP ROLE ${printed.role}`)
    }
  })

  it('does not print grants for a role they cannot bind', async () => {
    const before = await examined({ user: db.user, password: db.password })
    expect(() => before.leastPrivilege(needs, db.user)).toThrow(/--role/u)
    expect(before.leastPrivilege(needs, 'odd"; DROP TABLE orders; --').sql).toContain('"odd""; DROP TABLE orders; --"')
  })

  it('says when a mask names nothing, and goes on', async () => {
    const { findings } = await examined({ user: db.user, password: db.password }, [mask('customers.gone'), ...MASKS])
    expect(findings[0]).toMatchObject({ id: 'mask.missing', severity: 'error' })
  })

  it('finds views, functions, triggers and copies of masked values, and shows no value', async () => {
    const found = await undercuts({
      target: targetOf('rewrite'),
      masks: [...MASKS, mask('customers.gone'), mask('nowhere.ssn')],
      secret: async () => ({ user: db.user, value: db.password }),
      signal,
    })
    const kinds = (kind: string): string[] =>
      found.undercuts.filter((one) => one.kind === kind).map(({ message }) => message)
    expect(kinds('missing')).toHaveLength(2)
    expect(kinds('view').join()).toMatch(/kept.*shown|shown.*kept/su)
    expect(kinds('function').join()).toMatch(/peek/u)
    expect(kinds('function').join()).toMatch(/look/u)
    expect(kinds('trigger').join()).toMatch(/logged/u)
    expect(kinds('generated').join()).toMatch(/ssn4/u)
    expect(kinds('index')).not.toEqual([])
    const copies = found.undercuts
      .filter(({ kind }) => kind === 'copy')
      .map(({ mask: of, message }) => `${of}: ${message}`)
    expect(copies.join('\n')).toMatch(/customers\.ssn: 1 of .*public\.orders\.note/u)
    expect(copies.join('\n')).toMatch(/customers\.ssn: 1 of .*public\.orders\.details/u)
    expect(copies.join('\n')).not.toMatch(/orders\.tags/u)
    expect(JSON.stringify(found.undercuts)).not.toMatch(/123-45|987-65|411111/u)
    expect(found.has('public', 'orders')).toBe(true)
    expect(found.has('public', 'order')).toBe(false)
  })

  it('says that it cannot look for copies of what its role may not read', async () => {
    const role = await db.role('GRANT SELECT (id, name) ON customers TO $role; GRANT SELECT ON orders TO $role')
    const found = await undercuts({
      target: targetOf('enforced'),
      masks: [mask('customers.card')],
      secret: async () => ({ user: role.user, value: role.password }),
      signal,
    })
    expect(found.undercuts).toContainEqual(
      expect.objectContaining({ kind: 'unchecked', mask: 'public.customers.card' }),
    )
  })
})
