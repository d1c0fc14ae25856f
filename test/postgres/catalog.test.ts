import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { shopSql } from '../../src/cli/demo/shop.ts'
import type { Secret } from '../../src/core/call.ts'
import { CatalogKeeper, type LoadedCatalog } from '../../src/protocols/postgres/catalog-load.ts'
import { findRelation, type Relation } from '../../src/protocols/postgres/catalog.ts'
import { MaskBindings } from '../../src/protocols/postgres/mask-bindings.ts'
import { postgresOptions, postgresSchema } from '../../src/protocols/postgres/options.ts'
import { createDatabase, type TestDatabase } from '../services/postgres.ts'

let db: TestDatabase
let keeper: CatalogKeeper
let secret: Secret

beforeAll(async () => {
  db = await createDatabase(
    `${shopSql()}
     CREATE TYPE public.mood AS ENUM ('calm', 'cross');
     CREATE FUNCTION public.is_short(t text) RETURNS boolean IMMUTABLE LANGUAGE sql RETURN length(t) < 9;
     CREATE DOMAIN public.word AS varchar(20) COLLATE "C" CHECK (public.is_short(VALUE));
     CREATE DOMAIN public.name_word AS public.word NOT NULL;
     CREATE TABLE public.people (
       id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
       first public.name_word,
       last varchar(30) COLLATE "C" DEFAULT 'x',
       whole text GENERATED ALWAYS AS (first || ' ' || last) STORED,
       feeling public.mood[],
       friend public.customers,
       boss integer REFERENCES public.people ON DELETE SET NULL,
       UNIQUE (last),
       CHECK (public.is_short(last)));
     CREATE UNIQUE INDEX ON public.people (lower(first)) WHERE boss IS NOT NULL;
     CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $f$ BEGIN RETURN NULL; END $f$;
     CREATE TRIGGER audit AFTER INSERT OR UPDATE ON public.people EXECUTE FUNCTION public.audit();
     CREATE TRIGGER asleep AFTER DELETE ON public.people EXECUTE FUNCTION public.audit();
     ALTER TABLE public.people DISABLE TRIGGER asleep;
     CREATE FUNCTION public.label(p public.people) RETURNS text LANGUAGE sql STABLE RETURN p.first;
     CREATE VIEW public.labels AS SELECT public.label(p) AS label FROM public.people p;
     ALTER TABLE public.people ENABLE ROW LEVEL SECURITY;
     CREATE POLICY mine ON public.people USING (EXISTS (SELECT FROM public.customers c WHERE public.is_short(c.name)));
     CREATE RULE noted AS ON DELETE TO public.people DO ALSO INSERT INTO internal.audit_log (who, what) VALUES ('a', 'b');
     CREATE TABLE public.events (at date NOT NULL, what text) PARTITION BY RANGE (at);
     CREATE TABLE public.events_2025 PARTITION OF public.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
     CREATE FUNCTION public.add(a integer, b integer DEFAULT 1) RETURNS integer LANGUAGE sql RETURN a + b;
     CREATE FUNCTION public.same_text(a text, b integer) RETURNS boolean LANGUAGE sql RETURN a = b::text;
     CREATE OPERATOR public.=== (LEFTARG = text, RIGHTARG = integer, FUNCTION = public.same_text);
     CREATE FUNCTION public.mood_number(m public.mood) RETURNS integer LANGUAGE sql RETURN 1;
     CREATE CAST (public.mood AS integer) WITH FUNCTION public.mood_number(public.mood) AS ASSIGNMENT;`,
  )
  secret = { user: db.user, value: db.password }
  keeper = new CatalogKeeper({
    target: 'shop-db',
    options: postgresOptions(postgresSchema.parse({ host: db.host, port: db.port, database: db.name, tls: 'disable' })),
  })
})
afterAll(async () => {
  await keeper.close()
  await db.drop()
})

function load(): Promise<LoadedCatalog> {
  return keeper.current(async () => secret, new AbortController().signal)
}

async function relation(name: string): Promise<Relation> {
  const found = findRelation((await load()).catalog, undefined, name)
  if (found === undefined) throw new Error(`no ${name}`)
  return found
}

async function oids(...names: string[]): Promise<number[]> {
  const { rows } = await db.admin.query<{ oid: number }>(
    'SELECT COALESCE(to_regproc(n)::oid, to_regclass(n)::oid)::int AS oid FROM unnest($1::text[]) n',
    [names],
  )
  return rows.map(({ oid }) => oid)
}

