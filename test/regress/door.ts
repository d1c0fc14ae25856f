/**
 * PostgreSQL's own regression suite, by its own `pg_regress`, through the PostgreSQL door of a gateway in a process of its
 * own: what a driver could notice of the gateway, one of some two hundred files of expected output tells.
 *
 * The tests come from Debian's source package, which may be older than the server and the psql that are installed: a file
 * counts when its output is the expected one, or the very one the suite gives without a gateway.
 *
 * @packageDocumentation
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { adminClient } from '../../src/cli/admin-client.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../src/cli/demo/embedded-postgres.ts'
import { installedPostgres, postgresSource } from '../services/postgres-source.ts'

export const INSTALLATION = '/usr/lib/postgresql/15'
const PG_REGRESS = path.join(INSTALLATION, 'lib/pgxs/src/test/regress/pg_regress')
const CLI = fileURLToPath(new URL('../../dist/src/cli.js', import.meta.url))
export const DATABASE = 'regression'
const run = promisify(execFile)

/** Everything by its name, what is not understood included: only a scratch target has such a policy. */
const POLICY = `targets: [${DATABASE}]
rules:
  - {id: scratch, effect: allow, principals: [id:postgres], actions: ["sql.*", sql.unknown], resources: ["**", "-"]}
`

/** What is run. */
export interface SuiteOptions {
  /** Files by name, in the order they need each other; all of the schedule when there are none. */
  readonly files?: readonly string[]
  /** How many files run at the same time. */
  readonly concurrency?: number
  readonly onLine?: (line: string) => void
}

/** What came of it. */
export interface DoorReport {
  readonly version: string
  readonly ran: number
  /** Files whose output is neither the expected one nor that without a gateway. */
  readonly differing: readonly string[]
  /** Files whose output is not the expected one, and is so without a gateway, too. */
  readonly asDirect: readonly string[]
  readonly seconds: number
  /** The gateway's, in seconds. */
  readonly cpu: number
  /** Where the output is kept when something differed. */
  readonly output: string
}

/** One run of the suite. */
interface SuiteRun {
  readonly names: readonly string[]
  readonly failed: readonly string[]
  /** Directory of the output. */
  readonly output: string
  readonly cpu: number
}

/** Runs the suite, or the files named, through a gateway; what differs is compared with a run without one. */
export async function runThroughDoor(options: SuiteOptions = {}): Promise<DoorReport> {
  const started = performance.now()
  const source = await postgresSource(await installedPostgres())
  const home = await mkdtemp(path.join(tmpdir(), 'sallyport-door-'))
  // The server, another user, reads data from here and writes files that it reads again.
  await chmod(home, 0o777)
  const regress = path.join(home, 'regress')
  await cp(source.regress, regress, { recursive: true })
  const libraries = path.join(home, 'lib')
  await compile(regress, libraries)
  const governed = await runOnce({ home, regress, libraries, isDirect: false, options })
  const seconds = (performance.now() - started) / 1000
  let asDirect: readonly string[] = []
  if (governed.failed.length > 0) {
    const direct = await runOnce({ home, regress, libraries, isDirect: true, options })
    asDirect = await sameIn(governed, direct)
  }
  const differing = governed.failed.filter((name) => !asDirect.includes(name))
  if (differing.length === 0) await rm(home, { recursive: true, force: true })
  const { names, cpu, output } = governed
  return { version: source.version, ran: names.length, differing, asDirect, seconds, cpu, output }
}

/** Of the files that failed in the first run, those whose output is the same in the second, but for directories. */
async function sameIn(one: SuiteRun, other: SuiteRun): Promise<readonly string[]> {
  const outputOf = async ({ output }: SuiteRun, name: string): Promise<string> => {
    const text = await readFile(path.join(output, 'results', `${name}.out`), 'utf8').catch(() => '')
    return text.replaceAll(output, '')
  }
  const same: string[] = []
  for (const name of one.failed) {
    const text = await outputOf(one, name)
    if (text !== '' && text === (await outputOf(other, name))) same.push(name)
  }
  return same
}

