/**
 * How content of files goes through ssh2 with fewer copies and less memory that is used once. Everything here changes how
 * fast bytes move, never which: what it does not recognise it leaves to the library. Like `library.ts` it knows the
 * library from within, and the same test fails when that changes.
 *
 * @packageDocumentation
 */
import { randomFillSync } from 'node:crypto'
import type { Client, Connection, SFTPWrapper } from 'ssh2'
import type { Outlet } from './library.ts'

/** Memory for packets on their way out of one connection; two batches of an upload. */
const OUTGOING_BYTES = 1152 * 1024
/** Packets below this are not worth keeping memory for. */
const LARGE_PACKET_BYTES = 4096
/** Random bytes that are drawn at once. A packet takes at most 19. */
const PADDING_BYTES = 8192
/** What AES-GCM appends to a packet. */
const TAG_BYTES = 16

interface Cipher {
  allocPacket(payloadLength: number): Buffer
}

/**
 * Builds packets of a connection in memory that is used again, and draws their padding many packets at a time: the
 * library allocates each one and asks the system for its padding, which costs more than to encrypt it.
 */
export function packFast(peer: Client | Connection, socket: () => Outlet): void {
  const { _protocol: protocol } = peer as unknown as { readonly _protocol: { readonly _cipher: Cipher } }
  const memory = new Memory(socket)
  // Each exchange of keys brings a new cipher.
  peer.on('handshake', () => {
    const cipher = protocol._cipher
    if (cipher.constructor.name !== 'AESGCMCipherBinding') return
    cipher.allocPacket = (payloadLength) => memory.packet(payloadLength)
  })
}

/** Memory for the packets of one connection. */
class Memory {
  readonly #socket: () => Outlet
  #packets = Buffer.alloc(0)
  #used = 0
  #padding = Buffer.alloc(0)
  #drawn = 0

  constructor(socket: () => Outlet) {
    this.#socket = socket
  }

  /** Room for a packet with its length and padding in place (RFC 4253, section 6; RFC 5647, section 7.2). */
  packet(payloadLength: number): Buffer {
    let paddingLength = 16 - ((1 + payloadLength) & 15)
    if (paddingLength < 4) paddingLength += 16
    const length = 1 + payloadLength + paddingLength
    const packet = this.#take(4 + length + TAG_BYTES)
    packet.writeUInt32BE(length, 0)
    packet[4] = paddingLength
    this.#pad(packet, 5 + payloadLength, paddingLength)
    return packet
  }

