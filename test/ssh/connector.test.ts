/** Running commands at a real sshd. */
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect } from '../../src/protocols/ssh/connection.ts'
import type { SshOptions } from '../../src/protocols/ssh/options.ts'
import { openSshd, type TestSshd } from '../services/sshd.ts'
import { has } from '../setup/needs.ts'
import { sshKit, type Ran, type SshKit } from './connector-kit.ts'

describe.runIf(has('sshd'))('a command at a real host', () => {
  let sshd: TestSshd
  let kit: SshKit
  const sh = (command: string, more = {}): Promise<Ran> => kit.run({ kind: 'exec', command, ...more })

  beforeAll(async () => {
    sshd = await openSshd()
    kit = sshKit(sshd)
  })
  afterAll(async () => {
    await kit?.close()
    await sshd?.close()
  })

  it('gives stdout, stderr and the exit code', async () => {
    const ran = await sh('echo out; echo err >&2; exit 7')
    expect(ran).toMatchObject({ stdout: 'out\n', stderr: 'err\n', exit: { status: '7', truncated: false } })
  })

  it('takes words as they are', async () => {
    const words = ['a b', "it's", '$HOME', '`id`', '$(id)', '\\', '"', '*', '', '-n', '\n', 'é']
    const ran = await kit.run({ kind: 'exec', argv: ['printf', '<%s>', ...words] })
    expect(ran.stdout).toBe(words.map((word) => `<${word}>`).join(''))
  })

  it('says by which signal a command ended', async () => {
    expect((await sh('sh -c "kill -9 $$"')).error).toMatchObject({ code: 'ERR_DENIED' })
    expect(
      (await sh("/bin/kill -9 1$$ 2>&1 || exec python3 -c 'import os; os.kill(os.getpid(), 9)'")).exit,
    ).toMatchObject({
      status: 'SIGKILL',
    })
  })

  it('sends known input and ends it', async () => {
    expect((await sh('wc -c', { stdin: 'hello' })).stdout.trim()).toBe('5')
    expect((await sh('cat')).stdout).toBe('')
  })

  it('sends streamed input', async () => {
    async function* input(): AsyncGenerator<Uint8Array> {
      for (let index = 0; index < 100; index++) yield Buffer.alloc(10_000, 'x')
    }
    expect((await kit.run({ kind: 'exec', command: 'wc -c' }, { input: input() })).stdout.trim()).toBe('1000000')
  })

  it('cuts output at the limit, says so, and lets the command end by itself', async () => {
    const file = path.join(sshd.dir, 'ended')
    const ran = await sh(`head -c 3000000 /dev/zero; touch ${file}`, { max_bytes: 1000 })
    expect(ran.exit).toMatchObject({ status: '0', truncated: true, truncatedBy: 'bytes' })
    expect(ran.stdout).toHaveLength(1000)
    expect(existsSync(file)).toBe(true)
  })

  it('cuts output at the limit of the target, whatever policy and caller want', async () => {
    const limited = sshKit(sshd, undefined, { bytes: '1000B' })
    const ran = await limited.run({ kind: 'exec', command: 'head -c 3000 /dev/zero', max_bytes: 2000 })
    expect(ran.exit).toMatchObject({ status: '0', truncated: true, truncatedBy: 'bytes' })
    expect(ran.stdout).toHaveLength(1000)
    await limited.close()
  })

  it('ends what runs when time is up, with everything it started', async () => {
    const file = path.join(sshd.dir, 'pid')
    // However slow the machine is: the time is up after what is to be ended has started.
    for (let ms = 700; !existsSync(file) || readFileSync(file, 'utf8') === ''; ms *= 2) {
      const ran = await sh(`sleep 300 & echo $! > ${file}; sleep 300`, { timeout_ms: ms })
      // Its own time, not that of the policy.
      expect(ran.error).toMatchObject({ code: 'ERR_TIMEOUT', message: expect.stringContaining(`${ms} ms you gave it`) })
    }
    await until(() => !isAlive(Number(readFileSync(file, 'utf8'))))
  })

  it('ends a command that does not listen to being asked', async () => {
    const file = path.join(sshd.dir, 'stubborn')
    const script = `import os,signal,time; signal.signal(15, signal.SIG_IGN); open("${file}","w").write(str(os.getpid())); time.sleep(300)`
    const gone = new AbortController()
    // Not the first of its process group, which listens.
    const running = kit.run({ kind: 'exec', command: `python3 -c '${script}' & sleep 300` }, { signal: gone.signal })
    await until(() => existsSync(file) && readFileSync(file, 'utf8') !== '')
    gone.abort()
    expect((await running).error).toMatchObject({ code: 'ERR_CANCELLED' })
    await until(() => !isAlive(Number(readFileSync(file, 'utf8'))))
  })

  it('ends what runs when the caller goes away, and lets it clean up', async () => {
    const file = path.join(sshd.dir, 'gone')
    const gone = new AbortController()
    const script = `import os,signal,sys,time
def clean(*_): open("${file}-cleaned","w").close(); sys.exit(0)
signal.signal(15, clean); open("${file}","w").write(str(os.getpid())); time.sleep(300)`
    // Not the first of its process group, which listens.
    const running = kit.run({ kind: 'exec', command: `python3 -c '${script}' & sleep 300` }, { signal: gone.signal })
    await until(() => existsSync(file) && readFileSync(file, 'utf8') !== '')
    gone.abort()
    expect((await running).error).toMatchObject({ code: 'ERR_CANCELLED' })
    await until(() => !isAlive(Number(readFileSync(file, 'utf8'))))
    expect(existsSync(`${file}-cleaned`)).toBe(true)
  })

  it('reads no start-up file and takes no function from the environment', async () => {
    const ran = await sh('ls() { echo hijacked; }; export -f ls')
    expect(ran.error).toMatchObject({ code: 'ERR_DENIED' })
    const inner = await kit.run({ kind: 'exec', command: 'printenv BASH_ENV; echo $-' })
    expect(inner.stdout).toMatch(/p/u)
  })

  it('refuses a host whose key nobody pinned, and names the fingerprint to paste', async () => {
    for (const host_keys of [[], [`SHA256:${'A'.repeat(43)}`]]) {
      const other = sshKit(sshd, undefined, { host_keys })
      const ran = await other.run({ kind: 'exec', command: 'true' })
      expect(ran.error).toMatchObject({ code: 'ERR_UPSTREAM_REJECTED' })
      expect(ran.error?.message).toContain(`host_keys: ["${sshd.fingerprint}"]`)
      await other.close()
    }
  })

  it('says that a credential is not accepted', async () => {
    const other = sshKit(sshd, undefined, { user: 'nobody' })
    expect((await other.run({ kind: 'exec', command: 'true' })).error).toMatchObject({ code: 'ERR_UPSTREAM_AUTH' })
    await other.close()
  })

  it('does not log in with a credential for another account than the one that is judged', async () => {
    const secret = { user: 'another', value: readFileSync(sshd.keyFile, 'utf8') }
    const options = kit.target.options as SshOptions
    await expect(connect({ target: 'box', options }, secret, new AbortController().signal)).rejects.toMatchObject({
      code: 'ERR_CREDENTIAL_MISSING',
    })
  })

  it('offers no algorithm that lets packets be cut from the handshake (CVE-2023-48795)', async () => {
    const old = await openSshd('Ciphers chacha20-poly1305@openssh.com,aes128-ctr\nMACs hmac-sha2-256-etm@openssh.com')
    const other = sshKit(old)
    expect((await other.run({ kind: 'exec', command: 'true' })).error).toMatchObject({
      code: 'ERR_UPSTREAM_UNREACHABLE',
    })
    await other.close()
    await old.close()
  })

  it('masks stdout and stderr apart, whatever the pieces', async () => {
    const masked = sshKit(
      sshd,
      `
targets: [box]
rules:
  - {id: all, effect: allow, principals: [group:agents], actions: ["ssh.*"], resources: ["**"]}
masks:
  - {detect: [email], transform: redact}
`,
    )
    const ran = await masked.run({
      kind: 'exec',
      argv: [
        'python3',
        '-c',
        'import sys,time\nfor c in "ana@example.com\\n":\n  sys.stdout.write(c); sys.stdout.flush(); sys.stderr.write(c); sys.stderr.flush(); time.sleep(0.002)',
      ],
    })
    expect(ran.stdout).toBe('[REDACTED:email]\n')
    expect(ran.stderr).toBe('[REDACTED:email]\n')
    expect(ran.exit?.masked).toEqual({ email: 2 })
    await masked.close()
  })

  it('refuses a binary protocol whose output would have to be masked, before anything of it runs', async () => {
    const mask = (unless: string): string => `
targets: [box]
rules:
  - {id: all, effect: allow, principals: [group:agents], actions: ["ssh.*"], resources: ["**"]}
masks:
  - {detect: [email], transform: redact${unless}}
`
    const masked = sshKit(sshd, mask(''))
    for (const argv of [
      ['scp', '-f', '/etc/hostname'],
      ['/usr/bin/scp', '-vt', '/tmp'],
      ['rsync', '--server', '--sender', '-e.iLsfxCIvu', '.', '/etc/hostname'],
      ['nice', 'scp', '-f', '/etc/hostname'],
      ['/usr/lib/openssh/sftp-server'],
      ['git-upload-pack', '/srv/repo'],
    ]) {
      const ran = await masked.run({ kind: 'exec', argv })
      expect({ argv, code: ran.error?.code, construct: ran.error?.facts.construct }).toEqual({
        argv,
        code: 'ERR_DENIED',
        construct: 'ssh.binary_protocol',
      })
    }
    await masked.close()
    const excepted = sshKit(sshd, mask(', unless: [group:agents]'))
    const ran = await excepted.run({ kind: 'exec', argv: ['scp', '-f', '/etc/hostname'], stdin: '\0\0\0' })
    expect(ran).toMatchObject({ error: undefined, exit: { status: '0' } })
    await excepted.close()
  })
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !/^State:\s+Z/mu.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

async function until(is: () => boolean): Promise<void> {
  while (!is()) await new Promise((resolve) => void setTimeout(resolve, 20))
}
