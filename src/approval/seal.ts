import { createCipheriv, createDecipheriv, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { SallyportError } from '../core/errors.ts'
import { canonicalJson } from './canonical.ts'
import type { Vote } from './ticket.ts'

const FORMAT = 1
const NONCE_BYTES = 12
const TAG_BYTES = 16

/**
 * Encrypts bytes for the store (AES-256-GCM). `label` says what they are; opened under another label they are refused, so
 * that nobody can put one ticket's result in the place of another's.
 */
export function seal(plain: Uint8Array, key: Uint8Array, label: string): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, nonce)
  cipher.setAAD(Buffer.from(label))
  const body = Buffer.concat([cipher.update(plain), cipher.final()])
  return Buffer.concat([Buffer.of(FORMAT), nonce, cipher.getAuthTag(), body])
}

/**
 * Decrypts what {@link seal} made.
 *
 * @throws SallyportError `ERR_STORE_FAILED` when it was damaged, exchanged, or sealed with another key.
 */
export function unseal(sealed: Uint8Array, key: Uint8Array, label: string): Uint8Array {
  const bytes = Buffer.from(sealed)
  const bodyAt = 1 + NONCE_BYTES + TAG_BYTES
  try {
    if (bytes.length < bodyAt || bytes[0] !== FORMAT) throw new Error('not a sealed payload')
    const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(1, 1 + NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    })
    decipher.setAAD(Buffer.from(label))
    decipher.setAuthTag(bytes.subarray(1 + NONCE_BYTES, bodyAt))
    return Buffer.concat([decipher.update(bytes.subarray(bodyAt)), decipher.final()])
  } catch (error) {
    throw new SallyportError('ERR_STORE_FAILED', 'A stored payload is damaged and cannot be used.', { cause: error })
  }
}

/** Signs a vote for one ticket. */
export function signVote(vote: Omit<Vote, 'mac'>, ticket: string, key: Uint8Array): Vote {
  return { ...vote, mac: macOf(vote, ticket, key).toString('hex') }
}

/** Whether this gateway's own key signed the vote, for this ticket and with just these words. */
export function isSigned({ mac, ...vote }: Vote, ticket: string, key: Uint8Array): boolean {
  const stated = Buffer.from(mac, 'hex')
  const actual = macOf(vote, ticket, key)
  return stated.length === actual.length && timingSafeEqual(stated, actual)
}

function macOf(vote: Omit<Vote, 'mac'>, ticket: string, key: Uint8Array): Buffer {
  return createHmac('sha256', key)
    .update(canonicalJson({ ...vote, ticket }))
    .digest()
}
