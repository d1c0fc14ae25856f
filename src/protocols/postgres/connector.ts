/**
 * Runs a plan at the backend: exactly its text and parameters, in a transaction of its own (C1, C9).
 *
 * A read is one round trip: BEGIN READ ONLY, the guard of the session's pins, the statement parsed and bound, the guard
 * of the catalog, the rows, COMMIT. A guard that fails makes the backend skip the rest. A write stops before COMMIT until
 * its result was taken, because a caller who goes away before that has not been told that anything happened.
 *
 * Several statements are one transaction and an exchange each: before each of them the session is compared with its pins
 * and the catalog with the one all were judged by, because what ran before may have changed either.
 *
 * @packageDocumentation
 */
import type { Permit, Secret } from '../../core/call.ts'
import type { Chunk, ExitChunk, StatementResult } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import type { LoadedCatalog } from './catalog-load.ts'
import { FINGERPRINT_GUARD_SQL, SNAPSHOT_GUARD_SQL } from './catalog-sql.ts'
import { drifted, type UpstreamConnection } from './connection.ts'
import { lost, noticeOf, rejected, sqlstateOf, type BackendReport } from './errors.ts'
import type { Outcome, Step, TransactionStatus } from './exchange.ts'
import type { PostgresOptions } from './options.ts'
import { pinGuard, wholePinGuard } from './pins.ts'
import type { PostgresPlan } from './plan-types.ts'
import type { Pool } from './pool.ts'
import type { ResultLimits } from './result.ts'
import { Running } from './running.ts'

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
  /** Whether the door reads the result in several answers; see `Call.isPaged`. */
  readonly isPaged: boolean
  /** What persons approved it by, and must be found again. */
  readonly held?: Held
}

/** The guard of an approved write (C14). */
export interface Held {
  /** Fails with a division by zero unless the rows are those the approvers saw. */
  readonly step: Step
  /** Looks at the catalog now, on another connection. @throws StaleCatalog */
  readonly look: () => Promise<void>
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

/** The number of the transaction, which gets one now if it has none (PostgreSQL manual, section 9.27). */
export const XID_SQL = 'SELECT pg_catalog.txid_current()::pg_catalog.text'

/** Portals are told apart by a number: one that a limit has cut is still open while the next statement runs. */
const PORTAL = 'call'
const SAVEPOINT = 'sallyport_read'
const NOTICES_MAX = 50
const DIVISION_BY_ZERO = '22012'
const QUERY_CANCELED = '57014'
const SERIALIZATION_FAILURE = '40001'

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

/** The steps of one exchange, and which of them are not the statement's own. */
interface Script {
  readonly steps: readonly Step[]
  readonly pins: number
  readonly open: number
  readonly guard: number
}

/** One execution on one connection. */
class Attempt {
  readonly #execution: Execution
  readonly #connection: UpstreamConnection
  readonly #guard: GuardKind
  readonly #limits: ReturnType<typeof limitsOf>
  readonly #statements: readonly PostgresPlan[]
  readonly #notices: Chunk[] = []
  readonly #startedAt = performance.now()
  readonly #results: StatementResult[] = []
  /** Which statement runs, and its state. */
  #at = 0
  #now: Running
  #rowsBefore = 0
  #bytesBefore = 0
  /** From here on an abort can no longer undo the call; its outcome is waited for. */
  #isCommitting = false
  #cancelling: Promise<void> | undefined

  constructor(execution: Execution, connection: UpstreamConnection, guard: GuardKind) {
    this.#execution = execution
    this.#connection = connection
    this.#guard = guard
    this.#limits = limitsOf(execution)
    this.#statements = execution.plan.statements ?? [execution.plan]
    this.#now = this.#begin(this.#statements[0] ?? execution.plan)
  }

