/**
 * What a write would change: the statement runs in a transaction that is rolled back, on a connection of its own (C14).
 *
 * Besides the number of rows it finds which rows those are, as they were before, for the sample approvers see and for the
 * guard that the execution is held to. Read `escapes.ts` for what is not tried, `affected.ts` for how rows are found
 * without being touched, and `guard.ts` for what is compared.
 *
 * @packageDocumentation
 */
import type { Secret } from '../../../core/call.ts'
import type { Cell } from '../../../core/chunk.ts'
import type { ColumnMask } from '../../../core/decision.ts'
import { SallyportError } from '../../../core/errors.ts'
import type { Preview, PreviewSection } from '../../../core/preview.ts'
import type { LoadedCatalog } from '../catalog-load.ts'
import { FINGERPRINT_GUARD_SQL } from '../catalog-sql.ts'
import type { Catalog, Relation } from '../catalog.ts'
import { lost, rejected, sqlstateOf } from '../errors.ts'
import type { Outcome, Step } from '../exchange.ts'
import { pinned, quoteIdentifier, resourceName } from '../names.ts'
import type { PostgresOptions } from '../options.ts'
import { pinnedSettings, wholePinGuard } from '../pins.ts'
import type { PostgresPlan } from '../plan-types.ts'
import type { Pool } from '../pool.ts'
import { affectedBy, type Affected } from './affected.ts'
import { defaulted, escapesOfDefault, understand, type Understood } from './escapes.ts'
import { digestStep, GUARDED_ROWS_MAX, mentioned, writeGuard, type Compared, type Given } from './guard.ts'
import { follow, passedOn, type Passed } from './keys.ts'
import { MEANING_SQL, meaningSet, readMeaning } from './meaning.ts'
import { columnOf as column, Readable } from './readable.ts'

/** What a preview is made with. */
export interface PreviewOf {
  readonly target: string
  readonly options: PostgresOptions
  readonly plan: PostgresPlan
  readonly catalog: LoadedCatalog
  /** Masks nobody is excepted from. */
  readonly masks: readonly ColumnMask[]
  readonly signal: AbortSignal
  /** Set for a statement of a client that has a session of its own. */
  readonly session?: PreviewSession
  /** Set for one that is tried in the open transaction of its client. */
  readonly inside?: Inside
}

/** Where a preview gets a connection of its own. */
export interface PreviewOn {
  readonly pool: Pool
  readonly secret: Secret
}

/** What of a client's session decides what its statement would do. */
export interface PreviewSession {
  /** See `meaning.ts`. Left out where the session itself is what the statement is tried in. */
  readonly settings?: Readonly<Record<string, string>>
  readonly paramTypes: readonly number[]
}

/** Where a statement is tried that is not on a connection of its own. */
export interface Inside {
  /** Whether each statement of the transaction sees what others have committed before it. */
  readonly isReadCommitted: boolean
  /** Makes sure that the catalog still is the one it was planned with. */
  look(): Promise<void>
}

/** What runs the steps of a trial. */
export interface Runner {
  run(script: readonly Step[]): Promise<Outcome>
}

/** Less than what the gateway waits, so that the backend says itself that it takes too long. */
const TIMEOUT_MS = 8_000
/** A preview must not stand in the way of others, nor wait for them. */
const LOCK_TIMEOUT_MS = 2_000
const SAMPLE_ROWS = 10
const SAMPLE_COLUMNS = 12
const PORTAL = 'preview'

/** Tries the statement and takes it back. @throws SallyportError when it could not be tried. */
export async function previewWrite(of: PreviewOf & PreviewOn): Promise<Preview> {
  const understood = understand(of.plan, of.catalog.catalog)
  if (understood.kind === 'nothing') return { sections: [], touched: {} }
  if (understood.kind === 'none') return missing(understood.why)
  const { connection } = await of.pool.lease(of.secret, of.signal)
  const isMoved = of.session?.settings !== undefined && !isPinned(of.session.settings, of.options)
  if (isMoved) connection.letMove()
  const abort = (): void => void (cancelling = connection.cancel(of.signal.reason))
  let cancelling: Promise<void> | undefined
  of.signal.addEventListener('abort', abort, { once: true })
  try {
    return await new Trial(of, understood, connection).run()
  } finally {
    of.signal.removeEventListener('abort', abort)
    await cancelling
    // Fail closed: a connection whose transaction could not be ended is not used again.
    const ended = connection.isInTransaction ? await connection.run([{ do: 'run', sql: 'ROLLBACK' }]) : undefined
    of.pool.release(connection, isMoved || ended?.failure !== undefined)
  }
}

