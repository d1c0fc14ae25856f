/** One test for each defence that no attack above would miss: what is refused because of it, and nothing else. */
import { Duplex } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { describe, expect, it } from 'vitest'
import { parseJson, writeJson } from '../../src/core/json.ts'
import { readArgv } from '../../src/protocols/kubernetes/argv.ts'
import { answered } from '../../src/protocols/kubernetes/connector.ts'
import { send, type Answer, type Upstream } from '../../src/protocols/kubernetes/connect-send.ts'
import { takeInput } from '../../src/protocols/kubernetes/listener-remote.ts'
import { scrubMessage } from '../../src/protocols/kubernetes/mask-message.ts'
import { maskValue } from '../../src/protocols/kubernetes/masks.ts'
import { planApi } from '../../src/protocols/kubernetes/plan.ts'
import { BODY_BYTES_MAX } from '../../src/protocols/kubernetes/read-body.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'
import { commandOf } from '../../src/protocols/kubernetes/tool.ts'
import { CHANNEL } from '../../src/protocols/kubernetes/streams/channels.ts'
import { Pieces } from '../../src/protocols/kubernetes/streams/pieces.ts'
import { SpdyConnection } from '../../src/protocols/kubernetes/streams/spdy-connection.ts'
import { CONTROL, controlFrame, numbers } from '../../src/protocols/kubernetes/streams/spdy-frames.ts'
import { HeaderReader, HeaderWriter } from '../../src/protocols/kubernetes/streams/spdy-headers.ts'

const PODS = '/api/v1/namespaces/web/pods'
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration'
const SECRETS = '/api/v1/namespaces/web/secrets'

describe('a body', () => {
  it('is no longer than an API server reads', () => {
    const body = Buffer.alloc(BODY_BYTES_MAX + 1, ' ')
    expect(() => readRequest({ method: 'POST', path: PODS, body })).toThrow(/bytes an API server reads/u)
  })

  it('belongs to no request that reads', () => {
    expect(() => readRequest({ method: 'GET', path: PODS, body: Buffer.from('{}') })).toThrow('no body')
  })

  it.each([
    ['PATCH', `${PODS}/p`, 'application/json'],
    ['POST', PODS, 'application/merge-patch+json'],
    ['PUT', `${PODS}/p`, 'application/apply-patch+yaml'],
  ])('of a %s on %s is not %s', (method, path, contentType) => {
    expect(() => readRequest({ method, path, contentType, body: Buffer.from('{}') })).toThrow('content type')
  })
})

it.each([
  ['metadata.name=a', 'a'],
  ['metadata.name!=a', undefined],
  ['metadata.name=a,metadata.name=b', undefined],
  ['spec.metadata.name=a', undefined],
  ['metadata.name=a\\,b', undefined],
])('a list by the field selector %s is one of %s', (selector, name) => {
  const path = `${SECRETS}?fieldSelector=${encodeURIComponent(selector)}`
  expect(readRequest({ method: 'GET', path }).name).toBe(name)
})

it.each([{ owner: 'helm' }, { OWNER: 'TILLER' }])('a release of Helm with the labels %j shows nothing', (labels) => {
  const object = { kind: 'ConfigMap', metadata: { name: 'shop.v1', labels }, data: { release: 'hunter2' } }
  const value = parseJson(JSON.stringify(object))?.value ?? null
  expect(writeJson(maskValue(value, { group: '', resource: 'configmaps' }).value)).not.toContain('hunter2')
})

it.each(['cannot change core.PodSpec{Env: hunter2}', 'may not change fields:\n- value: hunter2', 'no: \r- hunter2'])(
  'what the server quotes of an object is not passed on: %j',
  (message) => expect(scrubMessage(message, false)).not.toContain('hunter2'),
)

it.each([
  ['a status', { kind: 'Status', message: 'error found in #10 byte of ...|hunter2|..., bigger context' }],
  [
    'a text of which one reader sees the first key, and another the last',
    { note: '{"kind":"Secret","data":{"a":"hunter2"},"data":{}}' },
  ],
])('C10: %s is masked', (_what, object) => {
  const value = parseJson(JSON.stringify(object))?.value ?? null
  expect(writeJson(maskValue(value, { group: 'x.example', resource: 'things' }).value)).not.toContain('hunter2')
})

it('what is said about a Secret quotes no value of it', () => {
  expect(scrubMessage('data: Invalid value: "hunter2": must be base64', true)).not.toContain('hunter2')
})

