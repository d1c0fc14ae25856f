import { createHash } from 'node:crypto'
import type { Algorithms } from 'ssh2'

/**
 * What both sides of the gateway offer. Only AES-GCM: it is authenticated encryption of whole packets, so cutting packets
 * out of the handshake (CVE-2023-48795) breaks it whether or not the other side knows strict key exchange, which is
 * offered besides. Nothing with SHA-1, no CBC, no group below 2048 bits.
 */
export const ALGORITHMS = {
  kex: [
    'curve25519-sha256',
    'curve25519-sha256@libssh.org',
    'ecdh-sha2-nistp256',
    'ecdh-sha2-nistp384',
    'ecdh-sha2-nistp521',
    'diffie-hellman-group16-sha512',
    'diffie-hellman-group14-sha256',
  ],
  cipher: ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com'],
  serverHostKey: [
    'ssh-ed25519',
    'ecdsa-sha2-nistp256',
    'ecdsa-sha2-nistp384',
    'ecdsa-sha2-nistp521',
    'rsa-sha2-512',
    'rsa-sha2-256',
  ],
  compress: ['none'],
} as const satisfies Algorithms | Record<string, readonly string[]>

/** The same in the form ssh2 wants. */
export function algorithms(): Algorithms {
  return {
    kex: [...ALGORITHMS.kex],
    cipher: [...ALGORITHMS.cipher],
    serverHostKey: [...ALGORITHMS.serverHostKey],
    compress: [...ALGORITHMS.compress],
  }
}

/** A key's fingerprint as OpenSSH prints it. */
export function fingerprintOf(key: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/u, '')}`
}
