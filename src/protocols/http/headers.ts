/**
 * Which header fields cross the gateway, in both directions.
 *
 * Toward the service an allow-list: a header nobody thought of may choose another host, method, path or user for some
 * server behind the one we speak to. Toward the caller everything but what belongs to one connection or sets a cookie.
 *
 * @packageDocumentation
 */

/** Field names and values in order, names in lower case. */
export type HeaderList = readonly (readonly [name: string, value: string])[]

/** Says something about the message and nothing about who, where or how it is sent. */
const FORWARDED = new Set([
  'accept',
  'accept-language',
  'cache-control',
  'content-language',
  'content-type',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-unmodified-since',
  'idempotency-key',
  'pragma',
  'prefer',
  'traceparent',
  'tracestate',
  'user-agent',
  'x-request-id',
  'x-correlation-id',
])

/** No operator can let these through: identity, routing, framing, and what makes one request mean another. */
const NEVER = new Set([
  'accept-encoding', // what comes back must be readable here
  'authorization',
  'connection',
  'content-encoding', // what was judged must be what the service reads
  'content-length',
  'cookie',
  'cookie2',
  'date',
  'expect',
  'forwarded',
  'front-end-https',
  'host',
  'http2-settings',
  'if-range', // a value read in two halves is two texts no detector knows
  'keep-alive',
  'max-forwards',
  'origin',
  'range',
  'referer',
  'te',
  'trailer',
  'transfer-encoding',
  'true-client-ip',
  'upgrade',
  'via',
])
const NEVER_PREFIXES = [
  'proxy-',
  'sec-',
  'x-forwarded',
  'x-http-method',
  'x-method',
  'x-original',
  'x-rewrite',
  'x-real-ip',
  'x-client-ip',
  'x-cluster-client-ip',
  'x-host',
  'x-envoy-',
  'cf-connecting-ip',
]

/** Whether a caller can never set this header, whatever an operator allows. */
export function neverForwarded(name: string): boolean {
  return NEVER.has(name) || NEVER_PREFIXES.some((prefix) => name.startsWith(prefix)) || name.includes('_')
}

/** Whether a caller may set this header. */
export function isForwarded(name: string, allowed: ReadonlySet<string>): boolean {
  return !neverForwarded(name) && (FORWARDED.has(name) || allowed.has(name))
}

/** Belongs to one connection (RFC 9110, section 7.6.1), frames the body, or holds a session no agent should carry. */
const NOT_RETURNED = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'content-length',
  'content-encoding',
  'set-cookie',
  'set-cookie2',
  'alt-svc',
  'strict-transport-security',
  'public-key-pins',
  'clear-site-data',
  'refresh',
])

/** What the gateway says itself: a service that could say it too would make up tickets and stored answers. */
const OWN_PREFIX = 'sallyport-'

/** Header fields of a response that its caller may see. */
export function returnedHeaders(raw: HeaderList): HeaderList {
  const named = new Set<string>()
  for (const [name, value] of raw) {
    if (name === 'connection') for (const option of value.split(',')) named.add(option.trim().toLowerCase())
  }
  return raw.filter(([name]) => !NOT_RETURNED.has(name) && !named.has(name) && !name.startsWith(OWN_PREFIX))
}

/** All values of a header as one list (RFC 9110, section 5.3), or `undefined`. */
export function listOf(headers: HeaderList, name: string): string | undefined {
  const values = headers.filter(([given]) => given === name).map(([, value]) => value)
  return values.length === 0 ? undefined : values.join(', ')
}

/** The first value of a header, or `undefined`. */
export function headerOf(headers: HeaderList, name: string): string | undefined {
  return headers.find(([given]) => given === name)?.[1]
}
