/**
 * A gateway as its own process, as a user starts it, before a database on a real PostgreSQL. Everything goes through its
 * two doors; nothing here reaches into it.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { adminClient, type AdminClient } from '../../src/cli/admin-client.ts'
import { createDatabase, type ServerVersion, type TestDatabase } from '../services/postgres.ts'

/** The built command line; `npm test` builds it before the suites run. */
export const CLI = fileURLToPath(new URL('../../dist/src/cli.js', import.meta.url))

/** What one world is made of. */
export interface WorldOptions {
  /** SQL that fills the database, run as superuser. */
  readonly schema: string
  /** Rights of the gateway's role, with `$role` for its name. */
  readonly grants: string
  /** The policy file; its target is called `db`. */
  readonly policy: string
  /** What `listen.postgres` says, as YAML. */
  readonly postgres?: string
  /** More lines of `sallyport.yaml`. */
  readonly config?: string
  /** The server its database is on; 18 unless told. */
  readonly server?: ServerVersion
  /** Where the gateway reaches its database instead: a cable whose other end is there. */
  readonly cable?: { readonly port: number }
  /** Runs the gateway under these shell words, such as `ulimit -f 100;`. */
  readonly shell?: string
}

/** A world: files, a database, a gateway process. Whoever opens it closes it. */
export interface World {
  readonly dir: string
  readonly db: TestDatabase
  readonly password: string
  readonly operatorToken: string
  mcpUrl: string
  /** Port of the PostgreSQL door on 127.0.0.1. */
  wirePort: number
  adminUrl: string
  operator: AdminClient
  /** What the gateway process wrote so far, on both streams, over all its lives. */
  output: string
  /** Makes a token through the admin door. */
  token(principal: {
    principal: string
    kind: string
    owner: string
    groups?: string[]
    roles: string[]
  }): Promise<string>
  admin(token: string): AdminClient
  start(options?: { shell?: string }): Promise<void>
  /** SIGKILL, and waits until the process is gone. */
  kill(): Promise<void>
  /** SIGTERM, and waits until it ended by itself. Returns its exit code. */
  stop(): Promise<number | null>
  isRunning(): boolean
  /** Runs a command in the world's directory. */
  run(
    args: readonly string[],
    env?: Readonly<Record<string, string>>,
  ): Promise<{ code: number | null; stdout: string; stderr: string }>
  close(): Promise<void>
}

/** The end of all hope on a machine that is busy with other things. */
const START_MS = 150_000

export async function openWorld(options: WorldOptions): Promise<World> {
  if (!existsSync(CLI)) throw new Error('There is no build. Run: npm run build')
  const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-e2e-'))
  const db = await createDatabase(options.schema, options.server === undefined ? {} : { server: options.server })
  const role = await db.role(options.grants)
  await writeFile(path.join(dir, 'db.password'), role.password)
  await chmod(path.join(dir, 'db.password'), 0o600)
  await mkdir(path.join(dir, 'policies'))
  await writeFile(path.join(dir, 'policies', 'policy.yaml'), options.policy)
  await writeFile(
    path.join(dir, 'sallyport.yaml'),
    `listen: {mcp: "127.0.0.1:0", admin: "127.0.0.1:0", postgres: ${options.postgres ?? '"127.0.0.1:0"'}}
targets:
  db:
    protocol: postgres
    host: ${options.cable === undefined ? db.host : '127.0.0.1'}
    port: ${options.cable?.port ?? db.port}
    database: ${db.name}
    tls: disable
    connect_timeout: 60s
    credential: {user: ${role.user}, file: db.password}
${options.config ?? ''}`,
  )

  let child: ChildProcess | undefined
  const world: World = {
    dir,
    db,
    password: role.password,
    operatorToken: '',
    mcpUrl: '',
    wirePort: 0,
    adminUrl: '',
    output: '',
    operator: adminClient('http://127.0.0.1:1', 'none'),
    async token(principal) {
      const made = await world.operator.post<{ token: string }>('/v1/tokens', {
        expires_in_ms: 86_400_000,
        ...principal,
      })
      return made.token
    },
    admin: (token) => adminClient(world.adminUrl, token),
    async start(more = {}) {
      const shell = more.shell ?? options.shell
      const words = [CLI, 'serve', '--config', path.join(dir, 'sallyport.yaml')]
      child =
        shell === undefined
          ? spawn(process.execPath, words, { cwd: dir, env: environment(), stdio: ['ignore', 'pipe', 'pipe'] })
          : spawn('bash', ['-c', `${shell} exec "$@"`, 'bash', process.execPath, ...words], {
              cwd: dir,
              env: environment(),
              stdio: ['ignore', 'pipe', 'pipe'],
            })
      const urls = await doorsOf(child, (text) => (world.output += text))
      world.mcpUrl = urls.mcp
      world.adminUrl = urls.admin
      world.wirePort = Number(new URL(urls.postgres).port)
      world.operator = adminClient(urls.admin, world.operatorToken)
    },
    async kill() {
      await end(child, 'SIGKILL')
    },
    async stop() {
      return end(child, 'SIGTERM')
    },
    isRunning: () => child !== undefined && child.exitCode === null && child.signalCode === null,
    run: (args, env = {}) => run(args, dir, env),
    async close() {
      await end(child, 'SIGKILL')
      await db.drop()
      await rm(dir, { recursive: true, force: true })
    },
  }
  try {
    const made = await run(['operator', 'olga', '--json'], dir, {})
    if (made.code !== 0) throw new Error(`operator: ${made.stderr}`)
    Object.assign(world, { operatorToken: (JSON.parse(made.stdout) as { token: string }).token })
    await world.start()
    return world
  } catch (error) {
    await world.close()
    throw error
  }
}

