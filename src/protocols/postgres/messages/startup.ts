/**
 * What a client sends before anything else: a packet without a type byte (PostgreSQL manual, 55.2.1 and 55.7).
 *
 * @packageDocumentation
 */
import { BodyReader, MessageWriter } from './bytes.ts'
import { STARTUP_BYTES_MAX } from './limits.ts'
import { violation } from './violation.ts'

/** Codes in the place of a version number (`libpq/pqcomm.h`). */
const CANCEL_REQUEST = (1234 << 16) | 5678
const SSL_REQUEST = (1234 << 16) | 5679
const GSSENC_REQUEST = (1234 << 16) | 5680

/** A CancelRequest's key: 4 bytes in protocol 3.0, up to 256 in 3.2. */
const CANCEL_KEY_BYTES_MAX = 256

/** The first packet of a connection. */
export type StartupPacket =
  | { readonly type: 'ssl' }
  | { readonly type: 'gssenc' }
  | { readonly type: 'cancel'; readonly processId: number; readonly key: Buffer }
  | {
      readonly type: 'startup'
      readonly major: number
      readonly minor: number
      readonly parameters: ReadonlyMap<string, string>
    }

/**
 * Takes one packet off the front of `bytes`; `undefined` while it is not complete.
 *
 * @throws SallyportError `ERR_INVALID_INPUT` for a length that cannot be, before anything is waited for.
 */
export function readStartup(bytes: Buffer): { readonly packet: StartupPacket; readonly length: number } | undefined {
  if (bytes.length < 4) return undefined
  const length = bytes.readUInt32BE(0)
  if (length < 8 || length > STARTUP_BYTES_MAX) throw violation('start-up', 'has a length that cannot be')
  if (bytes.length < length) return undefined
  return { packet: decodeStartup(bytes.subarray(4, length)), length }
}

function decodeStartup(body: Buffer): StartupPacket {
  const reader = new BodyReader('start-up', body)
  const code = reader.uint32()
  switch (code) {
    case SSL_REQUEST:
      reader.end()
      return { type: 'ssl' }
    case GSSENC_REQUEST:
      reader.end()
      return { type: 'gssenc' }
    case CANCEL_REQUEST:
      return decodeCancel(reader)
    default:
      return { type: 'startup', major: code >>> 16, minor: code & 0xffff, parameters: readParameters(reader) }
  }
}

function decodeCancel(reader: BodyReader): StartupPacket {
  const processId = reader.int32()
  const key = reader.rest()
  if (key.length < 4 || key.length > CANCEL_KEY_BYTES_MAX) throw violation('cancel', 'has a key of the wrong length')
  return { type: 'cancel', processId, key }
}

function readParameters(reader: BodyReader): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>()
  for (let name = reader.text(); name !== ''; name = reader.text()) {
    // The first of two would count here and the last at a server, or the other way round.
    if (parameters.has(name)) throw violation('start-up', 'names a parameter twice')
    parameters.set(name, reader.text())
  }
  reader.end()
  return parameters
}

/** Encodes a packet as a client sends it. */
export function encodeStartup(packet: StartupPacket): Buffer {
  const writer = new MessageWriter('')
  switch (packet.type) {
    case 'ssl':
      return writer.uint32(SSL_REQUEST).done()
    case 'gssenc':
      return writer.uint32(GSSENC_REQUEST).done()
    case 'cancel':
      return writer.uint32(CANCEL_REQUEST).int32(packet.processId).bytes(packet.key).done()
    default: {
      writer.uint32(packet.major * 65_536 + packet.minor)
      for (const [name, value] of packet.parameters) writer.text(name).text(value)
      return writer.byte(0).done()
    }
  }
}
