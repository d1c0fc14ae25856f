/** A target that is not an honest sshd: what it says too early, too late, too much or not at all harms nobody here. */
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import ssh2, { type Connection, type ParsedKey, type ServerChannel, type SFTPWrapper } from 'ssh2'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fingerprintOf } from '../../src/protocols/ssh/algorithms.ts'
import { govern } from '../../src/gateway/gateway.ts'
import { placed } from '../../src/protocols/ssh/connector-sftp.ts'
import { hostKeyFrom } from '../../src/protocols/ssh/host-key.ts'
import type { TestSshd } from '../services/sshd.ts'
import { sshKit, type SshKit } from './connector-kit.ts'
import { CALLER_KEY, login, openDoor } from './door-kit.ts'

const HOST_KEY = hostKeyFrom(new Uint8Array(32).fill(9))

/** How the host answers a command: with the marker the gateway waits for, and a channel to lie on. */
type Exec = (channel: ServerChannel, marker: Buffer, socket: Socket) => void

async function* each<T>(pieces: readonly T[]): AsyncGenerator<T> {
  yield* pieces
}

/** What the library does not let a server say. */
interface Raw {
  readonly _protocol: {
    exitStatus(channel: number, status: number): void
    channelData(channel: number, data: Buffer): void
    channelOpenConfirm(remote: number, local: number, window: number, packetSize: number): void
    openssh_forwardedStreamLocal(channel: number, window: number, packet: number, info: object): void
  }
  readonly outgoing: { readonly id: number; window: number; packetSize: number }
}

