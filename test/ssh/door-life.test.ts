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
  }, 60_000)
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
    await expect.poll(() => kit.endings, { timeout: 30_000 }).toHaveLength(1)
  })
})
