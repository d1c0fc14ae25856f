/**
 * The one backend connection of one client: pinned like every other, spoken to in the client's own order.
 *
 * At most one conversation is under way at a time. What the backend says on its own (notices, notifications, settings) is
 * taken out of the stream where it comes and handed to whoever listens; the rest is pulled piece by piece, so that a
 * client that does not read holds its backend back.
 *
 * @packageDocumentation
 */
import type { Socket } from 'node:net'
import { SallyportError } from '../../../core/errors.ts'
import type { HandedOver } from '../connection.ts'
import { BackendReader, type BackendPiece } from '../messages/backend.ts'
import { FLUSH, SYNC, TERMINATE } from '../messages/control.ts'
import { encodeBind } from '../messages/bind.ts'
import { decodeTextRow } from '../messages/data-row.ts'
import { encodeExecute } from '../messages/execute.ts'
import { encodeDescribe } from '../messages/describe.ts'
import { encodeParse } from '../messages/parse.ts'
import { SESSION_PATH_SQL } from '../catalog-sql.ts'
import { MEANING_SQL } from '../preview/meaning.ts'
import { XID_SQL } from '../connector.ts'
import { FUNCTION_SQL } from './function-call.ts'
import { IDLE_LIMITS_SQL, innermost, OPEN_XIDS_SQL, readIdleLimit } from './open-transaction.ts'
import { decodeReport, type Report } from '../messages/report.ts'
import {
  decodeNotification,
  decodeParameterStatus,
  decodeReadyForQuery,
  type Notification,
  type ParameterStatus,
  type TransactionStatus,
} from '../messages/session-facts.ts'

/** With this much waiting to be taken, the backend is not read from. */
const WAITING_BYTES_MAX = 256 * 1024
/** How long a backend may take to end a cancelled statement before the connection is given up. */
const CANCEL_TIMEOUT_MS = 5_000
/** Fails at the backend whatever its state, and so undoes what the client's transaction did before a refusal. */
const POISON_SQL = 'sallyport: refused'

/** Statements the gateway prepares for itself. */
const OWN_PORTAL = 'sallyport_own'
/** Settings that decide what a text means and who runs it. */
const PINS = ['standard_conforming_strings', 'client_encoding', 'role', 'session_authorization', 'search_path']
/** By statements of the gateway's own names: what shows a setting, and where names are looked up. */
const QUESTIONS = new Map([
  ...PINS.map((pin) => [`sallyport_show_${pin}`, `SHOW ${pin}`] as const),
  ['sallyport_path', SESSION_PATH_SQL],
  ['sallyport_function', FUNCTION_SQL],
  ['sallyport_meaning', MEANING_SQL],
  ['sallyport_xid', XID_SQL],
  ['sallyport_open_xids', OPEN_XIDS_SQL],
  ['sallyport_idle_limits', IDLE_LIMITS_SQL],
])
const OWN_STATEMENTS = [
  'sallyport_snapshot',
  'sallyport_fingerprint',
  'sallyport_heap',
  'sallyport_heap_shown',
  'sallyport_isolation',
  ...QUESTIONS.keys(),
]

/** What a backend says on its own. */
export interface BackendEvents {
  notice(report: Report): void
  notification(notification: Notification): void
  parameter(status: ParameterStatus): void
}

/** Messages of a statement of ours, kept with what they were made for. */
export interface OwnMessages {
  readonly name: string
  readonly value: string
  readonly messages: readonly Buffer[]
  readonly answers: string
}