  #take(bytes: number): Buffer {
    if (bytes < LARGE_PACKET_BYTES) return Buffer.allocUnsafe(bytes)
    if (this.#packets.length === 0) this.#packets = Buffer.allocUnsafeSlow(OUTGOING_BYTES)
    // INVARIANT: a packet is encrypted and given to the socket before the next is built, and a socket in which nothing
    // waits has handed all of them to the system. Only then is their memory used again.
    if (this.#socket().writableLength === 0) this.#used = 0
    if (this.#used + bytes > this.#packets.length) return Buffer.allocUnsafe(bytes)
    const packet = this.#packets.subarray(this.#used, this.#used + bytes)
    this.#used += bytes
    return packet
  }

  #pad(packet: Buffer, from: number, length: number): void {
    if (this.#drawn + length > this.#padding.length) {
      this.#padding = randomFillSync(Buffer.allocUnsafeSlow(PADDING_BYTES))
      this.#drawn = 0
    }
    this.#padding.copy(packet, from, this.#drawn, this.#drawn + length)
    this.#drawn += length
  }
}

/** What is known of a transfer's channel. */
interface Transfer {
  readonly outgoing: { readonly id: number; readonly state: string; readonly packetSize: number; window: number }
  readonly _buffer: readonly unknown[]
  readonly _requests: Record<number, { readonly cb: (error?: Error) => void }>
  readonly _protocol: { channelData(channel: number, data: Buffer): void }
  readonly _maxWriteLen: number
  _writeReqid: number
}

/** `SSH_FXP_WRITE` (draft-ietf-secsh-filexfer-02, section 6.4). */
const WRITE = 6

/**
 * Asks a host to write. The bytes go from where they are into packets; the library copies them together with what stands
 * before them first.
 */
export function writeAt(
  sftp: SFTPWrapper,
  handle: Buffer,
  data: Buffer,
  at: number,
  done: (error: Error | null | undefined) => void,
): void {
  const transfer = sftp as unknown as Transfer
  const { outgoing } = transfer
  const headLength = 4 + 1 + 4 + 4 + handle.length + 8 + 4
  const fits =
    outgoing.state === 'open' &&
    transfer._buffer.length === 0 &&
    data.length > 0 &&
    data.length <= transfer._maxWriteLen &&
    // What would wait for the host to take more is the library's to keep.
    outgoing.window > headLength + data.length
  if (!fits) {
    sftp.write(handle, data, 0, data.length, at, done)
    return
  }
  transfer._writeReqid = (transfer._writeReqid + 1) >>> 0
  const head = Buffer.allocUnsafe(headLength)
  head.writeUInt32BE(headLength - 4 + data.length, 0)
  head[4] = WRITE
  head.writeUInt32BE(transfer._writeReqid, 5)
  head.writeUInt32BE(handle.length, 9)
  head.set(handle, 13)
  head.writeBigUInt64BE(BigInt(at), 13 + handle.length)
  head.writeUInt32BE(data.length, headLength - 4)
  transfer._requests[transfer._writeReqid] = { cb: done }
  outgoing.window -= headLength + data.length
  transfer._protocol.channelData(outgoing.id, head)
  for (let from = 0; from < data.length; from += outgoing.packetSize) {
    transfer._protocol.channelData(outgoing.id, data.subarray(from, from + outgoing.packetSize))
  }
}

/** Writes that follow each other are gathered in as much memory at most. */
const GATHERED_BYTES = 512 * 1024
/** Smaller writes are left to the library: their bytes lie in what was received anyway. */
const LARGE_WRITE_BYTES = 8 * 1024
/** Longest message OpenSSH and the library take. */
const MESSAGE_BYTES_MAX = 256 * 1024
/** Longest handle that is looked for; the door's own have a few digits. */
const HANDLE_BYTES_MAX = 32
/** What stands before the bytes of a write whose handle is that long. */
const HEAD_BYTES_MAX = 4 + 1 + 4 + 4 + HANDLE_BYTES_MAX + 8 + 4

/** A write of a client, all of it but its bytes. */
interface WriteHead {
  readonly headLength: number
  readonly id: number
  readonly handle: Buffer
  readonly offset: number
  readonly length: number
}

/**
 * Reads what a client writes straight to where it stays: writes that follow each other lie one behind the other in
 * memory. The library would put each together by itself. Everything else is given on to `push` as it came.
 */
export class Gathering {
  readonly #sftp: SFTPWrapper
  readonly #push: (data: Buffer | null) => unknown
  /** The beginning of a message of which not enough came to tell what it is. */
  #begun: Buffer = Buffer.alloc(0)
  /** Bytes of a message that are the library's and are still to come. */
  #others = 0
  #current: { readonly head: WriteHead; readonly bytes: Buffer; filled: number } | undefined
  /** Where the bytes of a write go that follows the one before. */
  #run: { readonly handle: string; readonly next: number; readonly memory: Buffer; readonly used: number } | undefined

  constructor(sftp: SFTPWrapper, push: (data: Buffer | null) => unknown) {
    this.#sftp = sftp
    this.#push = push
  }

