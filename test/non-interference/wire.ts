/**
 * The copies asked through their PostgreSQL doors: a script of statements in one connection, and every byte that comes
 * back. A client that speaks the protocol itself, because drivers keep most of it from their callers.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { BackendReader } from '../../src/protocols/postgres/messages/backend.ts'
import { encodeBind } from '../../src/protocols/postgres/messages/bind.ts'
import { SYNC } from '../../src/protocols/postgres/messages/control.ts'
import { encodeCopy } from '../../src/protocols/postgres/messages/copy.ts'
import { encodeDescribe } from '../../src/protocols/postgres/messages/describe.ts'
import { encodeExecute } from '../../src/protocols/postgres/messages/execute.ts'
import { encodeParse } from '../../src/protocols/postgres/messages/parse.ts'
import { encodePassword } from '../../src/protocols/postgres/messages/password.ts'
import { encodeQuery } from '../../src/protocols/postgres/messages/query.ts'
import { encodeStartup } from '../../src/protocols/postgres/messages/startup.ts'
import { rawIn } from './secrets.ts'
import { whereDiffers, type Finding, type World } from './world.ts'

/** How a statement is sent: as a Query message, or prepared, described and fetched in two goes, its result in a format. */
export type Manner = 'simple' | 'text' | 'binary'

/** What the copies said to a script: what came of each of its statements, of the first copy. */
export interface Said {
  readonly answers: readonly string[]
  readonly findings: readonly Finding[]
}

/** What every session of the server holds and does just now: a difference tells nothing, a raw value would. */
const OF_THE_MOMENT = /\bpg_(?:locks|stat_activity|stat_get_(?:backend_)?activity)\b/u
/** Long enough for any statement of a script. */
const PATIENCE_MS = 20_000

/** Puts a script to every copy, each in a new connection. */
export async function askOnWire(world: World, script: readonly string[], manner: Manner): Promise<Said> {
  const [first = [], ...others] = await Promise.all(world.gateways.map((_, i) => converse(world, i, script, manner)))
  // The last copy holds the secrets of the first: what differs even there is no secret.
  const control = others.at(-1) ?? []
  const findings = script.flatMap((sql, i): readonly Finding[] => {
    const seen = [first[i] ?? '', ...others.slice(0, -1).map((answers) => answers[i] ?? '')]
    const raw = seen.map(rawIn).find((found) => found !== undefined)
    if (raw !== undefined) return [{ sql, what: `shows ${raw} (${manner})`, seen }]
    if (control[i] !== first[i] || seen.every((text) => text === seen[0]) || OF_THE_MOMENT.test(sql)) return []
    return [{ sql, what: `differs (${manner})`, seen: seen.map((text) => whereDiffers(text, seen)) }]
  })
  return { answers: first, findings }
}

/** What one copy says. */
async function converse(
  { gateways, databases }: World,
  index: number,
  script: readonly string[],
  manner: Manner,
): Promise<readonly string[]> {
  const port = await gateways[index]?.listen()
  if (port === undefined) throw new Error('There is no such copy.')
  const name = databases[index]?.name ?? ''
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  try {
    // Each read waits for data or the end.
    socket.setMaxListeners(0)
    await once(socket, 'connect')
    const backend = new Backend(socket, manner !== 'simple')
    const parameters = new Map([
      ['user', 'loop'],
      ['database', 'copy'],
    ])
    socket.write(encodeStartup({ type: 'startup', major: 3, minor: 0, parameters }))
    await backend.until('R')
    socket.write(encodePassword('any'))
    await backend.until('Z')
    const answers: string[] = []
    for (const sql of script) {
      const bytes = manner === 'simple' ? encodeQuery({ type: 'Query', sql }) : prepared(sql, manner)
      socket.write(bytes)
      answers.push((await backend.until('Z')).replaceAll(name, 'DB'))
      if (backend.isOver) break
    }
    return answers
  } finally {
    socket.destroy()
  }
}

function prepared(sql: string, manner: Manner): Buffer {
  const resultFormats = manner === 'binary' ? ([1] as const) : []
  return Buffer.concat([
    encodeParse({ name: '', sql, paramTypes: [] }),
    encodeDescribe({ type: 'Describe', what: 'statement', name: '' }),
    encodeBind({ portal: '', statement: '', paramFormats: [], params: [], resultFormats }),
    encodeDescribe({ type: 'Describe', what: 'portal', name: '' }),
    // What yields no rows is done once it ran: a second time it is an error, which would end the transaction.
    ...(/^\s*(?:select|table|values|with|fetch|show|explain)\b/iu.test(sql) && !/\binto\b/iu.test(sql)
      ? [encodeExecute({ portal: '', rowsMax: 2 })]
      : []),
    encodeExecute({ portal: '', rowsMax: 0 }),
    SYNC,
  ])
}

/** What comes from a door, as letters and bodies. */
class Backend {
  readonly #socket: Socket
  readonly #reader = new BackendReader()
  readonly #isExtended: boolean
  isOver = false

  constructor(socket: Socket, isExtended: boolean) {
    this.#socket = socket
    this.#isExtended = isExtended
    this.#reader.readsRows = true
    socket.on('error', () => undefined)
  }

  /** Everything up to a message of that letter, which counts as well. */
  async until(letter: string): Promise<string> {
    let said = ''
    for (;;) {
      const piece = this.#reader.next()
      if (piece === undefined) {
        const signal = AbortSignal.timeout(PATIENCE_MS)
        const data = await Promise.race([
          once(this.#socket, 'data', { signal }).then(([bytes]) => bytes as Buffer),
          once(this.#socket, 'close', { signal }).then(() => undefined),
        ])
        if (data === undefined) {
          this.isOver = true
          return `${said}(closed)`
        }
        this.#reader.push(data)
        continue
      }
      if (piece.kind === 'rows') continue
      // Of the server, not of its data: what the session was told at its beginning, and its key.
      if (piece.letter !== 'S' && piece.letter !== 'K') said += `${piece.letter}:${piece.body.toString('latin1')}\n`
      if (piece.letter === 'G') {
        this.#socket.write(
          Buffer.concat([
            encodeCopy({ type: 'CopyData', data: Buffer.from('1\tone\n2\tzqvkjxw1-a\n') }),
            encodeCopy({ type: 'CopyDone' }),
            // The Sync that went ahead was taken for part of the data (PostgreSQL manual, 55.2.6).
            ...(this.#isExtended ? [SYNC] : []),
          ]),
        )
      }
      if (piece.letter === letter) return said
    }
  }
}
