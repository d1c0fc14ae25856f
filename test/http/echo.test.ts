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

  it.each([
    ['as it is', `k'"<&>/(é)+=`],
    ['in JSON', `k'\\"<&>/(é)+=`],
    ['in JSON of PHP', `k'\\"<&>\\/(é)+=`],
    ['in JSON of Go', `k'\\"\\u003c\\u0026\\u003e/(é)+=`],
    ['in JSON of Python', `k'\\"<&>/(\\u00e9)+=`],
    [
      'in JavaScript, escaped throughout',
      String.raw`\u006b\u0027\u0022\u003c\u0026\u003e\u002f\u0028\u00e9\u0029\u002b\u003d`,
    ],
    ['in HTML', `k'&quot;&lt;&amp;&gt;/(é)+=`],
    ['in HTML of PHP', `k&#39;&quot;&lt;&amp;&gt;/(é)+=`],
    ['in HTML of Python', `k&#x27;&quot;&lt;&amp;&gt;/(é)+=`],
    ['in XML', `k&apos;&quot;&lt;&amp;&gt;/(é)+=`],
    ['in HTML of Go', `k&#39;&#34;&lt;&amp;&gt;/(é)+=`],
    ['in HTML, by number', `k&#39;&#34;&#60;&#38;&#62;/(é)+=`],
    ['in a URL', `k'%22%3C%26%3E%2F(%C3%A9)%2B%3D`],
    ['in a URL of Python', `k'%22%3C%26%3E/(%C3%A9)%2B%3D`],
    ['in a URL as RFC 3986 has it', `k%27%22%3C%26%3E%2F%28%C3%A9%29%2B%3D`],
    ['in a form', `k%27%22%3C%26%3E%2F%28%C3%A9%29%2B%3D`],
    ['in a URL, escaped throughout', `%6b%27%22%3c%26%3e%2f%28%c3%a9%29%2b%3d`],
    ['backwards', `=+)é(/>&<"'k`],
    ['in hexadecimal', Buffer.from(`k'"<&>/(é)+=`).toString('hex')],
  ])('is replaced %s', (_, form) => {
    const shown = createEchoFilter([`k'"<&>/(é)+=`])
      ?.whole(Buffer.from(`(${form})`))
      .toString()
    expect(shown).toBe(`(${ECHO_PLACEHOLDER})`)
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
