import { charSet, type Detector, digitsOf, HIDDEN, isAlphanumeric, isDigit, nextRun } from './detector.ts'

/**
 * Payment card numbers: 12 to 19 digits whose issuer range exists for that length and whose check digit is right
 * (ISO/IEC 7812-1, annex B), written together or with one separator between groups.
 */
export const creditCard: Detector = {
  kind: 'credit_card',
  summary: 'Payment card numbers with a known issuer range and a correct Luhn check digit.',
  trigger: (text) => nextRun(text, 0, CARD_CHARS, DIGITS_MIN) !== undefined,
  find(text, report) {
    for (let at = 0; ;) {
      const run = nextRun(text, at, CARD_CHARS, DIGITS_MIN)
      if (run === undefined) return
      at = run.end
      // Two separators in a row end a number.
      for (const piece of text.slice(run.start, run.end).matchAll(/\d(?:[ ._,-]?\d){11,}/g)) {
        findInRun(text, run.start + piece.index, piece[0], report)
      }
    }
  },
  canonical: digitsOf,
  partial: (value) => HIDDEN.repeat(12) + digitsOf(value).slice(-4),
}

interface Group {
  readonly start: number
  readonly end: number
}

const CARD_CHARS = charSet(/[0-9 ._,-]/)
const DIGITS_MAX = 19
const DIGITS_MIN = 12

function findInRun(text: string, offset: number, run: string, report: (start: number, end: number) => void): void {
  const groups: Group[] = []
  for (const { 0: digits, index } of run.matchAll(/\d+/g)) {
    groups.push({ start: offset + index, end: offset + index + digits.length })
  }
  const all = groups.length - 1
  if (run.length < 2 * DIGITS_MAX && isCard(text, groups, 0, all)) {
    report(offset, offset + run.length)
    return
  }
  for (let first = 0; first < groups.length; first++) {
    const last = lastOfCard(text, groups, first)
    if (last === undefined) continue
    report(groups[first]?.start ?? 0, groups[last]?.end ?? 0)
    first = last
  }
}

/**
 * How cards are written, as lengths of groups. Inside a longer run of numbers only these count, or every table of
 * numbers would hold cards; a run that is nothing else may be grouped in any way.
 */
const SHAPES: readonly (readonly number[])[] = [
  ...[0, 3, 2, 1].map((rest) => [4, 4, 4, 4, ...(rest === 0 ? [] : [rest])]),
  ...[3, 2, 1].map((rest) => [4, 4, 4, rest]),
  [4, 6, 5],
  [4, 6, 4],
  ...[13, 12, 11, 10, 9, 8, 7, 6].map((rest) => [6, rest]),
  [8, 8],
  [8, 4],
]
/** Thousands, as a spreadsheet writes a card that it took for a number. */
const COMMA_SHAPES: readonly (readonly number[])[] = [6, 5, 4, 3].flatMap((threes) =>
  [3, 2, 1].map((lead) => [lead, ...Array.from({ length: threes }, () => 3)]),
)

/** Returns the group with which the card that begins at group `first` ends. */
function lastOfCard(text: string, groups: readonly Group[], first: number): number | undefined {
  const begin = groups[first]
  if (begin === undefined) return undefined
  if (begin.end - begin.start >= DIGITS_MIN) return isCard(text, groups, first, first) ? first : undefined
  const shapes = text.charAt(begin.end) === ',' ? COMMA_SHAPES : SHAPES
  const shape = shapes.find(
    (lengths) =>
      lengths.every((length, index) => lengthOf(groups[first + index]) === length) &&
      isCard(text, groups, first, first + lengths.length - 1),
  )
  return shape && first + shape.length - 1
}

function lengthOf(group: Group | undefined): number {
  return group === undefined ? 0 : group.end - group.start
}

