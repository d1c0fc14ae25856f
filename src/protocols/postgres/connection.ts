/**
 * One connection to a backend, its session pinned and watched (C7).
 *
 * `pg` makes the connection, speaks TLS and proves our password; everything after that is an {@link Exchange}. The
 * settings that decide what SQL text means are startup parameters: they outrank what `ALTER ROLE … SET` and
 * `ALTER DATABASE … SET` say, and RESET returns to them. They are checked once connected and again in every call.
 *
 * @packageDocumentation
 */
import { readFile } from 'node:fs/promises'
import { Client, Connection, type ClientConfig } from 'pg'
import type { Socket } from 'node:net'
import { checkServerIdentity, type ConnectionOptions, type PeerCertificate } from 'node:tls'
import type { Secret } from '../../core/call.ts'
import type { Cell } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { connectFailure, type BackendReport } from './errors.ts'
import { Exchange, type Outcome, type Step, type TransactionStatus } from './exchange.ts'
import type { PostgresOptions } from './options.ts'
import { pinnedSettings, searchPathOf } from './pins.ts'

/** Where to connect and what to call it in messages. */
export interface Upstream {
  /** The target's name. */
  readonly target: string
  readonly options: PostgresOptions
}

/** A message larger than this ends the connection: the parser would have to hold all of it. */
const MESSAGE_BYTES_MAX = 16 * 1024 ** 2
/** How long a backend may take to end a cancelled statement before the connection is given up without it. */
const CANCEL_TIMEOUT_MS = 5_000

/** A pinned connection. Its owner closes it; after any doubt it is destroyed, never used again. */
export class UpstreamConnection {
  readonly target: string
  /** Set once the connection must not be used again; says why. */
  broken: unknown
  /** Resolves when the connection is closed, whoever closed it. */
  readonly ended: Promise<void>
  readonly #options: PostgresOptions
  readonly #client: Client
  readonly #connection: Connection
  readonly #ssl: ConnectionOptions | false
  readonly #pins: Readonly<Record<string, string>>
  #status: TransactionStatus = 'I'
  #exchange: Exchange | undefined
  #isCancelled = false
  #backend: { readonly processID: number; readonly secretKey: number } | undefined
  #onNotice: ((report: BackendReport) => void) | undefined
  readonly #reported = new Map<string, string>()
  #mayMove = false

