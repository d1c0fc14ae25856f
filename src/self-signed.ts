import { createHash, createPublicKey, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { ed25519KeyOf } from './core/ed25519.ts'

/** Key and certificate in PEM. */
export interface Certificate {
  readonly key: string
  readonly cert: string
}

/** Object identifiers in DER (RFC 5280, RFC 5758). */
const OID = {
  commonName: [0x55, 0x04, 0x03],
  ecdsaWithSha256: [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
  ed25519: [0x2b, 0x65, 0x70],
  subjectAltName: [0x55, 0x1d, 0x11],
} as const

const DAY_MS = 86_400_000
const VALID_DAYS = 365

/** Whose certificate it is. */
export interface CertificateNames {
  readonly dnsNames: readonly string[]
  readonly addresses?: readonly (readonly number[])[]
}

/**
 * Makes a certificate that proves nothing to anybody who does not know it: it lets clients of this machine encrypt to a
 * door that was given none. Node cannot make one, so its few fields are spelled out here (X.509 v3, RFC 5280).
 */
export function selfSigned(dnsNames: readonly string[], addresses: readonly (readonly number[])[] = []): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const now = Date.now()
  return certificateOf(
    { dnsNames, addresses },
    {
      privateKey,
      publicKey,
      algorithm: OID.ecdsaWithSha256,
      digest: 'sha256',
      serial: randomBytes(8),
      from: now - DAY_MS,
      until: now + VALID_DAYS * DAY_MS,
    },
  )
}

/**
 * The same certificate for the same seed and names, for clients that are told once which one to expect: it is the same
 * after a restart, and on every gateway that shares the seed. Its signature has no random part (Ed25519, RFC 8410).
 *
 * @param seed 32 secret bytes
 */
export function derivedCertificate(seed: Uint8Array, names: CertificateNames): Certificate {
  const privateKey = ed25519KeyOf(seed)
  const publicKey = createPublicKey(privateKey)
  const serial = createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest()
    .subarray(0, 8)
  return certificateOf(names, {
    privateKey,
    publicKey,
    algorithm: OID.ed25519,
    digest: undefined,
    serial,
    from: Date.UTC(2020, 0, 1),
    until: Date.UTC(2049, 0, 1),
  })
}

interface Signing {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  readonly algorithm: readonly number[]
  readonly digest: string | undefined
  readonly serial: Uint8Array
  /** In milliseconds since 1970; years up to 2049. */
  readonly from: number
  readonly until: number
}

function certificateOf({ dnsNames, addresses = [] }: CertificateNames, signing: Signing): Certificate {
  const { privateKey, publicKey, serial, from, until, digest } = signing
  const algorithm = sequence(oid(signing.algorithm))
  const commonName = tlv(0x0c, Buffer.from(dnsNames[0] ?? 'localhost'))
  const name = sequence(tlv(0x31, sequence(oid(OID.commonName), commonName)))
  const altNames = sequence(
    ...dnsNames.map((dns) => tlv(0x82, Buffer.from(dns))),
    ...addresses.map((address) => tlv(0x87, Buffer.from(address))),
  )
  const body = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, Buffer.concat([Buffer.from([1]), serial])),
    algorithm,
    name,
    sequence(time(from), time(until)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(sequence(oid(OID.subjectAltName), tlv(0x04, altNames)))),
  )
  const signature = Buffer.concat([Buffer.from([0]), sign(digest, body, privateKey)])
  const lines = sequence(body, algorithm, tlv(0x03, signature))
    .toString('base64')
    .replace(/.{64}(?!$)/gu, '$&\n')
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
  }
}

function tlv(tag: number, content: Buffer): Buffer {
  const { length } = content
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...size]), content])
}

function sequence(...items: readonly Buffer[]): Buffer {
  return tlv(0x30, Buffer.concat(items))
}

function oid(bytes: readonly number[]): Buffer {
  return tlv(0x06, Buffer.from(bytes))
}

/** UTCTime: two digits of the year, to the second. */
function time(at: number): Buffer {
  return tlv(0x17, Buffer.from(`${new Date(at).toISOString().replace(/^\d\d|[-:T]|\..*$/gu, '')}Z`))
}
