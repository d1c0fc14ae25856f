/**
 * Sends exactly the planned request and yields what comes back: the headers a caller may see, then the body in pieces,
 * decoded, bounded, and without the secret it was sent with.
 *
 * @packageDocumentation
 */
import { Readable } from 'node:stream'
import type { Dispatcher } from 'undici'
import type { Call, Permit, Secret } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { vettedAddresses, type Lookup } from './connect-addresses.ts'
import { decoded } from './connect-decode.ts'
import { mapError } from './connect-errors.ts'
import type { Pools } from './connect-pool.ts'
import { createEchoFilter, type EchoFilter } from './echo.ts'
import { isTextual } from './media.ts'
import { headerOf, returnedHeaders, type HeaderList } from './headers.ts'
import { redirectOf } from './redirect.ts'
import type { HttpOptions } from './options.ts'
import type { HttpPlan } from './plan.ts'

/** What sending takes besides the plan. */
export interface Sending {
  readonly call: Call
  readonly plan: HttpPlan
  readonly permit: Permit
  readonly secret: Secret
  readonly options: HttpOptions
  readonly pools: Pools
  readonly lookup: Lookup
}

/** A service that is reached under several addresses is tried at so many. */
const ADDRESSES_TRIED_MAX = 4

/**
 * Sends one request.
 *
 * @throws SallyportError `ERR_DENIED` for an address that must not be reached, `ERR_UPSTREAM_*`, `ERR_TOO_LARGE`.
 */
export async function* send(sending: Sending): AsyncGenerator<Chunk, void, undefined> {
  const { plan, permit, options, secret } = sending
  const echo = createEchoFilter(secretsOf(secret, options))
  const response = await request(sending)
  try {
    const headers = echoless(flatten(response.headers), echo)
    const redirect = redirectOf(response.statusCode, headers, plan, options)
    const returned = relocated(returnedHeaders(headers), redirect)
    const status: readonly (readonly [string, string])[] = [[':status', String(response.statusCode)]]
    const going: readonly (readonly [string, string])[] = redirect === undefined ? [] : [[':redirect', redirect]]
    yield { kind: 'head', attributes: Object.fromEntries([...status, ...going, ...joined(returned)]) }
    const hasBody = plan.request.method !== 'HEAD' && response.statusCode !== 204 && response.statusCode !== 304
    const contentType = headerOf(headers, 'content-type')
    if (hasBody && options.binary === 'refuse' && !isTextual(contentType)) {
      yield withheld('it is not text')
      yield exit(response.statusCode, false)
      return
    }
    const bytesMax = permit.obligations.bytesMax ?? options.bytesMax
    const body = hasBody ? decoded(response.body, headerOf(headers, 'content-encoding')) : undefined
    const isCut = body === undefined ? false : yield* bodyOf(body, bytesMax, echo, options)
    yield exit(response.statusCode, isCut)
  } catch (error) {
    throw mapError(error, permit.signal, true)
  } finally {
    // A body nobody reads to its end would keep its connection for good.
    response.body.on('error', () => undefined).destroy()
  }
}

async function request(sending: Sending): Promise<Dispatcher.ResponseData> {
  const { call, plan, permit, options, pools, lookup, secret } = sending
  const { url, method, body } = plan.request
  const addresses = await vettedAddresses(url, options, lookup, permit.signal)
  const tried = addresses.slice(0, ADDRESSES_TRIED_MAX)
  for (const [index, address] of tried.entries()) {
    try {
      return await pools.to(url, address).request({
        // The parsed URL's own words: a path that is put together again may come out as another.
        path: `${url.pathname}${url.search}`,
        method,
        headers: sentHeaders(plan, options, secret),
        signal: permit.signal,
        ...(plan.streams && call.input !== undefined && { body: streamed(call.input, options.requestBytesMax) }),
        ...(!plan.streams && body !== undefined && { body }),
      })
    } catch (error) {
      const mapped = mapError(error, permit.signal, false)
      const isLast = index === tried.length - 1
      // A stream that was begun cannot be sent again.
      if (isLast || plan.streams || mapped.code !== 'ERR_UPSTREAM_UNREACHABLE') throw mapped
    }
  }
  throw mapError(undefined, permit.signal, false)
}

