/** One declared kind of sensitive value. Pure data and pure functions; the engine decides what to do with a find. */
export interface Detector {
  /** Its name in policies and in placeholders. */
  readonly kind: string
  /** What it finds, in one sentence, for the docs. */
  readonly summary: string
  /**
   * Whether `text` could hold a value. Cheap, and never false for a text in which `find` reports something: results
   * without a candidate pass at the speed of this test.
   */
  readonly trigger: (text: string) => boolean
  /** Reports each value as `[start, end)`. No report spans a line break. Linear in the length of `text`. */
  readonly find: (text: string, report: Report) => void
  /** One spelling per value, so that `4111-1111…` and `41111111…` get the same hash. */
  readonly canonical?: (value: string) => string
  /** The harmless piece `partial` keeps. Without it `partial` redacts: no piece of such a value is harmless. */
  readonly partial?: (value: string) => string
}

/** Takes one find. */
export type Report = (start: number, end: number) => void

/** Stands for characters that `partial` hides. Neither letter nor digit, so that no detector finds it again. */
export const HIDDEN = '•'

/** A trigger for values that always hold one of these pieces. */
export function holdsAny(...pieces: readonly string[]): (text: string) => boolean {
  return (text) => pieces.some((piece) => text.includes(piece))
}

/** A `find` that reports each match of `pattern` (flags `g`) that `accept` agrees to. */
export function eachMatch(
  pattern: RegExp,
  accept: (value: string, text: string, start: number) => boolean = () => true,
): Detector['find'] {
  return (text, report) => {
    for (const match of text.matchAll(pattern)) {
      if (accept(match[0], text, match.index)) report(match.index, match.index + match[0].length)
    }
  }
}

/** The digits of a value, in order. */
export function digitsOf(value: string): string {
  return value.replaceAll(/\D/g, '')
}

/** Shannon entropy of a text's characters, in bits per character. */
export function entropyOf(value: string): number {
  const counts = new Map<string, number>()
  for (const char of value) counts.set(char, (counts.get(char) ?? 0) + 1)
  let bits = 0
  for (const count of counts.values()) bits -= (count / value.length) * Math.log2(count / value.length)
  return bits
}

/** Whether the character code is an ASCII digit. `NaN`, the code beyond a text's end, is none. */
export function isDigit(code: number): boolean {
  return code >= 48 && code <= 57
}

/** Whether the character code is an ASCII letter or digit. */
export function isAlphanumeric(code: number): boolean {
  return isDigit(code) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122)
}

/** A set of ASCII characters, to look codes up in. */
export function charSet(chars: RegExp): Uint8Array {
  return Uint8Array.from({ length: 128 }, (_, code) => (chars.test(String.fromCharCode(code)) ? 1 : 0))
}

/**
 * Returns the next run of at least `least` characters of `set` from `from` on. Such a run covers every `least`-th
 * position somewhere, so most of a text is never looked at.
 */
export function nextRun(
  text: string,
  from: number,
  set: Uint8Array,
  least: number,
): { readonly start: number; readonly end: number } | undefined {
  for (let probe = from + least - 1; probe < text.length;) {
    let start = probe + 1
    while (start > from && set[text.charCodeAt(start - 1)] === 1) start--
    let end = probe + 1
    if (start <= probe) while (set[text.charCodeAt(end)] === 1) end++
    if (end - start >= least) return { start, end }
    probe = end - 1 + least
  }
  return undefined
}
