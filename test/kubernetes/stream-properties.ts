/** What must hold of the streams and the masks of Kubernetes for whatever comes, each for so many runs. */
import * as fc from 'fast-check'
import { Duplex } from 'node:stream'
import { expect } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { parseJson, writeJson } from '../../src/core/json.ts'
import { answered } from '../../src/protocols/kubernetes/connector.ts'
import type { Answer, Upstream } from '../../src/protocols/kubernetes/connect-send.ts'
import { takeInput } from '../../src/protocols/kubernetes/listener-remote.ts'
import { maskValue } from '../../src/protocols/kubernetes/masks.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'
import { CHANNEL, readFrame } from '../../src/protocols/kubernetes/streams/channels.ts'
import { Pieces } from '../../src/protocols/kubernetes/streams/pieces.ts'
import { SpdyConnection } from '../../src/protocols/kubernetes/streams/spdy-connection.ts'
import { CONTROL, controlFrame, dataHead, numbers } from '../../src/protocols/kubernetes/streams/spdy-frames.ts'
import { HeaderReader, HeaderWriter } from '../../src/protocols/kubernetes/streams/spdy-headers.ts'

const headers = fc.dictionary(
  fc.constantFrom('streamtype', 'port', 'requestid', 'x'),
  fc.constantFrom('stdin', 'stdout', 'error', 'data', '80', '0', ''),
)
const frame = fc.oneof(
  fc.record({
    kind: fc.constant('open' as const),
    id: fc.constantFrom(1, 3, 5, 2, 0, 0xffffffff),
    headers,
    flags: fc.nat(3),
  }),
  fc.record({
    kind: fc.constant('data' as const),
    id: fc.constantFrom(1, 3, 9),
    bytes: fc.uint8Array({ maxLength: 40 }),
    isLast: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('other' as const), type: fc.nat(12), payload: fc.uint8Array({ maxLength: 24 }) }),
  fc.record({ kind: fc.constant('raw' as const), bytes: fc.uint8Array({ maxLength: 24 }) }),
)

/** Whatever a client sends over SPDY, in whichever pieces, ends the connection or is taken; nothing hangs, nothing else is thrown. */
export async function spdyTakesAnything(numRuns: number): Promise<void> {
  const property = fc.asyncProperty(
    fc.array(frame, { maxLength: 12 }),
    fc.array(fc.integer({ min: 1, max: 40 })),
    async (frames, cuts) => {
      const writer = new HeaderWriter()
      const sent = Buffer.concat(
        frames.map((one) => {
          if (one.kind === 'raw') return Buffer.from(one.bytes)
          if (one.kind === 'other') return controlFrame(one.type, 0, Buffer.from(one.payload))
          if (one.kind === 'data') return Buffer.concat([dataHead(one.id, one.bytes.length, one.isLast), one.bytes])
          return controlFrame(
            CONTROL.synStream,
            one.flags,
            Buffer.concat([numbers(one.id, 0), Buffer.alloc(2), writer.write(one.headers)]),
          )
        }),
      )
      const pieces = cut(sent, cuts)
      const socket = new Duplex({
        read() {
          this.push(pieces.shift() ?? null)
        },
        write: (_piece, _encoding, done) => done(),
      })
      const opened: string[] = []
      const connection = new SpdyConnection(socket, 'server', (stream) => {
        opened.push(JSON.stringify(stream.headers))
        void connection.accept(stream).catch(() => undefined)
        // A reader that goes on reading: what is left unread would rightly hold the connection back.
        void (async () => {
          for await (const _ of stream.received) continue
        })().catch(() => undefined)
      })
      const ending = await connection.run().catch((error: unknown) => error)
      if (ending !== undefined) {
        expect(ending).toBeInstanceOf(SallyportError)
        expect((ending as SallyportError).code).toMatch(/^ERR_(?:INVALID_INPUT|UPSTREAM_LOST)$/u)
      }
      expect(socket.destroyed).toBe(true)
      expect(opened.length).toBeLessThanOrEqual(frames.length)
    },
  )
  await fc.assert(property, { numRuns })
}