describe('a hostile host', () => {
  let kit: SshKit
  let fake: TestSshd
  let exec: Exec = () => undefined
  let serve: (sftp: SFTPWrapper) => void = () => undefined
  /** The size of packets it says it takes. */
  let tiny: number | undefined
  /** Asked before a channel is opened on one of the connections, counted from 0. */
  let isDropped: (connection: number) => boolean = () => false
  /** Connections to somewhere else it was asked for. It answers none. */
  let forwardings = 0
  const connections: Connection[] = []
  /** What somebody logged in with. */
  const logins: string[] = []
  const dir = mkdtempSync(path.join(tmpdir(), 'sallyport-host-'))
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => undefined)
    const host = new ssh2.Server(
      { hostKeys: [HOST_KEY], algorithms: { cipher: ['aes128-gcm@openssh.com'] } },
      (connection) => {
        connections.push(connection)
        connection.on('error', () => undefined)
        connection.on('authentication', (context) => {
          logins.push(context.method === 'password' ? `password ${context.password}` : context.method)
          context.accept()
        })
        const number = connections.length - 1
        const { _protocol: protocol } = connection as unknown as Raw
        const confirm = protocol.channelOpenConfirm.bind(protocol)
        protocol.channelOpenConfirm = (remote, local, window, size) => confirm(remote, local, window, tiny ?? size)
        connection.on('session', (accept) => {
          if (isDropped(number)) {
            socket.destroy()
            return
          }
          const session = accept()
          session.on('exec', (acceptExec, _reject, { command }) => {
            const [, nonce = ''] = /^echo (sallyport-[0-9a-f]+:)/u.exec(command) ?? []
            // What is accepted and what follows comes in one write.
            socket.cork()
            const channel = acceptExec()
            channel.on('error', () => undefined)
            exec(channel, Buffer.from(`${nonce}4000000\n`), socket)
            process.nextTick(() => socket.uncork())
          })
          session.on('sftp', (acceptSftp) => serve(acceptSftp()))
        })
        connection.on('tcpip', () => {
          forwardings++
          socket.destroy()
        })
      },
    )
    host.injectSocket(socket)
  })

  beforeAll(async () => {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const keyFile = path.join(dir, 'key')
    writeFileSync(keyFile, CALLER_KEY)
    const fingerprint = fingerprintOf((ssh2.utils.parseKey(HOST_KEY) as ParsedKey).getPublicSSH())
    const port = (server.address() as AddressInfo).port
    fake = { port, user: 'deploy', keyFile, fingerprint, dir, log: () => '', close: async () => undefined }
    kit = sshKit(fake)
  })
  afterAll(async () => {
    await kit.close()
    for (const connection of connections) connection.end()
    server.close()
    rmSync(dir, { recursive: true })
  })

  const raw = (channel: ServerChannel): Raw & { readonly _protocol: Raw['_protocol'] } => {
    const { _client, outgoing } = channel as unknown as { _client: Raw; outgoing: Raw['outgoing'] }
    return { _protocol: _client._protocol, outgoing }
  }
  const run = (more = {}) => kit.run({ kind: 'exec', command: 'uname', ...more })

  it('is told a password where one was chosen, and a key otherwise, and nothing of a file that is no key', async () => {
    exec = (channel, marker) => {
      channel.write(marker)
      channel.exit(0)
      channel.close()
    }
    const keyFile = path.join(dir, 'password')
    writeFileSync(keyFile, 'hunter2 and more\n')
    for (const [more, expected] of [
      [{ auth: 'password' }, ['password hunter2 and more']],
      [{}, []],
    ] as const) {
      const other = sshKit({ ...fake, keyFile }, undefined, more)
      logins.length = 0
      const { error } = await other.run({ kind: 'exec', command: 'uname' })
      expect([logins, error?.code]).toEqual([expected, expected.length > 0 ? undefined : 'ERR_CREDENTIAL_MISSING'])
      expect(error?.message ?? '').not.toContain('hunter2')
      await other.close()
    }
    logins.length = 0
    const other = sshKit(fake)
    await other.run({ kind: 'exec', command: 'uname' })
    expect(new Set(logins)).toEqual(new Set(['publickey']))
    await other.close()
  })

  it('that says all at once, the end included, is heard out', async () => {
    exec = (channel, marker) => {
      channel.write(Buffer.concat([marker, Buffer.from('all\n')]))
      channel.exit(7)
      channel.close()
    }
    for (let round = 0; round < 20; round++) {
      expect(await run()).toMatchObject({ stdout: 'all\n', exit: { status: '7' }, error: undefined })
    }
  })

  it('that said how a command ended is not asked to kill it, also where nobody read all it said', async () => {
    const other = sshKit(fake)
    const before = connections.length
    let asked = 0
    exec = (channel, marker) => {
      asked++
      channel.write(Buffer.concat([marker, Buffer.from('all\n')]))
      channel.exit(0)
      channel.close()
    }
    const chunks = govern(other.call({ kind: 'exec', command: 'uname' }), other.rooms)
    await chunks.next()
    // What comes later on the same connection is behind the end of the first.
    await other.run({ kind: 'exec', command: 'uname' })
    await chunks.return(undefined)
    expect([asked, connections.length - before]).toEqual([2, 1])
    await other.close()
  })

  it('that never says how a command ended is no success', async () => {
    exec = (channel, marker) => {
      channel.write(Buffer.concat([marker, Buffer.from('half\n')]))
      channel.close()
    }
    expect(await run()).toMatchObject({ exit: undefined, error: { code: 'ERR_UPSTREAM_LOST' } })
  })

  it('that says how a command ended when it is over, or twice, is believed in what counts', async () => {
    exec = (channel, marker) => {
      const { _protocol: protocol, outgoing } = raw(channel)
      channel.write(marker)
      channel.eof()
      protocol.exitStatus(outgoing.id, 3)
      channel.close()
      protocol.exitStatus(outgoing.id, 0)
    }
    const ran = await run()
    expect(ran.exit?.status ?? ran.error?.code).toMatch(/^(?:3|ERR_UPSTREAM_LOST)$/u)
  })

  it('that ends without having started anything is refused, whatever it prints', async () => {
    exec = (channel) => {
      channel.write('sallyport-000000000000000000000000:1\nfake\n')
      channel.exit(0)
      channel.close()
    }
    expect(await run()).toMatchObject({ stdout: '', exit: undefined, error: { code: 'ERR_UPSTREAM_REJECTED' } })
  })

  it('that greets without end is not kept in memory, and starts nothing', async () => {
    exec = (channel, marker) => {
      channel.write(Buffer.alloc(1024 * 1024, 'x'))
      channel.write(marker)
      channel.exit(0)
      channel.close()
    }
    expect(await run()).toMatchObject({ stdout: '', error: { code: 'ERR_UPSTREAM_REJECTED' } })
  })

  it('that sends a packet longer than anybody may loses its connection', async () => {
    exec = (channel, marker) => {
      const { _protocol: protocol, outgoing } = raw(channel)
      protocol.channelData(outgoing.id, marker)
      protocol.channelData(outgoing.id, Buffer.alloc(64 * 1024))
    }
    expect(await run()).toMatchObject({ error: { code: 'ERR_UPSTREAM_LOST' } })
  })

  it('that sends beyond the window it was given loses its connection, while nobody reads', async () => {
    let sent = 0
    let isLost = false
    exec = (channel, marker, socket) => {
      const { _protocol: protocol, outgoing } = raw(channel)
      socket.once('close', () => (isLost = true))
      protocol.channelData(outgoing.id, marker)
      // Pieces that never use up a window exactly: the library looks only whether nothing is left.
      const more = (): void => {
        if (isLost || sent > 64 * 1024 * 1024) return
        for (let index = 0; index < 32; index++) protocol.channelData(outgoing.id, Buffer.alloc(32 * 1024 - 1))
        sent += 1024 * 1024
        setImmediate(more)
      }
      more()
    }
    const call = kit.call({ kind: 'exec', command: 'uname' })
    const chunks = govern(call, kit.rooms)
    expect((await chunks.next()).done).toBe(false)
    // Nobody takes the next one.
    await expect.poll(() => isLost).toBe(true)
    expect(sent).toBeLessThan(64 * 1024 * 1024)
    await expect(
      (async () => {
        for await (const _ of chunks);
      })(),
    ).rejects.toMatchObject({ code: 'ERR_UPSTREAM_LOST' })
  })

  it('that drops a kept connection was told nothing on it: a command and a file operation go to a new one', async () => {
    let asked = 0
    exec = (channel, marker) => {
      asked++
      channel.write(marker)
      channel.exit(0)
      channel.close()
    }
    serve = (sftp) => {
      sftp.on('error', () => undefined)
      sftp.on('MKDIR', (id) => (asked++, sftp.status(id, 0)))
    }
    for (const payload of [
      { kind: 'exec', command: 'uname' },
      { kind: 'sftp', operation: 'mkdir', path: '/x' },
    ]) {
      const other = sshKit(fake)
      await other.run({ kind: 'exec', command: 'uname' })
      const dead = connections.length - 1
      asked = 0
      isDropped = (number) => number === dead
      expect(await other.run(payload)).toMatchObject({ error: undefined, exit: { truncated: false } })
      expect([asked, connections.length]).toEqual([1, dead + 2])
      await other.close()
    }
  })

  it('that drops a new connection before it was told anything did nothing, and is not asked again and again', async () => {
    const other = sshKit(fake)
    const before = connections.length
    isDropped = () => true
    const { error } = await other.run({ kind: 'exec', command: 'uname' })
    expect(error).toMatchObject({ code: 'ERR_UPSTREAM_UNREACHABLE', facts: { noEffect: true } })
    expect(connections.length).toBe(before + 1)
    isDropped = () => false
    await other.close()
  })

  it('that drops a kept connection once it was told may have done it, and is told once', async () => {
    const other = sshKit(fake)
    await other.run({ kind: 'exec', command: 'uname' })
    let asked = 0
    exec = (_channel, _marker, socket) => {
      asked++
      socket.destroy()
    }
    const { error } = await other.run({ kind: 'exec', command: 'uname' })
    expect(error).toMatchObject({ code: 'ERR_UPSTREAM_LOST', facts: {} })
    expect(asked).toBe(1)
    await other.close()
  })

  it('that drops a kept connection when it is asked to connect elsewhere is asked once: it may have connected', async () => {
    const other = sshKit(fake)
    exec = (channel, marker) => {
      channel.write(marker)
      channel.exit(0)
      channel.close()
    }
    await other.run({ kind: 'exec', command: 'uname' })
    const { error } = await other.run({ kind: 'forward', host: '127.0.0.1', port: 9 })
    expect([error?.code, forwardings]).toEqual(['ERR_UPSTREAM_LOST', 1])
    await other.close()
  })

  it('that answers only after the call was stopped is told to end what it began', async () => {
    const other = sshKit(fake)
    const gone = new AbortController()
    let isEnded = false
    let running: ServerChannel | undefined
    exec = (channel, marker) => {
      const isKill = marker.toString() === '4000000\n'
      if (isKill) {
        isEnded = true
        channel.exit(0)
        channel.close()
        running?.close()
        return
      }
      running = channel
      // Neither the answer nor the process id is on its way yet.
      gone.abort()
      setImmediate(() => setImmediate(() => channel.write(marker)))
    }
    const { error } = await other.run({ kind: 'exec', command: 'uname' }, { signal: gone.signal })
    expect(error).toMatchObject({ code: 'ERR_CANCELLED' })
    expect(isEnded).toBe(true)
    await other.close()
  })

  it('that wants empty packets, or tiny ones, is left alone', async () => {
    exec = (channel, marker) => {
      channel.write(marker)
      channel.exit(0)
      channel.close()
    }
    for (const size of [1, 0]) {
      const other = sshKit(fake)
      tiny = size
      const { error } = await other.run({ kind: 'exec', command: 'cat', stdin: 'x' })
      tiny = undefined
      expect([size, error?.code]).toEqual([size, 'ERR_UPSTREAM_LOST'])
      await other.close()
    }
  })

  it('that does not greet is left when the call is stopped', async () => {
    let isReached: () => void = () => undefined
    const reached = new Promise<void>((resolve) => (isReached = resolve))
    const mute = createServer((socket) => {
      socket.on('error', () => undefined)
      isReached()
    })
    mute.listen(0, '127.0.0.1')
    await once(mute, 'listening')
    const gone = new AbortController()
    const port = (mute.address() as AddressInfo).port
    const other = sshKit({ ...fake, port }, undefined, { connect_timeout: '5m' })
    const running = other.run({ kind: 'exec', command: 'uname' }, { signal: gone.signal })
    await reached
    gone.abort()
    expect((await running).error).toMatchObject({ code: 'ERR_CANCELLED' })
    await other.close()
    mute.close()
  })

  it('that takes no input lets the call end in time', async () => {
    exec = (channel) => void channel.pause()
    const ran = await run({ stdin: 'x'.repeat(1024 * 1024), timeout_ms: 200 })
    expect(ran.error).toMatchObject({ code: 'ERR_TIMEOUT' })
  })

  it('opens nothing towards the gateway', async () => {
    const answers: string[] = []
    let isTold: () => void = () => undefined
    const told = new Promise<void>((resolve) => (isTold = resolve))
    exec = (channel, marker) => {
      const connection = connections.at(-1)
      const note = (name: string) => (error: unknown) => {
        answers.push(`${name} ${error === undefined || error === null ? 'opened' : 'refused'}`)
        if (answers.length === 3) isTold()
      }
      connection?.x11('127.0.0.1', 1, note('x11'))
      connection?.forwardOut('127.0.0.1', 1, '127.0.0.1', 2, note('tcp'))
      connection?.openssh_forwardOutStreamLocal('/run/x', note('socket'))
      channel.write(marker)
      const finish = async (): Promise<void> => {
        await told
        channel.exit(0)
        channel.close()
      }
      void finish()
    }
    expect((await run()).exit?.status).toBe('0')
    expect(answers.sort()).toEqual(['socket refused', 'tcp refused', 'x11 refused'])
  })

  it('that sends more of a file than was asked for fills nothing but what was asked for', async () => {
    serve = (sftp) => {
      sftp.on('error', () => undefined)
      sftp.on('OPEN', (id) => sftp.handle(id, Buffer.from('h')))
      sftp.on('READ', (id, _handle, offset, length) => {
        if (offset > 0) sftp.status(id, 1)
        else sftp.data(id, Buffer.concat([Buffer.alloc(length, 'y'), Buffer.from('beyond')]))
      })
      sftp.on('CLOSE', (id) => sftp.status(id, 0))
    }
    const { chunks } = await kit.run({ kind: 'sftp', operation: 'read', path: '/x' })
    const bytes = chunks.flatMap((chunk) => (chunk.kind === 'data' && 'bytes' in chunk ? [chunk.bytes] : []))
    expect(Buffer.concat(bytes).toString()).toMatch(/^y*$/u)
  })

  it('that cannot keep what was sent, and says so when the file is closed, has not kept it', async () => {
    serve = (sftp) => {
      sftp.on('error', () => undefined)
      sftp.on('OPEN', (id) => sftp.handle(id, Buffer.from('h')))
      sftp.on('WRITE', (id) => sftp.status(id, 0))
      sftp.on('CLOSE', (id) => sftp.status(id, 4))
    }
    const input = [placed(Buffer.from('some'), { at: 0, written: () => undefined })]
    const flags = { append: false, create: true, truncate: true, exclusive: false }
    const other = sshKit(fake)
    const { exit } = await other.run({ kind: 'sftp', operation: 'write', path: '/x', flags }, { input: each(input) })
    expect(exit?.status).toBe('FAILURE')
    await other.close()
  })

  it('is asked for nothing of a file that a limit would cut off', async () => {
    const asked: number[] = []
    serve = (sftp) => {
      sftp.on('error', () => undefined)
      sftp.on('OPEN', (id) => sftp.handle(id, Buffer.from('h')))
      sftp.on('READ', (id, _handle, offset, length) => (asked.push(offset), sftp.data(id, Buffer.alloc(length, 'y'))))
      sftp.on('CLOSE', (id) => sftp.status(id, 0))
    }
    const other = sshKit(fake, undefined, { bytes: '1MiB' })
    const { exit } = await other.run({ kind: 'sftp', operation: 'read', path: '/x' })
    expect(exit).toMatchObject({ truncated: true, truncatedBy: 'bytes' })
    // One window more than the limit, to know that there is more.
    expect(Math.max(...asked)).toBeLessThan(1024 * 1024 + 256 * 1024)
    await other.close()
  })

  it('that answers a file operation with what is no message loses its connection', async () => {
    serve = (sftp) => {
      const { _protocol: protocol, outgoing } = sftp as unknown as Raw
      sftp.on('error', () => undefined)
      sftp.on('LSTAT', () => protocol.channelData(outgoing.id, Buffer.from(`ffffffff00${'00'.repeat(64)}`, 'hex')))
    }
    const other = sshKit(fake)
    const { error } = await other.run({ kind: 'sftp', operation: 'lstat', path: '/x' })
    expect(error?.code).toBe('ERR_UPSTREAM_LOST')
    await other.close()
  })

  it('that lists a directory without end fills no memory: the client learns that it was cut', async () => {
    let answers = 0
    serve = (sftp) => {
      sftp.on('error', () => undefined)
      sftp.on('OPENDIR', (id) => sftp.handle(id, Buffer.from('d')))
      sftp.on('READDIR', (id) => {
        answers++
        const one = { filename: 'f', longname: 'f', attrs: {} as never }
        sftp.name(
          id,
          Array.from({ length: 4000 }, () => one),
        )
      })
      sftp.on('CLOSE', (id) => sftp.status(id, 0))
    }
    // Another session than that of the calls before, so another connection.
    const other = sshKit(fake, undefined)
    const door = await openDoor(other)
    const client = await login(door)
    const listed = await new Promise((resolve) => {
      client.sftp((_error, sftp) => sftp.readdir('/x', (error) => resolve(error?.message ?? 'all')))
    })
    expect(listed).toContain('was cut')
    expect(answers).toBeLessThan(40)
    client.destroy()
    await door.close()
    await other.close()
  })
})
