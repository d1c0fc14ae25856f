import { expect, it } from 'vitest'
import { fuzzRound } from './codec-fuzz.ts'
import { diceOf } from './dice.ts'

/** `npm run fuzz` gives the codec this long. */
const MINUTES = Number(process.env['SALLYPORT_CODEC_MINUTES'] ?? 10)
const SEED = Number(process.env['SALLYPORT_SEED'] ?? 1)
const GROWTH_MAX = 256 * 1024 ** 2

it(`the codec of the PostgreSQL door for ${MINUTES} minutes`, () => {
  const end = performance.now() + MINUTES * 60_000
  const before = process.memoryUsage().rss
  let rounds = 0
  for (; performance.now() < end; rounds++) fuzzRound(diceOf(SEED * 0x9e3779b1 + rounds))
  console.log(`${rounds} rounds; RSS grew by ${((process.memoryUsage().rss - before) / 1024 ** 2).toFixed(0)} MiB`)
  expect(process.memoryUsage().rss - before).toBeLessThan(GROWTH_MAX)
})
