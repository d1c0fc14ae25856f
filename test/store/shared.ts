import { afterAll } from 'vitest'
import { openPostgresStore, type PostgresStoreOptions } from '../../src/store/postgres/postgres-store.ts'
import type { Store } from '../../src/store/store.ts'
import { createDatabase, type TestDatabase } from '../services/postgres.ts'

const ends: (() => Promise<unknown>)[] = []
afterAll(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

/** One store, as its instances open it. Closed after the tests of the file. */
export interface SharedPlace {
  readonly database: TestDatabase
  readonly open: (options?: Partial<PostgresStoreOptions>) => Promise<Store>
}

/** Makes a database for a store that instances share. */
export async function sharedPlace(): Promise<SharedPlace> {
  const database = await createDatabase('')
  ends.push(() => database.drop())
  const { host, port, user, password, name } = database
  return {
    database,
    async open(options = {}) {
      const store = await openPostgresStore({
        address: { host, port, user, database: name, tls: { mode: 'disable' } },
        password: async () => password,
        key: new Uint8Array(32).fill(7),
        ...options,
      })
      ends.push(() => store.close())
      return store
    },
  }
}
