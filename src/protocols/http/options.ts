import { z } from 'zod'
import { durationMs, sizeBytes } from '../shared/measure.ts'
import { isPlainAddress, parseRange, refuseAddress, type AddressRange } from './addresses.ts'
import { neverForwarded } from './headers.ts'

/** Settings of one HTTP target, complete. Holds no secret. */
export interface HttpOptions {
  /** The service everything beneath which this target is; without one the target is open egress. */
  readonly baseUrl?: URL
  /** How the secret proves us to the service. Open egress has none. */
  readonly auth: HttpAuth
  /** Addresses the service may have. Empty: any public one. */
  readonly allowAddresses: readonly AddressRange[]
  /** Ports open egress may use. */
  readonly ports: readonly number[]
  readonly tls: { readonly caFile?: string; readonly serverName?: string }
  /** Lower-case names of request headers let through besides the usual ones. */
  readonly allowHeaders: ReadonlySet<string>
  /** Headers every request carries, set by the operator. */
  readonly headers: readonly (readonly [string, string])[]
  /** What becomes of a response that is not text. */
  readonly binary: 'refuse' | 'allow'
  readonly connectionsMax: number
  readonly connectTimeoutMs: number
  /** Until the response's headers are complete, and between two pieces of its body. */
  readonly responseTimeoutMs: number
  readonly requestBytesMax: number
  /** Bytes of a response, decoded, when neither policy nor caller says less. */
  readonly bytesMax: number
}

/** Where the secret stands in a request. */
export type HttpAuth =
  | { readonly kind: 'none' }
  | { readonly kind: 'bearer' }
  | { readonly kind: 'basic' }
  /** `prefix` stands before the secret, such as `Token `. */
  | { readonly kind: 'header'; readonly name: string; readonly prefix: string }

const MIB = 1024 ** 2

/** A field name (RFC 9110, section 5.1), in the only case HTTP/2 has. */
const headerName = z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/u, 'must be the name of a header')
const headerValue = z
  .string()
  .max(4096)
  .regex(/^[\t\x20-\x7e]*$/u, 'must be printable ASCII')

const forwardable = headerName
  .transform((name) => name.toLowerCase())
  .refine((name) => !neverForwarded(name), 'is a header a caller may never set')

const range = z.string().transform((text, context): AddressRange => {
  const parsed = parseRange(text)
  if (parsed !== undefined) return parsed
  context.addIssue({ code: 'custom', message: 'must be an address or a range such as 10.1.0.0/16' })
  return z.NEVER
})

const auth = z.union(
  [
    z.enum(['none', 'bearer', 'basic']).transform((kind): HttpAuth => ({ kind })),
    z
      .strictObject({ header: headerName, prefix: headerValue.default('') })
      .transform(({ header, prefix }): HttpAuth => ({ kind: 'header', name: header.toLowerCase(), prefix })),
  ],
  { error: 'must be none, bearer, basic or {header: name, prefix: text}' },
)

/** The protocol's own keys of a target in the configuration. */
export const httpSchema = z
  .strictObject({
    base_url: z.string().optional(),
    open: z.literal(true, { error: 'must be true, or left out' }).optional(),
    auth: auth.optional(),
    allow_addresses: z.array(range).max(100).default([]),
    ports: z.array(z.int().min(1).max(65_535)).min(1).max(100).optional(),
    tls: z.strictObject({ ca: z.string().min(1).optional(), server_name: z.string().min(1).optional() }).default({}),
    allow_headers: z.array(forwardable).max(100).default([]),
    headers: z.record(headerName, headerValue).default({}),
    binary: z.enum(['refuse', 'allow']).default('refuse'),
    connections: z.int().min(1).max(1000).default(64),
    connect_timeout: durationMs('10s').default(10_000),
    response_timeout: durationMs('30s').default(30_000),
    request_bytes: sizeBytes('1MiB').default(MIB),
    bytes: sizeBytes('1MiB').default(MIB),
  })
  .superRefine((target, context) => {
    const wrong = (path: string, message: string): void => context.addIssue({ code: 'custom', path: [path], message })
    if ((target.base_url === undefined) === (target.open === undefined)) {
      wrong('base_url', 'must name the service, or else open: true says that any public host may be reached')
      return
    }
    if (target.open === true) {
      // A secret goes to one service only; open egress reaches anybody.
      if (target.auth !== undefined && target.auth.kind !== 'none') wrong('auth', 'cannot be used with open: true')
      if (target.allow_addresses.length > 0) {
        wrong('allow_addresses', 'cannot be used with open: true; make an internal service a target of its own')
      }
      if (Object.keys(target.headers).length > 0) wrong('headers', 'cannot be used with open: true')
      return
    }
    if (target.ports !== undefined) wrong('ports', 'belongs to open: true')
    const problem = problemOfBase(target.base_url ?? '', target.allow_addresses)
    if (problem !== undefined) wrong('base_url', problem)
  })

type Checked = z.output<typeof httpSchema>

/** Completes what the schema checked. `resolvePath` makes a path of the configuration absolute. */
export function httpOptions(checked: Checked, resolvePath: (path: string) => string = (path) => path): HttpOptions {
  return {
    ...(checked.base_url !== undefined && { baseUrl: new URL(checked.base_url) }),
    auth: checked.auth ?? { kind: 'none' },
    allowAddresses: checked.allow_addresses,
    ports: checked.ports ?? [80, 443],
    tls: {
      ...(checked.tls.ca !== undefined && { caFile: resolvePath(checked.tls.ca) }),
      ...(checked.tls.server_name !== undefined && { serverName: checked.tls.server_name }),
    },
    allowHeaders: new Set(checked.allow_headers),
    headers: Object.entries(checked.headers).map(([name, value]) => [name.toLowerCase(), value]),
    binary: checked.binary,
    connectionsMax: checked.connections,
    connectTimeoutMs: checked.connect_timeout,
    responseTimeoutMs: checked.response_timeout,
    requestBytesMax: checked.request_bytes,
    bytesMax: checked.bytes,
  }
}

/** Names the service an approval holds for, so that it cannot move to another one (C11). */
export function endpointOf(options: HttpOptions): string {
  const { baseUrl, allowAddresses, tls } = options
  if (baseUrl === undefined) return `http://*:${options.ports.join(',')}`
  const addresses = allowAddresses.map(({ text }) => text).join(',')
  return `${baseUrl.href}?addresses=${addresses}&server_name=${encodeURIComponent(tls.serverName ?? '')}`
}

/** What the configuration needs of this protocol: the keys of a target, and how they become its options. */
export const HTTP_SETTINGS = {
  schema: httpSchema,
  finish(raw: unknown, resolvePath: (path: string) => string) {
    const options = httpOptions(raw as Checked, resolvePath)
    return { options, endpoint: endpointOf(options) }
  },
} as const

function problemOfBase(text: string, allowed: readonly AddressRange[]): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/u.test(url.protocol)) return 'must be an http or https URL'
  if (url.username !== '' || url.password !== '') return 'must not hold a password; name one under credential'
  if (url.search !== '' || url.hash !== '') return 'must not have a query or a fragment'
  // What was written must be what is meant: no dot segments, no other spelling of an address.
  if (url.href !== text && url.href !== `${text}/`) return `is another spelling of ${url.href}; write that`
  if (/%|\/\//u.test(url.pathname)) return 'must have a plain path'
  const host = url.hostname.replace(/^\[|\]$/gu, '')
  const refused = isPlainAddress(host) ? refuseAddress(host, allowed) : undefined
  return refused === undefined ? undefined : `${host} ${refused}; add it to allow_addresses to mean it`
}
