import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loginFile, readLogin, writeLogin } from '../../src/cli/login-file.ts'
import { printable } from '../../src/cli/terminal.ts'
import { durationMs, words } from '../../src/cli/units.ts'
import { VERSION } from '../../src/version.ts'
import { openAdmin } from '../admin/kit.ts'
import { sallyport } from './kit.ts'

const SECRET = 'sp_token_of_operator'
let door: Awaited<ReturnType<typeof openAdmin>>
let home: string
beforeAll(async () => {
  door = await openAdmin()
  home = mkdtempSync(join(tmpdir(), 'sallyport-cli-'))
})
afterAll(async () => {
  await door.close()
  rmSync(home, { recursive: true, force: true })
})

function as(role: string): { readonly env: Readonly<Record<string, string>> } {
  return { env: { SALLYPORT_ADMIN_URL: door.url, SALLYPORT_TOKEN: `sp_token_of_${role}` } }
}

describe('the command line', () => {
  it('says its version, which is that of the package', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string
    }
    expect(VERSION).toBe(version)
    expect((await sallyport(['--version'])).stdout).toBe(`${version}\n`)
  })

  it.each([
    ['an unknown command', ['frobnicate'], "unknown command 'frobnicate'"],
    ['an unknown option', ['serve', '--frob'], "unknown option '--frob'"],
    ['a missing argument', ['token', 'revoke'], "missing required argument 'id'"],
    ['a missing option', ['token', 'create', 'bot'], "required option '--owner <person>' not specified"],
    ['a choice that is none', ['token', 'create', 'bot', '--owner', 'm', '--kind', 'god'], 'Allowed choices are'],
  ])('answers %s with exit code 2', async (_name, args, message) => {
    const ran = await sallyport(args)
    expect(ran.code).toBe(2)
    expect(ran.stderr).toContain(`sallyport: `)
    expect(ran.stderr).toContain(message)
    expect(ran.stdout).toBe('')
  })

  it('needs a token, and says where one would be looked for', async () => {
    const ran = await sallyport(['token', 'list'], { env: { XDG_CONFIG_HOME: home } })
    expect(ran.code).toBe(5)
    expect(ran.stderr).toContain('hint: Set SALLYPORT_TOKEN')
  })

  it('says when no gateway answers', async () => {
    const ran = await sallyport(['token', 'list', '--url', 'http://127.0.0.1:1'], { env: { SALLYPORT_TOKEN: SECRET } })
    expect(ran.code).toBe(4)
    expect(ran.stderr).toContain('No gateway answers at http://127.0.0.1:1.')
  })

  it('says when something else answers, and does not follow it elsewhere', async () => {
    const other = createServer((_request, response) => {
      response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end()
    })
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as AddressInfo
    try {
      const ran = await sallyport(['token', 'list', '--url', `http://127.0.0.1:${port}`], {
        env: { SALLYPORT_TOKEN: SECRET },
      })
      expect(ran.code).toBe(4)
      expect(ran.stderr).toContain(`sallyport: `)
    } finally {
      other.close()
    }
  })

  it('sends a token to no other machine in the clear', async () => {
    const ran = await sallyport(['token', 'list', '--url', 'http://gateway.example'], {
      env: { SALLYPORT_TOKEN: SECRET },
    })
    expect(ran.code).toBe(3)
    expect(ran.stderr).toContain('over https only')
  })

  it.each([
    ['revoked', 'nobody', 'The token is not known.'],
    ['without the role', 'caller', 'This needs the role operator or approver or auditor; caller has not.'],
  ])('says when the token is %s', async (_name, role, message) => {
    const ran = await sallyport(['token', 'list'], as(role))
    expect(ran.code).toBe(5)
    expect(ran.stderr).toBe(`sallyport: ${message}\n`)
  })

  it('prints a table for people and a value per line for machines', async () => {
    const people = await sallyport(['token', 'list'], as('operator'))
    expect(people.stdout.split('\n')[0]).toMatch(/^ID +PRINCIPAL/u)
    const machines = await sallyport(['token', 'list', '--json'], as('operator'))
    const values = machines.stdout.trim().split('\n')
    expect(values.map((line) => JSON.parse(line) as unknown)).toMatchObject([{ id: 'k1' }])
    expect(people.stdout + machines.stdout).not.toContain('\u001B')
  })

  it('prints a fresh token alone on standard output, for scripts', async () => {
    const args = ['token', 'create', 'bot', '--owner', 'maria', '--group', 'agents,readers', '--expires', '7d']
    const ran = await sallyport(args, as('operator'))
    expect(ran.stdout).toBe('sp_fresh\n')
    expect(ran.stderr).toContain('shown this once')
  })

  it('votes for what it shows, by digest', async () => {
    const ran = await sallyport(['approvals', 'approve', 't1', '--reason', 'checked'], as('approver'))
    expect(ran.code).toBe(0)
    expect(ran.stdout).toContain('UPDATE orders SET note = $1')
    expect(ran.stdout).toContain('You approved t1')
  })

  it('watches until the gateway ends the stream', async () => {
    const ran = await sallyport(['approvals', 'watch', '--json'], as('approver'))
    const seen = ran.stdout.trim().split('\n')
    // What waited already, and then what changed.
    expect(seen.map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { id: 't1', state: 'pending' },
      { id: 't1', state: 'pending' },
    ])
  })

  it('where nobody sits, the inbox prints tickets with the command that answers just what was seen', async () => {
    const ran = await sallyport(['approvals', 'watch'], as('approver'))
    expect(ran.stdout).toContain('UPDATE orders SET note = $1')
    expect(ran.stdout).toContain('sallyport approvals approve t1 --digest d1')
  })

  it('never says the token it used', async () => {
    const commands = [
      ['token', 'list'],
      ['sessions', 'list'],
      ['policy', 'status'],
      ['approvals', 'vote'],
      ['recordings', 'show', 's1'],
    ]
    const env = { ...as('operator').env, SALLYPORT_DEBUG: '1' }
    const runs = await Promise.all(commands.map((args) => sallyport(args, { env })))
    expect(runs.map(({ stdout, stderr }) => stdout + stderr).join('')).not.toContain(SECRET)
  })

  it('keeps a login in a file only its owner can read', async () => {
    const env = { XDG_CONFIG_HOME: home }
    const ran = await sallyport(['login', '--url', door.url], { env, input: `${SECRET}\n` })
    expect(ran.stderr).toBe('')
    expect(ran.stdout).toContain('You are operator (operator)')
    expect(ran.stdout).not.toContain(SECRET)
    const file = loginFile(env)
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect((await sallyport(['token', 'list'], { env })).code).toBe(0)
    chmodSync(file, 0o644)
    const open = await sallyport(['token', 'list'], { env })
    expect(open.code).toBe(3)
    expect(open.stderr).toContain(`chmod 600 ${file}`)
    rmSync(file)
  })

  it('keeps no login the gateway does not know', async () => {
    const env = { XDG_CONFIG_HOME: home }
    const ran = await sallyport(['login', '--url', door.url], { env, input: 'sp_wrong\n' })
    expect(ran.code).toBe(5)
    expect(await readLogin(loginFile(env))).toEqual({})
  })
})

