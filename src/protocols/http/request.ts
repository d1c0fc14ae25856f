/**
 * From what a caller asked for to the one request that is judged and sent.
 *
 * There is one parsed `URL`. Whatever two parsers could read apart is refused here, with the accepted form, instead of
 * being normalised: an agent that writes `/a/../b` shall learn that `/b` is what it means.
 *
 * @packageDocumentation
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { SallyportError } from '../../core/errors.ts'
import { isPlainAddress } from './addresses.ts'
import { isForwarded, type HeaderList } from './headers.ts'
import type { HttpOptions } from './options.ts'

/** What a call carries, whichever door it came through. */
export interface HttpPayload {
  readonly method: string
  /** Beneath the target's base URL, with its query. Either this or `url`. */
  readonly path?: string | undefined
  readonly url?: string | undefined
  readonly headers?: HeaderList | undefined
  /** The body's bytes in base64; left out when there is none or when it streams as the call's `input`. */
  readonly body?: string | undefined
  /** Asks for a WebSocket. */
  readonly upgrade?: Upgrade | undefined
}

/** A WebSocket that a caller asks for. */
export interface Upgrade {
  /** Subprotocols the caller can speak, the one it likes best first. */
  readonly protocols: readonly string[]
}

/** The request as it will be sent, but for the secret. */
export interface HttpRequest {
  readonly method: string
  readonly url: URL
  /** Set where the caller chose it: in lower case, without a final dot. */
  readonly host?: string
  /** What policies see: beneath the base URL. */
  readonly path: string
  readonly headers: HeaderList
  readonly body?: Uint8Array
  /** SHA-256 of the body in hexadecimal. */
  readonly bodyDigest?: string
  readonly upgrade?: Upgrade
}

const PATH_CHARS_MAX = 8192
const HEADERS_MAX = 64

const payloadSchema = z.strictObject({
  method: z.string().max(32),
  path: z.string().max(PATH_CHARS_MAX).optional(),
  url: z.string().max(PATH_CHARS_MAX).optional(),
  headers: z
    .array(z.tuple([z.string().max(128), z.string().max(8192)]))
    .max(HEADERS_MAX)
    .optional(),
  body: z.string().optional(),
  upgrade: z
    .strictObject({ protocols: z.array(z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/u)).max(8) })
    .optional(),
})

/** Methods with a meaning of their own (RFC 9110, RFC 5789). */
export const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

/** They reach past the request: what flows then can be neither judged nor masked, or it repeats the credential. */
const REFUSED = new Set(['CONNECT', 'TRACE', 'TRACK'])