/** A backend connection that serves one client. Whoever opened it closes it. */
export class WireBackend {
  readonly target: string
  readonly isUnpinned: boolean
  readonly parameters: Map<string, string>
  events: BackendEvents = { notice: () => undefined, notification: () => undefined, parameter: () => undefined }
  /** The transaction as of the last ReadyForQuery. */
  status: TransactionStatus = 'I'
  /** Whether anything was sent that no Sync has ended yet. */
  isOpen = false
  /** Whether what was sent ends with a Sync, or ends itself as a Query does. */
  isSyncSent = false
  /** Whether anything of its client ran since the last Sync, so that its transaction is open. */
  hasRun = false
  /** How often anything of its client ran: who remembers the number knows whether it was the last. */
  runs = 0
  /** Whether the backend reported an error that no ReadyForQuery has ended yet: it skips everything until a Sync. */
  isFailed = false
  /** Whether the policy of the last call masks or looks for anything, so that what anybody says there is withheld. */
  isWithheld = true
  /** Names of the gateway's own statements that exist at the backend. */
  readonly prepared = new Set<string>()
  /** The last guard that was sent. */
  lastGuard: OwnMessages | undefined
  /** Takes the notices of the call that runs; without one they are events like all others. */
  onNotice: ((report: Report) => void) | undefined
  /** Why the connection is gone. */
  lost: SallyportError | undefined
  readonly #socket: Socket
  readonly #reader = new BackendReader()
  readonly #pinned: ReadonlyMap<string, string>
  readonly #requestCancel: HandedOver['requestCancel']
  #refused: Report | undefined
  #ahead: Buffer[] = []
  /** Letters of the answers to those, which come only once they were sent. */
  #aheadAnswers = ''
  /** Letters of answers to what was sent ahead; they are the gateway's own and go no further. */
  #swallow = ''
  #wake: (() => void) | undefined
  #isPaused = true
  #isAsking = false
  #onLost: (error: SallyportError) => void = () => undefined

