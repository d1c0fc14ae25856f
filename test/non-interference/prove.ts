/** The corpora on one server, under both modes: what `corpora-15.test.ts` and `corpora-18.test.ts` run. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ServerVersion } from '../services/postgres.ts'
import { readCorpus, recordVerdicts, type CorpusName, type Line } from './corpus.ts'
import { columnsOf, flagged, open } from './direct.ts'
import { rawInWritten } from './secrets.ts'
import { SESSION_SETTINGS, stateOf } from './state.ts'
import { isPlannedAsRead, openWorld, type Finding, type Outcome, type World } from './world.ts'

const MUST_BE_WRITTEN = process.env['SALLYPORT_CORPUS'] === 'write'

/** Attempts that are known to tell, and why they do. */
type Exception = readonly [attempt: RegExp, why: string]

/** Of what leaks without a gateway at least this share is seen to: the runner can see. */
const FLAGGED_SHARE_MIN = 0.5
/** Told apart under a role without rights on masked columns, without any gateway: what PostgreSQL itself cannot keep. */
const TOLD_WITHOUT_RIGHTS: readonly Exception[] = [
  [/\bpg_stats\b/u, 'statistics of columns of masked tables that the role may read'],
  [/\b(?:audited|copied|kept)\b/u, "triggers run with their table's rows, whatever the role may read"],
  [/\btenants\b/u, 'a policy compares a masked column for whoever asks'],
  [/\b(?:filled|fresh_only)\b/u, "defaults and checks call functions with their owner's rights"],
  [/\bupdate checked\b/u, 'a check compares a masked column with one that may be written'],
]
/** Those that tell or do not by the moment, and so count for nothing. */
const TOLD_ON_SOME_DAYS: readonly Exception[] = [
  [/\banalyze, wal\b/u, 'WAL is as long as the rows are, masked columns included, until a checkpoint adds whole pages'],
  [/\border by c\.plan limit 1$/u, 'rows come in the order of an index that also holds a masked column'],
  [/\bpg_stat_(?:activity|get_(?:backend_)?activity)\b/u, 'shows what other sessions of the role are doing just now'],
  [/\bpg_locks\b/u, 'shows what other sessions hold just now'],
]
/** Statements of the corpus that tell every time. */
const TOLD_WITHOUT_RIGHTS_MAX = 20

/** What is wrong with a section that is as it should be. */
const NOTHING: { readonly findings: readonly Finding[]; readonly otherwise: readonly string[] } = {
  findings: [],
  otherwise: [],
}

const LEAKS = readCorpus('leaks')
const LEGITIMATE = readCorpus('legitimate')

/** Finds a masked text in any column of a query, as it is, backwards or in hexadecimal. */
const oracle = (sql: string): string =>
  `select count(*) from (${sql}\n) as oracle where oracle::text ~* 'zqvkjxw|wxjkvqz|7a71766b6a7877'`

