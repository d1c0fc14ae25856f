/**
 * What two texts have in common that differ in literals only.
 *
 * A reading of the text by characters, much plainer than PostgreSQL's scanner: whatever it is not certain about (comments,
 * escapes, prefixed and dollar-quoted strings, odd numbers) makes it give up, and the text is planned by itself. What it
 * takes for a literal is believed only where the parse tree has a constant of that value at that place
 * (`literal-watch.ts`).
 *
 * @packageDocumentation
 */
import { fromBytes, toBytes } from './parse.ts'

/** A text in two halves: what stands around its literals, and those. Positions are bytes. */
export interface Shape {
  /** The text with a mark of its kind in place of each literal; no text holds such marks itself. */
  readonly key: string
  /** Each literal as it is written. */
  readonly literals: readonly string[]
  /** Where each begins. */
  readonly starts: readonly number[]
  /** The whole text, one character per byte. */
  readonly bytes: string
}

/**
 * Longest text with a shape, in UTF-16 units. INVARIANT: no text of that length is refused for its size, its words or its
 * operators (`parse.ts`), whatever its literals hold.
 */
export const SHAPED_CHARS_MAX = 4096

/** Reads a text; undefined when it holds anything out of the ordinary. */
export function shapeOf(sql: string): Shape | undefined {
  if (sql.length > SHAPED_CHARS_MAX) return undefined
  const bytes = toBytes(sql)
  if (bytes !== sql && /\p{Surrogate}/u.test(sql)) return undefined
  const literals: string[] = []
  const starts: number[] = []
  let key = ''
  let kept = 0
  let afterString = false
  for (let at = 0; at < bytes.length;) {
    const kind = kindAt(bytes, at)
    if (kind === BLANK) {
      at += 1
      continue
    }
    const end = END_OF[kind]?.(bytes, at, afterString) ?? -1
    if (end < 0) return undefined
    afterString = kind === SINGLE_QUOTE
    if ((kind === SINGLE_QUOTE || kind === DIGIT) && isVariable(bytes, at, end)) {
      key += bytes.slice(kept, at) + (kind === SINGLE_QUOTE ? '\x03' : isWhole(bytes, at, end) ? '\x01' : '\x02')
      literals.push(bytes.slice(at, end))
      starts.push(at)
      kept = end
    }
    at = end
  }
  return { key: key + bytes.slice(kept), literals, starts, bytes }
}

/**
 * The text with `'mark'` for every string, `mark` for every number and one blank for every run of them: what the scanner
 * would make of it, for a fraction of the cost. Undefined when it holds anything out of the ordinary.
 */
export function withoutLiterals(sql: string, mark: string): string | undefined {
  if (sql.length > SHAPED_CHARS_MAX) return undefined
  const bytes = toBytes(sql)
  if (bytes !== sql && /\p{Surrogate}/u.test(sql)) return undefined
  let made = ''
  let kept = 0
  let afterString = false
  for (let at = 0; at < bytes.length;) {
    const kind = kindAt(bytes, at)
    const end = kind === BLANK ? blanksEnd(bytes, at) : (END_OF[kind]?.(bytes, at, afterString) ?? -1)
    if (end < 0) return undefined
    if (kind !== BLANK) afterString = kind === SINGLE_QUOTE
    const shown = kind === BLANK ? ' ' : kind === DIGIT ? mark : kind === SINGLE_QUOTE ? `'${mark}'` : undefined
    if (shown !== undefined) {
      made += fromBytes(bytes.slice(kept, at)) + shown
      kept = end
    }
    at = end
  }
  return (made + fromBytes(bytes.slice(kept))).trim()
}

/** What a string literal says. */
export function stringValue(literal: string): string {
  return literal.slice(1, -1).replaceAll("''", "'")
}

const [REFUSED, BLANK, WORD, DIGIT, SINGLE_QUOTE, DOUBLE_QUOTE, DOLLAR, DOT, MINUS, SLASH, PUNCTUATION] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
] as const

