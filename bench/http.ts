/**
 * What governing one HTTP request costs: the same request directly, through nginx as a plain reverse proxy, and through
 * the HTTP door with policy, credential and recording; rounds interleaved in one run.
 *
 * Beside them the least a reverse proxy on Node can do, which says how much of a distance is Node's own.
 *
 * Two loads: a small JSON answer, one and several at a time, and one answer of 50 MB that streams (`record: digest`).
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { Pool } from 'undici'
import { startNginx } from '../test/services/nginx.ts'
import { end, serveGateway } from './gateway.ts'
import { percentile, round, type Round } from './measure.ts'

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 7)
const CALLS = Number(process.env['BENCH_CALLS'] ?? 300)
const CONCURRENCY = Number(process.env['BENCH_CONCURRENCY'] ?? 4)
/** A folder for a CPU profile of the gateway (`node --cpu-prof`); which of the two loads it is of, the next one says. */
const PROFILE = process.env['BENCH_PROFILE']
const LOADS = (process.env['BENCH_LOADS'] ?? 'small,stream').split(',')
const STREAM_BYTES = 50 * 1024 * 1024
const PIECE_BYTES = 64 * 1024

const POLICY = `
targets: [service]
rules:
  - {id: read, effect: allow, principals: [group:agents], actions: [http.get], resources: [{path: "/**"}], limits: {bytes: 100MiB}}
`

if (process.send === undefined) await main()
else if (process.argv[2] !== undefined) await proxyTo(process.argv[2])
else await serve()

