/** Connections to somewhere behind a target (`-L`, `-W`), where a rule names the place. */
import type { Client } from 'ssh2'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { destinationOf, forwardParts } from '../../src/protocols/ssh/plan-forward.ts'
import { openSshd, type TestSshd } from '../services/sshd.ts'
import { has } from '../setup/needs.ts'
import { sshKit, type SshKit } from './connector-kit.ts'
import { login, openDoor, realClient, type TestDoor } from './door-kit.ts'

describe('where a client wants to be connected to', () => {
  it.each([
    ['127.0.0.1', '127.0.0.1:22'],
    ['db.internal', 'db.internal:22'],
    ['DB.Internal.', 'db.internal:22'],
    ['localhost', 'localhost:22'],
    ['::1', '[::1]:22'],
    ['2001:DB8:0:0::1', '[2001:db8::1]:22'],
  ])('is judged in one spelling: %s', (host, name) => {
    expect(destinationOf(host, 22)?.name).toBe(name)
  })

  it.each([
    '127.1',
    '0x7f000001',
    '0x7f.0.0.1',
    '2130706433',
    '0177.0.0.1',
    '127.0.0.01',
    '::ffff:127.0.0.1',
    'fe80::1%eth0',
    '',
    'a b',
    'ex\u0430mple.org',
    '*',
    '/run/x',
    '127.0.0.1:22',
    'a..b',
    '-x',
    '1',
  ])('is not understood in others: %j', (host) => {
    expect(destinationOf(host, 22)).toBeUndefined()
    expect(forwardParts(host, 22)).toMatchObject([{ verb: 'ssh.unknown' }])
  })
})

describe.runIf(has('sshd'))('a forwarded connection', () => {
  let sshd: TestSshd
  let kit: SshKit
  let masked: SshKit
  let door: TestDoor
  let maskedDoor: TestDoor
  const rules = (port: number): string => `
targets: [box]
rules:
  - {id: there, effect: allow, principals: [group:agents], actions: [ssh.forward], resources: [{argv: ["127.0.0.1:${port}"]}]}
  - {id: tools, effect: allow, principals: [group:agents], actions: [ssh.exec], resources: [{argv: [uname]}]}
`

  beforeAll(async () => {
    sshd = await openSshd()
    kit = sshKit(sshd, rules(sshd.port))
    masked = sshKit(sshd, `${rules(sshd.port)}masks:\n  - {detect: [email], transform: redact}\n`)
    door = await openDoor(kit)
    maskedDoor = await openDoor(masked)
  })
  afterAll(async () => {
    await Promise.all([door?.close(), maskedDoor?.close()])
    await Promise.all([kit?.close(), masked?.close()])
    await sshd?.close()
  })

  const connectTo = async (client: Client, host: string, port: number): Promise<string> =>
    new Promise((resolve) => {
      client.forwardOut('127.0.0.1', 0, host, port, (error, channel) => {
        if (error !== undefined) return resolve('refused')
        channel.once('data', (bytes: Buffer) => {
          channel.end()
          resolve(bytes.toString('latin1').slice(0, 7))
        })
        channel.write('SSH-2.0-probe\r\n')
      })
    })

  it('leads where a rule says, with real clients, and nowhere else', async () => {
    const real = realClient(sshd.dir, door)
    const there = await real.ssh(['-W', `127.0.0.1:${sshd.port}`], [], { input: 'SSH-2.0-probe\r\n' })
    expect(there.stdout).toContain('SSH-2.0-OpenSSH')
    const jump = `ssh ${real.words().join(' ')} -W 127.0.0.1:${sshd.port} 127.0.0.1`
    const own = ['-i', sshd.keyFile, '-l', sshd.user, '-o', `HostKeyAlias=behind`]
    expect(await real.ssh(['-o', `ProxyCommand=${jump}`, ...own], ['echo', 'behind'])).toMatchObject({
      stdout: 'behind\n',
    })
    const client = await login(door)
    expect(await connectTo(client, '127.0.0.1', sshd.port)).toBe('SSH-2.0')
    for (const host of ['127.1', 'localhost', '::ffff:127.0.0.1', '0x7f000001', '127.0.0.1.']) {
      expect([host, await connectTo(client, host, sshd.port)]).toEqual([
        host,
        host === '127.0.0.1.' ? 'SSH-2.0' : 'refused',
      ])
    }
    expect(await connectTo(client, '127.0.0.1', door.port)).toBe('refused')
    client.destroy()
  })

  it('is recorded both ways, and ends with its client', async () => {
    const client = await login(door)
    const before = kit.recorded.length
    expect(await connectTo(client, '127.0.0.1', sshd.port)).toBe('SSH-2.0')
    client.destroy()
    await expect.poll(() => kit.recorded.length).toBe(before + 1)
    expect(kit.recorded.at(-1)).toMatchObject({
      output: { stdin: 'SSH-2.0-probe\r\n', wire: expect.stringContaining('SSH-2.0-OpenSSH') },
    })
  })

  it.each([
    ['of a rule', 'limits: {bytes: 8}', {}],
    ['of the target', '', { bytes: '8B' }],
  ])('ends at the limit %s, and shows nothing beyond it', async (_whose, limits, options) => {
    const limited = sshKit(sshd, rules(sshd.port).replace('"]}]}', `"]}], ${limits}}`), options)
    const narrow = await openDoor(limited)
    const client = await login(narrow)
    const heard = await new Promise<string>((resolve, reject) => {
      client.forwardOut('127.0.0.1', 0, '127.0.0.1', sshd.port, (error, channel) => {
        if (error !== undefined) return reject(error)
        let text = ''
        channel.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')))
        channel.on('close', () => resolve(text))
      })
    })
    expect(heard).toBe('')
    await expect.poll(() => limited.recorded).toHaveLength(1)
    expect(JSON.stringify(limited.recorded)).toContain('"truncatedBy":"bytes"')
    client.destroy()
    await narrow.close()
    await limited.close()
  })

  it('is one of ten channels of its client', async () => {
    const client = await login(door)
    const opened: boolean[] = []
    for (let count = 0; count < 12; count++) {
      opened.push(
        await new Promise<boolean>((resolve) => {
          client.forwardOut('127.0.0.1', 0, '127.0.0.1', sshd.port, (error) => resolve(error === undefined))
        }),
      )
    }
    expect(opened.filter(Boolean)).toHaveLength(10)
    client.destroy()
  })

  it('is refused where what comes back would have to be masked', async () => {
    const client = await login(maskedDoor)
    expect(await connectTo(client, '127.0.0.1', sshd.port)).toBe('refused')
    expect(masked.recorded.at(-1)).toMatchObject({ code: 'ERR_DENIED', facts: { construct: 'ssh.forward_masked' } })
    client.destroy()
  })
})
