/** The injected secret in what a service answers, in every form and however the bytes are cut. */
import * as fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { createEchoFilter, ECHO_PLACEHOLDER, EchoFilters } from '../../src/protocols/http/echo.ts'

const secret = fc.string({ minLength: 6, maxLength: 40, unit: 'grapheme-ascii' })

function formsOf(text: string): readonly string[] {
  const bytes = Buffer.from(text)
  return [
    text,
    text.toUpperCase(),
    bytes.toString('base64'),
    bytes.toString('base64url'),
    bytes.toString('hex'),
    encodeURIComponent(text),
    JSON.stringify(text).slice(1, -1),
    new URLSearchParams([['', text]]).toString().slice(1),
  ]
}

/** Masks a text that arrives cut at `cuts`. */
function throughStream(
  filter: NonNullable<ReturnType<typeof createEchoFilter>>,
  text: string,
  cuts: readonly number[],
) {
  const stream = filter.stream()
  const bytes = Buffer.from(text)
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  const shown = places.slice(1).map((end, at) => stream.push(bytes.subarray(places[at], end)))
  return Buffer.concat([...shown, stream.end()]).toString()
}

describe('a secret in an answer', () => {
  it('is replaced in each of its forms, wherever the bytes are cut', () => {
    fc.assert(
      fc.property(secret, fc.nat(7), fc.string(), fc.string(), fc.array(fc.nat(), { maxLength: 8 }), (...given) => {
        const [one, which, before, after, cuts] = given
        const form = formsOf(one)[which] ?? one
        // What stands around it must not by itself make or break a form.
        fc.pre(!/[A-Za-z0-9+/_-]/u.test(before.slice(-1) + after.slice(0, 1)))
        const filter = createEchoFilter([one])
        if (filter === undefined) throw new Error('no filter')
        const shown = throughStream(filter, `${before}${form}${after}`, cuts)
        expect(shown).toContain(ECHO_PLACEHOLDER)
        expect(shown).toBe(filter.whole(Buffer.from(`${before}${form}${after}`)).toString())
      }),
      { numRuns: 2000 },
    )
  })

  it('changes nothing where it does not stand, and holds back nothing at the end', () => {
    fc.assert(
      fc.property(
        secret,
        fc.uint8Array({ maxLength: 300 }),
        fc.array(fc.nat(), { maxLength: 8 }),
        (one, given, cuts) => {
          const bytes = Buffer.from(given)
          const filter = createEchoFilter([one])
          fc.pre(filter !== undefined && !filter.whole(bytes).includes(ECHO_PLACEHOLDER))
          if (filter === undefined) return
          const stream = filter.stream()
          const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
          const shown = places.slice(1).map((end, at) => stream.push(bytes.subarray(places[at], end)))
          expect(Buffer.concat([...shown, stream.end()])).toEqual(bytes)
          expect(filter.whole(bytes)).toBe(bytes)
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('is replaced each time, also where two stand in one another’s way', () => {
    const filter = createEchoFilter(['abcabcab'])
    expect(filter?.whole(Buffer.from('abcabcabcab abcabcabABCABCAB')).toString()).toBe(
      `${ECHO_PLACEHOLDER}cab ${ECHO_PLACEHOLDER}${ECHO_PLACEHOLDER}`,
    )
    expect(filter?.whole(Buffer.from('abcabcaabcabcab')).toString()).toBe(`abcabca${ECHO_PLACEHOLDER}`)
  })

  it('passes on what cannot become one at once', () => {
    const stream = createEchoFilter(['s3cr3t-value'])?.stream()
    expect(stream?.push(Buffer.from('data: s3cr3')).toString()).toBe('data: ')
    expect(stream?.push(Buffer.from('t-other\n')).toString()).toBe('s3cr3t-other\n')
  })

  it('is forgotten when nobody uses it any more', () => {
    vi.useFakeTimers()
    try {
      const filters = new EchoFilters()
      const first = filters.of(['s3cr3t-value'])
      expect(filters.of(['s3cr3t-value'])).toBe(first)
      expect(filters.of(['another-value'])).not.toBe(first)
      const again = filters.of(['another-value'])
      vi.advanceTimersByTime(3000)
      expect(filters.of(['another-value'])).not.toBe(again)
      filters.close()
      expect(filters.of([])).toBeUndefined()
    } finally {
      vi.useRealTimers()
    }
  })
})
