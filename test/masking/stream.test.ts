import { Buffer } from 'node:buffer'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Chunk } from '../../src/core/chunk.ts'
import type { Transform } from '../../src/core/decision.ts'
import { CUSTOM_CHARS_MAX } from '../../src/masking/stream.ts'
import { HOLD, WINDOW } from '../../src/masking/text.ts'
import { ByteText, encode } from '../../src/masking/utf8.ts'
import { bytes, exit, from, joined, looking, lookingForAll, masked, masking, rows } from './support.ts'

const CARD = '4111111111111111'
const KEY = `-----BEGIN RSA PRIVATE KEY-----\n${'MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7MaGrUlXy\n'.repeat(12)}ab==\n-----END RSA PRIVATE KEY-----`
const PIECES = [
  'jane@example.com',
  CARD,
  '4111 1111 1111 1111',
  '123-45-6789',
  '+49 30 1234567',
  'DE89 3704 0044 0532 0130 00',
  '10.1.2.3',
  '2001:db8::1',
  'AKIAIOSFODNN7EXAMPLE',
  'password=hunter2',
  '"token": "abcd1234efgh5678"',
  'postgres://app:s3cret@db/shop',
  'Authorization: Bearer abcdef1234567890',
  'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc',
  KEY,
  '-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA0Z3VS5JJcds3\n',
  '-----END RSA PRIVATE KEY-----',
  '４１１１１１１１１１１１１１１１',
  '41\u200b11111111111111',
  '\u001b[31m41111111\u001b[m11111111',
  'jane\\u0040example.com',
  'jane%40example.com',
  '[REDACTED:email]',
  '[REDACTED:',
  'é日本😀',
  ' ',
  '\n',
  '\r\n',
  ', ',
  '-',
  'x',
  '1',
  '=',
  '"',
  '\\',
  'some words of prose',
]
const text = fc.array(fc.constantFrom(...PIECES), { maxLength: 24 }).map((pieces) => pieces.join(''))
const transform = fc.constantFrom<Transform>('redact', 'partial', 'hash', 'null')

/** Cuts data at the given places. */
function cut(data: Uint8Array, cuts: readonly number[]): readonly Uint8Array[] {
  const places = [...new Set(cuts.map((place) => place % (data.length + 1)))].sort((a, b) => a - b)
  return [0, ...places].map((place, index) => data.subarray(place, places[index] ?? data.length))
}

async function shownOf(pieces: readonly Uint8Array[], how: Transform): Promise<string> {
  const chunks = await masked([...pieces.map((piece) => bytes('stdout', piece)), exit], lookingForAll(how))
  return joined(chunks, 'stdout').toString('latin1')
}