interface Stage {
  readonly home: string
  readonly regress: string
  readonly libraries: string
  readonly isDirect: boolean
  readonly options: SuiteOptions
}

async function runOnce({ home, regress, libraries, isDirect, options }: Stage): Promise<SuiteRun> {
  const server = await startEmbeddedPostgres({ installation: INSTALLATION, settings: SETTINGS })
  let gateway: Gateway | undefined
  try {
    await makeDatabase(server, DATABASE)
    gateway = isDirect ? undefined : await startGateway(home, server)
    const output = path.join(home, isDirect ? 'direct' : 'output')
    await mkdir(output)
    await chmod(output, 0o777)
    const place = gateway ?? { port: server.port, token: server.password }
    const lines = await pgRegress({ regress, libraries, output, place, options })
    const results = lines.flatMap((line) => {
      const [, name = '', word = ''] = /^\s*(?:test )?(\S+)\s+\.\.\. (ok|FAILED|failed \(ignored\))/u.exec(line) ?? []
      return name === '' ? [] : [{ name, isFailed: word === 'FAILED' }]
    })
    const names = results.map(({ name }) => name)
    const failed = results.filter(({ isFailed }) => isFailed).map(({ name }) => name)
    return { names, failed, output, cpu: gateway === undefined ? 0 : await cpuOf(gateway.child) }
  } finally {
    await gateway?.stop()
    await server.stop()
  }
}

export const SETTINGS = {
  shared_buffers: '128MB',
  synchronous_commit: 'off',
  fsync: 'off',
  max_prepared_transactions: '2',
  max_connections: '100',
  lc_messages: 'C',
}

/** Builds the library of C functions the suite loads. */
export async function compile(regress: string, libraries: string): Promise<void> {
  await mkdir(libraries)
  // Headers: Debian's postgresql-server-dev-15 and libpq-dev.
  const includes = ['/usr/include/postgresql/15/server', '/usr/include/postgresql', regress]
  await run('gcc', [
    '-O1',
    '-fPIC',
    '-shared',
    ...includes.flatMap((directory) => ['-I', directory]),
    '-o',
    path.join(libraries, 'regress.so'),
    path.join(regress, 'regress.c'),
  ])
  for (const name of ['refint.so', 'autoinc.so']) {
    await cp(path.join(INSTALLATION, 'lib', name), path.join(libraries, name))
  }
}

/** Makes a database as `pg_regress` would: through a gateway there is none to be made. */
export async function makeDatabase(server: EmbeddedPostgres, name: string): Promise<void> {
  await asAdmin(server, 'postgres', [`CREATE DATABASE ${name} TEMPLATE template0`, ...settingsOf(name)])
}

/** What `pg_regress` sets for its database; a copy of one does not have it. */
export function settingsOf(name: string): readonly string[] {
  return [
    ...['messages', 'monetary', 'numeric', 'time'].map((what) => `ALTER DATABASE ${name} SET lc_${what} TO 'C'`),
    `ALTER DATABASE ${name} SET bytea_output TO 'hex'`,
    `ALTER DATABASE ${name} SET timezone_abbreviations TO 'Default'`,
  ]
}

/** Runs statements as the owner of everything; resolves with the first column of the last one. */
export async function asAdmin(
  server: EmbeddedPostgres,
  database: string,
  statements: readonly string[],
): Promise<readonly string[]> {
  const { host, port, user, password } = server
  const client = new Client({ host, port, user, password, database })
  await client.connect()
  try {
    let last: readonly string[] = []
    for (const text of statements) last = (await client.query<string[]>({ text, rowMode: 'array' })).rows.flat()
    return last
  } finally {
    await client.end()
  }
}

interface Gateway {
  readonly child: ChildProcess
  readonly port: number
  readonly token: string
  stop(): Promise<void>
}

/** What makes a gateway of the suite a stricter one. */
export interface GatewayExtras {
  /** Added to the policy. */
  readonly policy?: string
  /** Lines of the target. */
  readonly target?: string
}

