/**
 * One client of the listener: its messages in their order, each execution a call through the spine, the answers in the
 * order the protocol demands.
 *
 * Messages are handled one at a time. A Query, or a portal from its Bind on, is one call; Parse is judged before it goes to
 * the backend, Bind goes there only with the permit. A refusal makes the backend's transaction fail as any error does, and
 * in the extended protocol everything up to the Sync is skipped (PostgreSQL manual, 55.2.3).
 *
 * @packageDocumentation
 */
import { randomBytes } from 'node:crypto'
import type { Call, Judged, Session } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Principal } from '../../core/principal.ts'
import type { Target } from '../../core/target.ts'
import { errorResponse } from './listener-errors.ts'
import {
  duplicate,
  goneAway,
  idle,
  missing,
  shuttingDown,
  tooManyKept,
  transactionAborted,
} from './listener-refusals.ts'
import type { BackendMessage } from './messages/backend.ts'
import type { Bind } from './messages/bind.ts'
import { encodeCommandComplete } from './messages/command-complete.ts'
import { CLOSE_COMPLETE, FLUSH, PARSE_COMPLETE } from './messages/control.ts'
import { decodeParameterDescription, encodeDescribe, type DescribeOrClose } from './messages/describe.ts'
import type { Execute } from './messages/execute.ts'
import type { FrontendMessage } from './messages/frontend.ts'
import type { FunctionCall } from './messages/function-call.ts'
import { encodeParse, type Parse } from './messages/parse.ts'
import { decodeReport, type Report } from './messages/report.ts'
import { encodeReadyForQuery } from './messages/session-facts.ts'
import { violation } from './messages/violation.ts'
import type { PostgresPlan } from './plan-types.ts'
import { ByName } from './by-name.ts'
import { ClientTransactions, HOLD_INSIDE_MAX_MS } from './listener-transaction.ts'
import { isParserLoaded, loadParser } from './parse.ts'
import { splitStatements } from './split.ts'
import { Asides } from './wire/asides.ts'
import type { WireBackend } from './wire/backend.ts'
import { ClientCall } from './wire/client-call.ts'
import { copyData } from './wire/copy-data.ts'
import type { Downstream } from './wire/downstream.ts'
import { FunctionAnswer, portalOf } from './wire/function-call.ts'
import { typesOf, WireCall, type PortalRequest, type Statement } from './wire/payload.ts'
import { SessionState } from './wire/session-state.ts'
import { noticeResponse, show } from './wire/show.ts'
import { isUnderMasks, reportedError } from './wire/reported.ts'

/** What a client's session needs of the gateway. */
export interface SessionRooms {
  /** The spine: `govern`, bound to the rooms. The only way from here to a statement that runs. */
  run(call: Call): AsyncGenerator<Chunk, void, undefined>
  /** Plans and decides, and runs nothing. */
  judge(call: Call): Judged | Promise<Judged>
  /** Withdraws a request for approval whose client does not want it any more. */
  withdraw(ticket: string, session: Session): Promise<void>
  /** The policy that decides now. */
  policyVersion(): string
  /** Whether the policy lets this caller do anything there, and has nothing to watch. */
  isOpen(principal: Principal, target: Target): boolean
  /** Told of errors nobody foresaw. */
  onFault(error: unknown): void
}

/** How long a session may do nothing. */
export interface IdleLimits {
  readonly idleMs: number
  readonly idleInTransactionMs: number
}

/** A client that was let in. */
export interface Admitted {
  readonly client: Downstream
  readonly session: Session
  readonly target: Target
  readonly backend: WireBackend
}

interface Portal {
  readonly request: PortalRequest
  readonly wire: WireCall
  readonly chunks: AsyncGenerator<Chunk, void, undefined>
  readonly controller: AbortController
  stopped: 'done' | 'abandoned'
}

/** PostgreSQL keeps names to 63 bytes and takes two that differ later for one. */
const NAME_BYTES_MAX = 63
/** Statements and portals a client may keep. */
const KEPT_MAX = 10_000
/** A ticket decides how long a wire client may be held; this only bounds it. */
const HOLD_MAX_MS = 24 * 3_600_000

