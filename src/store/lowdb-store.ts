/**
 * The store for one instance: one JSON file through lowdb, blobs as files beside it, no server.
 *
 * Commits are grouped: while one write is on its way to the disk, the commits that arrive wait together for the next, so
 * that many waiters cost one fsync. Readers see only what is on disk.
 *
 * @packageDocumentation
 */
import { Low } from 'lowdb'
import { SallyportError } from '../core/errors.ts'
import { fileBlobs } from './file-blobs.ts'
import { deepFreeze, storeFile, type StoreData, type StoredDocument, type StoreFileOptions } from './store-file.ts'
import { type Change, checkId, type Store, storeFailed, type Versioned, type Where, type Write } from './store.ts'

/** Where the store keeps its files, and with which clock its leases run out. */
export interface LowdbStoreOptions extends StoreFileOptions {
  /** A directory for blobs; made when missing. */
  readonly blobs: string
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

interface Waiting {
  readonly writes: readonly Write[]
  readonly resolve: (committed: boolean) => void
  readonly reject: (error: SallyportError) => void
}

/**
 * Opens the file, or creates it where that is allowed. The caller holds the lock of the directory: two processes on one
 * file would overwrite each other.
 *
 * @throws SallyportError `ERR_STORE_FAILED` when the file is missing, damaged or unreadable.
 */
export async function openLowdbStore(options: LowdbStoreOptions): Promise<Store> {
  const blobs = await fileBlobs(options.blobs)
  const db = new Low<StoreData>(storeFile(options), Object.create(null))
  await db.read()
  let durable = db.data
  let lastVersion = highestVersion(durable)
  let queue: Waiting[] = []
  let flushing: Promise<void> | undefined
  let closed = false
  const listeners = new Map<string, Set<(change: Change) => void>>()
  // Leases die with the process: the directory has one user at a time, so nobody else can hold one.
  const leases = new Map<string, { readonly holder: string; readonly until: number }>()

  if (!options.mustExist) await write(durable)

  return {
    get: async <T extends object>(collection: string, id: string) => {
      const found = durable[collection]?.[id]
      return found === undefined ? undefined : versioned<T>(id, found)
    },

    list: async <T extends object>(collection: string, where: Where = {}) => {
      return Object.entries(durable[collection] ?? {})
        .filter(([, { value }]) => holds(value, where))
        .map(([id, document]) => versioned<T>(id, document))
    },

    commit(writes) {
      if (closed) return Promise.reject(new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.'))
      for (const { collection, id } of writes) {
        checkId(collection)
        checkId(id)
      }
      return new Promise((resolve, reject) => {
        queue.push({ writes: writes.map(copied), resolve, reject })
        flushing ??= flush()
      })
    },

    subscribe(collection, listener) {
      const set = listeners.get(collection) ?? new Set()
      listeners.set(collection, set.add(listener))
      return () => void set.delete(listener)
    },

    async lease(name, holder, ttlMs) {
      const held = leases.get(name)
      if (held !== undefined && held.holder !== holder && held.until > options.now()) return false
      leases.set(name, { holder, until: options.now() + ttlMs })
      return true
    },

    async leaseHolder(name) {
      const held = leases.get(name)
      return held !== undefined && held.until > options.now() ? held.holder : undefined
    },

    async release(name, holder) {
      if (leases.get(name)?.holder === holder) leases.delete(name)
    },

    clock: async () => options.now(),
    time: options.now,
    isShared: false,
    blobs,

    async close() {
      closed = true
      await flushing
      listeners.clear()
    },
  }

  async function flush(): Promise<void> {
    // Lets the commits of this event-loop turn gather before the first write.
    await Promise.resolve()
    while (queue.length > 0) {
      const batch = queue
      queue = []
      await flushBatch(batch)
    }
    // In the same breath as the look at the queue: a commit that arrives later starts the next round.
    flushing = undefined
  }

  async function flushBatch(batch: readonly Waiting[]): Promise<void> {
    const staged = new Staged(durable, () => ++lastVersion)
    const accepted = batch.map((waiting) => staged.apply(waiting.writes))
    const changes = staged.changes()
    if (changes.length > 0) {
      try {
        await write(staged.data())
      } catch (error) {
        // Also those that were told "no": what they lost to was never written.
        for (const waiting of batch) waiting.reject(storeFailed(error, 'write its state'))
        return
      }
    }
    for (const [index, waiting] of batch.entries()) waiting.resolve(accepted[index] === true)
    for (const change of changes) announce(change)
  }

  async function write(next: StoreData): Promise<void> {
    db.data = next
    try {
      await db.write()
      durable = next
    } catch (error) {
      db.data = durable
      throw error
    }
  }

  function announce(change: Change & { readonly collection: string }): void {
    for (const listener of listeners.get(change.collection) ?? []) {
      try {
        listener(change)
      } catch (error) {
        // One room's mistake must not stop the writes of the others.
        process.emitWarning(error instanceof Error ? error : 'A store listener failed.')
      }
    }
  }
}

/** The documents as they will be once a batch is on disk: unchanged collections are shared, changed ones copied once. */
class Staged {
  readonly #base: StoreData
  readonly #nextVersion: () => number
  readonly #changed = new Map<string, Record<string, StoredDocument>>()
  readonly #changes = new Map<string, Change & { readonly collection: string }>()

  constructor(base: StoreData, nextVersion: () => number) {
    this.#base = base
    this.#nextVersion = nextVersion
  }

  apply(writes: readonly Write[]): boolean {
    const asExpected = writes.every(({ collection, id, expect }) => this.#version(collection, id) === expect)
    if (!asExpected) return false
    for (const write of writes) this.#apply(write)
    return true
  }

  data(): StoreData {
    return Object.assign(Object.create(null), this.#base, Object.fromEntries(this.#changed))
  }

  changes(): readonly (Change & { readonly collection: string })[] {
    return [...this.#changes.values()]
  }

  #version(collection: string, id: string): number {
    return (this.#changed.get(collection) ?? this.#base[collection])?.[id]?.version ?? 0
  }

  #apply(write: Write): void {
    if (write.kind === 'check') return
    const { kind, collection, id } = write
    const version = kind === 'put' ? this.#nextVersion() : 0
    let documents = this.#changed.get(collection)
    if (documents === undefined) {
      documents = Object.assign(Object.create(null), this.#base[collection]) as Record<string, StoredDocument>
      this.#changed.set(collection, documents)
    }
    if (kind === 'put') documents[id] = { version, value: write.value }
    else delete documents[id]
    this.#changes.set(`${collection}/${id}`, { kind, collection, id, version })
  }
}

/**
 * Versions come from one counter for the whole store, so that a document removed and made again never gets a version that
 * somebody still holds. Across restarts the highest one in use is enough: what readers held is gone with the process.
 */
function highestVersion(data: StoreData): number {
  const versions = Object.values(data).flatMap((documents) => Object.values(documents).map(({ version }) => version))
  return versions.reduce((highest, version) => Math.max(highest, version), 0)
}

/** Takes a write's value as JSON has it, so that neither the caller nor a reader can change it later. */
function copied(write: Write): Write {
  return write.kind === 'put' ? { ...write, value: deepFreeze(JSON.parse(JSON.stringify(write.value))) } : write
}

function versioned<T extends object>(id: string, { version, value }: StoredDocument): Versioned<T> {
  return { id, version, value: value as T }
}

function holds(value: object, where: Where): boolean {
  return Object.entries(where).every(
    ([field, wanted]) => (value as Readonly<Record<string, unknown>>)[field] === wanted,
  )
}
