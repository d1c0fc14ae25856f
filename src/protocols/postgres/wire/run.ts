/**
 * Runs one planned call of a wire client on its own backend connection (C1: the plan's text and what was bound, nothing
 * else).
 *
 * What reads or writes tables goes out as one pipeline: Parse, Bind, a guard that fails when the catalog is not the one
 * the plan was made with, Execute. Until the guard has passed, nothing of the statement has run, and the locks that Bind
 * took keep the catalog from changing after it. Inside a transaction, which a guard that fails would abort, the catalog is
 * looked at on a connection of its own instead, again after Bind. What touches no table goes out as it is.
 *
 * @packageDocumentation
 */
import type { Call, Permit } from '../../../core/call.ts'
import type { Chunk } from '../../../core/chunk.ts'
import { SallyportError } from '../../../core/errors.ts'
import type { LoadedCatalog } from '../catalog-load.ts'
import { FINGERPRINT_GUARD_SQL, SNAPSHOT_GUARD_SQL } from '../catalog-sql.ts'
import { heapOrder } from '../pins.ts'
import { notAsSeen, NotOpened, StaleCatalog, type GuardKind } from '../connector.ts'
import { encodeBind, type Bind } from '../messages/bind.ts'
import { BIND_COMPLETE, FLUSH, PARSE_COMPLETE, SYNC } from '../messages/control.ts'
import { encodeDescribe } from '../messages/describe.ts'
import type { BackendMessage } from '../messages/backend.ts'
import { rowsOfTag } from '../messages/command-complete.ts'
import { encodeExecute } from '../messages/execute.ts'
import { encodeParse } from '../messages/parse.ts'
import { encodeQuery } from '../messages/query.ts'
import type { Report } from '../messages/report.ts'
import { mayCommit } from '../plan-base.ts'
import type { PostgresPlan } from '../plan.ts'
import { Answer, exitOf } from './answer.ts'
import type { WireBackend } from './backend.ts'
import { CopyFeed } from './copy-feed.ts'
import { typesOf, type PortalCommand, type PortalRequest, type Statement, type WireCall } from './payload.ts'
import { TAKE_XID_SQL } from './open-transaction.ts'
import { isUnderMasks, reportedError } from './reported.ts'
import { Savepoint } from './savepoint.ts'
import { runScript } from './script.ts'

/** What one execution needs. */
export interface WireExecution {
  readonly call: Call
  readonly wire: WireCall
  readonly plan: PostgresPlan
  readonly permit: Permit
  readonly catalog: LoadedCatalog
  readonly guard: GuardKind
  /** Looks at the catalog now, on another connection. */
  readonly look: () => Promise<LoadedCatalog>
  /** SQL that fails with a division by zero unless the plan would do what its approvers saw, where they saw anything. */
  readonly comparison?: ((plan: PostgresPlan) => string) | undefined
  /** Set for what persons approved inside the open transaction of its client. */
  readonly inside?: HeldInside | undefined
}

/** What holds an execution to what its approvers saw where it is no transaction of its own. */
export interface HeldInside {
  /** Statements that lock the rows they saw, and fail with a division by zero where those are others by now. */
  locks(plan: PostgresPlan): readonly string[]
  /** How many rows it is to change; absent where nobody could say. */
  readonly count: number | undefined
}

const GUARD_PORTAL = 'sallyport_guard'
const DIVISION_BY_ZERO = '22012'
const SERIALIZATION_FAILURE = '40001'
const COMPARISON = 'sallyport_comparison'
const ISOLATION = 'sallyport_isolation'
const HEAP = 'sallyport_heap'
const HEAP_SHOWN = 'sallyport_heap_shown'

/** Where a run stands: its chunks are all handed on, and now it waits, goes on at once, or is over. */
export type Step = Promise<void> | 'go on' | 'done'

/** One way of running a call, driven from outside: {@link shift} until there is nothing, then {@link advance}, and again. */
export interface Run {
  /** Sends what comes first. @throws StaleCatalog, NotOpened before anything of the call ran; otherwise SallyportError. */
  open(): Promise<void>
  /** The next chunk, if it is there. */
  shift(): Chunk | undefined
  /** Takes what the backend has sent, and sends what it has to be sent. @throws SallyportError */
  advance(): Step
  /** How the call is written down. */
  exit(): Chunk
  /** Ends whatever the backend does now. Resolves when nothing of it can hit what comes after. */
  end(): Promise<void> | undefined
}

