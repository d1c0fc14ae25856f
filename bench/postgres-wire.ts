/**
 * What the PostgreSQL door costs: pgbench and one large SELECT, directly, through PgBouncer in session mode, and through
 * the gateway; rounds interleaved in one run, so that a noisy machine is equally noisy to all.
 *
 * Run with `node --import tsx bench/postgres-wire.ts`; needs Debian's `postgresql-15`, `pgbench` and `pgbouncer`. Longer
 * rounds and fewer lanes by environment: `BENCH_SECONDS`, `BENCH_ROUNDS`, `BENCH_MODES`, `BENCH_CLIENTS`, `BENCH_LANES`
 * (comma-separated), `BENCH_BULK=0`. `BENCH_NODE_FLAGS` go to the gateway, such as `--cpu-prof`.
 *
 * @packageDocumentation
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { adminClient } from '../src/cli/admin-client.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../src/cli/demo/embedded-postgres.ts'
import { percentile } from './measure.ts'
import { peakRssMiB, resetPeakRss, threadCpuUs } from './process-cost.ts'

const SECONDS = Number(process.env['BENCH_SECONDS'] ?? 1)
const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 3)
const MODES = list('BENCH_MODES', 'simple,extended,prepared')
const CLIENTS = list('BENCH_CLIENTS', '1,8,32').map(Number)
const LANES = list('BENCH_LANES', 'direct,pgbouncer,digest,masked,full')
const IS_BULK = process.env['BENCH_BULK'] !== '0'
const CONNECTIONS = 40
const BULK_ROWS = 1_000_000
const BULK_SQL = 'SELECT id, code, words FROM public.bulk'

/** ReadyForQuery, idle. */
const READY = Buffer.from([0x5a, 0, 0, 0, 5, 0x49])

const CLI = fileURLToPath(new URL('../dist/src/cli.js', import.meta.url))
const POSTGRES_15 = '/usr/lib/postgresql/15'

const SCHEMA = `
CREATE UNLOGGED TABLE public.bulk AS
  SELECT n AS id, md5(n::text) AS code, repeat(md5((n * 7)::text), 4) || 'tail' AS words
  FROM generate_series(1, ${BULK_ROWS}) n;
ANALYZE public.bulk`

const READ = `
rules:
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["-", "public.*"]}
`
/** Every reference to the tables is rewritten; what pgbench reads of them stays readable. */
const MASKED = ['public.pgbench_accounts.filler', ...(IS_BULK ? ['public.bulk.code'] : [])]
const MASKS = `
masks:
  - {columns: [${MASKED.join(', ')}], transform: redact}
`

interface Lane {
  readonly name: string
  /** The process in the middle, `undefined` for none. */
  readonly pid: number | undefined
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
  readonly password: string
}

interface Measure {
  readonly tps: number
  readonly cpuUs: number
}

const run = promisify(execFile)
const children: ChildProcess[] = []
const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-bench-'))
const database = await startEmbeddedPostgres({
  installation: POSTGRES_15,
  settings: { shared_buffers: '512MB', max_connections: '200' },
})
try {
  await fill(database)
  const lanes = [directLane(database), await pgbouncer(database), ...(await gateway(database))].filter(({ name }) =>
    LANES.includes(name),
  )
  await transactions(lanes)
  await connections(lanes)
  if (IS_BULK) await bulk(lanes)
} finally {
  for (const child of children) await end(child)
  await database.stop()
  await rm(dir, { recursive: true, force: true })
}

function list(name: string, standard: string): string[] {
  return (process.env[name] ?? standard).split(',')
}

async function fill({ host, port, user, password }: EmbeddedPostgres): Promise<void> {
  const env = { ...process.env, PGPASSWORD: password }
  await run('pgbench', ['-i', '-q', '-n', '-h', host, '-p', `${port}`, '-U', user, 'postgres'], { env })
  const client = new Client({ host, port, user, password, database: 'postgres' })
  await client.connect()
  await client.query('VACUUM ANALYZE public.pgbench_accounts')
  if (IS_BULK) await client.query(SCHEMA)
  await client.end()
}

