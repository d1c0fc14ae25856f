import { describe, expect, it, onTestFinished } from 'vitest'
import { openPostgresStore, type PostgresStoreOptions } from '../../src/store/postgres/postgres-store.ts'
import { type Change, compareAndSet, insert, type Store } from '../../src/store/store.ts'
import { layCable, type Cable } from '../services/cable.ts'
import { createDatabase, type TestDatabase } from '../services/postgres.ts'
import { storeContract } from './contract.ts'
import { PATIENT_TIMES } from './shared.ts'

const key = new Uint8Array(32).fill(7)
/** Ends with the test what it has opened: the server has room for so many connections only. */
const atEnd = (end: () => Promise<unknown>): void => onTestFinished(async () => void (await end()))

interface SharedPlace {
  readonly database: TestDatabase
  readonly open: (isReopened?: boolean, options?: Partial<PostgresStoreOptions>) => Promise<Store>
}

async function place(): Promise<SharedPlace> {
  const database = await createDatabase('')
  atEnd(() => database.drop())
  const { host, port, user, password, name } = database
  return {
    database,
    async open(_isReopened, options = {}) {
      const store = await openPostgresStore({
        address: { host, port, user, database: name, tls: { mode: 'disable' } },
        password: async () => password,
        key,
        // A machine that is busy must not look like a store that is away.
        times: PATIENT_TIMES,
        ...options,
      })
      atEnd(() => store.close())
      return store
    },
  }
}

/** A cable between a store and its server. */
async function cableTo(database: TestDatabase): Promise<Cable> {
  const cable = await layCable(() => database.port)
  atEnd(async () => cable.close())
  return cable
}

