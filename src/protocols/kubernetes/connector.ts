/**
 * Sends the one request of an API call and yields what comes back: the headers a caller may see, then the body, masked
 * object by object, and bounded. What cannot be read as what it should be is withheld.
 *
 * @packageDocumentation
 */
import type { Call, Permit } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { isJsonObject, parseJson, writeJson, type JsonValue } from '../../core/json.ts'
import { failureOf, mapError } from './connect-errors.ts'
import { readGuard, sendGuarded } from './connect-guard.ts'
import { send, wholeOf, type Answer, type Upstream } from './connect-send.ts'
import { runRemote } from './connect-remote.ts'
import { scrubMessage } from './mask-message.ts'
import { maskValue } from './masks.ts'
import type { KubePlan } from './plan.ts'
import { trimRows } from './table-rows.ts'
import { isStream, type KubeRequest } from './request.ts'

/** The longest line of a watch; an object has 1.5 MB at most, and a frame is little more. */
const FRAME_BYTES_MAX = 8 * 1024 * 1024
/** What the answer to a change may have, whatever the policy says of reading: it has happened by then. */
const CHANGED_BYTES_MAX = 8 * 1024 * 1024

/** Headers of an answer a caller may see. */
const RETURNED = [
  'content-type',
  'audit-id',
  'warning',
  'retry-after',
  'etag',
  'cache-control',
  'x-kubernetes-pf-flowschema-uid',
]

/** Sends the request of an API call. */
export async function* runApi(
  call: Call,
  plan: KubePlan,
  permit: Permit,
  upstream: Upstream,
): AsyncGenerator<Chunk, void, undefined> {
  const [request] = plan.requests
  if (request === undefined) throw new SallyportError('ERR_INVALID_INPUT', 'There is no request to send.')
  if (request.isOpening === true) {
    // That it may begin is all there is to say: nothing is sent before somebody connects.
    yield { kind: 'head', attributes: { ':status': '101' } }
    yield { kind: 'exit', status: '0', truncated: false }
    return
  }
  if (isStream(request)) {
    // Without an upgrade nobody could take the streams: the server says the same, and nothing runs.
    if (!plan.streams) {
      throw new SallyportError('ERR_INVALID_INPUT', 'exec, attach and port-forward need a request for an upgrade.', {
        facts: { noEffect: true },
      })
    }
    yield* runRemote(call, request, permit, upstream)
    return
  }
  const bytesMax = Math.min(permit.obligations.bytesMax ?? Number.POSITIVE_INFINITY, upstream.options.bytesMax)
  const accept = acceptUnder(request, permit)
  const [guard] = permit.guard === undefined ? [] : readGuard(permit.guard)
  const answer =
    guard === undefined ? await send(request, upstream, accept) : await sendGuarded(request, guard, upstream, accept)
  try {
    yield* answered(request, answer, bytesMax, upstream)
  } catch (error) {
    throw mapError(error, upstream.signal, true)
  } finally {
    answer.body.on('error', () => undefined).destroy()
  }
}

/** Columns of a table copy fields of the object; where fields are masked by name, only objects are asked for. */
export function acceptUnder({ accept }: KubeRequest, { obligations }: Permit): string {
  return (obligations.fields ?? []).length > 0 && /as=Table/iu.test(accept) ? 'application/json' : accept
}

/** Yields an answer, masked as its request demands. */
export async function* answered(
  request: KubeRequest,
  answer: Answer,
  bytesMax: number,
  upstream: Upstream,
): AsyncGenerator<Chunk, void, undefined> {
  const { statusCode: status } = answer
  const type = headerOf(answer, 'content-type') ?? ''
  const isFollowing = request.verb === 'watch' && status < 300
  const head: Record<string, string> = { ':status': String(status) }
  for (const name of RETURNED) {
    const value = headerOf(answer, name)
    if (value !== undefined) head[name] = name === 'warning' ? warningOf(value, request) : value
  }
  if (isFollowing) {
    // Frames are values one to a line, whatever the server calls it; masks by field must not wait for the end.
    head[':content-type'] = 'application/json'
    head['content-type'] = 'application/x-ndjson'
  }
  yield { kind: 'head', attributes: head }
  if (request.method === 'HEAD' || status === 204 || status === 304) yield exit(request, status, false)
  else if (isFollowing) yield* frames(request, answer, bytesMax, status)
  else if (isOpaque(request) && status < 400) {
    // What a container wrote is text and has no fields, whichever door it leaves by.
    yield* bytes(request, answer, bytesMax, status)
  } else yield* whole(request, answer, type, bytesMax, status, upstream)
}

/** A warning quotes what it is about as a refusal does. What was cut out of one leaves it readable to its client. */
function warningOf(text: string, { group = '', resource }: KubeRequest): string {
  const scrubbed = scrubMessage(text, group === '' && resource === 'secrets')
  return scrubbed === text || scrubbed.endsWith('"') ? scrubbed : `${scrubbed}"`
}

/** What holds no objects: text of containers, answers of what stands behind a proxy, and what the server says of itself. */
function isOpaque({ verb }: KubeRequest): boolean {
  return verb === 'logs' || verb === 'proxy' || verb === 'discover' || verb === 'unknown'
}

