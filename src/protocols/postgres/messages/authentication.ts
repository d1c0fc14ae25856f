import { MessageWriter } from './bytes.ts'

/** What a server asks of a client, or tells it, while it logs in (PostgreSQL manual, 55.7). */
export type Authentication =
  | { readonly type: 'ok' }
  | { readonly type: 'password' }
  | { readonly type: 'sasl'; readonly mechanisms: readonly string[] }
  | { readonly type: 'sasl-continue' | 'sasl-final'; readonly data: Uint8Array }

export function encodeAuthentication(message: Authentication): Buffer {
  const writer = new MessageWriter('R')
  switch (message.type) {
    case 'ok':
      return writer.int32(0).done()
    case 'password':
      return writer.int32(3).done()
    case 'sasl': {
      writer.int32(10)
      for (const mechanism of message.mechanisms) writer.text(mechanism)
      return writer.byte(0).done()
    }
    case 'sasl-continue':
      return writer.int32(11).bytes(message.data).done()
    default:
      return writer.int32(12).bytes(message.data).done()
  }
}
