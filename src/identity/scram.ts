import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'

/**
 * What proves a token by SCRAM-SHA-256 (RFC 5802, RFC 7677) without being the token: the keys PostgreSQL, too, would keep
 * of a password. In base64.
 */
export interface ScramVerifier {
  readonly storedKey: string
  readonly serverKey: string
}

/** As PostgreSQL's own default. A token has 256 random bits, so more would protect nothing more. */
export const SCRAM_ITERATIONS = 4096

const KEY_BYTES = 32
const SALT_BYTES = 16
const derive = promisify(pbkdf2)

/**
 * The salt of a principal. It comes from a key of ours, so that one that does not exist has one too, and the same each
 * time: nobody learns by asking who there is.
 */
export function saltOf(key: Uint8Array, principal: string): Buffer {
  return createHmac('sha256', key).update(principal).digest().subarray(0, SALT_BYTES)
}

/** Makes the verifier of a token. */
export async function verifierOf(token: string, salt: Uint8Array): Promise<ScramVerifier> {
  const salted = await derive(token, salt, SCRAM_ITERATIONS, KEY_BYTES, 'sha256')
  const clientKey = hmac(salted, 'Client Key')
  return {
    storedKey: createHash('sha256').update(clientKey).digest('base64'),
    serverKey: hmac(salted, 'Server Key').toString('base64'),
  }
}

/** A verifier no proof fits, to spend the same time on. */
export function nobodysVerifier(): ScramVerifier {
  return { storedKey: randomBytes(KEY_BYTES).toString('base64'), serverKey: randomBytes(KEY_BYTES).toString('base64') }
}

/** Returns the server's own proof when the client's is right, else `undefined`. */
export function prove(verifier: ScramVerifier, authMessage: string, proof: Uint8Array): Buffer | undefined {
  const storedKey = Buffer.from(verifier.storedKey, 'base64')
  const signature = hmac(storedKey, authMessage)
  if (proof.length !== signature.length) return undefined
  const clientKey = signature.map((byte, index) => byte ^ (proof[index] ?? 0))
  const isRight = timingSafeEqual(createHash('sha256').update(clientKey).digest(), storedKey)
  return isRight ? hmac(Buffer.from(verifier.serverKey, 'base64'), authMessage) : undefined
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}
