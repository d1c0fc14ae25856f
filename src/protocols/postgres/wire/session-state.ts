import { SallyportError } from '../../../core/errors.ts'
import type { Part } from '../../../core/action.ts'
import { unwatched } from '../listener-refusals.ts'
import type { PostgresPlan } from '../plan-types.ts'
import { isNameless } from '../search-path.ts'
import { afterEffect, EMPTY_SESSION, type SessionView } from '../session.ts'
import type { WireBackend } from './backend.ts'

/** What may change any setting of the session on its way. */
const DOUBTFUL: ReadonlySet<string> = new Set([
  'sql.call',
  'sql.do',
  'sql.unknown',
  'sql.set',
  'sql.set_role',
  'sql.discard',
])
/** What may bring back settings of before. */
const ENDS: ReadonlySet<string> = new Set(['sql.commit', 'sql.rollback'])
/** Verbs of parts that run code of a user. */
const RUNS_CODE: ReadonlySet<string> = new Set(['sql.call', 'sql.do', 'sql.code'])

/**
 * What is known of a session besides what it runs now: whether it still means what the plans think (C7), and what its
 * statements have left in it.
 */
export class SessionState {
  readonly #backend: WireBackend
  readonly #isOpenNow: () => boolean
  #view: SessionView = EMPTY_SESSION
  /** Cursors that outlive their transaction. */
  readonly #held = new Set<string>()
  /** Set when something ran that may have changed the settings the session is pinned to. */
  #isDoubtful = false
  #drift: string | undefined
  #isOpen = false
  /** Set when something may have run that nobody looked into, so that nothing is known of what the session holds. */
  #isUnwatched: boolean
  /** Where the session looks names up, when its client has moved that. */
  #searchPath: readonly string[] | undefined
  /** Set once the path was moved: then the end of a transaction or of a savepoint may move it again. */
  #hasMoved = false
  /** Set while the transaction has set off code of users that may run at its end. */
  #owesCode = false
  /** Set when something ran that may have changed the catalog, until the next statement was planned with it. */
  #hasChanged = false

  /** @param isOpenNow whether the policy that decides now lets this caller do anything, and has nothing to watch. */
  constructor(backend: WireBackend, isOpenNow: () => boolean) {
    this.#backend = backend
    this.#isOpenNow = isOpenNow
    this.#isUnwatched = backend.isUnpinned
  }

  /** What the client has prepared and declared so far. */
  get view(): SessionView {
    return this.#view
  }

  /** Whether the policy lets everything through, as of the last look: what a text means then decides nothing. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Whether a text can be cut into statements as the server would cut it. */
  get isReadable(): boolean {
    return this.#drift === undefined || this.#drift === 'search_path'
  }

  /** What the next call is planned with besides the catalog. */
  planning() {
    const followsChange = this.#hasChanged
    // In a transaction, and in a pipeline, every statement is planned with a fresh look; what they changed is seen after.
    if (this.#backend.status === 'I' && !this.#backend.isOpen) this.#hasChanged = false
    return {
      drift: this.#drift,
      searchPath: this.#searchPath,
      isUnwatched: this.#isUnwatched,
      owesCode: this.#owesCode,
      followsChange,
    }
  }

  /**
   * Whether anything must be asked before a text means what it says; found out before each statement.
   *
   * @throws SallyportError where the policy has let everything through before and does so no more. Settings, temporary
   *   objects, and names of cursors and statements may then be anything: such a session is not one to go on with.
   */
  mustCheckPins(): boolean {
    this.#isOpen = this.#isOpenNow()
    if (this.#isOpen) {
      this.#isUnwatched = true
      return false
    }
    if (this.#isUnwatched) throw unwatched()
    return this.#isDoubtful || this.#drift !== undefined
  }

  /**
   * After whatever may have changed what a text means, the session itself is asked (C7); and where it looks names up, for
   * a text that has any, as long as its client has moved that.
   */
  checkPins(sql: string): Promise<void> | undefined {
    if (!this.mustCheckPins()) return undefined
    if (this.#backend.status === 'E' || this.#backend.isFailed) return undefined
    return this.#ask(sql)
  }

  async #ask(sql: string): Promise<void> {
    this.#drift = await this.#backend.drift()
    this.#isDoubtful = false
    this.#searchPath = undefined
    if (this.#drift === 'search_path') {
      this.#hasMoved = true
      if (!isNameless(sql)) this.#searchPath = await this.#backend.searchPath()
    }
    if (this.#drift !== 'standard_conforming_strings' && this.#drift !== 'client_encoding') return
    // Fail closed: not even where one statement ends and the next begins could be told any more.
    throw new SallyportError('ERR_UNAUTHENTICATED', `The session's setting ${this.#drift} is not as it was pinned.`, {
      facts: { sqlstate: '57P01' },
    })
  }

  /** Takes note of a plan that is sent as its client wrote it. */
  planned(plan: PostgresPlan): void {
    if (plan.asWritten === true) this.#isUnwatched = true
  }

  /** What a statement may have done to the session as soon as any of it ran. */
  began({ action: { parts } }: PostgresPlan): void {
    for (const part of parts) {
      const { verb, attributes } = part
      if (DOUBTFUL.has(verb) || (this.#hasMoved && ENDS.has(verb))) this.#isDoubtful = true
      // Code of a user may have moved the path in a transaction, or in a savepoint, and back.
      if (mayMovePath(part)) this.#hasMoved = true
      if (verb === 'sql.call' && attributes['via'] === 'trigger') this.#owesCode = true
    }
  }

  /** Keeps what a statement that was done has left; returns whether what is prepared at the backend is now in doubt. */
  took(plan: PostgresPlan): boolean {
    this.began(plan)
    if (this.#isOpen) return false
    if (plan.statements === undefined) return this.#tookOne(plan)
    let isDoubtful = false
    for (const one of plan.statements) if (this.#tookOne(one)) isDoubtful = true
    return isDoubtful
  }

  #tookOne({ session: effect, changesCatalog, action, kind }: PostgresPlan): boolean {
    if (changesCatalog === true) this.#hasChanged = true
    this.#view = afterEffect(this.#view, effect)
    if (effect?.does === 'declare' && effect.hold) this.#held.add(effect.name)
    // Code of a user may prepare and deallocate whatever it likes, also under the names of the guards.
    const ranCode = action.parts.some(({ verb }) => RUNS_CODE.has(verb))
    return ranCode || kind === 'unknown' || effect?.does === 'deallocate' || effect?.does === 'discard'
  }

  /** What was done was undone at its end. */
  undone(): void {
    this.#hasChanged = true
  }

  /** Part of a text that failed may have taken effect. */
  failed(): void {
    this.#isDoubtful = true
    this.#hasChanged = true
  }

  /** No transaction is open: its cursors are gone, and its end has run what it owed. */
  transactionEnded(): void {
    this.#owesCode = false
    if (this.#view.cursors.size === 0) return
    const cursors = new Map([...this.#view.cursors].filter(([name]) => this.#held.has(name)))
    this.#view = { ...this.#view, cursors }
  }
}

function mayMovePath({ verb, resource }: Part): boolean {
  if (verb === 'sql.call') return resource.type !== 'sql' || !resource.name.startsWith('pg_catalog.')
  return verb === 'sql.unknown' || verb === 'sql.do'
}
