import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { SallyportError } from '../../core/errors.ts'
import type { Where } from '../store.ts'

const FORMAT = 1
const NONCE_BYTES = 12
const TAG_BYTES = 16
const HEAD_BYTES = 1 + NONCE_BYTES + TAG_BYTES

/**
 * Documents as the database holds them: unreadable, and bound to their place.
 *
 * The database's administrators and its backups see collections, ids and versions, and nothing else. A value moved to
 * another id, edited, or made by somebody without the key does not open. What they can do is put an earlier value of the
 * same document back; the owner of the database is trusted with that as the owner of a state directory is.
 */
export interface DocumentSeal {
  /** Encrypts a document's JSON (AES-256-GCM, bound to collection and id). */
  seal(collection: string, id: string, json: string): Buffer
  /** @throws SallyportError `ERR_STORE_FAILED` when it is not what was sealed under this place and key. */
  open(collection: string, id: string, sealed: Uint8Array): string
  /** Tokens under which a document can be found by the fields at its top: each is an HMAC, so equal values look equal and nothing more. */
  tokens(collection: string, fields: Where): readonly string[]
  /** Proves to an instance that it has the key this store was made with. */
  readonly proof: string
}

/** Builds the seal from the store's key. */
export function documentSeal(key: Uint8Array): DocumentSeal {
  const derive = (label: string): Uint8Array => new Uint8Array(hkdfSync('sha256', key, '', `document/${label}`, 32))
  const secret = derive('seal')
  const index = derive('index')
  return {
    seal(collection, id, json) {
      const nonce = randomBytes(NONCE_BYTES)
      const cipher = createCipheriv('aes-256-gcm', secret, nonce)
      cipher.setAAD(placeOf(collection, id))
      const body = Buffer.concat([cipher.update(json, 'utf8'), cipher.final()])
      return Buffer.concat([Buffer.of(FORMAT), nonce, cipher.getAuthTag(), body])
    },
    open(collection, id, sealed) {
      const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
      try {
        if (bytes.length < HEAD_BYTES || bytes[0] !== FORMAT) throw new Error('not a sealed document')
        const decipher = createDecipheriv('aes-256-gcm', secret, bytes.subarray(1, 1 + NONCE_BYTES), {
          authTagLength: TAG_BYTES,
        })
        decipher.setAAD(placeOf(collection, id))
        decipher.setAuthTag(bytes.subarray(1 + NONCE_BYTES, HEAD_BYTES))
        return Buffer.concat([decipher.update(bytes.subarray(HEAD_BYTES)), decipher.final()]).toString('utf8')
      } catch (error) {
        throw new SallyportError(
          'ERR_STORE_FAILED',
          `The document ${id} of ${collection} in the shared store was changed by somebody without its key, or moved.`,
          { cause: error },
        )
      }
    },
    tokens(collection, fields) {
      return Object.entries(fields).map(([name, value]) => {
        const text = JSON.stringify([collection, name, value])
        return createHmac('sha256', index).update(text).digest('base64url').slice(0, 22)
      })
    },
    proof: createHmac('sha256', derive('proof')).update('sallyport').digest('hex'),
  }
}

/** The fields of a document that a list can ask for: short values at its top. */
export function indexedFields(value: object): Where {
  const fields: Record<string, string | number | boolean> = {}
  for (const [name, field] of Object.entries(value)) {
    if (typeof field === 'boolean' || typeof field === 'number') fields[name] = field
    if (typeof field === 'string' && field.length <= INDEXED_CHARS_MAX) fields[name] = field
  }
  return fields
}

/** Longer texts are never asked for by equality. */
export const INDEXED_CHARS_MAX = 200

function placeOf(collection: string, id: string): Buffer {
  return Buffer.from(`${collection}\0${id}`)
}
