/** Content of files between the door and the library: the same bytes, however they come, and never somebody else's. */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import * as fc from 'fast-check'
import ssh2, { type Client, type Connection, type SFTPWrapper, type ServerChannel } from 'ssh2'
import { describe, expect, it } from 'vitest'
import { algorithms } from '../../src/protocols/ssh/algorithms.ts'
import { hostKeyFrom } from '../../src/protocols/ssh/host-key.ts'
import { Gathering, joined, packFast, writeAt } from '../../src/protocols/ssh/library-bulk.ts'
import { socketOf, type Outlet } from '../../src/protocols/ssh/library.ts'

interface Write {
  readonly id: number
  readonly handle: string
  readonly offset: number
  readonly bytes: Buffer
}

function messageOf({ id, handle, offset, bytes }: Write): Buffer {
  const head = Buffer.alloc(13)
  head.writeUInt32BE(9 + handle.length + 12 + bytes.length, 0)
  head[4] = 6
  head.writeUInt32BE(id, 5)
  head.writeUInt32BE(handle.length, 9)
  const rest = Buffer.alloc(12)
  rest.writeBigUInt64BE(BigInt(offset))
  rest.writeUInt32BE(bytes.length, 8)
  return Buffer.concat([head, Buffer.from(handle), rest, bytes])
}

/** What comes out of a reader of messages, in its order; what is not gathered as one run of bytes. */
function gathered(stream: Buffer, cuts: readonly number[], version = 3): readonly (Write | Buffer)[] {
  const seen: (Write | Buffer)[] = []
  const sftp = {
    _version: version,
    emit(event: string, id: number, handle: Buffer, offset: number, bytes: Buffer) {
      expect(event).toBe('WRITE')
      seen.push({ id, handle: handle.toString(), offset, bytes })
    },
  }
  const gathering = new Gathering(sftp as unknown as SFTPWrapper, (data) => {
    const last = seen.at(-1)
    // What was received is not kept by whoever reads it.
    if (Buffer.isBuffer(last)) seen[seen.length - 1] = Buffer.concat([last, data ?? Buffer.alloc(0)])
    else seen.push(Buffer.from(data ?? Buffer.alloc(0)))
  })
  const places = [...cuts.map((cut) => cut % (stream.length + 1)), 0, stream.length].toSorted((a, b) => a - b)
  for (const [index, from] of places.entries()) {
    const piece = Buffer.from(stream.subarray(from, places[index + 1] ?? from))
    gathering.push(piece)
    piece.fill(0xee)
  }
  return seen
}

/** Short, so that a difference can be read. */
function spelled(each: Write | Buffer): string {
  const bytes = Buffer.isBuffer(each) ? each : each.bytes
  const hash = createHash('sha256').update(bytes).digest('hex')
  return Buffer.isBuffer(each) ? hash : `${each.id} ${each.handle} ${each.offset} ${hash}`
}