describe('the PostgreSQL store', () => {
  storeContract(place)

  describe('between instances', () => {
    it('tells one of what another changed', async () => {
      const { open } = await place()
      const [one, other] = [await open(), await open()]
      const seen: Change[] = []
      other.subscribe('c', (change) => seen.push(change))
      await insert(one, 'c', 'x', {})
      await expect.poll(() => seen).toMatchObject([{ kind: 'put', collection: 'c', id: 'x' }])
    })

    it('lets exactly one of two win a document, a hundred times over', async () => {
      const { open } = await place()
      const [one, other] = [await open(), await open()]
      for (let n = 0; n < 100; n++) {
        const id = `x${n}`
        await insert(one, 'c', id, { by: 'nobody' })
        const [mine, theirs] = [await one.get('c', id), await other.get('c', id)]
        if (mine === undefined || theirs === undefined) throw new Error('not stored')
        const won = await Promise.all([
          compareAndSet(one, 'c', mine, { by: 'one' }),
          compareAndSet(other, 'c', theirs, { by: 'other' }),
        ])
        expect(won.filter(Boolean)).toHaveLength(1)
      }
    })

    it('commits that cross each other never wait for each other in a circle', async () => {
      const { open } = await place()
      const [one, other] = [await open(), await open()]
      const both = (first: string, second: string) => [
        { kind: 'put', collection: 'c', id: first, expect: 0, value: {} } as const,
        { kind: 'put', collection: 'c', id: second, expect: 0, value: {} } as const,
      ]
      for (let n = 0; n < 50; n++) {
        const done = await Promise.all([one.commit(both(`a${n}`, `b${n}`)), other.commit(both(`b${n}`, `a${n}`))])
        expect(done.filter(Boolean)).toHaveLength(1)
      }
    })

    it('reads a mirrored document from memory, and another instance has a change at once', async () => {
      const { open, database } = await place()
      const [one, other] = [await open(false, { mirrored: ['tokens'] }), await open(false, { mirrored: ['tokens'] })]
      await insert(one, 'tokens', 't', { revoked: false })
      await expect.poll(async () => (await other.get<{ revoked: boolean }>('tokens', 't'))?.value.revoked).toBe(false)
      const before = await statementsOf(database)
      for (let n = 0; n < 1_000; n++) await other.get('tokens', 't')
      expect((await statementsOf(database)) - before).toBeLessThan(100)
      const read = await one.get('tokens', 't')
      if (read === undefined) throw new Error('not stored')
      await compareAndSet(one, 'tokens', read, { revoked: true })
      // Its own writer sees it without waiting for anybody.
      expect((await one.get<{ revoked: boolean }>('tokens', 't'))?.value.revoked).toBe(true)
      await expect.poll(async () => (await other.get<{ revoked: boolean }>('tokens', 't'))?.value.revoked).toBe(true)
    })

    it('refuses an instance with another key', async () => {
      const { open } = await place()
      await open()
      await expect(open(true, { key: new Uint8Array(32).fill(8) })).rejects.toMatchObject({
        code: 'ERR_STORE_FAILED',
        message: expect.stringContaining('store.key') as unknown,
      })
    })

    it('opens one new store for many that start together', async () => {
      const { open } = await place()
      const stores = await Promise.all(Array.from({ length: 5 }, () => open()))
      const inserted = await Promise.all(stores.map((store) => insert(store, 'c', 'x', {})))
      expect(inserted.filter(Boolean)).toHaveLength(1)
    })
  })

  describe('when the connection breaks', () => {
    it('keeps every commit it confirmed and none it refused, through forty cuts', async () => {
      const { open, database } = await place()
      const cable = await cableTo(database)
      const { host, user, name } = database
      const address = { host, port: cable.port, user, database: name, tls: { mode: 'disable' } } as const
      const store = await open(false, { address, times: PATIENT_TIMES })
      let cuts = 0
      const cutting = setInterval(() => {
        if (cuts++ < 40) cable.cut()
      }, 20)
      const answers: boolean[] = []
      try {
        let n = 0
        const isDone = (): boolean => cuts >= 40 && n >= 300
        while (!isDone()) {
          // Of two inserts of one document exactly one may be told that it was first.
          answers.push(await insert(store, 'c', `n${n}`, { n }))
          answers.push(!(await insert(store, 'c', `n${n}`, { n: -1 })))
          n++
        }
      } finally {
        clearInterval(cutting)
      }
      expect(answers.every(Boolean)).toBe(true)
      const kept = await store.list<{ n: number }>('c')
      expect(kept).toHaveLength(answers.length / 2)
      expect(kept.every(({ id, value }) => id === `n${value.n}`)).toBe(true)
    })

    it('reads everything anew when it is back, so that nothing committed meanwhile is missed', async () => {
      const { open, database } = await place()
      const cable = await cableTo(database)
      const { host, user, name } = database
      const address = { host, port: cable.port, user, database: name, tls: { mode: 'disable' } } as const
      const events: boolean[] = []
      const cutOff = await open(false, {
        address,
        mirrored: ['tokens'],
        times: { attemptsMs: 200 },
        onConnection: ({ isLost }) => events.push(isLost),
      })
      const other = await open()
      await insert(other, 'tokens', 'a', {})
      const seen: Change[] = []
      cutOff.subscribe('tokens', (change) => seen.push(change))
      cable.block(true)
      await insert(other, 'tokens', 'b', {})
      await expect.poll(() => events).toEqual([true])
      // What it remembers may be out of date: it says so instead of answering from memory.
      await expect(cutOff.get('tokens', 'a')).rejects.toMatchObject({
        code: 'ERR_STORE_FAILED',
        message: expect.stringContaining('shared store cannot be reached') as unknown,
      })
      cable.block(false)
      await expect.poll(() => events).toEqual([true, false])
      expect(await cutOff.get('tokens', 'b')).toBeDefined()
      expect(seen).toContainEqual({ kind: 'resync' })
    })
  })

  describe('what its database holds', () => {
    it('shows nothing of a document to whoever reads the tables', async () => {
      const { open, database } = await place()
      const store = await open()
      await insert(store, 'tickets', 'x', { state: 'pending', reason: 'top-secret-words' })
      const { rows } = await database.admin.query<{ all: string }>(
        `SELECT string_agg(d::text || encode(d.value, 'escape') || c::text, ' ') AS all FROM sallyport.document d, sallyport.change c`,
      )
      expect(rows[0]?.all).toContain('tickets')
      expect(rows[0]?.all).not.toMatch(/top-secret|pending/)
    })

    it.each([
      ['edited', `UPDATE sallyport.document SET value = set_byte(value, 40, get_byte(value, 40) # 1) WHERE id = 'x'`],
      ['cut short', `UPDATE sallyport.document SET value = substr(value, 1, 20) WHERE id = 'x'`],
      [
        'put in the place of another',
        `UPDATE sallyport.document SET value = (SELECT value FROM sallyport.document WHERE id = 'y') WHERE id = 'x'`,
      ],
    ])('refuses a document that was %s by somebody without the key', async (_how, sql) => {
      const { open, database } = await place()
      const plain = await open()
      const mirrored = await open(true, { mirrored: ['c'] })
      await insert(plain, 'c', 'x', { state: 'pending', padding: 'x'.repeat(50) })
      await insert(plain, 'c', 'y', { state: 'approved', padding: 'x'.repeat(50) })
      await database.admin.query(sql)
      await expect(plain.get('c', 'x')).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' })
      await expect(plain.list('c')).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' })
      const reopened = await open(true, { mirrored: ['c'] })
      await expect(reopened.get('c', 'x')).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' })
      await mirrored.close()
    })
  })
})

async function statementsOf(database: TestDatabase): Promise<number> {
  const { rows } = await database.admin.query<{ n: string }>(
    'SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = current_database()',
  )
  return Number(rows[0]?.n)
}
