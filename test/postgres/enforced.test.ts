/** `masking: enforced`: PostgreSQL itself stands behind the masks, or nothing of a masked relation is shown. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ColumnMask } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Target } from '../../src/core/target.ts'
import { createPostgres, endpointOf, postgresOptions, postgresSchema } from '../../src/protocols/postgres/index.ts'
import type { PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { createDatabase, type ServerVersion, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { has } from '../setup/needs.ts'
import { callOf, permitOf } from './connector-kit.ts'

const SCHEMA = `
  CREATE TABLE customers (
    id int PRIMARY KEY, name text NOT NULL, ssn text NOT NULL, card varchar(19), salary numeric(8, 2),
    ssn4 text GENERATED ALWAYS AS (pg_catalog."right"(ssn, 4)) STORED,
    card_masked text GENERATED ALWAYS AS (CASE WHEN length(card::text) >= 8
      THEN '****' || "right"(card::text, 4) ELSE '****' END) STORED);
  INSERT INTO customers (id, name, ssn, card, salary) VALUES
    (1, 'ada', '123-45-6789', '4111111111111111', 7000), (2, 'bob', '987-65-4321', NULL, 20), (3, 'eve', '5', '42', 3);
  CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, note text);
  INSERT INTO orders VALUES (10, 1, 'first'), (11, 2, 'second');
  CREATE TABLE logins (id int, ssn text, at date) PARTITION BY RANGE (id);
  CREATE TABLE logins_one PARTITION OF logins FOR VALUES FROM (0) TO (9);
  INSERT INTO logins VALUES (1, '123-45-6789', '2026-01-01');
  CREATE TABLE half (id int, code text);
  INSERT INTO half VALUES (1, 'abcdefgh')`

/** What `doctor --emit-sql` would grant. */
const COLUMNS = `
  GRANT SELECT (id, name, card_masked) ON customers TO $role;
  GRANT SELECT ON orders TO $role;
  GRANT SELECT (id, at) ON logins, logins_one TO $role`

const mask = (name: string, transform: ColumnMask['transform'] = 'redact'): ColumnMask => {
  const [table = '', column = ''] = name.split('.')
  return { schema: 'public', table, column, transform }
}

const MASKS = [
  mask('customers.ssn'),
  mask('customers.card', 'partial'),
  mask('customers.salary', 'null'),
  mask('logins.ssn'),
]

const SERVERS: readonly ServerVersion[] = has('postgresql-15') ? ['18', '15'] : ['18']

