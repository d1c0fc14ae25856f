import { type Detector, digitsOf, eachMatch, HIDDEN } from './detector.ts'

/**
 * Telephone numbers: international form with `+` (ITU-T E.164, 8 to 15 digits here), and North American numbers whose
 * area and exchange codes exist by pattern (NANPA: neither begins with 0 or 1) when written with separators. Ten bare
 * digits are taken for an ordinary number.
 */
export const phone: Detector = {
  kind: 'phone',
  summary: 'Telephone numbers in international form, and North American ones written with separators.',
  trigger: (text) => /\+ ?[(\d]|\d{3}\)?[-. ]{1,2}\d{3}[-. ]\d{4}/.test(text),
  find(text, report) {
    international(text, report)
    northAmerican(text, report)
  },
  canonical: digitsOf,
  partial: (value) => HIDDEN.repeat(6) + digitsOf(value).slice(-2),
}

const international = eachMatch(/(?<![\w+/=])\+[ ]?\(?[1-9](?:[ ().-]{0,2}\d){7,14}(?![\d])/g)

const northAmerican = eachMatch(
  /(?<![\d.+-]|\d[ ])(?:1[-. ])?(?:\([2-9]\d{2}\)[-. ]{0,2}|[2-9]\d{2}[-. ])[2-9]\d{2}[-. ]\d{4}(?!\d|[-.]\d)/g,
)