describe('writes of a client', () => {
  const write = fc.record({
    id: fc.nat(),
    handle: fc.constantFrom('1', '2', '31'),
    offset: fc.constantFrom(0, 9000, 18_000, 2 ** 40),
    bytes: fc.integer({ min: 9000, max: 40_000 }).map((length) => Buffer.alloc(length, `${length};`)),
  })
  const other = fc.constantFrom('0000000a0700000001000000012f', '00000009110000000000000000').map((hex) => {
    const bytes = Buffer.from(hex, 'hex')
    bytes.writeUInt32BE(bytes.length - 4, 0)
    return bytes
  })

  it('come out as they were sent, in their order among all else, however the stream is cut', () => {
    const messages = fc.array(fc.oneof(write, other), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(messages, fc.array(fc.nat(), { maxLength: 12 }), (sent, cuts) => {
        const stream = Buffer.concat(sent.map((each) => (Buffer.isBuffer(each) ? each : messageOf(each))))
        const expected: (Write | Buffer)[] = []
        for (const each of sent) {
          const last = expected.at(-1)
          if (Buffer.isBuffer(each) && Buffer.isBuffer(last)) {
            expected[expected.length - 1] = Buffer.concat([last, each])
          } else expected.push(each)
        }
        expect(gathered(stream, cuts).map(spelled)).toEqual(expected.map(spelled))
      }),
      { numRuns: 60 },
    )
  })

  it.each([
    ['of no bytes', messageOf({ id: 1, handle: '1', offset: 0, bytes: Buffer.alloc(0) })],
    ['that are small', messageOf({ id: 1, handle: '1', offset: 0, bytes: Buffer.alloc(100) })],
    ['with a handle nobody gave', messageOf({ id: 1, handle: 'x'.repeat(33), offset: 0, bytes: Buffer.alloc(9000) })],
    ['beyond what a number holds', messageOf({ id: 1, handle: '1', offset: 2 ** 60, bytes: Buffer.alloc(9000) })],
    ['that say more bytes than they have', lying(1)],
    ['that say fewer bytes than they have', lying(-1)],
    ['whose handle is longer than they are', longHandle()],
    ['longer than any message', Buffer.concat([Buffer.from('00040001', 'hex'), Buffer.from([6]), Buffer.alloc(100)])],
    ['of a length of nothing', Buffer.alloc(4)],
  ])('are the library’s to judge: %s', (_what, bytes) => {
    expect(gathered(bytes, [])).toEqual([bytes])
  })

  it('are the library’s to refuse before the version is agreed', () => {
    const bytes = messageOf({ id: 1, handle: '1', offset: 0, bytes: Buffer.alloc(9000) })
    expect(gathered(bytes, [], -1)).toEqual([bytes])
  })

  it('share memory with what they follow in the same file, and with nothing else', () => {
    const bytes = Buffer.alloc(32_768, 7)
    const sent = ['1', '1', '1', '2', '1'].map((handle, index) => ({
      id: index,
      handle,
      offset: index * 32_768,
      bytes,
    }))
    const seen = gathered(Buffer.concat(sent.map(messageOf)), []) as readonly Write[]
    const memory = seen.map((each) => each.bytes.buffer)
    expect(memory[1]).toBe(memory[2])
    expect(new Set(memory).size).toBe(4)
    // What waits keeps no more than twice as much as waits.
    expect(memory[1]?.byteLength).toBe(2 * 32_768)
  })
})

function lying(by: number): Buffer {
  const message = messageOf({ id: 1, handle: '1', offset: 0, bytes: Buffer.alloc(9000) })
  message.writeUInt32BE(9000 + by, 22)
  return message
}

function longHandle(): Buffer {
  const message = messageOf({ id: 1, handle: '1', offset: 0, bytes: Buffer.alloc(9000) })
  message.writeUInt32BE(0xffff_ffff, 9)
  return message
}

describe('pieces', () => {
  it('are joined without a copy only where each lies behind the one before', () => {
    const memory = Buffer.from('abcdef')
    const [ab, cd, ef] = [memory.subarray(0, 2), memory.subarray(2, 4), memory.subarray(4)]
    expect(joined([ab, cd, ef]).toString()).toBe('abcdef')
    expect(joined([ab, cd]).buffer).toBe(memory.buffer)
    expect(joined([ab, ef]).toString()).toBe('abef')
    expect(joined([cd, ab]).toString()).toBe('cdab')
    expect(joined([Buffer.from('x'), ab]).toString()).toBe('xab')
    expect(joined([]).toString()).toBe('')
  })
})

