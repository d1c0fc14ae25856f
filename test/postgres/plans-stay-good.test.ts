import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Secret } from '../../src/core/call.ts'
import { CatalogKeeper } from '../../src/protocols/postgres/catalog-load.ts'
import type { Catalog } from '../../src/protocols/postgres/catalog.ts'
import { postgresOptions, postgresSchema } from '../../src/protocols/postgres/options.ts'
import { loadParser } from '../../src/protocols/postgres/plan.ts'
import { createDatabase, type TestDatabase } from '../services/postgres.ts'
import { has } from '../setup/needs.ts'
import { PLANNED_QUERIES, plansSql, sentFor, treeOf } from './plans.ts'

const CUSTOMERS = 20_000

describe.each(['15', '18'] as const)('on PostgreSQL %s', (server) => {
  describe.runIf(server === '18' || has('postgresql-15'))('under masks', () => {
    let db: TestDatabase
    let catalog: Catalog

    beforeAll(async () => {
      await loadParser()
      db = await createDatabase(plansSql(CUSTOMERS), { server })
      const secret: Secret = { user: db.user, value: db.password }
      const { host, port } = db
      const options = postgresOptions(postgresSchema.parse({ host, port, database: db.name, tls: 'disable' }))
      const keeper = new CatalogKeeper({ target: 'db', options })
      ;({ catalog } = await keeper.current(async () => secret, AbortSignal.timeout(30_000)))
      await keeper.close()
    })
    afterAll(() => db.drop())

    it.each(PLANNED_QUERIES)('the same indexes are read: %s', async (sql) => {
      const sent = sentFor(sql, catalog)
      expect(sent.hidesOrder).toBe(false)
      expect((await treeOf(db.admin, sent.sql)).indexes).toEqual((await treeOf(db.admin, sql)).indexes)
    })

    it('the comparison sees an index that is lost', async () => {
      const lost = 'SELECT id, ssn FROM cust WHERE id + 0 = 500'
      const kept = 'SELECT id, ssn FROM cust WHERE id = 500'
      expect((await treeOf(db.admin, lost)).indexes).not.toEqual((await treeOf(db.admin, kept)).indexes)
    })
  })
})
