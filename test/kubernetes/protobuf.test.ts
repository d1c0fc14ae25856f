import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { writeJson } from '../../src/core/json.ts'
import { FIELDS } from '../../src/protocols/kubernetes/protobuf/fields.ts'
import { PROTOBUF, readProtobuf } from '../../src/protocols/kubernetes/protobuf/decode.ts'
import { messageOf } from '../../src/protocols/kubernetes/protobuf/kinds.ts'
import { planApi } from '../../src/protocols/kubernetes/plan.ts'

/** Fields of a message, in the order they are given: texts and messages as bytes, numbers as varints. */
type Field = readonly [number: number, value: string | number | bigint | Uint8Array]

function message(...fields: readonly Field[]): Uint8Array {
  const writer = new BinaryWriter()
  for (const [number, value] of fields) {
    if (typeof value === 'number' || typeof value === 'bigint') writer.tag(number, WireType.Varint).int64(value)
    else writer.tag(number, WireType.LengthDelimited).bytes(typeof value === 'string' ? Buffer.from(value) : value)
  }
  return writer.finish()
}

function envelope(apiVersion: string, kind: string, raw: Uint8Array, ...more: readonly Field[]): Uint8Array {
  const type = message([1, apiVersion], [2, kind])
  return Buffer.concat([Buffer.from('k8s\0'), message([1, type], [2, raw], ...more)])
}

/** Whether something is done, or refused in our own words. */
function isSettled(attempt: () => unknown): boolean {
  try {
    attempt()
    return true
  } catch (error) {
    return error instanceof SallyportError
  }
}

const META = message([1, 'c'], [3, 'shop'])
const entry = (key: string, value: string): Uint8Array => message([1, key], [2, value])
const read = (bytes: Uint8Array): unknown => JSON.parse(writeJson(readProtobuf(bytes)))

describe('objects in Kubernetes’ protobuf', () => {
  it('are the JSON they mean', () => {
    const config = message([1, META], [2, entry('a', 'b')], [2, entry('n', '')], [3, message([1, 'x'], [2, 'hi'])])
    expect(read(envelope('v1', 'ConfigMap', config))).toEqual({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'c', namespace: 'shop' },
      data: { a: 'b', n: '' },
      binaryData: { x: Buffer.from('hi').toString('base64') },
    })
  })

  it('have the fields of flattened messages where JSON has them', () => {
    const volume = message([1, 'v'], [2, message([1, message([1, '/etc'])])])
    const container = message([1, 'main'], [2, 'nginx'], [15, message([2, 1])])
    const pod = message([1, META], [2, message([1, volume], [2, container])])
    expect(read(envelope('v1', 'Pod', pod))).toMatchObject({
      spec: {
        volumes: [{ name: 'v', hostPath: { path: '/etc' } }],
        containers: [{ name: 'main', image: 'nginx', securityContext: { privileged: true } }],
      },
    })
  })

  it('keep zero where it is not nothing, and leave it out where it is', () => {
    const spec = message([1, 0], [4, message()], [5, 0])
    expect(read(envelope('apps/v1', 'Deployment', message([2, spec], [3, message()])))).toEqual({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      spec: { replicas: 0 },
    })
  })

  it('hold times, integers that may be texts, and long numbers', () => {
    const meta = message([1, 'x'], [7, 9_007_199_254_740_993n], [9, message([1, 1_700_000_000], [2, 5])])
    const port = message([3, 80], [4, message([1, 1], [3, 'http'])])
    const other = message([3, 81], [4, message([1, 0], [2, 8080])])
    const service = message([1, meta], [2, message([1, port], [1, other])])
    expect(writeJson(readProtobuf(envelope('v1', 'Service', service)))).toContain('9007199254740993')
    expect(read(envelope('v1', 'Service', service))).toMatchObject({
      metadata: { deletionTimestamp: '2023-11-14T22:13:20Z' },
      spec: { ports: [{ targetPort: 'http' }, { targetPort: 8080 }] },
    })
  })

  it.each([
    ['a field twice', envelope('v1', 'ConfigMap', message([1, META], [1, META]))],
    ['a key twice', envelope('v1', 'ConfigMap', message([2, entry('a', 'b')], [2, entry('a', 'c')]))],
    ['an entry with two values', envelope('v1', 'ConfigMap', message([2, message([1, 'a'], [2, 'b'], [2, 'c'])]))],
    ['two objects', envelope('v1', 'ConfigMap', message(), [2, message([1, META])])],
    ['a coding', envelope('v1', 'ConfigMap', message(), [3, 'gzip'])],
    ['JSON inside', envelope('v1', 'ConfigMap', Buffer.from('{}'), [4, 'application/json'])],
    ['a field nobody knows', envelope('v1', 'ConfigMap', message([1, META], [99, 'x']))],
    ['another type of a field', envelope('v1', 'ConfigMap', message([1, 5]))],
    ['a kind nobody knows', envelope('v1', 'Gadget', message())],
    ['a version nobody knows', envelope('v9', 'ConfigMap', message())],
    ['a property of objects for a version', envelope('__proto__', 'constructor', message())],
    ['text that is not UTF-8', envelope('v1', 'ConfigMap', message([1, message([1, Buffer.from([0xff])])]))],
    ['an end before the end', envelope('v1', 'ConfigMap', message([1, META])).subarray(0, -3)],
    ['another envelope', Buffer.from('{"kind":"ConfigMap"}')],
  ])('are refused with %s', (_what, bytes) => {
    expect(() => readProtobuf(bytes)).toThrow(SallyportError)
  })

  const map = (...fields: readonly Field[]) => envelope('v1', 'ConfigMap', message(...fields))
  it.each([
    [Buffer.from('k8t\0'), 'is not Kubernetes’ protobuf'],
    [Buffer.from('k8s\0\n\xff'), 'is broken'],
    [envelope('v1', 'Gadget', message()), 'the fields of v1 Gadget'],
    [envelope('v1', 'Gad get', message()), 'the fields of this kind'],
    [envelope('v1', 'ConfigMap', message(), [3, 'gzip']), 'must not be encoded once more'],
    [envelope('v1', 'ConfigMap', message(), [4, 'application/json']), 'holds must be protobuf'],
    [map([99, 'x']), 'number 99'],
    [map([1, META], [1, META]), 'in two ways'],
    [map([2, entry('a', 'b')], [2, entry('a', 'c')]), 'in two ways'],
    [map([1, 5]), 'in two ways'],
    [map([2, 5]), 'in two ways'],
  ])('are refused for a reason: %#', (bytes, reason) => {
    expect(() => readProtobuf(bytes)).toThrow(reason)
  })

  it('are no deeper and no longer than an object', () => {
    // A schema of a definition holds schemas.
    let schema = message([2, 'x'])
    for (let depth = 0; depth < 80; depth++) schema = message([27, schema])
    const version = message([1, 'v1'], [4, message([1, schema])])
    const definition = message([2, message([7, version])])
    const bytes = envelope('apiextensions.k8s.io/v1', 'CustomResourceDefinition', definition)
    expect(() => readProtobuf(bytes)).toThrow(/too deeply|nobody here knows|Nothing here knows/u)
    const entries = Array.from({ length: 500_001 }, (_, index) => message([2, entry(String(index), '')]))
    const long = envelope('v1', 'ConfigMap', Buffer.concat(entries))
    expect(() => readProtobuf(long)).toThrow('too many values')
  })

  it('are one object or a refusal, whatever the bytes', () => {
    const kinds = Object.entries(FIELDS).flatMap(([version, text]) =>
      version === 'meta'
        ? []
        : text
            .trim()
            .split('\n')
            .map((line) => [version, line.split(' ')[0] ?? ''] as const),
    )
    const field: fc.Arbitrary<Field> = fc.tuple(
      fc.integer({ min: 1, max: 20 }),
      fc.oneof(fc.string(), fc.nat(), fc.uint8Array({ maxLength: 12 }), fc.constant(META)),
    )
    fc.assert(
      fc.property(fc.constantFrom(...kinds), fc.array(field, { maxLength: 6 }), ([version, kind], fields) => {
        const bytes = envelope(version, kind, message(...fields))
        expect(isSettled(() => readProtobuf(bytes))).toBe(true)
      }),
      { numRuns: 500 },
    )
  })

  it('are known by every name their tables use', () => {
    for (const [version, text] of Object.entries(FIELDS)) {
      for (const line of text.trim().split('\n')) {
        const [kind = '', ...fields] = line.split(' ')
        expect(messageOf(version, kind)?.fields().size, `${version} ${kind}`).toBe(fields.length)
      }
    }
  })
})

