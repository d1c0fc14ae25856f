import { describe, expect, it } from 'vitest'
import type { FieldMask } from '../../src/core/decision.ts'
import { bytes, exit, joined, looking, masking } from '../masking/support.ts'

const FIELDS: readonly FieldMask[] = [{ path: '**.ssn', transform: 'redact' }]
/** Whoever reads the first of two equal keys finds the value; whoever reads the last finds none to mask. */
const HIDDEN = '{"b":{"ssn":"777-11"},"b":{}}'

describe('C10: a masked value behind the first of two equal keys', () => {
  for (const [depth, text] of [
    ['a text', JSON.stringify({ echo: HIDDEN })],
    ['a text in a text', JSON.stringify({ echo: JSON.stringify({ inner: HIDDEN }) })],
    ['a text in a list in a text', JSON.stringify({ echo: JSON.stringify([[HIDDEN]]) })],
  ] as const) {
    const decision = looking()
    const strict = { ...decision, obligations: { ...decision.obligations, fields: FIELDS } }

    it(`is gone from an answer when they stand in ${depth}`, async () => {
      const source = (async function* () {
        yield { kind: 'head', attributes: { ':status': '200', 'content-type': 'application/json' } } as const
        yield bytes('body', text)
        yield exit
      })()
      const shown = []
      for await (const chunk of masking.stream(source, strict)) shown.push(chunk)
      const said = joined(shown, 'body').toString()
      expect(said).toContain('echo')
      expect(said).not.toContain('777-11')
    })

    it(`is gone from the recorded request when they stand in ${depth}`, () => {
      const shown = masking.fields({ text, data: [{ start: 0, end: text.length, form: 'json' }] }, strict)
      expect(shown.text).not.toContain('777-11')
    })
  }
})