it.each([[[{ op: 1, path: '/spec' }]], [[{ op: 'merge', path: '/spec' }]], [[{ path: '/data' }]]])(
  'a patch whose operation nobody knows is refused: %j',
  (patch) => {
    const body = Buffer.from(JSON.stringify(patch)).toString('base64')
    const type = 'application/json-patch+json'
    const payload = { kind: 'api', method: 'PATCH', path: `${PODS}/p`, content_type: type, body }
    expect(planApi(payload, { masks: [], streams: false }).refused?.construct).toBe('k8s.patch_reads')
  },
)

describe('an object that is sent', () => {
  const planned = (path: string, object: unknown): ReturnType<typeof planApi> => {
    const body = Buffer.from(JSON.stringify(object)).toString('base64')
    return planApi({ kind: 'api', method: 'PUT', path, body }, { masks: [], streams: false })
  }

  it('writes no mask back, in whatever kind', () => {
    const { refused } = planned('/api/v1/namespaces/web/configmaps/c', { kind: 'ConfigMap', data: { a: ['***'] } })
    expect(refused?.construct).toBe('k8s.masked_value')
  })

  it('C10: is shown to nobody with the values of a Secret', () => {
    const { shown } = planned(`${SECRETS}/s`, {
      kind: 'Secret',
      stringData: { a: 'hunter2' },
      data: { b: 'aHVudGVyMg==' },
    })
    expect(shown.text).toContain('stringData')
    expect(shown.text).not.toMatch(/hunter2|aHVudGVyMg/u)
  })
})

it.each([
  [['get', '-'], 'standard input'],
  [['apply', 'x'], 'manifest'],
  [['create', 'deployment', 'x'], 'manifest'],
  [['get', 'pods', '--', 'x'], 'belongs to exec'],
])('a command line %j is refused', (argv, why) => {
  expect(() => readArgv(argv)).toThrow(why)
})

describe('SPDY', () => {
  const opening = (id: number, writer: HeaderWriter): Buffer =>
    controlFrame(CONTROL.synStream, 0, Buffer.concat([numbers(id, 0), Buffer.alloc(2), writer.write({ a: 'b' })]))

  async function ending(frames: readonly Buffer[]): Promise<unknown> {
    const pieces = [...frames]
    const socket = new Duplex({
      read() {
        this.push(pieces.shift() ?? null)
      },
      write: (_piece, _encoding, done) => done(),
    })
    return new SpdyConnection(socket, 'server', () => undefined).run().catch((error: unknown) => error)
  }

  it('has streams whose numbers only grow', async () => {
    const writer = new HeaderWriter()
    expect(await ending([opening(5, writer), opening(3, writer)])).toMatchObject({ code: 'ERR_INVALID_INPUT' })
    const another = new HeaderWriter()
    expect(await ending([opening(5, another), opening(5, another)])).toMatchObject({ code: 'ERR_INVALID_INPUT' })
  })

  it('has so many streams at once and no more', async () => {
    const writer = new HeaderWriter()
    const many = Array.from({ length: 300 }, (_, index) => opening(2 * index + 1, writer))
    expect(await ending(many)).toMatchObject({ code: 'ERR_INVALID_INPUT' })
    const few = new HeaderWriter()
    expect(await ending(many.slice(0, 2).map((_, index) => opening(2 * index + 1, few)))).toBeUndefined()
  })

  it('has no frames nobody knows', async () => {
    expect(await ending([controlFrame(12, 0, Buffer.alloc(8))])).toMatchObject({ code: 'ERR_INVALID_INPUT' })
  })

  it('has so many headers in a block and no more', async () => {
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`h${index}`, '1']))
    const reader = new HeaderReader()
    await expect(reader.read(new HeaderWriter().write(many))).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
    reader.close()
  })
})

it.each(['null', '7', '"x"', '{', `{"Width":80,"x":"${'x'.repeat(300)}"}`])(
  'a size of a window is one, and not %s',
  async (text) => {
    const request = { ...readRequest({ method: 'GET', path: `${PODS}/p/exec` }), tty: true }
    const frame = { channel: CHANNEL.resize, bytes: Buffer.from(text) }
    await expect(takeInput(frame, new Pieces(), request)).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
  },
)

