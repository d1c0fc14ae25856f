import { describe, expect, it } from 'vitest'
import { fuzzRound } from './codec-fuzz.ts'
import { diceOf } from './dice.ts'

/** A short form of `npm run fuzz`. */
const ROUNDS = 15_000
const GROWTH_MAX = 256 * 1024 ** 2

describe('the codec of the PostgreSQL door', () => {
  it('gives the same messages for any cut, and an error of its own for what is none', { timeout: 180_000 }, () => {
    const before = process.memoryUsage().heapUsed
    for (let round = 0; round < ROUNDS; round++) fuzzRound(diceOf(0x5a11 + round * 7919))
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(GROWTH_MAX)
  })
})