  /**
   * Connects, proves our password, pins the session and checks that it is as pinned.
   *
   * @param settings further start-up settings; one that is named here is neither pinned nor watched.
   * @throws SallyportError `ERR_UPSTREAM_UNREACHABLE`, `ERR_UPSTREAM_AUTH`, `ERR_CREDENTIAL_MISSING`, or the reason of
   * `signal`.
   */
  static async open(
    upstream: Upstream,
    secret: Secret,
    signal: AbortSignal,
    settings: Readonly<Record<string, string>> = {},
    unpinned: readonly string[] = [],
  ): Promise<UpstreamConnection> {
    signal.throwIfAborted()
    const ssl = await tlsOptions(upstream)
    const opened = new UpstreamConnection(upstream, secret, ssl, settings, unpinned)
    const abort = (): void => opened.destroy(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    try {
      await opened.#client.connect()
      opened.#watch()
      await opened.#check()
      return opened
    } catch (error) {
      opened.destroy(error)
      if (signal.aborted) throw signal.reason
      throw connectFailure(upstream.target, error)
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  private constructor(
    { target, options }: Upstream,
    secret: Secret,
    ssl: ConnectionOptions | false,
    settings: Readonly<Record<string, string>>,
    unpinned: readonly string[],
  ) {
    this.target = target
    this.#options = options
    this.#ssl = ssl
    const given = new Set([...Object.keys(settings), ...unpinned].map((name) => name.toLowerCase()))
    this.#pins = Object.fromEntries(
      Object.entries(pinnedSettings(options)).filter(([name]) => !given.has(name.toLowerCase())),
    )
    this.#connection = new Connection({ ssl, keepAlive: true })
    // Every value is given: what is left out, `pg` would take from PG* variables of our own environment.
    const config: ClientConfig & { readonly connection: Connection; readonly replication: false } = {
      connection: this.#connection,
      replication: false,
      host: options.host,
      port: options.port,
      database: options.database,
      user: userOf(target, secret),
      password: () => secret.value,
      ssl,
      sslnegotiation: 'postgres',
      client_encoding: 'UTF8',
      application_name: 'sallyport',
      connectionTimeoutMillis: options.connectTimeoutMs,
      options: startupOptions({
        ...this.#pins,
        statement_timeout: String(options.statementTimeoutMs),
        ...settings,
      }),
    }
    this.#client = new Client(config)
    this.ended = new Promise((resolve) => this.#connection.once('end', resolve))
    this.#client.on('error', (error: unknown) => this.#lose(error))
    this.#client.on('notice', (report: BackendReport) => this.#onNotice?.(report))
    this.#connection.on('end', () => this.#lose(new Error('The connection was closed by the server.')))
    this.#connection.on('backendKeyData', (key: { processID: number; secretKey: number }) => (this.#backend = key))
    this.#connection.on('parameterStatus', (report: { parameterName: string; parameterValue: string }) => {
      this.#reported.set(report.parameterName, report.parameterValue)
    })
    this.#connection.on('noData', () => this.#exchange?.noData())
    this.#connection.on('readyForQuery', ({ status }: { status: TransactionStatus }) => this.#ready(status))
    for (const event of ['copyInResponse', 'copyOutResponse', 'copyBothResponse']) {
      this.#connection.on(event, () => this.destroy(copyRefused()))
    }
  }

  /** Whether the backend is in no transaction and the connection is sound. */
  get isIdle(): boolean {
    return this.broken === undefined && this.#status === 'I' && this.#exchange === undefined
  }

  /** Whether an exchange is under way. */
  get isBusy(): boolean {
    return this.#exchange !== undefined
  }

  /** Whether a transaction is open, or failed and waits for its ROLLBACK. */
  get isInTransaction(): boolean {
    return this.broken === undefined && this.#status !== 'I'
  }

  /** Runs a script. Never throws; one at a time. */
  async run(script: readonly Step[], onNotice?: (report: BackendReport) => void): Promise<Outcome> {
    if (this.broken !== undefined) return { kind: 'lost', cause: this.broken, answered: 0 }
    if (this.#exchange !== undefined) throw new TypeError('A connection runs one exchange at a time.')
    const exchange = new Exchange(script)
    this.#exchange = exchange
    this.#onNotice = onNotice
    this.#client.query(exchange)
    const outcome = await exchange.outcome
    this.#exchange = undefined
    this.#onNotice = undefined
    if (this.broken === undefined || outcome.kind === 'lost') return outcome
    // A setting that differs now differed while the exchange ran: what it did is in doubt.
    return { kind: 'lost', cause: this.broken, answered: script.length }
  }

  /**
   * Runs one statement of ours whose result is small.
   *
   * @throws the backend's report as it is, or the cause of the loss.
   */
  async query(sql: string, params: readonly (string | null)[] = []): Promise<Cell[][]> {
    const rows: Cell[][] = []
    const outcome = await this.run([{ do: 'run', sql, params, onRow: (cells) => rows.push(cells) }])
    if (outcome.failure !== undefined) throw outcome.failure.report
    if (outcome.kind === 'lost') throw outcome.cause
    return rows
  }

  /** Settings may become others from here on. Whoever calls this gives the connection up when it is done. */
  letMove(): void {
    this.#mayMove = true
  }

  /** Stops reading from the backend, so that it stops sending. Not while a cancelled statement is to come to its end. */
  pause(): void {
    if (!this.#isCancelled) this.#connection.stream.pause()
  }

  resume(): void {
    this.#connection.stream.resume()
  }

  /**
   * Ends the statement that runs now: asks the backend on a second connection, waits until it has ended, and gives this
   * connection up. A cancel request that is still under way must not hit the next user of the session.
   */
  async cancel(reason: unknown): Promise<void> {
    const running = this.#exchange
    if (running !== undefined && this.broken === undefined) {
      this.#isCancelled = true
      this.resume()
      const timeout = new AbortController()
      const timer = setTimeout(() => timeout.abort(), CANCEL_TIMEOUT_MS)
      timer.unref()
      const expired = new Promise<void>((resolve) => timeout.signal.addEventListener('abort', () => resolve()))
      try {
        await Promise.race([Promise.all([this.#requestCancel(timeout.signal), running.outcome]), expired])
      } finally {
        clearTimeout(timer)
      }
    }
    this.destroy(reason)
    await this.ended
  }

  /**
   * Hands over the socket of an idle connection to somebody who speaks the protocol on it from here on. This object is
   * good for nothing after that.
   */
  handOver(): HandedOver {
    if (!this.isIdle || this.#backend === undefined) throw new TypeError('Only an idle connection can be handed over.')
    // A TCP socket, or a TLS one, which is a socket too.
    const stream = this.#connection.stream as Socket
    this.broken = new Error('The connection was handed over.')
    stream.removeAllListeners('data')
    stream.pause()
    return {
      socket: stream,
      processId: this.#backend.processID,
      secretKey: this.#backend.secretKey,
      reported: this.#reported,
      searchPath: searchPathOf(this.#options),
      requestCancel: (signal) => this.#requestCancel(signal),
    }
  }

  /** Ends the session in good order. */
  async close(): Promise<void> {
    this.broken ??= new Error('The connection was closed.')
    await this.#client.end().catch(() => undefined)
  }

  /** Closes the socket at once. The backend rolls back whatever was open. */
  destroy(reason: unknown): void {
    this.broken ??= reason ?? new Error('The connection was given up.')
    this.#connection.stream.destroy()
    this.#exchange?.lose(this.broken)
  }

  #lose(cause: unknown): void {
    this.broken ??= cause
    this.#exchange?.lose(this.broken)
  }

  #ready(status: TransactionStatus): void {
    this.#status = status
    this.#exchange?.settle({ kind: 'ready', status })
  }

  /** From here on every message is measured, and every reported setting compared with its pin. */
  #watch(): void {
    const measure = messageMeter(() => this.destroy(tooLarge()))
    this.#connection.stream.prependListener('data', measure)
    this.#connection.on('parameterStatus', (report: { parameterName: string; parameterValue: string }) => {
      const pin = this.#pins[report.parameterName]
      if (!this.#mayMove && pin !== undefined && pin !== report.parameterValue)
        this.destroy(drifted(this.target, report.parameterName))
    })
  }

  /** Compares the session with what was asked for: poolers and `ALTER ROLE … SET role` may have had their say. */
  async #check(): Promise<void> {
    const names = Object.keys(this.#pins)
    const columns = names.map((_, index) => `pg_catalog.current_setting($${index + 1}, true)`)
    const sql = `SELECT ${columns.join(', ')}, (current_user OPERATOR(pg_catalog.=) session_user)::pg_catalog.text,
      pg_catalog.current_setting('session_replication_role')`
    const [row = []] = await this.query(sql, names)
    const wrong = names.find((name, index) => row[index] !== this.#pins[name])
    if (wrong !== undefined) throw drifted(this.target, wrong)
    if (row[names.length] !== 'true') throw drifted(this.target, 'role')
    if (row[names.length + 1] !== 'origin') throw drifted(this.target, 'session_replication_role')
  }

  /** Sends a CancelRequest (PostgreSQL manual, 54.2.8) and waits until the server has closed that connection. */
  #requestCancel(signal: AbortSignal): Promise<void> {
    const { host, port } = this.#options
    const key = this.#backend
    if (key === undefined || signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const second = new Connection({ ssl: this.#ssl }) as Connection & {
        connect(port: number, host: string): void
        requestSsl(): void
        cancel(processID: number, secretKey: number): void
      }
      const send = (): void => second.cancel(key.processID, key.secretKey)
      second.on('connect', () => (this.#ssl === false ? send() : second.requestSsl()))
      second.on('sslconnect', send)
      second.on('error', () => resolve())
      second.on('end', () => resolve())
      signal.addEventListener('abort', () => second.stream.destroy(), { once: true })
      second.connect(port, host)
    })
  }
}

/** A connection that was made and pinned, for somebody else to speak on. */
export interface HandedOver {
  /** Paused, and without anybody who listens to its data. */
  readonly socket: Socket
  readonly processId: number
  readonly secretKey: number
  /** What the server said of its settings. */
  readonly reported: ReadonlyMap<string, string>
  /** The setting it was pinned to. */
  readonly searchPath: string
  /** Asks the server, on a second connection, to end what runs; resolves when it has taken the request. Never throws. */
  readonly requestCancel: (signal: AbortSignal) => Promise<void>
}

/** What a session that is not as pinned is refused with. */
export function drifted(target: string, setting: string): SallyportError {
  return new SallyportError(
    'ERR_UPSTREAM_REJECTED',
    `The session at target ${target} does not have the setting ${setting} it was given; nothing runs on it. Look for ALTER ROLE, ALTER DATABASE, a login trigger or a pooler that sets it.`,
  )
}

function userOf(target: string, secret: Secret): string {
  if (secret.user !== undefined) return secret.user
  throw new SallyportError('ERR_CREDENTIAL_MISSING', `The credential of target ${target} names no user.`)
}

async function tlsOptions({ target, options }: Upstream): Promise<ConnectionOptions | false> {
  if (options.tls.mode === 'disable') return false
  const { caFile, serverName } = options.tls
  let ca: string | undefined
  try {
    ca = caFile === undefined ? undefined : await readFile(caFile, 'utf8')
  } catch (cause) {
    throw new SallyportError('ERR_UPSTREAM_UNREACHABLE', `The file "tls.ca" of target ${target} cannot be read.`, {
      cause,
    })
  }
  return {
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
    ...(ca !== undefined && { ca }),
    // Checked here, because the library would check the name it connects to instead.
    ...(serverName !== undefined && {
      checkServerIdentity: (_: string, certificate: PeerCertificate) => checkServerIdentity(serverName, certificate),
    }),
  }
}

/** The temporary schema is listed last, so that no table in it stands before a real one of the same name. */
function startupOptions(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replace(/[\\\s]/gu, String.raw`\$&`)}`)
    .join(' ')
}

/** Watches message headers in the byte stream and calls `onTooLarge` before a large message has been gathered. */
function messageMeter(onTooLarge: () => void): (piece: Buffer) => void {
  const header = Buffer.alloc(5)
  let headerBytes = 0
  let skip = 0
  return (piece) => {
    let at = 0
    while (at < piece.length) {
      if (skip > 0) {
        const step = Math.min(skip, piece.length - at)
        skip -= step
        at += step
        continue
      }
      header[headerBytes++] = piece[at++] as number
      if (headerBytes < 5) continue
      headerBytes = 0
      // The length counts itself but not the type before it.
      skip = header.readUInt32BE(1) - 4
      if (skip > MESSAGE_BYTES_MAX) return onTooLarge()
    }
  }
}

function tooLarge(): SallyportError {
  return new SallyportError(
    'ERR_TOO_LARGE',
    `One row of the result is larger than ${MESSAGE_BYTES_MAX / 1024 ** 2} MiB; nothing was committed. Select fewer columns or a part of the value.`,
  )
}

function copyRefused(): SallyportError {
  return new SallyportError(
    'ERR_INVALID_INPUT',
    'COPY from or to the client does not work through this tool; nothing was committed. Use SELECT or INSERT.',
  )
}
