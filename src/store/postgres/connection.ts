import { readFile } from 'node:fs/promises'
import { setTimeout } from 'node:timers/promises'
import { Client, type ClientConfig, Pool, type QueryResult, type QueryResultRow } from 'pg'
import { SallyportError } from '../../core/errors.ts'
import { errnoOf } from '../store.ts'
import { shownAddress, type StoreAddress } from './address.ts'
import { troubleOf, unreachable } from './trouble.ts'

/** How long things at the store may take, in milliseconds. */
export interface StoreTimes {
  /** To open a connection. */
  readonly connectMs: number
  /** A statement at the server; beyond it the server itself ends it. */
  readonly statementMs: number
  /** All attempts at one read or commit together. */
  readonly attemptsMs: number
}

/** The times that hold when nothing else is chosen. */
export const STORE_TIMES: StoreTimes = { connectMs: 3_000, statementMs: 4_000, attemptsMs: 3_000 }

/** Connections one instance uses for statements; one more follows the changes. */
const CONNECTIONS_MAX = 8

/** Statements at the store: retried while that is safe, bounded in time, on a few connections. */
export interface Statements {
  /**
   * Runs one statement, which must be one that may run twice: an answer that was lost is asked for again.
   *
   * @param what completes "The gateway cannot …".
   * @param isChange whether it writes, so that without an answer nobody knows if it did.
   * @throws SallyportError `ERR_STORE_FAILED`
   */
  query<R extends QueryResultRow>(
    what: string,
    sql: string,
    values: readonly unknown[],
    isChange?: boolean,
  ): Promise<QueryResult<R>>
  /** From now on every statement is refused with this error. */
  refuse(why: SallyportError): void
  /** Opens a connection of its own; whoever opens it ends it. */
  connect(): Promise<Client>
  close(): Promise<void>
}

/** Reads the password anew for each connection, so that rotating it needs no restart. */
export type PasswordReader = () => Promise<string>

/** Opens the pool. Connects nowhere yet. */
export async function openStatements(
  address: StoreAddress,
  password: PasswordReader,
  times: StoreTimes,
): Promise<Statements> {
  const config = await configOf(address, password, times)
  const pool = new Pool({ ...config, max: CONNECTIONS_MAX, idleTimeoutMillis: 60_000, allowExitOnIdle: true })
  // A connection that breaks while idle is replaced by the next one that is needed.
  pool.on('error', () => undefined)
  let isClosed = false
  let refused: SallyportError | undefined

  return {
    async query<R extends QueryResultRow>(what: string, sql: string, values: readonly unknown[], isChange = false) {
      const startedAt = performance.now()
      let isSent = false
      for (let pauseMs = 25; ; pauseMs = Math.min(pauseMs * 2, 400)) {
        if (refused !== undefined) throw refused
        try {
          return await once<R>(sql, values, () => (isSent = true))
        } catch (error) {
          const isLast = performance.now() - startedAt + pauseMs > times.attemptsMs
          const trouble = troubleOf(error)
          if (isClosed) throw shuttingDown()
          if (trouble === 'failed' || isLast) {
            // Fail closed: a change that was sent and not answered may have been kept.
            throw unreachable(what, error, isChange && isSent && trouble === 'lost' ? 'unknown' : 'nothing')
          }
        }
        await setTimeout(pauseMs * (0.5 + Math.random() / 2))
      }
    },

    refuse(why) {
      refused ??= why
    },

    async connect() {
      const client = new Client(config)
      client.on('error', () => undefined)
      try {
        await client.connect()
      } catch (error) {
        await client.end().catch(() => undefined)
        throw error
      }
      return client
    },

    async close() {
      isClosed = true
      await pool.end()
    },
  }

  async function once<R extends QueryResultRow>(
    sql: string,
    values: readonly unknown[],
    onSent: () => void,
  ): Promise<QueryResult<R>> {
    const client = await pool.connect()
    let failure: unknown
    // A checked-out connection that breaks reports it by an event of its own besides the rejected query.
    const onError = (): void => undefined
    client.on('error', onError)
    try {
      onSent()
      return await client.query<R>(sql, [...values])
    } catch (error) {
      failure = error
      throw error
    } finally {
      client.off('error', onError)
      // What answered with an error of its own is still good; all else is in a state nobody knows.
      client.release(failure !== undefined && troubleOf(failure) === 'lost')
    }
  }
}

async function configOf(address: StoreAddress, password: PasswordReader, times: StoreTimes): Promise<ClientConfig> {
  const { host, port, database, user, tls } = address
  return {
    host,
    port,
    database,
    user,
    password,
    ssl: tls.mode === 'disable' ? false : await tlsOf(tls.caFile),
    application_name: 'sallyport',
    connectionTimeoutMillis: times.connectMs,
    query_timeout: times.statementMs + 1_000,
    statement_timeout: times.statementMs,
    lock_timeout: Math.max(1, times.statementMs - 500),
    idle_in_transaction_session_timeout: 10_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5_000,
    // A promise to keep something must survive the loss of power, whatever the server's default is.
    options: '-c synchronous_commit=on -c default_transaction_isolation=read\\ committed -c jit=off',
  }
}

async function tlsOf(caFile: string | undefined): Promise<{ rejectUnauthorized: true; ca?: string }> {
  if (caFile === undefined) return { rejectUnauthorized: true }
  try {
    return { rejectUnauthorized: true, ca: await readFile(caFile, 'utf8') }
  } catch (error) {
    throw new SallyportError(
      'ERR_CONFIG_INVALID',
      `The certificate authority of the shared store, ${caFile}, cannot be read (${errnoOf(error)}).`,
      { cause: error },
    )
  }
}

/** The error for a store that cannot be reached at the start, when nothing is held back yet. */
export function notOpened(address: StoreAddress, error: unknown): SallyportError {
  if (error instanceof SallyportError) return error
  return new SallyportError(
    'ERR_STORE_FAILED',
    `The shared store at ${shownAddress(address)} cannot be opened (${errnoOf(error)}). ${adviceOn(errnoOf(error))}`,
    { cause: error },
  )
}

function adviceOn(code: string): string {
  if (code === '28P01' || code === '28000') return 'Check its user and password.'
  if (code === '3D000') return 'Make the database, or name another one.'
  if (code === '42501') return 'Let its user create a schema in this database, once: GRANT CREATE ON DATABASE … TO ….'
  if (/CERT|SELF_SIGNED|UNABLE_TO_VERIFY|TLS|SSL/.test(code)) {
    return 'Its certificate is not trusted: name the authority with sslrootcert.'
  }
  return 'Check its address, and that the server runs and speaks TLS.'
}

function shuttingDown(): SallyportError {
  return new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.')
}
