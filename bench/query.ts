/**
 * What governing one query costs: the same query through `pg` directly, through a bare MCP tool on the same SDK, and
 * through `query_database`; rounds interleaved in one run, so that a noisy machine is equally noisy to all three.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { Pool } from 'pg'
import { startEmbeddedPostgres } from '../src/cli/demo/embedded-postgres.ts'
import { shopSql } from '../src/cli/demo/shop.ts'
import { end, firstLine, serveGateway } from './gateway.ts'
import { percentile, round, summary, type Round } from './measure.ts'

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 9)
const CALLS = Number(process.env['BENCH_CALLS'] ?? 300)
const CONCURRENCY = Number(process.env['BENCH_CONCURRENCY'] ?? 4)
const SQL = 'SELECT id, customer_id, status, total FROM public.orders WHERE customer_id = $1 ORDER BY id LIMIT 10'
const MASKED = 'SELECT id, name, email, ssn FROM public.customers WHERE id = $1'

const POLICY = `
targets: [db]
rules:
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], limits: {rows: 50},
     resources: ["-", public.orders, public.customers]}
masks:
  - {columns: [public.customers.ssn], transform: redact}
  - {detect: [email], transform: partial}
`

let nextId = 1

interface Lane {
  readonly name: string
  readonly pid: number
  readonly run: () => Promise<void>
}

const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-bench-'))
const database = await startEmbeddedPostgres()
const children: ChildProcess[] = []
try {
  const url = `postgres://${database.user}:${database.password}@${database.host}:${database.port}/postgres`
  const direct = new Pool({ connectionString: url, max: CONCURRENCY })
  direct.on('error', () => undefined) // the server ends before idle connections do
  await direct.query(shopSql())
  const bare = await bareServer(url)
  const gateway = await governedServer()
  let n = 0
  const id = (): number => (n++ % 50) + 1
  const lanes: Lane[] = [
    {
      name: 'pg directly',
      pid: process.pid,
      run: async () => void (await direct.query({ text: SQL, values: [id()] })),
    },
    {
      name: 'bare MCP tool',
      pid: bare.pid,
      run: () => callTool(bare.url, 'none', 'query', { sql: SQL, params: [id()] }),
    },
    {
      name: 'query_database',
      pid: gateway.pid,
      run: () => callTool(gateway.url, gateway.token, 'query_database', { target: 'db', sql: SQL, params: [id()] }),
    },
    {
      name: 'query_database, masked',
      pid: gateway.pid,
      run: () => callTool(gateway.url, gateway.token, 'query_database', { target: 'db', sql: MASKED, params: [id()] }),
    },
  ]
  const rounds = new Map<string, Round[]>(lanes.map(({ name }) => [name, []]))
  for (const { run, pid } of lanes) await round(run, { calls: CALLS, concurrency: CONCURRENCY, pid })
  for (let index = 0; index < ROUNDS; index++) {
    process.stderr.write(`\rround ${index + 1} of ${ROUNDS}`)
    for (const { name, run, pid } of lanes) {
      rounds.get(name)?.push(await round(run, { calls: CALLS, concurrency: CONCURRENCY, pid }))
    }
  }
  process.stderr.write('\r\x1b[K')
  print(lanes, rounds)
  await direct.end()
} finally {
  for (const child of children) await end(child)
  await database.stop()
  await rm(dir, { recursive: true, force: true })
}

function print(lanes: readonly Lane[], rounds: ReadonlyMap<string, readonly Round[]>): void {
  const base = rounds.get('bare MCP tool') ?? []
  console.log(`${ROUNDS} rounds of ${CALLS} calls, ${CONCURRENCY} at a time; medians of rounds`)
  console.log('lane                     p50 ms   p99 ms   CPU ms/call   CPU ÷ bare tool (median of paired rounds)')
  for (const { name } of lanes) {
    const own = rounds.get(name) ?? []
    const { p50, p99, cpu } = summary(own)
    const ratios = own.map(({ cpuMsPerCall }, index) => cpuMsPerCall / (base[index]?.cpuMsPerCall ?? Number.NaN))
    const cells = [p50.toFixed(2), p99.toFixed(2), cpu.toFixed(3), percentile(ratios, 0.5).toFixed(2)]
    console.log(
      `${name.padEnd(24)}${cells[0]?.padStart(7)}${cells[1]?.padStart(9)}${cells[2]?.padStart(14)}${cells[3]?.padStart(18)}`,
    )
  }
}

async function bareServer(url: string): Promise<{ url: string; pid: number }> {
  const main = fileURLToPath(new URL('./bare-server.ts', import.meta.url))
  const child = spawn(process.execPath, ['--import', 'tsx', main], {
    env: { ...process.env, BENCH_DATABASE_URL: url },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  const line = await firstLine(child, (text) => /^\d+$/u.test(text))
  return { url: `http://127.0.0.1:${line}/mcp`, pid: child.pid ?? 0 }
}

async function governedServer(): Promise<{ url: string; pid: number; token: string }> {
  await mkdir(path.join(dir, 'policies'))
  await writeFile(path.join(dir, 'policies', 'bench.yaml'), POLICY)
  await writeFile(path.join(dir, 'password'), database.password)
  await chmod(path.join(dir, 'password'), 0o600)
  await writeFile(
    path.join(dir, 'sallyport.yaml'),
    `listen: {mcp: "127.0.0.1:0", admin: "127.0.0.1:0"}
targets:
  db: {protocol: postgres, host: ${database.host}, port: ${database.port}, database: postgres, tls: disable,
       credential: {user: ${database.user}, file: password}}
`,
  )
  const { child, pid, doors, token } = await serveGateway(dir)
  children.push(child)
  return { url: doors['mcp'] ?? '', pid, token }
}

async function callTool(
  url: string,
  token: string,
  name: string,
  args: Readonly<Record<string, unknown>>,
): Promise<void> {
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/call',
      'mcp-name': name,
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: nextId++,
      method: 'tools/call',
      params: {
        name,
        arguments: args,
        _meta: {
          'io.modelcontextprotocol/protocolVersion': '2026-07-28',
          'io.modelcontextprotocol/clientInfo': { name: 'bench', version: '1' },
          'io.modelcontextprotocol/clientCapabilities': {},
        },
      },
    }),
  })
  const text = await response.text()
  if (response.status !== 200 || text.includes('"isError":true')) throw new Error(`${response.status} ${text}`)
}
