import * as fc from 'fast-check'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { constants, createDeflate } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { SpdyConnection } from '../../src/protocols/kubernetes/streams/spdy-connection.ts'
import { SPDY_DICTIONARY } from '../../src/protocols/kubernetes/streams/spdy-dictionary.ts'
import {
  CONTROL,
  controlFrame,
  dataHead,
  FrameReader,
  numbers,
  type SpdyFrame,
} from '../../src/protocols/kubernetes/streams/spdy-frames.ts'
import { HeaderReader, HeaderWriter, type SpdyHeaders } from '../../src/protocols/kubernetes/streams/spdy-headers.ts'
import type { SpdyStream } from '../../src/protocols/kubernetes/streams/spdy-stream.ts'

describe('the dictionary of SPDY/3', () => {
  it('is the one whose checksum stands in every stream of a client', () => {
    let a = 1
    let b = 0
    for (const byte of SPDY_DICTIONARY) {
      a = (a + byte) % 65521
      b = (b + a) % 65521
    }
    expect(b * 65536 + a).toBe(0xe3c6a7c2)
  })
})

describe('header blocks', () => {
  const names = fc.stringMatching(/^[a-z:-]{1,20}$/u)
  const headers = fc.dictionary(names, fc.stringMatching(/^[\u0020-\u007e]{0,40}$/u), { maxKeys: 8 })

  it('come back as they were written, block after block', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(headers, { minLength: 1, maxLength: 5 }), async (blocks) => {
        const writer = new HeaderWriter()
        const reader = new HeaderReader()
        try {
          for (const block of blocks) expect({ ...(await reader.read(writer.write(block))) }).toEqual({ ...block })
        } finally {
          reader.close()
        }
      }),
      { numRuns: 50 },
    )
  })

  it('are read as Go compresses them: with the dictionary, each flushed', async () => {
    const deflate = createDeflate({ dictionary: SPDY_DICTIONARY })
    const reader = new HeaderReader()
    const compressed = async (given: SpdyHeaders): Promise<Buffer> => {
      const pieces: Buffer[] = []
      const take = (piece: Buffer): void => void pieces.push(piece)
      deflate.on('data', take)
      deflate.write(plain(given))
      await new Promise<void>((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, resolve))
      deflate.off('data', take)
      return Buffer.concat(pieces)
    }
    try {
      for (const streamtype of ['error', 'stdin', 'stdout', 'stderr']) {
        expect({ ...(await reader.read(await compressed({ streamtype, accept: 'text/plain' }))) }).toEqual({
          streamtype,
          accept: 'text/plain',
        })
      }
    } finally {
      reader.close()
      deflate.destroy()
    }
  })

  it.each([
    ['gigabytes in a few bytes', plain({ a: 'x'.repeat(10_000_000) })],
    ['a name twice', Buffer.concat([numbers(2), counted('a'), counted('1'), counted('a'), counted('2')])],
    ['a length beyond the end', Buffer.concat([numbers(1), counted('a'), numbers(99)])],
    ['an end nobody reads', Buffer.concat([plain({ a: '1' }), Buffer.of(0)])],
    ['more names than bytes', numbers(0xffff_ffff)],
  ])('refuse %s', async (_what, content) => {
    const deflate = createDeflate({ dictionary: SPDY_DICTIONARY })
    const pieces: Buffer[] = []
    deflate.on('data', (piece: Buffer) => pieces.push(piece))
    deflate.end(content)
    await once(deflate, 'end')
    const reader = new HeaderReader()
    await expect(reader.read(Buffer.concat(pieces))).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
    await expect(reader.read(new HeaderWriter().write({}))).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
    reader.close()
  })

  it('refuse what was never compressed', async () => {
    const reader = new HeaderReader()
    await expect(reader.read(Buffer.from('GET / HTTP/1.1'))).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
    reader.close()
  })
})

describe('frames', () => {
  const frame = fc.oneof(
    fc.record({
      type: fc.integer({ min: 1, max: 9 }),
      flags: fc.integer({ min: 0, max: 255 }),
      payload: fc.uint8Array({ maxLength: 40 }),
    }),
    fc.record({
      stream: fc.integer({ min: 1, max: 0x7fffffff }),
      bytes: fc.uint8Array({ maxLength: 40 }),
      isLast: fc.boolean(),
    }),
  )

  it('are the same however the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 8 }), fc.array(fc.integer({ min: 1, max: 30 })), (frames, cuts) => {
        const sent = frames.map((one): SpdyFrame =>
          'type' in one
            ? { kind: 'control', ...one, payload: Buffer.from(one.payload) }
            : { kind: 'data', ...one, bytes: Buffer.from(one.bytes) },
        )
        const bytes = Buffer.concat(
          sent.flatMap((one) =>
            one.kind === 'control'
              ? [controlFrame(one.type, one.flags, one.payload)]
              : [dataHead(one.stream, one.bytes.length, one.isLast), one.bytes],
          ),
        )
        const reader = new FrameReader()
        const seen: SpdyFrame[] = []
        let at = 0
        for (let i = 0; at < bytes.length; i++) {
          const size = cuts.length === 0 ? bytes.length : (cuts[i % cuts.length] ?? 1)
          seen.push(...reader.push(bytes.subarray(at, at + size)))
          at += size
        }
        expect(normal(seen)).toEqual(normal(sent))
      }),
    )
  })

  it('never throw but what callers may see, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(codeOf(() => new FrameReader().push(Buffer.from(bytes)))).toMatch(/^(ok|ERR_INVALID_INPUT)$/u)
      }),
    )
  })

  it('refuse a control frame that is longer than any', () => {
    const head = controlFrame(CONTROL.synStream, 0, Buffer.alloc(0))
    head.writeUIntBE(0xffffff, 5, 3)
    expect(() => new FrameReader().push(head)).toThrow(/too long/u)
  })
})