function directLane({ host, port, user, password }: EmbeddedPostgres): Lane {
  return { name: 'direct', pid: undefined, host, port, user, database: 'postgres', password }
}

/** PgBouncer does not run as root. */
async function pgbouncer({ host, port, user, password }: EmbeddedPostgres): Promise<Lane> {
  const own = await freePort()
  const home = path.join(dir, 'pgbouncer')
  await mkdir(home)
  await writeFile(
    path.join(home, 'pgbouncer.ini'),
    `[databases]
postgres = host=${host} port=${port} user=${user} password=${password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${own}
unix_socket_dir =
auth_type = any
pool_mode = session
default_pool_size = 100
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
`,
  )
  const account = process.getuid?.() === 0 ? { uid: await idOf('-u'), gid: await idOf('-g') } : {}
  if (account.uid !== undefined) {
    await chmod(dir, 0o711)
    for (const one of [home, path.join(home, 'pgbouncer.ini')]) await chown(one, account.uid, account.gid)
  }
  const child = spawn('/usr/sbin/pgbouncer', ['-q', path.join(home, 'pgbouncer.ini')], { ...account, stdio: 'ignore' })
  children.push(child)
  return { name: 'pgbouncer', pid: child.pid, host, port: own, user, database: 'postgres', password }
}

async function idOf(flag: '-u' | '-g'): Promise<number> {
  return Number((await run('id', [flag, 'postgres'])).stdout)
}

