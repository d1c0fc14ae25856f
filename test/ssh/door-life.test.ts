/** What the SSH door does for paths before they are judged, and whose end ends what. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, existsSync, openSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Client, SFTPWrapper } from 'ssh2'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { STATUS } from '../../src/protocols/ssh/sftp-channel.ts'
import { openSshd, type TestSshd } from '../services/sshd.ts'
import { has } from '../setup/needs.ts'
import { sshKit, type SshKit } from './connector-kit.ts'
import { login, openDoor, type TestDoor } from './door-kit.ts'

describe.runIf(has('sshd'))('the SSH door', () => {
  let sshd: TestSshd
  let kit: SshKit
  let door: TestDoor
  const clients: Client[] = []

  beforeAll(async () => {
    sshd = await openSshd()
  })
  afterEach(async () => {
    for (const client of clients.splice(0)) client.destroy()
    await door.close()
    await kit.close()
  })
  afterAll(() => sshd?.close())

  async function open(policy?: string): Promise<Client> {
    kit = sshKit(sshd, policy)
    door = await openDoor(kit)
    const client = await login(door)
    clients.push(client)
    return client
  }

  function filesOf(client: Client): Promise<SFTPWrapper> {
    return new Promise((resolve, reject) => {
      client.sftp((error, sftp) => (error === undefined ? resolve(sftp) : reject(error)))
    })
  }
  const files = async (policy?: string): Promise<SFTPWrapper> => filesOf(await open(policy))
  type Told = (error?: SftpError | null, result?: Buffer) => void
  type SftpError = Error & { readonly code?: number }
  /** Resolves with what a request was answered. */
  const answer = (send: (done: Told) => unknown): Promise<SftpError | Buffer | undefined> =>
    new Promise((resolve) => void send((error, result) => resolve(error ?? result)))

  const linked = (sftp: SFTPWrapper, to: string, link: string): Promise<string> =>
    new Promise((resolve) => sftp.symlink(to, link, (error) => resolve(error?.message ?? 'made')))

  it('makes links that say from the root where they lead, as they were judged', async () => {
    const sftp = await files()
    const link = path.join(sshd.dir, 'beside')
    expect(await linked(sftp, 'sibling', link)).toBe('made')
    expect(readlinkSync(link)).toBe(path.join(sshd.dir, 'sibling'))
  })

  it.each(['../../etc/shadow', 'x/../../etc/shadow', '/tmp/../etc/shadow', '..'])(
    'makes no link that climbs: %s',
    async (to) => {
      const sftp = await files()
      const link = path.join(sshd.dir, 'climbing')
      expect(await linked(sftp, to, link)).not.toBe('made')
      expect(existsSync(link)).toBe(false)
    },
  )

  it('tells which path is meant by one that climbs, and asks the target nothing', async () => {
    const sftp = await files()
    const meant = (asked: string): Promise<string> =>
      new Promise((resolve) => sftp.realpath(asked, (error, answer) => resolve(error?.message ?? answer)))
    const asked = ['.', '', '/a/../b', '/../../etc', 'a//b/./c', '/a/b/../..', '/a/..b']
    const answers: string[] = []
    for (const each of asked) answers.push(await meant(each))
    expect(answers).toEqual(['/', '/', '/b', '/etc', '/a/b/c', '/', '/a/..b'])
    expect(kit.endings).toEqual([])
  })

  /** How a client is seen from within that does not keep to the protocol. */
  interface Raw {
    readonly _sock: {
      pause(): void
      readonly destroyed: boolean
      readonly writableNeedDrain: boolean
      once(event: string, done: () => void): void
    }
    readonly _protocol: {
      session(channel: number, window: number, packetSize: number): void
      parse(): void
      rekey(): void
    }
  }

  /** Asks for answers until the door hangs up. Each is as long as the question twice. */
  async function askOnAndOn(client: Client, sftp: SFTPWrapper): Promise<boolean> {
    const { _sock: socket } = client as unknown as Raw
    // It does not hear what it may send either.
    ;(sftp as unknown as { outgoing: { window: number } }).outgoing.window = Number.MAX_SAFE_INTEGER
    const question = `/${'x'.repeat(100_000)}`
    for (let asked = 0; asked < 3000 && !socket.destroyed; asked++) {
      sftp.realpath(question, () => undefined)
      const drained = new Promise<void>((resolve) => {
        if (!socket.writableNeedDrain) return resolve()
        socket.once('drain', resolve)
        socket.once('close', resolve)
      })
      await drained
      await new Promise(setImmediate)
    }
    return socket.destroyed
  }

  it('leaves a client that asks on and on, claims any window and does not read', async () => {
    const client = await open()
    const { _protocol: protocol, _sock: socket } = client as unknown as Raw
    const session = protocol.session.bind(protocol)
    protocol.session = (channel, _window, packetSize) => session(channel, 0xffff_ffff, packetSize)
    const sftp = await filesOf(client)
    socket.pause()
    expect(await askOnAndOn(client, sftp)).toBe(true)
  })

  it('leaves a client that asks on and on, and gives no room for answers', async () => {
    const client = await open()
    const { _protocol: protocol } = client as unknown as Raw
    const session = protocol.session.bind(protocol)
    // It never gives more: it believes that it gave enough.
    protocol.session = (channel, _window, packetSize) => session(channel, 64, packetSize)
    const sftp = await filesOf(client)
    const left = once(sftp, 'close')
    for (let asked = 0; asked < 3000; asked++) {
      sftp.realpath('/x', () => undefined)
      await new Promise(setImmediate)
    }
    expect(await left).toBeDefined()
  })

  it('leaves a client that begins to agree on new keys and never ends, while a command writes and writes', async () => {
    const client = await open()
    const { _protocol: protocol } = client as unknown as Raw
    const session = protocol.session.bind(protocol)
    protocol.session = (channel, _window, packetSize) => session(channel, 0xffff_ffff, packetSize)
    const left = new Promise((resolve) => client.once('close', () => resolve('left')))
    client.exec('read -r line; head -c 100000000 /dev/zero', (_error, channel) => {
      // It hears nothing any more.
      protocol.parse = () => undefined
      channel.on('error', () => undefined)
      channel.write('begin\n')
      protocol.rekey()
    })
    expect(await left).toBe('left')
  })

  it('leaves a client that sends more than the window it was given', async () => {
    const client = await open()
    const left = new Promise((resolve) => client.once('close', () => resolve('left')))
    client.exec('sleep 300', (_error, channel) => {
      ;(channel as unknown as { outgoing: { window: number } }).outgoing.window = Number.MAX_SAFE_INTEGER
      channel.on('error', () => undefined)
      // The library drops what comes when exactly nothing is left of the window, and takes what goes beyond its end.
      for (let piece = 0; piece < 32; piece++) channel.write(Buffer.alloc(1_000_003))
    })
    expect(await left).toBe('left')
  })

  it('keeps 64 files and directories open on a channel, and opens another when one was closed', async () => {
    const sftp = await files()
    const opened = (): Promise<Buffer | string> =>
      new Promise((resolve) => sftp.opendir(sshd.dir, (error, handle) => resolve(error?.message ?? handle)))
    const handles: (Buffer | string)[] = []
    for (let count = 0; count < 65; count++) handles.push(await opened())
    expect(handles.filter((handle) => typeof handle !== 'string')).toHaveLength(64)
    expect(handles.at(-1)).toContain('64 files open')
    await new Promise((resolve) => sftp.close(handles[0] as Buffer, resolve))
    expect(typeof (await opened())).not.toBe('string')
  })

  it('opens a file either to be read or to be written, and lets nothing else be done with it', async () => {
    const sftp = await files()
    const file = path.join(sshd.dir, 'one-way')
    const both = await answer((done) => sftp.open(file, 'w+', done))
    expect(both).toMatchObject({ message: expect.stringContaining('either to be read or to be written') })
    expect(existsSync(file)).toBe(false)
    const written = (await answer((done) => sftp.open(file, 'w', done))) as Buffer
    const read = await answer((done) => sftp.read(written, Buffer.alloc(8), 0, 8, 0, (error) => done(error)))
    expect(read).toMatchObject({ message: expect.stringContaining('not open for reading') })
    await answer((done) => sftp.close(written, done))
    const opened = (await answer((done) => sftp.open(file, 'r', done))) as Buffer
    const wrote = await answer((done) => sftp.write(opened, Buffer.from('x'), 0, 1, 0, done))
    expect(wrote).toMatchObject({ message: expect.stringContaining('not open for writing') })
    expect(readFileSync(file, 'utf8')).toBe('')
  })

  it('says of what no rule names that the permission is missing', async () => {
    const sftp = await files('targets: [box]\nrules: []\n')
    expect(await answer((done) => sftp.unlink('/x', done))).toMatchObject({ code: STATUS.PERMISSION_DENIED })
  })

  const script = (client: Client, input: Buffer, end: boolean): Promise<string> =>
    new Promise((resolve, reject) => {
      client.exec('bash -s', (error, channel) => {
        if (error !== undefined) return reject(error)
        let said = ''
        channel.stderr.on('data', (bytes: Buffer) => {
          said += bytes.toString()
          if (said.endsWith('\r\n')) resolve(said)
        })
        channel.on('error', () => undefined)
        channel.write(input)
        if (end) channel.end()
      })
    })

  it('keeps a script on standard input up to what one may have, also when it never ends', async () => {
    expect(await script(await open(), Buffer.alloc(80_000, '#'), false)).toContain('may have 16384 characters')
  })

  it('runs no script on standard input that could be read in two ways', async () => {
    expect(await script(await open(), Buffer.from('echo \xff', 'latin1'), true)).toContain('must be UTF-8')
    expect(kit.endings).toEqual([])
  })

  it('tells the target of no terminal whose name is none', async () => {
    const client = await open(`
targets: [box]
rules:
  - {id: shells, effect: allow, principals: [group:agents], actions: [ssh.shell], resources: ['-']}
`)
    const said = await new Promise<string>((resolve, reject) => {
      client.shell({ term: 'evil\u001b[31m$(x)', cols: 80, rows: 24 }, (error, channel) => {
        if (error !== undefined) return reject(error)
        let text = ''
        channel.on('data', (bytes: Buffer) => (text += bytes.toString()))
        channel.on('close', () => resolve(text))
        channel.write('echo "it is <$TERM>"; exit\n')
      })
    })
    expect(said).toContain('it is <dumb>')
  })

  it('hangs up on a client whose session was ended', async () => {
    const client = await open()
    const closed = once(client, 'close')
    await kit.close()
    expect(await closed).toBeDefined()
  })

  it('ends what a client started that went away', async () => {
    const client = await open()
    await new Promise<void>((resolve, reject) => {
      client.exec('echo here; exec sleep 600', (error, channel) => {
        if (error !== undefined) return reject(error)
        channel.once('data', () => resolve())
      })
    })
    client.destroy()
    await expect.poll(() => kit.endings).toHaveLength(1)
  })

  it.each([
    ['its connection', (client: Client) => client.destroy()],
    ['its channel, and stays', (_: Client, sftp: SFTPWrapper) => sftp.end()],
  ])('ends a file operation whose client closed %s while the target does not answer', async (_what, leave) => {
    const client = await open()
    const sftp = await filesOf(client)
    const pipe = path.join(sshd.dir, 'pipe')
    execFileSync('mkfifo', [pipe])
    // Opening it for both waits for nobody, and while it is open a reader waits for what is written.
    const other = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK)
    try {
      const handle = (await answer((done) => sftp.open(pipe, 'r', done))) as Buffer
      sftp.read(handle, Buffer.alloc(8), 0, 8, 0, () => undefined)
      leave(client, sftp)
      await expect.poll(() => kit.endings).toHaveLength(1)
    } finally {
      closeSync(other)
      rmSync(pipe)
    }
  })

  /** Ends a transfer from the client's side and resolves with the exit status it is told, if any. */
  function ended(sftp: SFTPWrapper): Promise<number | undefined> {
    return new Promise((resolve) => {
      let status: number | undefined
      const channel = sftp as unknown as {
        on(event: 'exit' | 'close', told: (status?: number) => void): void
        readonly _protocol: { channelEOF(channel: number): void }
        readonly outgoing: { readonly id: number }
      }
      channel.on('exit', (told) => (status = told))
      channel.on('close', () => resolve(status))
      channel._protocol.channelEOF(channel.outgoing.id)
    })
  }

  it('ends a transfer well only when all that was asked is answered', async () => {
    const idle = await files()
    expect(await ended(idle)).toBe(0)
    const busy = await filesOf(clients[0] as Client)
    const pipe = path.join(sshd.dir, 'busy')
    execFileSync('mkfifo', [pipe])
    const other = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK)
    try {
      const handle = (await answer((done) => busy.open(pipe, 'r', done))) as Buffer
      busy.read(handle, Buffer.alloc(8), 0, 8, 0, () => undefined)
      expect(await ended(busy)).not.toBe(0)
    } finally {
      closeSync(other)
      rmSync(pipe)
    }
  })

  /** Runs a command and resolves with all that was said, and the code. */
  const ran = (client: Client, command: string): Promise<{ readonly said: string; readonly code: unknown }> =>
    new Promise((resolve, reject) => {
      client.exec(command, (error, channel) => {
        if (error !== undefined) return reject(error)
        let said = ''
        let code: unknown
        channel.on('data', (bytes: Buffer) => (said += bytes.toString()))
        channel.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()))
        channel.on('exit', (told: unknown) => (code = told))
        channel.on('close', () => resolve({ said, code }))
      })
    })

  it('says nothing a terminal would obey, whatever an operator wrote', async () => {
    const client = await open(`
targets: [box]
rules:
  - {id: none, effect: deny, actions: ["ssh.*"], reason: "not\\e[2J \\u202Ehere", hint: "ask\\e]0;x\\a us"}
`)
    const { said, code } = await ran(client, 'uname')
    expect(code).toBe(126)
    expect(said).toMatch(/not\?\[2J \?here.*ask\?\]0;x\? us/su)
    expect(said).toMatch(/^[\r\n\x20-\x7e]*$/u)
  })

  it('calls no command that was cut a success, and shows no byte of a file beyond the limit', async () => {
    kit = sshKit(sshd, undefined, { bytes: '10B' })
    door = await openDoor(kit)
    const client = await login(door)
    clients.push(client)
    const { said, code } = await ran(client, 'printf 0123456789abcdef')
    expect([said, code]).toEqual([expect.stringMatching(/^0123456789sallyport: /u), 126])
    const file = path.join(sshd.dir, 'long')
    writeFileSync(file, '0123456789abcdef')
    const { chunks, exit } = await kit.run({ kind: 'sftp', operation: 'read', path: file })
    const bytes = chunks.flatMap((chunk) => (chunk.kind === 'data' && 'bytes' in chunk ? [chunk.bytes] : []))
    expect([Buffer.concat(bytes).toString(), exit]).toMatchObject(['0123456789', { truncated: true }])
  })
})
