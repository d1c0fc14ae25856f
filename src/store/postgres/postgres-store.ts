/**
 * The store for several instances: one PostgreSQL (13 or later) that all of them share.
 *
 * A commit is one statement, a function in the database that locks the documents, checks what was expected of them, and
 * writes them. Its answer may be lost with a connection; it is then sent again under the same id, and the function says
 * whether the first one was kept. What others changed comes through the feed.
 *
 * @packageDocumentation
 */
import { randomUUID } from 'node:crypto'
import { SallyportError } from '../../core/errors.ts'
import { type Blobs, type Change, checkId, type Store, type Where } from '../store.ts'
import { shownAddress, type StoreAddress } from './address.ts'
import {
  notOpened,
  openStatements,
  type PasswordReader,
  STORE_TIMES,
  type Statements,
  type StoreTimes,
} from './connection.ts'
import { type Feed, type FeedRow, GAP_MAX_MS, startFeed, TIME } from './feed.ts'
import { type HighWater, type Mark, openHighWater } from './high-water.ts'
import { MARK, migrate } from './migrations.ts'
import { matches, Mirror, openDocument } from './mirror.ts'
import { documentSeal, INDEXED_CHARS_MAX, indexedFields } from './sealed.ts'

/** What a shared store is opened with. */
export interface PostgresStoreOptions {
  readonly address: StoreAddress
  readonly password: PasswordReader
  /** The store's key, the same on every instance; `Keys.store`. */
  readonly key: Uint8Array
  /** Collections whose documents are kept in memory as long as that is no older than `staleMaxMs`. */
  readonly mirrored?: readonly string[]
  /** How old a document read from memory may be; beyond it the database is asked. Default 1,000. */
  readonly staleMaxMs?: number
  readonly times?: Partial<StoreTimes>
  /** Where it is kept how far the store had come, so that one that was put back is known as such after a restart, too. */
  readonly markFile?: string
  /** Told when the connection that follows changes is lost, and when it is back. */
  readonly onConnection?: (event: { readonly isLost: boolean; readonly error?: unknown }) => void
}

/** How often the feed looks without being woken. Four looks fit into the time a revocation may take. */
const POLL_MS = 250
const UPKEEP_MS = 60_000

/** How long a commit waits for its own change to come back through the feed. */
const OWN_CHANGE_MS = 1_000

/**
 * Opens a shared store, bringing its schema up to date.
 *
 * @throws SallyportError `ERR_STORE_FAILED`, saying what to mend; `ERR_CONFIG_INVALID`.
 */
