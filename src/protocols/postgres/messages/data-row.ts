import { BodyReader, MessageWriter } from './bytes.ts'
import { utf8 } from './bytes.ts'
import { COLUMNS_MAX } from './limits.ts'
import { violation } from './violation.ts'

/** Reads a DataRow whose columns all travel as text. */
export function decodeTextRow(body: Buffer): (string | null)[] {
  const reader = new BodyReader('DataRow', body)
  const count = reader.count()
  if (count > COLUMNS_MAX) throw violation('DataRow', 'has more columns than a result can have')
  const cells: (string | null)[] = []
  for (let left = count; left > 0; left--) {
    const value = reader.value()
    cells.push(value === null ? null : utf8(value, 'DataRow'))
  }
  reader.end()
  return cells
}

export function encodeTextRow(cells: readonly (string | null)[]): Buffer {
  const writer = new MessageWriter('D', 256).count(cells.length)
  for (const cell of cells) writer.value(cell === null ? null : Buffer.from(cell))
  return writer.done()
}
