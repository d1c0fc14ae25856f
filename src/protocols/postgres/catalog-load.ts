/**
 * Reads a database's catalog into the snapshot the planner needs, and tells whether it is still true (R1, R2).
 *
 * @packageDocumentation
 */
import type { Secret } from '../../core/call.ts'
import type { Cell } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { makeCatalog, type BackendRights, type Catalog } from './catalog.ts'
import { catalogRows, type CatalogAnswers } from './catalog-rows.ts'
import * as sql from './catalog-sql.ts'
import { UpstreamConnection, type Upstream } from './connection.ts'
import { lost } from './errors.ts'
import { grouped, trialSql } from './mask-trials.ts'
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
  #builtins: Builtins | undefined
  #connection: UpstreamConnection | undefined
  /** Expressions of masks the database is to be asked about at the next look. */
  readonly #untried = new Set<string>()
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

  /**
   * Returns the catalog as it is now, after the database said of each of these masks whether it takes it (R7).
   *
   * @throws SallyportError like {@link current}.
   */
  async tried(
    expressions: readonly string[],
    secret: () => Promise<Secret>,
    signal: AbortSignal,
  ): Promise<LoadedCatalog> {
    for (const expression of expressions) this.#untried.add(expression)
    return this.current(secret, signal)
  }

  /** Forgets what was read, and asks as another role from now on: the credential now names one. */
  reset(): void {
    this.#loaded = undefined
    this.#connection?.destroy(new Error('The credential now names another role.'))
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
    try {
      // The server may have closed a connection nobody was looking at; a fresh one tells whether it is really gone.
      const wasOpen = this.#connection?.isIdle === true
      return await this.#attempt(secret).catch((error: unknown) => {
        if (!wasOpen || this.#closing.signal.aborted) throw error
        return this.#attempt(secret)
      })
    } catch (error) {
      throw failureOf(this.#upstream.target, error)
    } finally {
      this.#rest()
    }
  }

  async #attempt(secret: () => Promise<Secret>): Promise<LoadedCatalog> {
    try {
      const connection = await this.#connected(secret)
      const loaded = await this.#probe(connection)
      return this.#untried.size === 0 ? loaded : (this.#loaded = await this.#tryMasks(connection, loaded))
    } catch (error) {
      this.#connection?.destroy(error)
      throw error
    }
  }

  async #probe(connection: UpstreamConnection): Promise<LoadedCatalog> {
    if (this.#loaded !== undefined) {
      const { snapshot: known, catalog } = this.#loaded
      const [[snapshot, fingerprint] = []] = await connection.query(sql.lookSql(known))
      if (snapshot === known) return this.#loaded
      if (fingerprint === catalog.fingerprint) return (this.#loaded = { ...this.#loaded, snapshot: snapshot ?? '' })
    }
    const { loaded, builtins } = await loadCatalog(connection, this.#builtins)
    this.#builtins = builtins
    return (this.#loaded = loaded)
  }

  /** Tries masks; a catalog that says more is another one, so that nothing bound to the old one is used again. */
  async #tryMasks(connection: UpstreamConnection, loaded: LoadedCatalog): Promise<LoadedCatalog> {
    const asked = [...this.#untried]
    const said = new Map(loaded.catalog.maskTrials)
    for (const group of grouped(asked.filter((expression) => !said.has(expression)))) {
      const sqlstate = await refusalOf(connection, group)
      // One that is refused makes all of them fail: then each is asked about by itself.
      for (const one of group) said.set(one, sqlstate === '' ? '' : await refusalOf(connection, [one]))
    }
    for (const expression of asked) this.#untried.delete(expression)
    return { ...loaded, catalog: { ...loaded.catalog, maskTrials: said } }
  }

  async #connected(secret: () => Promise<Secret>): Promise<UpstreamConnection> {
    this.#closing.signal.throwIfAborted()
    if (this.#connection?.isIdle === true) return this.#connection
    const connection = await UpstreamConnection.open(this.#upstream, await secret(), this.#closing.signal)
    this.#connection = connection
    for (const prepare of sql.PREPARE_LOOK) await connection.query(prepare)
    // The server may have been upgraded, or another one may answer at its address.
    const version = (await connection.query('SHOW server_version_num'))[0]?.[0]
    if (Number(version) !== this.#loaded?.catalog.serverVersion) {
      this.#builtins = undefined
      this.#loaded = undefined
    }
    return connection
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

/** What PostgreSQL itself brings: thousands of rows that are the same as long as its version is. */
type Builtins = Pick<CatalogAnswers, sql.WideQuery>

/**
 * Reads the catalog in one snapshot and one round trip.
 *
 * @param builtins what an earlier read on the same server brought; then only what users made is read.
 * @throws what the backend reports.
 */
async function loadCatalog(connection: UpstreamConnection, builtins?: Builtins): Promise<CatalogRead> {
  const ask = new Questions()
  // The fingerprint and the search path are read as calls see them, names of types as they mean one type only.
  const searchPath = ask.json(sql.SEARCH_PATH_SQL)
  const head = ask.cells(sql.HEAD_SQL)
  ask.cells(`SELECT pg_catalog.set_config('search_path', 'pg_catalog', true)`)
  const brought = builtins ?? askWide(ask, 'builtin')
  const made = askWide(ask, 'user')
  const narrow = {
    generated: ask.json(sql.GENERATED_SQL),
    triggers: ask.json(sql.TRIGGERS_SQL),
    rules: ask.json(sql.RULES_SQL),
    inherits: ask.json(sql.INHERITS_SQL),
    keys: ask.json(sql.KEYS_SQL),
    unique: ask.json(sql.UNIQUE_SQL),
    uses: ask.json(sql.USES_SQL),
    ties: ask.json(sql.TIES_SQL),
    ruleReads: ask.json(sql.RULE_READS_SQL),
    wholeRows: ask.json(sql.WHOLE_ROWS_SQL),
    clustered: ask.json(sql.CLUSTERED_SQL),
    policyReads: ask.json(sql.POLICY_READS_SQL),
    viewBuiltins: ask.json(sql.VIEW_BUILTINS_SQL),
    storedBuiltins: ask.json(sql.STORED_BUILTINS_SQL),
    updatable: ask.json(sql.UPDATABLE_SQL),
    operators: ask.json(sql.OPERATORS_SQL),
    casts: ask.json(sql.CASTS_SQL),
    comparisons: ask.json(sql.COMPARISONS_SQL),
  }
  const eventTriggers = ask.json(sql.EVENT_TRIGGERS_SQL)
  const role = ask.json(sql.ROLE_SQL)
  const readable = ask.json(sql.READABLE_SQL)
  await ask.all(connection)
  const [database, version, snapshot, fingerprint, timeZone] = head[0] ?? []
  const { rows, comments, typeNames } = catalogRows(
    // The queries give what the types of their rows say; nothing else stands between them.
    {
      searchPath,
      ...narrow,
      types: [...brought.types, ...made.types],
      relations: [...brought.relations, ...made.relations],
      columns: [...brought.columns, ...made.columns],
      functions: [...brought.functions, ...made.functions],
    } as CatalogAnswers,
    { database: database ?? '', serverVersion: Number(version), fingerprint: fingerprint ?? '' },
  )
  const rights = rightsOf(role, readable)
  const loaded = {
    catalog: makeCatalog({ ...rows, rights, eventFunctions: eventTriggers.map(Number), timeZone: timeZone ?? '' }),
    snapshot: snapshot ?? '',
    comments,
    typeNames,
  }
  return { loaded, builtins: brought }
}

/** The SQLSTATE by which the database refuses to evaluate these expressions, empty when it does not. */
async function refusalOf(connection: UpstreamConnection, expressions: readonly string[]): Promise<string> {
  try {
    await connection.query(trialSql(expressions))
    return ''
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    // Out of resources, stopped or lost says nothing of the mask: the look fails, and the next one asks again.
    if (
      typeof code !== 'string' ||
      !/^[0-9A-Z]{5}$/.test(code) ||
      !connection.isIdle ||
      /^(?:53|57|58|XX)/.test(code)
    ) {
      throw error
    }
    return code
  }
}

function rightsOf(roles: readonly unknown[], readable: readonly unknown[]): BackendRights {
  const [asked] = roles as readonly Pick<BackendRights, 'role' | 'powers'>[]
  const rows = readable as readonly { readonly relation: number; readonly columns: readonly number[] | null }[]
  return {
    role: asked?.role ?? '',
    // Fail closed: a role of which nothing is known may do anything.
    powers: asked?.powers ?? ['unknown'],
    readable: new Map(rows.map(({ relation, columns }) => [relation, columns === null ? 'all' : new Set(columns)])),
  }
}

/** A catalog, and the part of it that need not be read again. */
interface CatalogRead {
  readonly loaded: LoadedCatalog
  readonly builtins: Builtins
}

function askWide(ask: Questions, of: 'builtin' | 'user'): Builtins {
  const queries = sql.wideQueries(of)
  return {
    types: ask.json(queries.types) as CatalogAnswers['types'],
    relations: ask.json(queries.relations) as CatalogAnswers['relations'],
    columns: ask.json(queries.columns) as CatalogAnswers['columns'],
    functions: ask.json(queries.functions) as CatalogAnswers['functions'],
  }
}

/** Queries that are sent together; what each gave is filled in when all were answered. */
class Questions {
  readonly #script: Step[] = [{ do: 'run', sql: 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY' }]

  cells(text: string): readonly Cell[][] {
    const rows: Cell[][] = []
    this.#script.push({ do: 'run', sql: text, onRow: (cells) => rows.push(cells) })
    return rows
  }

  /** For queries whose rows are one JSON text each. */
  json(text: string): readonly unknown[] {
    const rows: unknown[] = []
    this.#script.push({ do: 'run', sql: text, onRow: ([json]) => rows.push(JSON.parse(json ?? 'null')) })
    return rows
  }

  async all(connection: UpstreamConnection): Promise<void> {
    const outcome = await connection.run([...this.#script, { do: 'run', sql: 'COMMIT' }])
    if (outcome.failure !== undefined) throw outcome.failure.report
    if (outcome.kind === 'lost') throw outcome.cause
  }
}

/** What a caller hears: what the server says of its own catalog is for the log. */
function failureOf(target: string, error: unknown): SallyportError {
  if (error instanceof SallyportError) return error
  return new SallyportError('ERR_UPSTREAM_LOST', `The catalog of target ${target} could not be read.`, { cause: error })
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
