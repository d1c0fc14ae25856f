import { BodyReader, MessageWriter } from './bytes.ts'

/** PasswordMessage: a password in the clear, so taken over TLS or loopback only. */
export function decodePassword(body: Buffer): string {
  const reader = new BodyReader('Password', body)
  const password = reader.text()
  reader.end()
  return password
}

export function encodePassword(password: string): Buffer {
  return new MessageWriter('p').text(password).done()
}

/** SASLInitialResponse: the mechanism a client chose, and what it says first. */
export interface SaslInitialResponse {
  readonly mechanism: string
  readonly data: Buffer
}

export function decodeSaslInitial(body: Buffer): SaslInitialResponse {
  const reader = new BodyReader('SASLInitialResponse', body)
  const mechanism = reader.text()
  const data = reader.value() ?? Buffer.alloc(0)
  reader.end()
  return { mechanism, data }
}
