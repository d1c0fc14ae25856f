/**
 * PostgreSQL's own regression suite, by its own `pg_regress`, through the PostgreSQL door of a gateway in a process of its
 * own: what a driver could notice of the gateway, one of 217 files of expected output tells.
 *
 * `npm run regress` runs all of it; words behind `--` choose files (with what they need). `--masks` puts masks on columns
 * no file reads. Prints one line for each file that differs, and exits with 1 when one differs that is not in
 * {@link DIFFERS}.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { Client } from 'pg'
import { adminClient } from '../../src/cli/admin-client.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../src/cli/demo/embedded-postgres.ts'
import { installedPostgres, postgresSource } from '../services/postgres-source.ts'

const INSTALLATION = '/usr/lib/postgresql/15'
const PG_REGRESS = path.join(INSTALLATION, 'lib/pgxs/src/test/regress/pg_regress')
const CLI = fileURLToPath(new URL('../../dist/src/cli.js', import.meta.url))
const DATABASE = 'regression'
const run = promisify(execFile)

/** Everything by its name, what is not understood included: only a scratch target has such a policy. */
const POLICY = `targets: [${DATABASE}]
rules:
  - {id: scratch, effect: allow, principals: [id:postgres], actions: ["sql.*", sql.unknown], resources: ["**", "-"]}
`

/** A masked table beside those of the suite. */
const MASKED = 'CREATE SCHEMA sallyport_unused; CREATE TABLE sallyport_unused.people (id int, ssn text)'
const MASKS = 'masks:\n  - {columns: [sallyport_unused.people.ssn], transform: redact}\n'

/** Files whose output differs, and the contract that makes it so. */
const DIFFERS: ReadonlyMap<string, string> = new Map([
  ['strings', 'C7: a session whose standard_conforming_strings is not pinned ends'],
])

/** What came of it. */
interface DoorReport {
  readonly ran: number
  readonly differing: readonly string[]
  readonly seconds: number
  /** The gateway's, in seconds. */
  readonly cpu: number
  /** Where the output is kept when something differed. */
  readonly output: string
}

/** Runs the suite, or the files named, through a gateway. */
async function runThroughDoor(files: readonly string[], withMasks: boolean): Promise<DoorReport> {
  const started = performance.now()
  const source = await postgresSource(await installedPostgres())
  const home = await mkdtemp(path.join(tmpdir(), 'sallyport-door-'))
  // The server, another user, reads data from here and writes files that it reads again.
  await chmod(home, 0o777)
  const regress = path.join(home, 'regress')
  await cp(source.regress, regress, { recursive: true })
  const libraries = path.join(home, 'lib')
  await compile(regress, libraries)
  const server = await startEmbeddedPostgres({ installation: INSTALLATION, settings: SETTINGS })
  let gateway: Gateway | undefined
  let isClean = false
  try {
    await makeDatabase(server, withMasks)
    gateway = await startGateway(home, server, withMasks)
    const output = path.join(home, 'output')
    await mkdir(output)
    await chmod(output, 0o777)
    const lines = await pgRegress({ regress, libraries, output, gateway, files })
    const results = lines.flatMap((line) => /^\s*(?:test )?(\S+)\s+\.\.\. (ok|FAILED)/u.exec(line)?.slice(1, 3) ?? [])
    const differing = results.flatMap((word, index) => (word === 'FAILED' ? [results[index - 1] ?? ''] : []))
    isClean = differing.length === 0
    const cpu = await cpuOf(gateway.child)
    return { ran: results.length / 2, differing, seconds: (performance.now() - started) / 1000, cpu, output }
  } finally {
    await gateway?.stop()
    await server.stop()
    if (isClean) await rm(home, { recursive: true, force: true })
  }
}

const SETTINGS = {
  shared_buffers: '128MB',
  synchronous_commit: 'off',
  fsync: 'off',
  max_prepared_transactions: '2',
  max_connections: '100',
  lc_messages: 'C',
}

/** Builds the library of C functions the suite loads. */
async function compile(regress: string, libraries: string): Promise<void> {
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

/** Makes the database as `pg_regress` would: through a gateway there is none to be made. */
async function makeDatabase(server: EmbeddedPostgres, withMasks: boolean): Promise<void> {
  const statements = [
    `CREATE DATABASE ${DATABASE} TEMPLATE template0`,
    ...['messages', 'monetary', 'numeric', 'time'].map((what) => `ALTER DATABASE ${DATABASE} SET lc_${what} TO 'C'`),
    `ALTER DATABASE ${DATABASE} SET bytea_output TO 'hex'`,
    `ALTER DATABASE ${DATABASE} SET timezone_abbreviations TO 'Default'`,
  ]
  await asAdmin(server, 'postgres', statements)
  if (withMasks) await asAdmin(server, DATABASE, [MASKED])
}

async function asAdmin(server: EmbeddedPostgres, database: string, statements: readonly string[]): Promise<void> {
  const { host, port, user, password } = server
  const client = new Client({ host, port, user, password, database })
  await client.connect()
  try {
    for (const sql of statements) await client.query(sql)
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

async function startGateway(home: string, server: EmbeddedPostgres, withMasks: boolean): Promise<Gateway> {
  const directory = path.join(home, 'gateway')
  await mkdir(path.join(directory, 'policies'), { recursive: true })
  await writeFile(path.join(directory, 'db.password'), server.password, { mode: 0o600 })
  await writeFile(path.join(directory, 'policies', 'policy.yaml'), `${POLICY}${withMasks ? MASKS : ''}`)
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
`,
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
  readonly gateway: Gateway
  readonly files: readonly string[]
}): Promise<readonly string[]> {
  const { regress, libraries, output, gateway, files } = suite
  const what = files.length > 0 ? files : ['--schedule', path.join(regress, 'parallel_schedule')]
  const flags = {
    host: '127.0.0.1',
    port: String(gateway.port),
    user: 'postgres',
    dbname: DATABASE,
    bindir: path.join(INSTALLATION, 'bin'),
    dlpath: libraries,
    inputdir: regress,
    outputdir: output,
    'max-concurrent-tests': '20',
    encoding: 'UTF8',
  }
  const args = ['--use-existing', ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`), ...what]
  const child = spawn(PG_REGRESS, args, {
    cwd: regress,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, PGPASSWORD: gateway.token, PGSSLMODE: 'disable', PGGSSENCMODE: 'disable' },
  })
  const lines: string[] = []
  createInterface(child.stdout).on('line', (line) => {
    console.error(line)
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

const { values, positionals } = parseArgs({ options: { masks: { type: 'boolean' } }, allowPositionals: true })
const report = await runThroughDoor(positionals, values.masks === true)
const unexpected = report.differing.filter((file) => !DIFFERS.has(file))
for (const file of report.differing) console.log(`differs: ${file}: ${DIFFERS.get(file) ?? 'NOBODY KNOWS WHY'}`)
const { ran, differing, seconds, cpu, output } = report
console.log(`${ran - differing.length} of ${ran} in ${seconds.toFixed(0)} s; the gateway's CPU ${cpu.toFixed(0)} s`)
if (differing.length > 0) console.log(`Differences are kept in ${output}`)
process.exitCode = ran === 0 || unexpected.length > 0 ? 1 : 0