it.each([CHANNEL.stdin, CHANNEL.stdout, CHANNEL.error, CHANNEL.resize, 9])(
  'what a request did not ask for on channel %i ends it',
  async (channel) => {
    const request = readRequest({ method: 'GET', path: `${PODS}/p/exec` })
    const frame = { channel, bytes: Buffer.from('x') }
    await expect(takeInput(frame, new Pieces(), request)).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
  },
)

describe('a watch', () => {
  async function shownOf(pieces: readonly Buffer[]): Promise<string> {
    const request = readRequest({ method: 'GET', path: `${SECRETS}?watch=true` })
    const headers = { 'content-type': 'application/json' }
    const answer = { statusCode: 200, headers, body: Duplex.from(pieces) } as unknown as Answer
    const upstream = { signal: new AbortController().signal } as Upstream
    let shown = ''
    for await (const chunk of answered(request, answer, 1e9, upstream)) {
      if (chunk.kind === 'data' && chunk.channel === 'body') shown += Buffer.from(chunk.bytes).toString('utf8')
    }
    return shown
  }

  it.each([
    [
      'a change that cannot be read',
      [Buffer.from('{"type":"ADDED","object":{"kind":"Secret"\n')],
      'ERR_UPSTREAM_REJECTED',
    ],
    ['a change that breaks off', [Buffer.from('{"type":"ADDED","object":{"kind":"Secret"')], 'ERR_UPSTREAM_LOST'],
    ['a change without an end', Array.from({ length: 10 }, () => Buffer.alloc(1024 * 1024, 'x')), 'ERR_TOO_LARGE'],
  ])('shows nothing of %s', async (_what, pieces, code) => {
    await expect(shownOf(pieces)).rejects.toMatchObject({ code })
  })
})

it('an answer that is no JSON is withheld, and is not taken for a short one', async () => {
  const request = readRequest({ method: 'GET', path: `${SECRETS}/s` })
  const headers = { 'content-type': 'application/vnd.kubernetes.protobuf' }
  const body = Duplex.from([Buffer.from('k8s\0 hunter2')])
  const answer = { statusCode: 200, headers, body } as unknown as Answer
  const chunks: unknown[] = []
  const upstream = { signal: new AbortController().signal } as Upstream
  for await (const chunk of answered(request, answer, 1e9, upstream)) chunks.push(chunk)
  expect(chunks).toMatchObject([{ kind: 'head' }, { kind: 'notice', severity: 'WARNING' }, { truncated: true }])
})

it.each([
  ['secrets', '299 - "data.pin: Invalid value: \\"hunter2\\": must be short"'],
  ['pods', '299 - "spec: Invalid value: core.PodSpec{Env: hunter2}: field is immutable"'],
])('C10: a warning about %s quotes no value', async (resource, warning) => {
  const request = readRequest({ method: 'GET', path: `/api/v1/namespaces/web/${resource}/x` })
  const headers = { 'content-type': 'application/json', warning }
  const answer = { statusCode: 200, headers, body: Duplex.from([Buffer.from('{}')]) } as unknown as Answer
  const upstream = { signal: new AbortController().signal } as Upstream
  const { value: head } = await answered(request, answer, 1e9, upstream).next()
  const said = JSON.stringify(head)
  expect(said).toContain('Invalid value: (not shown)')
  expect(said).not.toContain('hunter2')
})

it('C10: an answer that is compressed although nobody asked for it is not passed on', async () => {
  const body = Duplex.from([gzipSync('mail ada@example.com')])
  const answer = { statusCode: 200, headers: { 'content-encoding': 'gzip' }, body }
  const upstream = {
    options: { server: new URL('https://127.0.0.1:1') },
    pools: { of: () => ({ request: async () => answer }) },
    login: {},
    signal: new AbortController().signal,
  } as unknown as Upstream
  const request = readRequest({ method: 'GET', path: `${PODS}/p/proxy/metrics` })
  await expect(send(request, upstream)).rejects.toMatchObject({ code: 'ERR_UPSTREAM_REJECTED' })
  expect(body.destroyed).toBe(true)
})

it.each([
  ['binaryData', { binaryData: { key: 'aHVudGVyMg==' } }],
  ['a copy of what was applied that is no JSON', { metadata: { annotations: { [LAST_APPLIED]: 'hunter2: {' } } }],
])('C10: a Secret is shown without %s', (_what, fields) => {
  const value = parseJson(JSON.stringify({ kind: 'Secret', ...fields }))?.value ?? null
  const shown = writeJson(maskValue(value, { group: '', resource: 'secrets' }).value)
  expect(shown).not.toMatch(/hunter2|aHVudGVyMg/u)
})

