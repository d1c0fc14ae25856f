import { describe, expect, it } from 'vitest'
import { innermost, readIdleLimit } from '../../src/protocols/postgres/wire/open-transaction.ts'

const EPOCH = 2n ** 32n

describe('the number of the innermost subtransaction', () => {
  it.each([
    ['the transaction itself, when nothing else wrote', 700n, [700n], 700n],
    ['the last one that began', 700n, [702n, 700n, 701n], 702n],
    ['with the epoch of the transaction', 5n * EPOCH + 10n, [10n, 12n], 5n * EPOCH + 12n],
    ['over the end of the 32 bits', EPOCH - 2n, [EPOCH - 2n, EPOCH - 1n, 5n], EPOCH + 5n],
    ['the transaction, when no lock was listed', 9n, undefined, 9n],
  ])('is %s', (_, top, open, expected) => {
    const said = JSON.stringify({ top: String(top), open: open?.map(String) ?? null })
    expect(innermost(said)).toBe(String(expected))
  })

  it('is unknown when the server said nothing', () => {
    expect(innermost('')).toBeUndefined()
  })
})

describe('how long the server leaves a transaction idle', () => {
  it.each([
    ['no limit', { idle: '0', whole: null, since: 3 }, Number.POSITIVE_INFINITY],
    ['the idle limit', { idle: '30000', whole: '0', since: 3 }, 30_000],
    ['what is left of the limit of a transaction', { idle: '30000', whole: '20000', since: 15 }, 5_000],
  ])('is %s', (_, said, expected) => {
    expect(readIdleLimit(JSON.stringify(said))).toBe(expected)
  })

  it('is no time at all when it was not said', () => {
    expect([readIdleLimit(''), readIdleLimit('{"idle":"0"}')]).toEqual([0, 0])
  })
})