describe('packets', () => {
  class AESGCMCipherBinding {
    allocPacket(): Buffer {
      throw new Error('not replaced')
    }
  }

  function packets(socket: { writableLength: number }): (length: number) => Buffer {
    const cipher = new AESGCMCipherBinding() as { allocPacket(length: number): Buffer }
    let agreed: () => void = () => undefined
    const peer = { _protocol: { _cipher: cipher }, on: (_event: string, listener: () => void) => (agreed = listener) }
    packFast(peer as unknown as Client, () => socket as unknown as Outlet)
    agreed()
    return (length) => cipher.allocPacket(length)
  }

  it('are in memory nobody else writes to until the system has taken them', () => {
    const socket = { writableLength: 0 }
    const make = packets(socket)
    const filled = Array.from({ length: 60 }, (_, index) => {
      const packet = make(32_777).fill(index)
      socket.writableLength += packet.length
      return packet
    })
    expect(filled.every((packet, index) => packet.every((byte) => byte === index))).toBe(true)
    socket.writableLength = 0
    expect(make(32_777).buffer).toBe(filled[0]?.buffer)
  })

  it('have the length and at least four bytes of padding that the protocol asks for', () => {
    const make = packets({ writableLength: 1 })
    for (let length = 0; length < 300; length++) {
      const packet = make(length)
      const padding = packet[4] ?? 0
      expect(packet.readUInt32BE(0)).toBe(1 + length + padding)
      expect((1 + length + padding) % 16).toBe(0)
      expect(padding >= 4 && padding < 20).toBe(true)
      expect(packet.length).toBe(4 + 1 + length + padding + 16)
    }
  })

  it('carry the same bytes both ways, through new keys and a peer that pauses', async () => {
    const content = randomBytes(6 * 1024 * 1024)
    const client = new ssh2.Client()
    let server: Connection | undefined
    const listener = new ssh2.Server(
      { hostKeys: [hostKeyFrom(new Uint8Array(32).fill(1))], algorithms: algorithms() },
      (connection) => {
        server = connection
        packFast(connection, () => socketOf(connection as unknown as Client))
        connection.on('error', () => undefined)
        connection.on('authentication', (context) => context.accept())
        connection.on('session', (accept) => {
          accept().on('exec', (take: () => ServerChannel) => {
            const channel = take()
            channel.pipe(channel)
          })
        })
      },
    )
    listener.listen(0, '127.0.0.1')
    await once(listener, 'listening')
    const { port } = listener.address() as { port: number }
    client.connect({ host: '127.0.0.1', port, username: 'x', algorithms: algorithms() })
    packFast(client, () => socketOf(client))
    await once(client, 'ready')
    const channel = await new Promise<import('ssh2').ClientChannel>((resolve, reject) =>
      client.exec('x', (error, opened) => (error ? reject(error) : resolve(opened))),
    )
    const hash = createHash('sha256')
    let received = 0
    channel.on('data', (bytes: Buffer) => {
      hash.update(bytes)
      received += bytes.length
      const socket = (client as unknown as { _sock: { pause(): void; resume(): void } })._sock
      socket.pause()
      setImmediate(() => socket.resume())
    })
    channel.write(content.subarray(0, content.length / 2))
    await once(channel, 'data')
    await new Promise<void>((resolve) => (server as unknown as { rekey(done: () => void): void }).rekey(resolve))
    channel.end(content.subarray(content.length / 2))
    await once(channel, 'end')
    expect(received).toBe(content.length)
    expect(hash.digest('hex')).toBe(createHash('sha256').update(content).digest('hex'))
    client.destroy()
    listener.close()
  })

  it('of a write to a host say what the library’s own would, and leave to it what does not fit', () => {
    const sent: Buffer[] = []
    const left: unknown[][] = []
    const requests: Record<number, { readonly cb: (error?: Error) => void }> = {}
    const sftp = {
      outgoing: { id: 3, state: 'open', packetSize: 1000, window: 5000 },
      _buffer: [],
      _requests: requests,
      _protocol: { channelData: (_id: number, data: Buffer) => sent.push(Buffer.from(data)) },
      _maxWriteLen: 4000,
      _writeReqid: 8,
      write: (...words: unknown[]) => left.push(words),
    }
    const bytes = randomBytes(2500)
    let answers = 0
    const done = (): void => void answers++
    const peer = sftp as unknown as SFTPWrapper
    writeAt(peer, Buffer.from('h1'), bytes, 77, done)
    expect(Buffer.concat(sent)).toEqual(messageOf({ id: 9, handle: 'h1', offset: 77, bytes }))
    expect(sftp.outgoing.window).toBe(5000 - Buffer.concat(sent).length)
    requests[9]?.cb()
    expect(answers).toBe(1)
    // The window is nearly full.
    writeAt(peer, Buffer.from('h1'), bytes, 78, done)
    expect(left).toEqual([[Buffer.from('h1'), bytes, 0, 2500, 78, done]])
  })
})