/** Makes ready to run the call. Whoever starts a run ends it. */
export function startRun(execution: WireExecution): Run {
  const { permit, wire, plan, catalog } = execution
  const answer = new Answer({
    backend: wire.backend,
    plan,
    permit,
    wire,
    typeName: (oid) => catalog.typeNames.get(oid) ?? '',
  })
  const run = runOf(execution, answer)
  const abort = (): void => run.stop(permit.signal.reason)
  permit.signal.throwIfAborted()
  permit.signal.addEventListener('abort', abort, { once: true })
  const { backend } = wire
  backend.isWithheld = permit.obligations.detect.length > 0 || isUnderMasks(execution.plan)
  backend.onNotice = (report) => answer.notice(report)
  return {
    open: () => run.open(),
    shift: () => run.shift(),
    advance: () => run.advance(),
    exit: () => exitOf(answer),
    end() {
      permit.signal.removeEventListener('abort', abort)
      backend.onNotice = undefined
      // The client went away, or closed its portal, while the backend was at work.
      run.stop(ENDED)
      const settled = answer.settled()
      if (settled !== undefined) return settled.then(() => run.close())
      run.close()
      return undefined
    },
  }
}

/** Made once: to note where an error comes from costs more than a statement. */
const ENDED = new Error('The call ended before its statement.')

interface StoppableRun extends Omit<Run, 'end' | 'exit'> {
  /** Ends what the backend is doing now, if it does anything. */
  stop(why: unknown): void
  close(): void
}

function runOf(execution: WireExecution, answer: Answer): StoppableRun {
  const { plan, wire, permit } = execution
  if (wire.portal !== undefined) return new PortalRun(execution, answer, wire.portal)
  // What runs only outside a transaction cannot share one with a guard.
  const isAlone = plan.outsideTransaction === true && wire.backend.status === 'I'
  // Of what was approved the number of its transaction is noted, which takes a pause before its end.
  const isProven = permit.prove !== undefined && plan.kind !== 'unknown' && plan.session === undefined
  if (((!needsGuard(plan) && !isProven) || isAlone) && !wire.isPart) return new QueryRun(execution, answer)
  // A Query message whose statement touches tables: sent in the extended protocol, answered as a Query is.
  const portal: PortalRequest = {
    statement: { sql: wire.sql, paramTypes: [], upstreamName: '', wanted: plan.sql, sent: undefined, isAnswered: true },
    bind: { type: 'Bind', portal: '', statement: '', paramFormats: [], params: [], resultFormats: [] },
    upstreamName: '',
    commands: [{ do: 'describe' }, { do: 'execute', rowsMax: 0 }],
    withSync: !wire.isPart || wire.isLast,
    state: 'open',
    isOpened: false,
    tag: '',
  }
  return new PortalRun(execution, answer, portal, '2n')
}

/** What statements do to a session without looking at a table; a guard before them would take the transaction's snapshot. */
const TABLELESS: ReadonlySet<string> = new Set([
  'begin',
  'commit',
  'rollback',
  'savepoint',
  'release',
  'rollback_to',
  'set',
  'discard',
  'deallocate',
  'close',
  'listen',
  'unlisten',
])

/** Whether what runs depends on the catalog. Fail closed: with masks, everything that is not known to be without tables. */
function needsGuard({ kind, objects, tripwire, session }: PostgresPlan): boolean {
  if (kind === 'unknown') return false
  if (objects.length > 0) return true
  return tripwire.length > 0 && kind !== 'show' && !TABLELESS.has(session?.does ?? '')
}

/** A Query message, sent on as one: a text that touches no table, or that is not understood. */
class QueryRun implements StoppableRun {
  readonly #execution: WireExecution
  readonly #answer: Answer
  #state: 'answering' | 'feeding' | 'answered' | 'done' = 'answering'
  #isBusy = false
  #feed: CopyFeed | undefined

  constructor(execution: WireExecution, answer: Answer) {
    this.#execution = execution
    this.#answer = answer
  }

  async open(): Promise<void> {
    const { plan, wire, comparison, inside } = this.#execution
    // Fail closed: nothing can be compared before what runs by itself.
    if (comparison !== undefined || inside !== undefined) throw inTransaction()
    if (needsGuard(plan)) {
      // As near before it as can be: whatever changes the catalog in between, the names that are sent are pinned.
      const { catalog } = await this.#execution.look()
      if (catalog.fingerprint !== plan.fingerprint) throw new StaleCatalog(true)
    }
    this.#isBusy = true
    wire.backend.send([encodeQuery({ type: 'Query', sql: plan.sql })])
    wire.backend.ran()
    wire.backend.isSyncSent = true
  }

