import { BodyReader, MessageWriter } from './bytes.ts'
import { violation } from './violation.ts'

/** Describe and Close: about a prepared statement or a portal. */
export interface DescribeOrClose {
  readonly type: 'Describe' | 'Close'
  readonly what: 'statement' | 'portal'
  readonly name: string
}

export function decodeDescribe(type: DescribeOrClose['type'], body: Buffer): DescribeOrClose {
  const reader = new BodyReader(type, body)
  const letter = reader.byte()
  const what = letter === 0x53 ? 'statement' : letter === 0x50 ? 'portal' : undefined
  if (what === undefined) throw violation(type, 'names neither a statement nor a portal')
  const name = reader.text()
  reader.end()
  return { type, what, name }
}

export function encodeDescribe({ type, what, name }: DescribeOrClose): Buffer {
  return new MessageWriter(type === 'Describe' ? 'D' : 'C', name.length + 4)
    .byte(what === 'statement' ? 0x53 : 0x50)
    .text(name)
    .done()
}

/** ParameterDescription: OIDs of the types of a statement's parameters. */
export function decodeParameterDescription(body: Buffer): readonly number[] {
  const reader = new BodyReader('ParameterDescription', body)
  const types: number[] = []
  for (let left = reader.count(); left > 0; left--) types.push(reader.uint32())
  reader.end()
  return types
}