describe('a login file', () => {
  it('is read back as written, and damage is not quoted', async () => {
    const file = join(home, 'login')
    await writeLogin(file, { url: 'http://127.0.0.1:7401', token: SECRET })
    expect(await readLogin(file)).toEqual({ url: 'http://127.0.0.1:7401', token: SECRET })
    writeFileSync(file, `{"token": "${SECRET}"`)
    await expect(readLogin(file)).rejects.toThrow(/must be JSON/u)
    await expect(readLogin(file)).rejects.not.toThrow(SECRET)
  })
})

describe('text from elsewhere', () => {
  it.each([
    ['a colour', '\u001B[31mred', '\\u{1b}[31mred'],
    ['a line that overwrites', 'DROP TABLE x\rSELECT 1    ', 'DROP TABLE x\\u{d}SELECT 1    '],
    ['another order of words', 'a\u202Eb', 'a\\u{202e}b'],
    ['an invisible letter', 'a\u200Bb', 'a\\u{200b}b'],
    ['a C1 control', 'a\u009B31m', 'a\\u{9b}31m'],
    ['letters of any script', 'Zoë 日本', 'Zoë 日本'],
  ])('cannot play tricks on a terminal: %s', (_name, text, shown) => {
    expect(printable(text)).toBe(shown)
  })
})

describe('units', () => {
  it('reads times and lists', () => {
    expect([durationMs('30d'), durationMs('15m'), durationMs('1h')]).toEqual([2_592_000_000, 900_000, 3_600_000])
    expect(words(['a,b', 'c', ''])).toEqual(['a', 'b', 'c'])
    expect(words(undefined)).toEqual([])
  })

  it.each(['', '5', '-5m', '0m', '1y', '5 m', '1e3s'])('refuses the time %j', (text) => {
    expect(() => durationMs(text)).toThrow(/such as 30d/u)
  })
})