describe('the catalog', () => {
  it('has the search path as the session has it, and the system relations', async () => {
    const { catalog } = await load()
    expect(catalog.searchPath).toEqual(['pg_catalog', 'public'])
    expect(findRelation(catalog, undefined, 'pg_class')).toMatchObject({ schema: 'pg_catalog', builtin: true })
    expect(catalog.serverVersion).toBeGreaterThan(140_000)
    expect(catalog.database).toBe(db.name)
  })

  it('has columns with everything a mask must know of them', async () => {
    const people = await relation('people')
    const [customers] = await oids('public.customers')
    const column = (name: string) => people.columns.find((candidate) => candidate.name === name)
    expect(column('id')).toMatchObject({ attnum: 1, type: 'integer', notNull: true, hasDefault: true })
    expect(column('first')).toMatchObject({
      type: 'public.name_word',
      typeKind: 'd',
      baseType: 'character varying(20)',
      notNull: true,
    })
    expect(column('last')).toMatchObject({
      type: 'character varying(30)',
      baseType: 'character varying',
      collation: { schema: 'pg_catalog', name: 'C' },
      notNull: false,
    })
    expect(column('whole')).toMatchObject({ generated: true, generatedFrom: ['first', 'last'] })
    expect(column('feeling')).toMatchObject({ type: 'public.mood[]', rowTypeOf: 0 })
    expect(column('friend')).toMatchObject({ type: 'public.customers', rowTypeOf: customers })
  })

  it('has keys, triggers, rules and what they run', async () => {
    const people = await relation('people')
    const [isShort, label, customers, log] = await oids(
      'public.is_short',
      'public.label',
      'public.customers',
      'internal.audit_log',
    )
    expect(people.primaryKey).toEqual(['id'])
    expect(people.foreignKeys).toEqual([
      {
        columns: ['boss'],
        references: people.oid,
        referencedColumns: ['id'],
        onDelete: 'set_null',
        onUpdate: 'no_action',
      },
    ])
    expect([...people.uniqueColumns].sort()).toEqual(['boss', 'first', 'id', 'last'])
    expect(people.triggers).toMatchObject([
      { name: 'audit', insert: true, update: true, delete: false, truncate: false },
    ])
    expect(people).toMatchObject({ hasRules: true, hasRls: true, dependsOn: [log], policyDependsOn: [customers] })
    expect(people.readFunctions).toEqual([isShort])
    expect(people.writeFunctions).toEqual([isShort])
    const labels = await relation('labels')
    expect(labels).toMatchObject({ kind: 'view', dependsOn: [people.oid], readFunctions: [label], hasRules: false })
  })

  it('has partitions both ways', async () => {
    const [events, part] = [await relation('events'), await relation('events_2025')]
    expect(events).toMatchObject({ kind: 'partitioned_table', children: [part.oid] })
    expect(part.parents).toEqual([events.oid])
  })

  it('has every overload of a function, and what users made of operators, casts and types', async () => {
    const { catalog } = await load()
    expect(catalog.functionsByName.get('add')).toMatchObject([
      { schema: 'public', argTypes: ['integer', 'integer'], defaults: 1, volatility: 'volatile', takesRow: false },
    ])
    expect(catalog.functionsByName.get('label')).toMatchObject([{ argTypes: ['public.people'], takesRow: true }])
    expect(catalog.functionsByName.get('audit')).toMatchObject([{ securityDefiner: true, language: 'plpgsql' }])
    expect(catalog.functionsByName.get('lower')?.map(({ argTypes }) => argTypes)).toContainEqual(['text'])
    expect(catalog.functionsByName.get('now')).toMatchObject([{ volatility: 'stable', kind: 'function' }])
    expect(catalog.functionsByName.get('count')?.every(({ kind }) => kind === 'aggregate')).toBe(true)
    const [sameText, moodNumber, isShort] = await oids('public.same_text', 'public.mood_number', 'public.is_short')
    expect(catalog.operators).toMatchObject([{ schema: 'public', name: '===', functionOid: sameText }])
    expect(catalog.casts).toMatchObject([
      { source: 'public.mood', target: 'integer', functionOid: moodNumber, context: 'a' },
    ])
    expect(catalog.types.map(({ name, kind }) => `${name} ${kind}`).sort()).toEqual(['mood e', 'name_word d', 'word d'])
    expect(catalog.types.find(({ name }) => name === 'word')?.functionOids).toEqual([isShort])
  })
})