describe('a stream of bytes', () => {
  it('C10: shows the same however it is cut into chunks', async () => {
    const property = fc.asyncProperty(
      text,
      transform,
      fc.array(fc.nat(5_000), { maxLength: 40 }),
      async (whole, how, cuts) => {
        const data = Buffer.from(whole)
        const expected = Buffer.from(masking.text(whole, lookingForAll(how))).toString('latin1')
        expect(await shownOf(cut(data, cuts), how)).toBe(expected)
        expect(
          await shownOf(
            Array.from(data, (byte) => Uint8Array.of(byte)),
            how,
          ),
        ).toBe(expected)
      },
    )
    await expect(fc.assert(property, { numRuns: 150 })).resolves.toBeUndefined()
  })

  it('C10: shows the same however a line longer than a window is cut', async () => {
    const property = fc.asyncProperty(
      fc.integer({ min: 0, max: 300 }),
      fc.constantFrom(...PIECES.filter((piece) => !piece.includes('\n'))),
      fc.array(fc.nat(200_000), { maxLength: 12 }),
      async (shift, piece, cuts) => {
        const filler = 'lorem ipsum '.repeat(Math.ceil(WINDOW / 12))
        const edge = WINDOW - HOLD - shift
        const line = `${filler.slice(0, edge)} ${piece} ${filler.slice(0, WINDOW - shift)} ${piece} ${filler}`
        const expected = Buffer.from(masking.text(line, lookingForAll())).toString('latin1')
        expect(await shownOf(cut(Buffer.from(line), cuts), 'redact')).toBe(expected)
      },
    )
    await expect(fc.assert(property, { numRuns: 25 })).resolves.toBeUndefined()
  })

  it.each([-40, -20, -17, -16, -8, -1, 0, 1, 15, 16, 17])(
    'C10: hides a value at the edge of a window (%i)',
    (shift) => {
      for (const edge of [WINDOW - HOLD, WINDOW, 2 * (WINDOW - HOLD)]) {
        const line = `${'- '.repeat(edge).slice(0, edge + shift)} ${CARD} ${'- '.repeat(WINDOW)}`
        const shown = masking.text(line, lookingForAll())
        expect(shown).not.toContain('4111')
        expect(shown).toBe(line.replace(CARD, '[REDACTED:credit_card]'))
      }
    },
  )

  it('C10: withholds the rest of a line that one value fills', async () => {
    const chunks = await masked(
      [bytes('stdout', `password=${'p'.repeat(3 * WINDOW)} tail\nnext`), exit],
      lookingForAll(),
    )
    expect(joined(chunks, 'stdout').toString()).toBe('password=[REDACTED:password_assignment]\nnext')
  })

  it('passes bytes that are no UTF-8 unharmed, and still finds what is readable', async () => {
    const data = Buffer.concat([
      Buffer.from([0xff, 0xfe, 0x00, 0xc3, 0x28, 0xed, 0xa0, 0x80, 0xf0, 0x9f, 0x0a, 0xe2, 0x82]),
      Buffer.from(` ${CARD} `),
      Buffer.from([0x80, 0xc0, 0xaf, 0xf5, 0xe2]),
    ])
    const shown = Buffer.from(await shownOf([data], 'redact'), 'latin1')
    expect(shown).toEqual(Buffer.from(data.toString('latin1').replace(CARD, '[REDACTED:credit_card]'), 'latin1'))
  })

  it('decodes and encodes any bytes, in any pieces, to themselves', () => {
    const property = fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat(200)), (data, cuts) => {
      const decoder = new ByteText()
      const whole =
        cut(data, cuts)
          .map((piece) => decoder.decode(piece))
          .join('') + decoder.end()
      expect(Buffer.from(encode(whole))).toEqual(Buffer.from(data))
      const once = new ByteText()
      expect(once.decode(data) + once.end()).toBe(whole)
    })
    expect(() => fc.assert(property, { numRuns: 500 })).not.toThrow()
  })

  it('C10: keeps channels apart', async () => {
    const chunks = await masked(
      [
        bytes('stdout', '4111111'),
        bytes('stderr', 'jane@'),
        bytes('stdout', '111111111\n'),
        bytes('stderr', 'b.io'),
        exit,
      ],
      lookingForAll(),
    )
    expect(joined(chunks, 'stdout').toString()).toBe('[REDACTED:credit_card]\n')
    expect(joined(chunks, 'stderr').toString()).toBe('[REDACTED:email]')
    expect(chunks.at(-1)).toMatchObject({ kind: 'exit', masked: { credit_card: 1, email: 1 } })
  })

  it('leaves wire bytes to their protocol', async () => {
    const chunk = bytes('wire', `\0\0${CARD}`)
    expect(await masked([chunk], lookingForAll())).toEqual([chunk])
  })

  it('shows the prompt of a terminal while nothing more comes, and still hides a value that goes on', async () => {
    let release: () => void = () => undefined
    const typed = new Promise<void>((resolve) => (release = resolve))
    async function* terminal(): AsyncGenerator<Chunk> {
      yield bytes('pty', 'card? 4111 1111')
      await typed
      yield bytes('pty', ' 1111 1111 ok\n')
    }
    const shown: string[] = []
    for await (const chunk of masking.stream(terminal(), lookingForAll())) {
      shown.push(joined([chunk], 'pty').toString())
      release()
    }
    expect(shown).toEqual(['card? 4111 1111', '[REDACTED:credit_card] ok\n'])
  })

  it('does not wait for a silent terminal when its reader leaves', async () => {
    async function* terminal(): AsyncGenerator<Chunk> {
      yield bytes('pty', '$ ')
      await new Promise(() => undefined)
    }
    const shown: string[] = []
    for await (const chunk of masking.stream(terminal(), lookingForAll())) {
      shown.push(joined([chunk], 'pty').toString())
      break
    }
    expect(shown).toEqual(['$ '])
  })

  it('closes its source when its reader leaves', async () => {
    let isClosed = false
    async function* source(): AsyncGenerator<Chunk> {
      try {
        yield bytes('stdout', 'a\n')
        yield bytes('stdout', 'b\n')
      } finally {
        isClosed = true
      }
    }
    for await (const chunk of masking.stream(source(), lookingForAll())) {
      expect(chunk.kind).toBe('data')
      break
    }
    expect(isClosed).toBe(true)
  })

  it('passes on what its source throws', async () => {
    async function* source(): AsyncGenerator<Chunk> {
      yield bytes('stdout', 'a\n')
      throw new Error('lost')
    }
    const read = async (): Promise<void> => {
      for await (const chunk of masking.stream(source(), lookingForAll())) expect(chunk.kind).toBe('data')
    }
    await expect(read()).rejects.toThrow('lost')
  })
})

