/**
 * `sallyport.yaml`: one schema, composed from each room's own, read once at start.
 *
 * Unknown keys are errors; every mistake is reported at once, with line and column, and none quotes a value. Paths are
 * relative to the file, so that the same file means the same from every directory.
 *
 * @packageDocumentation
 */
import { readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import { parseYaml, YAML_BYTES_MAX, type Mistake } from './config-yaml.ts'
import { SallyportError } from './core/errors.ts'
import type { ProtocolName, RecordDepth, Target } from './core/target.ts'
import { credentialSchema, credentialSource, type CredentialSource } from './credentials/source.ts'
import { PROTOCOL_SETTINGS } from './config-protocols.ts'
import { parseStoreUrl, type StoreAddress } from './store/postgres/address.ts'

/** A place to listen. Port 0 takes a free one. */
export interface ListenAddress {
  readonly host: string
  readonly port: number
}

/** What `start()` needs to know. Holds no secret. */
export interface Config {
  /** The file this came from. */
  readonly file: string
  readonly listen: {
    readonly mcp: ListenAddress
    readonly admin: ListenAddress
    /** The HTTP door; closed when left out. */
    readonly http?: ListenAddress
    /** The PostgreSQL door; absent when there is none. */
    readonly postgres?: PostgresListen
    /** The SSH door; closed when left out. It needs no certificate: the protocol has host keys. */
    readonly ssh?: ListenAddress
    /** The Kubernetes door; closed when left out. It always encrypts: kubectl sends no token otherwise. */
    readonly kubernetes?: ListenAddress
  }
  /** Key and certificate for both doors, as files in PEM. */
  readonly tls?: { readonly keyFile: string; readonly certFile: string }
  /** Names a `Host` header may carry besides those of the addresses themselves. */
  readonly allowedHosts: readonly string[]
  /** Origins of browsers that may call. None by default. */
  readonly allowedOrigins: readonly string[]
  /** Where browsers find the admin door, as an origin. Without it nobody is given a link. */
  readonly adminUrl?: string
  readonly stateDir: string
  /** The store that several instances share. Without it the state is in the state directory. */
  readonly store?: StoreConfig
  readonly recordings: { readonly dir: string; readonly fsync: Fsync }
  readonly policiesDir: string
  readonly targets: readonly Target[]
  readonly credentials: ReadonlyMap<string, CredentialSource>
  readonly approvals: { readonly holdMs: number; readonly pickUpMs: number; readonly webhook?: WebhookConfig }
  readonly log: { readonly level: LogLevel }
}

/** Where people are told that a ticket waits, and where the secret is read that signs it. */
export interface WebhookConfig {
  readonly url: string
  readonly secret: CredentialSource
}

/** Where a shared store is, and where its secrets are read. */
export interface StoreConfig {
  readonly address: StoreAddress
  readonly password: CredentialSource
  /** 32 random bytes in base64, the same on every instance: what is in the store is sealed and signed with keys from it. */
  readonly key: CredentialSource
  /** How old tokens, freezes and the like may be when they are read from memory. */
  readonly staleMaxMs: number
  /** How long calls go on while the store cannot be reached, when nobody could stop them. */
  readonly liveMaxMs: number
}

/** The PostgreSQL door. Times are milliseconds. */
export interface PostgresListen {
  readonly address: ListenAddress
  /** How clients prove who they are: without sending the token, or by sending it over TLS or loopback. */
  readonly auth: 'scram' | 'password'
  readonly connectionsMax: number
  /** Of one principal. */
  readonly connectionsPerPrincipalMax: number
  readonly idleMs: number
  readonly idleInTransactionMs: number
}

/** When entries are forced to the disk itself: each one, those before state-changing and approved calls, or as the system likes. */
export type Fsync = 'always' | 'writes' | 'off'

/** How much the log says. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const SIZE_UNITS: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }

function measure(units: Readonly<Record<string, number>>, example: string, max: number) {
  const pattern = new RegExp(`^(\\d{1,12})(${Object.keys(units).join('|')})$`, 'u')
  return z.string().transform((text, context): number => {
    const [, digits = '', unit = ''] = pattern.exec(text) ?? []
    const value = Number(digits) * (units[unit] ?? Number.NaN)
    if (Number.isFinite(value) && value <= max) return value
    context.addIssue({ code: 'custom', message: `must be a number with a unit, such as ${example}` })
    return z.NEVER
  })
}

const DAY_MS = 86_400_000
const LIVE_MAX_MS = 30_000
const duration = measure(DURATION_UNITS, '45s', 30 * DAY_MS)
const size = measure(SIZE_UNITS, '64KiB', 1024 ** 4)
const text = z.string().min(1)

const address = z.string().transform((value, context): ListenAddress => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s/]+)):(\d{1,5})$/u.exec(value)
  const port = Number(match?.[3] ?? Number.NaN)
  const host = match?.[1] ?? match?.[2]
  if (host !== undefined && port <= 65_535) return { host, port }
  context.addIssue({ code: 'custom', message: 'must be host:port, such as 127.0.0.1:7400' })
  return z.NEVER
})

/** Names stand in policies, file names, metrics and tickets, so they are kept plain. */
const name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/u, 'must be lower-case letters, digits, ".", "_" and "-", at most 63')

