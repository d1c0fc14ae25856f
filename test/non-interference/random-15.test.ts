import { describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { proveRandom, SEED } from './random.ts'

// With those of the other server 20,000 statements.
describe.runIf(has('postgresql-15'))('C9: random statements on PostgreSQL 15', () => {
  it('tell no copies apart', async () => {
    expect(await proveRandom({ server: '15', mode: 'rewrite', seed: SEED + 10, own: 6000, sqlsmith: 0 })).toEqual([])
  }, 3_600_000)

  it('nor under a role without rights on masked columns', async () => {
    expect(await proveRandom({ server: '15', mode: 'enforced', seed: SEED + 11, own: 2000, sqlsmith: 0 })).toEqual([])
  }, 3_600_000)

  it.runIf(has('sqlsmith'))(
    "nor do sqlsmith's",
    async () => {
      expect(await proveRandom({ server: '15', mode: 'rewrite', seed: SEED + 12, own: 0, sqlsmith: 2000 })).toEqual([])
    },
    3_600_000,
  )
})
