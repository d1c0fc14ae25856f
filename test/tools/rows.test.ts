import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Cell, Chunk, Column } from '../../src/core/chunk.ts'
import { answerRows, valueOf } from '../../tools/rows.ts'

const FENCE = '--- data test ---'

async function* chunksOf(...chunks: Chunk[]): AsyncGenerator<Chunk, void, undefined> {
  yield* chunks
}

function result(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  exit: object = {},
): AsyncIterable<Chunk> {
  return chunksOf(
    { kind: 'head', columns },
    { kind: 'data', channel: 'rows', rows },
    { kind: 'exit', status: `SELECT ${rows.length}`, rowCount: rows.length, truncated: false, ...exit },
  )
}

const answer = (chunks: AsyncIterable<Chunk>, bytesMax = 1_000_000) =>
  answerRows(chunks, { target: 'shop-db', bytesMax, fence: FENCE })

const text = (name: string): Column => ({ name, type: 'text' })

describe('a value', () => {
  it.each<readonly [string, Cell, unknown]>([
    ['integer', '42', 42],
    ['integer', '-2147483648', -2147483648],
    ['smallint', '7', 7],
    ['bigint', '42', '42'],
    ['bigint', '9007199254740993', '9007199254740993'],
    ['numeric(10,2)', '0.10', '0.10'],
    ['double precision', 'NaN', 'NaN'],
    ['boolean', 't', true],
    ['boolean', 'f', false],
    ['boolean', 'true', true],
    ['text', '42', '42'],
    ['text', 't', 't'],
    ['integer', null, null],
    ['integer', '***', '***'],
    ['integer[]', '{1,2}', '{1,2}'],
  ])('of type %s that reads %j is %j', (type, cell, value) => {
    expect(valueOf(cell, { name: 'c', type })).toBe(value)
  })

  it('stays text in a masked column: what was replaced is no number', () => {
    expect(valueOf('42', { name: 'c', type: 'integer', masked: 'hash' })).toBe('42')
  })
})

describe('an answer with rows', () => {
  it('says what was masked, in columns and in text', async () => {
    const { structured, text: words } = await answer(
      result([text('name'), { name: 'ssn', type: 'text', masked: 'redact' }], [['Ada', '***']], {
        masked: { email: 2, jwt: 0 },
      }),
    )
    expect(structured).toMatchObject({ masked: { columns: ['ssn'], detectors: { email: 2 } } })
    expect(words).toContain('Masked columns (values replaced): ssn.')
    expect(words).toContain('Masked in text: 2 × email.')
    expect(words).not.toContain('jwt')
  })

  it('says clearly that rows were cut, and by what', async () => {
    const cut = await answer(result([text('a')], [['1'], ['2']], { truncated: true, truncatedBy: 'rows' }))
    expect(cut.structured).toMatchObject({ truncated: true, truncated_by: 'rows', row_count: 2 })
    expect(cut.text).toContain('truncated at 2 rows: there are more')
    const whole = await answer(result([text('a')], [['1']]))
    expect(whole.structured).toMatchObject({ truncated: false })
    expect(whole.structured).not.toHaveProperty('truncated_by')
    expect(whole.text).not.toContain('truncated')
  })

  it('holds no more than its bound, says so, and lets the call come to its end', async () => {
    async function* many(): AsyncGenerator<Chunk, void, undefined> {
      yield { kind: 'head', columns: [text('a')] }
      for (let i = 0; i < 100; i++) yield { kind: 'data', channel: 'rows', rows: [['x'.repeat(1000)]] }
      yield { kind: 'exit', status: 'UPDATE 100', truncated: false }
    }
    const { structured, text: words } = await answer(many(), 10_500)
    expect(structured).toMatchObject({
      truncated: true,
      truncated_by: 'bytes',
      row_count: 10,
      // A write that was stopped half-way is undone: its end has to be waited for.
      command: 'UPDATE 100',
    })
    expect(words).toContain('truncated at 10 rows because the result is too large')
  })

  it('tells what a statement without rows did', async () => {
    const done = await answer(chunksOf({ kind: 'exit', status: 'UPDATE 3', rowCount: 3, truncated: false }))
    expect(done.structured).toMatchObject({ status: 'ok', command: 'UPDATE 3', row_count: 3 })
    expect(done.structured).not.toHaveProperty('rows')
    expect(done.text).toBe('Done on shop-db: UPDATE 3.')
  })

  it('keeps empty results apart from no results', async () => {
    const { structured } = await answer(result([text('a')], []))
    expect(structured).toMatchObject({ columns: [{ name: 'a', type: 'text' }], rows: [], row_count: 0 })
  })

  it('bounds notices and says how many it left out', async () => {
    const notices: Chunk[] = Array.from({ length: 25 }, () => ({ kind: 'notice', severity: 'NOTICE', text: 'hello' }))
    const { structured } = await answer(chunksOf(...notices, { kind: 'exit', status: 'DO', truncated: false }))
    expect(structured['notices']).toHaveLength(21)
    expect((structured['notices'] as string[]).at(-1)).toBe('5 more notices were left out.')
  })

  it('tells NULL, nothing and the word NULL apart in its text', async () => {
    const { text: words } = await answer(result([text('a'), text('b'), text('c')], [[null, '', 'NULL']]))
    expect(words).toContain('NULL\t""\t"NULL"')
  })

  it('marks a stored result as such', async () => {
    const { structured, text: words } = await answer(result([text('a')], [['1']], { replayed: true }))
    expect(structured).toMatchObject({ replayed: true })
    expect(words).toContain('nothing ran again')
  })

  it('shows data that cannot step out of its place, whatever it is', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.option(fc.string({ unit: 'binary' })), { minLength: 2, maxLength: 2 }), { maxLength: 8 }),
        fc.string({ unit: 'binary' }),
        async (rows, name) => {
          const { text: words, structured } = await answer(result([text(name), text('b')], rows))
          const lines = words.split('\n')
          // Two fence lines, between them the header and one line for each row: data adds and removes none.
          const first = lines.indexOf(FENCE)
          expect(lines.lastIndexOf(FENCE) - first).toBe(rows.length + 2)
          for (const line of lines.slice(first + 1, -1)) expect(line.split('\t')).toHaveLength(2)
          expect(words).not.toMatch(/(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
          expect(structured['rows']).toEqual(rows)
        },
      ),
    )
  })
})