const PROTOCOLS = ['postgres', 'ssh', 'kubernetes', 'http'] as const satisfies readonly ProtocolName[]

const record = z.union(
  [z.enum(['full', 'digest']), z.strictObject({ head: size }).transform(({ head }) => ({ headBytes: head }))],
  { error: 'must be full, digest or {head: 64KiB}' },
)

/** What every target has, whatever it speaks. */
const TARGET_KEYS = {
  protocol: z.enum(PROTOCOLS),
  credential: credentialSchema.optional(),
  labels: z.record(z.string().regex(/^[A-Za-z0-9_.-]{1,63}$/u), z.string().max(256)).default({}),
  mode: z.enum(['enforce', 'observe']).default('enforce'),
  record: record.default('full'),
}

const postgresDoorKeys = z.strictObject({
  address,
  auth: z.enum(['scram', 'password']).default('scram'),
  connections: z.int().min(1).max(10_000).default(500),
  connections_per_principal: z.int().min(1).max(10_000).default(100),
  idle: duration.default(8 * 3_600_000),
  idle_in_transaction: duration.default(10 * 60_000),
})

/** `127.0.0.1:7432`, or a mapping that says more. */
const postgresDoor = z.preprocess((value) => (typeof value === 'string' ? { address: value } : value), postgresDoorKeys)

const schema = z.strictObject({
  listen: z
    .strictObject({
      mcp: address.default({ host: '127.0.0.1', port: 7400 }),
      admin: address.default({ host: '127.0.0.1', port: 7401 }),
      http: address.optional(),
      postgres: postgresDoor.optional(),
      ssh: address.optional(),
      kubernetes: address.optional(),
      tls: z.strictObject({ key: text, cert: text }).optional(),
    })
    .prefault({}),
  allowed_hosts: z.array(z.string().regex(/^[A-Za-z0-9._-]+$/u, 'must be a host name without port')).default([]),
  allowed_origins: z
    .array(z.string().regex(/^https?:\/\/[^/\s]+$/u, 'must be an origin, such as https://app.example'))
    .default([]),
  // Over plain HTTP everybody on the way could answer in the name of whoever is signed in.
  admin_url: z
    .string()
    .refine(isPlainOrigin, 'must be an https origin without path, such as https://approve.example (http on loopback)')
    .optional(),
  state: text.default('.sallyport'),
  store: z
    .strictObject({
      url: text.optional(),
      password: credentialSchema.optional(),
      key: credentialSchema.optional(),
      stale_max: duration.refine((ms) => ms >= 100 && ms <= 60_000, 'must be between 100ms and 60s').default(1_000),
      live_max: duration.refine((ms) => ms >= 1_000, 'must be at least 1s').default(LIVE_MAX_MS),
    })
    .optional(),
  recordings: z
    .strictObject({ dir: text.default('recordings'), fsync: z.enum(['always', 'writes', 'off']).default('writes') })
    .prefault({}),
  policies: text.default('policies'),
  targets: z.record(name, z.looseObject(TARGET_KEYS)).default({}),
  approvals: z
    .strictObject({
      hold: duration.default(45_000),
      pick_up: duration.default(3_600_000),
      webhook: z
        .strictObject({
          // Over plain HTTP everybody on the way would know what is asked, and could hold it back.
          url: z.string().refine(isWebhookUrl, 'must be an https URL without user and password (http on loopback)'),
          secret: credentialSchema,
        })
        .optional(),
    })
    .prefault({}),
  log: z.strictObject({ level: z.enum(['debug', 'info', 'warn', 'error']).default('info') }).prefault({}),
})

/**
 * Reads and checks a configuration file.
 *
 * @throws SallyportError `ERR_CONFIG_INVALID`, whose message has one line per mistake: `file:line:column: what`.
 */