  async *run(isReused: boolean): AsyncGenerator<Chunk, void, undefined> {
    const { signal } = this.#execution.permit
    const abort = (): void => {
      if (this.#isCommitting) return
      this.#now.result.discard()
      this.#cancel(signal.reason)
    }
    signal.addEventListener('abort', abort, { once: true })
    try {
      signal.throwIfAborted()
      let status: TransactionStatus | undefined
      for (const [at, plan] of this.#statements.entries()) {
        if (at > 0) this.#goOn(at, plan)
        status = yield* this.#runOne(isReused && at === 0)
      }
      await this.#commit(status)
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
      this.#now.result.discard()
      await this.#connection.cancel(new Error('The call ended before its statement.'))
    }
    // It failed, or nobody waited for its COMMIT.
    if (this.#connection.isInTransaction) await this.#connection.run([{ do: 'run', sql: 'ROLLBACK' }])
    // A statement we did not understand may have done anything to its session.
    pool.release(this.#connection, plan.kind === 'unknown')
  }

  /** Runs the statement of this moment and yields its rows; what it wrote is not committed yet. */
  async *#runOne(isReused: boolean): AsyncGenerator<Chunk, TransactionStatus | undefined, undefined> {
    const { catalog, isPaged } = this.#execution
    const now = this.#now
    const head = (): Chunk => now.head(catalog.typeNames, isPaged)
    const script =
      this.#execution.held === undefined ? this.#script() : await this.#opened(this.#execution.held, isReused)
    const running = this.#connection.run(script.steps, (report) => this.#notice(report)).finally(() => now.result.end())
    let isHeadShown = false
    for (let rows = await now.result.next(); rows !== undefined; rows = await now.result.next()) {
      this.#throwIfOver()
      if (!isHeadShown) yield head()
      isHeadShown = true
      yield { kind: 'data', channel: 'rows', rows }
    }
    const outcome = await running
    this.#throwIfOver()
    this.#throwFailure(outcome, isReused, script)
    if (!isHeadShown && (now.hasColumns || this.#isSeveral)) yield head()
    // The statement has done its work; only rows are left, and the tag that says how many there were.
    if (now.isSuspended && !now.plan.readOnly) {
      this.#throwFailure(await this.#connection.run([now.fetchRest()], (report) => this.#notice(report)), false)
    }
    this.#results.push(now.ended())
    return outcome.kind === 'ready' ? outcome.status : undefined
  }

  /**
   * Opens a write that persons approved by its preview, and compares the rows it is about with those they saw.
   *
   * One snapshot serves the comparison and the statement, so that both are about the same rows; whoever changes one of them
   * in between makes the statement fail. That snapshot is older than the locks of the statement, so the catalog is looked
   * at once more, from outside, when those are held.
   */
  async #opened(held: Held, isReused: boolean): Promise<Script> {
    const script = this.#script()
    const opening = script.steps.slice(0, script.guard + 1)
    this.#throwFailure(await this.#connection.run(opening, (report) => this.#notice(report)), isReused, script)
    await held.look()
    this.#throwIfOver()
    const compared = await this.#connection.run([held.step])
    if (compared.failure !== undefined && sqlstateOf(compared.failure.report) === DIVISION_BY_ZERO) throw notAsSeen()
    this.#throwFailure(compared, false)
    return { steps: script.steps.slice(script.guard + 1), pins: -1, open: -1, guard: -1 }
  }

  /** Takes the next statement, with what the ones before it have left of the limits. */
  #goOn(at: number, plan: PostgresPlan): void {
    const { rowCount, bytes } = this.#now.result
    this.#rowsBefore += rowCount
    this.#bytesBefore += bytes
    this.#at = at
    this.#now = this.#begin(plan)
    if (this.#timeLeftMs <= 0) throw this.#timedOut()
  }

  #begin(plan: PostgresPlan): Running {
    const connection = this.#connection
    const limits = {
      rowsMax: Math.max(0, this.#limits.rowsMax - this.#rowsBefore),
      bytesMax: Math.max(0, this.#limits.bytesMax - this.#bytesBefore),
    }
    const feed = {
      pause: () => connection.pause(),
      resume: () => connection.resume(),
      // A write runs to its end whatever is shown of it, and so do statements that others follow.
      stop: () => (plan.readOnly && !this.#isSeveral ? this.#cancel(new Error('The result was cut.')) : undefined),
    }
    return new Running(plan, `${PORTAL}${this.#at}`, limits, feed, () =>
      connection.destroy(new Error('A masked column was about to be shown.')),
    )
  }

  get #isSeveral(): boolean {
    return this.#statements.length > 1
  }

  get #timeLeftMs(): number {
    return this.#limits.timeoutMs - Math.floor(performance.now() - this.#startedAt)
  }

  #script(): Script {
    const { plan, options, catalog } = this.#execution
    const now = this.#now
    const steps: Step[] = []
    const add = (step: Step): number => steps.push(step) - 1
    const run = (sql: string): number => add({ do: 'run', sql })
    const isFirst = this.#at === 0
    const isolation = this.#execution.held === undefined ? 'READ COMMITTED' : 'REPEATABLE READ'
    if (isFirst) run(`BEGIN ISOLATION LEVEL ${isolation} ${plan.readOnly ? 'READ ONLY' : 'READ WRITE'}`)
    // Functions of the statements before may have changed any setting, so that all of them are looked at again.
    const pins = add(
      isFirst
        ? pinGuard(options, this.#limits.timeoutMs, now.plan)
        : wholePinGuard(options, Math.max(1, this.#timeLeftMs), now.plan),
    )
    // A read among writes gets its belt as well: a subtransaction may be READ ONLY, and ends being so with it.
    const hasBelt = this.#isSeveral && now.plan.readOnly && !plan.readOnly
    if (hasBelt) {
      run(`SAVEPOINT ${SAVEPOINT}`)
      run('SET TRANSACTION READ ONLY')
    }
    const open = add({
      do: 'open',
      portal: now.portal,
      sql: now.plan.sql,
      params: now.plan.params,
      onFields: (fields) => now.described(fields),
    })
    // Our own writes make a snapshot of every statement, so between them the catalog itself is compared.
    const guard = add(
      isFirst && this.#guard === 'snapshot' && this.#execution.held === undefined
        ? { do: 'run', sql: SNAPSHOT_GUARD_SQL, params: [catalog.snapshot] }
        : { do: 'run', sql: FINGERPRINT_GUARD_SQL, params: [plan.fingerprint] },
    )
    add(now.fetch())
    if (hasBelt) run(`RELEASE SAVEPOINT ${SAVEPOINT}`)
    if (plan.readOnly && this.#at === this.#statements.length - 1) run('COMMIT')
    return { steps, pins, open, guard }
  }

  /** Ends the transaction. What a write did exists only once this has returned. */
  async #commit(status: TransactionStatus | undefined): Promise<void> {
    const { plan, target, permit } = this.#execution
    if (plan.readOnly) return
    // A statement we did not understand may itself have ended the transaction.
    if (status === 'I') return
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
        { facts: { noEffect: true } },
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
      sql: XID_SQL,
      onRow: ([cell]) => (xid = cell),
    }
    this.#throwFailure(await this.#connection.run([step]), false)
    // Fail closed: without it nobody could say later whether the call took effect.
    if (typeof xid !== 'string') throw lost(this.#execution.target, undefined)
    try {
      await permit.prove({ kind: 'postgres.xid', xid })
    } catch (cause) {
      const { code, message } = SallyportError.from(cause)
      throw new SallyportError(code, message, { facts: { noEffect: true }, cause })
    }
  }

  #exit(): ExitChunk {
    const [first] = this.#results
    const cut = this.#results.find(({ truncated }) => truncated)
    if (!this.#isSeveral && first !== undefined) return { kind: 'exit', ...first }
    return {
      kind: 'exit',
      status: this.#results.map(({ status }) => status).join('; '),
      rowCount: this.#results.reduce((sum, { rowCount }) => sum + (rowCount ?? 0), 0),
      truncated: cut !== undefined,
      ...(cut?.truncatedBy !== undefined && { truncatedBy: cut.truncatedBy }),
      results: this.#results,
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
    if (this.#now.isLeaking) {
      throw new SallyportError(
        'ERR_DENIED',
        'The result would have shown a masked column; it was stopped. Name the columns you need directly.',
        { facts: { construct: 'sql.mask.tripwire' } },
      )
    }
    const { tooLargeBytes } = this.#now.result
    // With rows of earlier statements to show, the limit cuts what follows instead.
    if (tooLargeBytes !== undefined && this.#rowsBefore === 0) {
      throw new SallyportError(
        'ERR_TOO_LARGE',
        `The first row has ${tooLargeBytes} bytes and the limit is ${this.#limits.bytesMax}; nothing was committed. Select fewer columns or a part of the value.`,
      )
    }
  }

  /** @param script the exchange it was, when it ran a statement of the plan. */
  #throwFailure(outcome: Outcome, isReused: boolean, script?: Script): void {
    const { target, plan } = this.#execution
    // We stopped it ourselves, because enough was read.
    if (this.#cancelling !== undefined && this.#now.result.truncatedBy !== undefined) return
    if (outcome.kind === 'lost') {
      if (outcome.cause instanceof SallyportError) throw outcome.cause
      if (isReused && outcome.answered === 0) throw new DeadConnection()
      if (plan.kind === 'unknown' && outcome.answered >= (script?.guard ?? 0)) {
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
    const sqlstate = sqlstateOf(failure.report)
    if (this.#execution.held !== undefined && sqlstate === SERIALIZATION_FAILURE) throw notAsSeen()
    const isGuard = sqlstate === DIVISION_BY_ZERO
    const isFirst = this.#at === 0
    if (isGuard && failure.step === script?.pins) throw isFirst ? drifted(target, 'pinned at its start') : this.#moved()
    if (isGuard && failure.step === script?.guard) {
      throw isFirst ? new StaleCatalog(this.#guard === 'fingerprint') : this.#moved()
    }
    // What was shown of the statements before cannot be taken back, so only the first may be planned again.
    if (failure.step === script?.open && isFirst) throw new NotOpened(this.#rejected(failure.report))
    throw this.#rejected(failure.report)
  }

  /** What the statement of this moment was judged by does not hold any more. */
  #moved(): SallyportError {
    return new SallyportError(
      'ERR_UPSTREAM_REJECTED',
      `Statement ${this.#at + 1} was judged by another schema or other settings than those it would run with: a statement before it, or somebody else, changed them. Nothing was changed; send the statements one at a time.`,
      { facts: { construct: 'sql.several', noEffect: true } },
    )
  }

  #timedOut(): SallyportError {
    const { timeoutMs } = this.#limits
    const what = this.#isSeveral ? 'statements' : 'statement'
    return new SallyportError(
      'ERR_TIMEOUT',
      `The ${what} ran longer than ${timeoutMs} ms and ${this.#isSeveral ? 'were' : 'was'} cancelled.`,
      {
        // None of several is committed before the last has ended.
        ...(this.#isSeveral && { facts: { noEffect: true } }),
      },
    )
  }

  #rejected(report: BackendReport): SallyportError {
    if (sqlstateOf(report) === QUERY_CANCELED && this.#timeLeftMs <= 0) return this.#timedOut()
    const { plan } = this.#now
    const error = rejected(report, this.#isMasked, plan.sql === plan.shown.text)
    // The transaction is ours, and was rolled back.
    const facts = { ...error.facts, ...(plan.kind !== 'unknown' && { noEffect: true as const }) }
    if (!this.#isSeveral) return new SallyportError(error.code, error.message, { facts })
    const where = this.#isCommitting ? 'At the end' : `Statement ${this.#at + 1} of ${this.#statements.length}`
    return new SallyportError(error.code, `${where}: ${error.message} Nothing was changed.`, {
      facts: { ...error.facts, noEffect: true },
    })
  }
}

/** Thrown when an approved write would not change what its approvers saw. Nothing of it is committed. */
export function notAsSeen(): SallyportError {
  return new SallyportError(
    'ERR_APPROVAL_STALE',
    'The rows are no longer those the approvers saw: others changed some of them. Nothing was changed, and the approvers are asked again.',
    { facts: { noEffect: true, askAgain: true, sqlstate: SERIALIZATION_FAILURE } },
  )
}