export async function startGateway(
  home: string,
  server: EmbeddedPostgres,
  extras: GatewayExtras = {},
): Promise<Gateway> {
  const directory = path.join(home, 'gateway')
  await mkdir(path.join(directory, 'policies'), { recursive: true })
  await writeFile(path.join(directory, 'db.password'), server.password, { mode: 0o600 })
  await writeFile(path.join(directory, 'policies', 'policy.yaml'), `${POLICY}${extras.policy ?? ''}`)
  await writeFile(
    path.join(directory, 'sallyport.yaml'),
    `listen: {mcp: "127.0.0.1:0", admin: "127.0.0.1:0", postgres: "127.0.0.1:0"}
targets:
  ${DATABASE}:
    protocol: postgres
    host: ${server.host}
    port: ${server.port}
    database: ${DATABASE}
    tls: disable
    statement_timeout: 10m
    credential: {user: ${server.user}, file: db.password}
${extras.target ?? ''}`,
  )
  const options = { cwd: directory, env: { PATH: process.env['PATH'], HOME: '/nonexistent' } }
  const made = await run(process.execPath, [CLI, 'operator', 'olga', '--json'], options)
  const { token: operator } = JSON.parse(made.stdout) as { token: string }
  const child = spawn(process.execPath, [CLI, 'serve', '--config', path.join(directory, 'sallyport.yaml')], {
    ...options,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const { admin, postgres } = await doorsOf(child)
  const { token } = await adminClient(admin, operator).post<{ token: string }>('/v1/tokens', {
    expires_in_ms: 86_400_000,
    principal: 'postgres',
    kind: 'agent',
    owner: 'maria',
    roles: ['caller'],
  })
  return {
    child,
    port: Number(new URL(postgres).port),
    token,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    },
  }
}

function doorsOf(child: ChildProcess): Promise<{ readonly admin: string; readonly postgres: string }> {
  return new Promise((resolve, reject) => {
    let seen = ''
    child.once('exit', () => reject(new Error(`The gateway ended: ${seen}`)))
    if (child.stderr === null) throw new Error('The gateway has no output.')
    createInterface(child.stderr).on('line', (line) => {
      seen = `${seen}${line}\n`.slice(-4000)
      if (!line.includes('"postgres":"postgres://')) return
      resolve(JSON.parse(line) as { admin: string; postgres: string })
    })
  })
}

/** Runs `pg_regress`; resolves with what it says. */
async function pgRegress(suite: {
  readonly regress: string
  readonly libraries: string
  readonly output: string
  readonly place: Pick<Gateway, 'port' | 'token'>
  readonly options: SuiteOptions
}): Promise<readonly string[]> {
  const { regress, libraries, output, place, options } = suite
  const { files = [], concurrency = 20, onLine } = options
  const what = files.length > 0 ? files : ['--schedule', path.join(regress, 'parallel_schedule')]
  const flags = {
    host: '127.0.0.1',
    port: String(place.port),
    user: 'postgres',
    dbname: DATABASE,
    bindir: path.join(INSTALLATION, 'bin'),
    dlpath: libraries,
    inputdir: regress,
    outputdir: output,
    'max-connections': String(concurrency),
    encoding: 'UTF8',
  }
  const args = ['--use-existing', ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`), ...what]
  // The server, another user, writes into a directory that is made there.
  const child = spawn('bash', ['-c', 'umask 0; exec "$@"', 'bash', PG_REGRESS, ...args], {
    cwd: regress,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, PGPASSWORD: place.token, PGSSLMODE: 'disable', PGGSSENCMODE: 'disable' },
  })
  const lines: string[] = []
  createInterface(child.stdout).on('line', (line) => {
    onLine?.(line)
    lines.push(line)
  })
  await once(child, 'close')
  return lines
}

/** CPU seconds a process has used (`proc(5)`, fields 14 and 15). */
async function cpuOf({ pid }: ChildProcess): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}
