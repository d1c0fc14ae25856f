import { BodyReader, MessageWriter } from './bytes.ts'
import type { Format } from './bind.ts'
import { violation } from './violation.ts'

/** CopyData, CopyDone and CopyFail: data on its way into the server. */
export type CopyIn =
  | { readonly type: 'CopyData'; readonly data: Buffer }
  | { readonly type: 'CopyDone' }
  | { readonly type: 'CopyFail'; readonly reason: string }

export function decodeCopyFail(body: Buffer): CopyIn {
  const reader = new BodyReader('CopyFail', body)
  const reason = reader.text()
  reader.end()
  return { type: 'CopyFail', reason }
}

export function encodeCopy(message: CopyIn): Buffer {
  switch (message.type) {
    case 'CopyData':
      return new MessageWriter('d', message.data.length).bytes(message.data).done()
    case 'CopyDone':
      return new MessageWriter('c').done()
    default:
      return new MessageWriter('f', message.reason.length + 1).text(message.reason).done()
  }
}

/** CopyInResponse and CopyOutResponse: the server is ready to take data, or about to send it. */
export interface CopyResponse {
  readonly type: 'CopyInResponse' | 'CopyOutResponse'
  readonly format: Format
  readonly columnFormats: readonly Format[]
}

export function decodeCopyResponse(type: CopyResponse['type'], body: Buffer): CopyResponse {
  const reader = new BodyReader(type, body)
  const format = formatOf(type, reader.byte())
  const columnFormats: Format[] = []
  for (let left = reader.count(); left > 0; left--) columnFormats.push(formatOf(type, reader.int16()))
  reader.end()
  return { type, format, columnFormats }
}

export function encodeCopyResponse({ type, format, columnFormats }: CopyResponse): Buffer {
  const writer = new MessageWriter(type === 'CopyInResponse' ? 'G' : 'H', 8 + columnFormats.length * 2)
  writer.byte(format).count(columnFormats.length)
  for (const column of columnFormats) writer.int16(column)
  return writer.done()
}

function formatOf(message: string, value: number): Format {
  if (value !== 0 && value !== 1) throw violation(message, 'has a format that is neither text nor binary')
  return value
}