/** Serves one client until it leaves or is sent away. */
export class ClientSession {
  readonly #client: Downstream
  readonly #session: Session
  readonly #target: Target
  readonly #backend: WireBackend
  readonly #rooms: SessionRooms
  readonly #limits: IdleLimits
  /** Part of the names the backend is given, so that no client can name one of its statements there. */
  readonly #nonce = randomBytes(9).toString('base64url')
  readonly #statements = new Map<string, Statement>()
  readonly #portals = new ByName<Portal>()
  /** Tags of portals that ran to their end and were not closed. */
  readonly #ended = new ByName<string>()
  #names = 0
  readonly #state: SessionState
  readonly #asides: Asides
  #isSkipping = false
  #isUnderMasks = true
  /** Version of the policy under which the last statement was done. */
  #policy: string | undefined
  /** The portal whose messages were taken and not answered yet. */
  #waiting: string | undefined
  /** What runs now. */
  #running: AbortController | undefined
  /** Of the last call. */
  #controller = kept(new AbortController())
  readonly #holding: Call['hold'] = { waitMs: HOLD_MAX_MS, onHeld: (held) => this.#onHeld(held) }
  readonly #notHolding: Call['hold'] = {
    ...this.#holding,
    refused: 'A call inside an open transaction cannot wait for an approval; send it by itself.',
  }
  readonly #transactions: ClientTransactions
  readonly #input = (): AsyncIterable<Uint8Array> => copyData(this.#client)
  #ticket: string | undefined
  #isDraining = false
  #isOver = false

  constructor({ client, session, target, backend }: Admitted, rooms: SessionRooms, limits: IdleLimits) {
    this.#client = client
    this.#session = session
    this.#target = target
    this.#backend = backend
    this.#rooms = rooms
    this.#limits = limits
    this.#transactions = new ClientTransactions(backend)
    this.#state = new SessionState(backend, () => rooms.isOpen(session.principal, target))
    this.#asides = new Asides({
      client,
      backend,
      recording: session.recording,
      target: target.name,
      isRunning: () => this.#running !== undefined,
      isWithheld: () => this.#isUnderMasks || backend.isWithheld,
      isOutdated: () => this.#policy !== rooms.policyVersion(),
    })
  }

  /** Reads and answers until the end. Never throws. */
  async serve(): Promise<void> {
    const { signal } = this.#session
    const end = (): void => {
      this.#client.interrupt()
      this.#client.stopWaiting()
      this.#backend.stopAsking()
    }
    signal.addEventListener('abort', end)
    this.#client.gone.addEventListener('abort', () => {
      this.#running?.abort(goneAway())
      this.#backend.stopAsking()
    })
    this.#backend.onLost((why) => {
      this.#transactions.lost(why)
      this.#client.interrupt()
    })
    this.#backend.events = this.#asides
    try {
      await this.#loop()
    } catch (error) {
      this.#dismiss(error)
    } finally {
      signal.removeEventListener('abort', end)
      for (const name of this.#portals.keys()) await this.#endPortal(name, 'abandoned')
      this.#client.end()
      this.#backend.close()
      this.#transactions.ended()
    }
  }

  /** Ends what runs now, as its client asked for. */
  cancel(): void {
    this.#running?.abort(
      new SallyportError('ERR_CANCELLED', 'canceling statement due to user request', { facts: { sqlstate: '57014' } }),
    )
    this.#backend.stopAsking()
  }

  /** Takes nothing new, not even a COMMIT: the session ends as soon as what runs has ended. */
  drain(): void {
    this.#isDraining = true
    this.#client.interrupt()
  }

  async #loop(): Promise<void> {
    for (;;) {
      const message = this.#client.now() ?? (await this.#await())
      if (message === undefined || message.type === 'Terminate') return
      const taking = this.#take(message)
      if (taking !== undefined) await taking
    }
  }

  /** Waits for the client, not for ever. */
  async #await(): Promise<FrontendMessage | undefined> {
    await this.#client.flush()
    const inTransaction = this.#backend.status !== 'I'
    const limit = inTransaction ? this.#limits.idleInTransactionMs : this.#limits.idleMs
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      this.#client.interrupt()
    }, limit)
    timer.unref()
    try {
      for (;;) {
        if (this.#session.signal.aborted) throw this.#session.signal.reason
        if (this.#backend.lost !== undefined) throw this.#backend.lost
        if (this.#isDraining) throw shuttingDown()
        if (isLate) throw idle(inTransaction)
        const message = await this.#client.next(true)
        if (message !== undefined || this.#client.gone.aborted) return message
      }
    } finally {
      clearTimeout(timer)
    }
  }

  /** Handles a message; most of them are only gathered, and nothing is to be waited for. */
  #take(message: FrontendMessage): Promise<void> | undefined {
    if (this.#session.signal.aborted) throw this.#session.signal.reason
    if (this.#isSkipping && message.type !== 'Sync') return undefined
    try {
      const settling = this.#isAboutWaiting(message) ? undefined : this.#settle()
      const handling = settling === undefined ? this.#handle(message) : settling.then(() => this.#handle(message))
      return handling?.catch((error: unknown) => this.#answerFailure(message, error))
    } catch (error) {
      return this.#answerFailure(message, error)
    }
  }

  async #answerFailure(message: FrontendMessage, error: unknown): Promise<void> {
    await this.#refuse(error)
    // A Query and a FunctionCall end themselves: no Sync comes after them.
    if (message.type === 'Query' || message.type === 'FunctionCall' || message.type === 'Sync') await this.#ready()
    else this.#isSkipping = true
  }

  #handle(message: FrontendMessage): Promise<void> | undefined {
    switch (message.type) {
      case 'Query':
        return this.#query(message.sql)
      case 'Parse':
        return this.#parse(message)
      case 'Bind':
        return this.#bind(message)
      case 'Describe':
        return this.#describe(message)
      case 'Close':
        return this.#close(message)
      case 'Execute':
        return this.#execute(message)
      case 'Flush':
        return this.#client.flush()
      case 'Sync':
        this.#isSkipping = false
        return this.#ready()
      case 'FunctionCall':
        return this.#callFunction(message)
      case 'Proof':
        throw violation('Password', 'comes when nobody asked for it')
      default:
        // COPY data that a client had sent before it heard that its COPY failed.
        message.type satisfies 'CopyData' | 'CopyDone' | 'CopyFail' | 'Terminate'
        return undefined
    }
  }

  async #query(sql: string): Promise<void> {
    await this.#endPortal('', 'done')
    this.#statements.delete('')
    if (!isParserLoaded()) await loadParser()
    await this.#state.checkPins(sql)
    const mayBeMore = this.#state.isReadable && !this.#state.isOpen && mayBeSeveral(sql)
    const split = mayBeMore ? splitStatements(sql) : undefined
    if (split?.ok === true && split.statements.length > 1) {
      // One implicit transaction, as a Query message has it: the Sync comes after the last.
      for (const [index, { text }] of split.statements.entries()) {
        await this.#state.checkPins(text)
        await this.#statement(text, { isPart: true, isLast: index === split.statements.length - 1 })
      }
    } else await this.#statement(sql, {})
    await this.#ready()
  }

  async #statement(sql: string, part: { readonly isPart?: true; readonly isLast?: boolean }): Promise<void> {
    const wire = new WireCall(this.#backend, sql, this.#state.view, { ...part, ...this.#state.planning() })
    const { call, controller } = this.#call('postgres.query', wire, () => 'abandoned')
    this.#begin(controller)
    try {
      for await (const chunk of this.#rooms.run(call)) {
        const showing = show(this.#client, chunk, wire)
        if (showing !== undefined) await showing
      }
      this.#ticket = undefined
    } finally {
      this.#running = undefined
    }
    this.#took(wire.plan)
  }

  /** Does what a FunctionCall message asks for as the statement that says the same. */
  async #callFunction(message: FunctionCall): Promise<void> {
    if (this.#backend.status === 'E') throw transactionAborted()
    if (!isParserLoaded()) await loadParser()
    // Where everything is let through, its client may have put anything under the names of our own statements.
    this.#state.mustCheckPins()
    if (this.#state.isOpen) this.#backend.doubt()
    const found = await this.#backend.functionOf(message.oid)
    const request = portalOf(message, found, `sallyport_${this.#nonce}_p${++this.#names}`)
    const { sql } = request.statement
    await this.#state.checkPins(sql)
    // It takes the place of the client's own unnamed statement at the backend.
    const unnamed = this.#statements.get('')
    if (unnamed?.sent !== undefined) unnamed.sent = ''
    const wire = new WireCall(this.#backend, sql, this.#state.view, { portal: request, ...this.#state.planning() })
    const { call, controller } = this.#call('postgres.function_call', wire, () => 'abandoned')
    const answer = new FunctionAnswer()
    this.#begin(controller)
    try {
      for await (const chunk of this.#rooms.run(call)) {
        for (const notice of answer.take(chunk, wire)) this.#client.write(notice)
      }
      this.#ticket = undefined
    } finally {
      this.#running = undefined
    }
    this.#took(wire.plan)
    this.#client.write(answer.response())
    await this.#ready()
  }

  /** What was prepared at the backend may be gone, or be something else. */
  #forgetSent(): void {
    for (const statement of this.#statements.values()) if (statement.sent !== undefined) statement.sent = ''
    this.#backend.doubt()
  }

  async #parse({ name, sql, paramTypes }: Parse): Promise<void> {
    if (Buffer.byteLength(name) > NAME_BYTES_MAX) throw violation('Parse', 'names a statement with more than 63 bytes')
    if (name !== '' && this.#statements.has(name)) throw duplicate('42P05', 'prepared statement', name)
    if (this.#statements.size >= KEPT_MAX) throw tooManyKept(KEPT_MAX)
    if (name === '') this.#statements.delete('')
    if (!isParserLoaded()) await loadParser()
    await this.#state.checkPins(sql)
    const wire = new WireCall(this.#backend, sql, this.#state.view, { isUnbound: true, ...this.#state.planning() })
    const { call } = this.#call('postgres.parse', wire, () => 'done')
    const judged = await this.#rooms.judge(call)
    this.#isUnderMasks = isUnderMasks(judged.plan as PostgresPlan)
    if (judged.decision.effect === 'deny') {
      // On the record, like any other refusal.
      for await (const _ of this.#rooms.run(call)) void _
      throw new SallyportError('ERR_POLICY_CHANGED', 'The policy changed while the statement was judged; try again.')
    }
    const { sql: wanted } = judged.plan as PostgresPlan
    const upstreamName = name === '' ? '' : `sallyport_${this.#nonce}_${++this.#names}`
    this.#statements.set(name, { sql, paramTypes, upstreamName, wanted, sent: undefined, isAnswered: false })
    this.#unanswered = name
  }

  /** The statement whose Parse waits for company. */
  #unanswered: string | undefined

  #bind(bind: Bind): Promise<void> | undefined {
    const { portal: name } = bind
    const statement = this.#statements.get(bind.statement)
    if (statement === undefined) throw missing('26000', 'prepared statement', bind.statement)
    if (name !== '' && this.#portals.has(name)) throw duplicate('42P03', 'cursor', name)
    if (this.#portals.size >= KEPT_MAX) throw tooManyKept(KEPT_MAX)
    if (!this.#portals.has(name) && !this.#state.mustCheckPins()) return this.#bound(bind, statement)
    return this.#endPortal(name, 'done')
      .then(() => this.#state.checkPins(statement.sql))
      .then(() => this.#bound(bind, statement))
  }

  #bound(bind: Bind, statement: Statement): undefined {
    const { portal: name } = bind
    this.#ended.delete(name)
    const upstreamName = name === '' ? '' : `sallyport_${this.#nonce}_p${++this.#names}`
    const request: PortalRequest = {
      statement,
      bind,
      upstreamName,
      commands: [],
      withSync: false,
      state: 'open',
      isOpened: false,
      tag: '',
    }
    const wire = new WireCall(this.#backend, statement.sql, this.#state.view, {
      portal: request,
      ...this.#state.planning(),
    })
    const { call, controller } = this.#call('postgres.execute', wire, () => this.#portals.get(name)?.stopped ?? 'done')
    this.#portals.set(name, { request, wire, controller, chunks: this.#rooms.run(call), stopped: 'abandoned' })
    this.#waiting = name
    this.#unanswered = undefined
  }

  #describe({ what, name }: DescribeOrClose): Promise<void> | undefined {
    if (what === 'portal') {
      const portal = this.#portals.get(name)
      if (portal === undefined) throw missing('34000', 'portal', name)
      portal.request.commands.push({ do: 'describe' })
      this.#waiting = name
      return undefined
    }
    const statement = this.#statements.get(name)
    if (statement === undefined) throw missing('26000', 'prepared statement', name)
    return this.#prepare(statement, true)
  }

  #execute({ portal: name, rowsMax }: Execute): Promise<void> | undefined {
    const portal = this.#portals.get(name)
    if (portal === undefined) return this.#executeEnded(name)
    portal.request.commands.push({ do: 'execute', rowsMax })
    this.#waiting = name
    return this.#settle()
  }

  /** A portal that ran to its end gives nothing more. */
  #executeEnded(name: string): undefined {
    const tag = this.#ended.get(name)
    if (tag === undefined) throw missing('34000', 'portal', name)
    if (/^(?:SELECT|FETCH|SHOW|EXPLAIN)\b/u.test(tag)) {
      this.#client.write(encodeCommandComplete('SELECT 0'))
      return undefined
    }
    throw new SallyportError('ERR_INVALID_INPUT', `portal "${name}" cannot be run`, { facts: { sqlstate: '55000' } })
  }

  async #close({ what, name }: DescribeOrClose): Promise<void> {
    if (what === 'portal') {
      await this.#endPortal(name, 'done')
      this.#ended.delete(name)
    } else this.#forget(name)
    this.#client.write(CLOSE_COMPLETE)
  }

  #forget(name: string): void {
    const statement = this.#statements.get(name)
    if (statement === undefined) return
    this.#statements.delete(name)
    if (statement.sent === undefined || statement.upstreamName === '') return
    this.#backend.sendAhead(encodeDescribe({ type: 'Close', what: 'statement', name: statement.upstreamName }), '3')
  }

  /** Whether a message belongs with those that are gathered for the waiting portal. */
  #isAboutWaiting(message: FrontendMessage): boolean {
    if (message.type === 'Bind') return this.#unanswered === message.statement && this.#waiting === undefined
    if (message.type === 'Execute') return message.portal === this.#waiting
    return message.type === 'Describe' && message.what === 'portal' && message.name === this.#waiting
  }

  /** Does at the backend what was gathered, and answers it. */
  #settle(): Promise<void> | undefined {
    const unanswered = this.#unanswered === undefined ? undefined : this.#statements.get(this.#unanswered)
    this.#unanswered = undefined
    if (unanswered === undefined || unanswered.isAnswered) return this.#settlePortal()
    return this.#prepare(unanswered, false).then(() => this.#settlePortal())
  }

  #settlePortal(): Promise<void> | undefined {
    const name = this.#waiting
    this.#waiting = undefined
    const portal = name === undefined ? undefined : this.#portals.get(name)
    if (name === undefined || portal === undefined) return undefined
    return this.#pull(name, portal)
  }

  /** Lets a portal's call go on until everything asked of it was answered. */
  async #pull(name: string, { request, wire, chunks, controller }: Portal): Promise<void> {
    request.withSync = this.#client.isNext('S')
    this.#begin(controller)
    try {
      while (!request.isOpened || request.commands.length > 0 || request.state === 'complete') {
        const next = await chunks.next()
        if (next.done === true) break
        const showing = show(this.#client, next.value, wire)
        if (showing !== undefined) await showing
      }
      this.#ticket = undefined
    } catch (error) {
      this.#portals.delete(name)
      this.#conclude(request.statement)
      throw error
    } finally {
      this.#running = undefined
    }
    if (wire.plan !== undefined) this.#state.began(wire.plan)
    if (request.state !== 'complete') return
    this.#portals.delete(name)
    this.#ended.set(name, request.tag)
    this.#took(wire.plan)
  }

  /** Tells the client of a Parse that succeeded before what failed; forgets a statement whose Parse is what failed. */
  #conclude(statement: Statement): void {
    if (statement.isAnswered) return
    if (statement.sent !== undefined) {
      statement.isAnswered = true
      this.#client.write(PARSE_COMPLETE)
      return
    }
    for (const [name, kept] of this.#statements) if (kept === statement) this.#statements.delete(name)
  }

  /** Parses a statement at the backend, if that was not done, and describes it if asked. */
  async #prepare(statement: Statement, describe: boolean): Promise<void> {
    const { upstreamName: name, wanted: sql, sent } = statement
    const isParsed = sent === sql
    if (!isParsed && sent !== undefined && name !== '') {
      this.#backend.sendAhead(encodeDescribe({ type: 'Close', what: 'statement', name }), '3')
    }
    this.#backend.send([
      ...(isParsed ? [] : [encodeParse({ name, sql, paramTypes: typesOf(statement) })]),
      ...(describe ? [encodeDescribe({ type: 'Describe', what: 'statement', name })] : []),
      FLUSH,
    ])
    if (!isParsed) {
      await this.#answerOf('1', statement)
      statement.sent = sql
    }
    if (!statement.isAnswered) this.#client.write(PARSE_COMPLETE)
    statement.isAnswered = true
    if (!describe) return
    const { bytes, body } = await this.#answerOf('t', statement)
    // Binary values can then be told, to whoever is asked about them.
    statement.described = decodeParameterDescription(body)
    this.#client.write(bytes)
    this.#client.write((await this.#answerOf('Tn', statement)).bytes)
  }

  async #answerOf(letters: string, statement: Statement): Promise<BackendMessage> {
    const piece = await this.#backend.next()
    if (piece.kind === 'message' && letters.includes(piece.letter)) return piece
    if (piece.kind === 'message' && piece.letter === 'E') {
      const report = decodeReport('ErrorResponse', piece.body)
      this.#conclude(statement)
      throw reportedError(report, { sql: statement.wanted, isMasked: this.#isUnderMasks }, statement.sql)
    }
    const error = violation('last', 'of the server is not the one that comes here')
    this.#backend.destroy(error)
    throw error
  }

  /** Ends the pipeline at the backend and tells the client that it may go on. */
  #ready(): Promise<void> | undefined {
    // What only waits to be sent ahead goes with the next statement.
    const syncing = this.#backend.isOpen ? this.#backend.sync() : undefined
    const isPlain = syncing === undefined && this.#portals.size === 0 && !this.#backend.isRefused
    return isPlain ? this.#tellReady() : this.#becomeReady(syncing)
  }

  async #becomeReady(syncing: Promise<void> | undefined): Promise<void> {
    await syncing
    const { status } = this.#backend
    const refused = this.#backend.takeRefusal()
    if (refused !== undefined) await this.#tellRefusal(refused)
    const how = refused === undefined ? 'done' : 'abandoned'
    if (status !== 'T') for (const name of this.#portals.keys()) await this.#endPortal(name, how)
    await this.#tellReady()
  }

  /** What was done was undone at its end, by a constraint that is only looked at there. */
  async #tellRefusal(report: Report): Promise<void> {
    this.#state.undone()
    const isMasked = this.#isUnderMasks || this.#backend.isWithheld
    const error = reportedError(report, { sql: '', isMasked }, '')
    // It belongs to no call, and what the calls before it have on the record was undone by it.
    const text = `ERROR ${error.facts.sqlstate ?? ''}: ${error.message}`
    try {
      await this.#session.recording.heard?.({ kind: 'notice', target: this.#target.name, text })
    } catch (cause) {
      // Fail closed: what cannot be recorded ends the session.
      this.#backend.destroy(cause)
      throw cause
    }
    this.#client.write(errorResponse(error))
  }

  #tellReady(): Promise<void> | undefined {
    const { status } = this.#backend
    if (status !== 'T') this.#ended.clear()
    if (status === 'I') {
      this.#state.transactionEnded()
      this.#transactions.ended()
    }
    this.#asides.tellWaiting()
    this.#client.write(encodeReadyForQuery(status))
    return this.#client.flush()
  }

  /** Keeps what a statement that was done has left in the session. */
  #took(plan: PostgresPlan | undefined): void {
    if (plan === undefined) return
    this.#isUnderMasks = isUnderMasks(plan)
    // With AND CHAIN the next one is open already.
    if (plan.session?.does === 'commit' || plan.session?.does === 'rollback') this.#transactions.ended()
    if (this.#state.took(plan)) this.#forgetSent()
  }

  /** Tells the client why not, and makes the backend's transaction fail as it would have failed itself. */
  async #refuse(cause: unknown): Promise<void> {
    const error = SallyportError.from(cause)
    if (error.code === 'ERR_INTERNAL') this.#rooms.onFault(error)
    this.#waiting = undefined
    this.#unanswered = undefined
    const { lost } = this.#backend
    if (lost !== undefined) throw lost
    const isOver = error.code === 'ERR_SHUTTING_DOWN' || error.code === 'ERR_UNAUTHENTICATED'
    if (isOver || this.#session.signal.aborted) throw error
    // Who only goes away leaves the ticket standing, and may ask again for the same call (C12).
    if (this.#ticket !== undefined && error.code === 'ERR_CANCELLED' && !this.#client.gone.aborted) {
      await this.#rooms.withdraw(this.#ticket, this.#session).catch((fault: unknown) => this.#rooms.onFault(fault))
    }
    this.#ticket = undefined
    this.#state.failed()
    this.#backend.poison()
    this.#client.write(errorResponse(error))
  }

  /** The last words to a client that is sent away. */
  #dismiss(cause: unknown): void {
    if (this.#isOver || this.#client.gone.aborted) return
    this.#isOver = true
    const error = SallyportError.from(cause)
    if (error.code === 'ERR_INTERNAL') this.#rooms.onFault(error)
    const isEnded = error.code === 'ERR_CANCELLED' || error.code === 'ERR_UNAUTHENTICATED'
    const facts = isEnded && error.facts.sqlstate === undefined ? { ...error.facts, sqlstate: '57P01' } : error.facts
    this.#client.write(errorResponse(new SallyportError(error.code, error.message, { facts }), 'FATAL'))
  }

  async #endPortal(name: string, how: Portal['stopped']): Promise<void> {
    const portal = this.#portals.get(name)
    if (portal === undefined) return
    portal.stopped = how
    try {
      await portal.chunks.return()
    } catch (error) {
      this.#rooms.onFault(error)
    }
    this.#portals.delete(name)
  }

  #call(tool: string, wire: WireCall, stopped: () => 'done' | 'abandoned') {
    this.#policy = this.#rooms.policyVersion()
    const controller = this.#controllerNow()
    const call = new ClientCall(this.#session, this.#target, tool, wire, controller.signal, this.#hold(wire), stopped)
    wire.onPlanned = (plan) => {
      call.planned(plan, this.#input)
      this.#state.planned(plan)
    }
    return { call, controller }
  }

  /** A signal that nobody aborted serves the next call, too; one for each portal that is kept open. */
  #controllerNow(): AbortController {
    if (this.#controller.signal.aborted || this.#portals.size > 0) this.#controller = kept(new AbortController())
    return this.#controller
  }

  /**
   * Where a transaction is open, that of a pipeline or of a text with several statements too, waiting would hold locks. In
   * one that its client has begun, a call may wait all the same where the policy says so, if it is sent by itself.
   */
  #hold({ isPart }: WireCall): Call['hold'] {
    const { status, hasRun } = this.#backend
    // The server would say the same.
    if (status === 'E') return { ...this.#notHolding, refused: transactionAborted() }
    if (hasRun || isPart) return this.#notHolding
    if (status === 'I') return this.#holding
    const waitMs = Math.min(HOLD_INSIDE_MAX_MS, this.#limits.idleInTransactionMs)
    return { ...this.#notHolding, waitMs, inTransaction: this.#transactions.held() }
  }

  #onHeld({ ticket, approvers, expiresAt }: Parameters<NonNullable<Call['hold']['onHeld']>>[0]): void {
    this.#ticket = ticket
    const text = `Ticket ${ticket} waits for ${approvers.join(', ')} until ${expiresAt}. Cancel to withdraw it.`
    this.#client.write(noticeResponse('NOTICE', text))
    void this.#client.flush()
  }

  #begin(controller: AbortController): void {
    this.#running = controller
    if (this.#client.gone.aborted) controller.abort(goneAway())
  }
}

/** Keeps the one listener that makes adding and removing others cheap: a target without any forgets its whole list. */
function kept(controller: AbortController): AbortController {
  controller.signal.addEventListener('abort', () => undefined)
  return controller
}

/** Whether a text can hold several statements: nothing but a semicolon ends one before its end (`gram.y`, `stmtmulti`). */
function mayBeSeveral(sql: string): boolean {
  const at = sql.indexOf(';')
  return at >= 0 && at < sql.trimEnd().length - 1
}
