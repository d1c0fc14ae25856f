import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SafeOutput } from '../../src/cli/replay-output.ts'

const E = '\u001b'

/** Sequences that may pass, and the line feed. */
const LISTED = new RegExp(
  `${E}\\[[\\d;:]*[A-HJKLMPSTXade\`fmr@]|${E}\\[\\?(?:(?:1|7|25|47|104[789])(?:;|(?=[hl])))+[hl]|\\n`,
  'gu',
)

function filtered(...pieces: readonly string[]): string {
  const safe = new SafeOutput()
  return pieces.map((piece) => safe.filter(piece)).join('') + safe.end()
}

describe('what a terminal showed, on another terminal', () => {
  it.each([
    ['text', 'hello é 漢 😀'],
    ['line ends and tabs', 'a\tb\r\nc\b'],
    ['colours', `${E}[1;31mred${E}[0m ${E}[38:5:208mx${E}[m`],
    ['cursor and erasing', `${E}[H${E}[2J${E}[10;20Hx${E}[K${E}[3A`],
    ['the other screen and the cursor', `${E}[?1049h${E}[?25l${E}[?25h${E}[?1049l`],
  ])('shows %s as it was', (_what, text) => {
    expect(filtered(text)).toBe(text)
  })

  it.each([
    ['a title', `${E}]0;title\u0007`],
    ['the clipboard', `${E}]52;c;cm0gLXJmCg==\u0007`],
    ['a link', `${E}]8;;http://evil.example${E}\\`],
    ['a report of the cursor', `${E}[6n`],
    ['a report of the terminal', `${E}[c${E}[>c${E}[0c`],
    ['a report of a setting', `${E}P$qm${E}\\`],
    ['a report of a size', `${E}[18t`],
    ['the answer to an enquiry', '\u0005'],
    ['pasted brackets', `${E}[?2004h`],
    ['keys that change', `${E}[>4;2m${E}=`],
    ['mouse tracking', `${E}[?1000h${E}[?1006h`],
    ['a reset', `${E}c`],
    ['another character set', `${E}(0`],
    ['8-bit controls', '\u009b6n\u009d0;t\u009c'],
    ['a private message', `${E}_x${E}\\${E}^y${E}\\`],
    ['images', `${E}]1337;File=:AAAA\u0007`],
    ['a file on a printer', `${E}[5i`],
    ['colours hiding a report', `${E}[31${E}[6n`],
    ['a sequence that never ends', `${E}[${'1;'.repeat(100)}`],
    ['text in another order', 'a\u202eb\u2066c'],
    ['a delete', 'a\u007f'],
  ])('shows %s as harmless text', (_what, text) => {
    expect(filtered(text)).not.toMatch(/[\p{Cc}\p{Cf}]/u)
  })

  it('is the same however it comes in pieces, and never holds what is not on the list', () => {
    const atoms = [
      E,
      '[',
      ']',
      '?',
      '6',
      '1',
      ';',
      'n',
      'm',
      'H',
      'h',
      'c',
      '\u0007',
      '\u009b',
      'P',
      '\\',
      'x',
      '\n',
      '😀',
    ]
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...atoms), { maxLength: 60 }), fc.array(fc.nat(60)), (pieces, cuts) => {
        const whole = pieces.join('')
        const characters = Array.from(whole)
        const places = [...new Set([0, ...cuts.filter((cut) => cut < characters.length), characters.length])].sort(
          (a, b) => a - b,
        )
        const shown = filtered(whole)
        expect(filtered(...places.slice(1).map((end, index) => characters.slice(places[index], end).join('')))).toBe(
          shown,
        )
        const rest = shown.replaceAll(LISTED, '')
        expect(rest).not.toMatch(/\p{Cc}/u)
      }),
      { numRuns: 2000 },
    )
  })
})
