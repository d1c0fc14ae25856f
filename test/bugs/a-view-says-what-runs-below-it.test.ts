import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ColumnMask } from '../../src/core/decision.ts'
import type { Secret } from '../../src/core/call.ts'
import { CatalogKeeper } from '../../src/protocols/postgres/catalog-load.ts'
import type { Catalog } from '../../src/protocols/postgres/catalog.ts'
import { postgresOptions, postgresSchema } from '../../src/protocols/postgres/options.ts'
import { loadParser, planQuery } from '../../src/protocols/postgres/plan.ts'
import { createDatabase, type TestDatabase } from '../services/postgres.ts'
import { has } from '../setup/needs.ts'

const VIEWS = `
  CREATE TABLE public.t (id integer, secret text);
  CREATE SEQUENCE public.s;
  CREATE FUNCTION public.own() RETURNS integer LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN 1; END';
  CREATE VIEW public.draws AS SELECT nextval('public.s') AS n;
  CREATE VIEW public.kills AS SELECT pg_terminate_backend(id) AS n FROM public.t;
  CREATE VIEW public.runs AS SELECT public.own() AS n FROM public.t;
  CREATE VIEW public.over_draws AS SELECT n FROM public.draws;
  CREATE VIEW public.over_kills AS SELECT a.n FROM public.over_draws b, (SELECT n FROM public.kills) a;
  CREATE VIEW public.over_runs AS SELECT n FROM public.runs;
  CREATE VIEW public.harmless AS SELECT id, random() AS r, now() AS t, current_setting('a.b', true) AS tenant FROM public.t;
  CREATE TABLE public.kept (id integer);
  ALTER TABLE public.kept ENABLE ROW LEVEL SECURITY;
  CREATE POLICY p ON public.kept USING (EXISTS (SELECT FROM public.over_runs));
  CREATE VIEW public.of_kept AS SELECT id FROM public.kept;`

describe.each(['15', '18'] as const)('PostgreSQL %s', (server) => {
  describe.runIf(server === '18' || has('postgresql-15'))('a view', () => {
    let db: TestDatabase
    let keeper: CatalogKeeper
    let catalog: Catalog

    beforeAll(async () => {
      await loadParser()
      db = await createDatabase(VIEWS, { server })
      const secret: Secret = { user: db.user, value: db.password }
      keeper = new CatalogKeeper({
        target: 'db',
        options: postgresOptions(
          postgresSchema.parse({ host: db.host, port: db.port, database: db.name, tls: 'disable' }),
        ),
      })
      ;({ catalog } = await keeper.current(async () => secret, AbortSignal.timeout(30_000)))
    })
    afterAll(async () => {
      await keeper.close()
      await db.drop()
    })

    it.each([
      ['draws', ['pg_catalog.nextval(regclass)']],
      ['kills', ['pg_catalog.pg_terminate_backend(integer,bigint)']],
      ['runs', ['public.own()']],
      ['over_draws', ['pg_catalog.nextval(regclass)']],
      ['over_kills', ['pg_catalog.nextval(regclass)', 'pg_catalog.pg_terminate_backend(integer,bigint)']],
      ['over_runs', ['public.own()']],
      ['of_kept', ['public.own()']],
      ['kept', ['public.own()']],
    ])('C3: %s says which functions with effects reading it runs', (view, functions) => {
      const plan = planQuery({ sql: `SELECT * FROM public.${view}` }, catalog, { masks: [] })
      const calls = plan.action.parts.filter(({ verb }) => verb === 'sql.call')
      const names = calls.map(({ resource }) => ('name' in resource ? resource.name : undefined))
      expect(new Set(names)).toEqual(new Set(functions))
      expect(plan.readOnly).toBe(false)
    })

    it('is a read where it only tells the time, throws dice or asks for a setting', () => {
      const plan = planQuery({ sql: 'SELECT * FROM public.harmless' }, catalog, { masks: [] })
      expect(plan.action.parts.map(({ verb }) => verb)).toEqual(['sql.select'])
      expect(plan.readOnly).toBe(true)
    })

    it.each([
      ['over_draws', undefined],
      ['over_kills', 'sql.mask.function'],
      ['over_runs', 'sql.mask.function'],
    ])('%s under masks elsewhere is refused only where what it runs could read them', (view, construct) => {
      const masks: ColumnMask[] = [{ schema: 'public', table: 't', column: 'secret', transform: 'redact' }]
      const plan = planQuery({ sql: `SELECT * FROM public.${view}` }, catalog, { masks })
      expect(plan.refused?.construct).toBe(construct)
    })
  })
})
