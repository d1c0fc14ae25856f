/**
 * Kubernetes' protobuf as the JSON it means. Clients of the API's own Go library send typed objects in it; nothing of it
 * is passed on: it is read here, whole or not at all, and what is sent is JSON, so that the server cannot read it in
 * another way (C1). The envelope is in apimachinery, `pkg/runtime/serializer/protobuf`.
 *
 * @packageDocumentation
 */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import { SallyportError } from '../../../core/errors.ts'
import { JsonNumber, parseJson, type JsonObject, type JsonValue } from '../../../core/json.ts'
import { messageOf, type ProtoField, type ProtoMessage, type ProtoType } from './kinds.ts'

/** The media type of such a body. */
export const PROTOBUF = 'application/vnd.kubernetes.protobuf'

/** `k8s` and a zero stand before everything. */
const MAGIC = Buffer.from([0x6b, 0x38, 0x73, 0x00])
/** Far more than an object of three megabytes has. */
const VALUES_MAX = 500_000
/** Deeper than any kind goes. */
const DEPTH_MAX = 64

/**
 * Reads one object.
 *
 * @throws SallyportError `ERR_INVALID_INPUT` for what is not such an object, for kinds and fields that are not known here.
 */
export function readProtobuf(bytes: Uint8Array): JsonObject {
  if (!MAGIC.equals(bytes.subarray(0, MAGIC.length))) throw invalid('The body is not Kubernetes’ protobuf.')
  const decoder = new Decoder()
  try {
    const envelope = readEnvelope(bytes.subarray(MAGIC.length))
    const message = messageOf(envelope.apiVersion, envelope.kind)
    if (message === undefined) {
      const known = /^[A-Za-z0-9./-]{1,80}$/u.test(`${envelope.apiVersion}${envelope.kind}`)
      const what = known ? `${envelope.apiVersion} ${envelope.kind}` : 'this kind'
      throw invalid(`Nothing here knows the fields of ${what} in protobuf; send JSON.`)
    }
    const object = decoder.message(envelope.raw, message, 0)
    // What a client writes there as well says nothing else (`TypeMeta` has no number in any kind).
    return new Map<string, JsonValue>([['apiVersion', envelope.apiVersion], ['kind', envelope.kind], ...object])
  } catch (error) {
    if (error instanceof SallyportError) throw error
    // The reader's own errors: an end before the end, a number that is too long, text that is not UTF-8.
    throw invalid('The protobuf of the body is broken.')
  }
}

interface Envelope {
  readonly apiVersion: string
  readonly kind: string
  readonly raw: Uint8Array
}

/** `runtime.Unknown`: what it is, and its bytes. */
function readEnvelope(bytes: Uint8Array): Envelope {
  const fields = onceEach(bytes, [1, 2, 3, 4])
  const type = onceEach(fields.get(1) ?? new Uint8Array(), [1, 2])
  if ((fields.get(3)?.length ?? 0) > 0) throw invalid('The object in the protobuf must not be encoded once more.')
  const inside = textIn(fields.get(4))
  if (inside !== '' && inside !== PROTOBUF) throw invalid('What the protobuf holds must be protobuf.')
  return { apiVersion: textIn(type.get(1)), kind: textIn(type.get(2)), raw: fields.get(2) ?? new Uint8Array() }
}

/** The fields of a message that has nothing but bytes and texts, each once. */
function onceEach(bytes: Uint8Array, numbers: readonly number[]): ReadonlyMap<number, Uint8Array> {
  const reader = new BinaryReader(bytes)
  const fields = new Map<number, Uint8Array>()
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag()
    if (!numbers.includes(number) || wire !== WireType.LengthDelimited || fields.has(number)) throw twoReadings()
    fields.set(number, reader.bytes())
  }
  return fields
}

function textIn(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? '' : new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
}

class Decoder {
  #values = 0

