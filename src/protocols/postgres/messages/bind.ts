import { BodyReader, MessageWriter } from './bytes.ts'
import { violation } from './violation.ts'

/** How a value travels: 0 as text, 1 in its type's binary form. */
export type Format = 0 | 1

/** Bind: makes a portal of a prepared statement and values. */
export interface Bind {
  readonly type: 'Bind'
  readonly portal: string
  readonly statement: string
  /** None: all text. One: for all. Else one for each. */
  readonly paramFormats: readonly Format[]
  readonly params: readonly (Buffer | null)[]
  /** As `paramFormats`, for the columns of the result. */
  readonly resultFormats: readonly Format[]
}

export function decodeBind(body: Buffer): Bind {
  const reader = new BodyReader('Bind', body)
  const portal = reader.text()
  const statement = reader.text()
  const paramFormats = readFormats(reader)
  const params: (Buffer | null)[] = []
  for (let left = reader.count(); left > 0; left--) params.push(reader.value())
  if (paramFormats.length > 1 && paramFormats.length !== params.length) {
    throw violation('Bind', 'has another number of parameter formats than of parameters')
  }
  const resultFormats = readFormats(reader)
  reader.end()
  return { type: 'Bind', portal, statement, paramFormats, params, resultFormats }
}

function readFormats(reader: BodyReader): Format[] {
  const formats: Format[] = []
  for (let left = reader.count(); left > 0; left--) {
    const format = reader.int16()
    if (format !== 0 && format !== 1) throw violation('Bind', 'has a format that is neither text nor binary')
    formats.push(format)
  }
  return formats
}

export function encodeBind({ portal, statement, paramFormats, params, resultFormats }: Omit<Bind, 'type'>): Buffer {
  let size = portal.length + statement.length + 16
  for (const param of params) size += 4 + (param?.length ?? 0)
  const writer = new MessageWriter('B', size)
  writer.text(portal).text(statement).count(paramFormats.length)
  for (const format of paramFormats) writer.int16(format)
  writer.count(params.length)
  for (const param of params) writer.value(param)
  writer.count(resultFormats.length)
  for (const format of resultFormats) writer.int16(format)
  return writer.done()
}

/** The format of the parameter or column at `index`. */
export function formatAt(formats: readonly Format[], index: number): Format {
  return (formats.length === 1 ? formats[0] : formats[index]) ?? 0
}