  /** @param isUnpinned whether it was opened for a client that may do anything, and not every setting is pinned. */
  constructor(target: string, { socket, reported, searchPath, requestCancel }: HandedOver, isUnpinned = false) {
    this.isUnpinned = isUnpinned
    this.target = target
    this.parameters = new Map(reported)
    this.#pinned = new Map([
      ['standard_conforming_strings', 'on'],
      ['client_encoding', 'UTF8'],
      ['search_path', searchPath],
      ['role', 'none'],
      ['session_authorization', reported.get('session_authorization') ?? ''],
    ])
    this.#socket = socket
    this.#requestCancel = requestCancel
    socket.on('data', (piece: Buffer) => this.#take(piece))
    socket.on('error', (error) => this.#lose(error))
    socket.on('close', () => this.#lose(new Error('The connection was closed by the server.')))
    // Without a statement under way the server still speaks: notifications, settings, its own end.
    this.#resume()
  }

  /** Told once, when the connection is gone. */
  onLost(listener: (error: SallyportError) => void): void {
    this.#onLost = listener
    if (this.lost !== undefined) listener(this.lost)
  }

  /** Rows then come as messages, whole, because somebody reads them. */
  set readsRows(reads: boolean) {
    this.#reader.readsRows = reads
  }

  /** Keeps a message for the next {@link send}; its answer, of this letter, goes to nobody. */
  sendAhead(message: Buffer, answer: string): void {
    this.#ahead.push(message)
    this.#aheadAnswers += answer
  }

  /** Sends messages in one write. */
  send(messages: readonly Buffer[]): void {
    this.#write(messages)
  }

  /** Sends messages and resolves when the backend has taken them: for what a client sends without end. */
  async sendPaced(messages: readonly Buffer[]): Promise<void> {
    if (!this.#write(messages)) await this.#drained()
  }

  /** Returns whether more may be written at once. */
  #write(messages: readonly Buffer[]): boolean {
    if (this.lost !== undefined) throw this.lost
    this.isOpen = true
    const all = this.#ahead.length === 0 ? messages : [...this.#ahead, ...messages]
    this.#swallow += this.#aheadAnswers
    this.#ahead = []
    this.#aheadAnswers = ''
    const [only] = all
    return this.#socket.write(all.length === 1 && only !== undefined ? only : Buffer.concat(all))
  }

  /**
   * Returns the next piece of an answer.
   *
   * @throws SallyportError `ERR_UPSTREAM_LOST`
   */
  async next(rowsMax?: number): Promise<BackendPiece> {
    for (;;) {
      const piece = this.now(rowsMax)
      if (piece !== undefined) return piece
      await this.arrived()
    }
  }

  /**
   * Resolves when more has come, of which not everything needs to be for whoever waits.
   *
   * @throws SallyportError `ERR_UPSTREAM_LOST`
   */
  arrived(): Promise<void> {
    if (this.lost !== undefined) return Promise.reject(this.lost)
    this.#resume()
    return new Promise((resolve) => (this.#wake = resolve))
  }

  /** The next piece of an answer, if it is there. */
  now(rowsMax?: number): BackendPiece | undefined {
    for (;;) {
      let piece: BackendPiece | undefined
      try {
        piece = this.#reader.next(rowsMax)
      } catch (error) {
        this.destroy(error)
        throw error
      }
      if (piece === undefined || piece.kind === 'rows') return piece
      if (this.#isTaken(piece)) continue
      if (piece.letter === 'E') this.isFailed = true
      return piece
    }
  }

  /**
   * Ends what was sent since the last Sync. Returns nothing when ReadyForQuery is there already, else resolves when it
   * comes. Errors on the way were told before.
   */
  sync(): Promise<void> | undefined {
    if (!this.isOpen && this.#ahead.length === 0) return undefined
    if (!this.isSyncSent) this.send([SYNC])
    this.isSyncSent = true
    this.#takeReady()
    return this.isOpen ? this.#awaitReady() : undefined
  }

  #takeReady(): void {
    const wasFailed = this.isFailed
    while (this.isOpen) {
      const piece = this.now()
      if (piece === undefined) return
      if (piece.kind !== 'message') continue
      // The end of a transaction may fail where all its statements did not.
      if (piece.letter === 'E' && !wasFailed) this.#refused ??= decodeReport('ErrorResponse', piece.body)
      if (piece.letter === 'Z') this.synced(piece.body)
    }
  }

  async #awaitReady(): Promise<void> {
    while (this.isOpen) {
      await this.arrived()
      this.#takeReady()
    }
  }

  get isRefused(): boolean {
    return this.#refused !== undefined
  }

  /** Why the last Sync did not commit; told once. */
  takeRefusal(): Report | undefined {
    const refused = this.#refused
    this.#refused = undefined
    return refused
  }

  /** Ends the transaction of what was sent. Resolves with what the server refused it for, if it did. */
  async commit(): Promise<Report | undefined> {
    await this.sync()
    return this.takeRefusal()
  }

  /** Takes note that something of its client runs. */
  ran(): void {
    this.hasRun = true
    this.runs++
  }

  /** Takes note of a ReadyForQuery. */
  synced(body: Buffer): void {
    this.status = decodeReadyForQuery(body)
    this.isOpen = false
    this.hasRun = false
    this.isSyncSent = false
    this.isFailed = false
    // Whatever of ours was skipped after an error was never done.
    this.#swallow = ''
  }

  /** Makes the open transaction, or the pipeline, fail at the backend as a refused statement must. */
  poison(): void {
    const isUndone = this.isFailed || (!this.isOpen && this.status !== 'T')
    if (this.lost !== undefined || isUndone || this.isSyncSent) return
    // Behind a Sync there is a transaction of its own, or none.
    this.send([encodeParse({ name: '', sql: POISON_SQL, paramTypes: [] }), FLUSH])
    // Its client was told why already.
    this.isFailed = true
  }

  /**
   * Asks for the settings that decide what a text means, without taking a snapshot, so that SET TRANSACTION may still
   * follow. Returns the name of the first that is not as it was pinned; the search path comes last.
   */
  async drift(): Promise<string | undefined> {
    const shown = await this.#askAll(PINS.map((pin) => `sallyport_show_${pin}`))
    return PINS.find((pin, index) => shown[index] !== this.#pinned.get(pin))
  }

  /**
   * Asks which schemas the session looks into. That takes a snapshot, so it is asked only ahead of a statement that will
   * take one anyway.
   */
  async searchPath(): Promise<readonly string[]> {
    const [path] = await this.#askAll(['sallyport_path'])
    const schemas: unknown = JSON.parse(path ?? '[]')
    return Array.isArray(schemas) ? schemas.map(String) : []
  }

  /** Asks which function has an OID; resolves with the answer to `FUNCTION_SQL`, `undefined` when there is none. */
  async functionOf(oid: number): Promise<string | undefined> {
    const [found] = await this.#askAll(['sallyport_function'], [Buffer.from(String(oid))])
    return found ?? undefined
  }

  /**
   * Asks for the settings that give values their meaning; resolves with the answer to `MEANING_SQL`. Asked between
   * transactions only: it takes a snapshot, which nobody may wait with.
   */
  async meaning(): Promise<string | undefined> {
    if (this.status !== 'I' || this.hasRun) return undefined
    await this.sync()
    const [said] = await this.#askAll(['sallyport_meaning'])
    return said ?? undefined
  }

  /** Asks which number the transaction has. */
  async transactionId(): Promise<string | undefined> {
    const [xid] = await this.#askAll(['sallyport_xid'])
    return xid ?? undefined
  }

  /**
   * Asks which number the innermost subtransaction has that wrote anything: of what it did that number tells the end, also
   * when a savepoint of the client's is gone back to and the rest of the transaction is committed.
   */
  async innermostTransactionId(): Promise<string | undefined> {
    const [said] = await this.#askAll(['sallyport_open_xids'])
    return innermost(said ?? '')
  }

  /** Asks for how many milliseconds from now the server leaves the open transaction idle. */
  async idleLimit(): Promise<number> {
    await this.sync()
    const [said] = await this.#askAll(['sallyport_idle_limits'])
    return readIdleLimit(said ?? '')
  }

  /** Asks questions of the gateway's own; resolves with the first cell of each answer. */
  async #askAll(
    names: readonly string[],
    params: readonly Buffer[] = [],
  ): Promise<readonly (string | null | undefined)[]> {
    const messages = names.flatMap((name) => this.#questionMessages(name, params))
    const isPipeline = this.isOpen
    this.send([...messages, isPipeline ? FLUSH : SYNC])
    // Said before anything is answered: whoever goes on after a question that failed must not send a second one.
    this.isSyncSent = !isPipeline
    this.#isAsking = true
    try {
      const answers: (string | null | undefined)[] = []
      for (const name of names) answers.push(await this.#answerTo(name))
      if (!isPipeline) await this.sync()
      return answers
    } finally {
      this.#isAsking = false
    }
  }

  /**
   * Has a question of the gateway's own ended, if one is under way: the first snapshot of a deferrable transaction may be
   * long in coming (PostgreSQL manual, SET TRANSACTION). It fails as a statement of its client would.
   */
  stopAsking(): void {
    // A server that cannot be asked has ended the question as well, or the connection is given up.
    if (this.#isAsking && this.lost === undefined) void this.cancel().catch((error: unknown) => this.destroy(error))
  }

  #questionMessages(name: string, params: readonly Buffer[]): Buffer[] {
    const messages = [
      encodeBind({ portal: OWN_PORTAL, statement: name, paramFormats: [], params, resultFormats: [] }),
      encodeExecute({ portal: OWN_PORTAL, rowsMax: 0 }),
      encodeDescribe({ type: 'Close', what: 'portal', name: OWN_PORTAL }),
    ]
    if (!this.prepared.has(name)) {
      messages.unshift(encodeParse({ name, sql: QUESTIONS.get(name) ?? '', paramTypes: [] }))
    }
    return messages
  }

  async #answerTo(name: string): Promise<string | null | undefined> {
    let value: string | null | undefined
    this.#reader.readsRows = true
    for (;;) {
      const piece = await this.next()
      if (piece.kind === 'message' && piece.letter === 'E' && isCancellation(piece.body)) throw cancelled()
      if (piece.kind !== 'message' || piece.letter === 'E' || piece.letter === 'Z') {
        throw new SallyportError('ERR_UPSTREAM_LOST', `The session at target ${this.target} could not be checked.`)
      }
      if (piece.letter === '1') this.prepared.add(name)
      if (piece.letter === 'D') value = decodeTextRow(piece.body)[0]
      if (piece.letter === '3') return value
    }
  }

  /** What the gateway prepared may be gone, or be something else: nothing is taken for granted any more. */
  doubt(): void {
    for (const name of OWN_STATEMENTS) this.sendAhead(encodeDescribe({ type: 'Close', what: 'statement', name }), '3')
    this.prepared.clear()
  }

  /** Asks the server to end what runs. Resolves when it has taken the request; gives the connection up if it does not. */
  async cancel(): Promise<void> {
    const expired = new AbortController()
    const timer = setTimeout(() => expired.abort(), CANCEL_TIMEOUT_MS)
    timer.unref()
    this.#resume()
    try {
      await this.#requestCancel(expired.signal)
    } finally {
      clearTimeout(timer)
    }
  }

  /** Ends the session in good order. */
  close(): void {
    if (this.lost === undefined) this.#socket.end(TERMINATE)
    this.#lose(new Error('The connection was closed.'))
    this.#socket.destroySoon()
  }

  /** Closes the socket at once; the backend rolls back whatever was open. */
  destroy(reason: unknown): void {
    this.#lose(reason)
    this.#socket.destroy()
  }

  #take(piece: Buffer): void {
    this.#reader.push(piece)
    const wake = this.#wake
    this.#wake = undefined
    if (wake !== undefined) wake()
    else if (!this.isOpen) this.#idle()
    if (this.#reader.waiting > WAITING_BYTES_MAX) {
      this.#isPaused = true
      this.#socket.pause()
    }
  }

  /** Between statements only what the server says on its own can come; anything else is out of order. */
  #idle(): void {
    try {
      const piece = this.now()
      if (piece?.kind === 'message' && piece.letter === 'E') {
        const code = decodeReport('ErrorResponse', piece.body).get('C') ?? ''
        return this.destroy(new Error(`The server ended the session (${/^[0-9A-Z]{5}$/u.test(code) ? code : '?'}).`))
      }
      if (piece !== undefined) this.destroy(new Error('The server spoke out of turn.'))
    } catch (error) {
      this.destroy(error)
    }
  }

  /** Takes what is not an answer to the client. */
  #isTaken({ letter, body }: Extract<BackendPiece, { kind: 'message' }>): boolean {
    switch (letter) {
      case 'N':
        if (this.onNotice === undefined) this.events.notice(decodeReport('NoticeResponse', body))
        else this.onNotice(decodeReport('NoticeResponse', body))
        return true
      case 'A':
        this.events.notification(decodeNotification(body))
        return true
      case 'S': {
        const status = decodeParameterStatus(body)
        this.parameters.set(status.name, status.value)
        this.events.parameter(status)
        return true
      }
      default:
        if (this.#swallow === '' || letter !== this.#swallow[0]) return false
        this.#swallow = this.#swallow.slice(1)
        return true
    }
  }

  #resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#socket.resume()
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#socket.off('drain', done)
        this.#socket.off('close', done)
        resolve()
      }
      this.#socket.on('drain', done)
      this.#socket.on('close', done)
    })
  }

  #lose(cause: unknown): void {
    if (this.lost !== undefined) return
    this.lost =
      cause instanceof SallyportError
        ? cause
        : new SallyportError('ERR_UPSTREAM_LOST', `The connection to target ${this.target} was lost.`, { cause })
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
    this.#onLost(this.lost)
  }
}

const QUERY_CANCELED = '57014'

function isCancellation(body: Buffer): boolean {
  return decodeReport('ErrorResponse', body).get('C') === QUERY_CANCELED
}

function cancelled(): SallyportError {
  return new SallyportError('ERR_CANCELLED', 'The statement was cancelled before it was sent.', {
    facts: { noEffect: true, sqlstate: QUERY_CANCELED },
  })
}
