import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import type { Target } from '../../src/core/target.ts'
import { createCredentials } from '../../src/credentials/credentials.ts'
import { SECRET_BYTES_MAX } from '../../src/credentials/read-file.ts'
import type { CredentialSource } from '../../src/credentials/source.ts'

const SECRET = 'correct-horse-battery-staple'
const target: Target = {
  name: 'shop-db',
  protocol: 'postgres',
  labels: {},
  mode: 'enforce',
  record: 'full',
  endpoint: 'x',
  options: {},
}

let dir: string
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'sallyport-credentials-'))
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

function file(name: string, content: string | Uint8Array, mode = 0o600): string {
  const path = join(dir, name)
  writeFileSync(path, content)
  chmodSync(path, mode)
  return path
}

function read(source: CredentialSource, env: NodeJS.ProcessEnv = {}) {
  return createCredentials(new Map([['shop-db', source]]), env).read(target)
}

async function missing(source: CredentialSource, env: NodeJS.ProcessEnv = {}): Promise<string> {
  const error = await read(source, env).then(
    () => undefined,
    (e: unknown) => e,
  )
  if (!(error instanceof SallyportError)) throw new Error('a secret was found where none should be')
  expect(error.code).toBe('ERR_CREDENTIAL_MISSING')
  expect(JSON.stringify([error.message, error.detail, error.facts])).not.toContain(SECRET)
  return error.message
}

function node(script: string, timeoutMs = 10_000): CredentialSource {
  return { kind: 'exec', argv: [process.execPath, '-e', script], cwd: dir, timeoutMs }
}

