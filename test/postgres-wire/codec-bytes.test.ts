import { describe, expect, it } from 'vitest'
import { fuzzRound } from './codec-fuzz.ts'
import { diceOf } from './dice.ts'

/** `npm run fuzz` takes ten times as long. */
const MS = 60_000
const ROUNDS_MIN = 15_000
const GROWTH_MAX = 256 * 1024 ** 2

describe('the codec of the PostgreSQL door', () => {
  it('gives the same messages for any cut, and an error of its own for what is none', { timeout: 600_000 }, () => {
    const end = performance.now() + MS
    const before = process.memoryUsage().rss
    for (let round = 0; round < ROUNDS_MIN || performance.now() < end; round++) fuzzRound(diceOf(0x5a11 + round * 7919))
    expect(process.memoryUsage().rss - before).toBeLessThan(GROWTH_MAX)
  })
})