describe('a stream without detectors', () => {
  it('is the source itself', () => {
    const source = from([exit])
    expect(masking.stream(source, looking())).toBe(source)
  })
})

describe('chunks in which nothing is found', () => {
  it('pass as they are', async () => {
    const chunks = [rows(['1', null, 'abc'], ['2', 'Zürich', '']), bytes('stdout', 'a line\n'), exit]
    const shown = await masked(chunks, lookingForAll())
    expect(shown[0]).toBe(chunks[0])
    expect(shown[1]).toBe(chunks[1])
    expect(shown[2]).toEqual(exit)
  })
})

describe('rows', () => {
  const head: Chunk = {
    kind: 'head',
    columns: [
      { name: 'note', type: 'text' },
      { name: 'card', type: 'bigint' },
      { name: 'doc', type: 'jsonb' },
    ],
  }

  it('C10: are masked cell by cell, and what cannot hold a placeholder becomes NULL', async () => {
    const [, data, end] = await masked(
      [head, rows(['mail jane@b.io', CARD, `{"card": ${CARD}, "m": "a@b.io"}`], ['x', '17', '{"a": 1}']), exit],
      lookingForAll(),
    )
    expect(data).toEqual(
      rows(
        ['mail [REDACTED:email]', null, '{"card": "[REDACTED:credit_card]", "m": "[REDACTED:email]"}'],
        ['x', '17', '{"a": 1}'],
      ),
    )
    expect(end).toEqual({ ...exit, masked: { email: 2, credit_card: 2 } })
  })

  it.each<readonly [Transform, string, string]>([
    ['redact', `{"n":${CARD}}`, '{"n":"[REDACTED:credit_card]"}'],
    ['partial', `[1, ${CARD} ,2]`, '[1, "••••••••••••1111" ,2]'],
    ['null', `{"n":${CARD},"m":[${CARD}]}`, '{"n":null,"m":[null]}'],
    ['redact', CARD, '"[REDACTED:credit_card]"'],
    ['redact', `{"a\\u0040b.io": 1}`, '{"[REDACTED:email]": 1}'],
    // What cannot be told apart is hidden whole.
    ['redact', `{"m": "password=\\\\"x", "n": 1}`.replace('\\\\', '\\'), '"[REDACTED:password_assignment]"'],
  ])('JSON stays JSON under %s: %s', async (how, cell, expected) => {
    const [, data] = await masked([head, rows(['', null, cell])], lookingForAll(how))
    expect(data).toEqual(rows(['', null, expected]))
    expect(() => void JSON.parse(expected)).not.toThrow()
  })

  it('null turns a cell that is nothing but the value into NULL', async () => {
    const [data] = await masked([rows(['jane@b.io', ' jane@b.io ', 'x jane@b.io'])], lookingForAll('null'))
    expect(data).toEqual(rows([null, null, 'x ']))
  })

  it('do not join cells: neighbours make no value', async () => {
    const chunk = rows(['41111111', '11111111'], ['password=', 'x'], ['jane@', 'example.com'])
    expect(await masked([chunk], lookingForAll())).toEqual([chunk])
  })

  it('C10: hold nothing that a look at each cell alone would find', async () => {
    const cell = fc.option(text, { nil: null })
    const property = fc.asyncProperty(
      fc.array(fc.array(cell, { maxLength: 4 }), { maxLength: 5 }),
      transform,
      async (cells, how) => {
        const [data] = await masked([{ kind: 'data', channel: 'rows', rows: cells }], lookingForAll(how))
        const expected = cells.map((row) =>
          row.map((value) => {
            if (value === null) return null
            const shown = masking.text(value, lookingForAll(how))
            return shown !== value && shown.trim() === '' ? null : shown
          }),
        )
        expect(data).toEqual({ kind: 'data', channel: 'rows', rows: expected })
      },
    )
    await expect(fc.assert(property, { numRuns: 150 })).resolves.toBeUndefined()
  })
})