  /** The fields of a message, in the order they came. */
  message(bytes: Uint8Array, message: ProtoMessage, depth: number): Map<string, JsonValue> {
    if (depth > DEPTH_MAX) throw invalid('The protobuf of the body is nested too deeply.')
    const reader = new BinaryReader(bytes)
    const known = message.fields()
    const object = new Map<string, JsonValue>()
    const seen = new Set<number>()
    while (reader.pos < reader.len) {
      const [number, wire] = reader.tag()
      const field = known.get(number)
      // Fail closed: what is not known cannot be judged, and without it the object would be another one.
      if (field === undefined) {
        throw invalid(`The protobuf of the body has a field nobody here knows (number ${number}); send JSON.`)
      }
      if (++this.#values > VALUES_MAX) throw invalid('The protobuf of the body has too many values.')
      if (field.shape === 'one') {
        // Some readers take the last one, some merge them.
        if (seen.has(number)) throw twoReadings()
        seen.add(number)
      }
      this.#field(reader, wire, field, object, depth)
    }
    return object
  }

  #field(reader: BinaryReader, wire: WireType, field: ProtoField, object: Map<string, JsonValue>, depth: number): void {
    const { name, shape, type } = field
    if (shape === 'map') this.#entry(reader, wire, field, object, depth)
    else if (shape === 'list') {
      const list = (object.get(name) as JsonValue[] | undefined) ?? []
      if (isNumeric(type) && wire === WireType.LengthDelimited) {
        const packed = new BinaryReader(reader.bytes())
        while (packed.pos < packed.len) {
          if (++this.#values > VALUES_MAX) throw invalid('The protobuf of the body has too many values.')
          list.push(this.#value(packed, WireType.Varint, type, depth))
        }
      } else list.push(this.#value(reader, wire, type, depth))
      place(object, name, list)
    } else {
      const value = this.#value(reader, wire, type, depth)
      if (name === '') {
        for (const [key, inner] of value as JsonObject) {
          if (object.has(key)) throw twoReadings()
          object.set(key, inner)
        }
      } else if (field.isOptional || !isZero(value, type)) {
        if (object.has(name)) throw twoReadings()
        place(object, name, value)
      }
    }
  }

  /** A map is a list of messages with key and value. */
  #entry(
    reader: BinaryReader,
    wire: WireType,
    { name, type }: ProtoField,
    object: Map<string, JsonValue>,
    depth: number,
  ): void {
    if (wire !== WireType.LengthDelimited) throw twoReadings()
    const entry = new BinaryReader(reader.bytes())
    let key: string | undefined
    let value: JsonValue | undefined
    while (entry.pos < entry.len) {
      const [number, inner] = entry.tag()
      if (number === 1 && key === undefined && inner === WireType.LengthDelimited) key = textIn(entry.bytes())
      else if (number === 2 && value === undefined) value = this.#value(entry, inner, type, depth)
      else throw twoReadings()
    }
    const map = (object.get(name) as Map<string, JsonValue> | undefined) ?? new Map<string, JsonValue>()
    if (map.has(key ?? '')) throw twoReadings()
    map.set(key ?? '', value ?? zeroOf(type))
    place(object, name, map)
  }

  #value(reader: BinaryReader, wire: WireType, type: ProtoType, depth: number): JsonValue {
    if (wire !== (isNumeric(type) ? WireType.Varint : WireType.LengthDelimited)) throw twoReadings()
    switch (type) {
      case 'b':
        return reader.bool()
      case 'i':
        return new JsonNumber(String(reader.int32()))
      case 'l':
        return new JsonNumber(String(reader.int64()))
      case 's':
        return textIn(reader.bytes())
      case 'x':
        return Buffer.from(reader.bytes()).toString('base64')
      default:
        return typeof type === 'string' ? special(type, reader.bytes()) : this.message(reader.bytes(), type, depth + 1)
    }
  }
}

/** Types that are messages here and one value in JSON. */
function special(type: Exclude<ProtoType, ProtoMessage>, bytes: Uint8Array): JsonValue {
  switch (type) {
    case 'q':
      return textIn(onceEach(bytes, [1]).get(1))
    case 'n':
      return textsIn(bytes)
    case 'r':
    case 'f':
      return embedded(onceEach(bytes, [1]).get(1))
    case 'o': {
      const [kind = 0n, number = 0n, text = ''] = mixed(bytes)
      return kind === 0n ? new JsonNumber(String(number)) : text
    }
    case 'd':
      return `${String(mixed(bytes)[0] ?? 0n)}ns`
    default:
      return timeOf(mixed(bytes), type === 'm')
  }
}

function textsIn(bytes: Uint8Array): readonly string[] {
  const reader = new BinaryReader(bytes)
  const texts: string[] = []
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag()
    if (number !== 1 || wire !== WireType.LengthDelimited) throw twoReadings()
    texts.push(textIn(reader.bytes()))
  }
  return texts
}

type Mixed = readonly [first: bigint | undefined, second: bigint | undefined, third: string | undefined]

/** Two numbers and a text, as all of the small messages have them. */
function mixed(bytes: Uint8Array): Mixed {
  const reader = new BinaryReader(bytes)
  const numbers: (bigint | undefined)[] = [undefined, undefined]
  let text: string | undefined
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag()
    if (wire === WireType.Varint && (number === 1 || number === 2) && numbers[number - 1] === undefined) {
      numbers[number - 1] = BigInt(reader.int64())
    } else if (wire === WireType.LengthDelimited && number === 3 && text === undefined) text = textIn(reader.bytes())
    else throw twoReadings()
  }
  const [first, second] = numbers
  return [first, second, text]
}

/** Seconds and nanoseconds; a time of zero is none. JSON has no fractions but in its one type for them. */
function timeOf([seconds = 0n, nanos = 0n]: Mixed, isExact: boolean): JsonValue {
  if (seconds === 0n && nanos === 0n) return null
  const date = new Date(Number(seconds) * 1000)
  const [whole = ''] = Number.isNaN(date.getTime()) ? [] : date.toISOString().split('.')
  if (!/^\d{4}-/u.test(whole) || nanos < 0n || nanos > 999_999_999n) throw invalid('A time in the protobuf is none.')
  return isExact ? `${whole}.${String(nanos / 1000n).padStart(6, '0')}Z` : `${whole}Z`
}

/** Any object, in JSON as clients write it. */
function embedded(bytes: Uint8Array | undefined): JsonValue {
  if (bytes === undefined || bytes.length === 0) return null
  const parsed = parseJson(textIn(bytes))
  if (parsed === undefined || parsed.hasDuplicates) throw invalid('An object inside the protobuf is no plain JSON.')
  return parsed.value
}

function isNumeric(type: ProtoType): boolean {
  return type === 'b' || type === 'i' || type === 'l'
}

function isZero(value: JsonValue, type: ProtoType): boolean {
  if (value instanceof JsonNumber) return value.raw === '0' && type !== 'o'
  if (value instanceof Map) return value.size === 0
  return value === '' || value === false || value === null
}

/** What a map holds under a key without a value. */
function zeroOf(type: ProtoType): JsonValue {
  if (type === 's' || type === 'x' || type === 'q') return ''
  if (type === 'b') return false
  if (type === 'i' || type === 'l') return new JsonNumber('0')
  if (type === 'n') return []
  return typeof type === 'string' ? null : new Map()
}

/** Two fields of one name would be one in JSON. */
function place(object: Map<string, JsonValue>, name: string, value: JsonValue): void {
  if (name === '') throw twoReadings()
  object.set(name, value)
}

function twoReadings(): SallyportError {
  return invalid('The protobuf of the body can be read in two ways.')
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
