/** `sftp` and `scp` as they are today through the SSH door, before a real sshd. */
import { existsSync } from 'node:fs'
import { mkdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { openSshWorld, type Output, type SshWorld } from './ssh-world.ts'

const rules = (dir: string): string => `
targets: [box]
rules:
  - id: look
    effect: allow
    principals: [group:agents]
    actions: [ssh.sftp.stat, ssh.sftp.list, ssh.sftp.read]
    resources: [{path: "${dir}/open"}, {path: "${dir}/open/**"}]
  - id: change
    effect: allow
    principals: [group:agents]
    actions: [ssh.sftp.write, ssh.sftp.setstat, ssh.sftp.mkdir, ssh.sftp.rename, ssh.sftp.remove, ssh.sftp.link]
    resources: [{path: "${dir}/open/in/**"}]
  - id: no-keys
    effect: deny
    actions: ["ssh.sftp.*"]
    resources: [{path: "${dir}/open/keys/**"}]
`

describe.runIf(has('sshd'))('files through the SSH door', () => {
  let world: SshWorld
  let key: string
  let open: string
  const scp = (words: readonly string[]): Promise<Output> => world.client('scp', key, words)
  const sftp = (commands: string): Promise<Output> => world.client('sftp', key, ['-b', '-', '127.0.0.1'], commands)
  const here = (name: string): string => path.join(world.dir, name)

  beforeAll(async () => {
    world = await openSshWorld('targets: [box]\nrules: []\n')
    const dir = world.sshd.dir
    open = path.join(dir, 'open')
    await mkdir(path.join(open, 'in'), { recursive: true })
    await mkdir(path.join(open, 'keys'))
    await writeFile(path.join(open, 'keys', 'id'), 'private\n')
    await writeFile(path.join(dir, 'closed'), 'closed\n')
    await writeFile(here('policies/policy.yaml'), rules(dir))
    ;({ keyFile: key } = await world.caller('loop', ['agents']))
    while ((await world.client('sftp', key, ['-b', '-', '127.0.0.1'], `ls ${open}\n`)).code !== 0);
  })
  afterAll(() => world?.close())

  it('gets and puts files as they are, large ones too', async () => {
    const bytes = Buffer.alloc(3_000_001, 'some bytes that do not repeat evenly, ')
    bytes.writeUInt32BE(0xfffefd00, 1_000_000)
    await writeFile(here('large'), bytes)
    expect(await scp([here('large'), `127.0.0.1:${open}/in/large`])).toMatchObject({ code: 0, stderr: '' })
    expect((await readFile(path.join(open, 'in', 'large'))).equals(bytes)).toBe(true)
    expect(await scp([`127.0.0.1:${open}/in/large`, here('back')])).toMatchObject({ code: 0, stderr: '' })
    expect((await readFile(here('back'))).equals(bytes)).toBe(true)
    await writeFile(here('empty'), '')
    expect(await scp([here('empty'), `127.0.0.1:${open}/in/empty`])).toMatchObject({ code: 0, stderr: '' })
    expect(await scp([`127.0.0.1:${open}/in/empty`, here('empty-back')])).toMatchObject({ code: 0, stderr: '' })
    expect((await stat(here('empty-back'))).size).toBe(0)
  })

  it('lists, makes, renames, links, changes and removes', async () => {
    await writeFile(path.join(open, 'in', 'a'), 'a\n')
    const done = await sftp(
      `cd ${open}/in\nmkdir sub\nrename a sub/b\nln -s ${open}/in/sub/b link\nchmod 600 sub/b\nls -la sub\nls -l link\n`,
    )
    expect(done).toMatchObject({ code: 0 })
    expect(done.stdout).toMatch(/-rw------- .* b$/mu)
    expect(await readlink(path.join(open, 'in', 'link'))).toBe(`${open}/in/sub/b`)
    expect(await sftp(`rm ${open}/in/sub/b\nrmdir ${open}/in/sub\nrm ${open}/in/link\n`)).toMatchObject({ code: 0 })
    expect(existsSync(path.join(open, 'in', 'sub'))).toBe(false)
  })

  it('refuses what no rule names, and touches nothing of it', async () => {
    const dir = world.sshd.dir
    for (const commands of [
      `get ${dir}/closed ${here('stolen')}\n`,
      `get ${open}/keys/id ${here('stolen')}\n`,
      `put ${here('empty')} ${open}/new\n`,
      `rm ${dir}/closed\n`,
      `rename ${open}/in/empty ${dir}/moved\n`,
      `rename ${dir}/closed ${open}/in/moved\n`,
      `ln -s ${dir}/closed ${open}/in/way-out\n`,
      `ln -s ../../closed ${open}/in/way-out\n`,
      `mkdir ${dir}/new\n`,
      `chmod 777 ${dir}/closed\n`,
      `ls ${dir}\n`,
      `get ${open}/../closed ${here('stolen')}\n`,
    ]) {
      expect({ commands, code: (await sftp(commands)).code }).toEqual({ commands, code: 1 })
    }
    expect(existsSync(here('stolen')) && (await readFile(here('stolen'), 'utf8')) !== '').toBe(false)
    expect(existsSync(path.join(open, 'new'))).toBe(false)
    expect(existsSync(path.join(open, 'in', 'way-out'))).toBe(false)
    expect(await readFile(path.join(dir, 'closed'), 'utf8')).toBe('closed\n')
  })

  it('says honestly that a link inside leads outside: the target follows it', async () => {
    await symlink(path.join(world.sshd.dir, 'closed'), path.join(open, 'leads-out'))
    expect(await scp([`127.0.0.1:${open}/leads-out`, here('followed')])).toMatchObject({ code: 0 })
  })

  it('leaves recordings that verify, with each operation and the content of each file', async () => {
    const decisions = (await world.recorded()).filter(({ type }) => type === 'decision')
    const requests = decisions.map(({ request }) => (request as { text: string }).text.split(' ').slice(0, 2).join(' '))
    expect(new Set(requests)).toEqual(
      new Set(
        ['read', 'write', 'list', 'stat', 'lstat', 'mkdir', 'rename', 'link', 'setstat', 'remove', 'rmdir'].map(
          (name) => `sftp ${name}`,
        ),
      ),
    )
    expect(world.cli(['recordings', 'verify']).code).toBe(0)
  })
})

describe.runIf(has('sshd'))('files of a target with masks', () => {
  let world: SshWorld
  let key: string

  beforeAll(async () => {
    world = await openSshWorld(`
targets: [box]
rules:
  - {id: files, effect: allow, principals: [group:agents], actions: ["ssh.sftp.*"], resources: ["**"]}
masks:
  - {detect: [email], transform: redact}
`)
    ;({ keyFile: key } = await world.caller('loop', ['agents']))
  })
  afterAll(() => world?.close())

  it('masks content, names and where links lead', async () => {
    const dir = path.join(world.sshd.dir, 'masked')
    await mkdir(dir)
    const lines = Array.from({ length: 20_000 }, (_, index) => `line ${index} of ana${index}@example.com\n`)
    await writeFile(path.join(dir, 'list'), lines.join(''))
    await writeFile(path.join(dir, 'bob@example.com'), '')
    await symlink('/home/eve@example.com', path.join(dir, 'link'))
    const copy = path.join(world.dir, 'copy')
    expect(await world.client('scp', key, [`127.0.0.1:${dir}/list`, copy])).toMatchObject({ code: 0, stderr: '' })
    expect(await readFile(copy, 'utf8')).toBe(
      lines.map((line) => line.replace(/\S+@\S+/u, '[REDACTED:email]')).join(''),
    )
    const listed = await world.client('sftp', key, ['-b', '-', '127.0.0.1'], `ls -la ${dir}\n`)
    expect(listed.stdout).toContain('[REDACTED:email]')
    expect(listed.stdout).not.toContain('example.com')
    await writeFile(path.join(world.dir, 'up'), 'mail zoe@example.com\n')
    expect(await world.client('scp', key, [path.join(world.dir, 'up'), `127.0.0.1:${dir}/up`])).toMatchObject({
      code: 0,
    })
    expect(await readFile(path.join(dir, 'up'), 'utf8')).toBe('mail zoe@example.com\n')
    expect(JSON.stringify(await world.recorded())).not.toContain('example.com')
  })
})
