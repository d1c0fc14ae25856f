import { setTimeout } from 'node:timers/promises'
import express from 'express'
import type { Closers } from './closers.ts'
import type { Config } from './config.ts'
import type { Principal } from './core/principal.ts'
import { createAdmin } from './doors/admin/admin.ts'
import type { KubernetesDoor } from './doors/admin/rooms.ts'
import { mountMcp, MCP_PATH } from './doors/mcp/mount.ts'
import { adminRooms } from './main-admin.ts'
import { doorCertificate, openKubernetes } from './main-kubernetes.ts'
import { openSsh } from './main-ssh.ts'
import type { Building } from './main.ts'
import { describe } from './gateway/describe.ts'
import { govern } from './gateway/gateway.ts'
import { listen, type Listener } from './listen.ts'
import type { Target } from './core/target.ts'
import { createHttpListener, type HttpListenerDeps } from './protocols/http/listener.ts'
import { Slots } from './protocols/http/listener-slots.ts'
import { createUpgradeListener } from './protocols/http/listener-websocket.ts'
import { openPostgresDoor } from './main-postgres.ts'
import type { PostgresOptions } from './protocols/postgres/options.ts'
import { shuttingDown } from './traffic.ts'
import { VERSION } from './version.ts'

/** The open doors. */
export interface Doors {
  readonly urls: {
    readonly mcp: string
    readonly admin: string
    readonly http?: string
    readonly postgres?: string
    readonly ssh?: string
    readonly kubernetes?: string
  }
  reloadTls(): Promise<void>
  /** Refuses new calls and waits until none runs, at most `ms`; then cancels those that still do. */
  drain(ms: number): Promise<void>
}

/** How long answers that are complete may take to be read at the end. */
const GRACE_MS = 1_000

/** How long calls that are cancelled at the end may take to end, and their answers to be written. */
const CANCEL_MS = 6_000
const LAST_WORDS_MS = 200

const LOOPBACK_HOSTS = ['127.0.0.1', 'localhost', '::1']

/** Opens the doors. Their listeners come last, so that nobody is let in before everything stands. */
export async function openDoors(building: Building, closers: Closers): Promise<Doors> {
  const { config, rooms, sessions, identity, approvals, traffic, log } = building
  const targets = new Map(config.targets.map((target) => [target.name, target]))

  const mcpApp = express()
  mcpApp.disable('x-powered-by')
  const mcp = mountMcp(mcpApp, {
    authenticate: (bearer) => identity.authenticate(bearer),
    sessions,
    run: (call) => traffic.count(call, govern(call, rooms)),
    describe: async (call) => {
      if (!traffic.isOpen()) throw shuttingDown()
      return describe(call, rooms)
    },
    target: (name) => targets.get(name),
    targets: (principal) => config.targets.filter((target) => grants(building, principal, target.name).length > 0),
    effectivePolicy: (principal) => effectivePolicy(building, principal),
    inbox: approvals.inbox,
    reissue: (ticket, requester) => approvals.reissue(ticket, requester),
    log,
    allowedHosts: hostsOf(config, config.listen.mcp.host),
    allowedOrigins: config.allowedOrigins.map((origin) => new URL(origin).hostname),
    // A result that nobody reads on must not keep others from the target: half of its connections stay for calls.
    cursorsPerTarget: (target) =>
      target.protocol === 'postgres' ? Math.floor((target.options as PostgresOptions).poolMax / 2) : 0,
    limits: { holdMs: config.approvals.holdMs },
    version: VERSION,
  })
  building.policyListeners.push(() => mcp.policyChanged())

  let kubernetesDoor: KubernetesDoor | undefined
  const admin = createAdmin(
    adminRooms(building, traffic.isOpen, () => kubernetesDoor),
    {
      hosts: [...hostsOf(config, config.listen.admin.host), ...publicHost(config)],
      origins: config.allowedOrigins,
      isTls: config.tls !== undefined,
      ...(config.adminUrl !== undefined && { publicOrigin: config.adminUrl }),
    },
  )

  const mcpListener = await listen('listen.mcp', mcpApp, config.listen.mcp, config.tls)
  closers.add('listen.mcp', () => mcpListener.close(GRACE_MS))
  closers.add('mcp', () => mcp.close())
  const adminListener = await listen('listen.admin', admin.app, config.listen.admin, config.tls)
  closers.add('listen.admin', () => adminListener.close(GRACE_MS))
  closers.add('admin', () => admin.close())

  const http = await openHttp(building, targets, closers)
  const postgres = await openPostgresDoor(building, closers)
  const ssh = await openSsh(building, closers)
  const kubernetes = await openKubernetes(building, targets, closers)
  if (kubernetes !== undefined) {
    const { cert: certificate } = doorCertificate(building.kubernetesSeed)
    kubernetesDoor = { url: kubernetes.url, ...(config.tls === undefined && { certificate }) }
  }

  return {
    urls: {
      mcp: `${mcpListener.url}${MCP_PATH}`,
      admin: adminListener.url,
      ...(http !== undefined && { http: http.url }),
      ...(postgres !== undefined && { postgres: postgres.url }),
      ...(ssh !== undefined && { ssh }),
      ...(kubernetes !== undefined && { kubernetes: kubernetes.url }),
    },
    async reloadTls() {
      await mcpListener.reloadTls()
      await adminListener.reloadTls()
      await http?.reloadTls()
      await postgres?.reloadTls()
      await kubernetes?.reloadTls()
    },
    async drain(ms) {
      postgres?.drain()
      await mcp.endCursors()
      await traffic.drain(ms)
      if (rooms.permits.cancel(() => true, shuttingDown()) === 0) return
      // A cancelled call ends when its backend has ended it; then its client hears why.
      await traffic.drain(CANCEL_MS)
      await setTimeout(LAST_WORDS_MS)
    },
  }
}

