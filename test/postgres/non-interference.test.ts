/**
 * The proof by non-interference: databases that differ only in masked values must answer every accepted statement alike.
 *
 * Four copies of one database are made by the same statements in the same order, so that even physical row order is the
 * same; only the masked columns differ, in length, order, sign and whether they are NULL. Each statement of the corpus
 * goes through the real planner and connector to each copy. Rows, names, types, counts, notices and errors must be equal,
 * and no masked value may appear anywhere.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Protocol } from '../../src/core/call.ts'
import type { ColumnMask, Transform } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Target } from '../../src/core/target.ts'
import { createPostgres, endpointOf, postgresOptions, postgresSchema } from '../../src/protocols/postgres/index.ts'
import type { PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { createDatabase, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { callOf, permitOf } from './connector-kit.ts'
import { LEAKS, LEGITIMATE, WRITES } from './non-interference-corpus.ts'

interface Secrets {
  readonly ssn: readonly (string | null)[]
  readonly card: readonly (string | null)[]
  readonly email: readonly (string | null)[]
  readonly salary: readonly (string | null)[]
}

/** What the copies differ in. Every value holds a marker that appears nowhere else. */
const VARIANTS: readonly Secrets[] = [
  {
    ssn: ['zq1-123-45-6789', 'zq1-a', 'zq1-zzzz', null],
    card: ['zq1-4111111111111111', 'zq1-5500', null, 'zq1-3400000'],
    email: ['zq1.ada@example.com', 'zq1.b@example.org', 'zq1.c@c.example', 'zq1.d@d.example'],
    salary: ['771001', '771002', '-771003', null],
  },
  {
    ssn: ['zq2-z', 'zq2-000-00-0000-0000-0000', null, 'zq2-b'],
    card: [null, 'zq2-1', 'zq2-99999999999999999999999999', 'zq2-2'],
    email: ['zq2.zzz@z.example', null, 'zq2.a@a.example', 'zq2.a@a.example.com'],
    salary: ['-772001', null, '772000000003', '772004.5'],
  },
  {
    ssn: [null, null, 'zq3-same', 'zq3-same'],
    card: ['zq3-00', 'zq3-00', 'zq3-00', 'zq3-00'],
    email: ['zq3.q@q.example', 'zq3.p@p.example', null, null],
    salary: ['773001', '773001', '773001', '773001'],
  },
  {
    ssn: ['{"zq4": 1}', '774000', '2020-01-01 zq4', '%zq4_'],
    card: ['zq4\\x00', "zq4'; drop table customers; --", 'zq4 é', 'zq4\nx'],
    email: ['<zq4/>', '[zq4', 'zq4(', '\\zq4'],
    salary: ['774', '-774', '774774774774', '774.774'],
  },
]

const MARKER = /zq[1-4]|77[1-4]\d/

const MASKS: readonly ColumnMask[] = (
  [
    ['customers', 'ssn', 'redact'],
    ['customers', 'card', 'null'],
    ['customers', 'email', 'redact'],
    ['customers', 'salary', 'redact'],
    ['Odd "Name', 'Secret.Col', 'redact'],
    ['parted', 'ssn', 'redact'],
  ] as readonly (readonly [string, string, Transform])[]
).map(([table, column, transform]) => ({ schema: 'public', table, column, transform }))

function schemaSql({ ssn, card, email, salary }: Secrets): string {
  const text = (value: string | null | undefined): string =>
    value === null || value === undefined ? 'NULL' : `'${value.replaceAll("'", "''")}'`
  const row = (i: number): string =>
    `(${i + 1}, 'name ${i}', ${text(email[i])}, ${text(ssn[i])}, ${text(card[i])}, ${salary[i] ?? 'NULL'}, ${i % 2 === 0 ? "'free'" : "'paid'"})`
  return `
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email varchar(60), ssn text, card text COLLATE "C",
      salary numeric(20,2), plan text, ssn_tail text GENERATED ALWAYS AS (right(ssn, 4)) STORED);
    INSERT INTO customers VALUES ${[0, 1, 2, 3].map(row).join(', ')};
    CREATE INDEX ON customers (ssn);
    CREATE TABLE orders (id int PRIMARY KEY, customer_id int REFERENCES customers ON DELETE CASCADE, note text, amount numeric,
      at timestamptz DEFAULT '2020-01-01Z', tags text[] DEFAULT '{a,b}', doc jsonb DEFAULT '{"a":1}');
    INSERT INTO orders (id, customer_id, note, amount) SELECT i, 1 + i % 4, 'note ' || i, i * 1.5 FROM generate_series(1, 20) i;
    CREATE TABLE "Odd ""Name" (id int, "Secret.Col" text, keeper customers);
    INSERT INTO "Odd ""Name" SELECT id, ssn, c FROM customers c;
    CREATE TABLE parted (id int, ssn text) PARTITION BY RANGE (id);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (3);
    CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (3) TO (9);
    INSERT INTO parted SELECT id, ssn FROM customers;
    CREATE TABLE sink (id int, note text);
    CREATE TABLE uniq (ssn text UNIQUE);
    CREATE VIEW customer_view AS SELECT id, ssn FROM customers;
    CREATE VIEW row_view AS SELECT id, row_to_json(c) AS j FROM customers c;
    CREATE VIEW view_view AS SELECT * FROM customer_view;
    CREATE VIEW order_view AS SELECT id, note FROM orders;
    CREATE MATERIALIZED VIEW customer_mat AS SELECT id, card FROM customers;
    CREATE FUNCTION get_ssn(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM public.customers WHERE id = $1';
    CREATE FUNCTION all_customers() RETURNS SETOF customers LANGUAGE sql STABLE AS 'SELECT * FROM public.customers';
    CREATE FUNCTION leak(customers) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM public.customers WHERE id = $1.id';
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
      $f$ BEGIN RAISE NOTICE 'ssn %', (SELECT string_agg(ssn, ',') FROM public.customers); RETURN NEW; END $f$;
    CREATE TRIGGER tell AFTER INSERT ON sink FOR EACH ROW EXECUTE FUNCTION tell();
    CREATE SCHEMA other;
    CREATE TABLE other.customers (id int, ssn text);
    INSERT INTO other.customers VALUES (1, 'public knowledge');
    ANALYZE`
}

