import { hkdfSync, randomBytes } from 'node:crypto'
import { lstat, readFile } from 'node:fs/promises'
import { SallyportError } from '../core/errors.ts'
import { writeDurably } from './durable-file.ts'
import { errnoOf } from './store.ts'

/**
 * The keys of one gateway, all derived from one 32-byte master key (HKDF-SHA-256, RFC 5869), each for one use, so that
 * what one of them signs or hides means nothing under another.
 */
export interface Keys {
  /** HMAC key of approval digests (C11). */
  readonly digest: Uint8Array
  /** HMAC key under which votes are signed. */
  readonly votes: Uint8Array
  /** AES-256 key for stored requests and results. */
  readonly payload: Uint8Array
  /** HMAC key of the `hash` transform in `masking/`. */
  readonly mask: Uint8Array
  /** HMAC key of the store file. */
  readonly store: Uint8Array
  /** Returns 32 bytes for another use; the label must be its own. */
  derive(label: string): Uint8Array
}

/** Derives the keys from a master key. */
export function keysFrom(master: Uint8Array): Keys {
  const derive = (label: string): Uint8Array => {
    return new Uint8Array(hkdfSync('sha256', master, '', `sallyport/${label}`, 32))
  }
  return {
    digest: derive('digest'),
    votes: derive('votes'),
    payload: derive('payload'),
    mask: derive('mask'),
    store: derive('store'),
    derive: (label) => derive(`other/${label}`),
  }
}

/**
 * Reads a master key that instances share: 32 bytes in base64.
 *
 * @throws SallyportError `ERR_CONFIG_INVALID`, which says how to make one and nothing of what it found.
 */
export function parseMaster(text: string): Uint8Array {
  const bytes = Buffer.from(text.trim(), 'base64')
  if (bytes.length === 32 && bytes.toString('base64') === text.trim()) return bytes
  throw new SallyportError(
    'ERR_CONFIG_INVALID',
    'The key of the shared store must be 32 random bytes in base64. Make one with: openssl rand -base64 32',
  )
}

/** What the key file says. */
export interface KeyFile {
  readonly master: Uint8Array
  /** Whether the store was created with these keys, so that a missing store file is noticed. */
  readonly storeCreated: boolean
}

/**
 * Reads the key file, or returns `undefined` when there is none.
 *
 * @throws SallyportError `ERR_STORE_FAILED` when others may read it or it is damaged.
 */
export async function readKeyFile(file: string): Promise<KeyFile | undefined> {
  let text: string
  try {
    const { mode, uid } = await lstat(file)
    if ((mode & 0o077) !== 0 || uid !== process.getuid?.()) {
      throw new SallyportError(
        'ERR_STORE_FAILED',
        `${file} can be read by others. Run: chown ${process.getuid?.()} ${file} && chmod 600 ${file}`,
      )
    }
    text = await readFile(file, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    if (error instanceof SallyportError) throw error
    throw new SallyportError('ERR_STORE_FAILED', `${file} cannot be read (${errnoOf(error)}).`, { cause: error })
  }
  return parse(text, file)
}

/** Makes a new key file, or marks an existing one. */
export async function writeKeyFile(file: string, { master, storeCreated }: KeyFile): Promise<void> {
  const content = { format: 1, master: Buffer.from(master).toString('base64'), store_created: storeCreated }
  await writeDurably(file, `${JSON.stringify(content)}\n`)
}

/** Returns a fresh master key. */
export function newMaster(): Uint8Array {
  return randomBytes(32)
}

function parse(text: string, file: string): KeyFile {
  try {
    const content: unknown = JSON.parse(text)
    if (typeof content === 'object' && content !== null && 'format' in content && content.format === 1) {
      const master = 'master' in content && typeof content.master === 'string' ? content.master : ''
      const bytes = Buffer.from(master, 'base64')
      if (bytes.length === 32 && 'store_created' in content) {
        return { master: bytes, storeCreated: content.store_created === true }
      }
    }
  } catch {
    // Said below, without the text: a damaged key file may still hold a key.
  }
  throw new SallyportError('ERR_STORE_FAILED', `${file} is damaged. Restore it from a backup.`)
}
