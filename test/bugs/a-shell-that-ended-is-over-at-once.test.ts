import { afterEach, beforeEach, expect, it } from 'vitest'
import { govern } from '../../src/gateway/gateway.ts'
import { writeTyped } from '../../src/protocols/ssh/typed.ts'
import { openSshd, type TestSshd } from '../services/sshd.ts'
import { has } from '../setup/needs.ts'
import { sshKit, type SshKit } from '../ssh/connector-kit.ts'

let sshd: TestSshd
let kit: SshKit
beforeEach(async () => {
  sshd = await openSshd()
  kit = sshKit(sshd)
})
afterEach(async () => {
  await kit?.close()
  await sshd?.close()
})

it.runIf(has('sshd'))('a shell that ended by itself is over before a command that is started then', async () => {
  const order: string[] = []
  const input = async function* (): AsyncGenerator<Uint8Array> {
    yield writeTyped({ kind: 'keys', bytes: Buffer.from('exit\n') })
  }
  const shell = { kind: 'shell', term: 'vt100', columns: 80, rows: 24 }
  let command: Promise<unknown> | undefined
  for await (const chunk of govern(kit.call(shell, { input: input() }), kit.rooms)) {
    // It had waited five seconds for a close that had come already.
    if (chunk.kind === 'exit')
      command = kit.run({ kind: 'exec', argv: ['sleep', '2'] }).then(() => order.push('command'))
  }
  order.push('shell')
  await command
  expect(order).toEqual(['shell', 'command'])
})
