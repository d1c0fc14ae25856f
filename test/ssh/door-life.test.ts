/** What the SSH door does for paths before they are judged, and whose end ends what. */
import { once } from 'node:events'
import { existsSync, readlinkSync } from 'node:fs'
import path from 'node:path'
import type { Client, SFTPWrapper } from 'ssh2'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
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

  async function open(): Promise<Client> {
    kit = sshKit(sshd)
    door = await openDoor(kit)
    const client = await login(door)
    clients.push(client)
    return client
  }

  async function files(): Promise<SFTPWrapper> {
    const client = await open()
    return new Promise((resolve, reject) => {
      client.sftp((error, sftp) => (error === undefined ? resolve(sftp) : reject(error)))
    })
  }

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
    const sftp = await new Promise<SFTPWrapper>((resolve, reject) => {
      client.sftp((error, opened) => (error === undefined ? resolve(opened) : reject(error)))
    })
    socket.pause()
    expect(await askOnAndOn(client, sftp)).toBe(true)
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
})