interface Copy {
  readonly db: TestDatabase
  readonly role: TestRole
  readonly target: Target
}

const copies: Copy[] = []
let protocol: Protocol<PostgresPlan>

beforeAll(async () => {
  protocol = createPostgres()
  for (const secrets of VARIANTS) {
    const db = await createDatabase(schemaSql(secrets))
    const role = await db.role(
      `GRANT USAGE ON SCHEMA public, other TO $role;
       GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, other TO $role`,
    )
    const { host, port, name } = db
    const options = postgresOptions(postgresSchema.parse({ host, port, database: name, tls: 'disable', pool: 1 }))
    copies.push({
      db,
      role,
      target: {
        name: `copy-${copies.length}`,
        protocol: 'postgres',
        labels: {},
        mode: 'enforce',
        record: 'full',
        endpoint: endpointOf(options),
        options,
      },
    })
  }
}, 60_000)
afterAll(async () => {
  await protocol.close()
  for (const copy of copies) await copy.db.drop()
})

/** Everything a caller can see of one statement at one copy. */
async function answer(copy: Copy, sql: string, masks: readonly ColumnMask[] = MASKS): Promise<string> {
  const signal = new AbortController().signal
  const secret = { user: copy.role.user, value: copy.role.password }
  const call = callOf(copy.target, { sql }, signal)
  const seen: unknown[] = []
  try {
    const plan = await protocol.plan(call, { masks, secret: async () => secret, signal })
    if (plan.refused !== undefined) return `refused ${plan.refused.construct}`
    for await (const chunk of protocol.execute(call, plan, permitOf(signal), secret)) seen.push(chunk)
  } catch (error) {
    if (!(error instanceof SallyportError)) throw error
    if (error.facts.construct !== undefined) return `refused ${error.facts.construct}`
    seen.push({ code: error.code, message: error.message, facts: error.facts })
  }
  // What differs between databases whatever they hold.
  return JSON.stringify(seen).replaceAll(copy.db.name, 'DB').replaceAll(copy.target.name, 'TARGET')
}

function answers(sql: string): Promise<readonly string[]> {
  return Promise.all(copies.map((copy) => answer(copy, sql)))
}

describe('C9: databases that differ only in masked values', () => {
  it.each(LEGITIMATE)('answer alike, and do answer: %s', async (sql) => {
    const [first, ...others] = await answers(sql)
    expect(others).toEqual(others.map(() => first))
    expect(first).not.toMatch(MARKER)
    expect(first).not.toMatch(/^refused/)
    expect(first).toContain('"kind":"exit"')
  })

  it.each(LEAKS)('answer alike or refuse: %s', async (sql) => {
    const [first, ...others] = await answers(sql)
    expect(others).toEqual(others.map(() => first))
    expect(first).not.toMatch(MARKER)
  })

  // Each of these writes, and each copy goes the same way, so the copies stay copies.
  it.each(WRITES)('answer alike when written to: %s', async (sql) => {
    const [first, ...others] = await answers(sql)
    expect(others).toEqual(others.map(() => first))
    expect(first).not.toMatch(MARKER)
  })

  it('would be told apart without masks', async () => {
    let told = 0
    for (const sql of LEAKS) {
      if (/pg_sleep|pg_terminate/i.test(sql)) continue
      const seen = await Promise.all(copies.map((copy) => answer(copy, sql, [])))
      if (new Set(seen).size > 1 || seen.some((one) => MARKER.test(one))) told += 1
    }
    // The corpus can see leaks: without masks most of it shows them.
    expect(told).toBeGreaterThan(LEAKS.length / 2)
  }, 60_000)
})
