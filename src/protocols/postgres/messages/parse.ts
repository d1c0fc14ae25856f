import { BodyReader, MessageWriter } from './bytes.ts'

/** Parse: makes a prepared statement; the empty name is the unnamed one. */
export interface Parse {
  readonly type: 'Parse'
  readonly name: string
  readonly sql: string
  /** OIDs of the parameters' types; 0, or none at all, leaves one to the server. */
  readonly paramTypes: readonly number[]
}

export function decodeParse(body: Buffer): Parse {
  const reader = new BodyReader('Parse', body)
  const name = reader.text()
  const sql = reader.text()
  const paramTypes: number[] = []
  for (let left = reader.count(); left > 0; left--) paramTypes.push(reader.uint32())
  reader.end()
  return { type: 'Parse', name, sql, paramTypes }
}

export function encodeParse({ name, sql, paramTypes }: Omit<Parse, 'type'>): Buffer {
  const writer = new MessageWriter('P', name.length + sql.length + 8 + paramTypes.length * 4)
  writer.text(name).text(sql).count(paramTypes.length)
  for (const oid of paramTypes) writer.uint32(oid)
  return writer.done()
}
