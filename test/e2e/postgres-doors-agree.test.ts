/**
 * The same statements through `query_database` and through the PostgreSQL door, in the simple and in the extended protocol:
 * one engine, so one verdict, the same rules, the same values, and the same on the record.
 */
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encodeBind } from '../../src/protocols/postgres/messages/bind.ts'
import { SYNC } from '../../src/protocols/postgres/messages/control.ts'
import { encodeExecute } from '../../src/protocols/postgres/messages/execute.ts'
import { encodeParse } from '../../src/protocols/postgres/messages/parse.ts'
import { encodeQuery } from '../../src/protocols/postgres/messages/query.ts'
import { decodeBackendKeyData } from '../../src/protocols/postgres/messages/session-facts.ts'
import { encodeStartup } from '../../src/protocols/postgres/messages/startup.ts'
import { CORPUS, CORPUS_GRANTS, CORPUS_POLICY, CORPUS_SCHEMA } from './postgres-corpus.ts'
import { RawClient, type Heard } from './raw-postgres.ts'
import { callTool, openWorld, type ToolResult, type World } from './world.ts'

/** What differs by design, and why. Nothing else may. */
const BY_DESIGN: readonly (readonly [which: (tool: Outcome, wire: Outcome, sql: string) => boolean, why: string])[] = [
  [
    ({ is, cut }, wire) => is === 'ok' && cut === true && wire.sqlstate === '54000',
    'A wire has no place to say that a result was cut.',
  ],
]
const BY_DESIGN_MAX = 5

/** What became of a statement, told alike by all doors. */
interface Outcome {
  readonly is: 'ok' | 'denied' | 'held' | 'failed'
  readonly rows?: readonly (readonly (string | null)[])[]
  readonly cut?: boolean
  readonly sqlstate?: string
  readonly why?: string
}

/** What the recording says of it. */
type Entry = Readonly<Record<string, unknown>>

let world: World
const outcomes: Record<string, Outcome[]> = { tool: [], simple: [], extended: [] }
let decisions: ReadonlyMap<string, readonly Entry[]> = new Map()
let ends: ReadonlyMap<string, readonly Entry[]> = new Map()

const who = { kind: 'agent', owner: 'maria', groups: ['agents'], roles: ['caller'] }

beforeAll(async () => {
  world = await openWorld({
    schema: CORPUS_SCHEMA,
    grants: CORPUS_GRANTS,
    policy: CORPUS_POLICY,
    postgres: '{address: "127.0.0.1:0", auth: password}',
    config: 'approvals: {hold: 1ms}\n',
  })
  const token = (principal: string): Promise<string> => world.token({ principal, ...who })
  await Promise.all([
    throughTool(await token('tool')),
    throughWire('simple', await token('simple'), (sql) => [encodeQuery({ type: 'Query', sql })]),
    throughWire('extended', await token('extended'), extended),
  ])
  await world.stop()
  const entries = await recorded(world.dir)
  decisions = byPrincipal(entries, 'decision')
  ends = byPrincipal(entries, 'end')
}, 300_000)
afterAll(async () => world?.close())

async function throughTool(token: string): Promise<void> {
  for (const sql of CORPUS) outcomes['tool']?.push(await toolOutcome(token, sql))
}

async function toolOutcome(token: string, sql: string): Promise<Outcome> {
  const { structuredContent: said = {} } = await callTool(world.mcpUrl, token, 'query_database', { target: 'db', sql })
  const { status, rows = [], truncated, sqlstate, reason }: ToolResult['structuredContent'] & object = said
  const why = String(reason)
  if (status === 'ok') return { is: 'ok', rows: rows.map((row) => row.map(asText)), cut: truncated === true }
  if (status === 'pending_approval') return { is: 'held' }
  if (status === 'denied') return { is: 'denied', why }
  return { is: 'failed', sqlstate: String(sqlstate) }
}

/** A JSON value as PostgreSQL writes it. */
function asText(value: unknown): string | null {
  if (value === null) return null
  if (typeof value === 'boolean') return value ? 't' : 'f'
  return typeof value === 'string' ? value : JSON.stringify(value)
}

async function throughWire(lane: string, token: string, messages: (sql: string) => readonly Buffer[]): Promise<void> {
  const { client, heard } = await RawClient.login(world.wirePort, token, { parameters: { user: lane } })
  const { processId, key } = decodeBackendKeyData(heard.bodies[heard.letters.indexOf('K')] ?? Buffer.alloc(0))
  for (const sql of CORPUS) {
    client.socket.write(Buffer.concat(messages(sql)))
    const first = await client.hear((letter, _, words) => letter === 'Z' || words.includes('Cancel to withdraw it'))
    if (!first.letters.endsWith('Z')) {
      new RawClient(world.wirePort).socket.end(encodeStartup({ type: 'cancel', processId, key }))
      await client.hear((letter) => letter === 'Z')
    }
    outcomes[lane]?.push(wireOutcome(first))
  }
  client.end()
}

