/** What the connector makes of answers that are long, odd or a refusal. No server: each answer is spelled out. */
import { Duplex } from 'node:stream'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Permit } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { Decision } from '../../src/core/decision.ts'
import { createMasking } from '../../src/masking/masking.ts'
import { acceptUnder, answered, maskedBody } from '../../src/protocols/kubernetes/connector.ts'
import { refusalOf } from '../../src/protocols/kubernetes/connect-step.ts'
import { wholeOf, type Answer, type Upstream } from '../../src/protocols/kubernetes/connect-send.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'

const PODS = '/api/v1/namespaces/web/pods'
const ALIVE = new AbortController().signal

function answerOf(body: string, statusCode = 200, type = 'application/json'): Answer {
  const pieces = Duplex.from([Buffer.from(body)])
  return { statusCode, headers: { 'content-type': type }, body: pieces } as unknown as Answer
}

async function chunksOf(answer: Answer, bytesMax: number, path = `${PODS}/p`): Promise<readonly Chunk[]> {
  const request = readRequest({ method: 'GET', path })
  const chunks: Chunk[] = []
  for await (const chunk of answered(request, answer, bytesMax, { signal: ALIVE } as Upstream)) chunks.push(chunk)
  return chunks
}

const textOf = (chunks: readonly Chunk[]): string =>
  chunks.map((chunk) => ('bytes' in chunk ? Buffer.from(chunk.bytes).toString('utf8') : '')).join('')

describe('an answer', () => {
  it('is read up to its limit and no further', async () => {
    await expect(wholeOf(answerOf('x'.repeat(101)), 100, ALIVE)).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' })
    expect((await wholeOf(answerOf('x'.repeat(100)), 100, ALIVE)).length).toBe(100)
  })

  it('that masks made longer than its limit is withheld whole', async () => {
    const variable = { name: 'PASSWORD', value: 'x' }
    const body = JSON.stringify({ kind: 'Pod', spec: { env: Array.from({ length: 5 }, () => variable) } })
    const chunks = await chunksOf(answerOf(body), body.length)
    expect(chunks.at(-1)).toMatchObject({ truncated: true })
    expect(textOf(chunks)).toBe('')
  })

  it('that is text of a container is cut at its limit, and says so', async () => {
    const chunks = await chunksOf(answerOf('0123456789', 200, 'text/plain'), 4, `${PODS}/p/log`)
    expect(textOf(chunks)).toBe('0123')
    expect(chunks.at(-1)).toMatchObject({ kind: 'exit', truncated: true, truncatedBy: 'bytes' })
  })

  it('that is a watch ends before the change that would pass its limit, and says so', async () => {
    const change = '{"type":"ADDED","object":{"kind":"Pod"}}\n'
    const chunks = await chunksOf(answerOf(change), change.length - 1, `${PODS}?watch=true`)
    expect(textOf(chunks)).toBe('')
    expect(chunks.at(-1)).toMatchObject({ kind: 'exit', truncated: true })
  })

  it('that is a sentence of an error quotes no object', async () => {
    const said = 'error found in #10 byte of ...|"hunter2"|...'
    const chunks = await chunksOf(answerOf(`cannot read it, ${said}`, 400, 'text/plain'), 1000)
    expect(textOf(chunks)).toBe('cannot read it')
  })

  it.each([
    [200, undefined],
    [304, undefined],
    [404, 'no_effect'],
    [409, 'no_effect'],
    [429, 'no_effect'],
    [500, 'unknown'],
    [504, 'unknown'],
  ])('C12: of %i says of what was asked for: %s', async (status, failed) => {
    const chunks = await chunksOf(answerOf('{"kind":"Status"}', status), 1000)
    expect(chunks.at(-1)).toEqual({
      kind: 'exit',
      status: String(status),
      truncated: false,
      ...(failed !== undefined && { failed }),
    })
  })

  it.each([
    ['DELETE', PODS, 'a collection, where the first object that is refused is the answer of all'],
    ['POST', `${PODS}/p/proxy/orders`, 'what stands behind a proxy, which means by it what it likes'],
  ])('C12: of 4xx proves nothing of %s %s: %s', async (method, path) => {
    const request = readRequest({ method, path })
    const answer = answerOf('{"kind":"Status"}', 403)
    const chunks: Chunk[] = []
    for await (const chunk of answered(request, answer, 1000, { signal: ALIVE } as Upstream)) chunks.push(chunk)
    expect(chunks.at(-1)).toMatchObject({ kind: 'exit', failed: 'unknown' })
    expect(refusalOf(request, 403, undefined, '').facts).toEqual({})
  })
})

describe('a list', () => {
  const listed = (items: unknown, kind: string): Buffer => {
    const request = readRequest({ method: 'GET', path: PODS })
    const body = Buffer.from(JSON.stringify({ kind, metadata: {}, [kind === 'Table' ? 'rows' : 'items']: items }))
    return maskedBody(request, body, 'application/json', 200)?.bytes ?? Buffer.alloc(0)
  }

  it.each(['PodList', 'Table'])(
    'of kind %s has an object to a line, so that detectors read each of them once',
    (kind) => {
      const lines = listed([{ a: 1 }, { a: [2] }, 3], kind)
        .toString('utf8')
        .split('\n')
        .slice(1)
      expect(lines).toEqual(['{"a":1},', '{"a":[2]},', '3', ']}'])
      expect(listed([], kind).toString('utf8')).not.toContain('\n')
    },
  )

  it('C10: shows after detectors what it would show as one line', () => {
    const detect = ['email', 'credit_card', 'jwt', 'private_key'].map((detector) => ({ detector, transform: 'redact' }))
    const masking = createMasking({ hashKey: Buffer.alloc(32) })
    const shown = (text: string): unknown =>
      JSON.parse(masking.text(text, { obligations: { detect } } as unknown as Decision))
    const value = fc.constantFrom(
      'ada@example.com',
      'ada\\u0040example.com',
      '4111 1111 1111 1111',
      '4111',
      '-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----\n',
      'a"b\nc',
      ' \\',
    )
    const item = fc.dictionary(fc.constantFrom('a', 'email', 'card'), fc.oneof(value, fc.array(value)))
    fc.assert(
      fc.property(fc.array(item, { maxLength: 5 }), (items) => {
        const text = listed(items, 'PodList').toString('utf8')
        expect(shown(text)).toEqual(shown(JSON.stringify(JSON.parse(text))))
      }),
      { numRuns: 100 },
    )
  })
})

it.each([
  [[{ path: 'data.pin', transform: 'redact' }], 'application/json'],
  [[], 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json'],
])('C10: a table is not asked for under masks of fields: %j', (fields, accept) => {
  const request = readRequest({ method: 'GET', path: PODS, accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' })
  expect(acceptUnder(request, { obligations: { fields } } as unknown as Permit)).toBe(accept)
})