export function proveCorpora(version: ServerVersion): void {
  describe.each(['rewrite', 'enforced'] as const)(`C9: PostgreSQL ${version}, %s`, (mode) => {
    // Under its own rights the role reads less, and there is nothing to compare; what cannot apply is no skipped test.
    const inRewrite = mode === 'rewrite' ? it : undefined
    let world: World
    beforeAll(async () => {
      world = await openWorld({ server: version, mode })
    })
    afterAll(() => world.close())

    describe.each(LEAKS)('leaks: $heading', ({ lines }) => {
      it(`are answered alike or refused (${lines.length})`, async () => {
        expect(await prove('leaks', lines)).toEqual(NOTHING)
      })
    })

    describe.each(LEGITIMATE)('legitimate: $heading', ({ lines }) => {
      it(`is answered alike (${lines.length})`, async () => {
        expect(await prove('legitimate', lines)).toEqual(NOTHING)
      })
    })

    /** What was asked of the copies, and what a sub-select around it would count. */
    async function prove(name: CorpusName, lines: readonly Line[]): Promise<typeof NOTHING> {
      await world.reset()
      const findings: Finding[] = []
      const verdicts = new Map<string, string>()
      for (const { sql } of lines) {
        const outcome = await world.ask(sql)
        verdicts.set(sql, outcome.answer.verdict)
        if (outcome.finding !== undefined) findings.push(outcome.finding)
        const counted = await search(sql, outcome)
        if (counted !== undefined) findings.push(counted)
      }
      if (MUST_BE_WRITTEN) recordVerdicts(name, version, mode, verdicts)
      const otherwise = lines.flatMap((line) => {
        const [expected, seen = ''] = [line.verdict(version, mode), verdicts.get(line.sql)]
        return expected === seen || MUST_BE_WRITTEN ? [] : [`${expected} → ${seen} | ${line.sql}`]
      })
      return { findings, otherwise }
    }

    async function search(sql: string, { answer }: Outcome): Promise<Finding | undefined> {
      if (
        mode !== 'rewrite' ||
        answer.verdict !== 'same' ||
        !isPlannedAsRead(answer) ||
        !/^(select|with|table|values)\b/iu.test(sql)
      )
        return undefined
      const { answer: count, finding } = await world.ask(oracle(sql.replace(/;[\s;]*$/u, '')))
      if (finding !== undefined) return finding
      if (count.verdict !== 'same' || count.text.includes('[["0"]]')) return undefined
      return { sql, what: 'holds a masked value', seen: [count.text] }
    }

    inRewrite?.('what is planned as a read changes nothing', async () => {
      const { gateways, databases } = world
      const admin = databases[0]?.admin
      const [gateway] = gateways
      if (gateway === undefined || admin === undefined) throw new Error('There is no copy.')
      await world.reset()
      const reads: string[] = []
      for (const { sql } of [...LEAKS, ...LEGITIMATE].flatMap(({ lines }) => lines)) {
        const answer = await gateway.ask(sql)
        if (!answer.verdict.startsWith('refused') && isPlannedAsRead(answer)) reads.push(sql)
      }
      const state = async (): Promise<string> =>
        `${await stateOf(admin)}\n${(await gateway.ask(SESSION_SETTINGS)).text}`
      const before = await state()
      for (const sql of reads) await gateway.ask(sql)
      const after = await state()
      expect(after).toBe(before)
      // The hash itself can see: a row, a sequence, a lock.
      await admin.query(`SELECT nextval('numbers')`)
      expect(await state()).not.toBe(before)
    })

    it('C10: what approvers are shown holds nothing that is masked', async () => {
      const shown: string[] = []
      for (const { sql } of [...LEAKS, ...LEGITIMATE].flatMap(({ lines }) => lines).filter((_, i) => i % 4 === 0)) {
        const seen = await world.gateways[0]?.approverSees(sql)
        if (seen !== undefined) shown.push(seen)
      }
      expect(shown.length).toBeGreaterThan(50)
      expect(shown.map(rawInWritten).filter((found) => found !== undefined)).toEqual([])
    })

    it('C10: recordings and logs hold nothing that is masked', async () => {
      expect(await world.searchWritten()).toBeUndefined()
    })

    it('without a gateway the copies can be told apart', async () => {
      const leaks = LEAKS.flatMap(({ lines }) => lines).map(({ sql }) => sql)
      await world.reset()
      const told = await flagged(world, leaks)
      await world.reset()
      console.log(
        `PostgreSQL ${version}, ${mode}, no gateway: ${told.length} of ${leaks.length} attempts tell the copies apart`,
      )
      const steady = told.filter((sql) => !isOneOf(TOLD_ON_SOME_DAYS, sql))
      const isExplained = (sql: string): boolean => mode === 'rewrite' || isOneOf(TOLD_WITHOUT_RIGHTS, sql)
      const [least, most] =
        mode === 'rewrite' ? [leaks.length * FLAGGED_SHARE_MIN, leaks.length] : [0, TOLD_WITHOUT_RIGHTS_MAX]
      expect(steady.filter((sql) => !isExplained(sql))).toEqual([])
      expect(steady.length).toBeGreaterThanOrEqual(least)
      expect(steady.length).toBeLessThanOrEqual(most)
    })

    inRewrite?.('keeps names, types and modifiers of columns', async () => {
      const [db] = world.databases
      if (db === undefined) throw new Error('There is no copy.')
      const direct = await open(db, world.role)
      const differing: unknown[] = []
      let compared = 0
      try {
        for (const { sql } of LEGITIMATE.flatMap(({ lines }) => lines)) {
          if (/^(show|explain)|nextval/iu.test(sql)) continue
          const columns = await columnsOf(direct, sql)
          const ours = (await world.gateways[0]?.ask(sql))?.columns?.map(({ name, type }) => `${name} ${type}`)
          if (columns === undefined || ours === undefined) continue
          compared += 1
          // A whole row of a masked relation is no row of its type any more.
          const isSame = (column: string, i: number): boolean =>
            column === ours[i] || ours[i]?.endsWith(' record') === true
          if (columns.length !== ours.length || !columns.every(isSame)) differing.push({ sql, columns, ours })
        }
      } finally {
        await direct.end()
      }
      expect(compared).toBeGreaterThan(200)
      expect(differing).toEqual([])
    })
  })

  it('the corpora are as large as they should be', () => {
    const leaks = LEAKS.flatMap(({ lines }) => lines)
    const answered = LEGITIMATE.flatMap(({ lines }) => lines).filter((line) => line.verdict('18', 'rewrite') === 'same')
    expect(leaks.length).toBeGreaterThanOrEqual(300)
    expect(answered.length).toBeGreaterThanOrEqual(200)
  })
}

function isOneOf(exceptions: readonly Exception[], sql: string): boolean {
  return exceptions.some(([attempt]) => attempt.test(sql))
}