function extended(sql: string): readonly Buffer[] {
  return [
    encodeParse({ name: '', sql, paramTypes: [] }),
    encodeBind({ portal: '', statement: '', paramFormats: [], params: [], resultFormats: [] }),
    encodeExecute({ portal: '', rowsMax: 0 }),
    SYNC,
  ]
}

function wireOutcome({ letters, codes, messages, rows }: Heard): Outcome {
  if (!letters.endsWith('Z')) return { is: 'held' }
  const [sqlstate] = codes
  if (sqlstate === undefined) return { is: 'ok', rows, cut: false }
  if (sqlstate === '42501') return { is: 'denied', why: messages[0] ?? '' }
  return { is: 'failed', sqlstate }
}

/** Entries of all sessions, each with its principal, in order within a session. */
async function recorded(dir: string): Promise<readonly Entry[]> {
  const base = path.join(dir, 'recordings')
  const files = (await readdir(base, { recursive: true })).filter((name) => name.endsWith('.jsonl')).sort()
  const entries: Entry[] = []
  for (const file of files) {
    const lines = (await readFile(path.join(base, file), 'utf8')).trim().split('\n')
    const own = lines.map((line) => JSON.parse(line) as Entry)
    const principal = (own[0]?.['principal'] as { id?: string } | undefined)?.id
    entries.push(...own.map((entry) => ({ ...entry, of: principal })))
  }
  return entries
}

function byPrincipal(entries: readonly Entry[], type: string): ReadonlyMap<string, readonly Entry[]> {
  const found = new Map<string, Entry[]>()
  for (const entry of entries) {
    if (entry['type'] !== type) continue
    const of = String(entry['of'])
    found.set(of, [...(found.get(of) ?? []), entry])
  }
  return found
}

/** What of a decision may not depend on the door. */
function judged(entry: Entry | undefined): Entry {
  const { request, effect, rules, why, parts, obligations, masking, approvals } = entry ?? {}
  return {
    request: (request as { text?: string } | undefined)?.text,
    effect,
    rules,
    why,
    parts,
    obligations,
    masking,
    approvals,
  }
}

function ended(entry: Entry | undefined): Entry {
  const { ending, row_count: rowCount, error } = entry ?? {}
  const { facts } = (error ?? {}) as { facts?: { sqlstate?: string } }
  return { ending, rowCount, sqlstate: facts?.sqlstate }
}

describe.each(['simple', 'extended'])('query_database and the %s protocol', (lane) => {
  it(`agree on what becomes of each of ${CORPUS.length} statements`, () => {
    expect(CORPUS.length).toBeGreaterThanOrEqual(300)
    const differing = CORPUS.flatMap((sql, index) => {
      const tool = outcomes['tool']?.[index] ?? { is: 'failed' }
      const wire = outcomes[lane]?.[index] ?? { is: 'failed' }
      if (JSON.stringify(tool) === JSON.stringify({ ...wire, ...(wire.is === 'ok' && { cut: tool.cut ?? false }) }))
        return []
      return BY_DESIGN.some(([which]) => which(tool, wire, sql)) ? [] : [{ sql, tool, wire }]
    })
    expect(differing).toEqual([])
    expect(BY_DESIGN.length).toBeLessThanOrEqual(BY_DESIGN_MAX)
  })

  it('C5: put the same verdict, rules, parts and obligations on the record', () => {
    const [tool = [], wire = []] = [decisions.get('tool'), decisions.get(lane)]
    expect([tool.length, wire.length]).toEqual([CORPUS.length, CORPUS.length])
    for (const [index, sql] of CORPUS.entries())
      expect({ sql, ...judged(wire[index]) }).toEqual({ sql, ...judged(tool[index]) })
  })

  it('end every call alike on the record', () => {
    const [tool = [], wire = []] = [ends.get('tool'), ends.get(lane)]
    const differing = CORPUS.flatMap((sql, index) => {
      const [one, other] = [ended(tool[index]), ended(wire[index])]
      const isCut = outcomes['tool']?.[index]?.cut === true
      const isHeld = outcomes['tool']?.[index]?.is === 'held'
      return isCut || isHeld || JSON.stringify(one) === JSON.stringify(other) ? [] : [{ sql, tool: one, wire: other }]
    })
    expect(differing).toEqual([])
  })

  it('C9, C10: show no masked value', () => {
    expect(JSON.stringify(outcomes[lane])).not.toMatch(/111-22-|@corp/u)
  })
})

it('the corpus has statements of every kind', () => {
  const count = (is: Outcome['is']): number => outcomes['tool']?.filter((one) => one.is === is).length ?? 0
  expect([count('ok') > 100, count('denied') > 100, count('held') >= 6, count('failed') >= 5]).toEqual([
    true,
    true,
    true,
    true,
  ])
})
