/** Clients that stall, flood, lie about windows or vanish, against the gateway as its own process. */
import { existsSync, readdirSync, readFileSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import ssh2, { type Client, type ClientChannel } from 'ssh2'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { openSshWorld, type SshWorld } from './ssh-world.ts'

interface Raw {
  readonly _sock: { pause(): void }
  readonly _protocol: { session(channel: number, window: number, packetSize: number): void }
}

/** What a file of a process says; nothing once the process has gone. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

describe.runIf(has('sshd'))('a hostile client at the SSH door', () => {
  let world: SshWorld
  let key: string
  let honest: string

  beforeAll(async () => {
    world = await openSshWorld(`
targets: [box]
rules:
  - {id: tools, effect: allow, principals: [group:agents], actions: [ssh.exec], resources: [{argv: [{in: [uname, cat, sleep, head]}, {rest: any}]}], limits: {timeout: 10m}}
  - {id: words, effect: allow, principals: [group:agents], actions: [ssh.builtin, ssh.write], resources: ["**"]}
`)
    ;({ keyFile: key } = await world.caller('loop', ['agents']))
    ;({ keyFile: honest } = await world.caller('other', ['agents']))
  })
  afterAll(() => world?.close())

  /** Logs in, and lies about every channel from then on. */
  function login(window?: number, packetSize?: number): Promise<Client> {
    return new Promise((resolve, reject) => {
      const client = new ssh2.Client()
      client.once('error', reject)
      client.once('ready', () => {
        client.on('error', () => undefined)
        const { _protocol: protocol } = client as unknown as Raw
        const open = protocol.session.bind(protocol)
        protocol.session = (channel, own, size) => open(channel, window ?? own, packetSize ?? size)
        resolve(client)
      })
      client.connect({ host: '127.0.0.1', port: world.sshPort, username: 'box', privateKey: readFileSync(key) })
    })
  }

  const exec = (client: Client, command: string): Promise<ClientChannel | 'refused'> =>
    new Promise((resolve) => client.exec(command, (error, channel) => resolve(error ? 'refused' : channel)))
  const closed = (client: Client): Promise<void> => new Promise((resolve) => void client.once('close', () => resolve()))
  /** The target's processes that read this file, and how many bytes each wrote so far. */
  const writtenOf = (file: string): ReadonlyMap<string, number> =>
    new Map(
      readdirSync('/proc')
        .filter((pid) => /^\d+$/u.test(pid) && textOf(`/proc/${pid}/cmdline`) === `cat\0${file}\0`)
        .map((pid) => [pid, Number(/wchar: (\d+)/u.exec(textOf(`/proc/${pid}/io`))?.[1])]),
    )
  const others = async (): Promise<void> => {
    expect(await world.client('ssh', honest, ['127.0.0.1', 'uname'])).toMatchObject({ code: 0, stdout: 'Linux\n' })
  }

  it('that wants empty packets, or tiny ones, is left alone', async () => {
    for (const size of [0, 1]) {
      const client = await login(undefined, size)
      const over = closed(client)
      client.exec('uname', () => undefined)
      await expect(over).resolves.toBeUndefined()
      await others()
    }
  })

  it('that claims a window of 4 GiB and reads nothing has the target stop writing', async () => {
    const zeros = path.join(world.sshd.dir, 'zeros')
    symlinkSync('/dev/zero', zeros)
    const clients = await Promise.all([login(0xffff_ffff), login(0xffff_ffff)])
    for (const client of clients) {
      expect(await exec(client, `cat ${zeros}`)).not.toBe('refused')
      ;(client as unknown as Raw)._sock.pause()
    }
    await expect.poll(() => [...writtenOf(zeros).values()].filter((bytes) => bytes > 0).length).toBe(2)
    for (let round = 0; round < 8; round++) await others()
    // The gateway, both sshd and the kernel together cannot keep more than was written: windows of 2 MiB and sockets.
    const written = [...writtenOf(zeros).values()]
    expect(written).toHaveLength(2)
    expect(Math.max(...written)).toBeLessThan(64 * 1024 * 1024)
    for (const client of clients) client.destroy()
    await others()
  })

  it('that sends more than its window is left alone', async () => {
    const client = await login()
    const over = closed(client)
    const channel = await exec(client, 'sleep 300')
    if (channel === 'refused') throw new Error('the command was refused')
    channel.on('error', () => undefined)
    ;(channel as unknown as { outgoing: { window: number } }).outgoing.window = Number.MAX_SAFE_INTEGER
    // The library drops what comes when exactly nothing is left of the window, and takes what goes beyond its end.
    for (let piece = 0; piece < 32; piece++) channel.write(Buffer.alloc(1_000_003))
    await expect(over).resolves.toBeUndefined()
    await others()
  })

  it('that floods channels gets ten', async () => {
    const client = await login()
    const opened = await Promise.all(Array.from({ length: 60 }, () => exec(client, 'sleep 300')))
    expect(opened.filter((channel) => channel !== 'refused')).toHaveLength(10)
    await others()
    client.destroy()
  })

  it('that vanishes in the middle of a command takes the command with it', async () => {
    const file = path.join(world.sshd.dir, 'pid')
    const client = await login()
    await exec(client, `echo $$ > ${file}; sleep 300`)
    await expect.poll(() => textOf(file).trim() !== '').toBe(true)
    const pid = Number(readFileSync(file, 'utf8'))
    client.destroy()
    await expect.poll(() => existsSync(`/proc/${pid}`)).toBe(false)
    await others()
  })

  it('leaves a recording that is sealed and verifies', async () => {
    const dir = path.join(world.dir, 'recordings')
    const files = (): readonly string[] =>
      readdirSync(dir, { recursive: true, encoding: 'utf8' })
        .filter((name) => /\/\d{8}T[^/]*\.jsonl$/u.test(name))
        .map((name) => readFileSync(path.join(dir, name), 'utf8'))
        .filter((text) => text.includes('"door":"ssh"'))
    const isSealed = (text: string): boolean => text.trimEnd().split('\n').at(-1)?.includes('"type":"seal"') === true
    await expect.poll(() => files().filter((text) => !isSealed(text)).length).toBe(0)
    expect(files().length).toBeGreaterThan(10)
    expect(world.cli(['recordings', 'verify']).code).toBe(0)
    expect(world.output()).not.toContain('the SSH door met an error')
  })
})
