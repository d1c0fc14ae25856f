/**
 * Masks fields of JSON by their path, in the bodies that say they are JSON, one value per line of those that hold many,
 * and in the data of server-sent events as they flow.
 *
 * A body is read whole, masked, and written anew, so nothing of the original text is left for another reader to find in:
 * no second key of the same name, no other escape of it. What cannot be read is withheld.
 *
 * @packageDocumentation
 */
import type { BytesChunk, Chunk } from '../core/chunk.ts'
import type { FieldMask, Transform } from '../core/decision.ts'
import { isJsonObject, JsonNumber, parseJson, writeJson, type JsonValue } from '../core/json.ts'
import { combine } from './compile.ts'
import { redacted, type Replacer } from './transforms.ts'

/** The longest value that is read whole: a body, or one line of a stream. */
export const VALUE_BYTES_MAX = 8 * 1024 * 1024

const KIND = 'field'

/** Masks the fields in one value. `count` is told once for each value replaced. */
export type FieldMasker = (value: JsonValue, count: () => void) => JsonValue

/** Compiles paths. */
export function compileFields(masks: readonly FieldMask[], replacer: Replacer): FieldMasker {
  const paths = masks.map(({ path, transform }) => ({ keys: path.toLowerCase().split('.'), transform }))
  return (value, count) => maskValue(value, paths, replacer, count)
}

interface Path {
  /** What is left to match of the path. */
  readonly keys: readonly string[]
  readonly transform: Transform
}

function maskValue(value: JsonValue, paths: readonly Path[], replacer: Replacer, count: () => void): JsonValue {
  if (paths.length === 0) return value
  if (isJsonObject(value)) {
    const fields = new Map<string, JsonValue>()
    for (const [key, field] of value) fields.set(key, maskField(key, field, paths, replacer, count))
    return fields
  }
  // Arrays count for nothing in a path.
  if (Array.isArray(value)) {
    return (value as readonly JsonValue[]).map((item) => maskValue(item, paths, replacer, count))
  }
  return typeof value === 'string' ? maskWritten(value, paths, replacer, count) : value
}

