/** What clients try at the SSH door besides commands, with real clients and with such that lie; and what they get. */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import path from 'node:path'
import type { AnyAuthMethod, Client, ClientChannel, ConnectConfig, ExecOptions } from 'ssh2'
import ssh2 from 'ssh2'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { freePort } from '../services/free-port.ts'
import { openSshd, type TestSshd } from '../services/sshd.ts'
import { has } from '../setup/needs.ts'
import { DENIED, POLICY } from './attack-commands.ts'
import { sshKit, type SshKit } from './connector-kit.ts'
import {
  CALLER_KEY,
  CALLER_TOKEN,
  login,
  openDoor,
  realClient,
  runAtDoor,
  type RealClient,
  type TestDoor,
} from './door-kit.ts'
import { DEBUG, IGNORE, kexInit, KEXINIT, listsOf, packet, packetsOf, text } from './raw-ssh.ts'

/** What a client's connection can do besides the interface of its library. */
interface Raw {
  readonly _protocol: {
    readonly _handlers: Record<string, ((protocol: unknown, info: unknown) => void) | undefined>
    authPK(user: string, key: string): void
    session(channel: number, window: number, packetSize: number): void
    exec(channel: number, command: string, wantsReply: boolean): void
    subsystem(channel: number, name: string, wantsReply: boolean): void
    authKeyboard(user: string): void
    authInfoRes(answers: readonly string[]): void
  }
}

const raw = (client: Client): Raw => client as unknown as Raw