export async function openPostgresStore(options: PostgresStoreOptions): Promise<Store> {
  const { address, staleMaxMs = 1_000, mirrored = [], markFile, onConnection = () => undefined } = options
  const seal = documentSeal(options.key)
  const statements = await openStatements(address, options.password, { ...STORE_TIMES, ...options.times })
  const mirror = new Mirror(mirrored, seal)
  const listeners = new Map<string, Set<(change: Change) => void>>()
  let isLost = false
  let closing: Promise<void> | undefined
  let feed: Feed
  let mark: HighWater | undefined
  try {
    await migrated(statements, seal.proof)
    feed = await startFeed({
      connect: () => statements.connect(),
      mirrored,
      pollMs: Math.min(POLL_MS, staleMaxMs / 4),
      onReload(rows) {
        mirror.reload(rows)
        for (const set of listeners.values()) for (const listener of set) tell(listener, { kind: 'resync' })
        if (isLost) onConnection({ isLost: false })
        isLost = false
      },
      onChanges: announce,
      // Fail closed: what was used up since then looks unused, and what was revoked looks good.
      onRewound: () => statements.refuse(rewound(address, markFile)),
      onLost(error) {
        if (!isLost) onConnection({ isLost: true, error })
        isLost = true
      },
    })
  } catch (error) {
    await statements.close().catch(() => undefined)
    throw notOpened(address, error)
  }
  try {
    mark = markFile === undefined ? undefined : await opened(markFile)
  } catch (error) {
    await feed.close()
    await statements.close().catch(() => undefined)
    throw error
  }
  const upkeep = setInterval(() => void tidy().catch(() => undefined), UPKEEP_MS)
  upkeep.unref()

  return {
    async get<T extends object>(collection: string, id: string) {
      if (isFresh(collection))
        return mirror.get(collection, id) as { id: string; version: number; value: T } | undefined
      const { rows } = await statements.query<DocumentRow>(
        'read its state',
        'SELECT id, version, value FROM sallyport.document WHERE collection = $1 AND id = $2',
        [collection, id],
      )
      const [row] = rows
      return row === undefined ? undefined : openDocument<T>(seal, collection, id, Number(row.version), row.value)
    },

    async list<T extends object>(collection: string, where: Where = {}) {
      if (isFresh(collection))
        return mirror.list(collection, where) as readonly { id: string; version: number; value: T }[]
      const asked = Object.fromEntries(Object.entries(where).filter(([, value]) => isIndexed(value)))
      const { rows } = await statements.query<DocumentRow>(
        'read its state',
        'SELECT id, version, value FROM sallyport.document WHERE collection = $1 AND tokens @> $2::text[]',
        [collection, seal.tokens(collection, asked)],
      )
      return rows
        .map(({ id, version, value }) => openDocument<T>(seal, collection, id, Number(version), value))
        .filter(({ value }) => matches(value, where))
    },

    async commit(writes) {
      if (closing !== undefined) throw new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.')
      for (const { collection, id } of writes) {
        checkId(collection)
        checkId(id)
      }
      const json = writes.map((write) => (write.kind === 'put' ? JSON.stringify(write.value) : undefined))
      const { rows } = await statements.query<{ committed: boolean }>(
        'write its state',
        'SELECT sallyport.commit($1, $2, $3, $4, $5, $6, $7) AS committed',
        [
          randomUUID(),
          writes.map(({ kind }) => kind),
          writes.map(({ collection }) => collection),
          writes.map(({ id }) => id),
          writes.map(({ expect }) => expect),
          writes.map(({ collection, id }, n) => {
            const text = json[n]
            return text === undefined ? null : seal.seal(collection, id, text)
          }),
          writes.map(({ collection }, n) => {
            const text = json[n]
            const value: unknown = text === undefined ? {} : JSON.parse(text)
            return seal
              .tokens(collection, typeof value === 'object' && value !== null ? indexedFields(value) : {})
              .join(' ')
          }),
        ],
        true,
      )
      const isCommitted = rows[0]?.committed === true
      const isMirrored = writes.some(({ kind, collection }) => kind !== 'check' && mirror.holds(collection))
      // Whoever revoked a token and asks at once must see it revoked.
      if (isCommitted && isMirrored && !(await feed.caughtUp(OWN_CHANGE_MS))) feed.distrust()
      return isCommitted
    },

    subscribe(collection, listener) {
      const set = listeners.get(collection) ?? new Set()
      listeners.set(collection, set.add(listener))
      return () => void set.delete(listener)
    },

    async lease(name, holder, ttlMs) {
      const { rowCount } = await statements.query(
        'take a lease',
        `INSERT INTO sallyport.lease AS l (name, holder, until)
         VALUES ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
         WHERE l.holder = excluded.holder OR l.until <= clock_timestamp()`,
        [name, holder, ttlMs],
        true,
      )
      return rowCount === 1
    },

    async leaseHolder(name) {
      const { rows } = await statements.query<{ holder: string }>(
        'read a lease',
        'SELECT holder FROM sallyport.lease WHERE name = $1 AND until > clock_timestamp()',
        [name],
      )
      return rows[0]?.holder
    },

    async release(name, holder) {
      await statements.query(
        'give up a lease',
        'DELETE FROM sallyport.lease WHERE name = $1 AND holder = $2',
        [name, holder],
        true,
      )
    },

    async clock() {
      const { rows } = await statements.query<{ now: number }>('ask for the time', `SELECT ${TIME} AS now`, [])
      return rows[0]?.now ?? Number.NaN
    },

    time: () => feed.time(),
    isShared: true,
    blobs: blobsOf(statements),

    close: () => (closing ??= end()),
  }

  async function end(): Promise<void> {
    clearInterval(upkeep)
    listeners.clear()
    await mark?.close()
    await feed.close()
    // Waits for the statements under way.
    await statements.close()
  }

  async function opened(file: string): Promise<HighWater> {
    const { rows } = await statements.query<Mark & { given: number }>('look how far its state has come', MARK, [])
    const [found] = rows
    if (found === undefined) throw new TypeError('a query for one row has one')
    return openHighWater(
      file,
      found,
      () => feed.reached(),
      () => rewound(address, file),
    )
  }

  function isFresh(collection: string): boolean {
    return mirror.holds(collection) && feed.ageMs() <= staleMaxMs
  }

  function announce(rows: readonly FeedRow[]): void {
    mirror.apply(rows)
    for (const { kind, collection, id, version } of rows) {
      for (const listener of listeners.get(collection) ?? []) tell(listener, { kind, collection, id, version })
    }
  }

  async function tidy(): Promise<void> {
    const keptMs = GAP_MAX_MS * 5
    await statements.query(
      'tidy up',
      `DELETE FROM sallyport.change WHERE at < clock_timestamp() - $1 * interval '1 millisecond'`,
      [keptMs],
      true,
    )
    await statements.query(
      'tidy up',
      `DELETE FROM sallyport.lease WHERE until < clock_timestamp() - interval '1 day'`,
      [],
      true,
    )
  }
}

