/**
 * A gateway as its own process before a real sshd, and ordinary OpenSSH clients before the gateway. Everything goes
 * through its doors; nothing here reaches into it.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { vi } from 'vitest'
import { adminClient, type AdminClient } from '../../src/cli/admin-client.ts'
import { openSshd, type TestSshd } from '../services/sshd.ts'

/** The built command line; `npm test` builds it before the suites run. */
const CLI = fileURLToPath(new URL('../../dist/src/cli.js', import.meta.url))
/** The end of all hope on a machine that is busy with other things. */
const START_MS = 150_000

export interface Output {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface SshWorld {
  readonly dir: string
  readonly sshd: TestSshd
  readonly mcpUrl: string
  /** Of all doors that are open. */
  readonly urls: Readonly<Record<'mcp' | 'admin' | 'ssh' | 'postgres' | 'http', string>>
  readonly operator: AdminClient
  readonly sshPort: number
  /** The gateway's process. */
  readonly pid: number
  /** What the gateway process wrote so far. */
  output(): string
  /** Makes a token, perhaps with a key: the key's file is returned besides. */
  caller(
    name: string,
    groups: readonly string[],
    more?: object,
  ): Promise<{ token: string; id: string; keyFile: string }>
  admin(token: string): AdminClient
  /** Runs a real client with these words, as this key. */
  client(
    program: 'ssh' | 'scp' | 'sftp' | 'rsync',
    keyFile: string,
    words: readonly string[],
    input?: string,
  ): Promise<Output>
  /** The same, while it runs. */
  start(program: 'ssh' | 'scp' | 'sftp', keyFile: string, words: readonly string[]): ChildProcess
  /** All lines of all session recordings. */
  recorded(): Promise<readonly Readonly<Record<string, unknown>>[]>
  /** Runs the command line; with a token also against this gateway. */
  cli(words: readonly string[], token?: string): Output
  /** The same, while it runs. */
  startCli(words: readonly string[], token: string): ChildProcess
  close(): Promise<void>
}

/**
 * @param policy a policy file whose target is `box`; or how to write it for the server's directory.
 * @param config lines that follow the targets; more targets, two spaces deep, may stand first.
 * @param more doors to open besides, and what the gateway finds in its environment.
 */
export async function openSshWorld(
  policy: string | ((dir: string) => string),
  config = '',
  sshdConfig = '',
  more: { readonly doors?: readonly string[]; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<SshWorld> {
  if (!existsSync(CLI)) throw new Error('There is no build. Run: npm run build')
  const sshd = await openSshd(sshdConfig)
  const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-ssh-e2e-'))
  await mkdir(path.join(dir, 'policies'))
  await writeFile(path.join(dir, 'policies', 'policy.yaml'), typeof policy === 'string' ? policy : policy(sshd.dir))
  await writeFile(
    path.join(dir, 'sallyport.yaml'),
    `listen: {mcp: "127.0.0.1:0", admin: "127.0.0.1:0", ssh: "127.0.0.1:0"${(more.doors ?? []).map((door) => `, ${door}: "127.0.0.1:0"`).join('')}}
targets:
  box:
    protocol: ssh
    host: 127.0.0.1
    port: ${sshd.port}
    user: ${sshd.user}
    host_keys: ["${sshd.fingerprint}"]
    connect_timeout: 60s
    credential: {file: ${sshd.keyFile}}
${config}`,
  )
  const env = { PATH: process.env['PATH'], HOME: dir, ...more.env }
  let adminUrl = ''
  const envOf = (token: string): NodeJS.ProcessEnv => {
    return { ...env, SALLYPORT_TOKEN: token, SALLYPORT_ADMIN_URL: adminUrl }
  }
  const cli = (words: readonly string[], token?: string): Output => {
    const own = token === undefined ? env : envOf(token)
    const ran = spawnSync(process.execPath, [CLI, ...words], { cwd: dir, env: own, encoding: 'utf8' })
    return { code: ran.status, stdout: ran.stdout, stderr: ran.stderr }
  }
  const made = cli(['operator', 'olga', '--json'])
  if (made.code !== 0) throw new Error(`operator: ${made.stderr}`)
  const operatorToken = (JSON.parse(made.stdout) as { token: string }).token
  const child = spawn(process.execPath, [CLI, 'serve'], { cwd: dir, env, stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  const urls = await new Promise<SshWorld['urls']>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`The gateway did not open its doors: ${log}`)), START_MS)
    createInterface(child.stderr).on('line', (line) => {
      log += `${line}\n`
      if (!line.includes('"ssh"')) return
      clearTimeout(timer)
      resolve(JSON.parse(line) as SshWorld['urls'])
    })
    child.once('exit', (code) => reject(new Error(`The gateway ended with ${code}: ${log}`)))
  })
  adminUrl = urls.admin
  const sshPort = Number(new URL(urls.ssh).port)
  const operator = adminClient(urls.admin, operatorToken)
  const clientWords = (program: string, keyFile: string, words: readonly string[]): string[] => {
    const options = [
      ['IdentityFile', keyFile],
      ['IdentitiesOnly', 'yes'],
      ['IdentityAgent', 'none'],
      ['BatchMode', 'yes'],
      ['StrictHostKeyChecking', 'accept-new'],
      ['UserKnownHostsFile', path.join(dir, 'known_hosts')],
      ['LogLevel', 'ERROR'],
      ['User', 'box'],
    ].flatMap(([name, value]) => ['-o', `${name}=${value}`])
    const common = ['-F', 'none', ...options]
    if (program === 'rsync') return ['-e', ['ssh', '-p', String(sshPort), ...common].join(' '), ...words]
    return [program === 'ssh' ? '-p' : '-P', String(sshPort), ...common, ...words]
  }
  const start: SshWorld['start'] = (program, keyFile, words) =>
    spawn(program, clientWords(program, keyFile, words), { env: { ...env, LANG: 'C.UTF-8' } })
  return {
    dir,
    sshd,
    mcpUrl: urls.mcp,
    urls,
    operator,
    sshPort,
    pid: child.pid ?? 0,
    output: () => log,
    async caller(name, groups, more = {}) {
      const keyFile = path.join(dir, `key-${name}`)
      spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', keyFile])
      const { token, id } = await operator.post<{ token: string; id: string }>('/v1/tokens', {
        principal: name,
        kind: 'agent',
        owner: 'sam',
        groups,
        roles: ['caller'],
        expires_in_ms: 86_400_000,
        ssh_key: await readFile(`${keyFile}.pub`, 'utf8'),
        ...more,
      })
      return { token, id, keyFile }
    },
    admin: (token) => adminClient(urls.admin, token),
    start,
    async client(program, keyFile, words, input) {
      const running = spawn(program, clientWords(program, keyFile, words), { env: { ...env, LANG: 'C.UTF-8' } })
      const output = { stdout: '', stderr: '' }
      running.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text))
      running.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text))
      running.stdin.on('error', () => undefined)
      running.stdin.end(input)
      await once(running, 'close')
      return { code: running.exitCode, ...output }
    },
    async recorded() {
      const found = spawnSync('find', [path.join(dir, 'recordings'), '-name', '*.jsonl', '-not', '-name', 'journal*'], {
        encoding: 'utf8',
      })
      const files = found.stdout.split('\n').filter((file) => file !== '')
      const texts = await Promise.all(files.map((file) => readFile(file, 'utf8')))
      // What stands behind the last line end is still being written.
      return texts.flatMap((text) =>
        text
          .split('\n')
          .slice(0, -1)
          .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>),
      )
    },
    cli,
    startCli: (words, token) => spawn(process.execPath, [CLI, ...words], { cwd: dir, env: envOf(token) }),
    async close() {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, 'exit')
        child.kill('SIGTERM')
        await ended
      }
      await sshd.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** An asciicast of version 2, parsed. */