describe.runIf(has('sshd'))('at the SSH door', () => {
  let sshd: TestSshd
  let kit: SshKit
  let door: TestDoor
  let real: RealClient
  let forbidden: string
  const children: ChildProcess[] = []

  beforeAll(async () => {
    sshd = await openSshd('X11Forwarding yes\nAllowAgentForwarding yes\nPermitTunnel yes\nAcceptEnv *')
    kit = sshKit(sshd, POLICY)
    door = await openDoor(kit)
    real = realClient(sshd.dir, door)
    forbidden = path.join(sshd.dir, 'forbidden')
  })
  afterAll(async () => {
    await door?.close()
    await kit?.close()
    await sshd?.close()
  })
  afterEach(() => {
    for (const child of children.splice(0)) child.kill()
    assert.deepEqual(door.faults, [])
    assert.ok(!existsSync(forbidden))
  })

  it(`a real client runs none of ${DENIED.length} commands that hide something`, async () => {
    const shared = ['-o', 'ControlMaster=auto', '-o', `ControlPath=${sshd.dir}/shared`, '-o', 'ControlPersist=60']
    expect((await real.ssh(shared, ['uname'])).stdout).toBe('Linux\n')
    // A client that sends no command at all asks for something else, which other tests try.
    const commands = DENIED.flatMap(({ command }) => (command === undefined || command.trim() === '' ? [] : [command]))
    for (const command of commands) {
      const asked = command.replaceAll('FILE', forbidden).replaceAll('DIR', sshd.dir)
      expect([asked, (await real.ssh(shared, [asked])).code]).toEqual([asked, 126])
    }
    await real.ssh([...shared, '-O', 'exit'], [])
  })

  it('an agent is not forwarded, and the target hears of none', async () => {
    const socket = path.join(sshd.dir, 'agent')
    const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: ['ignore', 'pipe', 'ignore'] })
    children.push(agent)
    await once(agent.stdout, 'data')
    const env = { SSH_AUTH_SOCK: socket }
    const options = ['-A', '-o', 'IdentityAgent=SSH_AUTH_SOCK']
    expect(await real.ssh(options, ['printenv SSH_AUTH_SOCK'], { env })).toMatchObject({ code: 1, stdout: '' })
    const client = await login(door, { agent: socket, authHandler: ownKey() })
    await expect(execWith(client, { agentForward: true } as never)).rejects.toThrow(/agent forwarding/u)
    client.destroy()
  })

  it('no display is forwarded', async () => {
    const env = { DISPLAY: ':99' }
    expect(await real.ssh(['-Y'], ['printenv DISPLAY'], { env })).toMatchObject({ code: 1, stdout: '' })
    const client = await login(door)
    await expect(execWith(client, { x11: true })).rejects.toThrow(/X11/u)
    client.destroy()
  })

  it('nothing is forwarded with -L, -D, -W, -J, -R, to sockets or over a tunnel', async () => {
    const other = String(sshd.port)
    expect(await real.ssh(['-W', `127.0.0.1:${other}`], [])).toMatchObject({ code: 255, stdout: '' })
    const jump = `ssh ${real.words().join(' ')} -W 127.0.0.1:${other} 127.0.0.1`
    const nested = await real.ssh(['-o', `ProxyCommand=${jump}`, '-i', sshd.keyFile, '-l', sshd.user], ['uname'])
    expect(nested).toMatchObject({ code: 255, stdout: '' })
    for (const remote of ['0', `0:127.0.0.1:${other}`, `${sshd.dir}/remote:${sshd.dir}/none`]) {
      const ran = await real.ssh(['-o', 'ExitOnForwardFailure=yes', '-R', remote], ['uname'])
      expect([remote, ran.code, ran.stdout]).toEqual([remote, 255, ''])
    }
    expect(existsSync(`${sshd.dir}/remote`)).toBe(false)
    for (const [option, target, ask] of [
      ['-L', `:127.0.0.1:${other}`, ''],
      ['-L', `:${sshd.dir}/agent`, ''],
      // A SOCKS5 greeting and a request for the sshd.
      ['-D', '', Buffer.from([5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, sshd.port >> 8, sshd.port & 255]).toString('latin1')],
    ] as const) {
      const port = await freePort()
      const child = real.start(['-N', option, `127.0.0.1:${port}${target}`], [])
      children.push(child)
      expect(await sayTo(port, ask)).not.toContain('SSH-2.0')
    }
    const client = await login(door)
    await expect(
      new Promise((_resolve, reject) => client.openssh_forwardOutStreamLocal('/run/x', (error) => reject(error))),
    ).rejects.toThrow(/./u)
    await expect(
      new Promise((_resolve, reject) => client.openssh_forwardInStreamLocal('/tmp/x', (error) => reject(error))),
    ).rejects.toThrow(/./u)
    client.destroy()
    expect(JSON.stringify(kit.recorded)).not.toContain('"allow","kind":"forward"')
  })

  it('nothing runs for a client that only holds its connection (-N)', async () => {
    const before = kit.recorded.length
    const child = real.start(['-N', '-v'], [], { env: {} })
    children.push(child)
    let said = ''
    child.stderr?.setEncoding('utf8').on('data', (piece: string) => (said += piece))
    await expect.poll(() => said).toContain('Entering interactive session')
    expect(kit.recorded.length).toBe(before)
  })

  it('no subsystem but sftp exists', async () => {
    for (const name of ['netconf', 'scp', 'shell', '/bin/sh', 'sftp-server', 'SFTP']) {
      const ran = await real.ssh(['-s'], [name])
      expect([name, ran.code === 0, ran.stdout]).toEqual([name, false, ''])
    }
    // The one that exists is judged, too: no rule of this policy names a file operation.
    // Not synchronously: the door is in this process.
    const listing = spawn('sftp', [...real.words('sftp'), '-b', '-', '127.0.0.1'])
    listing.stdin.end('ls /etc\n')
    let listed = ''
    listing.stdout.setEncoding('utf8').on('data', (piece: string) => (listed += piece))
    await once(listing, 'close')
    expect(listing.exitCode).toBe(1)
    expect(listed).not.toContain('hostname')
  })

  it('no variable reaches the target, though its sshd takes all', async () => {
    const names = ['LD_PRELOAD', 'BASH_ENV', 'ENV', 'PS4', 'IFS', 'PATH', 'LC_ALL', 'LANG', 'GIT_SSH', 'TERM', 'X']
    for (const name of names) {
      const ran = await real.ssh(['-o', `SetEnv=${name}=set-by-client`], [`printenv ${name}`])
      expect([name, ran.stdout.includes('set-by-client')]).toEqual([name, false])
    }
    const client = await login(door)
    const answer = (name: string): Promise<string> =>
      new Promise((resolve) => {
        // A variable and then a subsystem, each with an answer.
        const full = client as unknown as { sftp(env: object, done: (error?: Error) => void): void }
        full.sftp({ [name]: 'set-by-client' }, (error) => resolve(error?.message ?? 'taken'))
      })
    const refusal = 'Unable to set environment'
    expect(await Promise.all(['LD_PRELOAD', 'LC_all', 'PATH', 'LC_ALL'].map(answer))).toEqual([
      refusal,
      refusal,
      refusal,
      'taken',
    ])
    client.destroy()
  })

  it('an offer of a key without a signature is no login', async () => {
    const { client, heard } = await unsigned(door, (protocol) => protocol.authPK('box', CALLER_KEY))
    await expect.poll(heard).toContain('USERAUTH_PK_OK')
    raw(client)._protocol.session(0, 2 ** 20, 32_768)
    raw(client)._protocol.exec(0, `uname > ${forbidden}`, true)
    await expect.poll(heard).toContain('CHANNEL_OPEN_FAILURE')
    expect(heard()).not.toContain('USERAUTH_SUCCESS')
    client.destroy()
  })

  it('one token is looked at at a time, and one that was given up logs nobody in', async () => {
    const looking: (() => void)[] = []
    const slow = await openDoor(kit, undefined, async (token) => {
      await new Promise<void>((resolve) => void looking.push(resolve))
      return token
    })
    const { client, heard } = await unsigned(slow, (protocol) => protocol.authKeyboard('box'))
    const { _protocol: protocol } = raw(client)
    await expect.poll(heard).toEqual(['USERAUTH_INFO_REQUEST'])
    protocol.authInfoRes([CALLER_TOKEN])
    await expect.poll(() => looking.length).toBe(1)
    for (let more = 0; more < 3; more++) {
      protocol.authKeyboard('box')
      await expect.poll(heard).toHaveLength(2 + more)
      expect(heard().at(-1)).toBe('USERAUTH_FAILURE')
    }
    looking[0]?.()
    // It asks until it is listened to again.
    const before = heard().length
    for (let asked = 1; !heard().slice(before).includes('USERAUTH_INFO_REQUEST'); asked++) {
      protocol.authKeyboard('box')
      await expect.poll(() => heard().length).toBe(before + asked)
    }
    expect(heard()).not.toContain('USERAUTH_SUCCESS')
    protocol.authInfoRes([CALLER_TOKEN])
    await expect.poll(() => looking.length).toBe(2)
    looking[1]?.()
    await expect.poll(heard).toContain('USERAUTH_SUCCESS')
    // Nor does it take a place of its principal, who has 32.
    const others: Client[] = []
    for (let more = 0; more < 31; more++) others.push(await login(slow))
    for (const one of [client, ...others]) one.destroy()
    await slow.close()
  })

  it('one caller has 32 connections, and another when one has gone', async () => {
    const clients: Client[] = []
    for (let index = 0; index < 32; index++) clients.push(await login(door))
    await expect(login(door)).rejects.toThrow(/./u)
    clients.pop()?.destroy()
    const isIn = (): Promise<boolean> =>
      login(door).then(
        (client) => clients.push(client) > 0,
        () => false,
      )
    await expect.poll(isIn).toBe(true)
    for (const client of clients) client.destroy()
  })

  it('nothing is opened before a login', async () => {
    const before = kit.recorded.length
    const { client, heard } = await unsigned(door, (protocol) => {
      protocol.session(0, 2 ** 20, 32_768)
      protocol.exec(0, 'uname', true)
    })
    await expect.poll(heard).toContain('CHANNEL_OPEN_FAILURE')
    expect(kit.recorded.length).toBe(before)
    client.destroy()
  })

  it('a token typed into the real client is a login, and a wrong one, or a password, is none', async () => {
    const askpass = path.join(sshd.dir, 'askpass')
    writeFileSync(askpass, '#!/bin/sh\nprintf "%s\\n" "$TYPED"\n')
    chmodSync(askpass, 0o700)
    const typed = (token: string, method: string) =>
      real.ssh(
        [
          '-o',
          'BatchMode=no',
          '-o',
          'PubkeyAuthentication=no',
          '-o',
          `PreferredAuthentications=${method}`,
          '-o',
          'NumberOfPasswordPrompts=1',
        ],
        ['uname'],
        { env: { SSH_ASKPASS: askpass, SSH_ASKPASS_REQUIRE: 'force', DISPLAY: ':0', TYPED: token } },
      )
    expect(await typed(CALLER_TOKEN, 'keyboard-interactive')).toMatchObject({ code: 0, stdout: 'Linux\n' })
    expect(await typed('spt_another', 'keyboard-interactive')).toMatchObject({ code: 255, stdout: '' })
    expect(await typed(CALLER_TOKEN, 'password')).toMatchObject({ code: 255, stdout: '' })
  })

  it('a second request on the same channel runs nothing', async () => {
    const client = await login(door)
    const channel = await execWith(client, {}, 'uname')
    const { id } = (channel as unknown as { readonly outgoing: { readonly id: number } }).outgoing
    raw(client)._protocol.exec(id, `id > ${forbidden}`, false)
    raw(client)._protocol.exec(id, 'id', false)
    raw(client)._protocol.subsystem(id, 'sftp', false)
    let output = ''
    channel.setEncoding('utf8').on('data', (piece: string) => (output += piece))
    await once(channel, 'close')
    expect(output).toBe('Linux\n')
    client.destroy()
  })

  it('only AES-GCM and strict key exchange are offered, and strictness is kept (CVE-2023-48795)', async () => {
    for (const [number, isStrict] of [
      [IGNORE, true],
      [DEBUG, true],
      [IGNORE, false],
    ] as const) {
      const socket = connect(door.port, '127.0.0.1')
      const packets = packetsOf(socket)
      socket.write('SSH-2.0-probe\r\n')
      const first = (await packets.next()).value ?? Buffer.alloc(0)
      expect(first[0]).toBe(KEXINIT)
      expect(listsOf(first)[0]).toContain('kex-strict-s-v00@openssh.com')
      expectStrong(listsOf(first))
      const own = `curve25519-sha256${isStrict ? ',kex-strict-c-v00@openssh.com' : ''}`
      const extra =
        number === IGNORE
          ? Buffer.concat([Buffer.of(IGNORE), text('')])
          : Buffer.concat([Buffer.of(DEBUG, 0), text(''), text('')])
      socket.write(Buffer.concat([packet(kexInit(own)), packet(extra)]))
      // A client's first message of the exchange. Who still listens answers it.
      const { publicKey } = generateKeyPairSync('x25519')
      const point = Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url')
      socket.write(packet(Buffer.concat([Buffer.of(30), text(point)])))
      const { value: answer } = await packets.next()
      expect([isStrict, answer?.[0] === 31]).toEqual([isStrict, !isStrict])
      socket.destroy()
    }
  })

  it('a target that slips a message into the key exchange gets no credential (CVE-2023-48795)', async () => {
    const seen: number[] = []
    const offered: (readonly (readonly string[])[])[] = []
    const server = createServer((socket) => {
      socket.on('error', () => undefined)
      socket.write('SSH-2.0-OpenSSH_9.2\r\n')
      const hostile = async (): Promise<void> => {
        for await (const each of packetsOf(socket)) {
          seen.push(each[0] ?? 0)
          if (each[0] !== KEXINIT) continue
          offered.push(listsOf(each))
          socket.write(
            Buffer.concat([
              packet(kexInit('curve25519-sha256,kex-strict-s-v00@openssh.com')),
              packet(Buffer.concat([Buffer.of(IGNORE), text('')])),
            ]),
          )
        }
      }
      hostile().catch(() => undefined)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const other = sshKit({ ...sshd, port: (server.address() as AddressInfo).port }, POLICY)
    const { error } = await other.run({ kind: 'exec', command: 'uname' })
    expect(error).toMatchObject({ code: 'ERR_UPSTREAM_UNREACHABLE' })
    const [lists = []] = offered
    expect(lists[0]).toContain('kex-strict-c-v00@openssh.com')
    expectStrong(lists)
    await other.close()
    server.close()
  })
})

