import { type Detector, digitsOf, eachMatch, HIDDEN } from './detector.ts'

/**
 * United States social security numbers. Area 000, 666 and 900–999, group 00 and serial 0000 were never assigned
 * (SSA, POMS RM 10201.035). Nine digits without separators are a number like any other, so they count only after a
 * word that says what they are.
 */
export const usSsn: Detector = {
  kind: 'us_ssn',
  summary: 'US social security numbers in assigned areas, with separators or after a word such as `ssn`.',
  trigger: (text) => /\d{3}[- .]?\d{2}[- .]?\d{4}/.test(text),
  find(text, report) {
    separated(text, report)
    named(text, report)
  },
  canonical: digitsOf,
  partial: (value) => `${HIDDEN.repeat(3)}-${HIDDEN.repeat(2)}-${digitsOf(value).slice(-4)}`,
}

const separated = eachMatch(/(?<!\d|\d[-.])(?!000|666|9)\d{3}([- .])(?!00)\d{2}\1(?!0000)\d{4}(?!\d|[-.]\d)/g)

const named = eachMatch(/(?<!\d)(?!000|666|9)\d{3}(?!00)\d{2}(?!0000)\d{4}(?!\d)/g, (_value, text, start) =>
  /(?:ssn|soc(?:ial)?.?sec(?:urity)?)(?:.?(?:number|no|nr|num))?["' \t:=#.-]{0,8}(?:is )?["']?$/i.test(
    text.slice(Math.max(0, start - 48), start),
  ),
)
