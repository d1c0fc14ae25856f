/**
 * Reads a database's catalog into the snapshot the planner needs, and tells whether it is still true (R1, R2).
 *
 * @packageDocumentation
 */
import type { Secret } from '../../core/call.ts'
import type { Cell } from '../../core/chunk.ts'
import { makeCatalog, type Catalog } from './catalog.ts'
import { catalogRows, type CatalogAnswers } from './catalog-rows.ts'
import * as sql from './catalog-sql.ts'
import { UpstreamConnection, type Upstream } from './connection.ts'
import { connectFailure, lost } from './errors.ts'
import type { Step } from './exchange.ts'

/** A catalog, and the last database snapshot it was seen to be true for. */
export interface LoadedCatalog {
  readonly catalog: Catalog
  /** `pg_current_snapshot()`: while it is the same, nothing was committed since. */
  readonly snapshot: string
  /** Comments on relations, by OID. */
  readonly comments: ReadonlyMap<number, string>
  /** Names of types without their modifier, by OID. */
  readonly typeNames: ReadonlyMap<number, string>
}

/** The catalog connection is given back after this long without a call. */
const IDLE_MS = 60_000

/**
 * The catalog of one target, on a connection of its own: a pool whose connections are all busy must not keep calls from
 * being judged, and nothing a caller sends ever runs on it.
 *
 * Looks that are asked for while one is under way share the next one. Each caller so gets a look that began after it
 * asked, and a hundred callers cost two.
 */
export class CatalogKeeper {
  readonly #upstream: Upstream
  #loaded: LoadedCatalog | undefined
  #connection: UpstreamConnection | undefined
  #running: Promise<LoadedCatalog> | undefined
  #next: Promise<LoadedCatalog> | undefined
  #idle: NodeJS.Timeout | undefined
  readonly #closing = new AbortController()

  constructor(upstream: Upstream) {
    this.#upstream = upstream
  }

  /** The catalog as last read, without a look at the database. */
  get latest(): LoadedCatalog | undefined {
    return this.#loaded
  }

  /**
   * Returns the catalog as it is now. `secret` is read only when a connection must be made.
   *
   * @throws SallyportError when the database cannot be asked, or the reason of `signal`.
   */
  async current(secret: () => Promise<Secret>, signal: AbortSignal): Promise<LoadedCatalog> {
    signal.throwIfAborted()
    return unlessAborted(this.#look(secret), signal)
  }

  async close(): Promise<void> {
    this.#closing.abort(lost(this.#upstream.target, new Error('The catalog is no longer kept.')))
    clearTimeout(this.#idle)
    await this.#connection?.close()
  }

  #look(secret: () => Promise<Secret>): Promise<LoadedCatalog> {
    if (this.#running === undefined) return this.#start(secret)
    this.#next ??= this.#running.then(
      () => this.#start(secret),
      () => this.#start(secret),
    )
    return this.#next
  }

  #start(secret: () => Promise<Secret>): Promise<LoadedCatalog> {
    this.#next = undefined
    const look = this.#ask(secret).finally(() => {
      this.#running = undefined
    })
    this.#running = look
    return look
  }

  async #ask(secret: () => Promise<Secret>): Promise<LoadedCatalog> {
    clearTimeout(this.#idle)
    const wasOpen = this.#connection?.isIdle === true
    try {
      return await this.#probe(await this.#connected(secret))
    } catch (error) {
      this.#connection?.destroy(error)
      // The server may have closed a connection nobody was looking at; a fresh one tells whether it is really gone.
      if (!wasOpen || this.#closing.signal.aborted) throw failureOf(this.#upstream.target, error)
    } finally {
      this.#rest()
    }
    return this.#askAnew(secret)
  }

  async #askAnew(secret: () => Promise<Secret>): Promise<LoadedCatalog> {
    try {
      return await this.#probe(await this.#connected(secret))
    } catch (error) {
      this.#connection?.destroy(error)
      throw failureOf(this.#upstream.target, error)
    } finally {
      this.#rest()
    }
  }

  async #probe(connection: UpstreamConnection): Promise<LoadedCatalog> {
    if (this.#loaded !== undefined) {
      const [[snapshot, fingerprint] = []] = await connection.query(sql.PROBE_SQL)
      if (fingerprint === this.#loaded.catalog.fingerprint) {
        return (this.#loaded = { ...this.#loaded, snapshot: snapshot ?? '' })
      }
    }
    return (this.#loaded = await loadCatalog(connection))
  }

  async #connected(secret: () => Promise<Secret>): Promise<UpstreamConnection> {
    this.#closing.signal.throwIfAborted()
    if (this.#connection?.isIdle === true) return this.#connection
    this.#connection = await UpstreamConnection.open(this.#upstream, await secret(), this.#closing.signal)
    return this.#connection
  }

  #rest(): void {
    clearTimeout(this.#idle)
    const connection = this.#connection
    this.#idle = setTimeout(() => {
      if (this.#running === undefined) void connection?.close()
    }, IDLE_MS)
    this.#idle.unref()
  }
}

