/** Writes of views that PostgreSQL makes writable by itself, against a real server. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createPostgres, endpointOf, postgresOptions, postgresSchema } from '../../src/protocols/postgres/index.ts'
import type { PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import type { ColumnMask } from '../../src/core/decision.ts'
import type { Target } from '../../src/core/target.ts'
import { mask } from '../bugs/sql-kit.ts'
import { createDatabase, type TestDatabase } from '../services/postgres.ts'
import { callOf } from './connector-kit.ts'
import { line } from './plan-fixture.ts'

const SCHEMA = `
  CREATE TABLE base (id int PRIMARY KEY, note text, at date, secret text);
  CREATE TABLE child (base int REFERENCES base ON DELETE CASCADE);
  CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
  CREATE TRIGGER tells AFTER UPDATE ON base FOR EACH ROW EXECUTE FUNCTION told();
  CREATE VIEW plain AS SELECT note AS words, id AS "Key", upper(note) AS loud FROM base WHERE id > 0;
  CREATE VIEW over_plain AS SELECT "Key" AS k, words FROM plain;
  CREATE VIEW joined AS SELECT b.id FROM base b JOIN child c ON c.base = b.id;
  CREATE VIEW counted AS SELECT count(*) AS n FROM base;
  CREATE VIEW ruled AS SELECT id FROM base;
  CREATE RULE instead AS ON DELETE TO ruled DO INSTEAD NOTHING;
  CREATE VIEW triggered AS SELECT count(*) AS n FROM base;
  CREATE FUNCTION takes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
  CREATE TRIGGER takes INSTEAD OF INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION takes()`

let db: TestDatabase
const protocol = createPostgres()
let target: Target
beforeAll(async () => {
  db = await createDatabase(SCHEMA)
  const { host, port, name } = db
  const options = postgresOptions(postgresSchema.parse({ host, port, database: name, tls: 'disable' }))
  target = {
    name: 'db',
    protocol: 'postgres',
    labels: {},
    mode: 'enforce',
    record: 'full',
    endpoint: endpointOf(options),
    options,
  }
})
afterAll(async () => {
  await protocol.close?.()
  await db.drop()
})

async function planned(sql: string, masks: readonly ColumnMask[] = []): Promise<PostgresPlan> {
  const { signal } = new AbortController()
  const secret = async () => ({ user: db.user, value: db.password })
  return protocol.plan(callOf(target, { sql }, signal), { masks, secret, signal })
}

describe('C3: a write of a view is a write of the table it shows', () => {
  it.each<readonly [sql: string, parts: readonly string[]]>([
    [
      `insert into plain (words, "Key") values ('n', 1)`,
      ['sql.insert public.plain(Key,words)', 'sql.insert public.base(id,note) via view'],
    ],
    [
      `update plain set words = 'x' where "Key" = 1`,
      [
        'sql.update public.plain(words)',
        'sql.select public.plain(Key)',
        'sql.update public.base(note) via view',
        'sql.call public.told() via trigger',
      ],
    ],
    [
      'delete from plain',
      [
        'sql.delete public.plain(Key,loud,words)',
        'sql.delete public.child(base) via cascade',
        'sql.delete public.base(at,id,note,secret) via view',
      ],
    ],
    [
      `update over_plain set words = 'x'`,
      [
        'sql.update public.over_plain(words)',
        'sql.update public.plain(words) via view',
        'sql.update public.base(note) via view',
        'sql.call public.told() via trigger',
      ],
    ],
    ['insert into triggered values (1)', ['sql.insert public.triggered(n)', 'sql.call public.takes() via trigger']],
  ])('%s', async (sql, parts) => {
    const { action } = await planned(sql)
    expect([...new Set(action.parts.map(line))].sort()).toEqual([...parts].sort())
  })

  it('has the condition its statement has', async () => {
    const where = async (sql: string) =>
      (await planned(sql)).action.parts
        .filter(({ verb }) => verb === 'sql.update')
        .map(({ attributes }) => attributes['has_where'])
    expect(await where(`update plain set words = 'x' where "Key" = 1`)).toEqual([true, true])
    expect(await where(`update plain set words = 'x' where true`)).toEqual([false, false])
  })

  it.each([
    `insert into joined values (1)`,
    'update counted set n = 1',
    'delete from ruled',
    'merge into plain p using base b on b.id = p."Key" when matched then delete',
    `update pg_settings set setting = 'on' where name = 'fsync'`,
  ])('is not understood where nobody knows its end: %s', async (sql) => {
    expect((await planned(sql)).action.parts.map(({ verb }) => verb)).toContain('sql.unknown')
  })

  it.each(['secret', 'note'])('is refused where the table has masked columns, shown or not (%s)', async (column) => {
    const plan = await planned(`update over_plain set words = 'x'`, [mask(`base.${column}`)])
    expect(plan.refused?.construct).toMatch(/^sql\.(?:mask\.view_write|view_over_mask|mask\.side_effects)$/u)
    const inserted = await planned(`insert into plain ("Key") values (1)`, [mask(`base.${column}`)])
    expect(inserted.refused?.construct).toMatch(
      column === 'note' ? /^sql\.(?:view_over_mask|mask\.view_write)$/u : /^sql\.mask\.view_write$/u,
    )
  })

  it('does what it says', async () => {
    const { rows } = await db.admin
      .query(`INSERT INTO base VALUES (1, 'a'); UPDATE over_plain SET words = 'b';
      SELECT note FROM base`)
      .then((results) => (results as unknown as { rows: unknown[] }[])[2] ?? { rows: [] })
    expect(rows).toEqual([{ note: 'b' }])
  })
})