describe('C8: the fingerprint', () => {
  it.each([
    'CREATE TABLE public.fresh (a int)',
    'ALTER TABLE public.fresh RENAME TO fresh2',
    'ALTER TABLE public.fresh2 RENAME COLUMN a TO b',
    'ALTER TABLE public.fresh2 ALTER COLUMN b SET DEFAULT 5',
    'ALTER TABLE public.fresh2 ALTER COLUMN b SET DEFAULT 6',
    'ALTER TABLE public.fresh2 ADD CHECK (b > 0)',
    'CREATE INDEX fresh_i ON public.fresh2 (b)',
    'ALTER TABLE public.fresh2 SET SCHEMA internal',
    'CREATE VIEW public.seen AS SELECT 1 AS a',
    'CREATE OR REPLACE VIEW public.seen AS SELECT 2 AS a',
    'CREATE OR REPLACE FUNCTION public.add(a integer, b integer DEFAULT 1) RETURNS integer LANGUAGE sql RETURN a - b',
    'ALTER FUNCTION public.add(integer, integer) IMMUTABLE',
    'CREATE OPERATOR public.==== (LEFTARG = text, RIGHTARG = integer, FUNCTION = public.same_text)',
    'DROP CAST (public.mood AS integer)',
    'CREATE DOMAIN public.later AS text',
    'ALTER DOMAIN public.later ADD CHECK (public.is_short(VALUE))',
    'ALTER TABLE public.people ENABLE TRIGGER asleep',
    'DROP TRIGGER asleep ON public.people',
    'ALTER POLICY mine ON public.people USING (true)',
    'CREATE TABLE public.heir () INHERITS (public.products)',
    'ALTER TABLE public.heir NO INHERIT public.products',
    'DROP TABLE public.heir',
    'ALTER SCHEMA internal RENAME TO inner_room',
  ])('changes with %s', async (ddl) => {
    const before = (await load()).catalog
    await db.admin.query(ddl)
    const after = (await load()).catalog
    expect(after.fingerprint).not.toBe(before.fingerprint)
    expect(after).not.toBe(before)
  })

  it.each([
    'UPDATE products SET stock = stock + 1',
    'CREATE TEMPORARY TABLE mine (a int PRIMARY KEY, b text DEFAULT now(), CHECK (a > 0))',
    'CREATE TEMPORARY VIEW mine_too AS SELECT * FROM mine',
    'ANALYZE customers',
    'DROP TABLE mine CASCADE',
  ])('does not change with %s', async (sql) => {
    const before = (await load()).catalog
    await db.admin.query(sql)
    expect((await load()).catalog).toBe(before)
  })

  it('is looked at after each caller asked, at most twice for a hundred at once', async () => {
    await load()
    const { rows: before } = await db.admin.query<{ n: string }>('SELECT pg_current_xact_id() AS n')
    const looks = await Promise.all(Array.from({ length: 100 }, () => load()))
    // A snapshot tells the looks apart: the transaction of this test's own connection moves it.
    expect(new Set(looks.map(({ snapshot }) => snapshot)).size).toBeLessThanOrEqual(2)
    for (const { snapshot } of looks) expect(Number(snapshot.split(':')[1])).toBeGreaterThan(Number(before[0]?.n))
  })
})

describe('C9: a mask stands for one column', () => {
  const ssn = { schema: 'public', table: 'customers', column: 'ssn', transform: 'redact' } as const

  it.each([
    ['a column that does not exist', { ...ssn, column: 'sssn' }],
    ['a table that does not exist', { ...ssn, table: 'clients' }],
  ])('refuses %s', async (_, mask) => {
    const bindings = new MaskBindings('shop-db')
    const { catalog } = await load()
    expect(() => bindings.check(catalog, [mask])).toThrow(/does not exist/u)
  })

  it.each([
    [
      'another table under its name',
      `ALTER TABLE customers RENAME TO old_customers; CREATE TABLE customers (LIKE old_customers)`,
      'DROP TABLE customers; ALTER TABLE old_customers RENAME TO customers',
    ],
    [
      'two tables that swapped names',
      'ALTER TABLE customers RENAME TO x; ALTER TABLE orders RENAME TO customers; ALTER TABLE x RENAME TO orders',
      'ALTER TABLE customers RENAME TO x; ALTER TABLE orders RENAME TO customers; ALTER TABLE x RENAME TO orders',
    ],
    [
      'another column under its name',
      'ALTER TABLE customers RENAME ssn TO x; ALTER TABLE customers RENAME card TO ssn',
      'ALTER TABLE customers RENAME ssn TO card; ALTER TABLE customers RENAME x TO ssn',
    ],
    [
      'nothing under its name',
      'ALTER TABLE customers RENAME ssn TO tax_number',
      'ALTER TABLE customers RENAME tax_number TO ssn',
    ],
  ])('refuses everything for everyone once there is %s', async (_, swap, undo) => {
    const bindings = new MaskBindings('shop-db')
    bindings.check((await load()).catalog, [ssn])
    await db.admin.query(swap)
    try {
      const { catalog } = await load()
      // Also for a principal whose results are not masked: what it reads would be recorded under the wrong masks.
      expect(() => bindings.check(catalog, [])).toThrow(/nothing runs on this target/u)
    } finally {
      await db.admin.query(undo)
    }
    bindings.check((await load()).catalog, [ssn])
  })
})