async function* bytes(
  request: KubeRequest,
  answer: Answer,
  bytesMax: number,
  status: number,
): AsyncGenerator<Chunk, void, undefined> {
  const channel = request.verb === 'logs' ? 'stdout' : 'body'
  let left = bytesMax
  for await (const piece of answer.body as AsyncIterable<Buffer>) {
    const shown = piece.length > left ? piece.subarray(0, left) : piece
    left -= shown.length
    if (shown.length > 0) yield { kind: 'data', channel, bytes: shown }
    if (shown.length < piece.length) {
      yield exit(request, status, true)
      return
    }
  }
  yield exit(request, status, false)
}

async function* whole(
  request: KubeRequest,
  answer: Answer,
  type: string,
  bytesMax: number,
  status: number,
  { signal }: Upstream,
): AsyncGenerator<Chunk, void, undefined> {
  const isReading = request.method === 'GET' || request.method === 'HEAD'
  const body = await wholeOf(answer, isReading ? bytesMax : CHANGED_BYTES_MAX, signal)
  const masked = maskedBody(request, body, type, status)
  if (masked === undefined) {
    yield withheld('it is no JSON, and what cannot be read cannot be masked')
    yield exit(request, status, true)
    return
  }
  if (masked.bytes.length > bytesMax) {
    yield withheld('it is longer than this call may read')
    yield exit(request, status, true)
    return
  }
  if (masked.bytes.length > 0) yield { kind: 'data', channel: 'body', bytes: masked.bytes }
  yield exit(request, status, false, masked.count)
}

interface MaskedBody {
  readonly bytes: Buffer
  readonly count: number
}

/** A whole body, masked; `undefined` when it cannot be. */
export function maskedBody(request: KubeRequest, body: Buffer, type: string, status: number): MaskedBody | undefined {
  if (body.length === 0) return { bytes: body, count: 0 }
  const text = body.toString('utf8')
  const parsed = parseJson(text)
  if (parsed !== undefined) {
    const { value, count } = maskValue(parsed.value, request)
    return { bytes: Buffer.from(writeBody(trimRows(value, request)), 'utf8'), count }
  }
  // Errors before the API's own handlers are sentences.
  if (status >= 400 && !type.includes('json')) return { bytes: Buffer.from(scrubMessage(text, true), 'utf8'), count: 0 }
  return undefined
}

/**
 * Writes objects of a list one to a line. No value goes over the end of an object, so that detectors, which search line by
 * line, find the same; what is one long line they search in windows that overlap, most of it several times.
 */
function writeBody(value: JsonValue): string {
  if (!isJsonObject(value)) return writeJson(value)
  const fields: string[] = []
  for (const [key, field] of value) {
    const isLong = (key === 'items' || key === 'rows') && Array.isArray(field) && field.length > 0
    const text = isLong ? `[\n${(field as readonly JsonValue[]).map(writeJson).join(',\n')}\n]` : writeJson(field)
    fields.push(`${writeJson(key)}:${text}`)
  }
  return `{${fields.join(',')}}`
}

async function* frames(
  request: KubeRequest,
  answer: Answer,
  bytesMax: number,
  status: number,
): AsyncGenerator<Chunk, void, undefined> {
  let pieces: Buffer[] = []
  let held = 0
  let left = bytesMax
  let count = 0
  for await (const piece of answer.body as AsyncIterable<Buffer>) {
    const cut = piece.lastIndexOf(0x0a)
    if (cut < 0) {
      pieces.push(piece)
      held += piece.length
      if (held > FRAME_BYTES_MAX) throw new SallyportError('ERR_TOO_LARGE', 'A change is too large to be masked.')
      continue
    }
    const complete = Buffer.concat([...pieces, piece.subarray(0, cut)]).toString('utf8')
    pieces = [piece.subarray(cut + 1)]
    held = piece.length - cut - 1
    let lines = ''
    for (const line of complete.split('\n')) {
      if (line.trim() === '') continue
      const parsed = parseJson(line)
      if (parsed === undefined) throw new SallyportError('ERR_UPSTREAM_REJECTED', 'A change cannot be read.')
      const masked = maskValue(parsed.value, request)
      count += masked.count
      lines += `${writeJson(trimRows(masked.value, request))}\n`
    }
    const shown = Buffer.from(lines, 'utf8')
    left -= shown.length
    if (left < 0) {
      yield exit(request, status, true, count)
      return
    }
    if (shown.length > 0) yield { kind: 'data', channel: 'body', bytes: shown }
  }
  if (held > 0) throw new SallyportError('ERR_UPSTREAM_LOST', 'The watch broke in the middle of a change.')
  yield exit(request, status, false, count)
}

function exit(request: KubeRequest, status: number, isCut: boolean, masked = 0): Chunk {
  return {
    kind: 'exit',
    status: String(status),
    truncated: isCut,
    ...(isCut && { truncatedBy: 'bytes' as const }),
    ...failureOf(status, request),
    ...(masked > 0 && { masked: { kubernetes: masked } }),
  }
}

function withheld(why: string): Chunk {
  return { kind: 'notice', severity: 'WARNING', text: `The body is withheld: ${why}.` }
}

function headerOf({ headers }: Answer, name: string): string | undefined {
  const value = headers[name]
  return Array.isArray(value) ? value.join(', ') : value
}
