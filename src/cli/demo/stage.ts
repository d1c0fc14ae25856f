import { printable, type Terminal } from '../terminal.ts'

/** Tells the demo's story: on a terminal in colour, otherwise as plain lines. */
export interface Stage {
  /** Opens a numbered scene. */
  scene(title: string, why: string): void
  /** What somebody does. */
  does(who: string, what: string): void
  /** What came back: one line of outcome, then its details. */
  outcome(kind: 'good' | 'stopped' | 'waits', text: string, details?: readonly string[]): void
  /** A plain remark. */
  remark(text: string): void
  /** A result as a small table. */
  rows(columns: readonly string[], rows: readonly (readonly unknown[])[], more?: string): void
}

const WIDTH_MAX = 24
const ROWS_SHOWN = 4

/** Sets the stage. */
export function openStage(terminal: Terminal): Stage {
  let count = 0
  const paint: Terminal['paint'] = (style, text) => terminal.paint(style, text)
  const line = (text: string): void => terminal.line(text)

  return {
    scene(title, why) {
      count++
      line('')
      line(paint('bold', `${count}. ${title}`))
      line(paint('dim', `   ${why}`))
    },
    does(who, what) {
      const [first = '', ...more] = what.split('\n')
      line(`   ${paint('cyan', `${who} ›`)} ${printable(first)}`)
      for (const next of more) line(`   ${' '.repeat(who.length + 2)} ${printable(next)}`)
    },
    outcome(kind, text, details = []) {
      const mark = { good: paint('green', '✓'), stopped: paint('red', '✗'), waits: paint('yellow', '…') }[kind]
      line(`   ${mark} ${printable(text)}`)
      for (const detail of details) line(paint('dim', `     ${printable(detail)}`))
    },
    remark: (text) => line(paint('dim', `   ${text}`)),
    rows(columns, rows, more) {
      const shown = [columns, ...rows.slice(0, ROWS_SHOWN)].map((row) => row.map(cell))
      const widths = columns.map((_, index) => Math.max(...shown.map((row) => row[index]?.length ?? 0)))
      for (const [index, row] of shown.entries()) {
        const text = row.map((value, column) => value.padEnd(widths[column] ?? 0)).join('  ')
        line(`     ${index === 0 ? paint('dim', text.trimEnd()) : text.trimEnd()}`)
      }
      if (more !== undefined) line(paint('dim', `     ${more}`))
    },
  }
}

function cell(value: unknown): string {
  const text = printable(value === null ? 'NULL' : typeof value === 'string' ? value : JSON.stringify(value))
  return text.length > WIDTH_MAX ? `${text.slice(0, WIDTH_MAX - 1)}…` : text
}
