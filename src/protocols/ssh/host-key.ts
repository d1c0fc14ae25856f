import { createPublicKey } from 'node:crypto'
import { ed25519KeyOf } from '../../core/ed25519.ts'

/**
 * Makes the gateway's own host key of 32 secret bytes, in the form OpenSSH keeps private keys in (PROTOCOL.key). Gateways
 * that share their keys show clients one and the same host.
 */
export function hostKeyFrom(seed: Uint8Array): string {
  const jwk = createPublicKey(ed25519KeyOf(seed)).export({ format: 'jwk' })
  const point = Buffer.from(jwk.x ?? '', 'base64url')
  const publicBlob = Buffer.concat([field('ssh-ed25519'), field(point)])
  // Two equal numbers say that the key was decrypted rightly; it is not encrypted, so any will do.
  const check = Buffer.alloc(8)
  const inner = Buffer.concat([
    check,
    field('ssh-ed25519'),
    field(point),
    field(Buffer.concat([seed, point])),
    field('sallyport'),
  ])
  const padding = Buffer.from(Array.from({ length: (8 - (inner.length % 8)) % 8 }, (_, index) => index + 1))
  const body = Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    field('none'),
    field('none'),
    field(''),
    uint32(1),
    field(publicBlob),
    field(Buffer.concat([inner, padding])),
  ])
  const lines = body.toString('base64').match(/.{1,70}/gu) ?? []
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines.join('\n')}\n-----END OPENSSH PRIVATE KEY-----\n`
}

function field(value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([uint32(bytes.length), bytes])
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
