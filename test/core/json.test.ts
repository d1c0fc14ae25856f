import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseJson, writeJson } from '../../src/core/json.ts'

describe('JSON', () => {
  it('is accepted and refused as JSON.parse does', () => {
    const piece = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      '"',
      ':',
      ',',
      '1',
      '-',
      '.',
      'e',
      '0',
      'true',
      'null',
      ' ',
      '\n',
      '\\',
      'u0041',
      'a',
      '\u0001',
      '\ufeff',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join('')
        let ours: unknown
        let theirs: unknown
        try {
          theirs = JSON.stringify(JSON.parse(text))
        } catch {
          theirs = undefined
        }
        const parsed = parseJson(text)
        ours = parsed === undefined ? undefined : JSON.stringify(JSON.parse(writeJson(parsed.value)))
        expect(ours).toBe(theirs)
      }),
      { numRuns: 20_000 },
    )
  })

  it('is written as it was read, digits and all', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        const parsed = parseJson(text)
        expect(parsed === undefined ? undefined : JSON.parse(writeJson(parsed.value))).toEqual(JSON.parse(text))
      }),
    )
  })

  it('is written as JSON.stringify does, whatever the characters', () => {
    const odd = fc.constantFrom(0, 0x1f, 0x20, 0x22, 0x5c, 0x7f, 0xd7ff, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0xe000, 0xffff)
    const codes = fc.array(fc.oneof(odd, fc.nat(0xffff)), { maxLength: 70 })
    fc.assert(
      fc.property(codes, (units) => {
        const text = String.fromCharCode(...units)
        const written = JSON.stringify({ [`k${text}`]: [text, null, true] })
        expect(writeJson(new Map([[`k${text}`, [text, null, true]]]))).toBe(written)
        expect(writeJson(parseJson(written)?.value ?? null)).toBe(written)
      }),
      { numRuns: 2_000 },
    )
  })

  it('says when a key stands twice, however it is written', () => {
    expect(parseJson('{"a":1,"\\u0061":2}')?.hasDuplicates).toBe(true)
    expect(parseJson('{"a":{"a":1},"b":[{"a":1},{"a":1}]}')?.hasDuplicates).toBe(false)
  })

  it('holds a text of many megabytes', () => {
    const text = JSON.stringify({ a: 'x'.repeat(20_000_000), b: '\\"'.repeat(1_000_000) })
    const parsed = parseJson(text)
    expect(parsed === undefined ? undefined : writeJson(parsed.value)).toBe(text)
  })

  it('is not followed without end', () => {
    expect(parseJson('['.repeat(100_000))).toBeUndefined()
    expect(parseJson(`${'['.repeat(201)}${']'.repeat(201)}`)).toBeUndefined()
    expect(parseJson(`${'['.repeat(200)}${']'.repeat(200)}`)).toBeDefined()
  })
})