/** One gateway, a target for each way it is used. */
async function gateway({ host, port, user, password }: EmbeddedPostgres): Promise<Lane[]> {
  const home = path.join(dir, 'gateway')
  await mkdir(path.join(home, 'policies'), { recursive: true })
  await writeFile(path.join(home, 'policies', 'plain.yaml'), `targets: [digest, full]${READ}`)
  await writeFile(
    path.join(home, 'policies', 'masked.yaml'),
    `targets: [masked]${READ.replaceAll(/id: (\w+)/gu, 'id: masked-$1')}${MASKS}`,
  )
  await writeFile(path.join(home, 'password'), password, { mode: 0o600 })
  const target = (name: string, record: string): string =>
    `  ${name}: {protocol: postgres, host: ${host}, port: ${port}, database: postgres, tls: disable, record: ${record}, ` +
    `credential: {user: ${user}, file: password}}\n`
  await writeFile(
    path.join(home, 'sallyport.yaml'),
    `listen: {mcp: "127.0.0.1:0", admin: "127.0.0.1:0", postgres: "127.0.0.1:0"}
targets:
${target('digest', 'digest')}${target('masked', 'digest')}${target('full', 'full')}`,
  )
  const operator = spawn(process.execPath, [CLI, 'operator', 'olga', '--json'], {
    cwd: home,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const made = JSON.parse(await firstLine(operator, () => true)) as { token: string }
  const flags = (process.env['BENCH_NODE_FLAGS'] ?? '').split(' ').filter((flag) => flag !== '')
  const child = spawn(process.execPath, [...flags, CLI, 'serve'], { cwd: home, stdio: ['ignore', 'ignore', 'pipe'] })
  children.push(child)
  const urls = JSON.parse(await firstLine(child, (text) => text.includes('"mcp"'))) as {
    admin: string
    postgres: string
  }
  child.stderr?.resume()
  const { token } = await adminClient(urls.admin, made.token).post<{ token: string }>('/v1/tokens', {
    principal: 'loop',
    kind: 'agent',
    owner: 'sam',
    groups: ['agents'],
    roles: ['caller'],
    expires_in_ms: 3_600_000,
  })
  const wire = Number(new URL(urls.postgres).port)
  return ['digest', 'masked', 'full'].map((name) => {
    return { name, pid: child.pid, host: '127.0.0.1', port: wire, user: 'loop', database: name, password: token }
  })
}

async function transactions(lanes: readonly Lane[]): Promise<void> {
  console.log(`pgbench -S, ${ROUNDS} interleaved rounds of ${SECONDS} s, medians`)
  console.log('mode      clients  lane         tps   ÷ direct   CPU µs/tx   ÷ pgbouncer   peak RSS MiB')
  for (const mode of MODES) {
    for (const clients of CLIENTS) {
      const rounds = new Map<string, Measure[]>(lanes.map(({ name }) => [name, []]))
      const peaks = new Map<string, number>()
      for (const lane of lanes) await pgbench(lane, mode, clients, 1)
      for (let index = 0; index < ROUNDS; index++) {
        for (const lane of lanes) {
          if (lane.pid !== undefined) await resetPeakRss(lane.pid)
          rounds.get(lane.name)?.push(await pgbench(lane, mode, clients, SECONDS))
          if (lane.pid !== undefined) {
            peaks.set(lane.name, Math.max(peaks.get(lane.name) ?? 0, await peakRssMiB(lane.pid)))
          }
        }
      }
      for (const { name } of lanes) {
        const own = rounds.get(name) ?? []
        const tps = median(own.map((one) => one.tps))
        const cpu = median(own.map((one) => one.cpuUs))
        const paired = (base: string, of: keyof Measure): string =>
          median(own.map((one, index) => one[of] / (rounds.get(base)?.[index]?.[of] ?? Number.NaN))).toFixed(2)
        console.log(
          `${mode.padEnd(10)}${`${clients}`.padStart(7)}  ${name.padEnd(10)}${tps.toFixed(0).padStart(7)}` +
            `${paired('direct', 'tps').padStart(11)}${cpu.toFixed(1).padStart(12)}` +
            `${paired('pgbouncer', 'cpuUs').padStart(14)}${(peaks.get(name) ?? 0).toFixed(0).padStart(15)}`,
        )
      }
    }
  }
}

async function pgbench(lane: Lane, mode: string, clients: number, seconds: number): Promise<Measure> {
  const { host, port, user, database: name, password, pid } = lane
  const before = pid === undefined ? 0 : await threadCpuUs(pid)
  const { stdout } = await run(
    'pgbench',
    ['-S', '-n', '-s', '1', '-M', mode, '-c', `${clients}`, '-j', '1', '-T', `${seconds}`].concat([
      '-h',
      host,
      '-p',
      `${port}`,
      '-U',
      user,
      name,
    ]),
    { env: { ...process.env, PGPASSWORD: password, PGSSLMODE: 'disable' } },
  )
  const cpu = pid === undefined ? 0 : (await threadCpuUs(pid)) - before
  const count = Number(/actually processed: (\d+)/u.exec(stdout)?.[1])
  const tps = Number(/tps = ([\d.]+)/u.exec(stdout)?.[1])
  if (!(count > 0) || !(tps > 0)) throw new Error(`pgbench through ${lane.name} failed: ${stdout}`)
  return { tps, cpuUs: cpu / count }
}

/** How long it takes until a new connection has its first answer. */
async function connections(lanes: readonly Lane[]): Promise<void> {
  const times = new Map<string, number[]>(lanes.map(({ name }) => [name, []]))
  for (let index = 0; index < CONNECTIONS; index++) {
    for (const lane of lanes) {
      const startedAt = performance.now()
      const client = clientOf(lane)
      await client.connect()
      await client.query('SELECT 1')
      times.get(lane.name)?.push(performance.now() - startedAt)
      await client.end()
    }
  }
  console.log(`\nconnection until its first answer, ${CONNECTIONS} interleaved, medians`)
  const direct = median(times.get('direct') ?? [])
  for (const [name, own] of times) {
    console.log(`${name.padEnd(12)}${median(own).toFixed(2)} ms   ${(median(own) / direct).toFixed(2)} × direct`)
  }
}

async function bulk(lanes: readonly Lane[]): Promise<void> {
  console.log(`\none SELECT of ${BULK_ROWS} rows, ${ROUNDS} interleaved rounds, medians`)
  console.log('lane          MB   MB/s   CPU ms/MB   ÷ pgbouncer   peak RSS MiB')
  const results = new Map<string, { mb: number; seconds: number; cpuMs: number; rss: number }[]>()
  for (let index = 0; index < ROUNDS; index++) {
    for (const lane of lanes) {
      const { pid } = lane
      if (pid !== undefined) await resetPeakRss(pid)
      const before = pid === undefined ? 0 : await threadCpuUs(pid)
      const startedAt = performance.now()
      const bytes = await readAll(lane)
      const seconds = (performance.now() - startedAt) / 1000
      const cpuMs = pid === undefined ? 0 : ((await threadCpuUs(pid)) - before) / 1000
      const rss = pid === undefined ? 0 : await peakRssMiB(pid)
      const own = results.get(lane.name) ?? []
      own.push({ mb: bytes / 1e6, seconds, cpuMs, rss })
      results.set(lane.name, own)
    }
  }
  const base = results.get('pgbouncer') ?? []
  for (const [name, own] of results) {
    const ratio = median(
      own.map(({ cpuMs, mb }, index) => cpuMs / mb / ((base[index]?.cpuMs ?? Number.NaN) / (base[index]?.mb ?? 1))),
    )
    console.log(
      `${name.padEnd(12)}${median(own.map(({ mb }) => mb))
        .toFixed(0)
        .padStart(4)}${median(own.map(({ mb, seconds }) => mb / seconds))
        .toFixed(0)
        .padStart(7)}${median(own.map(({ cpuMs, mb }) => cpuMs / mb))
        .toFixed(2)
        .padStart(12)}${ratio.toFixed(2).padStart(14)}${Math.max(...own.map(({ rss }) => rss))
        .toFixed(0)
        .padStart(15)}`,
    )
  }
}

/** Reads a whole result as fast as bytes can be counted, so that the reader is not what is measured. */
async function readAll(lane: Lane): Promise<number> {
  const client = clientOf(lane)
  await client.connect()
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
  stream.removeAllListeners('data')
  const sql = Buffer.from(`${BULK_SQL}\0`)
  const header = Buffer.alloc(5)
  header.write('Q')
  header.writeInt32BE(sql.length + 4, 1)
  let bytes = 0
  let tail: Buffer = Buffer.alloc(0)
  const done = new Promise<void>((resolve, reject) => {
    stream.on('data', (piece: Buffer) => {
      bytes += piece.length
      tail = Buffer.concat([tail.subarray(-6), piece.subarray(-6)])
      if (tail.subarray(-6).equals(READY)) resolve()
    })
    stream.once('close', () => reject(new Error(`${lane.name} closed the connection.`)))
  })
  stream.write(Buffer.concat([header, sql]))
  await done
  stream.removeAllListeners('close')
  stream.destroy()
  if (bytes < 100 * BULK_ROWS) throw new Error(`${lane.name} answered with ${bytes} bytes only.`)
  return bytes
}

function clientOf({ host, port, user, database: name, password }: Lane): Client {
  const client = new Client({ host, port, user, password, database: name, ssl: false })
  client.on('error', () => undefined)
  return client
}

function median(values: readonly number[]): number {
  return percentile(values, 0.5)
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

async function firstLine(child: ChildProcess, is: (line: string) => boolean): Promise<string> {
  const source = child.stdout ?? child.stderr
  if (source === null) throw new Error('The process has no output.')
  for await (const line of createInterface(source)) if (is(line)) return line
  throw new Error('The process ended before it was ready.')
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  await exited
}
