/** The same proof at the PostgreSQL door: the corpora, and sessions of several statements, with every byte compared. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { readCorpus } from './corpus.ts'
import { askOnWire, type Manner } from './wire.ts'
import { openWorld, type Finding, type World } from './world.ts'

/** One session after another, with a line of hyphens between them. */
const SESSIONS = readFileSync(new URL('corpus/sessions.txt', import.meta.url), 'utf8')
  .split(/^----$/mu)
  .map((text) => text.split('\n').filter((line) => line !== ''))

/** What changes the session for all that follow belongs to the sessions. */
const OF_A_SESSION =
  /^(?:begin|set|reset|discard|listen|commit|rollback|savepoint|copy \S+ (?:\(.*\) )?from stdin)\b|set_config/iu
const LINES = [...readCorpus('leaks'), ...readCorpus('legitimate')].flatMap(({ lines }) =>
  lines.map(({ sql }) => sql).filter((sql) => !OF_A_SESSION.test(sql)),
)
/** Of all sessions at least so many statements are answered, in each manner: what is refused proves little. */
const ANSWERED_MIN = 150
/** Statements of one connection. */
const BATCH = 100

describe.runIf(has('postgresql-15'))('C9: the PostgreSQL door', () => {
  let world: World
  beforeAll(async () => {
    world = await openWorld({ server: '15', mode: 'rewrite' })
  })
  afterAll(() => world.close())

  it.each<Manner>(['simple', 'text', 'binary'])(
    'tells no copies apart in whole sessions (%s)',
    async (manner) => {
      await world.reset()
      const findings: Finding[] = []
      let answered = 0
      for (const session of SESSIONS) {
        const said = await askOnWire(world, session, manner)
        findings.push(...said.findings)
        answered += said.answers.filter(isAnswer).length
      }
      expect(findings).toEqual([])
      expect(answered).toBeGreaterThanOrEqual(ANSWERED_MIN)
    },
    240_000,
  )

  it.each<Manner>(['simple', 'binary'])(
    'tells no copies apart by single statements (%s)',
    async (manner) => {
      await world.reset()
      const findings: Finding[] = []
      let answered = 0
      for (let at = 0; at < LINES.length; at += BATCH) {
        const said = await askOnWire(world, LINES.slice(at, at + BATCH), manner)
        findings.push(...said.findings)
        answered += said.answers.filter(isAnswer).length
      }
      expect(findings).toEqual([])
      expect(answered).toBeGreaterThan(LINES.length / 3)
    },
    240_000,
  )
})

/** Whether something ran: a command was completed, and nothing failed. */
function isAnswer(said: string): boolean {
  return said.includes('C:') && !said.includes('E:')
}