export function loadConfig(file: string, overrides: ConfigOverrides = {}): Config {
  const absolute = path.resolve(file)
  let content: string
  try {
    if (statSync(absolute).size > YAML_BYTES_MAX) throw invalid(`${file} is larger than ${YAML_BYTES_MAX} bytes`)
    content = readFileSync(absolute, 'utf8')
  } catch (error) {
    if (error instanceof SallyportError) throw error
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
    throw invalid(
      code === 'ENOENT'
        ? `There is no ${file}; "sallyport init" writes one, --config names another.`
        : `${file} cannot be read (${code}).`,
    )
  }
  return parseConfig(content, absolute, file, overrides)
}

/** What the command line says instead of the file. */
export interface ConfigOverrides {
  /** `store.url`. */
  readonly store?: string | undefined
}

/**
 * Checks the text of a configuration file.
 *
 * @param file where the text stands: its directory is what relative paths start from.
 * @param shownAs how messages name it.
 * @throws SallyportError `ERR_CONFIG_INVALID`.
 */
export function parseConfig(
  content: string,
  file: string,
  shownAs: string = file,
  overrides: ConfigOverrides = {},
): Config {
  const parsed = parseYaml(content)
  if ('mistakes' in parsed) throw invalid(listed(shownAs, parsed.mistakes))
  const raw: unknown = parsed.file.value ?? {}
  const checked = schema.safeParse(raw)
  const targets = checkTargets(raw)
  const issues = [...(checked.error?.issues ?? []), ...targets.issues]
  if (checked.success) issues.push(...checkListening(checked.data), ...checkStore(checked.data))
  if (!checked.success || issues.length > 0) throw invalid(listed(shownAs, parsed.file.mistakes(issues)))
  return build(checked.data, targets.options, file, overrides)
}

type Checked = z.output<typeof schema>
type Issue = z.core.$ZodIssue

function build(data: Checked, options: ReadonlyMap<string, unknown>, file: string, overrides: ConfigOverrides): Config {
  const dir = path.dirname(file)
  const resolve = (relative: string): string => path.resolve(dir, relative)
  const entries = Object.entries(data.targets)
  const storeUrl = overrides.store ?? data.store?.url
  return {
    file,
    listen: {
      mcp: data.listen.mcp,
      admin: data.listen.admin,
      ...(data.listen.http !== undefined && { http: data.listen.http }),
      ...(data.listen.postgres !== undefined && { postgres: postgresListen(data.listen.postgres) }),
      ...(data.listen.ssh !== undefined && { ssh: data.listen.ssh }),
      ...(data.listen.kubernetes !== undefined && { kubernetes: data.listen.kubernetes }),
    },
    ...(data.listen.tls !== undefined && {
      tls: { keyFile: resolve(data.listen.tls.key), certFile: resolve(data.listen.tls.cert) },
    }),
    allowedHosts: data.allowed_hosts,
    allowedOrigins: data.allowed_origins,
    ...(data.admin_url !== undefined && { adminUrl: new URL(data.admin_url).origin }),
    stateDir: resolve(data.state),
    ...(storeUrl !== undefined && { store: storeOf(storeUrl, data.store, resolve, dir) }),
    recordings: { dir: resolve(data.recordings.dir), fsync: data.recordings.fsync },
    policiesDir: resolve(data.policies),
    targets: entries.map(([targetName, target]) => {
      const settings = PROTOCOL_SETTINGS[target.protocol]?.finish(options.get(targetName), resolve)
      return {
        name: targetName,
        protocol: target.protocol,
        labels: target.labels,
        mode: target.mode,
        record: target.record satisfies RecordDepth,
        endpoint: settings?.endpoint ?? '',
        options: settings?.options,
      }
    }),
    credentials: new Map(entries.map(([key, { credential }]) => [key, credentialSource(credential, resolve, dir)])),
    approvals: {
      holdMs: data.approvals.hold,
      pickUpMs: data.approvals.pick_up,
      ...(data.approvals.webhook !== undefined && {
        webhook: {
          url: data.approvals.webhook.url,
          secret: credentialSource(data.approvals.webhook.secret, resolve, dir),
        },
      }),
    },
    log: data.log,
  }
}

/** Secrets that the file does not place come from the environment, so that `--store` alone is enough in a container. */
function storeOf(
  url: string,
  store: Checked['store'],
  resolve: (relative: string) => string,
  dir: string,
): StoreConfig {
  const fromEnv = (name: string): CredentialSource => ({ kind: 'env', name })
  const { password, key, stale_max: staleMaxMs = 1_000, live_max: liveMaxMs = LIVE_MAX_MS } = store ?? {}
  return {
    address: parseStoreUrl(url, resolve),
    password: password === undefined ? fromEnv('SALLYPORT_STORE_PASSWORD') : credentialSource(password, resolve, dir),
    key: key === undefined ? fromEnv('SALLYPORT_STORE_KEY') : credentialSource(key, resolve, dir),
    staleMaxMs,
    liveMaxMs,
  }
}