describe('a request with such a body', () => {
  const plan = (path: string, bytes: Uint8Array) =>
    planApi(
      { kind: 'api', method: 'POST', path, content_type: PROTOBUF, body: Buffer.from(bytes).toString('base64') },
      { masks: [], streams: false },
    )
  const PODS = '/api/v1/namespaces/shop/pods'

  it('C1: is judged by what it says and sent as JSON', () => {
    const container = message([1, 'main'], [2, 'evil:1'], [15, message([2, 1])])
    const pod = message([1, META], [2, message([2, container], [11, 1], [8, 'admin'])])
    const { action, requests } = plan(PODS, envelope('v1', 'Pod', pod))
    expect(action.parts[0]).toMatchObject({
      verb: 'k8s.create',
      resource: { kind: 'core/pods', namespace: 'shop', name: 'c' },
      attributes: {
        images: ['evil:1'],
        host_access: ['hostNetwork', 'privileged'],
        service_accounts: ['admin'],
        content_type: 'application/json',
      },
    })
    expect(requests[0]?.body?.type).toBe('application/json')
    expect(JSON.parse(Buffer.from(requests[0]?.body?.bytes ?? []).toString())).toMatchObject({ kind: 'Pod' })
  })

  it('shows no value of a Secret', () => {
    const secret = message([1, META], [2, entry('password', 'hunter2')], [4, entry('token', 'hunter3')])
    const { shown } = plan('/api/v1/namespaces/shop/secrets', envelope('v1', 'Secret', secret))
    expect(shown.text).toContain('password')
    expect(shown.text).not.toMatch(/hunter|aHVudGVy/u)
  })

  it('is a dry run when its options say so', () => {
    const options = message([5, 'All'])
    const eviction = envelope('policy/v1beta1', 'Eviction', message([1, META], [2, options]))
    expect(plan(`${PODS}/c/eviction`, eviction).action.parts[0]).toMatchObject({
      verb: 'k8s.evict',
      attributes: { dry_run: true },
    })
  })

  it('is refused where a patch is wanted', () => {
    const written = { kind: 'api', method: 'PATCH', path: `${PODS}/c`, content_type: PROTOBUF, body: 'azhzAA==' }
    expect(() => planApi(written, { masks: [], streams: false })).toThrow(/content type/u)
  })
})