function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = []
  for (let at = 0, index = 0; at < bytes.length; index++) {
    const size = sizes.length === 0 ? bytes.length : (sizes[index % sizes.length] ?? 1)
    pieces.push(bytes.subarray(at, at + size))
    at += size
  }
  return pieces
}

/** Header blocks that were changed on their way. */
export async function headerBlocksTakeAnything(numRuns: number): Promise<void> {
  const property = fc.asyncProperty(
    headers,
    fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
    async (given, changes) => {
      const block = new HeaderWriter().write(given)
      for (const [at, byte] of changes) block[at % block.length] = byte
      const reader = new HeaderReader()
      const seen = await reader.read(block).catch((error: unknown) => error)
      reader.close()
      if (seen instanceof SallyportError) expect(seen.code).toBe('ERR_INVALID_INPUT')
      else expect(JSON.stringify(seen).length).toBeLessThan(64 * 1024)
    },
  )
  await fc.assert(property, { numRuns })
}

/** Of a WebSocket's messages only what the request asked for goes on. */
export async function messagesAreTakenAsAsked(numRuns: number): Promise<void> {
  const message = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc
      .constantFrom('\u0004{"Width":80,"Height":24}', '\u0004{"Width":"x"}', '\u0004[]', '\u0004null')
      .map((text) => Buffer.from(text)),
  )
  const asked = fc.record({ stdin: fc.boolean(), tty: fc.boolean() })
  const property = fc.asyncProperty(fc.array(message, { maxLength: 10 }), asked, async (messages, wanted) => {
    const request = { ...readRequest({ method: 'GET', path: '/api/v1/namespaces/a/pods/b/exec' }), ...wanted }
    const input = new Pieces()
    for (const bytes of messages) {
      const one = readFrame(bytes)
      if (one === undefined) continue
      const refused = await takeInput(one, input, request).catch((error: unknown) => error)
      if (refused === undefined) continue
      expect(refused).toMatchObject({ code: 'ERR_INVALID_INPUT' })
    }
    input.end()
    for await (const piece of input) {
      const { channel } = readFrame(piece) ?? {}
      expect((channel === CHANNEL.stdin && wanted.stdin) || (channel === CHANNEL.resize && wanted.tty)).toBe(true)
    }
  })
  await fc.assert(property, { numRuns })
}

const MARK = 'm4rk-of-a-secret'
const mark = fc.constantFrom(
  MARK,
  `${MARK}\n`,
  JSON.stringify({ any: MARK }),
  ` ${MARK}`,
  Buffer.from(MARK).toString('base64'),
)
const key = fc.constantFrom(
  'a',
  'b',
  'spec',
  'items',
  'object',
  'rows',
  'status',
  'metadata',
  'list',
  'data',
  'kind-of',
)
const NAMES = [
  'PASSWORD',
  'db_token',
  'API_KEY',
  'DATABASE_URL',
  'ssl-cert',
  'Authorization',
  'session_id',
  'aws.credential',
]
const FIELDS = ['password', 'api_key', 'client-secret', 'accessToken', 'Private.Key', 'connection_string']