describe.runIf(has('sshd'))('strangers at the SSH door', () => {
  let sshd: TestSshd
  let kit: SshKit
  let door: TestDoor
  let now = 0

  beforeAll(async () => {
    sshd = await openSshd()
    kit = sshKit(sshd, POLICY)
    door = await openDoor(kit, () => now)
  })
  afterAll(async () => {
    vi.useRealTimers()
    await door?.close()
    await kit?.close()
    await sshd?.close()
  })

  const silent = async (): Promise<Socket> => {
    const socket = connect(door.port, '127.0.0.1')
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    return socket
  }

  it('are sixteen from one address: who comes then is not answered, and may when others have gone', async () => {
    const waiting: Socket[] = []
    for (let index = 0; index < 16; index++) {
      const socket = await silent()
      await once(socket, 'data')
      waiting.push(socket)
    }
    const one = await silent()
    one.resume()
    await once(one, 'close')
    expect(one.bytesRead).toBe(0)
    for (const socket of waiting) socket.destroy()
    await expect
      .poll(() =>
        login(door).then(
          (client) => client.destroy(),
          () => 'refused',
        ),
      )
      .not.toBe('refused')
  })

  it('have half a minute to say who they are', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const socket = await silent()
    await once(socket, 'data')
    socket.resume()
    const closed = once(socket, 'close')
    vi.advanceTimersByTime(30_000)
    vi.useRealTimers()
    await closed
    expect(socket.destroyed).toBe(true)
  })

  it('who announce a packet longer than anybody may are left at once', async () => {
    // Nobody who is only too slow ends this test.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    // Multiples of eight with the length itself, and a padding that may be: nothing else is wrong with them.
    for (const length of [0xfffffffc, 0x7ffffffc, 35_004]) {
      const socket = await silent()
      socket.resume()
      const closed = once(socket, 'close')
      const header = Buffer.alloc(8)
      header.writeUInt32BE(length)
      header[4] = 4
      socket.write(Buffer.concat([Buffer.from('SSH-2.0-probe\r\n'), header]))
      await closed
      expect(socket.destroyed).toBe(true)
    }
    vi.useRealTimers()
  })

  it('have six attempts on a connection and twenty in a minute; then their address is not answered', async () => {
    let attempts = 0
    const guess = async (): Promise<void> => {
      const client = new ssh2.Client()
      client.on('error', () => undefined)
      client.connect({
        host: '127.0.0.1',
        port: door.port,
        username: 'box',
        authHandler: (_left, _partial, next) => {
          attempts++
          next({ type: 'keyboard-interactive', username: 'box', prompt: (_n, _i, _l, _p, done) => done(['guess']) })
        },
      })
      // Not `once`, which throws what the client says of its end.
      await new Promise<void>((resolve) => void client.once('close', () => resolve()))
    }
    await guess()
    expect(attempts).toBe(6)
    await guess()
    await guess()
    expect(attempts).toBe(18)
    await guess()
    expect(attempts).toBeLessThanOrEqual(24)
    const before = attempts
    await guess()
    expect(attempts).toBe(before)
    await expect(login(door)).rejects.toThrow(/./u)
    now += 60_000
    const client = await login(door)
    expect((await runAtDoor(client, 'uname')).stdout).toBe('Linux\n')
    client.destroy()
  })
})

