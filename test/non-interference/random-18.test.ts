import { describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { proveRandom, SEED } from './random.ts'

// With those of the other server 20,000 statements.
describe('C9: random statements on PostgreSQL 18', () => {
  it('tell no copies apart', async () => {
    expect(await proveRandom({ server: '18', mode: 'rewrite', seed: SEED + 0, own: 6000, sqlsmith: 0 })).toEqual([])
  }, 3_600_000)

  it('nor under a role without rights on masked columns', async () => {
    expect(await proveRandom({ server: '18', mode: 'enforced', seed: SEED + 1, own: 2000, sqlsmith: 0 })).toEqual([])
  }, 3_600_000)

  it.runIf(has('sqlsmith'))(
    "nor do sqlsmith's",
    async () => {
      expect(await proveRandom({ server: '18', mode: 'rewrite', seed: SEED + 2, own: 0, sqlsmith: 2000 })).toEqual([])
    },
    3_600_000,
  )
})
