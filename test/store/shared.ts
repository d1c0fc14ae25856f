import { afterAll } from 'vitest'
import { openPostgresStore, type PostgresStoreOptions } from '../../src/store/postgres/postgres-store.ts'
import type { StoreTimes } from '../../src/store/postgres/connection.ts'
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

/** Of a store whose server may be kept from answering for longer than a gateway would wait. */
export const PATIENT_TIMES: StoreTimes = { connectMs: 90_000, statementMs: 90_000, attemptsMs: 90_000 }

/**
 * Makes a database for a store that instances share.
 *
 * @param atEnd takes what is to be done when nobody needs them any more: after the tests of the file, unless told.
 */
export async function sharedPlace(
  atEnd: (end: () => Promise<unknown>) => void = (end) => void ends.push(end),
): Promise<SharedPlace> {
  const database = await createDatabase('')
  atEnd(() => database.drop())
  const { host, port, user, password, name } = database
  return {
    database,
    async open(options = {}) {
      const store = await openPostgresStore({
        address: { host, port, user, database: name, tls: { mode: 'disable' } },
        password: async () => password,
        key: new Uint8Array(32).fill(7),
        times: PATIENT_TIMES,
        ...options,
      })
      atEnd(() => store.close())
      return store
    },
  }
}
