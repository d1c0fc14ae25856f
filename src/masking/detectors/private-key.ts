import type { Detector } from './detector.ts'

/**
 * Private keys in PEM, OpenSSH, PGP and SSH2 armour. They span lines and may come without their end, so the text
 * masker follows them with `key-block.ts`; this entry declares the kind and says when that is worth while.
 */
export const privateKey: Detector = {
  kind: 'private_key',
  summary: 'Private keys in PEM, OpenSSH, PGP and SSH2 armour, also truncated ones.',
  trigger: (text) => text.includes('PRIVATE KEY'),
  find: () => undefined,
}
