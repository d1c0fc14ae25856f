/** Random statements put to copies of one database: what `random-*.test.ts` and `random.fuzz.ts` run. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import type { ServerVersion } from '../services/postgres.ts'
import { has } from '../setup/needs.ts'
import { Writer, type Written } from './grammar.ts'
import { stateOf } from './state.ts'
import { isPlannedAsRead, openWorld, type Finding, type Mode, type World } from './world.ts'

/** What is asked of one world. */
export interface Round {
  readonly server: ServerVersion
  readonly mode: Mode
  readonly seed: number
  /** How many of our own grammar, and how many of sqlsmith's. */
  readonly own: number
  readonly sqlsmith: number
}

/** At least this share of our own statements must run: what is refused proves nothing. */
const ACCEPTED_SHARE_MIN = 0.4
/** Reads between two looks at the state, and statements between two resets of the rows. */
const BATCH = 250
/** Statements for one set of databases in a long run. */
const ROUND = 5000
/** Copies that differ, besides the twin of the first. */
const COPIES = 3
/** A planner that was still looking then would have been a place to stop the gateway at. */
const PLANNING_MAX_MS = 250
/** What differs by itself. */
const DICE =
  /\b(?:gen_random_uuid|random|clock_timestamp|timeofday|txid_current\w*|pg_current_xact_id\w*)\b|tablesample/iu

/** Seed of this run: SALLYPORT_SEED, or always the same. */
export const SEED = Number(process.env['SALLYPORT_SEED'] ?? 20_261_123)

const STATEMENTS = Number(process.env['SALLYPORT_STATEMENTS'] ?? 100_000)

/** This server's half of a long run. Rounds are short, so that the first of them tells soon. */
export function fuzz(server: ServerVersion): void {
  const rounds = Math.ceil(STATEMENTS / 2 / ROUND)
  describe(`C9: ${STATEMENTS / 2} random statements on PostgreSQL ${server}`, () => {
    it.each(Array.from({ length: rounds }, (_, i) => i))('tell no copies apart: round %i', async (i) => {
      const seed = SEED + 1000 * (i + 1) + Number(server)
      const theirs = has('sqlsmith') ? ROUND / 4 : 0
      const mode = i % 3 === 2 ? 'enforced' : 'rewrite'
      expect(await proveRandom({ server, mode, seed, own: ROUND - theirs, sqlsmith: theirs })).toEqual([])
    })
  })
}

/** Asks everything of the round, prints what became of it and returns what is wrong with that. */
export async function proveRandom(round: Round): Promise<readonly unknown[]> {
  const { server, mode, seed } = round
  const world = await openWorld({ server, mode, copies: COPIES, statementTimeout: '2s' })
  try {
    const findings: Finding[] = []
    const wrong: unknown[] = []
    const writer = new Writer(seed)
    const own = Array.from({ length: round.own }, () => writer.next())
    const ours = await askAll(world, own, findings)
    const theirs = await askAll(world, await sqlsmith(world, seed, round.sqlsmith), findings)
    console.log(`PostgreSQL ${server}, ${mode}, seed ${seed}\n  grammar  ${ours.text}\n  sqlsmith ${theirs.text}`)
    const written = await world.searchWritten()
    if (written !== undefined) wrong.push(`a recording or log shows ${written}`)
    if (round.own > 0 && ours.answered / round.own < ACCEPTED_SHARE_MIN) wrong.push('too few statements ran')
    // Planning is one piece of work for one thread; the least of several tries is what it takes.
    const longest = Math.max(ours.planningMs, theirs.planningMs)
    if (longest > PLANNING_MAX_MS) wrong.push(`a statement was planned for ${longest} ms`)
    return [...findings, ...wrong]
  } finally {
    await world.close()
  }
}

interface Tally {
  readonly text: string
  readonly answered: number
  readonly planningMs: number
}

