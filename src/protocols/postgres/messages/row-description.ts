import { BodyReader, MessageWriter } from './bytes.ts'
import type { Format } from './bind.ts'
import { COLUMNS_MAX } from './limits.ts'
import { violation } from './violation.ts'

/** A column of a result as the server describes it. */
export interface Field {
  readonly name: string
  /** The table it comes from directly, or 0. */
  readonly tableOid: number
  /** Its number there; 0 for a whole row or none. */
  readonly attnum: number
  readonly typeOid: number
  readonly typeSize: number
  readonly typeModifier: number
  readonly format: Format
}

export function decodeRowDescription(body: Buffer): readonly Field[] {
  const reader = new BodyReader('RowDescription', body)
  const fields: Field[] = []
  const count = reader.count()
  if (count > COLUMNS_MAX) throw violation('RowDescription', 'has more columns than a result can have')
  for (let left = count; left > 0; left--) {
    const field = {
      name: reader.text(),
      tableOid: reader.uint32(),
      attnum: reader.int16(),
      typeOid: reader.uint32(),
      typeSize: reader.int16(),
      typeModifier: reader.int32(),
    }
    const format = reader.int16()
    if (format !== 0 && format !== 1) throw violation('RowDescription', 'has a format that is neither text nor binary')
    fields.push({ ...field, format })
  }
  reader.end()
  return fields
}

export function encodeRowDescription(fields: readonly Field[]): Buffer {
  const writer = new MessageWriter('T', fields.length * 48 + 8).count(fields.length)
  for (const { name, tableOid, attnum, typeOid, typeSize, typeModifier, format } of fields) {
    writer.text(name).uint32(tableOid).int16(attnum).uint32(typeOid).int16(typeSize).int32(typeModifier).int16(format)
  }
  return writer.done()
}
