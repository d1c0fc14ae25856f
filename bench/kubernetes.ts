/**
 * What the Kubernetes door costs, before a real API server: one object and a list as raw requests, and `kubectl get` as a
 * whole process, each beside the same directly at the same server, rounds interleaved in one run; then a list of many
 * objects and a watch of many changes, with the CPU and the peak of the memory they take in the gateway. Masks and
 * recording are on.
 *
 * Beside them the least a proxy on Node can do that speaks TLS on both sides, which says how much of a distance is Node's
 * own and the second connection's.
 */
import { fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { Pool } from 'undici'
import { selfSigned } from '../src/self-signed.ts'
import { openKube, type TestKube } from '../test/services/kube.ts'
import { end, serveGateway } from './gateway.ts'
import { cpuMs, percentile, round, summary, type Round } from './measure.ts'

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 7)
const CALLS = Number(process.env['BENCH_CALLS'] ?? 100)
const OBJECTS = Number(process.env['BENCH_OBJECTS'] ?? 10_000)
const CHANGES = Number(process.env['BENCH_CHANGES'] ?? 1_000)
/** A folder for a CPU profile of the gateway (`node --cpu-prof`). */
const PROFILE = process.env['BENCH_PROFILE']
const LOADS = (process.env['BENCH_LOADS'] ?? 'small,kubectl,many').split(',')

const POLICY = `
targets: [cluster]
rules:
  - {id: ask-around, effect: allow, principals: [group:agents], actions: ["bundle:k8s.discovery"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [k8s.get, k8s.list, k8s.watch], resources: ["**"], limits: {bytes: 64MiB}}
masks:
  - {detect: [email, credit_card, jwt, private_key], transform: redact}
`

interface Lane {
  readonly name: 'direct' | 'node' | 'sallyport'
  readonly pool: Pool
  readonly prefix: string
  readonly token: string
  readonly pid: number
  readonly kubeconfig: string
}

if (process.argv[2] === undefined) await main()
else await proxyTo(process.argv[2])

