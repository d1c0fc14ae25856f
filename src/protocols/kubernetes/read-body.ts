import { isScalar, parseDocument, visit, type Document, type YAMLMap } from 'yaml'
import { JsonNumber, parseJson, writeJson, type JsonValue } from '../../core/json.ts'
import { SallyportError } from '../../core/errors.ts'
import { PROTOBUF, readProtobuf } from './protobuf/decode.ts'
import type { KubeBody } from './request.ts'

/** The largest object etcd takes is 1.5 MB; the server reads 3 MB at most. */
export const BODY_BYTES_MAX = 3 * 1024 * 1024

/** What bodies may be: an object, or one of the patches (Kubernetes API concepts, "Patches"). */
const PATCHES = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
  'application/apply-patch+yaml',
] as const

/**
 * Reads a body once. What is sent is the canonical text of what was read, so that the server cannot read it in another
 * way: no second key of the same name, no YAML that becomes something else, no protobuf.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`, `ERR_TOO_LARGE`.
 */
export function readBody(
  bytes: Uint8Array | undefined,
  contentType: string | undefined,
  method: string,
): KubeBody | undefined {
  if (bytes === undefined || bytes.length === 0) return undefined
  if (method === 'GET' || method === 'HEAD' || method === 'OPTIONS') throw invalid(`A ${method} request has no body.`)
  if (bytes.length > BODY_BYTES_MAX) {
    throw new SallyportError('ERR_TOO_LARGE', `The body has more than the ${BODY_BYTES_MAX} bytes an API server reads.`)
  }
  const type = (contentType ?? 'application/json').split(';')[0]?.trim().toLowerCase() ?? ''
  const patch = PATCHES.find((known) => known === type)
  if ((method === 'PATCH') !== (patch !== undefined)) {
    const forms = method === 'PATCH' ? PATCHES.join(', ') : FORMS
    throw invalid(`The content type of a ${method} is ${forms}: others cannot be judged.`)
  }
  if (type === PROTOBUF) return bounded(bodyOf(readProtobuf(bytes), 'application/json'))
  const isYaml = type === 'application/yaml' || type === 'application/apply-patch+yaml'
  if (patch === undefined && !isYaml && type !== 'application/json') {
    throw invalid(`Send the object as ${FORMS}: other forms cannot be judged.`)
  }
  const text = textOf(bytes)
  const value = isYaml ? readYaml(text) : readJson(text)
  return bodyOf(value, patch ?? 'application/json')
}

const FORMS = `application/json, application/yaml or ${PROTOBUF}`

/** A short form of much: what it becomes is bounded like what is sent as it is. */
function bounded(body: KubeBody): KubeBody {
  if (body.bytes.length <= BODY_BYTES_MAX) return body
  throw new SallyportError('ERR_TOO_LARGE', `As JSON the body has more than ${BODY_BYTES_MAX} bytes.`)
}

/** Makes the body of a value. */
export function bodyOf(value: JsonValue, type: string): KubeBody {
  return { type, value, bytes: Buffer.from(writeJson(value), 'utf8') }
}

function readJson(text: string): JsonValue {
  const parsed = parseJson(text)
  if (parsed === undefined) throw invalid('The body is not JSON, or nested too deeply.')
  if (parsed.hasDuplicates) throw invalid('The body has a key twice: which one counts would be anybody’s guess.')
  return parsed.value
}

/**
 * Reads one YAML document as the JSON it means.
 *
 * @throws SallyportError `ERR_INVALID_INPUT` for several documents, anchors, tags and keys that are given twice.
 */
export function readYaml(text: string): JsonValue {
  // JSON is read as JSON: its numbers keep their digits.
  const parsed = parseJson(text.trim())
  if (parsed !== undefined) return readJson(text.trim())
  if (text.length > YAML_LENGTH_MAX) {
    throw new SallyportError('ERR_TOO_LARGE', `The YAML has more than ${YAML_LENGTH_MAX} characters; send JSON.`)
  }
  const document = parseDocument(text, {
    // Looked for below: the library compares each key of a map with each other one.
    uniqueKeys: false,
    prettyErrors: false,
    strict: true,
    version: '1.2',
    schema: 'core',
    merge: false,
  })
  if (document.errors.length > 0 || document.warnings.length > 0) {
    throw invalid('The YAML is not one plain document: several documents, tags and keys given twice are refused.')
  }
  refuseKeysTwice(document)
  let plain: unknown
  try {
    // An alias is a second place for one value, and a short text for a very long one.
    plain = document.toJS({ maxAliasCount: 0 })
  } catch {
    throw invalid('The YAML must not use anchors and aliases; write the values out.')
  }
  return jsonOf(plain, 0)
}

/** Far more than people write; reading one takes some seconds per megabyte, in which nobody else is served. */
const YAML_LENGTH_MAX = 256 * 1024

function refuseKeysTwice(document: Document.Parsed): void {
  const check = (map: YAMLMap): void => {
    const seen = new Set<string>()
    for (const { key } of map.items) {
      const name = isScalar(key) ? String(key.value) : undefined
      if (name === undefined) throw invalid('The YAML has a key that is no text.')
      if (seen.has(name)) throw invalid('The YAML has a key twice: which one counts would be anybody’s guess.')
      seen.add(name)
    }
  }
  visit(document, { Map: (_, map) => check(map) })
}

function jsonOf(value: unknown, depth: number): JsonValue {
  if (depth > 200) throw invalid('The YAML is nested too deeply.')
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number') {
    if (!Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value))) {
      throw invalid('The YAML holds a number that cannot be kept exactly; write it as text or as JSON.')
    }
    return new JsonNumber(JSON.stringify(value))
  }
  if (Array.isArray(value)) return (value as readonly unknown[]).map((item) => jsonOf(item, depth + 1))
  if (typeof value === 'object') {
    return new Map(Object.entries(value).map(([key, item]) => [key, jsonOf(item, depth + 1)]))
  }
  throw invalid('The YAML holds something that is no JSON.')
}

/** A plain value as JSON. @throws SallyportError `ERR_INVALID_INPUT` for what is none. */
export function jsonFrom(value: unknown): JsonValue {
  return jsonOf(value, 0)
}

function textOf(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw invalid('The body is not UTF-8.')
  }
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
