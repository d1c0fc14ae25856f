/**
 * Two sessions for one psql: what it sends goes to a gateway, and what the gateway let through goes to a second server that
 * is asked directly. Both databases so see the same statements, and their answers must be the same, but for words of the
 * database that the gateway withholds.
 *
 * What the gateway refuses because it is not for callers, and which changes what there is, is done on both servers by their
 * owner, as whoever runs a database would: the statements after it then find what they need.
 */
import { connect, createServer, type Socket } from 'node:net'
import { cellsOf, queryMessage, readMessages } from './tap.ts'

/** What came of one thing psql sent. */
export interface Compared {
  readonly sql: string
  /**
   * `alike`; `withheld`: alike but for the words of an error or a notice; `refused` by the gateway; `apart`: answered
   * otherwise than by the server itself.
   */
  readonly outcome: 'alike' | 'withheld' | 'refused' | 'apart'
  /** The gateway's reason, or both answers. */
  readonly told: string
}

/** Where the three sessions lead to. */
export interface TwinPlaces {
  readonly gateway: number
  /** The server behind the gateway. */
  readonly governed: number
  /** The server beside it. */
  readonly direct: number
}

/** A listener for psql; `close()` ends its sessions. */
export interface Twin {
  readonly port: number
  close(): Promise<void>
}

/** A column of a row description. */
interface Column {
  readonly name: string
  readonly type: number
  readonly modifier: number
}

/** `FirstNormalObjectId`: below it are objects of PostgreSQL itself. */
const FIRST_USER_OID = 16_384
const OID_TYPE = 26

type Message = readonly [type: string, bytes: Buffer]

