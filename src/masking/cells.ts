import type { Cell } from '../core/chunk.ts'
import type { Compiled } from './compile.ts'
import { mayHold } from './spans.ts'
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
  // One look at everything first: most chunks hold no candidate, and a look per cell costs many times as much.
  if (compiled.custom.length === 0 && !mayHold(rows.map((row) => row.join('\n')).join('\n'), compiled)) return rows
  let changed: (readonly Cell[])[] | undefined
  for (const [index, row] of rows.entries()) {
    let cells: Cell[] | undefined
    for (const [column, cell] of row.entries()) {
      if (cell === null || cell === '') continue
      const shown = maskCell(cell, shapes[column] ?? 'text', compiled, replacer, count)
      if (shown !== cell) (cells ??= [...row])[column] = shown
    }
    if (cells !== undefined) (changed ??= [...rows])[index] = cells
  }
  return changed ?? rows
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