  push(data: Buffer | null): unknown {
    if (data === null) return this.#push(data)
    let left = this.#begun.length === 0 ? data : Buffer.concat([this.#begun, data])
    this.#begun = EMPTY
    while (left.length > 0) {
      if (this.#current !== undefined) left = this.#fill(this.#current, left)
      else if (this.#others > 0) left = this.#pass(left)
      else {
        const read = this.#begin(left)
        if (read === undefined) {
          this.#begun = Buffer.from(left)
          break
        }
        left = read
      }
    }
    return undefined
  }

  /** Reads how a message begins, and returns what follows of it; nothing when more must come to tell. */
  #begin(data: Buffer): Buffer | undefined {
    if (data.length < 4) return undefined
    const length = data.readUInt32BE(0)
    if (length === 0 || length > MESSAGE_BYTES_MAX) {
      // The library ends a transfer with such a message.
      this.#others = data.length
      return data
    }
    if (data.length < 5) return undefined
    if (data[4] === WRITE && length >= LARGE_WRITE_BYTES) {
      if (data.length < HEAD_BYTES_MAX) return undefined
      const head = headOf(data, length)
      if (head !== undefined && (this.#sftp as unknown as { readonly _version: number })._version >= 0) {
        this.#current = { head, bytes: this.#room(head), filled: 0 }
        return data.subarray(head.headLength)
      }
    }
    this.#others = 4 + length
    return data
  }

  #pass(data: Buffer): Buffer {
    const some = data.subarray(0, this.#others)
    this.#others -= some.length
    this.#push(some)
    return data.subarray(some.length)
  }

  #fill(current: { readonly head: WriteHead; readonly bytes: Buffer; filled: number }, data: Buffer): Buffer {
    const some = data.subarray(0, current.bytes.length - current.filled)
    current.bytes.set(some, current.filled)
    current.filled += some.length
    if (current.filled === current.bytes.length) {
      this.#current = undefined
      const { id, handle, offset } = current.head
      this.#sftp.emit('WRITE', id, handle, offset, current.bytes)
    }
    return data.subarray(some.length)
  }

  /**
   * Room for the bytes of a write. Memory is shared only with writes right before it in the same file, and what is taken
   * grows with them: a write that waits keeps no more than twice what waits with it.
   */
  #room({ handle, offset, length }: WriteHead): Buffer {
    const name = handle.toString('latin1')
    const run = this.#run
    const follows = run !== undefined && run.handle === name && run.next === offset
    let memory: Buffer
    let used = 0
    if (follows && run.used + length <= run.memory.length) ({ memory, used } = run)
    else {
      const size = follows ? Math.min(Math.max(2 * run.memory.length, length), GATHERED_BYTES) : length
      memory = Buffer.allocUnsafeSlow(size)
    }
    this.#run = { handle: name, next: offset + length, memory, used: used + length }
    return memory.subarray(used, used + length)
  }
}

const EMPTY = Buffer.alloc(0)

/** Returns what a write says, or nothing for one that is the library's to judge: malformed, or of an unusual form. */
function headOf(data: Buffer, length: number): WriteHead | undefined {
  const handleLength = data.readUInt32BE(9)
  if (handleLength > HANDLE_BYTES_MAX) return undefined
  const headLength = 4 + 1 + 4 + 4 + handleLength + 8 + 4
  const bytes = data.readUInt32BE(headLength - 4)
  if (headLength + bytes !== 4 + length || bytes === 0) return undefined
  const offset = data.readBigUInt64BE(headLength - 12)
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
  const handle = Buffer.from(data.subarray(13, 13 + handleLength))
  return { headLength, id: data.readUInt32BE(5), handle, offset: Number(offset), length: bytes }
}

/** The pieces as one: without a copy where each lies behind the one before. */
export function joined(pieces: readonly Buffer[]): Buffer {
  const [first] = pieces
  if (first === undefined) return EMPTY
  let end = first.byteOffset
  for (const piece of pieces) {
    if (piece.buffer !== first.buffer || piece.byteOffset !== end) return Buffer.concat(pieces)
    end += piece.length
  }
  return Buffer.from(first.buffer, first.byteOffset, end - first.byteOffset)
}