/** Opens the HTTP door, when the configuration names a place for it. */
async function openHttp(
  { config, identity, sessions, traffic, rooms, log }: Building,
  targets: ReadonlyMap<string, Target>,
  closers: Closers,
): Promise<Listener | undefined> {
  if (config.listen.http === undefined) return undefined
  const deps: HttpListenerDeps = {
    authenticate: (token) => identity.authenticate(token),
    sessions,
    run: (call) => traffic.count(call, govern(call, rooms)),
    target: (name) => targets.get(name),
    holdMs: config.approvals.holdMs,
    slots: new Slots(),
    onFault: (error) => log.error({ door: 'http', code: error.code, err: error.cause }, error.message),
  }
  const handler = createHttpListener(deps)
  const listener = await listen('listen.http', handler, config.listen.http, config.tls, {
    upgrade: createUpgradeListener(deps),
  })
  closers.add('listen.http', () => listener.close(GRACE_MS))
  return listener
}

/** The names a Host header may carry at a door. */
function hostsOf(config: Config, host: string): string[] {
  return [...LOOPBACK_HOSTS, host.toLowerCase(), ...config.allowedHosts.map((name) => name.toLowerCase())]
}

/** The name under which browsers find the admin door, without the brackets of an IPv6 address. */
function publicHost({ adminUrl }: Config): string[] {
  return adminUrl === undefined ? [] : [new URL(adminUrl).hostname.replaceAll(/[[\]]/gu, '')]
}

function grants(building: Building, principal: Principal, name: string) {
  const target = building.config.targets.find((candidate) => candidate.name === name)
  return target === undefined ? [] : building.policies.current().effectiveFor(principal, target)
}

/** What the caller may do, by target, in words. Targets no rule names the caller for are not told. */
function effectivePolicy(building: Building, principal: Principal): object {
  const policy = building.policies.current()
  return {
    policy: policy.version,
    targets: building.config.targets.flatMap((target) => {
      const may = policy.effectiveFor(principal, target)
      return may.length === 0 ? [] : [{ target: target.name, may }]
    }),
  }
}
