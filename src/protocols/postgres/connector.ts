/**
 * Runs a plan at the backend: exactly its text and parameters, in a transaction of its own (C1, C9).
 *
 * A read is one round trip: BEGIN READ ONLY, the guard of the session's pins, the statement parsed and bound, the guard
 * of the catalog, the rows, COMMIT. A guard that fails makes the backend skip the rest. A write stops before COMMIT until
 * its result was taken, because a caller who goes away before that has not been told that anything happened.
 *
 * @packageDocumentation
 */
import type { FieldDef } from 'pg'
import type { Permit, Secret } from '../../core/call.ts'
import type { Chunk, ExitChunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import type { LoadedCatalog } from './catalog-load.ts'
import { FINGERPRINT_GUARD_SQL, SNAPSHOT_GUARD_SQL } from './catalog-sql.ts'
import { drifted, pinGuard, type UpstreamConnection } from './connection.ts'
import { lost, noticeOf, rejected, sqlstateOf, type BackendReport } from './errors.ts'
import type { FetchStep, Outcome, Step } from './exchange.ts'
import type { PostgresOptions } from './options.ts'
import type { PostgresPlan } from './plan-types.ts'
import type { Pool } from './pool.ts'
import { columnsOf, isLeak, ResultBuffer, type ResultLimits } from './result.ts'

/** What one execution needs. */
export interface Execution {
  readonly target: string
  readonly options: PostgresOptions
  readonly plan: PostgresPlan
  readonly permit: Permit
  readonly secret: Secret
  readonly pool: Pool
  /** The catalog as last seen. */
  readonly catalog: LoadedCatalog
  /** Whether the text sent is the caller's own, so that positions in it mean something to the caller. */
  readonly isVerbatim: boolean
  /** Whether the door reads the result in several answers; see `Call.isPaged`. */
  readonly isPaged: boolean
}

/** Thrown inside this protocol when the catalog is not the one the plan was made with. Nothing of the plan ran. */
export class StaleCatalog extends Error {
  readonly isCertain: boolean

  /** @param isCertain whether the catalog itself was compared, and not only the snapshot. */
  constructor(isCertain: boolean) {
    super('The catalog changed.')
    this.isCertain = isCertain
  }
}

/**
 * Thrown inside this protocol when the backend did not take the statement: the call's own mistake, or the first sign of
 * a schema that changed. Nothing of the plan ran.
 */
export class NotOpened extends Error {
  readonly rejection: SallyportError

  constructor(rejection: SallyportError) {
    super(rejection.message)
    this.rejection = rejection
  }
}

/** Thrown inside this protocol when a connection that waited in the pool turned out to be dead. Nothing ran. */
export class DeadConnection extends Error {}

/** How the catalog guard looks: at the snapshot alone, or at the catalog. */
export type GuardKind = 'snapshot' | 'fingerprint'

const PORTAL = 'call'
const NOTICES_MAX = 50
const DIVISION_BY_ZERO = '22012'
const QUERY_CANCELED = '57014'
/** Steps of the first exchange, by position. */
const PINS = 1
const OPEN = 2
const GUARD = 3

/** The limits of one call: the least of what the policy, the caller and the target say. */
function limitsOf({ options, plan, permit, isPaged }: Execution): ResultLimits & { readonly timeoutMs: number } {
  const { rowsMax, bytesMax, timeoutMs } = permit.obligations
  return {
    rowsMax: Math.min(rowsMax ?? options.rowsMax, (isPaged ? undefined : plan.rowsMax) ?? Infinity, ROWS_CEILING),
    bytesMax: Math.min(bytesMax ?? options.bytesMax, BYTES_CEILING),
    timeoutMs: Math.max(1, Math.min(timeoutMs ?? Infinity, options.statementTimeoutMs)),
  }
}

/** Row counts travel as 32-bit numbers, and one more row is asked for than may be shown. */
const ROWS_CEILING = 0x7fff_fffe
/** One result may not be larger than what a caller's client can be expected to take. */
const BYTES_CEILING = 1024 ** 3

/**
 * Executes once.
 *
 * @throws StaleCatalog, NotOpened or DeadConnection, before anything of the plan ran; otherwise SallyportError.
 */
export async function* execute(execution: Execution, guard: GuardKind): AsyncGenerator<Chunk, void, undefined> {
  const { signal } = execution.permit
  const { connection, isReused } = await execution.pool.lease(execution.secret, signal)
  const attempt = new Attempt(execution, connection, guard)
  try {
    yield* attempt.run(isReused)
  } finally {
    await attempt.end()
  }
}

/** One execution on one connection. */
class Attempt {
  readonly #execution: Execution
  readonly #connection: UpstreamConnection
  readonly #guard: GuardKind
  readonly #limits: ReturnType<typeof limitsOf>
  readonly #result: ResultBuffer
  readonly #notices: Chunk[] = []
  readonly #startedAt = performance.now()
  #fields: readonly FieldDef[] = []
  #tag: string | undefined
  #isSuspended = false
  #fetchedBefore = 0
  #isLeaking = false
  /** From here on an abort can no longer undo the call; its outcome is waited for. */
  #isCommitting = false
  #cancelling: Promise<void> | undefined

  constructor(execution: Execution, connection: UpstreamConnection, guard: GuardKind) {
    this.#execution = execution
    this.#connection = connection
    this.#guard = guard
    this.#limits = limitsOf(execution)
    this.#result = new ResultBuffer(this.#limits, {
      pause: () => connection.pause(),
      resume: () => connection.resume(),
      // A write runs to its end whatever is shown of it.
      stop: () => (execution.plan.readOnly ? this.#cancel(new Error('The result was cut.')) : undefined),
    })
  }

  async *run(isReused: boolean): AsyncGenerator<Chunk, void, undefined> {
    const { signal } = this.#execution.permit
    const abort = (): void => {
      if (this.#isCommitting) return
      this.#result.discard()
      this.#cancel(signal.reason)
    }
    signal.addEventListener('abort', abort, { once: true })
    try {
      signal.throwIfAborted()
      const running = this.#connection
        .run(this.#script(), (report) => this.#notice(report))
        .finally(() => this.#result.end())
      let isHeadShown = false
      for (let rows = await this.#result.next(); rows !== undefined; rows = await this.#result.next()) {
        this.#throwIfOver()
        if (!isHeadShown) yield this.#head()
        isHeadShown = true
        yield { kind: 'data', channel: 'rows', rows }
      }
      const outcome = await running
      this.#throwIfOver()
      this.#throwFailure(outcome, isReused)
      if (!isHeadShown && this.#fields.length > 0) yield this.#head()
      await this.#commit(outcome)
      yield* this.#notices
      yield this.#exit()
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  /** Leaves nothing running and gives the connection back. */
  async end(): Promise<void> {
    const { plan, pool } = this.#execution
    if (this.#cancelling !== undefined) await this.#cancelling
    // The caller went away while rows were under way: the statement is ended, and with it the transaction.
    if (this.#connection.isBusy) {
      this.#result.discard()
      await this.#connection.cancel(new Error('The call ended before its statement.'))
    }
    // It failed, or nobody waited for its COMMIT.
    if (this.#connection.isInTransaction) await this.#connection.run([{ do: 'run', sql: 'ROLLBACK' }])
    // A statement we did not understand may have done anything to its session.
    pool.release(this.#connection, plan.kind === 'unknown')
  }

  #script(): Step[] {
    const { plan, options, catalog } = this.#execution
    const script: Step[] = [
      { do: 'run', sql: `BEGIN ISOLATION LEVEL READ COMMITTED ${plan.readOnly ? 'READ ONLY' : 'READ WRITE'}` },
      pinGuard(options, this.#limits.timeoutMs, plan.hidesOrder),
      {
        do: 'open',
        portal: PORTAL,
        sql: plan.sql,
        params: plan.params,
        onFields: (fields) => this.#described(fields),
      },
      this.#guard === 'snapshot'
        ? { do: 'run', sql: SNAPSHOT_GUARD_SQL, params: [catalog.snapshot] }
        : { do: 'run', sql: FINGERPRINT_GUARD_SQL, params: [plan.fingerprint] },
      this.#fetch(this.#limits.rowsMax + 1),
    ]
    if (plan.readOnly) script.push({ do: 'run', sql: 'COMMIT' })
    return script
  }

  #fetch(rowsMax: number): FetchStep {
    return {
      do: 'fetch',
      portal: PORTAL,
      rowsMax,
      onRow: (cells, bytes) => this.#result.push(cells, bytes),
      onDone: (tag) => {
        this.#isSuspended = tag === undefined
        this.#tag = tag
      },
    }
  }

  #described(fields: readonly FieldDef[]): void {
    this.#fields = fields
    if (!fields.some((field) => isLeak(field, this.#execution.plan))) return
    // Fail closed: the rewriting missed a masked column. The rows are already on their way; none is looked at.
    this.#isLeaking = true
    this.#connection.destroy(new Error('A masked column was about to be shown.'))
  }

  /** Ends the transaction. What a write did exists only once this has returned. */
  async #commit(outcome: Outcome): Promise<void> {
    const { plan, target, permit } = this.#execution
    if (plan.readOnly) return
    if (this.#isSuspended) {
      // Each Execute counts only its own rows.
      this.#fetchedBefore = this.#limits.rowsMax + 1
      // The statement has done its work; only rows are left, and the tag that says how many there were.
      this.#throwFailure(await this.#connection.run([this.#fetch(0)], (report) => this.#notice(report)), false)
    }
    // A statement we did not understand may itself have ended the transaction.
    if (outcome.kind === 'ready' && outcome.status === 'I') return
    await this.#prove()
    permit.signal.throwIfAborted()
    this.#isCommitting = true
    let tag: string | undefined
    const step: Step = { do: 'run', sql: 'COMMIT', onDone: (text) => (tag = text) }
    const committed = await this.#connection.run([step], (report) => this.#notice(report))
    if (committed.failure !== undefined && committed.kind === 'ready') throw this.#rejected(committed.failure.report)
    if (tag === 'COMMIT') return
    if (tag === 'ROLLBACK') {
      throw new SallyportError(
        'ERR_UPSTREAM_REJECTED',
        'The database rolled the transaction back; nothing was changed.',
      )
    }
    throw new SallyportError(
      'ERR_OUTCOME_UNKNOWN',
      `The connection to target ${target} was lost while the change was being committed; look at the data before trying again.`,
      { cause: committed.kind === 'lost' ? committed.cause : undefined },
    )
  }

  /** Notes the transaction's id while it can still be rolled back: whoever finds the ticket later asks what became of it. */
  async #prove(): Promise<void> {
    const { permit } = this.#execution
    if (permit.prove === undefined) return
    let xid: string | null | undefined
    const step: Step = {
      do: 'run',
      sql: 'SELECT pg_catalog.txid_current_if_assigned()::pg_catalog.text',
      onRow: ([cell]) => (xid = cell),
    }
    this.#throwFailure(await this.#connection.run([step]), false)
    // A transaction without an id has changed nothing that could be asked about.
    if (typeof xid !== 'string') return
    try {
      await permit.prove({ kind: 'postgres.xid', xid })
    } catch (cause) {
      const { code, message } = SallyportError.from(cause)
      throw new SallyportError(code, message, { facts: { noEffect: true }, cause })
    }
  }

  #head(): Chunk {
    const { plan, catalog } = this.#execution
    const { masking } = plan
    const attributes = {
      ...(masking !== undefined && masking !== 'none' && { masking }),
      ...(this.#execution.isPaged && { paging: 'true' }),
    }
    return {
      kind: 'head',
      columns: columnsOf(this.#fields, plan, catalog.typeNames),
      ...(Object.keys(attributes).length > 0 && { attributes }),
    }
  }

  #exit(): ExitChunk {
    const { rowCount, truncatedBy } = this.#result
    const { plan } = this.#execution
    const isCut = truncatedBy !== undefined
    // A cut read has no tag of its own, or one that counts the row that was read too much.
    const tag = this.#tag === undefined || (isCut && plan.readOnly) ? `SELECT ${rowCount}` : this.#tag
    const [, word = tag, number] = /^(.*?)(\d+)$/u.exec(tag) ?? []
    const count = number === undefined ? undefined : Number(number) + this.#fetchedBefore
    const shown = this.#fields.length > 0 ? rowCount : undefined
    return {
      kind: 'exit',
      status: count === undefined ? tag : `${word}${count}`,
      ...((count ?? shown) !== undefined && { rowCount: count ?? shown ?? 0 }),
      truncated: isCut,
      ...(isCut && { truncatedBy }),
    }
  }

  #notice(report: BackendReport): void {
    if (this.#notices.length < NOTICES_MAX) this.#notices.push(noticeOf(report, this.#isMasked))
  }

  get #isMasked(): boolean {
    const { plan } = this.#execution
    return plan.masks.length > 0 || plan.touchesMasked
  }

  #cancel(reason: unknown): void {
    this.#cancelling ??= this.#connection.cancel(reason)
  }

  /** Throws what ends the call whatever else happened. */
  #throwIfOver(): void {
    this.#execution.permit.signal.throwIfAborted()
    if (this.#isLeaking) {
      throw new SallyportError(
        'ERR_DENIED',
        'The result would have shown a masked column; it was stopped. Name the columns you need directly.',
        { facts: { construct: 'sql.mask.tripwire' } },
      )
    }
    const { tooLargeBytes } = this.#result
    if (tooLargeBytes !== undefined) {
      throw new SallyportError(
        'ERR_TOO_LARGE',
        `The first row has ${tooLargeBytes} bytes and the limit is ${this.#limits.bytesMax}; nothing was committed. Select fewer columns or a part of the value.`,
      )
    }
  }

  #throwFailure(outcome: Outcome, isReused: boolean): void {
    const { target, plan } = this.#execution
    // We stopped it ourselves, because enough was read.
    if (this.#cancelling !== undefined && this.#result.truncatedBy !== undefined) return
    if (outcome.kind === 'lost') {
      if (outcome.cause instanceof SallyportError) throw outcome.cause
      if (isReused && outcome.answered === 0) throw new DeadConnection()
      if (plan.kind === 'unknown' && outcome.answered >= GUARD) {
        throw new SallyportError(
          'ERR_OUTCOME_UNKNOWN',
          `The connection to target ${target} was lost while the statement ran; look at the data before trying again.`,
          { cause: outcome.cause },
        )
      }
      throw lost(target, outcome.cause)
    }
    const { failure } = outcome
    if (failure === undefined) return
    const isGuard = sqlstateOf(failure.report) === DIVISION_BY_ZERO
    if (isGuard && failure.step === PINS) throw drifted(target, 'pinned at its start')
    if (isGuard && failure.step === GUARD) throw new StaleCatalog(this.#guard === 'fingerprint')
    if (failure.step === OPEN) throw new NotOpened(this.#rejected(failure.report))
    throw this.#rejected(failure.report)
  }

  #rejected(report: BackendReport): SallyportError {
    const { timeoutMs } = this.#limits
    if (sqlstateOf(report) === QUERY_CANCELED && performance.now() - this.#startedAt >= timeoutMs) {
      return new SallyportError('ERR_TIMEOUT', `The statement ran longer than ${timeoutMs} ms and was cancelled.`)
    }
    return rejected(report, this.#isMasked, this.#execution.isVerbatim)
  }
}