/** Whether a session has the settings that every connection of the pool is pinned to. */
function isPinned(settings: Readonly<Record<string, string>>, options: PostgresOptions): boolean {
  return Object.entries(pinnedSettings(options)).every(([name, value]) => (settings[name] ?? value) === value)
}

export function missing(why: string): Preview {
  return { sections: [], missing: `There is no preview: ${why}.` }
}

/** One statement on trial. Whoever runs it takes back what it did. */
export class Trial {
  readonly #of: PreviewOf
  readonly #connection: Runner
  readonly #catalog: Catalog
  readonly #target: Extract<Understood, { kind: 'understood' }>['target']
  readonly #understood: Extract<Understood, { kind: 'understood' }>
  readonly #relation: Relation
  readonly #affected: Affected | undefined
  readonly #readable: Readable
  readonly #given: Given
  /** Those the trial was made under. */
  #settings: Readonly<Record<string, string>> | undefined

  constructor(of: PreviewOf, understood: Extract<Understood, { kind: 'understood' }>, connection: Runner) {
    this.#of = of
    this.#connection = connection
    this.#catalog = of.catalog.catalog
    this.#understood = understood
    this.#target = understood.target
    this.#relation = understood.target.relation
    this.#affected = affectedBy(of.plan.sql)
    this.#readable = new Readable(this.#catalog, of.masks)
    const { params } = of.plan
    this.#given = of.session === undefined ? { params } : { params, paramTypes: of.session.paramTypes }
  }

  async run(): Promise<Preview> {
    const { plan } = this.#of
    await this.#open()
    const escaping = plan.kind === 'insert' ? await this.#escapingDefault() : undefined
    if (escaping !== undefined) return missing(escaping)
    const list = this.#comparedList()
    const found = list === undefined ? undefined : await this.#find(list)
    const passed = await this.#findPassed()
    const before = await this.#sampleBefore()
    const countsBefore = await this.#changeCounts()
    const tag = await this.#execute()
    const count = Number(/(\d+)$/.exec(tag)?.[1] ?? 0)
    const changes = this.#changesBetween(countsBefore, await this.#changeCounts())
    const sections = [
      await this.#section(count, before),
      ...changes.map(([what, number]) => ({ title: `${what}: ${rows(number)}` })),
    ]
    const unlocked = await this.#lock(found, passed)
    const guard = this.#guardOf(list, found, passed, count)
    const said = [
      ...(guard.why === undefined ? [] : [`The execution is not held to these rows: ${guard.why}.`]),
      ...(guard.why === undefined && unlocked !== undefined ? [unlocked] : []),
    ]
    const own = `${plan.kind.toUpperCase()} ${resourceName(this.#relation)}`
    return {
      sections,
      ...(guard.why === undefined && { touched: Object.fromEntries([[own, count], ...changes]) }),
      ...(guard.text !== undefined && { guard: guard.text }),
      ...(said.length > 0 && { missing: said.join(' ') }),
    }
  }