/** The least a proxy can do, as a process of its own: no policy, no recording, no look at a byte. */
async function proxyTo(origin: string): Promise<void> {
  const pool = new Pool(origin, { connections: 64, connect: { rejectUnauthorized: false } })
  const { key, cert } = selfSigned(['localhost'])
  const server = createServer({ key, cert }, (request, response) => {
    const { authorization = '', accept = '*/*' } = request.headers
    const asked = { path: request.url ?? '/', method: 'GET', headers: { authorization, accept }, opaque: response }
    void pool
      .stream(asked, ({ statusCode, headers }) => response.writeHead(statusCode, headers))
      .catch(() => response.destroy())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.send?.((server.address() as AddressInfo).port)
}

async function main(): Promise<void> {
  const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-bench-kube-'))
  const kube = await openKube()
  const children: ChildProcess[] = []
  const pools: Pool[] = []
  try {
    await fill(kube, 'small', 'configmaps', 100)
    const gateway = await governed(dir, kube, children)
    const proxy = fork(fileURLToPath(import.meta.url), [kube.server], { execArgv: ['--import', 'tsx'] })
    children.push(proxy)
    const [bare] = (await once(proxy, 'message')) as [number]
    const lane = (name: Lane['name'], url: string, prefix: string, token: string, pid: number): Lane => {
      const pool = new Pool(new URL(url).origin, { connections: 4, connect: { rejectUnauthorized: false } })
      pools.push(pool)
      const kubeconfig = path.join(dir, `${name}.kubeconfig`)
      writeFileSync(kubeconfig, kubeconfigOf(`${new URL(url).origin}${prefix}`, token))
      return { name, pool, prefix, token, pid, kubeconfig }
    }
    const lanes = [
      lane('direct', kube.server, '', kube.token, process.pid),
      lane('node', `https://127.0.0.1:${bare}`, '', kube.token, proxy.pid ?? 0),
      lane('sallyport', gateway.url, '/cluster', gateway.token, gateway.pid),
    ] as const
    if (LOADS.includes('small')) {
      const at = '/api/v1/namespaces/small/configmaps'
      await compare('raw GET of one object', lanes, (one) => get(one, `${at}/o-1`, 100))
      await compare('raw list of 100 objects', lanes, (one) => get(one, at, 20_000))
    }
    if (LOADS.includes('kubectl')) {
      await compare('kubectl get of 100 objects, the whole process', lanes, kubectl, 5)
    }
    if (LOADS.includes('many')) {
      await fill(kube, 'many', 'configmaps', OBJECTS)
      await fill(kube, 'changes', 'secrets', CHANGES)
      const list = '/api/v1/namespaces/many/configmaps'
      await load(`list of ${OBJECTS} objects`, lanes, (one) => get(one, list, OBJECTS * 200))
      // Without a version to begin at, a watch tells of each object that is there as a change.
      const watch = '/api/v1/namespaces/changes/secrets?watch=true'
      await load(`watch of ${CHANGES} changes`, lanes, (one) => lines(one, watch, CHANGES))
    }
  } finally {
    await Promise.all(pools.map((pool) => pool.destroy()))
    for (const child of children) await end(child)
    await kube.close()
    await rm(dir, { recursive: true, force: true })
  }
}

/** Interleaves rounds of one small request, and prints the ratio of what one takes. */
async function compare(
  what: string,
  lanes: readonly Lane[],
  run: (lane: Lane) => Promise<void>,
  calls = CALLS,
): Promise<void> {
  const rounds = new Map<string, Round[]>(lanes.map(({ name }) => [name, []]))
  for (let index = -1; index < ROUNDS; index++) {
    for (const lane of lanes) {
      const one = await round(() => run(lane), { calls, concurrency: 1, pid: lane.pid })
      // The first round only warms up.
      if (index >= 0) rounds.get(lane.name)?.push(one)
    }
  }
  console.log(`${what}: ${ROUNDS} rounds of ${calls}; medians of rounds`)
  for (const { name } of lanes) {
    const { p50, p99, cpu } = summary(rounds.get(name) ?? [])
    const own = name === 'direct' ? '' : `, CPU of its process ${cpu.toFixed(2)} ms`
    console.log(`${name.padEnd(10)} p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms${own}`)
  }
  // Rounds that ran one after the other met the same noise.
  const medians = (name: Lane['name']): readonly number[] =>
    (rounds.get(name) ?? []).map(({ latenciesMs }) => percentile(latenciesMs, 0.5))
  const ratio = (of: Lane['name'], to: Lane['name']): string => {
    const base = medians(to)
    return percentile(
      medians(of).map((value, index) => value / (base[index] ?? value)),
      0.5,
    ).toFixed(2)
  }
  console.log(`sallyport ÷ direct, p50: ${ratio('sallyport', 'direct')} (goal: at most 1.30)`)
  console.log(`of which node ÷ direct: ${ratio('node', 'direct')}, sallyport ÷ node: ${ratio('sallyport', 'node')}\n`)
}

/** Runs one large request several times, and prints what it takes in the gateway. */
async function load(what: string, lanes: readonly Lane[], run: (lane: Lane) => Promise<void>): Promise<void> {
  const seconds = new Map<string, number[]>(lanes.map(({ name }) => [name, []]))
  const spent = new Map<string, number[]>(lanes.map(({ name }) => [name, []]))
  const peaks = new Map<string, number[]>(lanes.map(({ name }) => [name, []]))
  for (let index = -1; index < 3; index++) {
    for (const lane of lanes) {
      const isOurs = lane.name === 'direct'
      if (!isOurs) forgetPeak(lane.pid)
      const [before, cpu, started] = [memoryMiB(lane.pid, 'VmRSS'), cpuMs(lane.pid), performance.now()]
      await run(lane)
      if (index < 0) continue
      seconds.get(lane.name)?.push((performance.now() - started) / 1000)
      if (isOurs) continue
      spent.get(lane.name)?.push(cpuMs(lane.pid) - cpu)
      peaks.get(lane.name)?.push(memoryMiB(lane.pid, 'VmHWM') - before)
    }
  }
  const median = (name: string): number => percentile(seconds.get(name) ?? [], 0.5)
  const direct = median('direct')
  console.log(`${what}: direct ${direct.toFixed(2)} s`)
  for (const { name } of lanes.slice(1)) {
    const [taken, cpu] = [median(name), percentile(spent.get(name) ?? [], 0.5)]
    const peak = Math.max(...(peaks.get(name) ?? []))
    console.log(
      `${name.padEnd(10)} ${taken.toFixed(2)} s (${(taken / direct).toFixed(2)}×), ${cpu.toFixed(0)} ms of CPU, ${peak.toFixed(0)} MiB above what it had before`,
    )
  }
  console.log('')
}

async function ask({ pool, prefix, token }: Lane, place: string) {
  const headers = { authorization: `Bearer ${token}`, accept: 'application/json' }
  const answer = await pool.request({ path: `${prefix}${place}`, method: 'GET', headers })
  if (answer.statusCode !== 200) throw new Error(`${place}: ${answer.statusCode} ${await answer.body.text()}`)
  return answer.body
}

async function get(lane: Lane, place: string, bytesMin: number): Promise<void> {
  let bytes = 0
  for await (const piece of await ask(lane, place)) bytes += (piece as Buffer).length
  if (bytes < bytesMin) throw new Error(`${place} answered with ${bytes} bytes`)
}

/** Reads so many lines, and leaves. */
async function lines(lane: Lane, place: string, wanted: number): Promise<void> {
  const body = await ask(lane, place)
  let seen = 0
  try {
    for await (const piece of body) {
      for (const byte of piece as Buffer) if (byte === 0x0a) seen++
      if (seen >= wanted) return
    }
  } finally {
    body.on('error', () => undefined).destroy()
  }
  throw new Error(`${place} ended after ${seen} lines`)
}

async function kubectl({ kubeconfig }: Lane): Promise<void> {
  const args = ['--kubeconfig', kubeconfig, '--cache-dir', `${kubeconfig}.cache`, 'get', 'configmaps', '-n', 'small']
  const child = spawn('kubectl', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const [code] = (await once(child, 'close')) as [number]
  if (code !== 0) throw new Error(`kubectl ended with ${code}`)
}

/** Makes a namespace with so many objects. */
async function fill({ api }: TestKube, namespace: string, plural: string, count: number): Promise<void> {
  await api('POST', '/api/v1/namespaces', { metadata: { name: namespace } })
  let left = count
  const make = async (): Promise<void> => {
    while (left > 0) {
      const name = `o-${left--}`
      const value = `the value of ${name}, as long as such values are, from ada@example.com`
      const data = plural === 'secrets' ? { stringData: { value } } : { data: { value } }
      const { status } = await api('POST', `/api/v1/namespaces/${namespace}/${plural}`, { metadata: { name }, ...data })
      if (status !== 201) throw new Error(`${namespace}/${name}: ${status}`)
    }
  }
  await Promise.all(Array.from({ length: 16 }, make))
}

function kubeconfigOf(server: string, token: string): string {
  return `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "${server}", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: "${token}"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`
}

/** Memory of a process (proc(5), `VmRSS` now and `VmHWM` at its peak). */
function memoryMiB(pid: number, which: 'VmRSS' | 'VmHWM'): number {
  const [, kilobytes = '0'] =
    new RegExp(`${which}:\\s+(\\d+)`, 'u').exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kilobytes) / 1024
}

/** Lets the peak begin anew (proc(5), `clear_refs`). */
function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
}

async function governed(dir: string, kube: TestKube, children: ChildProcess[]) {
  await mkdir(path.join(dir, 'policies'))
  await writeFile(path.join(dir, 'policies', 'bench.yaml'), POLICY)
  await writeFile(path.join(dir, 'kube.token'), kube.token, { mode: 0o600 })
  await copyFile(kube.caFile, path.join(dir, 'kube-ca.crt'))
  await writeFile(
    path.join(dir, 'sallyport.yaml'),
    `listen: {mcp: "127.0.0.1:0", admin: "127.0.0.1:0", kubernetes: "127.0.0.1:0"}
targets:
  cluster: {protocol: kubernetes, server: "${kube.server}", tls: {ca: kube-ca.crt}, auth: token, credential: {file: kube.token}, bytes: 64MiB}
`,
  )
  const profile = PROFILE === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${path.resolve(PROFILE)}`]
  const { child, pid, doors, token } = await serveGateway(dir, profile)
  children.push(child)
  return { url: doors['kubernetes'] ?? '', pid, token }
}