/** The service, as a process of its own. */
async function serve(): Promise<void> {
  const piece = Buffer.alloc(PIECE_BYTES, 'a line of text in a long answer\n')
  const small = JSON.stringify({
    id: 7,
    status: 'paid',
    total: 12.5,
    lines: Array.from({ length: 10 }, (_, n) => ({ n })),
  })
  const server = createServer((request, response) => {
    if (request.url !== '/stream') {
      response.setHeader('content-type', 'application/json').end(small)
      return
    }
    response.writeHead(200, { 'content-type': 'text/plain', 'content-length': STREAM_BYTES })
    let left = STREAM_BYTES / PIECE_BYTES
    const write = (): void => {
      while (left > 0) {
        left--
        if (!response.write(piece)) return void response.once('drain', write)
      }
      response.end()
    }
    write()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.send?.((server.address() as AddressInfo).port)
}

/**
 * The least a reverse proxy on Node's own HTTP can do, as a process of its own: no policy, no recording, no look at a byte.
 * What it costs above nginx is what Node costs.
 */
async function proxyTo(origin: string): Promise<void> {
  const pool = new Pool(origin, { connections: 64 })
  const server = createServer((request, response) => {
    void pool
      .stream({ path: request.url ?? '/', method: 'GET', opaque: response }, ({ statusCode, headers }) => {
        return response.writeHead(statusCode, headers)
      })
      .catch(() => response.destroy())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.send?.((server.address() as AddressInfo).port)
}

interface Lane {
  readonly name: string
  readonly pool: Pool
  readonly prefix: string
  readonly headers: Readonly<Record<string, string>>
  readonly pid: number
}

async function main(): Promise<void> {
  const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-bench-http-'))
  const service = fork(fileURLToPath(import.meta.url), { execArgv: ['--import', 'tsx'] })
  const children: ChildProcess[] = [service]
  const [port] = (await once(service, 'message')) as [number]
  const origin = `http://127.0.0.1:${port}`
  const nginx = await startNginx({}, origin)
  const proxy = fork(fileURLToPath(import.meta.url), [origin], { execArgv: ['--import', 'tsx'] })
  children.push(proxy)
  const [bare] = (await once(proxy, 'message')) as [number]
  const pools: Pool[] = []
  const lane = (name: string, url: string, pid: number, prefix = '', headers = {}): Lane => {
    const pool = new Pool(url, { connections: CONCURRENCY })
    pools.push(pool)
    return { name, pool, prefix, headers, pid }
  }
  try {
    const gateway = await governed(dir, origin, children)
    const lanes = [
      lane('direct', origin, service.pid ?? 0),
      lane('nginx', nginx.url, nginx.pid),
      lane('node', `http://127.0.0.1:${bare}`, proxy.pid ?? 0),
      lane('sallyport', gateway.url, gateway.pid, '/service', { authorization: `Bearer ${gateway.token}` }),
    ]
    if (LOADS.includes('small'))
      for (const concurrency of [1, CONCURRENCY]) {
        await compare('small JSON', lanes, '/small', { calls: CALLS, concurrency, rounds: ROUNDS })
      }
    if (LOADS.includes('stream'))
      await compare('50 MB stream', lanes, '/stream', { calls: 2, concurrency: 1, rounds: ROUNDS })
  } finally {
    await Promise.all(pools.map((pool) => pool.destroy()))
    await nginx.close()
    for (const child of children) await end(child)
    await rm(dir, { recursive: true, force: true })
  }
}

async function compare(
  what: string,
  lanes: readonly Lane[],
  place: string,
  { calls, concurrency, rounds }: { calls: number; concurrency: number; rounds: number },
): Promise<void> {
  const measured = new Map<string, { round: Round; seconds: number }[]>(lanes.map(({ name }) => [name, []]))
  for (let index = -1; index < rounds; index++) {
    for (const lane of lanes) {
      const started = performance.now()
      const one = await round(() => ask(lane, place), { calls, concurrency, pid: lane.pid })
      // The first round only warms up.
      if (index >= 0) measured.get(lane.name)?.push({ round: one, seconds: (performance.now() - started) / 1000 })
    }
  }
  const of = (name: string, value: (one: { round: Round; seconds: number }) => number): number =>
    percentile((measured.get(name) ?? []).map(value), 0.5)
  const isStream = place === '/stream'
  console.log(`${what}: ${rounds} rounds of ${calls} requests, ${concurrency} at a time; medians of rounds`)
  console.log('lane          req/s     MB/s    p50 ms    p99 ms  CPU ms/request')
  for (const { name } of lanes) {
    const perSecond = of(name, ({ seconds }) => calls / seconds)
    const cells = [
      perSecond.toFixed(isStream ? 2 : 0),
      isStream ? ((perSecond * STREAM_BYTES) / 1024 ** 2).toFixed(0) : '-',
      of(name, ({ round: { latenciesMs } }) => percentile(latenciesMs, 0.5)).toFixed(2),
      of(name, ({ round: { latenciesMs } }) => percentile(latenciesMs, 0.99)).toFixed(2),
      of(name, ({ round: { cpuMsPerCall } }) => cpuMsPerCall).toFixed(2),
    ]
    console.log(name.padEnd(10) + cells.map((cell) => cell.padStart(9)).join(' '))
  }
  // Rounds that ran one after the other met the same noise.
  const ratio = (
    value: (one: { round: Round; seconds: number }) => number,
    from = 'sallyport',
    to = 'nginx',
  ): number => {
    const base = measured.get(to) ?? []
    return percentile(
      (measured.get(from) ?? []).map((one, index) => value(one) / value(base[index] ?? one)),
      0.5,
    )
  }
  const speed = ({ round: { latenciesMs }, seconds }: { round: Round; seconds: number }): number =>
    isStream ? 1 / seconds : percentile(latenciesMs, 0.5)
  const [measure, goal] = isStream ? ['throughput', 'at least 0.80'] : ['p50', 'at most 1.50']
  console.log(`sallyport ÷ nginx, ${measure}: ${ratio(speed).toFixed(2)} (goal: ${goal})`)
  console.log(
    `of which node ÷ nginx: ${ratio(speed, 'node').toFixed(2)}, sallyport ÷ node: ${ratio(speed, 'sallyport', 'node').toFixed(2)}`,
  )
}

async function ask({ pool, prefix, headers }: Lane, place: string): Promise<void> {
  const { statusCode, body } = await pool.request({ path: `${prefix}${place}`, method: 'GET', headers })
  let bytes = 0
  for await (const piece of body) bytes += (piece as Buffer).length
  if (statusCode !== 200 || bytes === 0 || (place === '/stream' && bytes !== STREAM_BYTES)) {
    throw new Error(`${prefix}${place} answered ${statusCode} with ${bytes} bytes`)
  }
}

async function governed(dir: string, origin: string, children: ChildProcess[]) {
  await mkdir(path.join(dir, 'policies'))
  await writeFile(path.join(dir, 'policies', 'bench.yaml'), POLICY)
  await writeFile(path.join(dir, 'secret'), 'sk_bench_Secr3tValue42', { mode: 0o600 })
  await writeFile(
    path.join(dir, 'sallyport.yaml'),
    `listen: {mcp: "127.0.0.1:0", admin: "127.0.0.1:0", http: "127.0.0.1:0"}
targets:
  service: {protocol: http, base_url: "${origin}", allow_addresses: [127.0.0.1], auth: bearer, credential: {file: secret}, bytes: 100MiB, record: digest}
`,
  )
  const profile = PROFILE === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${path.resolve(PROFILE)}`]
  const { child, pid, doors, token } = await serveGateway(dir, profile)
  children.push(child)
  return { url: doors['http'] ?? '', pid, token }
}