describe('the rest of a result', () => {
  it('C10: notices, column names, header values and the status are masked', async () => {
    const shown = await masked(
      [
        { kind: 'head', columns: [{ name: '123-45-6789', type: 'text' }], attributes: { authorization: 'Bearer abc' } },
        { kind: 'notice', severity: 'NOTICE', text: 'hello jane@b.io' },
        { ...exit, status: 'no such user jane@b.io', masked: { email: 5 } },
      ],
      lookingForAll(),
    )
    expect(shown).toEqual([
      {
        kind: 'head',
        columns: [{ name: '[REDACTED:us_ssn]', type: 'text' }],
        attributes: { authorization: 'Bearer [REDACTED:bearer]' },
      },
      { kind: 'notice', severity: 'NOTICE', text: 'hello [REDACTED:email]' },
      { ...exit, status: 'no such user [REDACTED:email]', masked: { us_ssn: 1, bearer: 1, email: 7 } },
    ])
  })

  it('ends channels before the end of the result', async () => {
    const shown = await masked([bytes('body', 'no newline'), exit], lookingForAll())
    expect(shown).toEqual([{ kind: 'data', channel: 'body', bytes: Buffer.from('no newline') }, exit])
  })
})

describe("operators' patterns", () => {
  const employee = looking({ detector: 'custom:employee', pattern: 'EMP-\\d{6}', transform: 'redact' })

  it('are found on every channel and in disguise', async () => {
    const shown = await masked(
      [rows(['EMP-123456', 'EMP-１２３456']), bytes('stdout', 'EMP-12'), bytes('stdout', '3456!'), exit],
      employee,
    )
    expect(shown[0]).toEqual(rows(['[REDACTED:custom:employee]', '[REDACTED:custom:employee]']))
    expect(joined(shown, 'stdout').toString()).toBe('[REDACTED:custom:employee]!')
    expect(shown.at(-1)).toMatchObject({ masked: { 'custom:employee': 3 } })
  })

  it('anchor to lines', () => {
    const decision = looking({ detector: 'custom:line', pattern: '^x.*$', transform: 'redact' })
    expect(masking.text('xa\nb x\nxc', decision)).toBe('[REDACTED:custom:line]\nb x\n[REDACTED:custom:line]')
  })

  it('past their budget, the rest is withheld and said to be', async () => {
    const line = `${'y'.repeat(1023)}\n`
    const big = Buffer.from(line.repeat(CUSTOM_CHARS_MAX / 1024 + 64))
    const shown = await masked(
      [bytes('stdout', big), bytes('stdout', 'EMP-123456\n'), rows(['EMP-123456']), exit],
      employee,
    )
    expect(joined(shown, 'stdout').length).toBe(CUSTOM_CHARS_MAX)
    expect(shown.filter((chunk) => chunk.kind === 'notice')).toHaveLength(1)
    expect(shown.some((chunk) => chunk.kind === 'data' && chunk.channel === 'rows')).toBe(false)
    expect(shown.at(-1)).toMatchObject({ kind: 'exit', truncated: true, truncatedBy: 'bytes' })
  })
})
