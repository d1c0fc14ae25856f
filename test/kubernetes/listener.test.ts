/** The defences of the door that need no server: what it remembers of refusals, reads of requests and makes of results. */
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import { writeAnswer } from '../../src/protocols/kubernetes/listener-answer.ts'
import { Refusals, type Refusal } from '../../src/protocols/kubernetes/listener-refusals.ts'
import { serveRemote } from '../../src/protocols/kubernetes/listener-remote.ts'
import { bodyOf, payloadOf } from '../../src/protocols/kubernetes/listener-request.ts'
import { BODY_BYTES_MAX } from '../../src/protocols/kubernetes/read-body.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'

function requestWith(headers: Readonly<Record<string, string>>, rawHeaders: readonly string[] = []): IncomingMessage {
  return { headers, rawHeaders } as unknown as IncomingMessage
}

async function* stream(chunks: readonly Chunk[]): AsyncGenerator<Chunk, void, undefined> {
  yield* chunks
}

const OK: Chunk = { kind: 'head', attributes: { ':status': '200' } }
const DATA: Chunk = { kind: 'data', channel: 'body', bytes: Buffer.from('{') }

describe('a refused upgrade that is remembered', () => {
  const WEBSOCKET = requestWith({ upgrade: 'websocket' })
  const SPDY = requestWith({ upgrade: 'SPDY/3.1' })
  const REFUSAL: Refusal = {
    answer: { status: 403, headers: {}, body: '' },
    error: new SallyportError('ERR_DENIED', 'No.'),
  }
  const who = (id: string, more: object = {}): Principal => ({ id, ...more }) as unknown as Principal
  const remembered = (): { readonly refusals: Refusals; readonly key: string; readonly clock: { now: number } } => {
    const clock = { now: 0 }
    const refusals = new Refusals(() => clock.now)
    const key = refusals.keyOf(who('ada'), 'cluster', '/exec')
    refusals.remember(WEBSOCKET, key, REFUSAL)
    return { refusals, key, clock }
  }

  it('is told once, and to the second way only', () => {
    const { refusals, key } = remembered()
    expect(refusals.take(WEBSOCKET, key)).toBeUndefined()
    expect(refusals.take(SPDY, key)).toBe(REFUSAL)
    expect(refusals.take(SPDY, key)).toBeUndefined()
  })

  it('is told nobody else, about nothing else', () => {
    const { refusals, key } = remembered()
    const others = [
      refusals.keyOf(who('eve'), 'cluster', '/exec'),
      refusals.keyOf(who('ada', { actsFor: 'sam' }), 'cluster', '/exec'),
      refusals.keyOf(who('ada', { credentialId: 't2' }), 'cluster', '/exec'),
      refusals.keyOf(who('ada'), 'other', '/exec'),
      refusals.keyOf(who('ada'), 'cluster', '/exec?x'),
    ]
    expect(new Set([key, ...others]).size).toBe(6)
  })

  it('is forgotten after its time, and when there are too many', () => {
    const late = remembered()
    late.clock.now = 60_000
    expect(late.refusals.take(SPDY, late.key)).toBeUndefined()
    const { refusals, key } = remembered()
    for (let i = 0; i < 1_000; i++) refusals.remember(WEBSOCKET, `other ${i}`, REFUSAL)
    expect(refusals.take(SPDY, key)).toBeUndefined()
    expect(refusals.take(SPDY, 'other 0')).toBe(REFUSAL)
  })

  it('is none of a SPDY request, which has no second way', () => {
    const { refusals } = remembered()
    refusals.remember(SPDY, 'its own', REFUSAL)
    expect(refusals.take(SPDY, 'its own')).toBeUndefined()
  })
})

describe('an answer at the door', () => {
  const written = async (chunks: readonly Chunk[]): Promise<ServerResponse> => {
    const response = new ServerResponse(new IncomingMessage(new Socket()))
    await writeAnswer(stream(chunks), { response, signal: new AbortController().signal, isHead: false })
    return response
  }

  it.each<[string, readonly Chunk[]]>([
    ['was cut', [OK, DATA, { kind: 'exit', status: '200', truncated: true }]],
    ['does not end', [OK, DATA]],
    ['has no head', [DATA, { kind: 'exit', status: '200', truncated: false }]],
    [
      'was withheld',
      [
        OK,
        { kind: 'notice', severity: 'WARNING', text: 'It is withheld.' },
        { kind: 'exit', status: '200', truncated: false },
      ],
    ],
  ])('that %s is an error and begins nothing', async (_what, chunks) => {
    await expect(written(chunks)).rejects.toMatchObject({ code: 'ERR_UPSTREAM_REJECTED' })
  })

  it('that is whole is written with its length', async () => {
    const response = await written([OK, DATA, { kind: 'exit', status: '200', truncated: false }])
    expect(response.statusCode).toBe(200)
    expect(response.getHeader(':status')).toBeUndefined()
  })
})

describe('the end of a command', () => {
  const REQUEST = readRequest({ method: 'GET', path: '/api/v1/namespaces/web/pods/p/exec?command=ls&stdout=true' })
  const told = async (chunks: readonly Chunk[]): Promise<object | undefined> => {
    let status: object | undefined
    await serveRemote(
      stream(chunks),
      {
        write: () => Promise.resolve(),
        finish: async (said) => void (status = said),
        destroy: () => undefined,
      },
      REQUEST,
    )
    return status
  }

  it('is told as the server tells it', async () => {
    expect(await told([{ kind: 'exit', status: '0', truncated: false }])).toMatchObject({ status: 'Success' })
    const failed = await told([{ kind: 'exit', status: '7', truncated: false }])
    expect(failed).toMatchObject({ details: { causes: [{ reason: 'ExitCode', message: '7' }] } })
  })

  it.each<[string, readonly Chunk[]]>([
    ['was cut', [{ kind: 'exit', status: '0', truncated: true }]],
    ['never came', []],
  ])('is no success when it %s', async (_what, chunks) => {
    expect(await told(chunks)).toMatchObject({ status: 'Failure' })
  })
})

describe('a request', () => {
  it('has one content type', () => {
    const raw = ['content-type', 'application/json', 'Content-Type', 'application/yaml']
    expect(() => payloadOf(requestWith({}, raw), 'POST', '/api/v1/pods', undefined)).toThrow('twice')
  })

  it('has a body as long as an API server reads, declared or not', async () => {
    const declared = requestWith({ 'content-length': String(BODY_BYTES_MAX + 1) })
    await expect(bodyOf(declared)).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' })
    const half = Buffer.alloc(BODY_BYTES_MAX / 2 + 1)
    const chunked = Object.assign(Readable.from([half, half]), { headers: { 'transfer-encoding': 'chunked' } })
    await expect(bodyOf(chunked as unknown as IncomingMessage)).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' })
  })
})
