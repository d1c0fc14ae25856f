/**
 * Shared state behind one small interface: JSON documents with versions, leases, and payload blobs.
 *
 * The rooms that keep state (`approval/`, `identity/`, later `limits/`) see only this. Everything they promise about "at
 * most once" rests on three properties that each implementation must have:
 *
 * - a commit is all or nothing, and its expectations are checked against what is durable;
 * - a promise resolves only when the change would survive the loss of power;
 * - what was read is never ahead of what is durable, also after a failed write.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../core/errors.ts'

/** A document as stored. `value` is frozen: change it by committing another. */
export interface Versioned<T> {
  readonly id: string
  /** At least 1, higher after each change, and never given twice to one id. 0 means "does not exist". */
  readonly version: number
  readonly value: T
}

/**
 * One step of a commit. `expect` is the version the document must have now; 0 demands that it does not exist. A `check`
 * changes nothing and only holds the commit to what was read before.
 */
export type Write =
  | {
      readonly kind: 'put'
      readonly collection: string
      readonly id: string
      readonly expect: number
      readonly value: object
    }
  | {
      readonly kind: 'remove' | 'check'
      readonly collection: string
      readonly id: string
      readonly expect: number
    }

/** What a subscriber is told, after the change is durable. `resync` says that changes may have been missed: read anew. */
export type Change =
  | { readonly kind: 'put' | 'remove'; readonly collection: string; readonly id: string; readonly version: number }
  | { readonly kind: 'resync' }

/** Equality on top-level fields of the documents; all must hold. */
export type Where = Readonly<Record<string, string | number | boolean>>

/** State shared by the rooms, and, with a server behind it, by several instances. */
export interface Store {
  get<T extends object>(collection: string, id: string): Promise<Versioned<T> | undefined>
  /** Returns the documents of a collection, in no promised order. */
  list<T extends object>(collection: string, where?: Where): Promise<readonly Versioned<T>[]>
  /**
   * Applies all writes or none. Resolves `true` once they are durable and `false` when an expectation did not hold.
   *
   * @throws SallyportError `ERR_STORE_FAILED` when the write failed. Nothing was changed then, unless the store is a server
   * that could not be asked what became of it; the message says so.
   */
  commit(writes: readonly Write[]): Promise<boolean>
  /** Calls `listener` after each durable change in a collection, until the returned function is called. */
  subscribe(collection: string, listener: (change: Change) => void): () => void
  /**
   * Takes or renews a lease. Resolves `false` when another holder has it. Leases say who is alive and nothing else:
   * a grant is never leased, because a lease that runs out is given to somebody else (C12).
   */
  lease(name: string, holder: string, ttlMs: number): Promise<boolean>
  /** Returns the holder of a lease that has not run out. */
  leaseHolder(name: string): Promise<string | undefined>
  /** Gives a lease up early. Does nothing when `holder` does not hold it. */
  release(name: string, holder: string): Promise<void>
  /**
   * Returns the time by the store's own clock, in milliseconds since the epoch: the one clock that all instances of a
   * shared store have in common.
   */
  clock(): Promise<number>
  /** The same, as far as it is known without asking: as of the last answer, and what went by since. */
  time(): number
  /** Whether other instances may share this store, so that what one of them counts the others must know. */
  readonly isShared: boolean
  readonly blobs: Blobs
  /** Waits for writes under way, then refuses more. */
  close(): Promise<void>
}

/** Payloads too large or too secret for documents. The store does not encrypt them; whoever puts them does. */
export interface Blobs {
  /** Stores bytes durably under a name that did not exist or is replaced whole. */
  put(name: string, bytes: Uint8Array): Promise<void>
  get(name: string): Promise<Uint8Array | undefined>
  remove(name: string): Promise<void>
  list(): Promise<readonly string[]>
}

const ID = /^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,199}$/

/**
 * Returns `id` when every store can keep it as it is: no separators a file system or a query would read otherwise, and no
 * name that means something on a JavaScript object.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`
 */
export function checkId(id: string): string {
  if (ID.test(id)) return id
  throw new SallyportError(
    'ERR_INVALID_INPUT',
    'An identifier must be 1 to 200 letters, digits or any of . _ : @ + - and begin with a letter or digit.',
  )
}

/** Inserts one document. Resolves `false` when it exists. */
export function insert(store: Store, collection: string, id: string, value: object): Promise<boolean> {
  return store.commit([{ kind: 'put', collection, id, expect: 0, value }])
}

/** Replaces one document that still has the version it was read with. */
export function compareAndSet(
  store: Store,
  collection: string,
  read: Versioned<object>,
  value: object,
): Promise<boolean> {
  return store.commit([{ kind: 'put', collection, id: read.id, expect: read.version, value }])
}

/** Wraps what a write met. The caller learns the kind of trouble; where it happened stays in the log. */
export function storeFailed(error: unknown, what: string): SallyportError {
  if (error instanceof SallyportError) return error
  const code = errnoOf(error)
  return new SallyportError(
    'ERR_STORE_FAILED',
    `The gateway cannot ${what} (${code}${ADVICE[code] === undefined ? '' : `: ${ADVICE[code]}`}); nothing was changed.`,
    { cause: error },
  )
}

const ADVICE: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full, free some space',
  EDQUOT: 'the disk quota is used up, free some space',
  EFBIG: 'the file would exceed the size the process may write',
  EROFS: 'the file system is read-only, mount it writable',
  EACCES: 'the file may not be written, check owner and permissions',
  EPERM: 'the file may not be written, check owner and permissions',
  EIO: 'the disk reports an error',
  EMFILE: 'the process has too many open files',
}

/** Returns the errno name of a system error, or `unknown error`. */
export function errnoOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown error'
}
