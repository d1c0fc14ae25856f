/**
 * Sends exactly the planned request and yields what comes back: the headers a caller may see, then the body in pieces,
 * decoded, bounded, and without the secret it was sent with.
 *
 * @packageDocumentation
 */
import type { LookupAddress } from 'node:dns'
import { Readable } from 'node:stream'
import type { Call, Permit, Secret } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { vettedAddresses, type Lookup } from './connect-addresses.ts'
import { decoded } from './connect-decode.ts'
import { mapError, type Reached } from './connect-errors.ts'
import { exchange, type Answered } from './connect-exchange.ts'
import type { Pools } from './connect-pool.ts'
import type { EchoFilter, EchoFilters, EchoStream } from './echo.ts'
import { isTextual } from './media.ts'
import { headerOf, listOf, returnedHeaders, type HeaderList } from './headers.ts'
import { redirectOf } from './redirect.ts'
import type { HttpOptions } from './options.ts'
import type { HttpPlan } from './plan.ts'
import { secretsOf, sentHeaders } from './sent-headers.ts'

/** What sending takes besides the plan. */
export interface Sending {
  readonly call: Call
  readonly plan: HttpPlan
  readonly permit: Permit
  readonly secret: Secret
  readonly options: HttpOptions
  readonly pools: Pools
  readonly echoes: EchoFilters
  readonly lookup: Lookup
}

/** A service that is reached under several addresses is tried at so many. */
const ADDRESSES_TRIED_MAX = 4

/** A body up to this size is one piece. */
const WHOLE_BYTES_MAX = 64 * 1024

/**
 * Sends one request.
 *
 * @throws SallyportError `ERR_DENIED` for an address that must not be reached, `ERR_UPSTREAM_*`, `ERR_TOO_LARGE`.
 */
export async function* send(sending: Sending): AsyncGenerator<Chunk, void, undefined> {
  const { plan, permit, options, secret, echoes } = sending
  const echo = echoes.of(secretsOf(secret, options))
  const answered = await request(sending)
  try {
    const { status } = answered
    const headers = echoless(flatten(answered.headers), echo)
    const redirect = redirectOf(status, headers, plan, options)
    yield headOf(status, relocated(returnedHeaders(headers), redirect), redirect)
    const hasBody = plan.request.method !== 'HEAD' && status !== 204 && status !== 304
    const contentType = listOf(headers, 'content-type')
    if (hasBody && options.binary === 'refuse' && !isTextual(contentType)) {
      yield withheld('it is not text')
      yield exit(status, false)
      return
    }
    const coding = listOf(headers, 'content-encoding')
    const isWhole = coding === undefined && isSmall(headers)
    const body = new Body(sending, isWhole ? echo && once(echo) : echo?.stream())
    // One loop in one generator: each more of those costs a piece as much as looking at it.
    if (hasBody)
      for await (const piece of isWhole ? whole(answered.body) : decoded(answered.body, coding)) {
        const shown = body.take(piece)
        if (shown.length > 0) yield bytesOf(shown)
        if (body.isCut) break
      }
    const rest = body.rest()
    if (rest.length > 0) yield bytesOf(rest)
    if (body.withheld !== undefined) yield withheld(body.withheld)
    yield exit(status, body.isCut)
  } catch (error) {
    throw mapError(error, permit.signal, 'answer')
  } finally {
    // A body nobody reads to its end would keep its connection for good.
    answered.close()
  }
}