function rewound(address: StoreAddress, markFile: string | undefined): SallyportError {
  const until =
    markFile === undefined
      ? 'until this gateway is started anew'
      : `until what it has forgotten is seen to, ${markFile} is removed, and this gateway is started anew`
  return new SallyportError(
    'ERR_STORE_FAILED',
    `The shared store at ${shownAddress(address)} is further back in time than this gateway has seen it: it was put back ` +
      `from a backup, or its server gave way to one that was behind. Nothing is let through ${until}.`,
  )
}

interface DocumentRow {
  readonly id: string
  readonly version: string
  readonly value: Buffer
}

function isIndexed(value: string | number | boolean): boolean {
  return typeof value !== 'string' || value.length <= INDEXED_CHARS_MAX
}

function tell(listener: (change: Change) => void, change: Change): void {
  try {
    listener(change)
  } catch (error) {
    // One room's mistake must not keep the news from the others.
    process.emitWarning(error instanceof Error ? error : 'A store listener failed.')
  }
}

async function migrated(statements: Statements, proof: string): Promise<void> {
  const client = await statements.connect()
  try {
    await migrate(client, proof)
  } finally {
    await client.end().catch(() => undefined)
  }
}

function blobsOf(statements: Statements): Blobs {
  return {
    async put(name, bytes) {
      await statements.query(
        'store a payload',
        'INSERT INTO sallyport.blob VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes',
        [checkId(name), Buffer.from(bytes)],
        true,
      )
    },
    async get(name) {
      const { rows } = await statements.query<{ bytes: Buffer }>(
        'read a payload',
        'SELECT bytes FROM sallyport.blob WHERE name = $1',
        [checkId(name)],
      )
      return rows[0]?.bytes
    },
    async remove(name) {
      await statements.query('erase a payload', 'DELETE FROM sallyport.blob WHERE name = $1', [checkId(name)], true)
    },
    async list() {
      const { rows } = await statements.query<{ name: string }>('list payloads', 'SELECT name FROM sallyport.blob', [])
      return rows.map(({ name }) => name)
    },
  }
}
