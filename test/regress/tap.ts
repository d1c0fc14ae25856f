/**
 * A psql that is listened to: every text it sends is planned with the catalog of that moment, run by the server as it is,
 * and handed on together with what the server says it did. psql itself so decides where statements begin and end, what
 * its variables stand for and what is data.
 */
import { createServer, connect, type Server, type Socket } from 'node:net'
import type { Catalog } from '../../src/protocols/postgres/catalog.ts'
import { planStatement, type PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import {
  afterEffect,
  EMPTY_SESSION,
  type SessionEffect,
  type SessionView,
} from '../../src/protocols/postgres/session.ts'
import { prepareSession, sessionCatalog, sessionFingerprint, type Rows } from './session-catalog.ts'

/** What the server did with one text. */
export interface Deed {
  readonly sql: string
  /** Whether the session reads text as the plan does; otherwise nothing is planned (C7). */
  readonly isPinned: boolean
  readonly plan: PostgresPlan | undefined
  readonly planMs: number
  /** Set when the planner threw. */
  readonly crash?: string
  readonly catalog: Catalog | undefined
  /** Tags of the statements that ended well. */
  readonly tags: readonly string[]
  /** SQLSTATE of the error it ended with. */
  readonly sqlstate?: string
  /** What the server held at the end of it, when it was looked at. */
  readonly held?: Held
}

/** Locks are the server's own record of what a statement touched, and how. */
export interface Held {
  /** Whether anything was written that a crash would undo, system catalogs and sequences included. */
  readonly wrote: boolean
  readonly locks: readonly Lock[]
  readonly advisory: number
}

/** One lock on a table, view or sequence of a user. */
export interface Lock {
  readonly oid: number
  readonly name: string
  readonly mode: string
}

/** Counts of the run, for what it cost. */
export interface TapCounts {
  catalogs: number
  catalogMs: number
  /** Looks that found another catalog although nothing had hinted at a change. */
  stale: number
  /** Looks that were taken for no reason. */
  checked: number
  /** What was odd: a catalog that could not be read, or had changed without a hint. */
  readonly failures: string[]
}

export interface Tap {
  readonly port: number
  readonly counts: TapCounts
  close(): Promise<void>
}

/**
 * Temporary tables are left out: they are the session's own, and the snapshot does not hold them. So are predicate locks,
 * which hold nobody up.
 */
const INSPECT = `SELECT 'x', pg_catalog.pg_current_xact_id_if_assigned()::text, NULL, NULL
UNION ALL SELECT 'a', count(*)::text, NULL, NULL FROM pg_catalog.pg_locks
  WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'advisory'
UNION ALL SELECT 'l', c.oid::text, c.relname, l.mode FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
  WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.relation >= 16384
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND l.mode <> 'SIReadLock'`

/** Verbs of statements that may stand in a transaction of their own. */
const PLAIN = new Set(['sql.select', 'sql.insert', 'sql.update', 'sql.delete', 'sql.merge', 'sql.lock', 'sql.call'])
for (const verb of ['sql.explain', 'sql.monitor', 'sql.show']) PLAIN.add(verb)
/** Verbs of what runs no code of users and changes no catalog. */
const READING = new Set([
  'sql.select',
  'sql.insert',
  'sql.update',
  'sql.delete',
  'sql.merge',
  'sql.lock',
  'sql.explain',
])
/** Tags after which the catalog is another one for certain, and those after which it is as it was. */
const CHANGES_CATALOG = /^(?:CREATE|ALTER|DROP)\b/u
const LEAVES_CATALOG =
  /^(?:SELECT|INSERT|UPDATE|DELETE|MERGE|FETCH|MOVE|SHOW|BEGIN|START|COMMIT|SAVEPOINT|RELEASE|EXPLAIN|COPY|DECLARE|CLOSE|LISTEN|NOTIFY|UNLISTEN|PREPARE|DEALLOCATE|LOCK|COMMENT|CHECKPOINT)\b/u
/** Statements that resolve names before they can be told; a query before SET TRANSACTION would make that one fail. */
const NEEDS_CATALOG =
  /^(?:\s|--[^\n]*\n|\/\*[\s\S]*?\*\/|\()*(?:select|insert|update|delete|merge|with|values|table|explain|prepare|execute|declare|copy|call|truncate|lock|create\s[\s\S]*\bas\b)/iu
/** Every so many looks the fingerprint is compared although nothing hints at a change. */
const CHECK_EVERY = 40

/** Listens on a free port and passes sessions on to the server at `upstream`. `loadParser()` comes first. */
export async function startTap(upstream: { host: string; port: number }, onDeed: (deed: Deed) => void): Promise<Tap> {
  const counts: TapCounts = { catalogs: 0, catalogMs: 0, stale: 0, checked: 0, failures: [] }
  const sockets = new Set<Socket>()
  const server: Server = createServer((down) => {
    const up = connect(upstream.port, upstream.host)
    for (const socket of [down, up]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        down.destroy()
        up.destroy()
      })
    }
    new TappedSession(down, up, counts, onDeed).listen()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The tap has no port.')
  return {
    port: address.port,
    counts,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

type OnMessage = (type: string, message: Buffer) => void

class TappedSession {
  readonly #down: Socket
  readonly #up: Socket
  readonly #counts: TapCounts
  readonly #onDeed: (deed: Deed) => void
  #isStarted = false
  #status = 'I'
  #settings = new Map<string, string>()
  #catalog: Catalog | undefined
  #isStale = true
  /** Whether it may have changed, so that its fingerprint tells. */
  #isDoubtful = false
  #isPrepared = false
  /** Whether the open transaction changed the catalog, so that its end may change it back. */
  #changedInTransaction = false
  #looks = 0
  #advisory = 0
  /** What was prepared and declared, as the PostgreSQL door keeps it. */
  #session: SessionView = EMPTY_SESSION
  /** Cursors that outlive their transaction. */
  readonly #holding = new Set<string>()
  #queue: Promise<void> = Promise.resolve()
  #handler: OnMessage | undefined

  constructor(down: Socket, up: Socket, counts: TapCounts, onDeed: (deed: Deed) => void) {
    this.#down = down
    this.#up = up
    this.#counts = counts
    this.#onDeed = onDeed
  }

  listen(): void {
    const [down, up] = [this.#down, this.#up]
    readMessages(
      down,
      () => !this.#isStarted,
      (type, message) => this.#fromClient(type, message),
    )
    readMessages(
      up,
      () => false,
      (type, message) => this.#fromServer(type, message),
    )
  }

  #fromClient(type: string, message: Buffer): void {
    if (type === '') {
      this.#isStarted = true
      this.#up.write(message)
      return
    }
    if (type !== 'Q') {
      this.#up.write(message)
      return
    }
    this.#queue = this.#queue
      .then(() => this.#query(message))
      .catch((error: unknown) => {
        this.#down.destroy(error as Error)
      })
  }

  #fromServer(type: string, message: Buffer): void {
    if (type === 'Z') this.#status = message.toString('latin1', 5, 6)
    if (type === 'S') {
      const [name = '', value = ''] = message.toString('utf8', 5).split('\0')
      this.#settings.set(name, value)
    }
    if (this.#handler === undefined || type === 'A') this.#down.write(message)
    else this.#handler(type, message)
  }

  async #query(message: Buffer): Promise<void> {
    const isPinned =
      this.#settings.get('standard_conforming_strings') === 'on' && this.#settings.get('client_encoding') === 'UTF8'
    const sql = message.toString('utf8', 5, message.length - 1)
    if (isPinned && this.#status !== 'E') await this.#refresh(sql)
    const catalog = this.#catalog
    const started = performance.now()
    let plan: PostgresPlan | undefined
    let crash: string | undefined
    try {
      if (isPinned && catalog !== undefined) plan = this.#plan(sql, catalog)
    } catch (error) {
      crash = error instanceof Error ? (error.stack ?? error.message) : 'something that is no error'
    }
    const planMs = performance.now() - started
    const isPlain =
      plan !== undefined && plan.action.parts.length > 0 && plan.action.parts.every(({ verb }) => PLAIN.has(verb))
    const isLookedAt = isPlain && this.#status !== 'E'
    const isWrapped = isLookedAt && this.#status === 'I'
    const before = this.#status
    const answer = await this.#run(message, isWrapped ? wrapped(plan?.readOnly ?? false) : [], isLookedAt)
    this.#noteChange(answer, before, plan)
    if (answer.sqlstate === undefined && answer.tags.length > 0) this.#keep(plan?.session)
    if (this.#status === 'I') this.#forgetCursors()
    this.#onDeed({ sql, isPinned, plan, planMs, ...(crash !== undefined && { crash }), catalog, ...answer })
  }

  #plan(sql: string, catalog: Catalog): PostgresPlan {
    return planStatement({ sql, params: [] }, catalog, { masks: [], door: 'session', session: this.#session })
  }

  #keep(effect: SessionEffect | undefined): void {
    this.#session = afterEffect(this.#session, effect)
    if (effect?.does !== 'declare') return
    if (effect.hold) this.#holding.add(effect.name)
    else this.#holding.delete(effect.name)
  }

  /** Cursors end with their transaction. */
  #forgetCursors(): void {
    const cursors = new Map([...this.#session.cursors].filter(([name]) => this.#holding.has(name)))
    this.#session = { ...this.#session, cursors }
  }

  /** Sends the text as it came, between what goes around it; resolves when the client has been answered. */
  #run(
    message: Buffer,
    around: readonly Buffer[],
    isLookedAt: boolean,
  ): Promise<Pick<Deed, 'tags' | 'sqlstate' | 'held'>> {
    const [begin, end] = around
    // Inside a transaction of the client's, what earlier statements hold is still held.
    const isShared = isLookedAt && begin === undefined
    const first = begin ? ['begin'] : isShared ? ['before'] : []
    const phases = [...first, 'own', ...(isLookedAt ? ['look'] : []), ...(end ? ['end'] : [])]
    const tags: string[] = []
    const before: (string | null)[][] = []
    const looked: (string | null)[][] = []
    let sqlstate: string | undefined
    let phase = 0
    return new Promise((resolve, reject) => {
      this.#up.once('close', () => reject(new Error('The server ended the session.')))
      this.#handler = (type, reply) => {
        if (phases[phase] === 'own') {
          if (type === 'C') tags.push(reply.toString('utf8', 5, reply.length - 1))
          if (type === 'E') sqlstate ??= /\0C([0-9A-Z]{5})\0/u.exec(reply.toString('latin1', 5))?.[1] ?? '?'
          if (type !== 'Z') this.#down.write(reply)
        }
        if (phases[phase] === 'before' && type === 'D') before.push(cellsOf(reply))
        if (phases[phase] === 'look' && type === 'D') looked.push(cellsOf(reply))
        if (type !== 'Z') return
        phase += 1
        if (phase < phases.length) return
        this.#handler = undefined
        this.#up.removeAllListeners('close')
        this.#up.on('close', () => this.#down.destroy())
        this.#down.write(reply)
        resolve({
          tags,
          ...(sqlstate !== undefined && { sqlstate }),
          ...(looked.length > 0 && { held: this.#gained(heldOf(looked, before)) }),
        })
      }
      const look = isLookedAt ? queryMessage(INSPECT) : EMPTY
      this.#up.write(Buffer.concat([begin ?? (isShared ? look : EMPTY), message, look, end ?? EMPTY]))
    })
  }

  /** Advisory locks of the session outlive its transactions. */
  #gained(held: Held): Held {
    const advisory = Math.max(0, held.advisory - this.#advisory)
    this.#advisory = held.advisory
    return { ...held, advisory }
  }

  /** Runs a text of our own on this session; its answers are not shown to the client. */
  #ask(text: string): Promise<readonly Rows[]> {
    const answers: (string | null)[][][] = []
    let failure: string | undefined
    return new Promise((resolve, reject) => {
      this.#handler = (type, reply) => {
        if (type === 'T') answers.push([])
        if (type === 'D') answers.at(-1)?.push(cellsOf(reply))
        if (type === 'E') failure = reply.toString('utf8', 5)
        if (type !== 'Z') return
        this.#handler = undefined
        if (failure === undefined) resolve(answers)
        else reject(new Error(failure))
      }
      this.#up.write(queryMessage(text))
    })
  }

  async #refresh(sql: string): Promise<void> {
    const inTransaction = this.#status === 'T'
    if (!NEEDS_CATALOG.test(sql) && (inTransaction || this.#catalog !== undefined)) return
    const ask = (text: string): Promise<readonly Rows[]> => this.#ask(text)
    try {
      if (!this.#isPrepared) await prepareSession(ask, inTransaction)
      this.#isPrepared = true
      const isSample = this.#looks++ % CHECK_EVERY === 0
      if (!this.#isStale && (this.#isDoubtful || isSample)) {
        const isSame = (await sessionFingerprint(ask, inTransaction)) === this.#catalog?.fingerprint
        if (!this.#isDoubtful) this.#counts.checked += 1
        if (!this.#isDoubtful && !isSame) {
          this.#counts.stale += 1
          this.#counts.failures.push(`another catalog before: ${sql}`)
        }
        this.#isStale = !isSame
      }
      this.#isDoubtful = false
      if (!this.#isStale) return
      const started = performance.now()
      this.#catalog = await sessionCatalog(ask, inTransaction)
      this.#counts.catalogs += 1
      this.#counts.catalogMs += performance.now() - started
      this.#isStale = false
    } catch (error) {
      // What cannot be read is not planned, and counted as such.
      this.#counts.failures.push(String(error))
      if (inTransaction) await this.#ask('ROLLBACK TO sallyport_look; RELEASE sallyport_look')
      this.#catalog = undefined
      this.#isStale = true
      // DISCARD and DEALLOCATE ALL throw away our plans, too.
      this.#isPrepared = false
    }
  }

  #noteChange({ tags, held }: Pick<Deed, 'tags' | 'held'>, before: string, plan: PostgresPlan | undefined): void {
    if (tags.some((tag) => /^(?:DISCARD|DEALLOCATE) ALL$/u.test(tag))) this.#isPrepared = false
    const runsCode = plan === undefined || plan.action.parts.some(({ verb }) => !READING.has(verb))
    const isChanged = tags.some((tag) => CHANGES_CATALOG.test(tag))
    // What code did is told by whether anything was written at all.
    const isDoubtful = tags.some((tag) => !LEAVES_CATALOG.test(tag)) || (runsCode && held?.wrote !== false)
    if (isChanged) this.#isStale = true
    if (isDoubtful && tags.length > 0) this.#isDoubtful = true
    if ((isChanged || this.#isDoubtful) && this.#status !== 'I') this.#changedInTransaction = true
    const isUndone = tags.includes('ROLLBACK') || (before !== 'I' && this.#status === 'I')
    if (!isUndone || !this.#changedInTransaction) return
    this.#isDoubtful = true
    if (this.#status === 'I') this.#changedInTransaction = false
  }
}

const EMPTY = Buffer.alloc(0)

function wrapped(isReadOnly: boolean): readonly Buffer[] {
  return [queryMessage(isReadOnly ? 'BEGIN READ ONLY' : 'BEGIN'), queryMessage('COMMIT')]
}

export function queryMessage(text: string): Buffer {
  const body = Buffer.from(`${text}\0`, 'utf8')
  const head = Buffer.from('Q\0\0\0\0', 'latin1')
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

export function cellsOf(message: Buffer): (string | null)[] {
  const cells: (string | null)[] = []
  let at = 7
  for (let left = message.readInt16BE(5); left > 0; left--) {
    const length = message.readInt32BE(at)
    at += 4
    cells.push(length < 0 ? null : message.toString('utf8', at, at + length))
    at += Math.max(0, length)
  }
  return cells
}

/** What is held after a statement and was not held before it. */
function heldOf(rows: readonly (readonly (string | null)[])[], before: readonly (readonly (string | null)[])[]): Held {
  const known = new Set(before.map((row) => row.join(' ')))
  const gained = rows.filter((row) => !known.has(row.join(' ')))
  return {
    wrote: gained.some(([kind, xid]) => kind === 'x' && xid !== null),
    advisory: Number(rows.find(([kind]) => kind === 'a')?.[1] ?? 0),
    locks: gained
      .filter(([kind]) => kind === 'l')
      .map(([, oid, name, mode]) => ({ oid: Number(oid), name: name ?? '', mode: mode ?? '' })),
  }
}

/** Cuts a stream into messages. A message without a type comes first on the client's side. */
export function readMessages(socket: Socket, isUntyped: () => boolean, onMessage: OnMessage): void {
  let rest: Buffer = EMPTY
  socket.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    let at = 0
    for (;;) {
      const typed = isUntyped() ? 0 : 1
      if (rest.length - at < 4 + typed) break
      const length = typed + rest.readInt32BE(at + typed)
      if (rest.length - at < length) break
      onMessage(typed === 0 ? '' : String.fromCharCode(rest[at] ?? 0), rest.subarray(at, at + length))
      at += length
    }
    rest = rest.subarray(at)
  })
}
