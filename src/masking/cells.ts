import type { Cell } from '../core/chunk.ts'
import type { Compiled } from './compile.ts'
import { fold } from './fold.ts'
import { findSpans } from './spans.ts'
import { maskText } from './text.ts'
import { redacted, type Replacer } from './transforms.ts'

/** How a replaced value must look so that a client can still read the column. */
export type CellShape = 'text' | 'json' | 'scalar'

// Text forms of these types are read by drivers into numbers, dates, addresses; a placeholder would not parse.
const SCALAR =
  /^(?:smallint|integer|bigint|int[248]?|numeric|decimal|real|double precision|float[48]?|money|oid|xid8?|cid|tid|boolean|bool|date|time|timestamp|interval|uuid|inet|cidr|macaddr8?|bit|bytea|pg_lsn|point|line|lseg|box|path|polygon|circle|tsvector|tsquery|\w{1,24}range)\b/i

/** Returns the shape of a column's cells by the type its owner writes. Unknown types are taken for text. */
export function shapeOf(type: string): CellShape {
  if (/^jsonb?$/i.test(type)) return 'json'
  return SCALAR.test(type) ? 'scalar' : 'text'
}

/** Masks rows cell by cell. Returns `rows` itself when nothing in them is replaced. */
export function maskRows(
  rows: readonly (readonly Cell[])[],
  shapes: readonly CellShape[],
  compiled: Compiled,
  replacer: Replacer,
  count: (kind: string) => void,
): readonly (readonly Cell[])[] {
  const isCandidate = compiled.custom.length > 0 ? () => true : candidates(rows, compiled)
  let changed: (readonly Cell[])[] | undefined
  let position = 0
  for (const [index, row] of rows.entries()) {
    let cells: Cell[] | undefined
    for (const [column, cell] of row.entries()) {
      const at = position++
      if (cell === null || cell === '' || !isCandidate(at)) continue
      const shown = maskCell(cell, shapes[column] ?? 'text', compiled, replacer, count)
      if (shown !== cell) (cells ??= [...row])[column] = shown
    }
    if (cells !== undefined) (changed ??= [...rows])[index] = cells
  }
  return changed ?? rows
}

/**
 * Returns which cells, counted row by row, could hold something.
 *
 * All cells are searched as one text with a line for each: no detector sees past a line break, so a find in there is a
 * find in its cell, and one search of kilobytes costs far less than thousands of short ones.
 */
function candidates(rows: readonly (readonly Cell[])[], compiled: Compiled): (position: number) => boolean {
  const joined = rows.flat().join('\n')
  const folded = fold(joined)
  const spans = findSpans(joined, compiled, folded)
  const mayHoldKey =
    compiled.keyBlocks !== undefined &&
    (joined.includes('PRIVATE KEY') || (folded?.text.includes('PRIVATE KEY') ?? false))
  if (mayHoldKey) return () => true
  if (spans.length === 0) return () => false
  const found = new Set<number>()
  let next = 0
  let end = -1
  let position = 0
  for (const row of rows) {
    for (const cell of row) {
      end += 1 + (cell?.length ?? 0)
      let span = spans[next]
      while (span !== undefined && span.start < end) {
        found.add(position)
        // A find that goes on into the next cell is looked at there again.
        if (span.end > end) break
        span = spans[++next]
      }
      position++
    }
  }
  return (at) => found.has(at)
}

function maskCell(
  cell: string,
  shape: CellShape,
  compiled: Compiled,
  replacer: Replacer,
  count: (kind: string) => void,
): Cell {
  let lastKind = ''
  const shown = maskText(cell, compiled, replacer, (kind) => {
    lastKind = kind
    count(kind)
  })
  if (shown === cell) return cell
  if (shape === 'scalar' || shown.trim() === '') return null
  return shape === 'json' ? repairJson(cell, shown, lastKind) : shown
}

/** Makes masked JSON readable again: a number that was replaced becomes a string. */
function repairJson(before: string, shown: string, kind: string): string {
  if (!isJson(before) || isJson(shown)) return shown
  const quoted = shown.replaceAll(BARE, '$1"$2"').replaceAll(/([:,[]\s{0,8})(?=[,\]}])/g, '$1null')
  return isJson(quoted) ? quoted : JSON.stringify(redacted(kind))
}

const BARE = /([:,[]\s{0,8}|^)(\[(?:REDACTED|HASH):[\w:-]{1,90}\]|[\w+:.]{0,8}•[•\w.:-]{0,40})(?=\s{0,8}[,\]}]|$)/g

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
