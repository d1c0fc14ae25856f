import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EMPTY_SESSION } from '../../src/protocols/postgres/session.ts'
import { has } from '../setup/needs.ts'
import { openReplay, type Replay, type Sent } from './replay.ts'
import { WRITTEN } from './written.ts'

/** Statements of a session of its own, for the wire: `query_database` has none (one call, one transaction). */
const OF_A_SESSION =
  /^\s*$|^\s*(?:begin|start|commit|rollback|savepoint|release|set|reset|declare|fetch|close|prepare|execute|deallocate|discard|copy|lock)\b|\bset_config\(/iu

/** What is refused under `sql.client`, a rule that reads and masks, and why that is right. */
const REFUSED: readonly (readonly [reason: RegExp, why: string])[] = [
  [/^sql\.lock public\.orders/u, 'FOR UPDATE locks rows; a rule that reads does not'],
  [/^sql\.explain/u, 'EXPLAIN needs a rule of its own: ANALYZE runs its statement'],
  [/^sql\.monitor pg_catalog\.pg_db_role_setting/u, 'settings of roles and databases may be secrets'],
  [/^sql\.monitor pg_catalog\.pg_subscription/u, 'a superuser would be shown the password in its connection string'],
  [/^sql\.call pg_catalog\.current_setting/u, "a setting named by a value may be an application's secret"],
]

/** Of those, what the same policy does not let pass, and why that is right. */
const REFUSED_OF_A_SESSION: readonly (readonly [statement: RegExp, why: string])[] = [
  [/^\s*copy\b/iu, 'COPY needs a rule of its own (sql.copy), besides what it reads'],
  [/^\s*lock table public\.customers\b/iu, 'pg_dump of a masked table: restoring it would destroy the data'],
]

const captured = fileURLToPath(new URL('./captured', import.meta.url))
const all: readonly (readonly [tool: string, statements: readonly Sent[]])[] = readdirSync(captured).map((file) => [
  path.basename(file, '.json'),
  JSON.parse(readFileSync(path.join(captured, file), 'utf8')) as Sent[],
])
const tools: (readonly [tool: string, statements: readonly Sent[]])[] = all.map(([tool, sent]) => [
  tool,
  sent.filter(({ sql }) => !OF_A_SESSION.test(sql)),
])
tools.push(...Object.entries(WRITTEN).map(([tool, statements]) => [`${tool} (in its manner)`, statements] as const))

describe.runIf(has('postgresql-15'))('what tools send, under sql.client, a read rule and masks', () => {
  let replay: Replay
  const reasons = new Set<string>()
  let accepted = 0

  beforeAll(async () => {
    replay = await openReplay()
  })
  afterAll(() => replay.close())

  it.each(tools)('%s is answered as on data that really is what the masks show', async (_tool, statements) => {
    const wrong: string[] = []
    for (const sent of statements) {
      const outcome = await replay.replay(sent)
      if (outcome.is === 'same') accepted += 1
      else if (outcome.is !== 'refused') wrong.push(`${JSON.stringify(outcome).slice(0, 2000)} :: ${sent.sql}`)
      else if (REFUSED.some(([reason]) => reason.test(outcome.reason))) reasons.add(outcome.reason)
      else wrong.push(`${outcome.reason} :: ${sent.sql}`)
    }
    expect(wrong).toEqual([])
  })

  it('refuses nothing else, and everything on that list', () => {
    expect(accepted).toBeGreaterThan(600)
    const unmet = REFUSED.filter(([reason]) => ![...reasons].some((one) => reason.test(one)))
    expect(unmet).toEqual([])
  })

  it('transactions, settings, cursors and prepared statements of tools pass the same policy', async () => {
    const wrong: string[] = []
    const met = new Set<RegExp>()
    for (const [, statements] of all) {
      let held = EMPTY_SESSION
      for (const sent of statements) {
        if (!OF_A_SESSION.test(sent.sql) || sent.sql.trim() === '') continue
        const { refusals, ...now } = await replay.inSession(sent, held)
        held = now.held
        if (refusals.length === 0) continue
        const known = REFUSED_OF_A_SESSION.find(([statement]) => statement.test(sent.sql))
        if (known !== undefined) met.add(known[0])
        else wrong.push(`${refusals.join()} :: ${sent.sql}`)
      }
    }
    expect(wrong).toEqual([])
    expect(REFUSED_OF_A_SESSION.map(([statement]) => statement).filter((statement) => !met.has(statement))).toEqual([])
  })

  it.each(['SET standard_conforming_strings = off', `SET client_encoding = 'SJIS'`, 'RESET ROLE', 'SET ROLE postgres'])(
    'does not let a client %s',
    async (sql) => {
      const { decision, plan } = await replay.judge({ sql })
      expect(decision.effect === 'deny' || plan.refused !== undefined).toBe(true)
    },
  )

  it.each([
    'SELECT * FROM pg_stats',
    'SELECT histogram_bounds FROM pg_catalog.pg_stats',
    'SELECT * FROM pg_statistic',
    'SELECT stxdmcv FROM pg_statistic_ext_data',
    'SELECT * FROM pg_stats_ext',
    'SELECT query FROM pg_stat_activity',
    'SELECT rolpassword FROM pg_authid',
    'SELECT * FROM pg_shadow',
    'SELECT data FROM pg_largeobject',
    'SELECT lo_get(1)',
    'SELECT umoptions FROM pg_user_mapping',
    'SELECT um FROM pg_user_mappings um',
    'SELECT row_to_json(um) FROM pg_user_mappings um',
    'TABLE pg_user_mappings',
    'SELECT * FROM information_schema.user_mapping_options',
    'SELECT subconninfo FROM pg_subscription',
    'SELECT s FROM pg_subscription s',
    'SELECT (s).subconninfo FROM pg_subscription s',
    'SELECT x FROM pg_subscription AS s (a, b, c, d, e, f, g, h, i, j, x)',
    'SELECT 1 FROM pg_subscription NATURAL JOIN (SELECT 1 AS subconninfo) x',
    `SELECT 1 FROM pg_subscription WHERE subconninfo LIKE '%p%'`,
    'SELECT statement FROM pg_prepared_statements',
    'SELECT statement FROM pg_cursors',
    'SELECT * FROM pg_replication_slots',
    'SELECT * FROM pg_stat_replication',
    `SELECT current_setting('app.secret')`,
  ])('does not answer %s', async (sql) => {
    expect(await replay.replay({ sql })).toMatchObject({ is: 'refused' })
  })
})
