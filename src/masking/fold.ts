/**
 * A copy of a text in which the usual ways to write a character otherwise are undone, with the way back.
 *
 * `４１１１`, `4<zero-width space>111`, `jane\u0040example.com`, `jane%40example.com` and digits wrapped in terminal
 * colours all read as what they mean. Detectors look at the text itself *and* at this copy; what they find in the copy
 * is replaced in the original.
 *
 * @packageDocumentation
 */
import assert from 'node:assert'

/** The copy, and the way back. */
export interface Folded {
  readonly text: string
  /** Returns where in the original the character at `index` of the copy begins. */
  startOf(index: number): number
  /** Returns where in the original the character at `index` of the copy ends. */
  endOf(index: number): number
}

// Whatever may fold: not plain ASCII, or a control character, or the beginning of an escape.
const CANDIDATE = /[^ -~\t\n\r]|\\[u/"'nrtbf\\]|%[2-7][0-9A-Fa-f]/
// JSON string escapes (RFC 8259 §7), percent-encoding (RFC 3986 §2.1), terminal sequences (ECMA-48 §5.4, OSC by xterm).
const ESCAPE =
  // eslint-disable-next-line no-control-regex -- terminal sequences are made of control characters
  /\\u[0-9A-Fa-f]{4}|\\[/"'nrtbf\\]|%[2-7][0-9A-Fa-f]|(?:\u001b\[|\u009b)[0-?]{0,64}[ -/]{0,8}[@-~]|\u001b\][^\u0007\u001b\n]{0,512}(?:\u0007|\u001b\\)|\u001b[ -/]{0,4}[0-Z\\^-~]/y

/** Returns the folded copy of `text`, or `undefined` when it would be the text itself. */
export function fold(text: string): Folded | undefined {
  const first = text.search(CANDIDATE)
  if (first < 0) return undefined
  const stretches: Stretch[] = []
  let folded = ''
  let copied = 0
  for (let at = first; at < text.length;) {
    const code = text.charCodeAt(at)
    if (isPlain(code)) {
      at++
      continue
    }
    const [piece, end] = pieceAt(text, at, code)
    if (end - at !== piece.length || !text.startsWith(piece, at)) {
      if (at > copied) {
        stretches.push({ from: folded.length, start: copied, end: LINEAR })
        folded += text.slice(copied, at)
      }
      if (piece !== '') {
        stretches.push({ from: folded.length, start: at, end })
        folded += piece
      }
      copied = end
    }
    at = end
  }
  if (copied === 0) return undefined
  if (copied < text.length) stretches.push({ from: folded.length, start: copied, end: LINEAR })
  return {
    text: folded + text.slice(copied),
    startOf(index) {
      const { from, start, end } = stretchAt(stretches, index)
      return end === LINEAR ? start + index - from : start
    },
    endOf(index) {
      const { from, start, end } = stretchAt(stretches, index)
      return end === LINEAR ? start + index - from + 1 : end
    },
  }
}

/** Part of the copy: taken over as it is when `end` is {@link LINEAR}, else one character written otherwise. */
interface Stretch {
  readonly from: number
  readonly start: number
  readonly end: number
}

const LINEAR = -1

function stretchAt(stretches: readonly Stretch[], index: number): Stretch {
  let low = 0
  let high = stretches.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if ((stretches[middle]?.from ?? 0) <= index) low = middle
    else high = middle - 1
  }
  const found = stretches[low]
  assert(found !== undefined)
  return found
}

/** Characters that always stand for themselves: printable ASCII without `\` and `%`, tab, line feed, return. */
function isPlain(code: number): boolean {
  return (code >= 0x20 && code < 0x7f && code !== 0x5c && code !== 0x25) || code === 9 || code === 10 || code === 13
}

/** Returns what the text at `at` reads as, and where it ends. */
function pieceAt(text: string, at: number, code: number): readonly [piece: string, end: number] {
  if (code === 0x5c || code === 0x25 || code === 0x1b || code === 0x9b) {
    ESCAPE.lastIndex = at
    const escape = ESCAPE.exec(text)?.[0]
    if (escape !== undefined) return [escaped(escape), at + escape.length]
    if (code < 0x7f && code !== 0x1b) return [text.charAt(at), at + 1]
  }
  const point = text.codePointAt(at) ?? code
  return [foldPoint(point), at + (point > 0xffff ? 2 : 1)]
}

function escaped(escape: string): string {
  if (escape.startsWith('%')) return String.fromCharCode(Number.parseInt(escape.slice(1), 16))
  if (!escape.startsWith('\\')) return ''
  if (escape.startsWith('\\u')) return foldPoint(Number.parseInt(escape.slice(2), 16)).replaceAll('\n', ' ')
  return '/"\'\\'.includes(escape.charAt(1)) ? escape.charAt(1) : ' '
}

// One entry per BMP character met so far; the table is bounded by the alphabet.
const seen = new Map<number, string>()

function foldPoint(point: number): string {
  const known = seen.get(point)
  if (known !== undefined) return known
  const folded = computeFold(point)
  if (point <= 0xffff) seen.set(point, folded)
  return folded
}

function computeFold(point: number): string {
  if (point === 9 || point === 10 || point === 13) return String.fromCharCode(point)
  const char = String.fromCodePoint(point)
  if (/[\p{Cc}\p{Cf}\p{Mn}\p{Me}\p{Default_Ignorable_Code_Point}]/u.test(char)) return ''
  if (/\p{Nd}/u.test(char)) return String(digitValue(point))
  if (/\p{Zs}/u.test(char)) return ' '
  if (/[\p{Pd}\u2212\u00b7]/u.test(char)) return char === '\u00b7' ? '.' : '-'
  return char.normalize('NFKC').replaceAll(/[\p{Mn}\n]/gu, '')
}

/** Decimal digits come in runs of ten, zero first (Unicode Standard §4.6). */
function digitValue(point: number): number {
  let zero = point
  while (/\p{Nd}/u.test(String.fromCodePoint(zero - 1))) zero--
  return (point - zero) % 10
}