/** Reads the whole catalog in one snapshot and one round trip. @throws what the backend reports. */
export async function loadCatalog(connection: UpstreamConnection): Promise<LoadedCatalog> {
  const answers: Record<keyof typeof QUERIES, Cell[][]> = {
    searchPath: [],
    head: [],
    types: [],
    relations: [],
    columns: [],
    generated: [],
    triggers: [],
    rules: [],
    inherits: [],
    keys: [],
    unique: [],
    uses: [],
    functions: [],
    operators: [],
    casts: [],
  }
  const script: Step[] = [{ do: 'run', sql: 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY' }]
  for (const [name, text] of Object.entries(QUERIES) as [keyof typeof QUERIES, string][]) {
    script.push({ do: 'run', sql: text, onRow: (cells) => answers[name].push(cells) })
    // The fingerprint and the search path are read as calls see them; names of types as they mean one type only.
    if (name === 'head') {
      script.push({ do: 'run', sql: `SELECT pg_catalog.set_config('search_path', 'pg_catalog', true)` })
    }
  }
  script.push({ do: 'run', sql: 'COMMIT' })
  const outcome = await connection.run(script)
  if (outcome.failure !== undefined) throw outcome.failure.report
  if (outcome.kind === 'lost') throw outcome.cause
  const [database, version, snapshot, fingerprint] = answers.head[0] ?? []
  const parsed = Object.fromEntries(
    Object.entries(answers)
      .filter(([name]) => name !== 'head')
      .map(([name, rows]) => [name, rows.map(([json]) => JSON.parse(json ?? 'null') as unknown)]),
  ) as unknown as CatalogAnswers
  const { rows, comments, typeNames } = catalogRows(parsed, {
    database: database ?? '',
    serverVersion: Number(version),
    fingerprint: fingerprint ?? '',
  })
  return { catalog: makeCatalog(rows), snapshot: snapshot ?? '', comments, typeNames }
}

const QUERIES = {
  searchPath: sql.SEARCH_PATH_SQL,
  head: sql.HEAD_SQL,
  types: sql.TYPES_SQL,
  relations: sql.RELATIONS_SQL,
  columns: sql.COLUMNS_SQL,
  generated: sql.GENERATED_SQL,
  triggers: sql.TRIGGERS_SQL,
  rules: sql.RULES_SQL,
  inherits: sql.INHERITS_SQL,
  keys: sql.KEYS_SQL,
  unique: sql.UNIQUE_SQL,
  uses: sql.USES_SQL,
  functions: sql.FUNCTIONS_SQL,
  operators: sql.OPERATORS_SQL,
  casts: sql.CASTS_SQL,
} as const

/** Fails as a call does: the catalog holds no row of a table, but what the server says of itself is for the log. */
function failureOf(target: string, error: unknown) {
  const failure = connectFailure(target, error)
  return failure.code === 'ERR_UPSTREAM_UNREACHABLE' && failure.detail === '' ? lost(target, error) : failure
}

/** Resolves as `work` does, or rejects with the reason of `signal`, which ends the wait and not the work. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let abort: () => void = () => undefined
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