/** Whether the groups from `first` to `last` are one card number, cheapest test first. */
function isCard(text: string, groups: readonly Group[], first: number, last: number): boolean {
  const start = groups[first]?.start ?? 0
  const end = groups[last]?.end ?? 0
  const written = text.slice(start, end)
  const digits = digitsOf(written)
  if (digits.length < DIGITS_MIN || digits.length > DIGITS_MAX) return false
  if (!hasIssuer(digits) || !passesLuhn(digits)) return false
  if (new Set(written.replaceAll(/\d/g, '')).size > 1) return false
  return !isGluedBefore(text, start) && !isGluedAfter(text, end)
}

function isGluedBefore(text: string, start: number): boolean {
  const before = text.charAt(start - 1)
  // `0.4111111111111111` is a fraction.
  if (before === '.' && isDigit(text.charCodeAt(start - 2)) && !isDigit(text.charCodeAt(start - 5))) return true
  return isInsideHex(text, start, -1) || isInsideUuid(text, start)
}

function isGluedAfter(text: string, end: number): boolean {
  return isInsideHex(text, end - 1, 1)
}

/** Whether the digits at `index` go on, in `direction`, as a longer run of hexadecimal digits that holds letters. */
function isInsideHex(text: string, index: number, direction: 1 | -1): boolean {
  let at = index + (direction === 1 ? 1 : -1)
  let letters = 0
  for (; isAlphanumeric(text.charCodeAt(at)); at += direction) {
    if (!/[0-9a-f]/i.test(text.charAt(at))) return false
    if (!isDigit(text.charCodeAt(at))) letters++
    // Long enough to be sure: the cost per group stays bounded.
    if (letters > 8) return true
  }
  return letters > 0
}

function isInsideUuid(text: string, start: number): boolean {
  const around = text.slice(Math.max(0, start - 36), start + 36)
  if (!around.includes('-')) return false
  for (const uuid of around.matchAll(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi)) {
    const from = Math.max(0, start - 36) + uuid.index
    if (from <= start && start < from + 36) return true
  }
  return false
}

/** Issuer ranges: first and last value of the leading digits, and the lengths in use. */
const ISSUERS: readonly (readonly [from: number, to: number, shortest: number, longest: number])[] = [
  [4, 4, 13, 19], // Visa
  [51, 55, 16, 16], // Mastercard
  [2221, 2720, 16, 16], // Mastercard
  [34, 34, 15, 15], // American Express
  [37, 37, 15, 15], // American Express
  [6011, 6011, 16, 19], // Discover
  [644, 649, 16, 19], // Discover
  [65, 65, 16, 19], // Discover, RuPay
  [300, 305, 14, 19], // Diners Club
  [3095, 3095, 14, 19], // Diners Club
  [36, 36, 14, 19], // Diners Club
  [38, 39, 14, 19], // Diners Club
  [3528, 3589, 16, 19], // JCB
  [62, 62, 16, 19], // UnionPay
  [81, 82, 16, 19], // UnionPay, RuPay
  [60, 60, 16, 16], // RuPay
  [508, 508, 16, 16], // RuPay
  [2200, 2204, 16, 19], // Mir
  [5018, 5018, 12, 19], // Maestro
  [5020, 5020, 12, 19],
  [5038, 5038, 12, 19],
  [5893, 5893, 12, 19],
  [6304, 6304, 12, 19],
  [6759, 6759, 12, 19],
  [6761, 6763, 12, 19],
]

function hasIssuer(digits: string): boolean {
  return ISSUERS.some(([from, to, shortest, longest]) => {
    const lead = Number(digits.slice(0, String(from).length))
    return lead >= from && lead <= to && isLengthInUse(digits.length, from, shortest, longest)
  })
}

function isLengthInUse(length: number, from: number, shortest: number, longest: number): boolean {
  if (from === 4) return length === 13 || length === 16 || length === 19
  return length >= shortest && length <= longest
}