  shift(): Chunk | undefined {
    return this.#answer.shift()
  }

  advance(): Step {
    if (this.#state === 'done') return 'done'
    if (this.#state === 'answered') {
      this.#state = 'done'
      return finish(this.#execution, this.#answer) ?? 'done'
    }
    if (this.#state === 'feeding') {
      return this.#goOnFeeding()
    }
    const end = this.#answer.take('ZG')
    if (end === undefined) return this.#answer.isReady ? 'go on' : this.#execution.wire.backend.arrived()
    if (end.letter === 'G') {
      this.#answer.pass(end)
      this.#answer.flush()
      this.#state = 'feeding'
      return 'go on'
    }
    this.#execution.wire.backend.synced(end.body)
    this.#isBusy = false
    // What came before an error is the client's, too: rows, notices, the statements before the one that failed.
    this.#answer.flush()
    this.#state = 'answered'
    return 'go on'
  }

  async #goOnFeeding(): Promise<void> {
    this.#feed ??= feedOf(this.#execution, this.#answer)
    if (await this.#feed.goOn()) return
    this.#feed = undefined
    this.#state = 'answering'
  }

  stop(why: unknown): void {
    if (this.#isBusy) this.#answer.stop(why)
  }

  close(): void {}
}

function feedOf({ call, plan, wire }: WireExecution, answer: Answer): CopyFeed {
  return new CopyFeed({ call, plan, backend: wire.backend, answer })
}

/** Throws what the call ended with, if it failed: at once, or when a cancel request that is under way was taken. */
function finish({ plan, wire }: WireExecution, answer: Answer): Promise<void> | undefined {
  const ended = (): void => {
    answer.throwIfStopped()
    if (answer.report !== undefined) throw refusedBy(answer.report, { plan, wire })
  }
  const settled = answer.settled()
  if (settled !== undefined) return settled.then(ended)
  ended()
  return undefined
}

/** What the backend said no with. It rolled the transaction back, which is all there was of a statement that ends none. */
function refusedBy(report: Report, { plan, wire }: Pick<WireExecution, 'plan' | 'wire'>): SallyportError {
  const error = reportedError(report, sentAs(plan), wire.sql)
  if (mayCommit(plan)) return error
  return new SallyportError(error.code, error.message, {
    facts: { ...error.facts, noEffect: true },
    cause: error.cause,
  })
}

function sentAs(plan: PostgresPlan): { readonly sql: string; readonly isMasked: boolean } {
  return { sql: plan.sql, isMasked: isUnderMasks(plan) }
}

/** One portal from its Bind to its end. */
class PortalRun implements StoppableRun {
  readonly #execution: WireExecution
  readonly #answer: Answer
  readonly #portal: PortalRequest
  readonly #backend: WireBackend
  /** Letters of answers the client did not ask for. */
  readonly #hidden: string
  /** Commands whose messages are on their way. */
  #sent = 0
  /** The command that is being answered. */
  #command: PortalCommand | undefined
  /** Set while the answer to a Describe of ours is awaited. */
  #isProbing = false
  /** Set while the backend owes an answer. */
  #isBusy = false
  /** What comes once the chunks that are there were handed on. */
  #next: 'command' | 'answered' | 'feed' | 'fail' | 'settle' | 'commit' = 'command'
  /** The end of an Execute that is the client's once the transaction was settled. */
  #end: BackendMessage | undefined
  #isProven = false
  /** Whether the transaction has ended, and the portal with it. */
  #isOver = false
  /** Whether its client knew the statement before this run. */
  #wasAnswered = true
  /** What its client had asked for when it began. */
  #asked: readonly PortalCommand[] = []
  /** Whether anything was handed on. */
  #hasShown = false
  /** What had run on the connection when this did last. */
  #runs = 0
  /** Stands before what runs under an approval inside the transaction of its client. */
  #savepoint: Savepoint | undefined
  /** Of what the savepoint stands in. */
  #xidBefore: string | undefined
  #feeding: CopyFeed | undefined

  constructor(execution: WireExecution, answer: Answer, portal: PortalRequest, hidden = '') {
    this.#execution = execution
    this.#answer = answer
    this.#portal = portal
    this.#backend = execution.wire.backend
    this.#hidden = hidden
  }

  shift(): Chunk | undefined {
    const chunk = this.#answer.shift()
    if (chunk !== undefined) this.#hasShown = true
    if (chunk !== undefined && this.#next === 'answered' && !this.#answer.isReady) this.#done()
    return chunk
  }

  advance(): Step {
    switch (this.#next) {
      case 'answered':
        this.#done()
        return 'go on'
      case 'feed':
        return this.#feed()
      case 'fail':
        this.#isBusy = false
        if (this.#isOvertaken) return this.#asksAgain()
        return finish(this.#execution, this.#answer) ?? 'done'
      case 'settle':
        return this.#settle()
      case 'commit':
        return this.#commit()
      default:
        return this.#goOn()
    }
  }

  stop(why: unknown): void {
    if (this.#isBusy) this.#answer.stop(why)
  }

  close(): void {
    const { upstreamName: name } = this.#portal
    if (name !== '' && !this.#isOver)
      this.#backend.sendAhead(encodeDescribe({ type: 'Close', what: 'portal', name }), '3')
  }

  /** Parses what the backend does not have yet, binds, and makes sure of the catalog. */
  async open(): Promise<void> {
    const { plan, comparison } = this.#execution
    const { statement } = this.#portal
    if (this.#isApproved) await this.#begin()
    const isHeld = comparison !== undefined
    if (isHeld && this.#savepoint === undefined) await this.#isolate()
    // Inside a transaction or a pipeline a guard that fails would undo what the client did before.
    const isFirst = this.#backend.status === 'I' && !this.#backend.isOpen
    const isGuarded = needsGuard(plan) && isFirst
    const isLooking = needsGuard(plan) && !isFirst && (plan.tripwire.length > 0 || isHeld)
    const isParsed = statement.sent === plan.sql
    const messages = isParsed ? [] : this.#parseMessages(plan.sql)
    messages.push(this.#bindMessage())
    const heap = plan.hidesOrder === true ? this.#heapMessages() : undefined
    if (heap !== undefined) messages.unshift(...heap.messages)
    const guard = isGuarded ? this.#guardMessages() : undefined
    if (guard !== undefined) messages.push(...guard.messages)
    if (isLooking || isHeld) messages.push(FLUSH)
    else this.#addCommands(messages)
    this.#ran()
    this.#send(messages)
    if (heap !== undefined) await this.#passOwn(this.#heapName(), heap.answers)
    if (!isParsed) {
      await this.#expect('1')
      statement.sent = plan.sql
    }
    await this.#expect('2')
    if (guard !== undefined) await this.#passOwn(`sallyport_${this.#execution.guard}`, guard.answers)
    if (isLooking) {
      const { catalog } = await this.#execution.look()
      if (catalog.fingerprint !== plan.fingerprint) throw new StaleCatalog(true)
    }
    if (isHeld) {
      for (const sql of this.#execution.inside?.locks(plan) ?? []) await this.#compare(sql)
      await this.#compare(comparison(plan))
    }
    if (isLooking || isHeld) {
      const more: Buffer[] = []
      this.#addCommands(more)
      this.#send(more)
    }
    this.#portal.isOpened = true
    // Should others overtake it, its approvers are asked again, and its client has heard nothing yet.
    this.#wasAnswered = statement.isAnswered
    this.#asked = [...this.#portal.commands]
    // A client that asks for a description first is told it: it executes only when it has heard.
    this.#answer.holdsBack = isHeld && this.#asked.some((command) => command.do === 'execute')
    this.#answerOpened(statement)
    // The client has only bound so far: it is told, and this waits for what it asks next.
    if (this.#portal.commands.length === 0) this.#answer.flush()
  }

  /** Takes note of it, and of what else ran since. */
  #ran(): void {
    this.#backend.ran()
    this.#runs = this.#backend.runs
  }

  /** What was compared when it was bound says nothing of what its client did between then and now. */
  #throwIfOvertakenByItsClient(): void {
    if (this.#isApproved && !this.#isProven && this.#runs !== this.#backend.runs) throw notAtOnce()
  }

  get #isApproved(): boolean {
    return this.#execution.permit.prove !== undefined
  }

  /**
   * What was approved is a transaction of its own, or what its approvers were told: a part of that of its client. Of nothing
   * else could be said what became of it.
   */
  async #begin(): Promise<void> {
    if (this.#execution.inside !== undefined) {
      if (this.#backend.status !== 'T') throw inTransaction()
      this.#savepoint = await Savepoint.open(this.#backend)
      if (!this.#execution.plan.readOnly) this.#xidBefore = await this.#backend.innermostTransactionId()
      return
    }
    if (this.#backend.status !== 'I' || this.#backend.hasRun) throw inTransaction()
    // A Parse or a Describe may have opened one, with a snapshot that is older than the approval.
    await this.#backend.sync()
  }

  /**
   * One snapshot serves the comparison and the statement, so that both are about the same rows; whoever changes one of them
   * in between makes the statement fail (PostgreSQL manual, section 13.2.2).
   */
  async #isolate(): Promise<void> {
    const heard = this.#backend.onNotice
    // The server warns that no BEGIN stands before it; until the Sync it holds all the same.
    this.#backend.onNotice = () => undefined
    try {
      const own = this.#ownMessages(ISOLATION, 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ', [], '')
      this.#send([...own.messages, FLUSH])
      await this.#passOwn(ISOLATION, own.answers)
    } finally {
      this.#backend.onNotice = heard
    }
  }

  /** Finds what the approvers saw, or has them asked again. */
  async #compare(sql: string): Promise<void> {
    const { bind, statement } = this.#portal
    const paramTypes = typesOf(statement)
    // A comparison that failed has left it behind.
    this.#backend.sendAhead(encodeDescribe({ type: 'Close', what: 'statement', name: COMPARISON }), '3')
    this.#send([
      encodeParse({ name: COMPARISON, sql, paramTypes }),
      encodeBind({ ...bind, portal: GUARD_PORTAL, statement: COMPARISON, resultFormats: [] }),
      encodeExecute({ portal: GUARD_PORTAL, rowsMax: 0 }),
      encodeDescribe({ type: 'Close', what: 'portal', name: GUARD_PORTAL }),
      encodeDescribe({ type: 'Close', what: 'statement', name: COMPARISON }),
      FLUSH,
    ])
    for (const letter of '12DC33') {
      if ((await this.#answered(letter)) !== 'E') continue
      this.#isBusy = false
      await this.#answer.settled()
      this.#answer.throwIfStopped()
      const code = this.#answer.report?.get('C')
      // Inside a transaction that has one snapshot for all of it, a conflict stays one.
      const isConflict = code === SERIALIZATION_FAILURE && this.#savepoint === undefined
      if (code === DIVISION_BY_ZERO || isConflict) return this.#asksAgain()
      throw refusedBy(this.#answer.report ?? new Map(), this.#execution)
    }
  }

  /** Ends the transaction, or takes back its part of it, of which nothing is left, so that the call can begin anew at once. */
  async #asksAgain(): Promise<never> {
    const isUnheard = this.#savepoint !== undefined && this.#portal.isOpened && !this.#hasShown
    if (this.#answer.holdsBack || isUnheard) {
      this.#answer.forget()
      this.#portal.statement.isAnswered = this.#wasAnswered
      this.#portal.isOpened = false
      this.#portal.commands.splice(0, this.#portal.commands.length, ...this.#asked)
    }
    if (this.#savepoint === undefined) await this.#backend.sync()
    else await this.#savepoint.undo()
    throw notAsSeen()
  }

  /** Whether others changed a row after it was compared. */
  get #isOvertaken(): boolean {
    const isHeld = this.#execution.comparison !== undefined && this.#savepoint === undefined
    return isHeld && this.#answer.stopped === undefined && this.#answer.report?.get('C') === SERIALIZATION_FAILURE
  }

  #bindMessage(): Buffer {
    const { statement, upstreamName } = this.#portal
    return encodeBind({ ...this.#bind(), portal: upstreamName, statement: statement.upstreamName })
  }

  /** Told only now: what was planned with an old catalog is opened once more, and its client hears of one time. */
  #answerOpened(statement: Statement): void {
    if (!statement.isAnswered) this.#answer.push(PARSE_COMPLETE)
    statement.isAnswered = true
    if (!this.#hidden.includes('2')) this.#answer.push(BIND_COMPLETE)
  }

  async #expect(letter: string): Promise<void> {
    if ((await this.#answered(letter)) === 'E') throw await this.#notOpened()
  }

  async #answered(letter: string): Promise<string> {
    for (;;) {
      const came = this.#answer.expect(letter)
      if (came !== undefined) return came
      await this.#backend.arrived()
    }
  }

  /** The backend did not take the statement: the caller's mistake, or the first sign of another catalog. */
  async #notOpened(): Promise<Error> {
    this.#isBusy = false
    await this.#answer.settled()
    this.#answer.throwIfStopped()
    const rejection = refusedBy(this.#answer.report ?? new Map(), this.#execution)
    return this.#backend.status === 'I' ? new NotOpened(rejection) : rejection
  }

  /** Takes the answers to a statement of ours. */
  async #passOwn(name: string, answers: string): Promise<void> {
    for (const letter of answers) {
      const came = this.#answer.expect(letter) ?? (await this.#answered(letter))
      if (came === '1') this.#backend.prepared.add(name)
      if (came !== 'E') continue
      this.#isBusy = false
      await this.#answer.settled()
      this.#answer.throwIfStopped()
      const isStale = this.#answer.report?.get('C') === DIVISION_BY_ZERO
      if (isStale) throw new StaleCatalog(this.#execution.guard === 'fingerprint')
      throw refusedBy(this.#answer.report ?? new Map(), this.#execution)
    }
  }

  #parseMessages(sql: string): Buffer[] {
    const { upstreamName: name, sent } = this.#portal.statement
    // Policy, masks or catalog changed since it was parsed: what runs is what was judged now (R19).
    if (name !== '' && sent !== undefined) {
      this.#backend.sendAhead(encodeDescribe({ type: 'Close', what: 'statement', name }), '3')
    }
    return [encodeParse({ name, sql, paramTypes: typesOf(this.#portal.statement) })]
  }

  #bind(): Bind {
    const { bind } = this.#portal
    const isText = !bind.resultFormats.includes(1)
    if (isText || this.#execution.permit.obligations.detect.length === 0) return bind
    throw new SallyportError(
      'ERR_DENIED',
      'The policy looks for sensitive values in results, so they cannot travel in binary form; ask for text.',
      { facts: { construct: 'sql.binary_result' } },
    )
  }

  /** Rows then come as they lie in the table: the order of an index would tell how masked values compare. */
  #heapMessages(): { readonly messages: readonly Buffer[]; readonly answers: string } {
    return this.#ownMessages(this.#heapName(), `SELECT ${heapOrder(this.#execution.plan)}`, [])
  }

  #heapName(): string {
    return this.#execution.plan.kind === 'explain' ? HEAP_SHOWN : HEAP
  }

  #guardMessages(): { readonly messages: readonly Buffer[]; readonly answers: string } {
    const { guard, catalog, plan } = this.#execution
    const value = guard === 'snapshot' ? catalog.snapshot : plan.fingerprint
    const name = `sallyport_${guard}`
    // Most often the very same bytes as for the statement before.
    const last = this.#backend.lastGuard
    if (last?.name === name && last.value === value && this.#backend.prepared.has(name)) return last
    const sql = guard === 'snapshot' ? SNAPSHOT_GUARD_SQL : FINGERPRINT_GUARD_SQL
    const own = this.#ownMessages(name, sql, [Buffer.from(value)])
    if (this.#backend.prepared.has(name)) this.#backend.lastGuard = { ...own, name, value }
    return own
  }

  #ownMessages(
    name: string,
    sql: string,
    params: readonly Buffer[],
    rows = 'D',
  ): { readonly messages: readonly Buffer[]; readonly answers: string } {
    const messages = [
      encodeBind({ portal: GUARD_PORTAL, statement: name, paramFormats: [], params, resultFormats: [] }),
      encodeExecute({ portal: GUARD_PORTAL, rowsMax: 0 }),
      encodeDescribe({ type: 'Close', what: 'portal', name: GUARD_PORTAL }),
    ]
    if (this.#backend.prepared.has(name)) return { messages, answers: `2${rows}C3` }
    return { messages: [encodeParse({ name, sql, paramTypes: [] }), ...messages], answers: `12${rows}C3` }
  }

  /** Adds messages for all commands that wait, and for the Sync behind them. */
  #addCommands(messages: Buffer[]): void {
    const { upstreamName: name, commands, withSync } = this.#portal
    // Masked columns are looked for in the description, whether or not the client wants one (R18); of what is only bound so
    // far nothing is handed on that could hold any.
    const isBlind = this.#execution.plan.tripwire.length > 0 && !this.#answer.isDescribed
    this.#isProbing = isBlind && commands[0]?.do === 'execute'
    if (this.#isProbing) messages.push(describePortal(name))
    for (const command of commands) {
      messages.push(command.do === 'describe' ? describePortal(name) : executePortal(name, command.rowsMax))
    }
    // What was approved is noted before it is committed.
    messages.push(withSync && !this.#isApproved ? SYNC : FLUSH)
    this.#sent = commands.length
  }

  #send(messages: readonly Buffer[]): void {
    this.#isBusy = true
    this.#backend.send(messages)
    if (messages.at(-1) === SYNC) this.#backend.isSyncSent = true
  }

  /** Does what the client asks of the portal, one command after the other. */
  #goOn(): Step {
    const { commands, state } = this.#portal
    const [command] = commands
    // The listener pulls only while something is to be done, and once more when the portal is complete.
    if (command === undefined || state === 'complete') {
      this.#answer.flush()
      return this.#answer.isReady ? 'go on' : 'done'
    }
    if (command !== this.#command) {
      this.#command = command
      this.#execution.permit.signal.throwIfAborted()
      if (this.#sent === 0) {
        this.#throwIfOvertakenByItsClient()
        const messages: Buffer[] = []
        this.#addCommands(messages)
        this.#ran()
        this.#send(messages)
      }
    }
    const isDescription = this.#isProbing || command.do === 'describe'
    const end = this.#answer.take(isDescription ? 'TnE' : 'CIsEG')
    if (end === undefined) return this.#answer.isReady ? 'go on' : this.#backend.arrived()
    if (end.letter === 'G') {
      this.#answer.pass(end)
      this.#answer.flush()
      this.#next = 'feed'
    } else if (end.letter === 'E' || this.#answer.stopped !== undefined) {
      if (!this.#isOvertaken) this.#answer.holdsBack = false
      // What came before the error was not wrong.
      this.#answer.flush()
      this.#next = 'fail'
    } else if (this.#isProbing) this.#isProbing = false
    else if (command.do === 'describe') this.#described(end)
    else this.#executed(end)
    return 'go on'
  }

  #described(end: BackendMessage): void {
    if (!this.#hidden.includes(end.letter)) this.#answer.pass(end)
    if (this.#portal.commands.length === 1) this.#answer.flush()
    this.#next = 'answered'
    if (!this.#answer.isReady) this.#done()
  }

  #executed(end: BackendMessage): void {
    if (this.#isApproved && this.#end !== end) {
      this.#end = end
      this.#next = 'settle'
      return
    }
    if (this.#endsTransaction(end)) {
      this.#end = end
      this.#next = 'commit'
      return
    }
    this.#complete(end)
  }

  /** Whether a Sync is behind it already, and no transaction of its client's around it. */
  #endsTransaction({ letter }: BackendMessage): boolean {
    const { withSync, commands } = this.#portal
    const { isSyncSent, status } = this.#backend
    return withSync && isSyncSent && status === 'I' && commands.length === 1 && letter !== 's' && !this.#isApproved
  }

  /**
   * Only the end of its transaction tells whether it was done: a constraint may be looked at no sooner. The server ends
   * that of a Query before it says that its statement is complete, and that of an Execute after it (`postgres.c`).
   */
  #commit(): Step {
    const end = this.#end
    if (end === undefined) throw new TypeError('Nothing has ended.')
    this.#next = 'command'
    // A cancel request would hit nothing of it any more, and could hit what comes next.
    this.#isBusy = false
    if (this.#hidden === '') this.#answer.pass(end)
    const committing = this.#backend.sync()
    if (committing !== undefined) return committing.then(() => this.#committed(end))
    this.#committed(end)
    return 'go on'
  }

  #committed(end: BackendMessage): void {
    this.#isOver = this.#backend.status === 'I'
    const refused = this.#backend.takeRefusal()
    if (refused === undefined) return this.#complete(end, this.#hidden === '')
    this.#answer.report = refused
    this.#answer.flush()
    this.#next = 'fail'
  }

  #complete(end: BackendMessage, isPassed = false): void {
    this.#portal.state = end.letter === 's' ? 'suspended' : 'complete'
    this.#portal.tag = this.#answer.tag
    if (!isPassed) this.#answer.pass(end)
    this.#answer.flush()
    this.#next = 'answered'
    if (!this.#answer.isReady) this.#done()
  }

  /**
   * Notes by what the outcome can be asked for, and then commits: a client that hears that it was done can rely on it, and
   * so can whoever reads the ticket.
   */
  async #settle(): Promise<void> {
    const { permit } = this.#execution
    const end = this.#end
    if (end === undefined) throw new TypeError('Nothing has ended.')
    this.#next = 'command'
    this.#isBusy = false
    if (this.#savepoint !== undefined) return this.#settleInside(end, this.#savepoint)
    if (!this.#isProven) await this.#prove()
    permit.signal.throwIfAborted()
    this.#answer.throwIfStopped()
    const refused = end.letter === 's' ? undefined : await this.#backend.commit()
    if (refused?.get('C') === SERIALIZATION_FAILURE && this.#execution.comparison !== undefined) throw notAsSeen()
    if (refused !== undefined) throw refusedBy(refused, this.#execution)
    this.#executed(end)
  }

  /**
   * Leaves it to the transaction of its client, which decides what becomes of it. Should any of this fail, its client's
   * transaction fails with it: nothing of it stays.
   */
  async #settleInside(end: BackendMessage, savepoint: Savepoint): Promise<void> {
    const { permit, plan, inside } = this.#execution
    if (!this.#isProven) {
      // How many rows it changed is only said when all that it returns was taken.
      if (end.letter === 's' && !plan.readOnly) throw takenAtOnce()
      const { count } = inside ?? {}
      if (count !== undefined && rowsOfTag(this.#answer.tag) !== count) return this.#asksAgain()
      permit.signal.throwIfAborted()
      this.#answer.throwIfStopped()
      await this.#prove()
      await savepoint.release()
    }
    this.#executed(end)
  }

  async #prove(): Promise<void> {
    this.#isProven = true
    const { plan } = this.#execution
    const isInside = this.#savepoint !== undefined
    // What only reads has nothing to be asked about; on a standby it could not even have a number. Of what commits by
    // itself the last transaction is not all; inside another one it cannot.
    if (plan.readOnly || (mayCommit(plan) && !isInside)) return
    const xid = await (isInside ? this.#xidInside() : this.#backend.transactionId())
    if (xid === undefined) throw new TypeError('a transaction that writes has a number')
    try {
      await this.#execution.permit.prove?.({ kind: 'postgres.xid', xid })
    } catch (cause) {
      const { code, message } = SallyportError.from(cause)
      throw new SallyportError(code, message, { facts: { noEffect: true }, cause })
    }
  }

  /**
   * The number of the savepoint's own subtransaction. What stands around it may be committed when this was gone back
   * behind, so no other number tells what became of it.
   */
  async #xidInside(): Promise<string | undefined> {
    const found = await this.#backend.innermostTransactionId()
    if (found !== this.#xidBefore) return found
    const { failure } = await runScript(this.#backend, [{ do: 'run', sql: TAKE_XID_SQL }])
    const taken = failure === undefined ? await this.#backend.innermostTransactionId() : found
    // Fail closed: nobody could say later whether it took effect.
    if (taken === found) throw notProven()
    return taken
  }

  /** Sends what the client sends, once it was told that the backend takes it. */
  async #feed(): Promise<void> {
    this.#feeding ??= feedOf(this.#execution, this.#answer)
    if (await this.#feeding.goOn()) return
    this.#feeding = undefined
    this.#next = 'command'
    // In the middle of COPY the backend passes over a Sync, so one that went ahead is sent once more.
    this.#backend.send([this.#portal.withSync ? SYNC : FLUSH])
  }

  /** One command was answered. */
  #done(): void {
    this.#next = 'command'
    this.#portal.commands.shift()
    this.#sent--
    this.#isBusy = this.#sent > 0
  }
}

function takenAtOnce(): SallyportError {
  return new SallyportError(
    'ERR_DENIED',
    'What was approved inside a transaction hands on what it returns all at once; execute it without a limit of rows.',
    { facts: { noEffect: true, sqlstate: '0A000' } },
  )
}

/** It wrote nothing that has a number, and the role may not write what would have one. */
function notProven(): SallyportError {
  return new SallyportError(
    'ERR_DENIED',
    'Nobody could say later what became of this statement inside a transaction: the database role may not call ' +
      'pg_logical_emit_message. Send it by itself, outside a transaction.',
    { facts: { noEffect: true } },
  )
}

/** Bound, approved and compared, but then its client did something else first. */
function notAtOnce(): SallyportError {
  return new SallyportError(
    'ERR_APPROVAL_STALE',
    'Something else ran between Bind and Execute of what persons have approved; send the two one after the other.',
    { facts: { noEffect: true } },
  )
}

/** Approved by itself, and now about to run as a part of something larger. Nothing of it is sent. */
function inTransaction(): SallyportError {
  return new SallyportError(
    'ERR_APPROVAL_STALE',
    'What persons have approved runs in a transaction of its own; send the statement by itself, outside a transaction.',
    { facts: { noEffect: true } },
  )
}

const DESCRIBE_UNNAMED = encodeDescribe({ type: 'Describe', what: 'portal', name: '' })
const EXECUTE_UNNAMED = encodeExecute({ portal: '', rowsMax: 0 })

function describePortal(name: string): Buffer {
  return name === '' ? DESCRIBE_UNNAMED : encodeDescribe({ type: 'Describe', what: 'portal', name })
}

function executePortal(name: string, rowsMax: number): Buffer {
  return name === '' && rowsMax === 0 ? EXECUTE_UNNAMED : encodeExecute({ portal: name, rowsMax })
}
