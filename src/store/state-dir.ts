/**
 * The state directory of one gateway: private to its user, locked by one process, holding the keys and the store (C17).
 *
 * @packageDocumentation
 */
import { chmod, mkdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { SallyportError } from '../core/errors.ts'
import { syncDirectory } from './durable-file.ts'
import { type Keys, keysFrom, newMaster, readKeyFile, writeKeyFile } from './keys.ts'
import { openLowdbStore } from './lowdb-store.ts'
import { openPostgresStore, type PostgresStoreOptions } from './postgres/postgres-store.ts'
import { lockDirectory } from './state-lock.ts'
import { errnoOf, type Store, storeFailed } from './store.ts'

/** An open state directory. Whoever opens it closes it, last of all rooms. */
export interface State {
  readonly directory: string
  /** The keys of the store and of everything in it. Instances that share a store share them. */
  readonly keys: Keys
  /** The keys of this directory alone. The same as `keys` where the store is in it too. */
  readonly ownKeys: Keys
  readonly store: Store
  /** Closes the store, then lets the next process in. */
  close(): Promise<void>
}

/** A store outside the directory, and the master key that all who share it have. */
export interface SharedStore extends Omit<PostgresStoreOptions, 'key'> {
  readonly master: Uint8Array
}

/**
 * Opens a state directory, making it, its keys and its store at the first start.
 *
 * @param shared where the state is when several instances share it; the directory then holds only this instance's own.
 * @throws SallyportError `ERR_STATE_LOCKED` when another process has it, `ERR_CONFIG_INVALID` when others may enter it,
 * `ERR_STORE_FAILED` when keys or store are missing or damaged, or a shared store cannot be reached.
 */
export async function openState(directory: string, now: () => number = Date.now, shared?: SharedStore): Promise<State> {
  const own = path.resolve(directory)
  await makePrivate(own)
  const lock = await lockDirectory(own)
  try {
    const { keys, ownKeys, store } = await (shared === undefined ? openContents(own, now) : openShared(own, shared))
    return {
      directory: own,
      keys,
      ownKeys,
      store,
      async close() {
        try {
          await store.close()
        } finally {
          await lock.release()
        }
      },
    }
  } catch (error) {
    await lock.release()
    throw storeFailed(error, `open its state directory ${own}`)
  }
}

/** Makes the directory, or checks that only we may enter it. */
async function makePrivate(directory: string): Promise<void> {
  try {
    const made = await mkdir(directory, { recursive: true, mode: 0o700 })
    // A umask can only take permissions away; a default ACL can add some.
    if (made !== undefined) await chmod(directory, 0o700)
    const found = await stat(directory)
    const user = process.getuid?.()
    if (found.uid !== user) {
      throw notPrivate(
        directory,
        `belongs to user ${found.uid}, not to user ${user} who runs this process`,
        `chown ${user}`,
      )
    }
    if ((found.mode & 0o077) !== 0) {
      throw notPrivate(directory, `is open to others (mode ${(found.mode & 0o777).toString(8)})`, 'chmod 700')
    }
    if (made !== undefined) await syncDirectory(path.dirname(directory))
  } catch (error) {
    if (error instanceof SallyportError) throw error
    throw new SallyportError(
      'ERR_CONFIG_INVALID',
      `The state directory ${directory} cannot be used (${errnoOf(error)}). Name another one, or make it yours.`,
      { cause: error },
    )
  }
}

function notPrivate(directory: string, what: string, fix: string): SallyportError {
  return new SallyportError('ERR_CONFIG_INVALID', `The state directory ${directory} ${what}. Run: ${fix} ${directory}`)
}

/**
 * The order of the first start survives a crash between any two steps: keys, then the store, then the mark that from now
 * on a missing store is a loss and not a beginning.
 */
async function openContents(directory: string, now: () => number): Promise<Contents> {
  const keyFile = path.join(directory, 'keys.json')
  const storeFile = path.join(directory, 'store.json')
  let found = await readKeyFile(keyFile)
  if (found === undefined) {
    await refuseStoreWithoutKeys(keyFile, storeFile)
    found = { master: newMaster(), storeCreated: false }
    await writeKeyFile(keyFile, found)
  }
  const keys = keysFrom(found.master)
  const store = await openLowdbStore({
    file: storeFile,
    blobs: path.join(directory, 'blobs'),
    key: keys.store,
    mustExist: found.storeCreated,
    now,
  })
  if (!found.storeCreated) await writeKeyFile(keyFile, { ...found, storeCreated: true })
  return { keys, ownKeys: keys, store }
}

type Contents = Pick<State, 'keys' | 'ownKeys' | 'store'>

async function openShared(directory: string, { master, ...options }: SharedStore): Promise<Contents> {
  const keyFile = path.join(directory, 'keys.json')
  let found = await readKeyFile(keyFile)
  if (found === undefined) {
    // A store that was here before must not be taken for one of other keys.
    await refuseStoreWithoutKeys(keyFile, path.join(directory, 'store.json'))
    found = { master: newMaster(), storeCreated: false }
    await writeKeyFile(keyFile, found)
  }
  const keys = keysFrom(master)
  const store = await openPostgresStore({
    ...options,
    key: keys.store,
    markFile: path.join(directory, 'store-seen.json'),
  })
  return { keys, ownKeys: keysFrom(found.master), store }
}

async function refuseStoreWithoutKeys(keyFile: string, storeFile: string): Promise<void> {
  try {
    await stat(storeFile)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return
    throw error
  }
  // Fail closed: new keys would make every stored approval and token of the old store unreadable, silently.
  throw new SallyportError(
    'ERR_STORE_FAILED',
    `${keyFile} is missing, and ${storeFile} cannot be read without it. Restore it from a backup, or, to begin anew ` +
      'without any token or ticket, move the whole state directory away.',
  )
}