function passesLuhn(digits: string): boolean {
  let sum = 0
  for (let index = 0; index < digits.length; index++) {
    const digit = digits.charCodeAt(digits.length - 1 - index) - 48
    const doubled = index % 2 === 0 ? digit : digit * 2
    sum += doubled > 9 ? doubled - 9 : doubled
  }
  return sum % 10 === 0
}

/** Bank account numbers of the countries in the IBAN registry, checked by length and ISO 7064 MOD 97-10. */
export const iban: Detector = {
  kind: 'iban',
  summary: 'International bank account numbers with the length of their country and a correct check number.',
  trigger: (text) => /[A-Za-z]{2}\d{2}[ -]?[A-Za-z0-9]{4}/.test(text),
  find(text, report) {
    for (const { index } of text.matchAll(/(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ -]?[A-Za-z0-9]{4})/g)) {
      const end = ibanEnd(text, index)
      if (end !== undefined) report(index, end)
    }
  },
  canonical: (value) => value.replaceAll(/[^A-Za-z0-9]/g, '').toUpperCase(),
  partial: (value) => value.slice(0, 2) + HIDDEN.repeat(8) + value.replaceAll(/[^A-Za-z0-9]/g, '').slice(-4),
}

function ibanEnd(text: string, start: number): number | undefined {
  const wanted = IBAN_LENGTHS[text.slice(start, start + 2).toUpperCase()]
  if (wanted === undefined) return undefined
  let compact = ''
  let at = start
  for (; compact.length < wanted; at++) {
    const char = text.charAt(at)
    if (isAlphanumeric(text.charCodeAt(at))) compact += char.toUpperCase()
    else if ((char !== ' ' && char !== '-') || !isAlphanumeric(text.charCodeAt(at + 1))) return undefined
  }
  if (isAlphanumeric(text.charCodeAt(at))) return undefined
  return mod97(compact.slice(4) + compact.slice(0, 4)) === 1 ? at : undefined
}

function mod97(text: string): number {
  let rest = 0
  for (const char of text) {
    const value = Number.parseInt(char, 36)
    rest = (rest * (value > 9 ? 100 : 10) + value) % 97
  }
  return rest
}

/** Total length by country: SWIFT, IBAN Registry. */
const IBAN_LENGTHS: Readonly<Record<string, number>> = {
  AD: 24,
  AE: 23,
  AL: 28,
  AT: 20,
  AZ: 28,
  BA: 20,
  BE: 16,
  BG: 22,
  BH: 22,
  BI: 27,
  BR: 29,
  BY: 28,
  CH: 21,
  CR: 22,
  CY: 28,
  CZ: 24,
  DE: 22,
  DJ: 27,
  DK: 18,
  DO: 28,
  EE: 20,
  EG: 29,
  ES: 24,
  FI: 18,
  FK: 18,
  FO: 18,
  FR: 27,
  GB: 22,
  GE: 22,
  GI: 23,
  GL: 18,
  GR: 27,
  GT: 28,
  HN: 28,
  HR: 21,
  HU: 28,
  IE: 22,
  IL: 23,
  IQ: 23,
  IS: 26,
  IT: 27,
  JO: 30,
  KW: 30,
  KZ: 20,
  LB: 28,
  LC: 32,
  LI: 21,
  LT: 20,
  LU: 20,
  LV: 21,
  LY: 25,
  MC: 27,
  MD: 24,
  ME: 22,
  MK: 19,
  MN: 20,
  MR: 27,
  MT: 31,
  MU: 30,
  NI: 28,
  NL: 18,
  NO: 15,
  OM: 23,
  PK: 24,
  PL: 28,
  PS: 29,
  PT: 25,
  QA: 29,
  RO: 24,
  RS: 22,
  RU: 33,
  SA: 24,
  SC: 31,
  SD: 18,
  SE: 24,
  SI: 19,
  SK: 24,
  SM: 27,
  SO: 23,
  ST: 25,
  SV: 28,
  TL: 23,
  TN: 24,
  TR: 26,
  UA: 29,
  VA: 22,
  VG: 24,
  XK: 20,
  YE: 30,
}
