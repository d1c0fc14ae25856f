import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Call } from '../../src/core/call.ts'
import type { Budget, Decision, RateLimit } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { createLimits, type Reservation } from '../../src/limits/limits.ts'
import { SlidingWindow } from '../../src/limits/window.ts'
import { WINDOWS_PER_OWNER_MAX } from '../../src/limits/windows.ts'

function call(principal = 'agent-1', target = 'shop-db', session = 's1'): Call {
  return { session: { id: session, principal: { id: principal } }, target: { name: target } } as unknown as Call
}

function decision(limits: {
  readonly rates?: readonly RateLimit[]
  readonly budgets?: readonly Budget[]
  readonly concurrencyMax?: number
}): Decision {
  return {
    rules: ['read-reporting'],
    obligations: { rates: [], budgets: [], columns: [], detect: [], ...limits },
  } as unknown as Decision
}

function rate(max: number, windowMs = 60_000, per: RateLimit['per'] = ['principal', 'target'], id = 'r1'): RateLimit {
  return { id, max, windowMs, per }
}

function refusal(attempt: () => Reservation): SallyportError {
  try {
    attempt()
  } catch (error) {
    if (error instanceof SallyportError) return error
    throw error
  }
  throw new Error('the reservation was granted')
}

function grants(attempt: () => Reservation): boolean {
  try {
    attempt()
    return true
  } catch {
    return false
  }
}

describe('rates', () => {
  it('admits as many calls as the limit says and names the limit when it refuses', () => {
    const limits = createLimits({ now: () => 0 })
    const judged = decision({ rates: [rate(2)] })
    limits.reserve(call(), judged)
    limits.reserve(call(), judged)
    const error = refusal(() => limits.reserve(call(), judged))
    expect(error.code).toBe('ERR_LIMIT_RATE')
    expect(error.facts).toEqual({ rules: ['r1'], limit: 'r1', retryAfterMs: 60_000 })
    expect(error.message).toBe(
      'Rate limit r1 allows 2 calls in 60 s for each principal and target, and they are used up. Try again in 60 s.',
    )
  })

  it('says when trying again works, and then it works', () => {
    let now = 1_000
    const limits = createLimits({ now: () => now })
    const judged = decision({ rates: [rate(2)] })
    limits.reserve(call(), judged)
    now += 10_000
    limits.reserve(call(), judged)
    now += 5_000
    const wait = refusal(() => limits.reserve(call(), judged)).facts.retryAfterMs ?? 0
    expect(wait).toBe(45_000)
    now += wait - 1
    expect(refusal(() => limits.reserve(call(), judged)).code).toBe('ERR_LIMIT_RATE')
    now += 1
    limits.reserve(call(), judged)
    expect(refusal(() => limits.reserve(call(), judged)).code).toBe('ERR_LIMIT_RATE')
  })

  it('never admits more than the maximum in any window, however calls are spaced', () => {
    const property = () =>
      fc.assert(
        fc.property(
          fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 1_500 }),
          fc.integer({ min: 1, max: 600 }),
          (gaps, max) => {
            let now = 0
            const limits = createLimits({ now: () => now })
            const admitted: number[] = []
            for (const gap of gaps) {
              now += gap
              if (grants(() => limits.reserve(call(), decision({ rates: [rate(max, 10_000)] })))) admitted.push(now)
            }
            return admitted.every((at, index) => (admitted[index + max] ?? Number.POSITIVE_INFINITY) - at >= 10_000)
          },
        ),
        { numRuns: 60 },
      )
    expect(property).not.toThrow()
  })

  it('counts principals, targets and sessions apart, and only as asked', () => {
    const limits = createLimits({ now: () => 0 })
    const perPrincipal = decision({ rates: [rate(1, 60_000, ['principal'])] })
    limits.reserve(call('a', 'x', 's1'), perPrincipal)
    limits.reserve(call('b', 'x', 's1'), perPrincipal)
    expect(refusal(() => limits.reserve(call('a', 'y', 's2'), perPrincipal)).code).toBe('ERR_LIMIT_RATE')
    const perSession = decision({ rates: [rate(1, 60_000, ['session'], 'r2')] })
    limits.reserve(call('a', 'x', 's1'), perSession)
    limits.reserve(call('a', 'x', 's2'), perSession)
    expect(refusal(() => limits.reserve(call('a', 'x', 's2'), perSession)).code).toBe('ERR_LIMIT_RATE')
  })

  it('is not confused by names that look like joined keys', () => {
    const limits = createLimits({ now: () => 0 })
    const judged = decision({ rates: [rate(1)] })
    expect(grants(() => limits.reserve(call('a","target","b', 'c'), judged))).toBe(true)
    expect(grants(() => limits.reserve(call('a', 'b","target","c'), judged))).toBe(true)
    expect(grants(() => limits.reserve(call('a', 'b'), judged))).toBe(true)
    const crossed = decision({ rates: [rate(1, 60_000, ['principal'], 'r3')] })
    const other = decision({ rates: [rate(1, 60_000, ['target'], 'r3')] })
    expect(grants(() => limits.reserve(call('same', 'x'), crossed))).toBe(true)
    expect(grants(() => limits.reserve(call('y', 'same'), other))).toBe(true)
  })

  it.each([
    ['a maximum of 0', rate(0)],
    ['a maximum that is no number', rate(Number.NaN)],
    ['a window of 0', rate(5, 0)],
    ['an endless window', rate(5, Number.POSITIVE_INFINITY)],
  ])('admits nothing under %s', (_what, limit) => {
    const error = refusal(() => createLimits({ now: () => 0 }).reserve(call(), decision({ rates: [limit] })))
    expect(error.code).toBe('ERR_LIMIT_RATE')
    expect(error.facts.retryAfterMs).toBeUndefined()
  })

  it('counts a limit that two rules bring once', () => {
    const limits = createLimits({ now: () => 0 })
    const judged = decision({ rates: [rate(2), rate(2)] })
    limits.reserve(call(), judged)
    limits.reserve(call(), judged)
    expect(refusal(() => limits.reserve(call(), judged)).code).toBe('ERR_LIMIT_RATE')
  })
})

