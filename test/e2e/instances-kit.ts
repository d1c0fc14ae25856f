/**
 * Several gateways as processes of their own, over one PostgreSQL store, behind a proxy that hands each connection to the
 * next of them. The wire to the store can be cut.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { adminClient, type AdminClient } from '../../src/cli/admin-client.ts'
import { layCable } from '../services/cable.ts'
import { createDatabase, type TestDatabase } from '../services/postgres.ts'

const CLI = fileURLToPath(new URL('../../dist/src/cli.js', import.meta.url))
const START_MS = 150_000

/** One gateway of several. */
export interface Instance {
  readonly dir: string
  mcpUrl: string
  adminUrl: string
  log: string
  isUp(): boolean
  start(): Promise<void>
  kill(): Promise<void>
  /** Stops its process where it stands (SIGSTOP), and lets it go on. */
  pause(): void
  resume(): void
}

/** Instances, their store and their target. Whoever opens it closes it. */
export interface Cluster {
  readonly instances: readonly Instance[]
  /** The proxy before all of them. */
  readonly url: string
  readonly target: TestDatabase
  readonly operatorToken: string
  admin(token: string, instance?: Instance): AdminClient
  token(principal: {
    principal: string
    kind: string
    owner: string
    groups?: string[]
    roles: string[]
  }): Promise<string>
  /** Breaks every connection between the instances and their store. */
  cutStore(): void
  /** Refuses new ones too, until it is called with `false`. */
  blockStore(isBlocked: boolean): void
  setPolicy(instance: Instance, text: string): Promise<void>
  close(): Promise<void>
}

/** @param options.schema SQL of the target, `grants` with `$role` for the account of the gateways. */
export async function openCluster(options: {
  readonly count: number
  readonly schema: string
  readonly grants: string
  readonly policy: string
}): Promise<Cluster> {
  if (!existsSync(CLI)) throw new Error('There is no build. Run: npm run build')
  const root = await mkdtemp(path.join(tmpdir(), 'sallyport-instances-'))
  const store = await createDatabase('')
  const target = await createDatabase(options.schema)
  const role = await target.role(options.grants)
  const wire = await layCable(() => store.port)
  const secrets = { SALLYPORT_STORE_PASSWORD: store.password, SALLYPORT_STORE_KEY: randomBytes(32).toString('base64') }
  const url = `postgres://${store.user}@127.0.0.1:${wire.port}/${store.name}?sslmode=disable`

  const instances: Instance[] = []
  for (let n = 0; n < options.count; n++) {
    const dir = path.join(root, `i${n}`)
    await mkdir(path.join(dir, 'policies'), { recursive: true })
    await writeFile(path.join(dir, 'policies', 'policy.yaml'), options.policy)
    await writeFile(path.join(dir, 'db.password'), role.password, { mode: 0o600 })
    await writeFile(
      path.join(dir, 'sallyport.yaml'),
      `listen: {mcp: "127.0.0.1:0", admin: "127.0.0.1:0"}
targets:
  db: {protocol: postgres, host: ${target.host}, port: ${target.port}, database: ${target.name}, tls: disable, connect_timeout: 60s, credential: {user: ${role.user}, file: db.password}}
approvals: {hold: 200ms}
`,
    )
    instances.push(instanceAt(dir, url, secrets))
  }
  const [first] = instances
  if (first === undefined) throw new Error('at least one instance')
  let turn = 0
  const proxy = await layCable(() => {
    // Round robin over those that are up, as a load balancer with a health check does it.
    const up = instances.filter((instance) => instance.isUp())
    return portOf(up[turn++ % up.length]?.mcpUrl ?? first.mcpUrl)
  })

  const cluster: Cluster = {
    instances,
    get url() {
      return `http://127.0.0.1:${proxy.port}/mcp`
    },
    target,
    operatorToken: '',
    admin: (token, instance = first) => adminClient(instance.adminUrl, token),
    async token(principal) {
      const made = await cluster
        .admin(cluster.operatorToken)
        .post<{ token: string }>('/v1/tokens', { expires_in_ms: 86_400_000, ...principal })
      return made.token
    },
    cutStore: () => wire.cut(),
    blockStore: (isBlocked) => wire.block(isBlocked),
    setPolicy: (instance, text) => writeFile(path.join(instance.dir, 'policies', 'policy.yaml'), text),
    async close() {
      await Promise.allSettled(instances.map((instance) => instance.kill()))
      wire.close()
      proxy.close()
      await target.drop()
      await store.drop()
      await rm(root, { recursive: true, force: true })
    },
  }
  try {
    const made = await run(first.dir, ['operator', 'olga', '--json', '--store', url], secrets)
    Object.assign(cluster, { operatorToken: (JSON.parse(made) as { token: string }).token })
    for (const instance of instances) await instance.start()
    return cluster
  } catch (error) {
    await cluster.close()
    throw error
  }
}

function instanceAt(dir: string, url: string, secrets: Readonly<Record<string, string>>): Instance {
  let child: ChildProcess | undefined
  let isOpen = false
  const instance: Instance = {
    dir,
    mcpUrl: '',
    adminUrl: '',
    log: '',
    isUp: () => isOpen,
    async start() {
      const started = spawn(process.execPath, [CLI, 'serve', '--store', url], {
        cwd: dir,
        env: { PATH: process.env['PATH'], HOME: '/nonexistent', ...secrets },
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      child = started
      started.once('exit', () => (isOpen = false))
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no door opened:\n${instance.log}`)), START_MS)
        started.once('exit', (code) => {
          clearTimeout(timer)
          reject(new Error(`an instance ended with ${code}:\n${instance.log}`))
        })
        createInterface(started.stderr).on('line', (line) => {
          instance.log += `${line}\n`
          const { mcp, admin } = line.includes('the doors are open')
            ? (JSON.parse(line) as { mcp?: string; admin?: string })
            : {}
          if (mcp === undefined || admin === undefined) return
          instance.mcpUrl = mcp
          instance.adminUrl = admin
          isOpen = true
          clearTimeout(timer)
          resolve()
        })
      })
    },
    pause: () => child?.kill('SIGSTOP'),
    resume: () => child?.kill('SIGCONT'),
    async kill() {
      isOpen = false
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    },
  }
  return instance
}

async function run(cwd: string, args: readonly string[], env: Readonly<Record<string, string>>): Promise<string> {
  const child = spawn(process.execPath, [CLI, ...args], {
    cwd,
    env: { PATH: process.env['PATH'], HOME: '/nonexistent', ...env },
  })
  let said = ''
  let failed = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (failed += text))
  child.stdin.end()
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  if (code !== 0) throw new Error(`${args[0]} ended with ${signal ?? code}: ${failed}${said}`)
  return said
}

function portOf(url: string): number {
  return Number(new URL(url).port)
}