  /** What the execution is held to, or why to nothing. */
  #guardOf(
    list: string | undefined,
    found: Found | undefined,
    passed: FoundPassed,
    count: number,
  ): { readonly text?: string; readonly why?: string } {
    const why = this.#whyUnguarded(found?.count, count) ?? passed.why
    if (why !== undefined) return { why }
    // Fail closed: the settings decide what the values in a text stand for.
    if (this.#settings === undefined) return { why: 'the settings of the session could not be read' }
    const own = found === undefined || list === undefined ? [] : [{ keys: [], list, ...found }]
    const all = [...own, ...passed.compared].map((one): Compared => (this.#isLocked ? { ...one, lock: true } : one))
    const held = this.#of.inside === undefined ? {} : { count }
    const text = writeGuard({ settings: this.#settings, compared: all, ...held })
    return text === undefined ? { why: 'there is too much to compare' } : { text }
  }

  /** Whether the rows are locked before they are compared. */
  #isLocked = false

  /**
   * Between a comparison and the statement others may change rows where the two see different snapshots. What the execution
   * has locked they cannot. Returns what is left for them, in words for approvers.
   */
  async #lock(found: Found | undefined, { compared }: FoundPassed): Promise<string | undefined> {
    const { inside, plan } = this.#of
    if (inside?.isReadCommitted !== true) return undefined
    const between = 'Until it has run, others may still change what it reads after that was compared'
    if (plan.kind === 'insert') return this.#understood.readsOthers ? `${between}.` : undefined
    if (found === undefined) return undefined
    const oids = [this.#relation.oid, ...compared.map(({ oid }) => oid ?? 0)]
    const [row] = await this.#ask(
      `SELECT pg_catalog.bool_and(pg_catalog.has_any_column_privilege(o, 'UPDATE'))::pg_catalog.text
       FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS o`,
      { params: [`{${[...new Set(oids)].join(',')}}`] },
    )
    this.#isLocked = row?.[0] === 'true'
    if (!this.#isLocked) return `${between}: the database role may not lock the rows.`
    return this.#understood.readsOthers ? `${between} of other tables.` : undefined
  }

  /** Takes the locks of the statement, and makes sure that it still means what it was planned as. */
  async #open(): Promise<void> {
    const { plan, options, session, inside } = this.#of
    if (inside !== undefined) return this.#openInside(inside)
    const timeoutMs = Math.min(TIMEOUT_MS, options.statementTimeoutMs)
    const steps: Step[] = [
      { do: 'run', sql: 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE' },
      wholePinGuard(options, timeoutMs, plan),
      { do: 'run', sql: `SELECT pg_catalog.set_config('lock_timeout', '${LOCK_TIMEOUT_MS}', true)` },
      ...(session?.settings === undefined ? [] : [{ do: 'run', ...meaningSet(session.settings) } as const]),
      { do: 'run', sql: MEANING_SQL, onRow: ([json]) => (this.#settings = readMeaning(json)) },
      { do: 'open', portal: PORTAL, sql: plan.sql, ...this.#given, onFields: () => undefined },
      { do: 'run', sql: FINGERPRINT_GUARD_SQL, params: [plan.fingerprint] },
    ]
    const outcome = await this.#connection.run(steps)
    const step = outcome.failure?.step
    if (step === steps.length - 1 || step === 1) {
      throw new SallyportError('ERR_UPSTREAM_REJECTED', 'the schema or the session changed while it was made.')
    }
    this.#throwFailure(outcome)
    const { settings = this.#settings } = session ?? {}
    if (JSON.stringify(settings) !== JSON.stringify(this.#settings)) {
      throw new SallyportError('ERR_UPSTREAM_REJECTED', 'the session has settings nobody can try the statement under.')
    }
  }

  /** In the session that is to run it, whose settings are what they are; the savepoint before it takes these back. */
  async #openInside(inside: Inside): Promise<void> {
    const timeoutMs = Math.min(TIMEOUT_MS, this.#of.options.statementTimeoutMs)
    const limits = [`'statement_timeout', '${timeoutMs}'`, `'lock_timeout', '${LOCK_TIMEOUT_MS}'`]
    const outcome = await this.#connection.run([
      { do: 'run', sql: `SELECT ${limits.map((limit) => `pg_catalog.set_config(${limit}, true)`).join(', ')}` },
      { do: 'run', sql: MEANING_SQL, onRow: ([json]) => (this.#settings = readMeaning(json)) },
      { do: 'open', portal: PORTAL, sql: this.#of.plan.sql, ...this.#given, onFields: () => undefined },
    ])
    this.#throwFailure(outcome)
    // It has its locks, so what it was planned with is not changed after this.
    await inside.look()
  }

  /** A default that leaves something behind, such as a number of a sequence. */
  async #escapingDefault(): Promise<string | undefined> {
    const relation = this.#relation
    const columns = new Set(defaulted(this.#target))
    if (columns.size === 0) return undefined
    const rows = await this.#ask(
      `SELECT a.attname, a.attidentity, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
       FROM pg_catalog.pg_attribute AS a LEFT JOIN pg_catalog.pg_attrdef AS d
         ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid AND d.adnum OPERATOR(pg_catalog.=) a.attnum
       WHERE a.attrelid OPERATOR(pg_catalog.=) ${relation.oid}::pg_catalog.oid
         AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2`,
    )
    for (const [name, identity, expression] of rows) {
      if (typeof name !== 'string' || !columns.has(name)) continue
      const where = `the default of ${resourceName(relation)}.${name}`
      if (identity !== '' && identity !== null) return `${where} takes a number of a sequence, and keeps it`
      const why = typeof expression === 'string' ? escapesOfDefault(this.#catalog, expression) : undefined
      if (why !== undefined) return `${where}: ${why}`
    }
    return undefined
  }

  /** Counts the rows it is about, and hashes what is compared of them. */
  async #find(list: string, affected = this.#affected): Promise<Found | undefined> {
    if (affected === undefined) return undefined
    let found: Found | undefined
    const step = digestStep(affected, list, this.#given, (count, digest) => (found = { count, digest }))
    this.#throwFailure(await this.#connection.run([step]))
    return found
  }

  /** The same of the rows that foreign keys change with them. */
  async #findPassed(): Promise<FoundPassed> {
    const { kind } = this.#of.plan
    if (kind !== 'update' && kind !== 'delete') return { compared: [] }
    const compared: Compared[] = []
    for (const passed of passedOn(this.#catalog, this.#relation, kind, this.#target.updated)) {
      const { keys, relation, why } = passed
      const list = this.#passedList(passed)
      if (why !== undefined) return { compared, why }
      if (this.#affected === undefined || list === undefined) {
        return { compared, why: `the database role may not read the rows of ${resourceName(relation)} that change too` }
      }
      const found = await this.#find(list, follow(this.#affected, keys))
      if (found === undefined || found.count > GUARDED_ROWS_MAX) {
        return { compared, why: `more than ${GUARDED_ROWS_MAX} rows of ${resourceName(relation)} change too` }
      }
      compared.push({ keys, list, oid: relation.oid, ...found })
    }
    return { compared }
  }

  #passedList({ relation, verb, keys, columns }: Passed): string | undefined {
    const alias = keys.at(-1)?.alias
    if (alias === undefined || ![...columns].every((name) => this.#readable.has(relation, name))) return undefined
    const wanted = relation.columns
      .map(({ name }) => name)
      .filter((name) => verb === 'delete' || columns.has(name) || relation.primaryKey.includes(name))
      .filter((name) => this.#readable.has(relation, name))
    return this.#readable.list(relation, alias, wanted)
  }

  async #sampleBefore(): Promise<readonly (readonly Cell[])[]> {
    const columns = this.#sampled()
    if (this.#affected === undefined || this.#affected.kind === 'insert' || columns.length === 0) return []
    const { alias } = this.#affected
    const list = columns.map((name, at) => `${column(alias, name)}::pg_catalog.text AS c${at}`).join(', ')
    const unused = mentioned(this.#affected, this.#given.params)
    return this.#ask(
      `SELECT DISTINCT met.*${unused} FROM (${this.#affected.select(list)}) AS met ORDER BY 1 LIMIT ${SAMPLE_ROWS}`,
      this.#given,
    )
  }

  async #execute(): Promise<string> {
    let tag = ''
    const step: Step = {
      do: 'fetch',
      portal: PORTAL,
      rowsMax: 0,
      onRow: () => undefined,
      onDone: (text) => (tag = text ?? ''),
    }
    this.#throwFailure(await this.#connection.run([step]))
    return tag
  }

  async #section(count: number, before: readonly (readonly Cell[])[]): Promise<PreviewSection> {
    const { kind } = this.#of.plan
    const title = `${kind.toUpperCase()} ${resourceName(this.#relation)}: ${rows(count)}`
    const columns = this.#sampled()
    const hidden = this.#hidden()
    const keys = columns.filter((name) => this.#relation.primaryKey.includes(name))
    const others = columns.filter((name) => !keys.includes(name))
    if (before.length === 0) return { title }
    const more = count > before.length ? { more: count - before.length } : {}
    if (kind !== 'update') {
      const table = {
        columns: [...columns, ...hidden],
        rows: before.map((row) => [...row.slice(0, columns.length), ...hidden.map(() => MASKED)]),
      }
      return { title, table, ...more }
    }
    const after = await this.#sampleAfter(columns, keys, before)
    const table = {
      columns: [
        ...keys,
        ...others.flatMap((name) => (after === undefined ? [name] : [name, `${name} after`])),
        ...hidden,
      ],
      rows: before.map((row, index) => [
        ...keys.map((name) => row[columns.indexOf(name)] ?? null),
        ...others.flatMap((name) => {
          const at = columns.indexOf(name)
          return after === undefined ? [row[at] ?? null] : [row[at] ?? null, after[index]?.[at] ?? null]
        }),
        ...hidden.map(() => MASKED),
      ]),
    }
    return { title, table, ...more }
  }

  /** The same rows after the statement, found by their key; `undefined` where that may be another one by now. */
  async #sampleAfter(
    columns: readonly string[],
    keys: readonly string[],
    before: readonly (readonly Cell[])[],
  ): Promise<readonly (readonly Cell[] | undefined)[] | undefined> {
    const { primaryKey } = this.#relation
    if (keys.length === 0 || keys.length < primaryKey.length || keys.some((name) => this.#target.updated.has(name))) {
      return undefined
    }
    const typed = keys.map((name) => this.#relation.columns.find((known) => known.name === name)?.type ?? 'text')
    const list = columns.map((name) => `${column('t', name)}::pg_catalog.text`).join(', ')
    const keyList = keys.map((name) => column('t', name)).join(', ')
    const given = before.map((row) => keys.map((name) => row[columns.indexOf(name)] ?? null))
    const tuples = given.map(
      (_, index) => `(${typed.map((type, at) => `$${index * keys.length + at + 1}::${type}`).join(', ')})`,
    )
    const found = await this.#ask(
      `SELECT ${list} FROM ${pinned(this.#relation)} AS t WHERE (${keyList}) IN (${tuples.join(', ')})`,
      { params: given.flat() },
    )
    const keyOf = (row: readonly Cell[]): string => JSON.stringify(keys.map((name) => row[columns.indexOf(name)]))
    const byKey = new Map(found.map((row) => [keyOf(row), row]))
    return before.map((row) => byKey.get(keyOf(row)))
  }

  /** Rows of other tables changed so far in this transaction, by foreign keys. */
  async #changeCounts(): Promise<ChangeCounts> {
    const own = new Set<number>([this.#relation.oid, ...this.#relation.children])
    const oids = [...new Set(this.#understood.effects.changes.map(({ relation }) => relation.oid))]
    const others = oids.filter((oid) => !own.has(oid))
    if (others.length === 0) return new Map()
    const counts = await this.#ask(
      `SELECT o::pg_catalog.text, pg_catalog.pg_stat_get_xact_tuples_updated(o)::pg_catalog.text,
         pg_catalog.pg_stat_get_xact_tuples_deleted(o)::pg_catalog.text
       FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS o`,
      { params: [`{${others.join(',')}}`] },
    )
    return new Map(counts.map(([oid, updated, deleted]) => [Number(oid), [Number(updated), Number(deleted)]]))
  }

  #changesBetween(before: ChangeCounts, after: ChangeCounts): readonly (readonly [string, number])[] {
    return [...after].flatMap(([oid, [updated, deleted]]) => {
      const relation = this.#catalog.relationsByOid.get(oid)
      const [updatedBefore, deletedBefore] = before.get(oid) ?? [0, 0]
      const name = relation === undefined ? String(oid) : resourceName(relation)
      const said = (verb: string, count: number): readonly (readonly [string, number])[] =>
        count === 0 ? [] : [[`${verb} ${name}, by a foreign key`, count]]
      return [...said('UPDATE', updated - updatedBefore), ...said('DELETE', deleted - deletedBefore)]
    })
  }

  /** Why the execution will not be compared with this preview. */
  #whyUnguarded(found: number | undefined, count: number): string | undefined {
    const { plan } = this.#of
    if (plan.kind === 'insert') {
      if (/\bconflict\b/i.test(plan.sql)) return 'which rows exist already may change until it runs'
      // The rows stand in the statement itself.
      if (this.#affected === undefined && !this.#understood.readsOthers) return undefined
      if (this.#affected === undefined) return 'what it inserts is read in a way that cannot be told from the statement'
      if (!this.#understood.isTimeless) return 'the statement reads a clock, and inserts other values at another time'
    }
    if (found === undefined)
      return 'which they are cannot be told from the statement, or the database role may not read it'
    if (found > GUARDED_ROWS_MAX) return `there are more than ${GUARDED_ROWS_MAX}`
    if (plan.kind !== 'insert' && found !== count) return 'others changed some of them while the preview was made'
    return undefined
  }

  /** SQL of what tells the rows apart and of what approvers are shown of them; `undefined` when it cannot be read. */
  #comparedList(): string | undefined {
    if (this.#affected === undefined) return undefined
    const { alias, kind } = this.#affected
    if (kind === 'insert') return `${quoteIdentifier(alias)}.*`
    return this.#readable.list(this.#relation, alias, this.#compared())
  }

  /** Of an UPDATE its key and what it reads and writes; of a DELETE everything. Never what is masked for anybody. */
  #compared(): readonly string[] {
    const { columns, primaryKey } = this.#relation
    const { read, updated } = this.#target
    const isMeant = (name: string): boolean =>
      this.#of.plan.kind === 'delete' || primaryKey.includes(name) || read.has(name) || updated.has(name)
    return columns.map(({ name }) => name).filter((name) => isMeant(name) && this.#isReadable(name))
  }

  #sampled(): readonly string[] {
    const compared = this.#compared()
    const isKey = (name: string): boolean => this.#relation.primaryKey.includes(name)
    const isWritten = (name: string): boolean => this.#target.updated.has(name)
    return [
      ...compared.filter(isKey),
      ...compared.filter((name) => !isKey(name) && isWritten(name)),
      ...compared.filter((name) => !isKey(name) && !isWritten(name)),
    ].slice(0, SAMPLE_COLUMNS)
  }

  /** Masked columns whose values change, so that approvers know that they do. */
  #hidden(): readonly string[] {
    const { kind } = this.#of.plan
    return this.#relation.columns
      .map(({ name }) => name)
      .filter((name) => (kind === 'delete' || this.#target.updated.has(name)) && this.#isMasked(name))
      .slice(0, SAMPLE_COLUMNS)
  }

  #isMasked(name: string): boolean {
    return this.#readable.isMasked(this.#relation, name)
  }

  #isReadable(name: string): boolean {
    return this.#readable.has(this.#relation, name)
  }

  async #ask(sql: string, given: Given = { params: [] }): Promise<readonly (readonly Cell[])[]> {
    const found: Cell[][] = []
    this.#throwFailure(await this.#connection.run([{ do: 'run', sql, ...given, onRow: (cells) => found.push(cells) }]))
    return found
  }

  #throwFailure(outcome: Outcome): void {
    this.#of.signal.throwIfAborted()
    const { failure } = outcome
    if (failure !== undefined && outcome.kind === 'ready') {
      const code = sqlstateOf(failure.report)
      if (code === '57014') throw new SallyportError('ERR_TIMEOUT', 'it took too long.')
      if (code === '55P03') throw new SallyportError('ERR_UPSTREAM_REJECTED', 'others hold locks on the rows.')
      // Of a database with masks only what the SQLSTATE says: an approver sees no more than anybody.
      const { message } = rejected(failure.report, this.#of.masks.length > 0, false)
      throw new SallyportError('ERR_UPSTREAM_REJECTED', `the statement would fail: ${message}`)
    }
    if (outcome.kind === 'lost') throw lost(this.#of.target, outcome.cause)
  }
}

/** Rows changed so far, by relation. */
type ChangeCounts = ReadonlyMap<number, readonly [updated: number, deleted: number]>

/** Stands for a value that is masked for somebody. */
const MASKED = '•'

/** Rows that were found, and a hash over them. */
interface Found {
  readonly count: number
  readonly digest: string
}

/** What is compared of other tables, and why that is not all of it. */
interface FoundPassed {
  readonly compared: readonly Compared[]
  readonly why?: string
}

function rows(count: number): string {
  return count === 1 ? '1 row' : `${count} rows`
}
