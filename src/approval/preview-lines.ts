import type { TicketView } from './view.ts'

/** Characters a column of a sample may take before its rows are written one value a line. */
const WIDE_CHARS = 100

/**
 * Writes a preview as lines for surfaces that show text. Every text in it comes from a view, whose hidden characters are
 * visible; whoever prints the lines indents them, so that none can be taken for the surface's own words.
 */
export function previewLines({ sections, missing }: NonNullable<TicketView['preview']>): readonly string[] {
  const lines = sections.flatMap(({ title, text, table, more }) => [
    title,
    ...(text === undefined ? [] : text.split('\n').map((line) => `  ${line}`)),
    ...(table === undefined ? [] : tableLines(table.columns, table.rows)),
    ...(more === undefined ? [] : [`  … and ${more} more that are not shown`]),
  ])
  if (missing !== undefined) return [...lines, missing]
  return lines.length === 0 ? ['Nothing would change.'] : lines
}

function tableLines(columns: readonly string[], rows: readonly (readonly (string | null)[])[]): readonly string[] {
  const cells = rows.map((row) => row.map((cell) => (cell === null ? 'NULL' : `'${cell}'`)))
  const widths = columns.map((name, at) => Math.max(name.length, ...cells.map((row) => row[at]?.length ?? 0)))
  if (widths.reduce((sum, width) => sum + width + 2, 0) > WIDE_CHARS) {
    return cells.flatMap((row, index) => [
      `  row ${index + 1}:`,
      ...row.map((cell, at) => `    ${columns[at] ?? ''} = ${cell}`),
    ])
  }
  const line = (row: readonly string[]): string =>
    `  ${row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join('  ')}`.trimEnd()
  return [line(columns), ...cells.map(line)]
}