function postgresListen(door: z.output<typeof postgresDoorKeys>): PostgresListen {
  return {
    address: door.address,
    auth: door.auth,
    connectionsMax: door.connections,
    connectionsPerPrincipalMax: door.connections_per_principal,
    idleMs: door.idle,
    idleInTransactionMs: door.idle_in_transaction,
  }
}

/** Checks each target's own settings with its protocol's schema. Looks at the raw value, so that all mistakes come at once. */
function checkTargets(raw: unknown): { readonly options: ReadonlyMap<string, unknown>; readonly issues: Issue[] } {
  const options = new Map<string, unknown>()
  const issues: Issue[] = []
  for (const [targetName, target] of Object.entries(mapping(mapping(raw)['targets']))) {
    const at = ['targets', targetName]
    const protocol = PROTOCOLS.find((known) => known === mapping(target)['protocol'])
    if (protocol === undefined) continue
    const settings = PROTOCOL_SETTINGS[protocol]
    if (settings === undefined) {
      issues.push(issue([...at, 'protocol'], `${protocol} is not served by this version`))
      continue
    }
    const own = Object.fromEntries(Object.entries(mapping(target)).filter(([key]) => !Object.hasOwn(TARGET_KEYS, key)))
    const checked = settings.schema.safeParse(own)
    if (checked.success) options.set(targetName, checked.data)
    else issues.push(...checked.error.issues.map((found) => ({ ...found, path: [...at, ...found.path] })))
  }
  return { options, issues }
}

function checkStore({ store }: Checked): Issue[] {
  if (store?.url === undefined) return []
  try {
    parseStoreUrl(store.url)
    return []
  } catch (error) {
    return [issue(['store', 'url'], SallyportError.from(error).message)]
  }
}

function checkListening(data: Checked): Issue[] {
  const issues: Issue[] = []
  const { postgres, kubernetes } = data.listen
  for (const [door, host] of [
    ['postgres', postgres?.address.host],
    ['kubernetes', kubernetes?.host],
  ] as const) {
    if (host === undefined || isLoopback(host) || data.listen.tls !== undefined) continue
    // Fail closed: a certificate nobody can check lets anybody in between.
    issues.push(issue(['listen', door], 'is reachable from other machines and so needs listen.tls with key and cert'))
  }
  for (const door of ['mcp', 'admin', 'http'] as const) {
    const host = data.listen[door]?.host
    if (host === undefined) continue
    if (!isLoopback(host) && data.listen.tls === undefined) {
      // Fail closed: bearer tokens and results would cross the network in the clear.
      issues.push(issue(['listen', door], 'is reachable from other machines and so needs listen.tls with key and cert'))
    }
    // The HTTP door needs a token in a header no page can make a browser send.
    if (door !== 'http' && isWildcard(host) && data.allowed_hosts.length === 0) {
      issues.push(
        issue(['listen', door], 'listens on every address, so allowed_hosts must name the hosts it answers to'),
      )
    }
  }
  return issues
}

function isWebhookUrl(value: string): boolean {
  if (!URL.canParse(value)) return false
  const { protocol, hostname, username, password } = new URL(value)
  if (username !== '' || password !== '') return false
  return protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname.replace(/^\[|\]$/gu, '')))
}

/** Whether it is an origin, with or without the slash that people write after one. */
function isPlainOrigin(value: string): boolean {
  return isWebhookUrl(value) && /^https?:\/\/[^/?#\s]+\/?$/u.test(value)
}

/** Whether only this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(?:\.\d{1,3}){3}$/u.test(host)
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || /^[0:]+$/u.test(host)
}

function mapping(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}

function issue(at: readonly PropertyKey[], message: string): Issue {
  return { code: 'custom', path: [...at], message, input: undefined }
}

function listed(file: string, mistakes: readonly Mistake[]): string {
  const lines = mistakes
    .toSorted((a, b) => a.line - b.line || a.column - b.column)
    .map(({ line, column, message }) => `${file}:${line}:${column}: ${message}`)
  return lines.length === 1 ? (lines[0] ?? '') : `${file} has ${lines.length} mistakes:\n${lines.join('\n')}`
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_CONFIG_INVALID', message)
}
