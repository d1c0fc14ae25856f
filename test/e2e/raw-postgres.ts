/** A client of the PostgreSQL door that says whatever bytes it likes, without a driver's manners. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { BackendReader } from '../../src/protocols/postgres/messages/backend.ts'
import { decodeTextRow } from '../../src/protocols/postgres/messages/data-row.ts'
import { encodePassword } from '../../src/protocols/postgres/messages/password.ts'
import { decodeReport } from '../../src/protocols/postgres/messages/report.ts'
import { encodeStartup } from '../../src/protocols/postgres/messages/startup.ts'

/** What came, as letters and what they carry. */
export interface Heard {
  readonly letters: string
  readonly bodies: readonly Buffer[]
  readonly codes: readonly string[]
  readonly messages: readonly string[]
  readonly rows: readonly (readonly (string | null)[])[]
}

/** Ends a turn: ReadyForQuery, unless told. The connection's end ends it too. */
type Until = (letter: string, count: number, words: string) => boolean

/** One connection. */
export class RawClient {
  readonly socket: Socket
  readonly #reader = new BackendReader()
  #isClosed = false
  #wake: (() => void) | undefined

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1')
    this.#reader.readsRows = true
    this.socket.on('data', (data: Buffer) => {
      this.#reader.push(data)
      this.#wake?.()
    })
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => {
      this.#isClosed = true
      this.#wake?.()
    })
  }

  /** Logs in at a door that takes the token as password; resolves with what was heard up to the first ReadyForQuery. */
  static async login(
    port: number,
    token: string,
    more: { readonly minor?: number; readonly parameters?: Readonly<Record<string, string>> } = {},
  ): Promise<{ readonly client: RawClient; readonly heard: Heard }> {
    const client = new RawClient(port)
    const parameters = new Map(Object.entries({ user: 'loop', database: 'db', ...more.parameters }))
    const first = encodeStartup({ type: 'startup', major: 3, minor: more.minor ?? 0, parameters })
    const heard = await client.say(first, encodePassword(token))
    return { client, heard }
  }

  /** Sends and listens until ReadyForQuery. */
  async say(...messages: readonly Buffer[]): Promise<Heard> {
    this.socket.write(Buffer.concat(messages))
    return this.hear((letter) => letter === 'Z')
  }

  /** Listens until told, or until the connection ends. */
  async hear(until: Until): Promise<Heard> {
    let letters = ''
    const bodies: Buffer[] = []
    const codes: string[] = []
    const words: string[] = []
    const rows: (string | null)[][] = []
    for (;;) {
      const piece = this.#reader.next()
      if (piece === undefined) {
        if (this.#isClosed) break
        await new Promise<void>((resolve) => (this.#wake = resolve))
        continue
      }
      if (piece.kind === 'rows') continue
      letters += piece.letter
      bodies.push(Buffer.from(piece.body))
      if (piece.letter === 'E') {
        const report = decodeReport('ErrorResponse', piece.body)
        codes.push(report.get('C') ?? '')
        words.push(report.get('M') ?? '')
      }
      if (piece.letter === 'D') rows.push(decodeTextRow(piece.body))
      if (until(piece.letter, letters.length, piece.letter === 'N' ? piece.body.toString('utf8') : '')) break
    }
    return { letters, bodies, codes, messages: words, rows }
  }

  /** Resolves when the door has closed the connection. */
  async closed(): Promise<void> {
    if (!this.#isClosed) await once(this.socket, 'close')
  }

  end(): void {
    this.socket.destroy()
  }
}