describe('the clock', () => {
  it('set back, reopens no window', () => {
    let now = 1_000_000
    const limits = createLimits({ now: () => now })
    const judged = decision({ rates: [rate(1)] })
    limits.reserve(call(), judged)
    now = 0
    expect(refusal(() => limits.reserve(call(), judged)).code).toBe('ERR_LIMIT_RATE')
    now = 59_999
    expect(refusal(() => limits.reserve(call(), judged)).facts.retryAfterMs).toBe(1)
    now = 60_000
    limits.reserve(call(), judged)
  })

  it('jumping to and fro gains nothing', () => {
    let now = 0
    const limits = createLimits({ now: () => now })
    const judged = decision({ rates: [rate(1)] })
    limits.reserve(call(), judged)
    for (let step = 0; step < 100; step++) {
      now = step % 2 === 0 ? Number.NaN : -step * 1_000_000
      expect(refusal(() => limits.reserve(call(), judged)).code).toBe('ERR_LIMIT_RATE')
    }
  })
})

describe('concurrency', () => {
  it('frees a place when a call ends, once, however often it is ended', () => {
    const limits = createLimits({ now: () => 0 })
    const judged = decision({ concurrencyMax: 2 })
    const first = limits.reserve(call(), judged)
    limits.reserve(call(), judged)
    const error = refusal(() => limits.reserve(call(), judged))
    expect(error.code).toBe('ERR_LIMIT_CONCURRENCY')
    expect(error.message).toContain('read-reporting')
    expect(error.message).toContain('shop-db')
    first.release({ ran: true })
    first.release({ ran: true })
    limits.reserve(call(), judged)
    expect(refusal(() => limits.reserve(call(), judged)).code).toBe('ERR_LIMIT_CONCURRENCY')
    limits.reserve(call('agent-1', 'other-db'), judged)
    limits.reserve(call('agent-2'), judged)
  })

  it('counts calls that no limit held when they began', () => {
    const limits = createLimits({ now: () => 0 })
    limits.reserve(call(), decision({}))
    expect(refusal(() => limits.reserve(call(), decision({ concurrencyMax: 1 }))).code).toBe('ERR_LIMIT_CONCURRENCY')
  })
})