it('C10: a number in a cell is masked where its object masks it', () => {
  const object = { kind: 'Vault', metadata: { name: 'v' }, spec: { token: '4711' } }
  const table = { kind: 'Table', rows: [{ cells: ['v', 4711, 12], object }] }
  const value = parseJson(JSON.stringify(table))?.value ?? null
  const shown = writeJson(maskValue(value, { group: 'example.com', resource: 'vaults' }).value)
  expect(shown).toContain('"cells":["v","***",12]')
})

it.each([
  ['/api/v1//pods', 'without empty'],
  ['/api//v1/pods', 'not a version|without empty'],
  ['/api/v1/namespaces/web//pods', 'without empty'],
  ['/api/v1/namespaces/web/pods//exec', 'without empty'],
])('the path %s, which a proxy before the server may join, is refused', (path, why) => {
  expect(() => readRequest({ method: 'GET', path })).toThrow(new RegExp(why, 'u'))
})

it.each(['exec', 'attach', 'portforward', 'proxy'])(
  '%s of pods in a group with a name is not what pods have',
  (sub) => {
    const path = `/apis/example.com/v1/namespaces/web/pods/p/${sub}`
    expect(readRequest({ method: 'GET', path }).verb).toBe('unknown')
  },
)

it.each([
  ['a key twice', 'a: 1\na: 2\n', /keys? (?:given )?twice/u],
  ['a number nobody keeps', 'a: 9007199254740993\n', /kept exactly/u],
  ['more than is read in no time', `a: ${'x'.repeat(300 * 1024)}`, /send JSON/u],
])('YAML with %s is refused', (_what, text, why) => {
  const written = { method: 'POST', path: PODS, contentType: 'application/yaml', body: Buffer.from(text) }
  expect(() => readRequest(written)).toThrow(why)
})

it('a body in bytes that are no UTF-8 is refused', () => {
  const body = Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xff]), Buffer.from('"}')])
  expect(() => readRequest({ method: 'POST', path: PODS, contentType: 'application/json', body })).toThrow('UTF-8')
})

describe('what goes on after an answer is refused with what to ask for instead', () => {
  it.each([
    ['watch', 'one answer: get again'],
    ['wait', 'rollout_status'],
    ['attach', 'attach through the Kubernetes door'],
    ['port-forward', 'forward ports through the Kubernetes door'],
    ['cp', 'copy through the Kubernetes door'],
    ['edit', 'patch or apply'],
    ['run', 'create with a manifest'],
  ])('%s', async (verb, hint) => {
    expect(() => readArgv([verb, 'pods'])).toThrow(hint)
    const nothing = { findKind: async () => undefined, uidOf: async () => undefined, podsOf: async () => undefined }
    await expect(commandOf({ verb }, 'web', nothing)).rejects.toThrow(hint)
  })

  it.each([
    [['get', 'pods', '-w'], 'one answer: get again'],
    [['get', 'pods', '--watch'], 'one answer: get again'],
    [['logs', 'web', '--follow'], 'follow them through the Kubernetes door'],
  ])('%j', (argv, hint) => expect(() => readArgv(argv)).toThrow(hint))
})

it('a body in protobuf is bounded by the JSON it becomes', () => {
  // A byte that takes six characters in JSON.
  const value = Buffer.alloc(BODY_BYTES_MAX / 5, 1)
  const writer = new BinaryWriter().tag(2, WireType.LengthDelimited)
  const entry = new BinaryWriter().tag(1, WireType.LengthDelimited).string('k')
  const held = entry.tag(2, WireType.LengthDelimited).bytes(value).finish()
  const type = new BinaryWriter().tag(1, WireType.LengthDelimited).string('v1')
  const kind = type.tag(2, WireType.LengthDelimited).string('ConfigMap').finish()
  const raw = writer.bytes(held).finish()
  const envelope = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(kind)
  const body = Buffer.concat([Buffer.from('k8s\0'), envelope.tag(2, WireType.LengthDelimited).bytes(raw).finish()])
  const path = '/api/v1/namespaces/web/configmaps'
  const written = { method: 'POST', path, contentType: 'application/vnd.kubernetes.protobuf', body }
  expect(body.length).toBeLessThan(BODY_BYTES_MAX)
  expect(() => readRequest(written)).toThrow(/As JSON the body has more than/u)
})