describe('credentials', () => {
  it('reads the environment, with the account', async () => {
    expect(await read({ kind: 'env', name: 'SHOP', user: 'agent' }, { SHOP: SECRET })).toEqual({
      user: 'agent',
      value: SECRET,
    })
  })

  it('says beforehand what is missing, and runs no command for that', async () => {
    const marker = join(dir, 'ran')
    const problems = (source: CredentialSource, env: NodeJS.ProcessEnv = {}) =>
      createCredentials(new Map([['shop-db', source]]), env).problem(target)
    expect(await problems({ kind: 'env', name: 'SHOP' })).toMatch(/target shop-db is missing: .*SHOP is not set/u)
    expect(await problems({ kind: 'env', name: 'SHOP' }, { SHOP: SECRET })).toBeUndefined()
    expect(await problems({ kind: 'file', path: join(dir, 'nowhere') })).toContain(join(dir, 'nowhere'))
    expect(await problems(node(`require('fs').writeFileSync(${JSON.stringify(marker)}, '')`))).toBeUndefined()
    expect(existsSync(marker)).toBe(false)
  })

  it('keeps nothing: the next use sees the new value', async () => {
    const env: NodeJS.ProcessEnv = { SHOP: 'one' }
    const credentials = createCredentials(new Map([['shop-db', { kind: 'env' as const, name: 'SHOP' }]]), env)
    expect((await credentials.read(target)).value).toBe('one')
    env['SHOP'] = 'two'
    expect((await credentials.read(target)).value).toBe('two')
  })

  it('says which variable is not set or empty', async () => {
    expect(await missing({ kind: 'env', name: 'SHOP' })).toContain('environment variable SHOP is not set')
    expect(await missing({ kind: 'env', name: 'SHOP' }, { SHOP: '' })).toContain('SHOP is empty')
  })

  it('denies a target that has no credential configured', async () => {
    await expect(createCredentials(new Map(), {}).read(target)).rejects.toMatchObject({
      code: 'ERR_CREDENTIAL_MISSING',
    })
  })

  it.each([
    ['one newline is trimmed', `${SECRET}\n`, SECRET],
    ['a newline of Windows is trimmed', `${SECRET}\r\n`, SECRET],
    ['only one newline is trimmed', `${SECRET}\n\n`, `${SECRET}\n`],
    ['spaces are part of it', ` ${SECRET} `, ` ${SECRET} `],
    ['nothing to trim', SECRET, SECRET],
  ])('reads a file: %s', async (name, content, value) => {
    expect((await read({ kind: 'file', path: file(name.replaceAll(' ', '-'), content) })).value).toBe(value)
  })

  it.each([0o640, 0o604, 0o644, 0o666, 0o620])('refuses a file of mode %o, and says the fix', async (mode) => {
    const path = file(`mode-${mode}`, SECRET, mode)
    expect(await missing({ kind: 'file', path })).toContain(`chmod 600 ${path}`)
  })

  it('refuses a directory, a FIFO, nothing, and a file that is empty, too long or not text', async () => {
    expect(await missing({ kind: 'file', path: dir })).toContain('not a regular file')
    const fifo = join(dir, 'fifo')
    expect(spawnSync('mkfifo', ['-m', '600', fifo]).status).toBe(0)
    expect(await missing({ kind: 'file', path: fifo })).toContain('not a regular file')
    expect(await missing({ kind: 'file', path: join(dir, 'absent') })).toContain('ENOENT')
    expect(await missing({ kind: 'file', path: file('empty', '\n') })).toContain('is empty')
    expect(await missing({ kind: 'file', path: file('long', `${SECRET}${'x'.repeat(SECRET_BYTES_MAX)}`) })).toContain(
      'more than',
    )
    expect(await missing({ kind: 'file', path: file('binary', Uint8Array.of(0xff, 0xfe, 0x41)) })).toContain('UTF-8')
  })

  it('runs a command without a shell', async () => {
    const source: CredentialSource = { kind: 'exec', argv: ['echo', '$(id); `id`'], cwd: dir, timeoutMs: 10_000 }
    expect((await read(source, { PATH: process.env['PATH'] })).value).toBe('$(id); `id`')
  })

  it('gives a command no other secret of our environment', async () => {
    const { value } = await read(node('process.stdout.write(JSON.stringify(process.env))'), {
      PATH: process.env['PATH'],
      OTHER_PASSWORD: SECRET,
      SALLYPORT_TOKEN: SECRET,
    })
    expect(value).not.toContain(SECRET)
    expect(JSON.parse(value)).toHaveProperty('PATH')
  })

  it('says that a command failed, never what it wrote', async () => {
    const script = `process.stdout.write('${SECRET}'); process.stderr.write('${SECRET}'); process.exit(3)`
    expect(await missing(node(script))).toContain('ended with exit code 3')
  })

  it('names the program of a command, not its arguments', async () => {
    const source: CredentialSource = { kind: 'exec', argv: ['/no/such/program', SECRET], cwd: dir, timeoutMs: 10_000 }
    expect(await missing(source)).toContain('command /no/such/program cannot be run (ENOENT)')
  })

  it('ends a command that does not answer, with everything it started', async () => {
    const pidFile = join(dir, 'pid')
    const script = `
      const child = require('node:child_process').spawn('sleep', ['600'], { stdio: 'inherit' })
      require('node:fs').writeFileSync(${JSON.stringify(pidFile)}, String(child.pid))
      setInterval(() => {}, 1000)`
    expect(await missing(node(script, 1_500))).toContain('did not answer within 1500 ms')
    const { readFileSync } = await import('node:fs')
    const pid = readFileSync(pidFile, 'utf8')
    await expect.poll(() => stateOf(pid)).toMatch(/^(gone|Z)$/)
  })

  it('ends a command that answers without end', async () => {
    expect(await missing(node(`for (;;) process.stdout.write('${SECRET}'.repeat(1000))`))).toContain('more than')
  })
})

/** A killed orphan may stay a zombie where nobody reaps; it runs no more all the same. */
function stateOf(pid: string): string {
  const { stdout } = spawnSync('ps', ['-o', 'stat=', '-p', pid], { encoding: 'utf8' })
  return stdout.trim() === '' ? 'gone' : stdout.trim().slice(0, 1)
}
