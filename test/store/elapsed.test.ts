import { expect, it } from 'vitest'
import { elapsedClock } from '../../src/store/elapsed.ts'

it('a clock for what must be given up in time goes on while the machine sleeps, and never back', () => {
  let monotonic = 1_000
  let wall = 1_700_000_000_000
  const clock = elapsedClock(
    () => monotonic,
    () => wall,
  )
  const start = clock()
  const pass = (ms: number, wallMs = ms): number => {
    monotonic += ms
    wall += wallMs
    return clock() - start
  }
  expect(pass(10)).toBe(10)
  // Asleep: only the wall clock saw it.
  expect(pass(5, 3_600_005)).toBe(3_600_015)
  expect(pass(5)).toBe(3_600_020)
  // Set back by an hour: no time at all, and no hour later when it is mended by hand little by little.
  expect(pass(5, -3_600_000)).toBe(3_600_025)
  expect(pass(100, 101)).toBe(3_600_125)
  // Rounding does not add up.
  for (let n = 0; n < 1_000; n++) pass(0.4, n % 2)
  expect(clock() - start).toBeCloseTo(3_600_525, 0)
})