function sentHeaders({ request, streams }: HttpPlan, options: HttpOptions, secret: Secret): Record<string, string> {
  const headers: Record<string, string> = Object.fromEntries(request.headers)
  headers['accept-encoding'] = 'gzip, deflate, br'
  if ((request.body !== undefined || streams) && headers['content-type'] === undefined) {
    headers['content-type'] = 'application/octet-stream'
  }
  const { auth } = options
  switch (auth.kind) {
    case 'bearer':
      headers['authorization'] = `Bearer ${secret.value}`
      break
    case 'basic':
      headers['authorization'] = `Basic ${basicOf(secret)}`
      break
    case 'header':
      headers[auth.name] = auth.prefix + secret.value
      break
    default:
      auth.kind satisfies 'none'
  }
  return headers
}

function basicOf({ user = '', value }: Secret): string {
  return Buffer.from(`${user}:${value}`, 'utf8').toString('base64')
}

function secretsOf(secret: Secret, { auth }: HttpOptions): readonly string[] {
  if (auth.kind === 'none') return []
  return auth.kind === 'basic' ? [secret.value, basicOf(secret)] : [secret.value]
}

/** The caller's own stream, cut off with an error where it becomes too long. */
function streamed(input: AsyncIterable<Uint8Array>, bytesMax: number): Readable {
  return Readable.from(bounded(input, bytesMax), { objectMode: false })
}

async function* bounded(input: AsyncIterable<Uint8Array>, bytesMax: number): AsyncGenerator<Uint8Array> {
  let bytes = 0
  for await (const piece of input) {
    bytes += piece.length
    if (bytes > bytesMax) {
      throw new SallyportError('ERR_TOO_LARGE', `The body has more than the ${bytesMax} bytes this target takes.`)
    }
    yield piece
  }
}

/** Yields the body; returns whether it was cut. */
async function* bodyOf(
  body: AsyncIterable<Buffer>,
  bytesMax: number,
  echo: EchoFilter | undefined,
  { binary }: HttpOptions,
): AsyncGenerator<Chunk, boolean, undefined> {
  const filter = echo?.stream()
  let left = bytesMax
  for await (const whole of body) {
    if (binary === 'refuse' && whole.includes(0)) {
      // UTF-16 and files under a text's name: no detector would recognise anything in them.
      yield withheld('it is not text')
      return true
    }
    const piece = whole.length > left ? whole.subarray(0, left) : whole
    left -= piece.length
    yield* bytesOf(filter === undefined ? piece : filter.push(piece))
    if (whole.length > piece.length) {
      if (filter !== undefined) yield* bytesOf(filter.end())
      return true
    }
  }
  if (filter !== undefined) yield* bytesOf(filter.end())
  return false
}

function* bytesOf(bytes: Buffer): Generator<Chunk> {
  if (bytes.length > 0) yield { kind: 'data', channel: 'body', bytes }
}

function exit(status: number, isCut: boolean): Chunk {
  return { kind: 'exit', status: String(status), truncated: isCut, ...(isCut && { truncatedBy: 'bytes' }) }
}

function withheld(why: string): Chunk {
  return { kind: 'notice', severity: 'WARNING', text: `The body is withheld: ${why}.` }
}

function flatten(headers: Readonly<Record<string, string | string[] | undefined>>): HeaderList {
  return Object.entries(headers).flatMap(([name, value]): (readonly [string, string])[] =>
    value === undefined ? [] : Array.isArray(value) ? value.map((one) => [name, one] as const) : [[name, value]],
  )
}

function echoless(headers: HeaderList, echo: EchoFilter | undefined): HeaderList {
  return echo === undefined ? headers : headers.map(([name, value]) => [echo.text(name), echo.text(value)] as const)
}

/** A place beneath the base URL is named as callers name it: what the service itself is called is not their business. */
function relocated(headers: HeaderList, redirect: string | undefined): HeaderList {
  if (redirect === undefined) return headers
  return headers.map(([name, value]) => [name, name === 'location' ? redirect : value] as const)
}

/** A header that comes several times means its values as a list (RFC 9110, section 5.3). */
function joined(headers: HeaderList): readonly (readonly [string, string])[] {
  const fields = new Map<string, string>()
  for (const [name, value] of headers) fields.set(name, fields.has(name) ? `${fields.get(name)}, ${value}` : value)
  return [...fields]
}
