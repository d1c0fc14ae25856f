/**
 * The key recordings are sealed with. Made at the first start, kept in the state directory, never sent anywhere; its
 * public half lies beside the recordings.
 *
 * @packageDocumentation
 */
import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync, hash, sign, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import fs from 'node:fs/promises'
import path from 'node:path'
import { SallyportError } from '../core/errors.ts'
import { recordingFailed } from './disk.ts'

/** Signs seals and checkpoints. */
export interface Signer {
  /** SHA-256 of the public key's SPKI DER form, first 32 hex digits. */
  readonly keyId: string
  /** The public key as PEM (SPKI). */
  readonly publicKey: string
  /** Ed25519 (RFC 8032) over the UTF-8 bytes of `text`; 128 lower-case hex digits. */
  sign(text: string): string
}

/** Folder of the public keys, in the recordings folder; one `<key id>.pem` per key ever used. */
export const KEYS_FOLDER = 'keys'

const PRIVATE_KEY_FILE = 'recording-key.pem'

/** Reads the signing key, or makes one at the first start. @throws SallyportError `ERR_CONFIG_INVALID`. */
export async function loadSigner(stateDir: string, recordingsDir: string): Promise<Signer> {
  const file = path.join(stateDir, PRIVATE_KEY_FILE)
  const pem = (await readOwned(file)) ?? (await makeKey(file))
  let privateKey: KeyObject
  try {
    privateKey = createPrivateKey(pem)
    if (privateKey.asymmetricKeyType !== 'ed25519') throw new Error('not an Ed25519 key')
  } catch (error) {
    // Fail closed: a new key in place of a damaged one would make old and new recordings look unrelated.
    throw new SallyportError(
      'ERR_CONFIG_INVALID',
      `${PRIVATE_KEY_FILE} in the state directory is no Ed25519 private key. Restore it, or move it away to start with a new key.`,
      { cause: error },
    )
  }
  const publicKey = createPublicKey(privateKey)
  const signer: Signer = {
    keyId: keyIdOf(publicKey),
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    sign: (text) => sign(null, Buffer.from(text), privateKey).toString('hex'),
  }
  await publish(signer, recordingsDir)
  return signer
}

/** Returns the id of a public key. */
export function keyIdOf(publicKey: KeyObject): string {
  return hash('sha256', publicKey.export({ type: 'spki', format: 'der' }), 'hex').slice(0, 32)
}

/** Reads public keys in PEM form and returns them by id. @throws SallyportError `ERR_CONFIG_INVALID`. */
export function publicKeysOf(pems: readonly string[]): ReadonlyMap<string, KeyObject> {
  return new Map(
    pems.map((pem) => {
      try {
        const key = createPublicKey(pem)
        if (key.asymmetricKeyType !== 'ed25519') throw new Error('not an Ed25519 key')
        return [keyIdOf(key), key]
      } catch (error) {
        throw new SallyportError('ERR_CONFIG_INVALID', 'The public key to verify with is no Ed25519 key in PEM form.', {
          cause: error,
        })
      }
    }),
  )
}

/** Whether `signature` (hex) is this key's over `text`. */
export function isSignedBy(key: KeyObject, text: string, signature: string): boolean {
  return verify(null, Buffer.from(text), key, Buffer.from(signature, 'hex'))
}

/** What is kept of a payload nobody understood: its length, and a keyed hash to recognise it by. */
export interface Fingerprint {
  /** Length in bytes; of a structured payload, of its JSON text. */
  readonly bytes: number
  /** HMAC-SHA-256 under a key that stays in the gateway, hex: without the key nobody can try guesses. */
  readonly hmac: string
}

/** Fingerprints a payload. One that has no JSON form has no bytes to speak of. */
export function fingerprint(key: Uint8Array, payload: unknown): Fingerprint {
  const bytes = bytesOf(payload)
  return { bytes: bytes.length, hmac: createHmac('sha256', key).update(bytes).digest('hex') }
}

function bytesOf(payload: unknown): Uint8Array {
  if (payload instanceof Uint8Array) return payload
  if (typeof payload === 'string') return Buffer.from(payload)
  try {
    return Buffer.from(JSON.stringify(payload) ?? '')
  } catch {
    return Buffer.alloc(0)
  }
}

async function readOwned(file: string): Promise<string | undefined> {
  let handle: fs.FileHandle
  try {
    handle = await fs.open(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw recordingFailed(error)
  }
  try {
    const { mode } = await handle.stat()
    if ((mode & 0o077) !== 0) {
      throw new SallyportError(
        'ERR_CONFIG_INVALID',
        `${PRIVATE_KEY_FILE} in the state directory is readable by others. Run chmod 600 on it; if somebody may have read it, replace it.`,
      )
    }
    return await handle.readFile('utf8')
  } finally {
    await handle.close()
  }
}

async function makeKey(file: string): Promise<string> {
  const { privateKey } = generateKeyPairSync('ed25519')
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  await writeDurably(file, pem)
  return pem
}

async function publish(signer: Signer, recordingsDir: string): Promise<void> {
  const folder = path.join(recordingsDir, KEYS_FOLDER)
  const file = path.join(folder, `${signer.keyId}.pem`)
  try {
    await fs.mkdir(folder, { recursive: true, mode: 0o700 })
    if ((await fs.readFile(file, 'utf8').catch(() => undefined)) !== signer.publicKey) {
      await writeDurably(file, signer.publicKey)
    }
  } catch (error) {
    throw recordingFailed(error)
  }
}

/** Replaces a small file whole: written beside, made durable, renamed. */
export async function writeDurably(file: string, text: string): Promise<void> {
  const beside = `${file}.new`
  await fs.rm(beside, { force: true })
  try {
    const handle = await fs.open(beside, 'wx', 0o600)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await fs.rename(beside, file)
  } catch (error) {
    throw recordingFailed(error)
  }
  const folder = await fs.open(path.dirname(file), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
