import { describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { Slots } from '../../src/protocols/http/listener-slots.ts'

/** What is said to a caller that has too many. */
function refusal(slots: Slots, principal: string): SallyportError | undefined {
  try {
    slots.take(principal)
    return undefined
  } catch (error) {
    return SallyportError.from(error)
  }
}

describe('the requests one caller has at the door', () => {
  it('are 256 at once, whoever else comes', () => {
    const slots = new Slots()
    const given = Array.from({ length: 256 }, () => slots.take('loop'))
    expect(refusal(slots, 'loop')).toMatchObject({
      code: 'ERR_LIMIT_CONCURRENCY',
      facts: { retryAfterMs: 1_000, noEffect: true },
    })
    expect(refusal(slots, 'other')).toBeUndefined()
    given[0]?.()
    expect(refusal(slots, 'loop')).toBeUndefined()
    expect(refusal(slots, 'loop')?.code).toBe('ERR_LIMIT_CONCURRENCY')
  })

  it('make room once each, however often their end is told', () => {
    const slots = new Slots(2)
    const [first] = [slots.take('loop'), slots.take('loop')]
    first()
    first()
    expect(refusal(slots, 'loop')).toBeUndefined()
    expect(refusal(slots, 'loop')?.code).toBe('ERR_LIMIT_CONCURRENCY')
  })
})
