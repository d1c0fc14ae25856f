/** The SSH door inside this process, over the spine of a {@link SshKit}, and clients of it that may lie. */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import path from 'node:path'
import ssh2, { type Client, type ConnectConfig, type ParsedKey } from 'ssh2'
import { SallyportError } from '../../src/core/errors.ts'
import { govern } from '../../src/gateway/gateway.ts'
import { hostKeyFrom } from '../../src/protocols/ssh/host-key.ts'
import { createSshListener } from '../../src/protocols/ssh/listener.ts'
import { AGENT, type SshKit } from './connector-kit.ts'

/** The key of the only caller, private, in OpenSSH's form. */
export const CALLER_KEY = hostKeyFrom(new Uint8Array(32).fill(7))
/** The only token. */
export const CALLER_TOKEN = 'spt_the_only_token'

export interface TestDoor {
  readonly port: number
  /** Errors nobody foresaw. */
  readonly faults: unknown[]
  close(): Promise<void>
}

/**
 * Opens the door on a free port of 127.0.0.1.
 *
 * @param now the clock of what keeps strangers away, in milliseconds.
 * @param looked a token passes through it before it is known or not.
 */
export async function openDoor(
  kit: SshKit,
  now: () => number = () => performance.now(),
  looked = async (token: string): Promise<string> => token,
): Promise<TestDoor> {
  const faults: unknown[] = []
  const known = (ssh2.utils.parseKey(CALLER_KEY) as ParsedKey).getPublicSSH()
  const door = await createSshListener({
    authenticate: async (token) => {
      if ((await looked(token)) === CALLER_TOKEN) return AGENT
      throw new SallyportError('ERR_UNAUTHENTICATED', 'The token is not known.')
    },
    authenticateKey: async (key) => {
      if (Buffer.from(key).equals(known)) return AGENT
      throw new SallyportError('ERR_UNAUTHENTICATED', 'The key is not known.')
    },
    sessions: { open: async () => ({ session: kit.session, close: async () => undefined }) },
    run: (call) => govern(call, kit.rooms),
    target: (name) => (name === kit.target.name ? kit.target : undefined),
    holdMs: 0,
    hostKey: hostKeyFrom(randomBytes(32)),
    now,
    onFault: (error) => faults.push(error),
  })
  const server = createServer({ noDelay: true }, (socket) => door.connection(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    faults,
    async close() {
      server.close()
      await door.close()
    },
  }
}

/** Logs in; the caller destroys the client. */
export async function login({ port }: Pick<TestDoor, 'port'>, more: Partial<ConnectConfig> = {}): Promise<Client> {
  const client = new ssh2.Client()
  client.connect({ host: '127.0.0.1', port, username: 'box', privateKey: CALLER_KEY, ...more })
  await once(client, 'ready')
  client.setNoDelay(true)
  client.on('error', () => undefined)
  return client
}

/** What a client heard of one command. */
export interface Heard {
  readonly stdout: string
  readonly stderr: string
  readonly code: number | undefined
  readonly signal: string | undefined
}

/** Runs a command on a channel of its own; an empty one asks for a shell without a terminal. */
export function runAtDoor(client: Client, command: string, stdin = ''): Promise<Heard> {
  return new Promise((resolve, reject) => {
    const heard = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
    const onChannel = (error: Error | undefined | null, channel: import('ssh2').ClientChannel): void => {
      if (error !== undefined && error !== null) return reject(error)
      let code: number | undefined
      let signal: string | undefined
      channel.on('exit', (status: number | null, by?: string) => {
        if (status === null) signal = `SIG${(by ?? '').replace(/^SIG/u, '')}`
        else code = status
      })
      channel.on('data', (bytes: Buffer) => heard.stdout.push(bytes))
      channel.stderr.on('data', (bytes: Buffer) => heard.stderr.push(bytes))
      channel.on('close', () =>
        resolve({
          stdout: Buffer.concat(heard.stdout).toString(),
          stderr: Buffer.concat(heard.stderr).toString(),
          code,
          signal,
        }),
      )
      channel.end(stdin)
    }
    if (command === '') client.shell(false, onChannel)
    else client.exec(command, onChannel)
  })
}

/** An OpenSSH client with the caller's key. */
export interface RealClient {
  /** Options and key for `ssh`, `scp` or `sftp` to this door; the destination is not among them. */
  words(program?: 'ssh' | 'scp' | 'sftp'): readonly string[]
  /** @param options stand before the host, `command` behind it. */
  ssh(options: readonly string[], command: readonly string[], more?: More): Promise<RealHeard>
  start(options: readonly string[], command: readonly string[], more?: More): ChildProcess
}

interface More {
  readonly input?: string
  readonly env?: NodeJS.ProcessEnv
}

/** What it said, and how it ended. */
export interface RealHeard {
  readonly stdout: string
  readonly stderr: string
  readonly code: number | null
}

/** @param dir where its key and its known hosts are kept. */
export function realClient(dir: string, { port }: Pick<TestDoor, 'port'>): RealClient {
  const keyFile = path.join(dir, 'caller-key')
  writeFileSync(keyFile, CALLER_KEY, { mode: 0o600 })
  const options = {
    IdentityFile: keyFile,
    IdentitiesOnly: 'yes',
    IdentityAgent: 'none',
    BatchMode: 'yes',
    StrictHostKeyChecking: 'accept-new',
    UserKnownHostsFile: path.join(dir, 'known_hosts'),
    LogLevel: 'ERROR',
    User: 'box',
  }
  const words: RealClient['words'] = (program = 'ssh') => [
    program === 'ssh' ? '-p' : '-P',
    String(port),
    '-F',
    'none',
    ...Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]),
  ]
  const environment = { PATH: process.env['PATH'], HOME: dir }
  const start: RealClient['start'] = (before, command, { env = {} } = {}) =>
    // The first value of an option counts, so what a test says stands first.
    spawn('ssh', [...before, ...words(), '127.0.0.1', ...command], { env: { ...environment, ...env } })
  return {
    words,
    start,
    async ssh(before, command, more = {}) {
      const child = start(before, command, more)
      const heard = { stdout: '', stderr: '' }
      child.stdout?.setEncoding('utf8').on('data', (text: string) => (heard.stdout += text))
      child.stderr?.setEncoding('utf8').on('data', (text: string) => (heard.stderr += text))
      child.stdin?.on('error', () => undefined)
      child.stdin?.end(more.input)
      await once(child, 'close')
      return { code: child.exitCode, ...heard }
    },
  }
}