describe.each(SERVERS)('masking: enforced, on PostgreSQL %s', (server) => {
  let db: TestDatabase
  let bound: TestRole
  const protocol = createPostgres()

  beforeAll(async () => {
    db = await createDatabase(SCHEMA, { server })
    bound = await db.role(COLUMNS)
  })
  afterAll(async () => {
    await protocol.close()
    await db.drop()
  })

  /** One gateway per name: pools and catalogs are kept by target. */
  function targetOf(name: string, masking: string): Target {
    const { host, port } = db
    const options = postgresOptions(
      postgresSchema.parse({ host, port, database: db.name, tls: 'disable', pool: 2, masking }),
    )
    return {
      name,
      protocol: 'postgres',
      labels: {},
      mode: 'enforce',
      record: 'full',
      endpoint: endpointOf(options),
      options,
    }
  }

  interface Asked {
    readonly plan: PostgresPlan
    readonly rows: readonly unknown[]
    readonly head: object | undefined
    readonly error: SallyportError | undefined
  }

  async function ask(
    sql: string,
    {
      role = bound,
      masking = 'enforced',
      masks = MASKS,
      name = `db-${role.user}-${masking}`,
      between,
      runAs = role,
    }: {
      role?: TestRole
      masking?: string
      masks?: readonly ColumnMask[]
      name?: string
      between?: () => Promise<unknown>
      runAs?: TestRole
    } = {},
  ): Promise<Asked> {
    const { signal } = new AbortController()
    const target = targetOf(name, masking)
    const call = callOf(target, { sql }, signal)
    const secret = { user: role.user, value: role.password }
    const plan = await protocol.plan(call, { masks, secret: async () => secret, signal })
    await between?.()
    const rows: unknown[] = []
    let head: object | undefined
    try {
      for await (const chunk of protocol.execute(call, plan, permitOf(signal), {
        user: runAs.user,
        value: runAs.password,
      })) {
        if (chunk.kind === 'head') head = chunk
        if (chunk.kind === 'data' && chunk.channel === 'rows') rows.push(...chunk.rows)
      }
    } catch (error) {
      if (!(error instanceof SallyportError)) throw error
      return { plan, rows, head, error }
    }
    return { plan, rows, head, error: undefined }
  }

  it('says so in the plan, in its attributes and with the result', async () => {
    const { plan, head } = await ask('SELECT * FROM customers')
    expect(plan.masking).toBe('enforced')
    expect(plan.action.attributes['masking']).toBe('enforced')
    expect(head).toMatchObject({ attributes: { masking: 'enforced' } })
  })

  it('shows the same as rewriting under full rights does, partial masks too', async () => {
    const full = await db.role('GRANT SELECT ON ALL TABLES IN SCHEMA public TO $role')
    for (const sql of [
      'SELECT id, name, ssn, card, salary, ssn4 FROM customers ORDER BY id',
      'SELECT c.* , o.note FROM customers c JOIN orders o ON o.customer = c.id ORDER BY 1',
      'SELECT count(*), max(card) FROM customers',
      'SELECT row_to_json(c)::jsonb - $$card_masked$$ FROM customers c ORDER BY id',
      'SELECT upper(card) FROM customers ORDER BY id',
      'SELECT * FROM logins',
      'SELECT * FROM ONLY logins_one',
    ]) {
      const enforced = await ask(sql)
      const rewritten = await ask(sql, { role: full, masking: 'rewrite' })
      expect(enforced.error).toBeUndefined()
      expect(rewritten.plan.masking).toBe('rewrite')
      const without = (rows: readonly unknown[]): string =>
        // The stand-in itself is a column of its own: derived, hence NULL, where the column it stands for can be read.
        sql.includes('c.*') ? JSON.stringify(rows).replaceAll(/null|"\*{4}\d{0,4}"/gu, '?') : JSON.stringify(rows)
      expect([sql, without(enforced.rows)]).toEqual([sql, without(rewritten.rows)])
      expect(JSON.stringify(enforced.rows)).not.toMatch(/6789|411111|7000/u)
    }
    const { rows } = await ask('SELECT card FROM customers ORDER BY id')
    expect(rows).toEqual([['****1111'], ['****'], ['****']])
  })

  it('sends nothing that names a masked column', async () => {
    const { plan } = await ask('SELECT * FROM customers')
    expect(plan.sql.replaceAll(/AS "(ssn|card|salary|ssn4)"/gu, '')).not.toMatch(/"(ssn|card|salary|ssn4)"/u)
  })

  it.each([
    ['a grant on the table', 'GRANT SELECT ON customers TO $role'],
    ['a grant on one masked column', 'GRANT SELECT (salary) ON customers TO $role'],
    ['a grant on a column that is computed from one', 'GRANT SELECT (ssn4) ON customers TO $role'],
    ['owning the table', 'CREATE TABLE mine (id int, ssn text); ALTER TABLE mine OWNER TO $role'],
    [
      'owning it with its own SELECT revoked',
      'CREATE TABLE mine (id int, ssn text); ALTER TABLE mine OWNER TO $role; REVOKE ALL ON mine FROM $role',
    ],
    [
      'a role it is a member of',
      'CREATE ROLE $role_up; GRANT SELECT ON customers TO $role_up; GRANT $role_up TO $role',
    ],
    [
      'a role it would have to SET ROLE to',
      'CREATE ROLE $role_up; GRANT SELECT ON customers TO $role_up; ALTER ROLE $role NOINHERIT; GRANT $role_up TO $role',
    ],
    ['pg_read_all_data', 'GRANT pg_read_all_data TO $role'],
    ['pg_read_server_files', 'GRANT pg_read_server_files TO $role'],
    ['REPLICATION', 'ALTER ROLE $role REPLICATION'],
    ['being superuser', 'ALTER ROLE $role SUPERUSER'],
  ])('fails closed where the role can read the column by %s', async (_what, grants) => {
    const role = await db.role(`${COLUMNS}; ${grants}`)
    const isMine = grants.includes('mine')
    const masks = isMine ? [mask('mine.ssn')] : MASKS
    try {
      const { plan, error } = await ask(`SELECT id FROM ${isMine ? 'mine' : 'customers'}`, { role, masks })
      expect(plan.masking).toBe('rewrite')
      expect(plan.refused).toMatchObject({ construct: 'sql.mask.enforced' })
      expect(plan.refused?.message).toMatch(isMine ? /public\.mine\.ssn/u : /public\.customers\.(ssn|salary|ssn4)/u)
      expect(plan.refused?.hint).toContain('sallyport doctor')
      expect(error?.facts.construct).toBe('sql.mask.enforced')
      const { rows } = await ask('SELECT id FROM orders ORDER BY id', { role, masks })
      expect(rows).toEqual([['10'], ['11']])
      const rewritten = await ask(`SELECT id FROM ${isMine ? 'mine' : 'customers'}`, {
        role,
        masks,
        masking: 'rewrite',
      })
      expect(rewritten.plan.masking).toBe('rewrite')
      expect(rewritten.plan.refused).toBeUndefined()
    } finally {
      if (isMine) await db.admin.query('DROP TABLE mine')
      await db.admin.query(`ALTER ROLE ${role.user} NOSUPERUSER NOREPLICATION`)
      await db.admin.query(`DROP OWNED BY ${role.user}_up`).catch(() => undefined)
      await db.admin.query(`DROP ROLE IF EXISTS ${role.user}_up`)
    }
  })

  it('fails closed where everybody may read the column', async () => {
    const role = await db.role(COLUMNS)
    await db.admin.query('GRANT SELECT (ssn) ON customers TO PUBLIC')
    try {
      expect((await ask('SELECT id FROM customers', { role })).plan.refused?.message).toContain('public.customers.ssn')
    } finally {
      await db.admin.query('REVOKE SELECT (ssn) ON customers FROM PUBLIC')
    }
    expect((await ask('SELECT id FROM customers', { role })).error).toBeUndefined()
  })

  it('reports a role without the rights as enforced, although nothing demands it', async () => {
    expect((await ask('SELECT id FROM customers', { masking: 'rewrite' })).plan.masking).toBe('enforced')
    expect((await ask('SELECT id FROM customers', { masks: [] })).plan.masking).toBe('none')
  })

  it('refuses a partial mask that has no column to read, naming it', async () => {
    const role = await db.role(`${COLUMNS}; GRANT SELECT (id) ON half TO $role`)
    for (const masking of ['enforced', 'rewrite']) {
      const { plan } = await ask('SELECT id FROM half', { role, masking, masks: [mask('half.code', 'partial')] })
      expect(plan.refused).toMatchObject({ construct: 'sql.mask.enforced' })
      expect(plan.refused?.message).toContain('public.half.code')
    }
  })

  it('takes no column for a stand-in that is not generated from the masked one alone', async () => {
    await db.admin.query(`CREATE TABLE fake (id int, a text, b text, a_masked text,
      b_masked text GENERATED ALWAYS AS (a || b) STORED)`)
    try {
      const role = await db.role('GRANT SELECT (id, a_masked, b_masked) ON fake TO $role')
      for (const column of ['a', 'b']) {
        const { plan } = await ask('SELECT id FROM fake', { role, masks: [mask(`fake.${column}`, 'partial')] })
        expect(plan.refused?.construct).toBe('sql.mask.enforced')
      }
    } finally {
      await db.admin.query('DROP TABLE fake')
    }
  })

  it.each([
    ['a grant', 'GRANT SELECT (ssn) ON customers TO $role', 'REVOKE SELECT (ssn) ON customers FROM $role'],
    ['a membership', 'GRANT pg_read_all_data TO $role', 'REVOKE pg_read_all_data FROM $role'],
    ['a power', 'ALTER ROLE $role SUPERUSER', 'ALTER ROLE $role NOSUPERUSER'],
  ])('runs nothing that %s between judging and running makes readable', async (_what, grant, revoke) => {
    const role = await db.role(COLUMNS)
    const between = (): Promise<unknown> => db.admin.query(grant.replaceAll('$role', role.user))
    try {
      const { plan, error, rows } = await ask('SELECT name FROM customers', { role, between })
      expect(plan.refused).toBeUndefined()
      expect(error?.code).toMatch(/ERR_UPSTREAM_REJECTED|ERR_DENIED/u)
      expect(rows).toEqual([])
    } finally {
      await db.admin.query(revoke.replaceAll('$role', role.user))
    }
    expect((await ask('SELECT name FROM customers', { role })).error).toBeUndefined()
  })

  it('runs nothing under another role than the one it was judged for', async () => {
    const strong = await db.role('GRANT SELECT ON ALL TABLES IN SCHEMA public TO $role')
    const name = 'rotated'
    const before = await ask('SELECT name FROM customers', { name })
    expect(before.error).toBeUndefined()
    const { error, rows } = await ask('SELECT name FROM customers', { name, runAs: strong })
    expect(error?.code).toMatch(/ERR_UPSTREAM_REJECTED|ERR_DENIED/u)
    expect(rows).toEqual([])
    expect((await ask('SELECT name FROM customers', { name, role: strong })).plan.refused?.construct).toBe(
      'sql.mask.enforced',
    )
  })

  it('refuses what would need SELECT on the whole table, with its name', async () => {
    for (const [sql, construct] of [
      ['SELECT ctid FROM customers', 'sql.mask.system_column'],
      ['DELETE FROM customers WHERE xmin IS NULL', 'sql.mask.system_column'],
    ] as const) {
      expect((await ask(sql)).plan.refused?.construct).toBe(construct)
    }
    // The weakest lock is that of a dump, which masks forbid by themselves.
    expect((await ask('LOCK TABLE customers IN ACCESS SHARE MODE')).plan.refused?.construct).toBe('sql.mask.dump')
    const { plan } = await ask('LOCK TABLE customers IN ROW SHARE MODE')
    expect(plan.refused).toMatchObject({ construct: 'sql.mask.lock_table' })
    expect(plan.refused?.hint).toContain('FOR UPDATE')
    expect((await ask('SELECT * FROM customers TABLESAMPLE system (100)')).error).toBeUndefined()
  })

  it('describes which relations the database itself guards', async () => {
    const { signal } = new AbortController()
    const secret = { user: bound.user, value: bound.password }
    const target = targetOf(`db-${bound.user}-enforced`, 'enforced')
    const tables = await protocol.describe?.(callOf(target, {}, signal), {
      masks: MASKS,
      secret: async () => secret,
      signal,
    })
    const masking = Object.fromEntries((tables ?? []).map((table) => [table.name, table.masking]))
    expect(masking).toMatchObject({ customers: 'enforced', logins: 'enforced', orders: undefined })
  })
})
