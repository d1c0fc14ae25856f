/**
 * Which addresses a request may go to. Judged are addresses, never names: a name says only what its owner wants it to
 * say at this moment.
 *
 * @packageDocumentation
 */
import ipaddr from 'ipaddr.js'

type Address = ipaddr.IPv4 | ipaddr.IPv6

/** A range of addresses in CIDR notation (RFC 4632), parsed. */
export interface AddressRange {
  readonly text: string
  readonly base: Address
  readonly bits: number
}

/**
 * Where clouds hand out credentials to whoever asks. Refused even inside a range an operator allowed; a single address
 * must be named to be reached.
 */
const METADATA = [
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  '169.254.0.23',
  '169.254.42.42',
  '100.100.100.200',
  '192.0.0.192',
  '168.63.129.16',
  'fd00:ec2::254',
  'fd00:ec2::23',
  'fd20:ce::254',
  'fd00:42::42',
].map((text) => ipaddr.parse(text))
const METADATA_TEXTS = new Set(METADATA.map((address) => address.toNormalizedString()))
const METADATA_IPV4 = METADATA.filter((address) => address.kind() === 'ipv4').map((address) => address.toByteArray())

/** Ranges `ipaddr.js` counts as ordinary and that are not: benchmarks, protocol assignments, documentation, old relays. */
const NOT_PUBLIC = [
  '192.0.0.0/24',
  '192.88.99.0/24',
  '198.18.0.0/15',
  '::/96',
  '64:ff9b:1::/48',
  '2001:db8::/32',
  '3fff::/20',
  '5f00::/16',
].map((text) => ipaddr.parseCIDR(text))

/** Reads `10.0.0.0/8` or a single address; `undefined` when it is neither. */
export function parseRange(text: string): AddressRange | undefined {
  const [address = '', bits, ...more] = text.split('/')
  // Only the written-out form: `127.1` and `0x7f000001` are addresses to some readers and names to others.
  if (more.length > 0 || !isPlainAddress(address)) return undefined
  const base = ipaddr.parse(address)
  const most = base.kind() === 'ipv4' ? 32 : 128
  if (bits === undefined) return { text, base, bits: most }
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > most) return undefined
  return { text, base, bits: Number(bits) }
}

/** Whether a text is an IP address in its plain form: four decimal numbers, or IPv6 without a zone. */
export function isPlainAddress(text: string): boolean {
  return (
    ipaddr.IPv4.isValidFourPartDecimal(text) || (text.includes(':') && !text.includes('%') && ipaddr.IPv6.isValid(text))
  )
}

/**
 * Says why an address must not be reached, or nothing when it may.
 *
 * @param allowed ranges an operator named for this target. Without any, only public unicast addresses may be reached.
 */
export function refuseAddress(text: string, allowed: readonly AddressRange[]): string | undefined {
  // Fail closed: what is no plain address cannot be judged as one.
  if (!isPlainAddress(text)) return 'is not an IP address'
  // An IPv4 address inside an IPv6 one is the same host.
  const address = ipaddr.process(text)
  const isNamed = allowed.some(({ base, bits }) => bits === widthOf(address) && contains(base, bits, address))
  if (isMetadata(address) && !isNamed) return 'is a metadata service'
  if (allowed.length > 0) {
    return allowed.some(({ base, bits }) => contains(base, bits, address)) ? undefined : 'is not among allow_addresses'
  }
  return isPublic(address) ? undefined : 'is not a public address'
}

/**
 * Whether an address is, or leads to, a metadata service: translation (RFC 6052, also with prefixes of a network's own) and
 * tunnels (6to4, ISATAP, Teredo) carry an IPv4 address in some four bytes of an IPv6 one.
 */
function isMetadata(address: Address): boolean {
  if (METADATA_TEXTS.has(address.toNormalizedString())) return true
  if (address.kind() === 'ipv4') return false
  const bytes = address.toByteArray()
  // RFC 6052, section 2.2 leaves bits 64 to 71 out of the address it carries; Teredo turns all bits of it over.
  const skipping = bytes.filter((_, at) => at !== 8)
  return METADATA_IPV4.some((inner) => {
    const turned = inner.map((byte) => 255 - byte)
    return holds(bytes, inner) || holds(skipping, inner) || holds(bytes.slice(12), turned)
  })
}

function holds(bytes: readonly number[], part: readonly number[]): boolean {
  return bytes.some((_, start) => part.every((byte, at) => bytes[start + at] === byte))
}

function isPublic(address: Address): boolean {
  // `unicast` leaves out loopback, private, link-local, shared, multicast, reserved, NAT64, 6to4 and Teredo.
  if (address.range() !== 'unicast') return false
  return !NOT_PUBLIC.some(([base, bits]) => contains(base, bits, address))
}

function contains(base: Address, bits: number, address: Address): boolean {
  return base.kind() === address.kind() && address.match(base, bits)
}

function widthOf(address: Address): number {
  return address.kind() === 'ipv4' ? 32 : 128
}
