/** What one file operation owes: its limits, its record, its flags, and an honest end; before a real sshd. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { SFTPWrapper } from 'ssh2'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { placed } from '../../src/protocols/ssh/connector-sftp.ts'
import { openSshd, type TestSshd } from '../services/sshd.ts'
import { has } from '../setup/needs.ts'
import { sshKit, type SshKit } from './connector-kit.ts'
import { login, openDoor, type TestDoor } from './door-kit.ts'

const THREE_ROWS = `
targets: [box]
rules:
  - {id: few, effect: allow, principals: [group:agents], actions: ["ssh.sftp.*"], resources: ["**"], limits: {rows: 3}}
`

describe.runIf(has('sshd'))('one file operation', () => {
  let sshd: TestSshd
  let kit: SshKit
  const closers: (() => unknown)[] = []

  beforeAll(async () => {
    sshd = await openSshd()
  })
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close()
  })
  afterAll(() => sshd?.close())

  function open(policy?: string): SshKit {
    kit = sshKit(sshd, policy)
    closers.push(() => kit.close())
    return kit
  }

  async function files(policy?: string): Promise<SFTPWrapper> {
    const door: TestDoor = await openDoor(open(policy))
    closers.push(() => door.close())
    const client = await login(door)
    closers.push(() => client.destroy())
    return new Promise((resolve, reject) => client.sftp((error, sftp) => (error ? reject(error) : resolve(sftp))))
  }

  /** Resolves with what went wrong, if anything did. */
  const done = (send: (told: (error?: Error | null) => void) => void): Promise<string | undefined> =>
    new Promise((resolve) => send((error) => resolve(error?.message)))

  async function write(sftp: SFTPWrapper, file: string, flags: string, text: string): Promise<string | undefined> {
    const opened = await new Promise<Buffer | string>((resolve) =>
      sftp.open(file, flags as 'w', (error, handle) => resolve(error?.message ?? handle)),
    )
    if (typeof opened === 'string') return opened
    await done((told) => sftp.write(opened, Buffer.from(text), 0, text.length, 0, told))
    return done((told) => sftp.close(opened, told))
  }

  it('shows as many entries of a directory as the rule allows, and says that it was cut', async () => {
    const dir = path.join(sshd.dir, 'many')
    mkdirSync(dir)
    for (let count = 0; count < 5; count++) writeFileSync(path.join(dir, `file-${count}`), '')
    const { chunks, exit } = await open(THREE_ROWS).run({ kind: 'sftp', operation: 'list', path: dir })
    const rows = chunks.flatMap((chunk) => (chunk.kind === 'data' && 'rows' in chunk ? chunk.rows : []))
    expect(rows).toHaveLength(3)
    expect(exit).toMatchObject({ truncated: true, truncatedBy: 'rows' })
    const sftp = await files(THREE_ROWS)
    const told = await done((heard) => sftp.readdir(dir, (error) => heard(error)))
    expect(told).toContain('cut at the limit')
  })

  it('says what the host said where a file cannot be read on, and not that it ended', async () => {
    const { exit } = await open().run({ kind: 'sftp', operation: 'read', path: sshd.dir })
    expect(exit?.status).toBe('FAILURE')
  })

  it('puts every byte of an upload on the record', async () => {
    const text = 'what was sent '.repeat(50_000)
    const sftp = await files()
    expect(await write(sftp, path.join(sshd.dir, 'sent'), 'w', text)).toBeUndefined()
    expect(readFileSync(path.join(sshd.dir, 'sent'), 'utf8')).toBe(text)
    expect(kit.recorded.map((one) => (one as { output?: { stdin?: string } }).output?.stdin ?? '')).toContain(text)
  })

  it('puts no byte on the host of which it is not on the record where it goes', async () => {
    const file = path.join(sshd.dir, 'nowhere')
    const payload = {
      kind: 'sftp',
      operation: 'write',
      path: file,
      flags: { append: false, create: true, truncate: true, exclusive: false },
    }
    const input = async function* (): AsyncGenerator<Uint8Array> {
      yield placed(Buffer.from('here'), { at: 0, written: () => undefined })
      yield Buffer.from('and somewhere')
    }
    const { error } = await open().run(payload, { input: input() })
    expect([error?.code, error?.message]).toEqual(['ERR_INVALID_INPUT', expect.stringContaining('where in the file')])
    expect(readFileSync(file, 'utf8')).not.toContain('somewhere')
  })

  it('opens a file as it was asked to: new, longer, or empty', async () => {
    const sftp = await files()
    const file = path.join(sshd.dir, 'kept')
    writeFileSync(file, 'what stood there')
    expect(await write(sftp, file, 'wx', 'other')).toBeDefined()
    expect(readFileSync(file, 'utf8')).toBe('what stood there')
    expect(await write(sftp, file, 'a', ' and more')).toBeUndefined()
    expect(readFileSync(file, 'utf8')).toBe('what stood there and more')
    expect(await write(sftp, file, 'w', 'short')).toBeUndefined()
    expect(readFileSync(file, 'utf8')).toBe('short')
    expect(await write(sftp, path.join(sshd.dir, 'fresh'), 'wx', 'new')).toBeUndefined()
    expect(existsSync(path.join(sshd.dir, 'fresh'))).toBe(true)
  })

  const UPLOAD = {
    kind: 'sftp',
    operation: 'write',
    flags: { append: false, create: true, truncate: true, exclusive: false },
  }

  /** A client that sends these pieces, each with its place, and then neither more nor an end. */
  async function* unending(...pieces: readonly string[]): AsyncGenerator<Uint8Array> {
    let at = 0
    for (const piece of pieces) {
      yield placed(Buffer.from(piece), { at, written: () => undefined })
      at += piece.length
    }
    await new Promise(() => undefined)
  }

  it('ends an upload that was stopped, also while its client sends nothing', async () => {
    const stopping = new AbortController()
    const file = path.join(sshd.dir, 'stopped')
    const running = open().run({ ...UPLOAD, path: file }, { input: unending('some'), signal: stopping.signal })
    await expect.poll(() => existsSync(file) && readFileSync(file, 'utf8')).toBe('some')
    stopping.abort(new SallyportError('ERR_CANCELLED', 'It was stopped.'))
    expect((await running).error?.code).toBe('ERR_CANCELLED')
  })

  it('ends an upload whose writing failed, also while its client sends nothing', async () => {
    const { exit, error } = await open().run({ ...UPLOAD, path: '/dev/full' }, { input: unending('some') })
    expect([exit?.status, error]).toEqual(['FAILURE', undefined])
  })
})
