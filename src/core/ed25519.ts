import { createPrivateKey, type KeyObject } from 'node:crypto'

/** ASN.1 around an Ed25519 seed (RFC 8410, section 7). */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')

/**
 * The Ed25519 private key of a seed: the same seed is the same key, so gateways that share their secret show one key.
 *
 * @param seed 32 secret bytes
 */
export function ed25519KeyOf(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: 'der', type: 'pkcs8' })
}
