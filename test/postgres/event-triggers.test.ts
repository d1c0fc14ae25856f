/** C3: what an event trigger runs is a part of the statement that fires it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Protocol } from '../../src/core/call.ts'
import type { Target } from '../../src/core/target.ts'
import { createPostgres, POSTGRES_SETTINGS } from '../../src/protocols/postgres/index.ts'
import type { PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { createDatabase, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { callOf } from './connector-kit.ts'

let db: TestDatabase
let role: TestRole
let target: Target
let protocol: Protocol<PostgresPlan>

beforeAll(async () => {
  db = await createDatabase(`
    CREATE TABLE t (id int);
    CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
    CREATE FUNCTION silent() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
    CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION watch();
    CREATE EVENT TRIGGER silent ON ddl_command_end EXECUTE FUNCTION silent();
    ALTER EVENT TRIGGER silent DISABLE`)
  role = await db.role('GRANT CREATE ON SCHEMA public TO $role; GRANT ALL ON t TO $role')
  const { host, port, name } = db
  const raw = POSTGRES_SETTINGS.schema.parse({ host, port, database: name, tls: 'disable' })
  target = {
    name: 'shop-db',
    protocol: 'postgres',
    labels: {},
    mode: 'enforce',
    record: 'full',
    ...POSTGRES_SETTINGS.finish(raw, (path) => path),
  }
  protocol = createPostgres()
})
afterAll(async () => {
  await protocol.close()
  await db.drop()
})

async function calls(sql: string): Promise<readonly string[]> {
  const { signal } = new AbortController()
  const secret = async (): Promise<{ user: string; value: string }> => ({ user: role.user, value: role.password })
  const { action } = await protocol.plan(callOf(target, { sql }, signal), { masks: [], secret, signal })
  return action.parts.flatMap(({ verb, resource, attributes }) =>
    verb === 'sql.call' && resource.type === 'sql' ? [`${resource.name} ${JSON.stringify(attributes['via'])}`] : [],
  )
}

describe('C3: functions of event triggers are parts', () => {
  it.each([
    'CREATE TABLE n (a int)',
    'CREATE TEMP TABLE n (a int)',
    'CREATE TABLE n AS SELECT 1 AS a',
    'SELECT 1 AS a INTO n',
    'ALTER TABLE t ADD COLUMN b int',
    'DROP TABLE t',
    'CREATE INDEX ON t (id)',
    'COMMENT ON TABLE t IS $$x$$',
    'GRANT SELECT ON t TO PUBLIC',
    'CREATE VIEW v AS SELECT 1 AS a',
    'CREATE SCHEMA s',
    'SELECT 1; CREATE TABLE n (a int)',
  ])('of %s', async (sql) => {
    expect(await calls(sql)).toEqual(['public.watch() "event_trigger"'])
  })

  it.each(['SELECT * FROM t', 'DELETE FROM t', 'TRUNCATE t', 'LOCK TABLE t', 'ANALYZE t', 'COPY t TO STDOUT'])(
    'and not of %s, which fires none',
    async (sql) => {
      expect(await calls(sql)).toEqual([])
    },
  )

  it('C8: and one that is made or enabled later is noticed', async () => {
    await db.admin.query('ALTER EVENT TRIGGER silent ENABLE')
    expect(await calls('CREATE TABLE n (a int)')).toEqual([
      'public.silent() "event_trigger"',
      'public.watch() "event_trigger"',
    ])
    await db.admin.query('DROP EVENT TRIGGER silent; DROP EVENT TRIGGER watch')
    expect(await calls('CREATE TABLE n (a int)')).toEqual([])
  })
})
