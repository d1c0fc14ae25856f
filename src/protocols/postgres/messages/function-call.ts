import { BodyReader, MessageWriter } from './bytes.ts'
import type { Format } from './bind.ts'
import { violation } from './violation.ts'

/** FunctionCall: runs a function by its OID, without a statement (PostgreSQL manual, 55.2.6). */
export interface FunctionCall {
  readonly type: 'FunctionCall'
  readonly oid: number
  readonly argFormats: readonly Format[]
  readonly args: readonly (Buffer | null)[]
  readonly resultFormat: Format
}

export function decodeFunctionCall(body: Buffer): FunctionCall {
  const reader = new BodyReader('FunctionCall', body)
  const oid = reader.uint32()
  const argFormats: Format[] = []
  for (let left = reader.count(); left > 0; left--) argFormats.push(formatOf(reader.int16()))
  const args: (Buffer | null)[] = []
  for (let left = reader.count(); left > 0; left--) args.push(reader.value())
  if (argFormats.length > 1 && argFormats.length !== args.length) {
    throw violation('FunctionCall', 'has another number of formats than of arguments')
  }
  const resultFormat = formatOf(reader.int16())
  reader.end()
  return { type: 'FunctionCall', oid, argFormats, args, resultFormat }
}

export function encodeFunctionCall({ oid, argFormats, args, resultFormat }: Omit<FunctionCall, 'type'>): Buffer {
  const writer = new MessageWriter('F').uint32(oid).count(argFormats.length)
  for (const format of argFormats) writer.int16(format)
  writer.count(args.length)
  for (const arg of args) writer.value(arg)
  return writer.int16(resultFormat).done()
}

function formatOf(value: number): Format {
  if (value !== 0 && value !== 1) throw violation('FunctionCall', 'has a format that is neither text nor binary')
  return value
}