const WITHOUT_BODY = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Reads a payload, not yet trusted.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`, naming what to write instead; `ERR_TOO_LARGE`.
 */
export function buildRequest(payload: unknown, options: HttpOptions): HttpRequest {
  const read = payloadSchema.safeParse(payload)
  if (!read.success) throw invalid('The request needs a method and a path or url, and headers as pairs of texts.')
  const { method, headers = [], body, upgrade } = read.data
  if (!/^[A-Z]{1,32}$/u.test(method)) throw invalid('The method must be upper-case letters, such as GET or POST.')
  if (REFUSED.has(method)) throw invalid(`${method} is not served; ask for the resource itself.`)
  if (upgrade !== undefined && method !== 'GET') throw invalid('A WebSocket begins with GET.')
  const place = placeOf(read.data, options)
  const bytes = body === undefined ? undefined : Buffer.from(body, 'base64')
  if (bytes !== undefined && bytes.length > 0 && WITHOUT_BODY.has(method)) {
    // Some servers read it as the next request on the connection.
    throw invalid(`A ${method} request has no body.`)
  }
  if (bytes !== undefined && bytes.length > options.requestBytesMax) {
    throw new SallyportError(
      'ERR_TOO_LARGE',
      `The body has more than the ${options.requestBytesMax} bytes this target takes.`,
    )
  }
  return {
    method,
    ...place,
    headers: checkHeaders(headers, options),
    ...(upgrade !== undefined && { upgrade }),
    ...(bytes !== undefined &&
      bytes.length > 0 && { body: bytes, bodyDigest: createHash('sha256').update(bytes).digest('hex') }),
  }
}

type Place = Pick<HttpRequest, 'url' | 'host' | 'path'>

function placeOf({ path, url }: Pick<HttpPayload, 'path' | 'url'>, { baseUrl, ports }: HttpOptions): Place {
  if ((path === undefined) === (url === undefined)) throw invalid('Give either a path or a url.')
  if (baseUrl === undefined) {
    if (url === undefined) throw invalid('This target is open egress: give a whole url.')
    return openPlace(url, ports)
  }
  if (path !== undefined) return pathBeneath(path, baseUrl)
  const prefix = baseUrl.origin + prefixOf(baseUrl)
  if (url?.startsWith(`${prefix}/`) !== true) {
    throw invalid('The url is not beneath the base URL of this target; give a path instead.')
  }
  return pathBeneath(url.slice(prefix.length), baseUrl)
}

function pathBeneath(path: string, baseUrl: URL): Place {
  checkText(path, 'path')
  if (!path.startsWith('/')) throw invalid('The path must start with a slash.')
  const whole = baseUrl.origin + prefixOf(baseUrl) + path
  const url = URL.canParse(whole) ? new URL(whole) : undefined
  if (url === undefined) throw invalid('The path is not valid.')
  const [pathname = ''] = path.split('?')
  // What was written must be what is meant: no dot segment may climb out of the base URL, in any spelling.
  if (url.pathname !== prefixOf(baseUrl) + pathname) {
    throw invalid('The path must be written as it is meant, without "." and ".." segments, also not in escapes.')
  }
  return { url, path: pathname }
}

function openPlace(text: string, ports: readonly number[]): Place {
  checkText(text, 'url')
  const url = URL.canParse(text) ? new URL(text) : undefined
  const [, written] = /^https?:\/\/[^/?]+([^?]*)/iu.exec(text) ?? []
  if (url === undefined || written === undefined) throw invalid('The url must be a whole http or https URL.')
  if (url.pathname !== (written === '' ? '/' : written)) {
    throw invalid('The path must be written as it is meant, without "." and ".." segments, also not in escapes.')
  }
  if (url.username !== '' || url.password !== '') throw invalid('The url must not hold a user or password.')
  // `localhost.` and `localhost` are one host.
  if (url.hostname.endsWith('.')) url.hostname = url.hostname.slice(0, -1)
  const host = url.hostname
  if (host === '' || host.endsWith('.')) throw invalid('The url has no host.')
  const port = portOf(url)
  if (!ports.includes(port))
    throw invalid(`Port ${port} is not among those this target may reach (${ports.join(', ')}).`)
  return { url, path: url.pathname, host: host.replace(/^\[|\]$/gu, '') }
}

function checkText(text: string, what: string): void {
  if (/[^\x21-\x7e]/u.test(text)) throw invalid(`The ${what} must be printable ASCII; write other characters as %XX.`)
  if (text.includes('\\')) throw invalid(`The ${what} must not hold a backslash.`)
  if (text.includes('#')) throw invalid(`The ${what} must not hold a fragment; write # as %23.`)
}

function checkHeaders(headers: HeaderList, options: HttpOptions): HeaderList {
  const seen = new Set<string>()
  const checked = headers.map(([given, value]): readonly [string, string] => {
    const name = given.toLowerCase()
    if (!isForwarded(name, options.allowHeaders)) {
      throw invalid(`The header ${spoken(given)} cannot be set by callers of this target.`)
    }
    if (/[^\t\x20-\x7e]/u.test(value)) throw invalid(`The header ${name} must be printable ASCII.`)
    // Of two, one server reads the first and another the last.
    if (seen.has(name)) throw invalid(`The header ${name} is given twice.`)
    seen.add(name)
    return [name, value.trim()]
  })
  const own = options.headers.filter(([name]) => !seen.has(name))
  return [...checked, ...own].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
}

/** The port a URL means. */
export function portOf(url: URL): number {
  return url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
}

/** The host of a URL as an address, when it is one. */
export function literalOf(url: URL): string | undefined {
  const host = url.hostname.replace(/^\[|\]$/gu, '')
  return isPlainAddress(host) ? host : undefined
}

/** The path of a base URL without its last slash. */
export function prefixOf(baseUrl: URL): string {
  return baseUrl.pathname.replace(/\/$/u, '')
}

/** A name a caller sent, as a message may repeat it. */
function spoken(name: string): string {
  return /^[A-Za-z0-9-]{1,64}$/u.test(name) ? name : 'of that name'
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