/** What nobody foresaw is said with where it happened. */
export function environment(): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], HOME: '/nonexistent', SALLYPORT_DEBUG: '1' }
}

/** Resolves with the addresses of both doors when they are open. */
export async function doorsOf(
  child: ChildProcess,
  onOutput: (text: string) => void,
): Promise<{ mcp: string; admin: string; postgres: string; http: string; kubernetes: string }> {
  const { stdout, stderr } = child
  if (stdout === null || stderr === null) throw new Error('The gateway has no output.')
  stdout.setEncoding('utf8').on('data', onOutput)
  return new Promise((resolve, reject) => {
    let seen = ''
    const timer = setTimeout(() => reject(new Error(`The gateway did not open its doors: ${seen}`)), START_MS)
    const lines = createInterface(stderr)
    lines.on('line', (line) => {
      onOutput(`${line}\n`)
      seen += `${line}\n`
      const entry = parsed(line)
      if (entry?.mcp === undefined || entry.admin === undefined) return
      clearTimeout(timer)
      const none = 'http://127.0.0.1:1'
      const { mcp, admin, postgres = 'postgres://127.0.0.1:1', http = none, kubernetes = none } = entry
      resolve({ mcp, admin, postgres, http, kubernetes })
    })
    child.once('exit', (code) => {
      clearTimeout(timer)
      reject(new Error(`The gateway ended with ${code}: ${seen}`))
    })
  })
}

function parsed(
  line: string,
): Partial<Readonly<Record<'mcp' | 'admin' | 'postgres' | 'http' | 'kubernetes', string>>> | undefined {
  try {
    return JSON.parse(line) as ReturnType<typeof parsed>
  } catch {
    return undefined
  }
}

export async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<number | null> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null
  const ended = once(child, 'exit')
  child.kill(signal)
  await ended
  return child.exitCode
}

export async function run(
  args: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>>,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [CLI, ...args], { cwd, env: { ...environment(), ...env } })
  const output = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text))
  child.stdin.end()
  await once(child, 'close')
  return { code: child.exitCode, ...output }
}

/** What a tool said, as the door sent it. */
export interface ToolResult {
  readonly isError?: boolean
  readonly content: readonly { readonly text?: string }[]
  readonly structuredContent?: Readonly<Record<string, unknown>> & {
    readonly status?: string
    readonly ticket?: string
    readonly rows?: readonly (readonly unknown[])[]
    readonly replayed?: boolean
    readonly code?: string
  }
}

const MODERN = '2026-07-28'
let nextId = 1

/** Calls a tool over the 2026 era with nothing but `fetch`: no session, no client of ours in between. */
export async function callTool(
  url: string,
  token: string,
  name: string,
  args: Readonly<Record<string, unknown>>,
  signal?: AbortSignal,
): Promise<ToolResult> {
  const id = nextId++
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': MODERN,
      'mcp-method': 'tools/call',
      'mcp-name': name,
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id,
      method: 'tools/call',
      params: {
        name,
        arguments: args,
        _meta: {
          'io.modelcontextprotocol/protocolVersion': MODERN,
          'io.modelcontextprotocol/clientInfo': { name: 'e2e', version: '1' },
          'io.modelcontextprotocol/clientCapabilities': {},
        },
      },
    }),
    ...(signal !== undefined && { signal }),
  })
  const text = await response.text()
  const message = messageIn(text)
  if (message.result === undefined) throw new Error(`${response.status} ${JSON.stringify(message.error ?? text)}`)
  if (message.id !== id) throw new Error(`An answer for ${String(message.id)} came to ${id}.`)
  return message.result
}

interface Message {
  readonly id?: unknown
  readonly result?: ToolResult
  readonly error?: unknown
}

function messageIn(text: string): Message {
  const bodies = text.startsWith('{')
    ? [text]
    : text.split('\n').flatMap((line) => (line.startsWith('data:') ? [line.slice(5)] : []))
  for (const body of bodies) {
    const message = JSON.parse(body) as Message
    if (message.result !== undefined || message.error !== undefined) return message
  }
  return {}
}