/** By character code; what is in no line is refused, control characters and the backslash among it. */
const KINDS = new Uint8Array(256)
for (const [kind, chars] of [
  [BLANK, ' \t\n\r'],
  [WORD, 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_'],
  [DIGIT, '0123456789'],
  [SINGLE_QUOTE, "'"],
  [DOUBLE_QUOTE, '"'],
  [DOLLAR, '$'],
  [DOT, '.'],
  [MINUS, '-'],
  [SLASH, '/'],
  [PUNCTUATION, '()[],;:+*<>=~!@#%^&|`?'],
] as const) {
  for (const char of chars) KINDS[char.charCodeAt(0)] = kind
}
KINDS.fill(WORD, 0x80)

/** Behind the end there is a blank. */
function kindAt(bytes: string, at: number): number {
  return at < bytes.length ? (KINDS[bytes.charCodeAt(at)] ?? REFUSED) : BLANK
}

/** Where the token ends that begins there; -1 for what is refused. */
const END_OF: readonly (((bytes: string, at: number, afterString: boolean) => number) | undefined)[] = [
  undefined,
  undefined,
  wordEnd,
  numberEnd,
  stringEnd,
  quotedNameEnd,
  parameterEnd,
  (bytes, at) => (kindAt(bytes, at + 1) === DIGIT ? -1 : at + 1),
  (bytes, at) => (kindAt(bytes, at + 1) === MINUS ? -1 : at + 1),
  (bytes, at) => (bytes.charCodeAt(at + 1) === STAR ? -1 : at + 1),
  (_, at) => at + 1,
]

const STAR = 0x2a
const AMPERSAND = 0x26
const QUOTE = 0x27
const NAME_QUOTE = 0x22

function wordEnd(bytes: string, start: number): number {
  let at = start + 1
  for (let kind = kindAt(bytes, at); kind === WORD || kind === DIGIT || kind === DOLLAR; kind = kindAt(bytes, ++at));
  // `E'…'` and its like.
  return kindAt(bytes, at) === SINGLE_QUOTE ? -1 : at
}

function blanksEnd(bytes: string, start: number): number {
  let at = start
  while (at < bytes.length && kindAt(bytes, at) === BLANK) at += 1
  return at
}

/** Digits, or digits with a point among them. */
function numberEnd(bytes: string, start: number): number {
  let at = digitsEnd(bytes, start)
  if (kindAt(bytes, at) === DOT) {
    if (kindAt(bytes, at + 1) !== DIGIT) return -1
    at = digitsEnd(bytes, at + 1)
  }
  return isOver(bytes, at) ? at : -1
}

function digitsEnd(bytes: string, start: number): number {
  let at = start
  while (kindAt(bytes, at) === DIGIT) at += 1
  return at
}

/** Two strings with a line between them are one; so nothing may come before it but what surely is another token. */
function stringEnd(bytes: string, start: number, afterString: boolean): number {
  const before = kindAt(bytes, start - 1)
  if (afterString || (start > 0 && before !== BLANK && before !== PUNCTUATION)) return -1
  // `U&'…'`
  if (bytes.charCodeAt(start - 1) === AMPERSAND) return -1
  const end = closing(bytes, start, QUOTE)
  return end > 0 && isOver(bytes, end) ? end : -1
}

function quotedNameEnd(bytes: string, start: number): number {
  if (bytes.charCodeAt(start - 1) === AMPERSAND) return -1
  const end = closing(bytes, start, NAME_QUOTE)
  return kindAt(bytes, end) === SINGLE_QUOTE ? -1 : end
}

/** Where the quotes end that begin there; a doubled one is one of its characters, and a backslash may be anything. */
function closing(bytes: string, start: number, quote: number): number {
  for (let at = start + 1; at < bytes.length; at++) {
    const code = bytes.charCodeAt(at)
    if (code < 0x09 || code === BACKSLASH) return -1
    if (code !== quote) continue
    if (bytes.charCodeAt(at + 1) !== quote) return at + 1
    at += 1
  }
  return -1
}

const BACKSLASH = 0x5c

/** `$1`; `$$` and `$tag$` begin a string. */
function parameterEnd(bytes: string, start: number): number {
  const at = digitsEnd(bytes, start + 1)
  // The scanner takes no parameter whose number is beyond 2³¹.
  const isNumber = at > start + 1 && at - start - 1 <= WHOLE_DIGITS_MAX
  return isNumber && isOver(bytes, at) ? at : -1
}

/** Whether a token surely ends before what stands there. */
function isOver(bytes: string, at: number): boolean {
  const kind = kindAt(bytes, at)
  return kind === BLANK || kind === PUNCTUATION || kind === MINUS || kind === SLASH
}

/**
 * Whether a literal may be another one in a text of the same shape. The parser leaves out zeros and empty strings, and
 * whole numbers of more digits are another kind of constant to it: those stay what they are.
 */
function isVariable(bytes: string, start: number, end: number): boolean {
  const first = bytes.charCodeAt(start)
  if (first === QUOTE) return end - start > 2
  return !isWhole(bytes, start, end) || (first !== ZERO && end - start <= WHOLE_DIGITS_MAX)
}

const ZERO = 0x30
/** Every number of that many digits is less than 2³¹. */
const WHOLE_DIGITS_MAX = 9

function isWhole(bytes: string, start: number, end: number): boolean {
  return digitsEnd(bytes, start) === end
}