/** Listens on a free port of loopback. */
export async function startTwin(places: TwinPlaces, onCompared: (compared: Compared) => void): Promise<Twin> {
  const sessions = new Set<TwinSession>()
  const server = createServer((down) => {
    const session = new TwinSession(down, places, onCompared)
    sessions.add(session)
    down.once('close', () => {
      session.close()
      sessions.delete(session)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The twin has no port.')
  return {
    port: address.port,
    async close() {
      for (const session of sessions) session.close()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** One connection to a server, asked one thing after the other. */
class Asked {
  readonly #socket: Socket
  #answer: Message[] = []
  #done: ((answer: readonly Message[]) => void) | undefined
  #isClosed = false
  status = 'I'

  constructor(port: number) {
    this.#socket = connect(port, '127.0.0.1')
    this.#socket.setNoDelay(true)
    this.#socket.on('error', () => undefined)
    this.#socket.once('close', () => {
      this.#isClosed = true
      this.#end()
    })
    readMessages(
      this.#socket,
      () => false,
      (type, bytes) => {
        this.#answer.push([type, bytes])
        if (type === 'Z') this.status = bytes.toString('latin1', 5, 6)
        const isQuestion = type === 'R' && ![0, 12].includes(bytes.readInt32BE(5))
        if (isQuestion || 'ZGW'.includes(type)) this.#end()
      },
    )
  }

  /** Resolves with all that is said until the server waits again, or is gone. */
  ask(bytes: Buffer): Promise<readonly Message[]> {
    return new Promise((resolve) => {
      this.#done = resolve
      if (this.#isClosed) this.#end()
      else this.#socket.write(bytes)
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #end(): void {
    const answer = this.#answer
    this.#answer = []
    this.#done?.(answer)
    this.#done = undefined
  }
}

class TwinSession {
  readonly #down: Socket
  readonly #gateway: Asked
  readonly #direct: Asked
  readonly #owner: Asked
  readonly #onCompared: (compared: Compared) => void
  #startup: Buffer | undefined
  #isLoggedIn = false
  #queue: Promise<void> = Promise.resolve()
  #unit: Buffer[] = []
  #sql = ''
  /** Numbers of objects behind the gateway, and those of the same objects beside it: `psql` asks with what it was told. */
  readonly #numbers = new Map<string, string>()

  constructor(down: Socket, places: TwinPlaces, onCompared: (compared: Compared) => void) {
    this.#down = down
    this.#gateway = new Asked(places.gateway)
    this.#direct = new Asked(places.direct)
    this.#owner = new Asked(places.governed)
    this.#onCompared = onCompared
    down.setNoDelay(true)
    down.on('error', () => undefined)
    readMessages(
      down,
      () => this.#startup === undefined,
      (type, bytes) => this.#fromClient(type, bytes),
    )
  }

  close(): void {
    for (const asked of [this.#gateway, this.#direct, this.#owner]) asked.close()
    this.#down.destroy()
  }

  #fromClient(type: string, bytes: Buffer): void {
    this.#startup ??= bytes
    if (type === 'X') return
    this.#unit.push(Buffer.from(bytes))
    if (type === 'Q' || type === 'P') this.#sql = textOf(type, bytes)
    // Everything else waits for what makes the server answer.
    if (type !== '' && !'QSFcfp'.includes(type)) return
    const unit = Buffer.concat(this.#unit)
    const sql = this.#sql
    this.#unit = []
    this.#queue = this.#queue
      .then(() => (this.#isLoggedIn ? this.#compare(unit, sql) : this.#logIn(unit)))
      .catch(() => this.close())
  }

  async #logIn(unit: Buffer): Promise<void> {
    const answer = await this.#gateway.ask(unit)
    this.#isLoggedIn = answer.at(-1)?.[0] === 'Z'
    if (this.#isLoggedIn && this.#startup !== undefined) {
      await this.#direct.ask(this.#startup)
      await this.#owner.ask(this.#startup)
    }
    this.#tell(answer)
  }

  #tell(answer: readonly Message[]): void {
    if (answer.length === 0) this.#down.destroy()
    else this.#down.write(Buffer.concat(answer.map(([, bytes]) => bytes)))
  }

  async #compare(unit: Buffer, sql: string): Promise<void> {
    const governed = await this.#gateway.ask(unit)
    const refusal = refusalIn(governed)
    if (refusal !== undefined) {
      const isDone = await this.#asOwner(unit, sql)
      this.#onCompared({ sql, outcome: 'refused', told: `${refusal}${isDone ? ' (done by the owner)' : ''}` })
    } else {
      const direct = await this.#direct.ask(this.#renumbered(unit))
      this.#learn(governed, direct)
      const [one, other] = [this.#shown(governed), shownOf(direct)].map((shown) => inAnyOrder(shown, sql))
      const outcome = one !== other ? 'apart' : isWithheld(governed) ? 'withheld' : 'alike'
      const told = outcome === 'apart' ? `${one}\n--- without a gateway\n${other}` : ''
      this.#onCompared({ sql, outcome, told })
    }
    await this.#align()
    this.#tell(governed)
  }

  /** Whether both owners did it. */
  async #asOwner(unit: Buffer, sql: string): Promise<boolean> {
    const isForOwner = /^(?:\s|--[^\n]*\n)*(?:create|alter|drop|grant|revoke|comment|copy\s[^;]*\sfrom\s+['/])/iu.test(
      sql,
    )
    const isOwn = /\btemp(?:orary)?\b/iu.test(sql)
    if (unit[0] !== 'Q'.charCodeAt(0) || !isForOwner || isOwn || this.#direct.status !== 'I') return false
    const answer = await this.#direct.ask(unit)
    if (answer.some(([type]) => type === 'G')) return false
    // One that fails may leave something all the same, as CREATE INDEX CONCURRENTLY does.
    await this.#owner.ask(unit)
    return !answer.some(([type]) => type === 'E')
  }

  #renumbered(unit: Buffer): Buffer {
    if (unit[0] !== 'Q'.charCodeAt(0) || this.#numbers.size === 0) return unit
    const sql = textOf('Q', unit)
    // Quoted, the argument of a function, or compared with a number of an object: other digits may be values.
    const changed = sql.replaceAll(
      /(?<=['(]|\boid = )\d+\b(?![.\d])/giu,
      (digits) => this.#numbers.get(digits) ?? digits,
    )
    return changed === sql ? unit : queryMessage(changed)
  }

  /** Objects that differ in nothing but their number are the same ones. */
  #learn(governed: readonly Message[], direct: readonly Message[]): void {
    const [one, other] = [numbersIn(governed), numbersIn(direct)]
    if (one.length !== other.length) return
    one.forEach((number, at) => {
      const same = other[at] ?? ''
      if (Number(number) >= FIRST_USER_OID && Number(same) >= FIRST_USER_OID) this.#numbers.set(number, same)
    })
  }

  #shown(answer: readonly Message[]): string {
    const mine = shownOf(answer)
    return this.#numbers.size === 0
      ? mine
      : mine.replaceAll(/\d{5,}/gu, (digits) => this.#numbers.get(digits) ?? digits)
  }

  /** A refusal leaves a transaction as an error of the server's own would. */
  async #align(): Promise<void> {
    const [wanted, found] = [this.#gateway.status, this.#direct.status]
    // One of several statements in a text was refused, after one that began a transaction.
    if (wanted !== 'I' && found === 'I') await this.#direct.ask(queryMessage('BEGIN'))
    if (wanted === 'E' && found !== 'E') await this.#direct.ask(queryMessage('SELECT 1/0'))
    if (wanted === 'I' && found !== 'I') await this.#direct.ask(queryMessage('ROLLBACK'))
    if (this.#gateway.status !== this.#direct.status)
      console.error('MISALIGNED', wanted, found, this.#sql.slice(0, 300))
  }
}

function textOf(type: string, bytes: Buffer): string {
  const start = type === 'Q' ? 5 : bytes.indexOf(0, 5) + 1
  return bytes.toString('utf8', start, bytes.indexOf(0, start))
}

/** Fields of an error or a notice. */
function fieldsOf(bytes: Buffer): ReadonlyMap<string, string> {
  const parts = bytes.toString('utf8', 5).split('\0')
  return new Map(parts.filter((part) => part !== '').map((part) => [part.slice(0, 1), part.slice(1)]))
}

const WORDS_OF_DATABASE = /^The (?:database rejected the statement|words of this notice are withheld)/u

/** What the gateway says of its own accord, by its kind: names and numbers left out. */
function refusalIn(answer: readonly Message[]): string | undefined {
  for (const [type, bytes] of answer) {
    if (type !== 'E') continue
    const fields = fieldsOf(bytes)
    const message = fields.get('M') ?? ''
    // The server's own errors name its source file.
    if (fields.has('R') || WORDS_OF_DATABASE.test(message)) continue
    const construct = /Construct: (\S+)\./u.exec(fields.get('D') ?? '')?.[1]
    return (
      (construct === undefined ? '' : `${construct}: `) + message.replaceAll(/"[^"]*"/gu, '…').replaceAll(/\d+/gu, 'N')
    )
  }
  return undefined
}

function isWithheld(answer: readonly Message[]): boolean {
  return answer.some(([type, bytes]) => 'EN'.includes(type) && WORDS_OF_DATABASE.test(fieldsOf(bytes).get('M') ?? ''))
}

/** An answer without what is said beside it, the words of reports, and the numbers of tables. */
function shownOf(answer: readonly Message[]): string {
  const fails = answer.some(([type]) => type === 'E')
  return answer
    .flatMap(([type, bytes]) => {
      if ('SA'.includes(type) || (fails && type === 'T')) return []
      if (type === 'E') return [`error ${fieldsOf(bytes).get('C')}`]
      // Several statements in a text are sent one by one, so that the server may warn that there is no transaction.
      if (type === 'N') return fieldsOf(bytes).get('C') === '25P01' ? [] : [`notice ${fieldsOf(bytes).get('C')}`]
      if (type === 'T') return [`columns ${columnsOf(bytes).map(shownColumn).join(', ')}`]
      return [`${type} ${bytes.toString('latin1', 5)}`]
    })
    .join('\n')
}

/** Rows of a catalog nobody ordered come as they lie, which is not the same on two servers. */
function inAnyOrder(shown: string, sql: string): string {
  if (!/\bpg_/iu.test(sql) || /\border\s+by\b/iu.test(sql)) return shown
  return shown
    .split(/\n(?=D )/u)
    .flatMap((part) => (part.startsWith('D ') ? part.split(/\n(?=C )/u) : [part]))
    .sort()
    .join('\n')
}

function shownColumn({ name, type, modifier }: Column): string {
  return `${name}:${type >= FIRST_USER_OID ? 'own' : type}:${modifier}`
}

/** Values of the columns that hold numbers of objects. */
function numbersIn(answer: readonly Message[]): readonly string[] {
  let at: readonly number[] = []
  return answer.flatMap(([type, bytes]) => {
    if (type === 'T') at = typesOf(bytes).flatMap((oid, column) => (oid === OID_TYPE ? [column] : []))
    if (type !== 'D' || at.length === 0) return []
    const cells = cellsOf(bytes)
    return at.map((column) => cells[column] ?? '')
  })
}

function typesOf(bytes: Buffer): readonly number[] {
  return columnsOf(bytes).map(({ type }) => type)
}

/** Name, type and modifier of each column. */
function columnsOf(bytes: Buffer): readonly Column[] {
  const columns: Column[] = []
  let at = 7
  for (let left = bytes.readInt16BE(5); left > 0; left--) {
    const end = bytes.indexOf(0, at)
    const [type, modifier] = [bytes.readInt32BE(end + 7), bytes.readInt32BE(end + 13)]
    columns.push({ name: bytes.toString('utf8', at, end), type, modifier })
    at = end + 19
  }
  return columns
}
