/**
 * What the doors need of ssh2 beyond its documented interface, all of it here. The version is pinned exactly, and a test
 * fails when what is read here is no longer there.
 *
 * @packageDocumentation
 */
import type { Client, Connection, SFTPWrapper } from 'ssh2'

/** What reads the messages of a transfer. */
export interface Parser {
  push(data: Buffer | null): unknown
}

/**
 * Keeps what the library throws over a malformed packet from ending more than its own connection.
 *
 * @param wrap what stands before the library's parser.
 */
export function guardParser(sftp: unknown, end: () => void, wrap?: (push: Parser['push']) => Parser): void {
  const parser = sftp as Parser
  const inner = parser.push.bind(parser)
  const outer = wrap?.(inner)
  const push = outer === undefined ? inner : outer.push.bind(outer)
  parser.push = (data) => {
    try {
      return push(data)
    } catch {
      end()
      return true
    }
  }
}

/** Says that the subsystem ended with 0, which the library has no words for here. */
export function exitWell(sftp: SFTPWrapper): void {
  const { _protocol: protocol, outgoing } = sftp as unknown as {
    readonly _protocol: { exitStatus(channel: number, status: number): void }
    readonly outgoing: { readonly id: number; readonly state: string }
  }
  if (outgoing.state === 'open') protocol.exitStatus(outgoing.id, 0)
}

/** How many answers wait because the client's window is full. */
export function unsentAnswers(sftp: SFTPWrapper): number {
  return (sftp as unknown as { readonly _buffer: readonly unknown[] })._buffer.length
}

/** Smallest packets a peer may ask for. Everybody must take 32,768 bytes (RFC 4253, section 6.1). */
const PACKET_BYTES_MIN = 1024

/**
 * Ends a connection whose peer wants tiny packets on a channel. With a size of 0 the library would cut what it sends into
 * pieces of nothing for ever, and with a size of 1 each byte would cost a packet.
 */
export function refuseTinyPackets(peer: Client | Connection, end: () => void): void {
  const { _handlers: handlers } = (peer as unknown as { readonly _protocol: { readonly _handlers: Handlers } })
    ._protocol
  for (const name of ['CHANNEL_OPEN', 'CHANNEL_OPEN_CONFIRMATION'] as const) {
    const handle = handlers[name]
    handlers[name] = (protocol, info) => {
      if (info.packetSize < PACKET_BYTES_MIN) end()
      else handle?.(protocol, info)
    }
  }
}

/** What may wait for new keys. An honest peer agrees on them at once, and leaves at most its windows full till then. */
const QUEUED = { bytes: 32 * 1024 * 1024, packets: 65_536 } as const

/**
 * Ends a connection for which too much waits for new keys. While keys are exchanged the library keeps all it would send,
 * however much, and goes on answering: a peer that begins an exchange and never ends it would fill the memory.
 */
export function boundQueue(peer: Client | Connection, end: () => void): void {
  const { _protocol: protocol } = peer as unknown as { readonly _protocol: Queueing }
  let bytes = 0
  let packets = 0
  const watch = (): void => {
    bytes = 0
    packets = 0
    const writer = protocol._packetRW.write
    const finalize = writer.finalize.bind(writer)
    writer.finalize = (packet, isOfExchange) => {
      if (protocol._kexinit !== undefined && isOfExchange !== true) {
        bytes += packet.length
        packets += 1
        if (bytes > QUEUED.bytes || packets > QUEUED.packets) end()
      }
      return finalize(packet, isOfExchange)
    }
  }
  watch()
  // Each exchange brings a new writer, and what waited is sent.
  peer.on('handshake', watch)
}

interface Queueing {
  readonly _kexinit: unknown
  readonly _packetRW: { readonly write: { finalize(packet: Buffer, isOfExchange?: boolean): Buffer } }
}

type Handlers = Record<
  'CHANNEL_OPEN' | 'CHANNEL_OPEN_CONFIRMATION',
  ((protocol: unknown, info: { readonly packetSize: number }) => void) | undefined
>

const opened = new WeakMap<Client, number>()

/** Counts from now on the channels a host opens for us. */
export function countChannels(client: Client): void {
  const { _handlers: handlers } = (client as unknown as { readonly _protocol: { readonly _handlers: Handlers } })
    ._protocol
  const handle = handlers.CHANNEL_OPEN_CONFIRMATION
  handlers.CHANNEL_OPEN_CONFIRMATION = (protocol, info) => {
    opened.set(client, channelsOpened(client) + 1)
    handle?.(protocol, info)
  }
}

/** How many channels a host opened since they are counted. */
export function channelsOpened(client: Client): number {
  return opened.get(client) ?? 0
}

/** What is looked at of a socket. */
export interface Outlet {
  readonly writableLength: number
  readonly destroyed: boolean
  cork(): void
  uncork(): void
  once(event: 'drain' | 'close', listener: () => void): unknown
  removeListener(event: 'drain' | 'close', listener: () => void): unknown
}

/** The socket under a client's connection. */
export function socketOf(client: Client): Outlet {
  return (client as unknown as { readonly _sock: Outlet })._sock
}

/** Puts what `run` sends into the socket at once: the library writes each packet by itself. */
export function together<T>(socket: Outlet, run: () => T): T {
  socket.cork()
  try {
    return run()
  } finally {
    socket.uncork()
  }
}

/** The same for all that is sent before the event loop turns, also by whoever waits for a promise now. */
export function togetherInTurn(socket: Outlet): void {
  socket.cork()
  setImmediate(() => socket.uncork())
}

/** What tells that something came. */
interface Inlet {
  on(event: 'data', listener: () => void): unknown
  removeListener(event: 'data', listener: () => void): unknown
}

/** Calls back whenever something came over a client's connection, after it was read. Returns how to stop. */
export function onReceived(client: Client, listener: () => void): () => void {
  const socket = (client as unknown as { readonly _sock: Inlet })._sock
  socket.on('data', listener)
  return () => void socket.removeListener('data', listener)
}

/** What may wait in a socket before nothing more is put there. */
const WAITING_BYTES_MAX = 1024 * 1024

/**
 * Resolves when little enough waits in the socket. The library holds back only what does not fit the peer's window, and a
 * peer may claim any window and then not read.
 */
export async function roomIn(socket: Outlet): Promise<void> {
  while (socket.writableLength > WAITING_BYTES_MAX && !socket.destroyed) {
    await new Promise<void>((resolve) => {
      const over = (): void => {
        socket.removeListener('drain', over)
        socket.removeListener('close', over)
        resolve()
      }
      socket.once('drain', over)
      socket.once('close', over)
    })
  }
}
