import ipaddr from 'ipaddr.js'
import type { Part } from '../../core/action.ts'
import { unknownPart } from './findings.ts'

/** Where a client wants to be connected to, as it is judged and as it is sent. */
export interface Destination {
  /** `host:port`, with brackets around an IPv6 address. */
  readonly name: string
  readonly host: string
  readonly port: number
}

/** A name of DNS in lower case whose last label is no number: a resolver would read such a one as an address. */
const NAME =
  /^(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*(?![0-9]+$|0x)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/u

/**
 * Reads where to. An address has many spellings (`127.1`, `0x7f000001`, `::ffff:127.0.0.1`), and a rule is about one of
 * them: anything but the usual one is not understood.
 */
export function destinationOf(host: string, port: number): Destination | undefined {
  const spelled = host.toLowerCase().replace(/\.$/u, '')
  if (ipaddr.IPv4.isValidFourPartDecimal(spelled)) {
    return ipaddr.IPv4.parse(spelled).toString() === spelled
      ? { name: `${spelled}:${port}`, host: spelled, port }
      : undefined
  }
  if (ipaddr.IPv6.isValid(spelled)) {
    const address = ipaddr.IPv6.parse(spelled)
    if (spelled.includes('%') || address.isIPv4MappedAddress()) return undefined
    const usual = address.toRFC5952String()
    return { name: `[${usual}]:${port}`, host: usual, port }
  }
  return NAME.test(spelled) ? { name: `${spelled}:${port}`, host: spelled, port } : undefined
}

/** What a forwarding does. */
export function forwardParts(host: string, port: number): readonly Part[] {
  const destination = destinationOf(host, port)
  if (destination === undefined) {
    return [unknownPart(['Where it wants to be connected to is neither a name nor an address in its usual spelling.'])]
  }
  return [
    {
      verb: 'ssh.forward',
      resource: { type: 'argv', argv: [destination.name] },
      attributes: { host: destination.host, port },
    },
  ]
}