async function askAll(world: World, statements: readonly Written[], findings: Finding[]): Promise<Tally> {
  const shares = new Map<string, number>()
  let planningMs = 0
  const note = async ({ sql }: Written): Promise<boolean> => {
    const { answer, finding } = await world.ask(sql)
    if (finding !== undefined) findings.push(finding)
    const [kind = ''] = answer.verdict.split(' ')
    shares.set(kind, (shares.get(kind) ?? 0) + 1)
    planningMs = Math.max(planningMs, answer.planningMs ?? 0)
    return isPlannedAsRead(answer)
  }
  for (let at = 0; at < statements.length && findings.length < 10; at += BATCH) {
    const batch = statements.slice(at, at + BATCH)
    const reads: string[] = []
    const before = await stateOf(adminOf(world))
    for (const one of batch.filter(({ isWrite }) => !isWrite)) if (await note(one)) reads.push(one.sql)
    if ((await stateOf(adminOf(world))) !== before) findings.push(...(await writersAmong(world, reads)))
    for (const one of batch.filter(({ isWrite }) => isWrite)) await note(one)
    await world.reset()
  }
  const total = statements.length
  const share = (kind: string): string =>
    `${(((shares.get(kind) ?? 0) / Math.max(1, total)) * 100).toFixed(1)} % ${kind}`
  return {
    text: `${total}: ${[...shares.keys()].map(share).join(', ')}; longest planning ${planningMs.toFixed(1)} ms`,
    answered: shares.get('same') ?? 0,
    planningMs,
  }
}

/** Of statements that are planned as reads those after which the database is another one. */
async function writersAmong(world: World, reads: readonly string[]): Promise<readonly Finding[]> {
  const found: Finding[] = []
  let before = await stateOf(adminOf(world))
  for (const sql of reads) {
    await world.gateways[0]?.ask(sql)
    const after = await stateOf(adminOf(world))
    if (after !== before)
      found.push({ sql, what: 'is planned as a read and changes the database', seen: [before, after] })
    before = after
  }
  return found
}

function adminOf(world: World): World['databases'][number]['admin'] {
  const [db] = world.databases
  if (db === undefined) throw new Error('There is no copy.')
  return db.admin
}

const SEEN_BY_SQLSMITH = `
  GRANT SELECT, INSERT, UPDATE, DELETE ON customers, orders, products, vault, parted, base, child, sink, checked TO $role;
  GRANT SELECT ON order_view, order_mat TO $role`

/** Statements sqlsmith makes up for this schema. It only prints them; what it may see is what the role may. */
async function sqlsmith(world: World, seed: number, count: number): Promise<readonly Written[]> {
  if (count === 0) return []
  const [db] = world.databases
  if (db === undefined) return []
  // What it cannot see it does not use: views over masked tables and the like would be refused one after the other.
  const role = await db.role(SEEN_BY_SQLSMITH)
  const target = `host=${db.host} port=${db.port} dbname=${db.name} user=${role.user} password=${role.password}`
  const { stdout } = await promisify(execFile)(
    'sqlsmith',
    [`--target=${target}`, `--seed=${seed}`, `--max-queries=${count}`, '--dry-run', '--exclude-catalog'],
    { maxBuffer: 1 << 28, timeout: 120_000 },
  )
  return (
    stdout
      .split(/;\s*\n(?=\S|$)/u)
      .map((sql) => drawnAlike(sql.trim()))
      .filter((sql) => sql !== '')
      .map((sql) => ({
        sql,
        isWrite: !/^(select|with)\b/iu.test(sql) || /\b(insert|update|delete|merge)\b/iu.test(sql),
      }))
      // A write cannot be asked twice, so nobody could tell what a die decided from what a secret did.
      .filter(({ sql, isWrite }) => !isWrite || !DICE.test(sql))
  )
}

/** A sample that is drawn anew each time says nothing of secrets: all copies draw the same one. */
function drawnAlike(sql: string): string {
  return sql.replaceAll(/(\btablesample\s+(?:bernoulli|system)\s*\([^)]*\))(?!\s*repeatable)/giu, '$1 repeatable (7)')
}
