/** An interactive shell through the SSH door, with a real client, terminal and sshd. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SafeOutput } from '../../src/cli/replay-output.ts'
import { has } from '../setup/needs.ts'
import { lastCast, openSshWorld, type SshWorld } from './ssh-world.ts'

interface Shell {
  readonly child: ChildProcess
  says(text: string): Promise<void>
  type(text: string): void
  output(): string
}

describe.runIf(has('sshd'))('an interactive shell', () => {
  let world: SshWorld
  let key: string
  let stranger: string

  const open = (keyFile = key): Shell => {
    const child = world.start('ssh', keyFile, ['-tt', '127.0.0.1'])
    let output = ''
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (output += text))
    child.stdin?.on('error', () => undefined)
    return {
      child,
      output: () => output,
      type: (text) => void child.stdin?.write(text),
      async says(text) {
        while (!output.includes(text)) {
          if (child.exitCode !== null) throw new Error(`It ended with ${child.exitCode}: ${output}`)
          await new Promise((resolve) => void setTimeout(resolve, 20))
        }
      },
    }
  }

  beforeAll(async () => {
    world = await openSshWorld(`
targets: [box]
rules:
  - {id: shells, effect: allow, principals: [group:agents], actions: [ssh.shell], resources: ["**"], limits: {timeout: 10m}}
  - {id: commands, effect: allow, principals: [group:others], actions: [ssh.exec], resources: ["**"]}
masks:
  - {detect: [email], transform: redact}
`)
    ;({ keyFile: key } = await world.caller('loop', ['agents']))
    ;({ keyFile: stranger } = await world.caller('visitor', ['others']))
  })
  afterAll(() => world?.close())

  it('is denied unless a rule names it', async () => {
    const shell = open(stranger)
    await once(shell.child, 'close')
    expect(shell.child.exitCode).toBe(126)
    expect(shell.output()).toContain('sallyport: ')
  })

  it('works as a terminal, masked, prompts without a line end included, and its input is recorded', async () => {
    const shell = open()
    shell.type('exec bash --norc\n')
    shell.type("PS1=; stty -echo; read -p 'your na''me? ' name; echo \"hello $name\"\n")
    await shell.says('your name? ')
    shell.type('nobody\n')
    await shell.says('hello nobody')
    shell.type("printf 'ana@%s\\n' example.com; test -t 0 && echo is-a-'terminal'\n")
    await shell.says('is-a-terminal')
    shell.type('exit 3\n')
    await once(shell.child, 'close')
    expect(shell.child.exitCode).toBe(3)
    expect(shell.output()).toContain('[REDACTED:email]')
    expect(shell.output()).not.toContain('ana@example.com')
    await expect.poll(() => sidecars(world)).toContain('hello nobody')
    const kept = await sidecars(world)
    expect(kept).toContain('"channel":"stdin"')
    expect(kept).toContain('hello nobody')
    expect(kept).not.toContain('ana@example.com')
  })

  it('can be played, and exported with its input and sizes, without anything that acts on a terminal', async () => {
    const shell = open()
    shell.type('exec bash --norc --noediting\n')
    shell.type("PS1=; stty -echo; printf 'rea''dy\\n'\n")
    await shell.says('ready')
    shell.type("printf '\\033]0;own''ed\\007\\033[6n\\033[31mre''d\\033[0m\\n'; exit\n")
    await once(shell.child, 'close')
    const { token } = await world.caller('auditor', [], { kind: 'person', roles: ['auditor'] })
    const { session, header, events, text } = await lastCast(world, token)
    const played = world.cli(['recordings', 'play', session, '--speed', '1000', '--idle', '0.01'], token)
    expect(played.stderr).toContain('# ssh.shell: interactive shell')
    expect(played.stdout).toContain('\u001b[31mred\u001b[0m')
    expect(played.stdout).toContain('\\u{1b}]0;owned\\u{7}\\u{1b}[6n')
    expect(header).toMatchObject({ version: 2, title: session, width: expect.any(Number), height: expect.any(Number) })
    // What the person at the terminal saw, all of it and nothing else; only what acts on a terminal became text.
    const safe = new SafeOutput()
    expect(text('o')).toBe(safe.filter(shell.output()) + safe.end())
    expect(text('o')).toContain('\u001b[31mred')
    expect(text('o')).not.toContain('\u001b]')
    expect(text('i')).toContain('stty -echo')
    const times = events.map(([seconds]) => seconds)
    expect(times).toEqual([...times].sort((a, b) => a - b))
    expect(world.cli(['recordings', 'verify']).code).toBe(0)
  })

  it('ends, with what runs in it, when an operator kills its session', async () => {
    const shell = open()
    shell.type('echo sta""rted\n')
    await shell.says('started')
    const closed = once(shell.child, 'close')
    const busy = async () => {
      const { sessions } = await world.operator.get<{
        sessions: readonly { id: string; door: string; calls: readonly unknown[] }[]
      }>('/v1/sessions')
      return sessions.filter(({ door, calls }) => door === 'ssh' && calls.length > 0)
    }
    // Those of the tests before may be listed for a moment.
    await expect.poll(busy).toHaveLength(1)
    const [own] = await busy()
    await world.operator.delete(`/v1/sessions/${own?.id ?? ''}`)
    await closed
    expect(shell.child.exitCode).not.toBe(0)
    expect(world.cli(['recordings', 'verify']).code).toBe(0)
  })
})

async function sidecars(world: SshWorld): Promise<string> {
  const dir = path.join(world.dir, 'recordings')
  const names = await readdir(dir, { recursive: true })
  const files = names.filter((name) => name.endsWith('.bulk'))
  const texts = await Promise.all(files.map((name) => readFile(path.join(dir, name), 'utf8')))
  return texts.join('\n')
}