describe('a reservation', () => {
  it('takes all or nothing', () => {
    const limits = createLimits({ now: () => 0 })
    const budget: Budget = { ...rate(1, 3_600_000, ['principal'], 'budget:day'), onExceed: 'deny' }
    const wide = decision({ rates: [rate(3)], budgets: [budget], concurrencyMax: 9 })
    limits.reserve(call(), wide).release({ ran: true })
    for (let attempt = 0; attempt < 5; attempt++) {
      expect(refusal(() => limits.reserve(call(), wide)).code).toBe('ERR_LIMIT_BUDGET')
    }
    const narrow = decision({ rates: [rate(3)], concurrencyMax: 1 })
    limits.reserve(call(), narrow).release({ ran: true })
    limits.reserve(call(), narrow).release({ ran: true })
    expect(refusal(() => limits.reserve(call(), narrow)).code).toBe('ERR_LIMIT_RATE')
  })

  it('is given back when nothing ran, and kept when something did', () => {
    const limits = createLimits({ now: () => 0 })
    const budget: Budget = { ...rate(1, 3_600_000, ['principal'], 'budget:day'), onExceed: 'deny' }
    const judged = decision({ rates: [rate(1)], budgets: [budget] })
    for (let attempt = 0; attempt < 5; attempt++) {
      const reservation = limits.reserve(call(), judged)
      reservation.release({ ran: false })
      reservation.release({ ran: false })
    }
    limits.reserve(call(), judged).release({ ran: true })
    expect(refusal(() => limits.reserve(call(), judged)).code).toBe('ERR_LIMIT_RATE')
  })

  it('gives back budgets and keeps rates for what came to nothing at its target', () => {
    const limits = createLimits({ now: () => 0 })
    const budget: Budget = { ...rate(1, 3_600_000, ['principal'], 'budget:day'), onExceed: 'deny' }
    const judged = decision({ rates: [rate(2)], budgets: [budget] })
    limits.reserve(call(), judged).release({ ran: true, isInVain: true })
    limits.reserve(call(), judged).release({ ran: true, isInVain: true })
    expect(refusal(() => limits.reserve(call(), judged)).code).toBe('ERR_LIMIT_RATE')
    limits.reserve(call(), decision({ budgets: [budget] })).release({ ran: true })
    expect(refusal(() => limits.reserve(call(), decision({ budgets: [budget] }))).code).toBe('ERR_LIMIT_BUDGET')
  })

  it('gives back only its own event after its time is over', () => {
    let now = 0
    const limits = createLimits({ now: () => now })
    const judged = decision({ rates: [rate(1)] })
    const old = limits.reserve(call(), judged)
    now = 60_000
    limits.reserve(call(), judged)
    old.release({ ran: false })
    expect(refusal(() => limits.reserve(call(), judged)).code).toBe('ERR_LIMIT_RATE')
  })

  it('refuses a budget that would ask for an approval, because nobody was asked', () => {
    const limits = createLimits({ now: () => 0 })
    const budget: Budget = { ...rate(0, 3_600_000, ['principal'], 'budget:day'), onExceed: 'require_approval' }
    expect(refusal(() => limits.reserve(call(), decision({ budgets: [budget] }))).code).toBe('ERR_LIMIT_BUDGET')
  })
})

describe('memory', () => {
  it('refuses a caller that opens sessions without end, and no other', () => {
    let now = 0
    const limits = createLimits({ now: () => now })
    const judged = decision({ rates: [rate(5, 60_000, ['session'])] })
    for (let index = 0; index < WINDOWS_PER_OWNER_MAX; index++) limits.reserve(call('evil', 'x', `s${index}`), judged)
    const error = refusal(() => limits.reserve(call('evil', 'x', 'one-more'), judged))
    expect(error.code).toBe('ERR_LIMIT_RATE')
    expect(error.message).toContain('cannot be counted')
    limits.reserve(call('good', 'x', 'g'), judged)
    now = 60_000
    limits.reserve(call('evil', 'x', 'one-more'), judged)
  })

  it('counts every window of a call that made room for its last one', () => {
    let now = 0
    const limits = createLimits({ now: () => now })
    const fill = decision({ rates: [rate(5, 60_000, ['session'])] })
    for (let index = 0; index < WINDOWS_PER_OWNER_MAX - 1; index++) limits.reserve(call('p', 'x', `s${index}`), fill)
    now = 60_000
    const both = decision({ rates: [rate(1, 60_000, ['session'], 'a'), rate(1, 60_000, ['session'], 'b')] })
    limits.reserve(call('p', 'x', 'new'), both)
    const onlyFirst = decision({ rates: [rate(1, 60_000, ['session'], 'a')] })
    expect(refusal(() => limits.reserve(call('p', 'x', 'new'), onlyFirst)).code).toBe('ERR_LIMIT_RATE')
  })

  it('counts from above when events are many, also when some are taken back', () => {
    const window = new SlidingWindow(1_000_000)
    const undo = Array.from({ length: 5_000 }, (_, at) => window.add(at))
    expect(window.count(5_000)).toBe(5_000)
    for (const take of undo.slice(0, 1_000)) take()
    expect(window.count(5_000)).toBe(4_000)
    expect(window.count(1_000_000 + 2_500)).toBeGreaterThanOrEqual(2_499)
    expect(window.count(1_000_000 + 5_000)).toBe(0)
  })
})