describe('a connection', () => {
  const sockets: Socket[] = []
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy()
  })

  async function pair(): Promise<readonly [Socket, Socket]> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
    const [other] = (await once(server, 'connection')) as [Socket]
    server.close()
    sockets.push(client, other)
    return [client, other]
  }

  it('carries streams in both directions, each with its own end', async () => {
    const [near, far] = await pair()
    const server = new SpdyConnection(far, 'server', (stream) => {
      void (async () => {
        await server.accept(stream)
        for await (const piece of stream.received) await stream.write(Buffer.from(piece).reverse())
        await stream.write(Buffer.from(`.${stream.headers['streamtype']}`))
        await stream.end()
      })()
    })
    const client = new SpdyConnection(near, 'client', () => undefined)
    void server.run().catch(() => undefined)
    void client.run().catch(() => undefined)
    const streams = await Promise.all(['stdin', 'error'].map((streamtype) => client.open({ streamtype })))
    for (const stream of streams) {
      await stream.write(Buffer.from('abc'))
      await stream.end()
    }
    expect(await Promise.all(streams.map(textOf))).toEqual(['cba.stdin', 'cba.error'])
  })

  it('keeps megabytes whole and holds a fast side back', async () => {
    const [near, far] = await pair()
    let taken: SpdyStream | undefined
    const opened = new Promise<void>((resolve) => {
      const server = new SpdyConnection(far, 'server', (stream) => {
        taken = stream
        void server.accept(stream).then(resolve)
      })
      void server.run().catch(() => undefined)
    })
    const client = new SpdyConnection(near, 'client', () => undefined)
    void client.run().catch(() => undefined)
    const stream = await client.open({ streamtype: 'stdin' })
    await opened
    const whole = Buffer.alloc(32 * 1024 * 1024, 'sallyport ')
    let isSent = false
    const sending = stream.write(whole).then(() => (isSent = true))
    // Nobody reads: what fits into the buffers of both sides is far less than all of it.
    for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
    expect(isSent).toBe(false)
    const closed = sending.then(() => stream.end())
    const pieces: Uint8Array[] = []
    for await (const piece of taken?.received ?? []) pieces.push(piece)
    await closed
    expect(Buffer.concat(pieces).equals(whole)).toBe(true)
  })

  it('fails what waits when the other side goes', async () => {
    const [near, far] = await pair()
    const client = new SpdyConnection(near, 'client', () => undefined)
    const running = client.run().catch((error: unknown) => error)
    const opening = client.open({ streamtype: 'stdin' })
    far.destroy()
    await expect(opening).rejects.toMatchObject({ code: 'ERR_UPSTREAM_LOST' })
    await running
  })

  it.each([
    ['a stream with a number of ours', Buffer.concat([numbers(2, 0), Buffer.alloc(2), new HeaderWriter().write({})])],
    ['a frame that ends early', Buffer.alloc(4)],
  ])('ends at %s', async (_what, payload) => {
    const [near, far] = await pair()
    const server = new SpdyConnection(far, 'server', () => undefined)
    near.write(controlFrame(CONTROL.synStream, 0, payload))
    await expect(server.run()).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
  })

  it('answers a ping with the same number', async () => {
    const [near, far] = await pair()
    const server = new SpdyConnection(far, 'server', () => undefined)
    void server.run().catch(() => undefined)
    const ping = controlFrame(CONTROL.ping, 0, numbers(7))
    near.write(ping)
    const [answer] = (await once(near, 'data')) as [Buffer]
    expect(answer).toEqual(ping)
  })
})

function codeOf(what: () => unknown): unknown {
  try {
    what()
    return 'ok'
  } catch (error) {
    return error instanceof SallyportError ? error.code : error
  }
}

async function textOf(stream: SpdyStream): Promise<string> {
  const pieces: Uint8Array[] = []
  for await (const piece of stream.received) pieces.push(piece)
  return Buffer.concat(pieces).toString()
}

function counted(text: string): Buffer {
  return Buffer.concat([numbers(text.length), Buffer.from(text)])
}

function plain(headers: SpdyHeaders): Buffer {
  const entries = Object.entries(headers)
  return Buffer.concat([numbers(entries.length), ...entries.flat().map(counted)])
}

/** Data may come in pieces: neighbours of one stream become one. */
function normal(frames: readonly SpdyFrame[]): readonly SpdyFrame[] {
  const out: SpdyFrame[] = []
  for (const frame of frames) {
    const before = out.at(-1)
    const goesOn = frame.kind === 'data' && before?.kind === 'data' && before.stream === frame.stream && !before.isLast
    if (goesOn) out.splice(-1, 1, { ...frame, bytes: Buffer.concat([before.bytes, frame.bytes]) })
    else out.push(frame)
  }
  return out
}