export interface Cast {
  readonly session: string
  readonly header: Readonly<Record<string, unknown>>
  readonly events: readonly (readonly [seconds: number, kind: string, text: string])[]
  /** What was said beside the output: who asked for what, and how it ended. */
  readonly notes: readonly string[]
  /** All output without {@link notes}, or all input. */
  readonly text: (kind: 'o' | 'i') => string
}

/** The prompt of a shell may begin like a note. */
const NOTE = /^# (?:session |ssh\.|done, )/u

/** Exports the last session of the SSH door. */
export async function lastCast(world: SshWorld, auditor: string): Promise<Cast> {
  interface Listed {
    readonly session?: string
    readonly door?: string
    readonly isSealed?: boolean
  }
  // Its client may hear of its end before that is on the record.
  const session = await vi.waitFor(
    async () => {
      const { recordings } = await world.admin(auditor).get<{ recordings: readonly Listed[] }>('/v1/recordings')
      const last = recordings.findLast(({ door }) => door === 'ssh')
      if (last?.session === undefined || last.isSealed !== true) throw new Error('the last session is not over yet')
      return last.session
    },
    { timeout: 90_000, interval: 50 },
  )
  const { stdout, stderr } = world.cli(['recordings', 'export', session, '--format', 'asciicast'], auditor)
  if (stdout === '') throw new Error(stderr)
  const [header, ...lines] = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
  const events = lines as Cast['events']
  return {
    session,
    header: header as Cast['header'],
    events,
    notes: events.flatMap(([, , text]) => (NOTE.test(text) ? [text] : [])),
    text: (kind) => events.flatMap(([, each, text]) => (each === kind && !NOTE.test(text) ? [text] : [])).join(''),
  }
}
