/** What planning costs at worst, counted in steps: a machine that is busy takes no more of them. */
import { beforeAll, describe, expect, it } from 'vitest'
import type { ColumnMask } from '../../src/core/decision.ts'
import { loadParser, planQuery } from '../../src/protocols/postgres/plan.ts'
import { STEPS_MAX, stepsTaken } from '../../src/protocols/postgres/scope.ts'
import { mask, shopCatalog } from './plan-fixture.ts'
import { WORST_TEXTS } from './worst-texts.ts'

const MASKS: readonly ColumnMask[] = [mask('ssn')]

/** The step that is one too many may be a large one. */
const LAST_STEP_MAX = 20_000

describe('planning a text near the limits', () => {
  const steps = (sql: string): number => {
    planQuery({ sql }, shopCatalog(), { masks: MASKS })
    return stepsTaken()
  }

  beforeAll(loadParser)

  // Half of a text must not cost much more than half: what grows with the square is found by its steps, or refused.
  it.each(WORST_TEXTS)('takes a bounded number of steps, in proportion to its length: %s', (_, text) => {
    const [half, whole] = [steps(text(0.5)), steps(text(1))]
    expect(whole).toBeLessThanOrEqual(STEPS_MAX + LAST_STEP_MAX)
    expect(whole > STEPS_MAX || whole <= 4.5 * half + 1000).toBe(true)
  })

  // Every part is judged, recorded and shown: lists that parts share must not make of kilobytes gigabytes.
  it.each(WORST_TEXTS)('has an action in proportion to its length: %s', (_, text) => {
    const { action } = planQuery({ sql: text(1) }, shopCatalog(), { masks: MASKS })
    expect(JSON.stringify(action).length).toBeLessThan(4_000_000)
  })

  it('counts a list that parts share once for each of them', () => {
    const names = (count: number, name: string): string => Array.from({ length: count }, (_, i) => name + i).join(', ')
    const granted = (roles: number): number => steps(`GRANT SELECT ON ${names(200, 't')} TO ${names(roles, 'r')}`)
    expect(granted(200) - granted(1)).toBeGreaterThanOrEqual(199 * 200)
  })

  it('takes few of them for what people write', () => {
    expect(
      steps('SELECT c.name, o.note FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.id = 1'),
    ).toBeLessThan(500)
  })
})
