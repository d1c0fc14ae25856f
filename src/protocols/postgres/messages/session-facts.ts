/**
 * What a server tells of the session itself: BackendKeyData, ParameterStatus, NegotiateProtocolVersion, ReadyForQuery,
 * NotificationResponse.
 *
 * @packageDocumentation
 */
import { BodyReader, MessageWriter } from './bytes.ts'
import { violation } from './violation.ts'

export function encodeBackendKeyData(processId: number, key: Uint8Array): Buffer {
  return new MessageWriter('K').int32(processId).bytes(key).done()
}

export function decodeBackendKeyData(body: Buffer): { readonly processId: number; readonly key: Buffer } {
  const reader = new BodyReader('BackendKeyData', body)
  return { processId: reader.int32(), key: reader.rest() }
}

/** A setting the server reports whenever it changes. */
export interface ParameterStatus {
  readonly name: string
  readonly value: string
}

export function encodeParameterStatus({ name, value }: ParameterStatus): Buffer {
  return new MessageWriter('S', name.length + value.length + 4).text(name).text(value).done()
}

export function decodeParameterStatus(body: Buffer): ParameterStatus {
  const reader = new BodyReader('ParameterStatus', body)
  const name = reader.text()
  const value = reader.text()
  reader.end()
  return { name, value }
}

/** Tells a client that asked for more which protocol is spoken, and which of its options nobody knows. */
export function encodeNegotiateProtocolVersion(minor: number, unknownOptions: readonly string[]): Buffer {
  const writer = new MessageWriter('v').int32(3 * 65_536 + minor).int32(unknownOptions.length)
  for (const option of unknownOptions) writer.text(option)
  return writer.done()
}

/** Idle, in a transaction, or in a failed one. */
export type TransactionStatus = 'I' | 'T' | 'E'

const READY = {
  I: new MessageWriter('Z').byte(0x49).done(),
  T: new MessageWriter('Z').byte(0x54).done(),
  E: new MessageWriter('Z').byte(0x45).done(),
} as const

export function encodeReadyForQuery(status: TransactionStatus): Buffer {
  return READY[status]
}

export function decodeReadyForQuery(body: Buffer): TransactionStatus {
  const reader = new BodyReader('ReadyForQuery', body)
  const status = String.fromCharCode(reader.byte())
  reader.end()
  if (status === 'I' || status === 'T' || status === 'E') return status
  throw violation('ReadyForQuery', 'has a status that cannot be')
}

/** Somebody's NOTIFY. */
export interface Notification {
  readonly processId: number
  readonly channel: string
  readonly payload: string
}

export function encodeNotification({ processId, channel, payload }: Notification): Buffer {
  return new MessageWriter('A', channel.length + payload.length + 8).int32(processId).text(channel).text(payload).done()
}

export function decodeNotification(body: Buffer): Notification {
  const reader = new BodyReader('NotificationResponse', body)
  const processId = reader.int32()
  const channel = reader.text()
  const payload = reader.text()
  reader.end()
  return { processId, channel, payload }
}
