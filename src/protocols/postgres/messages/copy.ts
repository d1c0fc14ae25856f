import { BodyReader, MessageWriter } from './bytes.ts'

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
