/** Where commands write: results to standard output, everything else to standard error. */
export interface Terminal {
  /** Whether results are for a machine: JSON, one value per line. */
  readonly isJson: boolean
  /** Whether a person looks at it and wants colour. */
  readonly hasColour: boolean
  /** One line of result. */
  line(text: string): void
  /** A value for machines. */
  json(value: unknown): void
  /** Rows under a heading, padded to columns. */
  table(heading: readonly string[], rows: readonly (readonly string[])[]): void
  /** One line beside the result. */
  note(text: string): void
  /** Wraps text in a style; returns it unchanged without colour. */
  paint(style: Style, text: string): string
}

/** SGR parameters (ECMA-48, section 8.3.117). */
const STYLES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34, cyan: 36 } as const

/** How a piece of text looks. */
export type Style = keyof typeof STYLES

/** Opens the terminal of this process. */
export function openTerminal(options: { readonly json?: boolean } = {}): Terminal {
  const hasColour = wantsColour(process.stdout.isTTY)
  const write = (text: string): void => {
    process.stdout.write(`${text}\n`)
  }
  return {
    isJson: options.json === true,
    hasColour,
    line: write,
    json: (value) => write(JSON.stringify(value)),
    table(heading, rows) {
      const all = [heading, ...rows.map((row) => row.map(printable))]
      const widths = heading.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
      for (const [index, row] of all.entries()) {
        const text = row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')
        write(index === 0 && hasColour ? paint(true, 'bold', text.trimEnd()) : text.trimEnd())
      }
    },
    note: (text) => {
      process.stderr.write(`${text}\n`)
    },
    paint: (style, text) => paint(hasColour, style, text),
  }
}

/** https://no-color.org: any value but the empty one switches colour off. */
function wantsColour(isTerminal: boolean): boolean {
  const { NO_COLOR: no, TERM: term } = process.env
  return isTerminal && (no === undefined || no === '') && term !== 'dumb'
}

function paint(hasColour: boolean, style: Style, text: string): string {
  return hasColour ? `\u001B[${STYLES[style]}m${text}\u001B[0m` : text
}

/**
 * Makes text from elsewhere harmless to a terminal: control and bidirectional characters become visible escapes, so that
 * a statement cannot overwrite the line an approver reads, nor show another order of words than it has.
 */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`
  })
}