async function request(sending: Sending): Promise<Answered> {
  const { call, plan, permit, options, pools, secret } = sending
  const { url, method, body } = plan.request
  const tried = await addressesOf(sending)
  for (const [index, address] of tried.entries()) {
    let reached: Reached = 'nothing'
    try {
      const asked = {
        // The parsed URL's own words: a path that is put together again may come out as another.
        path: `${url.pathname}${url.search}`,
        method,
        headers: sentHeaders(plan, options, secret),
        ...(plan.streams && call.input !== undefined && { body: streamed(call.input, options.requestBytesMax) }),
        ...(!plan.streams && body !== undefined && { body }),
      }
      return await exchange(pools.to(url, address), asked, permit.signal, () => (reached = 'request'))
    } catch (error) {
      const mapped = mapError(error, permit.signal, reached)
      const isLast = index === tried.length - 1
      // Unreachable is what nothing was sent to. A stream that was begun cannot be read again.
      if (isLast || plan.streams || mapped.code !== 'ERR_UPSTREAM_UNREACHABLE') throw mapped
    }
  }
  throw mapError(undefined, permit.signal, 'nothing')
}

/** The addresses that are tried, one after the other. */
export async function addressesOf({ plan, permit, options, lookup }: Sending): Promise<readonly LookupAddress[]> {
  try {
    const addresses = await vettedAddresses(plan.request.url, options, lookup, permit.signal)
    return addresses.slice(0, ADDRESSES_TRIED_MAX)
  } catch (error) {
    throw mapError(error, permit.signal, 'nothing')
  }
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

/** Takes the pieces of a body one by one: bounds them, and keeps the secret out of them. */
class Body {
  readonly #isBinaryRefused: boolean
  readonly #filter: EchoStream | undefined
  #left: number
  /** Set when nothing more of it may be shown. */
  isCut = false
  /** Why none of what is left may be shown at all. */
  withheld: string | undefined

  constructor({ permit, options }: Sending, filter: EchoStream | undefined) {
    this.#isBinaryRefused = options.binary === 'refuse'
    this.#filter = filter
    this.#left = permit.obligations.bytesMax ?? options.bytesMax
  }

  /** Returns what of it can be shown now. */
  take(piece: Buffer): Buffer {
    if (this.#isBinaryRefused && piece.includes(0)) {
      // UTF-16 and files under a text's name: no detector would recognise anything in them.
      this.withheld = 'it is not text'
      this.isCut = true
      return NOTHING
    }
    this.isCut = piece.length > this.#left
    const taken = this.isCut ? piece.subarray(0, this.#left) : piece
    this.#left -= taken.length
    return this.#filter === undefined ? taken : this.#filter.push(taken)
  }

  /** Returns what was held back and turned out to be harmless. */
  rest(): Buffer {
    return this.withheld === undefined ? (this.#filter?.end() ?? NOTHING) : NOTHING
  }
}

const NOTHING = Buffer.alloc(0)

/** A filter for a body that comes in one piece: nothing of it is held back. */
function once(echo: EchoFilter): EchoStream {
  return { push: (piece) => echo.whole(piece), end: () => NOTHING }
}

/** Whether a body is said to be so short that it is read at once; events are read as they come, whatever is said. */
function isSmall(headers: HeaderList): boolean {
  const length = headerOf(headers, 'content-length') ?? ''
  return /^\d{1,5}$/u.test(length) && Number(length) <= WHOLE_BYTES_MAX && !isEvents(headers)
}

function isEvents(headers: HeaderList): boolean {
  return headerOf(headers, 'content-type')?.startsWith('text/event-stream') ?? false
}

/** A short body in one piece: what comes behind costs more for each piece than the piece does. */
async function* whole(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of body) pieces.push(piece)
  const [only, ...more] = pieces
  if (only !== undefined) yield more.length === 0 ? only : Buffer.concat(pieces)
}

function bytesOf(bytes: Buffer): Chunk {
  return { kind: 'data', channel: 'body', bytes }
}

function headOf(status: number, headers: HeaderList, redirect: string | undefined): Chunk {
  const going: HeaderList = redirect === undefined ? [] : [[':redirect', redirect]]
  return { kind: 'head', attributes: Object.fromEntries([[':status', String(status)], ...going, ...joined(headers)]) }
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
  if (echo === undefined) return headers
  // Nearly always there is nothing to find, and one look says so.
  const all = headers.flat().join('\n')
  return echo.text(all) === all ? headers : headers.map(([name, value]) => [echo.text(name), echo.text(value)] as const)
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
