/** What is used of ssh2 beyond its documented interface: each thing is there, and does what is relied on. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { Socket } from 'node:net'
import ssh2, { type Connection, type SFTPWrapper, type ServerChannel } from 'ssh2'
import { afterEach, describe, expect, it } from 'vitest'
import { hostKeyFrom } from '../../src/protocols/ssh/host-key.ts'
import {
  exitWell,
  guardParser,
  refuseTinyPackets,
  roomIn,
  socketOf,
  unsentAnswers,
} from '../../src/protocols/ssh/library.ts'

const PINNED = '1.17.0'

interface Pair {
  readonly server: Connection
  readonly client: InstanceType<typeof ssh2.Client>
}

const opened: { end(): void }[] = []
afterEach(() => {
  for (const each of opened.splice(0)) each.end()
})

/** A client and a server of the library, joined on 127.0.0.1. */
function pair(
  onSession: (session: { on(event: string, listener: (...args: never[]) => void): void }) => void,
): Promise<Pair> {
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client()
    let server: Connection
    const listener = new ssh2.Server({ hostKeys: [hostKeyFrom(new Uint8Array(32).fill(1))] }, (connection) => {
      server = connection
      connection.on('error', () => undefined)
      connection.on('authentication', (context) => context.accept())
      connection.on('session', (accept) => onSession(accept()))
    })
    listener.listen(0, '127.0.0.1', () => {
      client.on('error', reject)
      client.on('ready', () => {
        client.removeAllListeners('error')
        client.on('error', () => undefined)
        resolve({ server, client })
      })
      client.connect({ host: '127.0.0.1', port: (listener.address() as { port: number }).port, username: 'x' })
    })
    opened.push({ end: () => (client.destroy(), void listener.close()) })
  })
}

describe('the library under the SSH door', () => {
  it('is exactly the version these tests were written for', () => {
    const require = createRequire(import.meta.url)
    const { version } = JSON.parse(readFileSync(require.resolve('ssh2/package.json'), 'utf8')) as { version: string }
    const own = JSON.parse(readFileSync('package.json', 'utf8')) as { dependencies: Record<string, string> }
    expect([version, own.dependencies['ssh2']]).toEqual([PINNED, PINNED])
  })

  it('throws over a malformed packet of a file transfer, which then ends only its own connection', async () => {
    let isEnded = false
    const served = new Promise<SFTPWrapper>((resolve) => {
      const ask = async (): Promise<void> => {
        const { client } = await pair((session) => session.on('sftp', (accept: () => SFTPWrapper) => resolve(accept())))
        client.subsys('sftp', () => undefined)
      }
      void ask()
    })
    const sftp = (await served) as SFTPWrapper & { push(data: Buffer): unknown }
    const malformed = Buffer.from('ffffffff00', 'hex')
    expect(() => {
      sftp.push(malformed)
      sftp.push(Buffer.alloc(64))
    }).toThrow(/./u)
    guardParser(sftp, () => (isEnded = true))
    sftp.push(malformed)
    sftp.push(Buffer.alloc(64))
    expect(isEnded).toBe(true)
  })

  it('counts answers that wait, and tells a client that a transfer ended well', async () => {
    let sftp: SFTPWrapper | undefined
    const { client } = await pair((session) => {
      session.on('sftp', (accept: () => SFTPWrapper) => (sftp = accept()))
    })
    const code = await new Promise((resolve, reject) => {
      client.subsys('sftp', (error, channel) => {
        if (error) return reject(error)
        channel.on('exit', resolve)
        if (sftp === undefined) return reject(new Error('no subsystem'))
        expect(unsentAnswers(sftp)).toBe(0)
        exitWell(sftp)
      })
    })
    expect(code).toBe(0)
  })

  it('tells the size of packets a peer wants, so that one who wants none is left', async () => {
    for (const [size, isRefused] of [
      [0, true],
      [1, true],
      [1023, true],
      [1024, false],
      [32_768, false],
    ] as const) {
      const { server, client } = await pair((session) => {
        session.on('exec', (accept: () => ServerChannel) => {
          const channel = accept()
          channel.exit(0)
          channel.end()
        })
      })
      refuseTinyPackets(server, () => server.end())
      const { _protocol: protocol } = client as unknown as {
        _protocol: { session(channel: number, window: number, packetSize: number): void }
      }
      const open = protocol.session.bind(protocol)
      protocol.session = (channel, window) => open(channel, window, size)
      const how = await new Promise((resolve) => {
        client.once('close', () => resolve('left'))
        client.exec('x', (error, channel) => {
          if (error === undefined || error === null) channel.on('exit', () => resolve('served'))
        })
      })
      expect([size, how]).toEqual([size, isRefused ? 'left' : 'served'])
    }
  })

  it('lets a client see its socket, into which only so much is put', async () => {
    const { client } = await pair(() => undefined)
    expect(socketOf(client)).toBeInstanceOf(Socket)
    const socket = new Socket()
    let length = 2 * 1024 * 1024
    Object.defineProperty(socket, 'writableLength', { get: () => length })
    let hasRoom = false
    const room = roomIn(socket).then(() => (hasRoom = true))
    await Promise.resolve()
    socket.emit('drain')
    await new Promise(setImmediate)
    expect(hasRoom).toBe(false)
    length = 0
    socket.emit('drain')
    await room
  })
})