/** Things that hold a secret in a place where it is masked. */
const holding: fc.Arbitrary<object> = fc.oneof(
  mark.map((value) => ({ kind: 'Secret', apiVersion: 'v1', data: { x: value }, stringData: { y: value } })),
  mark.map((value) => ({ kind: 'Secret', metadata: { annotations: { 'x.example/copy': value } }, data: {} })),
  mark.map((value) => ({ kind: 'SecretList', items: [{ metadata: { name: 's' }, data: { x: value } }] })),
  mark.map((value) => ({
    kind: 'Secret',
    metadata: {
      annotations: { 'kubectl.kubernetes.io/last-applied-configuration': JSON.stringify({ data: { x: value } }) },
    },
  })),
  fc.tuple(fc.constantFrom(...NAMES), mark).map(([name, value]) => ({ env: [{ name, value }] })),
  fc.tuple(fc.constantFrom(...NAMES), mark).map(([name, value]) => ({ parameters: [{ key: name, value }] })),
  fc.tuple(fc.constantFrom(...NAMES), mark).map(([name, value]) => ({ environment: { [name]: value } })),
  fc.tuple(fc.constantFrom(...FIELDS), mark).map(([name, value]) => ({ [name]: value })),
  mark.map((value) => ({
    kind: 'ConfigMap',
    metadata: { name: 'sh.helm.release.v1.shop.v1' },
    data: { release: value },
  })),
  mark.map((value) => ({ metadata: { managedFields: [{ manager: value }] } })),
)

/** Puts a thing into lists, tables, changes, other objects and texts. */
const wrapped: fc.Arbitrary<unknown> = fc.letrec<{ inner: unknown; list: unknown[] }>((tie) => ({
  inner: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    holding,
    fc.tuple(key, tie('inner')).map(([name, value]) => ({ [name]: value })),
    tie('list'),
    tie('inner').map((value) => ({ type: 'ADDED', object: value })),
    tie('inner').map((value) => ({ kind: 'Table', rows: [{ cells: ['a'], object: value }] })),
    tie('inner').map((value) => ({ kind: 'List', items: [value] })),
    tie('inner').map((value) => ({ kind: 'Status', details: { causes: [value] } })),
    tie('inner').map((value) => ({ note: JSON.stringify(value) })),
  ),
  list: fc.array(tie('inner'), { minLength: 1, maxLength: 3 }),
})).inner

const LOST = new RegExp(`${MARK}|${Buffer.from(MARK).toString('base64')}`, 'u')

/** No masked value survives, and masking again changes nothing. */
export function masksHold(numRuns: number): void {
  const about = fc.constantFrom(
    { group: '', resource: 'secrets' },
    { group: '', resource: 'pods' },
    { group: 'x.example', resource: 'things' },
  )
  const check = (object: unknown, context: { readonly group: string; readonly resource: string }): void => {
    const value = parseJson(JSON.stringify(object))?.value ?? null
    const masked = maskValue(value, context)
    expect(writeJson(masked.value)).not.toMatch(LOST)
    expect(writeJson(maskValue(masked.value, context).value)).toBe(writeJson(masked.value))
  }
  fc.assert(fc.property(wrapped, about, check), { numRuns })
}

/** Watch frames are masked the same however they come. */
export async function watchesAreMasked(numRuns: number): Promise<void> {
  const request = readRequest({ method: 'GET', path: '/api/v1/namespaces/a/secrets?watch=true' })
  const shownOf = async (pieces: readonly Buffer[]): Promise<string> => {
    const body = Object.assign(Duplex.from(pieces.length === 0 ? [] : pieces), {})
    const answer = { statusCode: 200, headers: { 'content-type': 'application/json' }, body } as unknown as Answer
    let shown = ''
    for await (const chunk of answered(request, answer, 1e9, { signal: new AbortController().signal } as Upstream)) {
      if (chunk.kind === 'data' && chunk.channel === 'body') shown += Buffer.from(chunk.bytes).toString('utf8')
    }
    return shown
  }
  const property = fc.asyncProperty(
    fc.array(wrapped, { minLength: 1, maxLength: 4 }),
    fc.array(fc.integer({ min: 1, max: 60 })),
    async (objects, cuts) => {
      const sent = Buffer.from(objects.map((object) => `${JSON.stringify({ type: 'MODIFIED', object })}\n`).join(''))
      const whole = await shownOf([sent])
      expect(whole).not.toMatch(LOST)
      expect(whole.split('\n')).toHaveLength(objects.length + 1)
      expect(await shownOf(cut(sent, cuts))).toBe(whole)
    },
  )
  await fc.assert(property, { numRuns })
}
