import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'

/** Key and certificate in PEM. */
export interface Certificate {
  readonly key: string
  readonly cert: string
}

/** Object identifiers in DER (RFC 5280, RFC 5758). */
const OID = {
  commonName: [0x55, 0x04, 0x03],
  ecdsaWithSha256: [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
  subjectAltName: [0x55, 0x1d, 0x11],
} as const

const DAY_MS = 86_400_000
const VALID_DAYS = 365

/**
 * Makes a certificate that proves nothing to anybody who does not know it: it lets clients of this machine encrypt to a
 * door that was given none. Node cannot make one, so its few fields are spelled out here (X.509 v3, RFC 5280).
 */
export function selfSigned(dnsNames: readonly string[], addresses: readonly (readonly number[])[] = []): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const algorithm = sequence(oid(OID.ecdsaWithSha256))
  const commonName = tlv(0x0c, Buffer.from(dnsNames[0] ?? 'localhost'))
  const name = sequence(tlv(0x31, sequence(oid(OID.commonName), commonName)))
  const now = Date.now()
  const altNames = sequence(
    ...dnsNames.map((dns) => tlv(0x82, Buffer.from(dns))),
    ...addresses.map((address) => tlv(0x87, Buffer.from(address))),
  )
  const body = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    algorithm,
    name,
    sequence(time(now - DAY_MS), time(now + VALID_DAYS * DAY_MS)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(sequence(oid(OID.subjectAltName), tlv(0x04, altNames)))),
  )
  const signature = Buffer.concat([Buffer.from([0]), sign('sha256', body, privateKey)])
  const lines = sequence(body, algorithm, tlv(0x03, signature)).toString('base64').replace(/.{64}/gu, '$&\n')
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