/** Looks at what a peer offers: nothing with SHA-1, small groups, CBC, CTR or a separate MAC, and no compression. */
function expectStrong(lists: readonly (readonly string[])[]): void {
  const [kex = [], keys = [], out, back, , , ...compression] = lists
  for (const name of [...kex, ...keys]) expect(name).not.toMatch(/sha1|group1-|group-exchange|^ssh-rsa$|^ssh-dss$/u)
  expect([out, back]).toEqual([
    ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com'],
    ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com'],
  ])
  expect(compression.slice(0, 2)).toEqual([['none'], ['none']])
}

/** A client that may ask to log in and does not: it does with its protocol what a test says. */
async function unsigned(
  { port }: TestDoor,
  act: (protocol: Raw['_protocol']) => void,
): Promise<{ readonly client: Client; readonly heard: () => readonly string[] }> {
  const client = new ssh2.Client()
  client.on('error', () => undefined)
  const heard: string[] = []
  const names = [
    'USERAUTH_PK_OK',
    'USERAUTH_INFO_REQUEST',
    'USERAUTH_SUCCESS',
    'USERAUTH_FAILURE',
    'CHANNEL_OPEN_FAILURE',
    'CHANNEL_OPEN_CONFIRMATION',
  ]
  await new Promise<void>((resolve) => {
    client.connect({
      host: '127.0.0.1',
      port,
      username: 'box',
      // Asked once the connection is encrypted, and never answered.
      authHandler: () => {
        const { _protocol: protocol } = raw(client)
        for (const name of names) protocol._handlers[name] = () => void heard.push(name)
        act(protocol)
        resolve()
      },
    })
  })
  return { client, heard: () => heard }
}

/** Opens a channel with a command and these requests before it. */
function execWith(client: Client, options: ExecOptions, command = 'uname'): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    client.exec(command, options, (error, channel) => (error ? reject(error) : resolve(channel)))
  })
}

/** Logs in with the caller's key, whatever an agent holds. */
function ownKey(): NonNullable<ConnectConfig['authHandler']> {
  const key: AnyAuthMethod = { type: 'publickey', username: 'box', key: CALLER_KEY }
  return (_left, _partial, next) => next(key)
}

/** Connects as soon as somebody listens, says something, and returns what was answered before the end. */
async function sayTo(port: number, what: string): Promise<string> {
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    const isOpen = await Promise.race([
      once(socket, 'connect').then(() => true),
      once(socket, 'error').then(() => false),
    ]).catch(() => false)
    if (!isOpen) {
      await new Promise((resolve) => void setTimeout(resolve, 50))
      continue
    }
    let heard = ''
    socket.on('error', () => undefined)
    socket.setEncoding('latin1').on('data', (piece: string) => (heard += piece))
    socket.write(Buffer.from(what, 'latin1'))
    await once(socket, 'close')
    return heard
  }
}