/** A text that is itself JSON, as services keep and echo it, has fields like any other value. */
function maskWritten(text: string, paths: readonly Path[], replacer: Replacer, count: () => void): string {
  if (!/^\s*[[{]/u.test(text)) return text
  const parsed = parseJson(text.replace(/^\ufeff/u, ''))
  if (parsed === undefined) return text
  let masked = 0
  const value = maskValue(parsed.value, paths, replacer, () => {
    masked++
    count()
  })
  if (masked === 0 && !parsed.hasDuplicates) return text
  // Of two equal keys the masked one may be the one that is not kept. Whatever text this one stands in must be written anew.
  if (masked === 0) count()
  return writeJson(value)
}

function maskField(
  key: string,
  field: JsonValue,
  paths: readonly Path[],
  replacer: Replacer,
  count: () => void,
): JsonValue {
  const name = key.toLowerCase()
  let transform: Transform | undefined
  const inner: Path[] = []
  for (const path of paths) {
    for (const keys of stepsOf(path.keys, name)) {
      if (keys.length === 0) transform = combine(transform, path.transform)
      else inner.push({ ...path, keys })
    }
  }
  if (transform === undefined) return maskValue(field, inner, replacer, count)
  count()
  return replaced(field, transform, replacer)
}

/** What may be left of a path behind one key; an empty rest means that the key is what the path names. */
function stepsOf(keys: readonly string[], name: string): readonly (readonly string[])[] {
  const [first, ...rest] = keys
  if (first === undefined) return []
  if (first === '**') return [keys, ...stepsOf(rest, name)]
  return first === '*' || first === name ? [rest] : []
}

/** What stands for a value. Its type, and whether there was any, would tell something of it, so `redact` keeps neither. */
function replaced(value: JsonValue, transform: Transform, replacer: Replacer): JsonValue {
  if (transform === 'null') return null
  if (transform === 'redact') return redacted(KIND)
  const text = typeof value === 'string' ? value : value instanceof JsonNumber ? value.raw : undefined
  if (text === undefined) return redacted(KIND)
  return transform === 'partial' ? partial(text) : replacer.replace(KIND, transform, text)
}

/** The last four characters of a value of which they are no large part. */
function partial(text: string): string {
  const characters = Array.from(text)
  return characters.length < 12 ? redacted(KIND) : `${redacted(KIND)}${characters.slice(-4).join('')}`
}

/** Masks the fields of JSON in a result, on the channel `body`. Everything else goes through as it is. */
export async function* maskFields(
  source: AsyncIterable<Chunk>,
  masks: readonly FieldMask[],
  replacer: Replacer,
): AsyncGenerator<Chunk, void, undefined> {
  const mask = compileFields(masks, replacer)
  let body: Body | undefined
  for await (const chunk of source) {
    if (chunk.kind === 'head') {
      if (body !== undefined) yield* body.end()
      body = new Body(kindOf(chunk.attributes?.['content-type']), mask)
      yield chunk
    } else if (chunk.kind === 'data' && chunk.channel === 'body') {
      body ??= new Body('other', mask)
      yield* body.take(chunk)
    } else if (chunk.kind === 'exit') {
      const count = body?.count ?? 0
      if (body !== undefined) yield* body.end()
      const masked = (body?.count ?? count) > 0 ? { masked: { ...chunk.masked, [KIND]: body?.count ?? count } } : {}
      yield { ...chunk, ...masked }
      body = undefined
    } else yield chunk
  }
  if (body !== undefined) yield* body.end()
}

type BodyKind = 'json' | 'lines' | 'events' | 'other'

function kindOf(contentType: string | undefined): BodyKind {
  const [type = ''] = (contentType ?? '').toLowerCase().split(';')
  const name = type.trim()
  if (name === 'application/json' || name === 'text/json' || name.endsWith('+json')) return 'json'
  if (/^application\/(?:x-)?(?:ndjson|jsonl|jsonlines)$/u.test(name)) return 'lines'
  return name === 'text/event-stream' ? 'events' : 'other'
}

/** One body as it arrives. */
class Body {
  readonly #kind: BodyKind
  readonly #mask: FieldMasker
  #pieces: Uint8Array[] = []
  #bytes = 0
  #isWithheld = false
  count = 0

  constructor(kind: BodyKind, mask: FieldMasker) {
    this.#kind = kind
    this.#mask = mask
  }

  *take({ bytes }: BytesChunk): Generator<Chunk> {
    if (this.#isWithheld) return
    if (this.#kind === 'other') {
      yield* this.#withhold('it is not JSON, and fields of this target are masked')
      return
    }
    this.#pieces.push(bytes)
    this.#bytes += bytes.length
    if (this.#kind !== 'json' && bytes.includes(0x0a)) yield* this.#lines()
    if (this.#bytes > VALUE_BYTES_MAX) {
      yield* this.#withhold(`a value has more than the ${VALUE_BYTES_MAX} bytes that can be searched for masked fields`)
    }
  }

  *end(): Generator<Chunk> {
    if (this.#isWithheld || this.#bytes === 0) return
    const rest = this.#text()
    this.#pieces = []
    this.#bytes = 0
    yield* this.#kind === 'json' ? this.#whole(rest) : this.#line(rest, '')
  }

  *#lines(): Generator<Chunk> {
    const bytes = Buffer.concat(this.#pieces)
    const cut = bytes.lastIndexOf(0x0a) + 1
    const complete = bytes.subarray(0, cut)
    this.#pieces = [bytes.subarray(cut)]
    this.#bytes = bytes.length - cut
    for (const line of textOf(complete).split('\n').slice(0, -1)) {
      if (this.#isWithheld) return
      yield* this.#line(line, '\n')
    }
  }

  *#line(line: string, end: string): Generator<Chunk> {
    if (line.trim() === '') {
      yield bytesOf(line + end)
      return
    }
    if (this.#kind === 'lines') {
      yield* this.#whole(line, end)
      return
    }
    // Server-sent events (HTML standard, 9.2): only `data` holds what the service has to say, one value per line here.
    const [, field = '', text = ''] = /^([^:]*)(?:: ?)?(.*)$/su.exec(line.replace(/\r$/u, '')) ?? []
    if (field !== 'data') {
      // Fail closed: comments, ids and names of events are free text, so only what is a plain word goes on.
      yield bytesOf(/^(?:event|id|retry)$/u.test(field) && /^[\w.-]{1,64}$/u.test(text) ? line + end : `:${end}`)
      return
    }
    if (text === '[DONE]') {
      yield bytesOf(`data: ${text}${end}`)
      return
    }
    yield* this.#whole(text, end, 'data: ')
  }

  *#whole(text: string, end = '', lead = ''): Generator<Chunk> {
    const parsed = parseJson(text.replace(/^\ufeff/u, ''))
    if (parsed === undefined) {
      yield* this.#withhold('it is no complete JSON, and fields of this target are masked')
      return
    }
    const masked = this.#mask(parsed.value, () => this.count++)
    yield bytesOf(`${lead}${writeJson(masked)}${end}`)
  }

  #text(): string {
    return textOf(Buffer.concat(this.#pieces))
  }

  /** Fail closed: what cannot be read cannot be masked, and is not shown. The source is still drained. */
  *#withhold(why: string): Generator<Chunk> {
    this.#isWithheld = true
    this.#pieces = []
    this.#bytes = 0
    yield { kind: 'notice', severity: 'WARNING', text: `The rest of the body is withheld: ${why}.` }
  }
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
}

function bytesOf(text: string): Chunk {
  return { kind: 'data', channel: 'body', bytes: Buffer.from(text, 'utf8') }
}
