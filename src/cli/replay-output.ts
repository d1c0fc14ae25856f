/**
 * Makes what a terminal showed safe to show on another one. A recording holds what a target wrote, and so what an attacker
 * wrote: sequences that make a terminal type (reports), set its title or clipboard, or load files must not reach that of
 * an auditor. What passes is an allow-list: text, line ends, and the sequences that move the cursor, erase and colour.
 *
 * @packageDocumentation
 */

/** Control characters that only move the cursor: BS, HT, LF, CR. */
const MOVES = new Set([0x08, 0x09, 0x0a, 0x0d])
const ESC = 0x1b

/**
 * Final bytes of control sequences (ECMA-48, section 5.4) that answer nothing: cursor (`A`–`H`, `f`, `d`, `e`, `a`, backtick),
 * erase (`J K X`), insert and delete (`L M P @`), scroll (`S T r`), colour (`m`).
 */
const SAFE_FINAL = /^[A-HJKLMPSTXade`fmr@]$/u

/** Modes of DEC terminals that change only how things are shown: cursor keys, wrap, cursor, the other screen. */
const SAFE_MODES = new Set(['1', '7', '25', '47', '1047', '1048', '1049'])

/** Longest sequence that is looked at; a longer one is dropped with what follows it up to its end. */
const SEQUENCE_MAX = 64

/** A filter for the text of one terminal, in pieces. What is not on the list shows as `\\u{1b}` and the like, harmless. */
export class SafeOutput {
  #held = ''

  /** Returns what may be shown of this piece; the beginning of a sequence waits for its end. */
  filter(piece: string): string {
    const text = this.#held + piece
    this.#held = ''
    let shown = ''
    for (let at = 0; at < text.length;) {
      const code = text.codePointAt(at) ?? 0
      if (code !== ESC) {
        shown += isPlain(code) || MOVES.has(code) ? String.fromCodePoint(code) : visible(code)
        at += code > 0xffff ? 2 : 1
        continue
      }
      const end = sequenceEnd(text, at)
      if (end === undefined) {
        if (text.length - at <= SEQUENCE_MAX) {
          this.#held = text.slice(at)
          return shown
        }
        shown += visible(ESC)
        at++
        continue
      }
      const sequence = text.slice(at, end)
      shown += isSafe(sequence) ? sequence : escaped(sequence)
      at = end
    }
    return shown
  }

  /** What was held back when nothing more comes. */
  end(): string {
    const rest = escaped(this.#held)
    this.#held = ''
    return rest
  }
}

/** Puts a terminal back into the state an auditor expects: colours, cursor, margins, the usual screen. */
export const RESTORE = '\u001b[0m\u001b[r\u001b[?25h\u001b[?1049l\u001b[?7h\u001b[?1l'

/** Neither a control nor a character that reorders or hides others. */
function isPlain(code: number): boolean {
  return !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u.test(String.fromCodePoint(code))
}

/** Where the sequence that begins at `at` ends; `undefined` when it is not complete. */
function sequenceEnd(text: string, at: number): number | undefined {
  const second = text[at + 1]
  if (second === undefined) return undefined
  if (second !== '[') return at + 1
  for (let index = at + 2; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code >= 0x40 && code <= 0x7e) return index + 1
    // What is no parameter ends it: it is no sequence.
    if (code < 0x20 || code > 0x3f) return index
  }
  return undefined
}

function isSafe(sequence: string): boolean {
  const [, mark = '', parameters = '', final = ''] = /^(\??)([\d;:]*)(.)$/u.exec(sequence.slice(2)) ?? []
  if (mark === '?')
    return (final === 'h' || final === 'l') && parameters.split(';').every((mode) => SAFE_MODES.has(mode))
  return SAFE_FINAL.test(final)
}

function escaped(text: string): string {
  return Array.from(text, (character) => {
    const code = character.codePointAt(0) ?? 0
    return isPlain(code) || MOVES.has(code) ? character : visible(code)
  }).join('')
}

function visible(code: number): string {
  return `\\u{${code.toString(16)}}`
}
