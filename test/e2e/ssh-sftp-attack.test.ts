/** A client that does not keep to the file transfer protocol, against the door as its own process. */
import { readFileSync } from 'node:fs'
import ssh2 from 'ssh2'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { openSshWorld, type SshWorld } from './ssh-world.ts'

describe.runIf(has('sshd'))('a client that lies over SFTP', () => {
  let world: SshWorld
  let key: string

  beforeAll(async () => {
    world = await openSshWorld(`
targets: [box]
rules:
  - {id: files, effect: allow, principals: [group:agents], actions: ["ssh.sftp.*"], resources: ["**"]}
`)
    ;({ keyFile: key } = await world.caller('loop', ['agents']))
  })
  afterAll(() => world?.close())

  /** Sends raw packets on the subsystem and resolves when the door has ended the channel or the connection. */
  function attack(packets: readonly Buffer[]): Promise<void> {
    return new Promise((resolve) => {
      const client = new ssh2.Client()
      const over = (): void => {
        client.destroy()
        resolve()
      }
      client.on('close', over)
      client.on('error', over)
      client.on('ready', () => {
        client.subsys('sftp', (error, channel) => {
          if (error !== undefined && error !== null) return over()
          channel.on('close', over)
          channel.resume()
          for (const packet of packets) channel.write(packet)
        })
      })
      client.connect({ host: '127.0.0.1', port: world.sshPort, username: 'box', privateKey: readFileSync(key) })
    })
  }

  const INIT = Buffer.from('000000050100000003', 'hex')
  const cases: readonly (readonly [string, readonly Buffer[]])[] = [
    ['a length with its highest bit set', [Buffer.from('ffffffff00', 'hex'), Buffer.alloc(64)]],
    ['a negative length after the start', [INIT, Buffer.from('80000000', 'hex'), Buffer.alloc(64)]],
    ['a length of nothing', [INIT, Buffer.alloc(4)]],
    ['an unknown packet', [INIT, Buffer.from('0000000563000000ff', 'hex')]],
    ['an open without a name', [INIT, Buffer.from('000000050300000001', 'hex')]],
    [
      'more questions than anybody has',
      [INIT, Buffer.concat(Array.from({ length: 200_000 }, () => Buffer.from('0000000a0700000001000000012f', 'hex')))],
    ],
  ]
  it.each(cases)('ends nobody but itself: %s', async (_name, packets) => {
    await attack(packets)
    const honest = await world.client('sftp', key, ['-b', '-', '127.0.0.1'], 'ls /etc/hostname\n')
    expect(honest).toMatchObject({ code: 0 })
    expect(world.output()).not.toContain('ERR_INTERNAL')
  })
})
