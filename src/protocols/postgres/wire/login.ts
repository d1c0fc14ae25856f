/**
 * From an accepted socket to a client that is known: the first packets, TLS, the proof of who it is (PostgreSQL manual,
 * 55.2.1). Nothing of a backend is touched here, and everything is bounded: a stranger costs a socket, ten seconds and ten
 * kilobytes.
 *
 * @packageDocumentation
 */
import type { Socket } from 'node:net'
import { TLSSocket, type SecureContext } from 'node:tls'
import { SallyportError } from '../../../core/errors.ts'
import type { Principal } from '../../../core/principal.ts'
import { encodeAuthentication } from '../messages/authentication.ts'
import { decodePassword, decodeSaslInitial } from '../messages/password.ts'
import { encodeNegotiateProtocolVersion } from '../messages/session-facts.ts'
import { readStartup, type StartupPacket } from '../messages/startup.ts'
import { violation } from '../messages/violation.ts'
import { Downstream } from './downstream.ts'
import { SCRAM, ScramExchange, type ScramChallenge } from './scram.ts'

/** What a login needs of the gateway. */
export interface LoginRooms {
  /** Key and certificate, when the door has them. */
  readonly tls: () => SecureContext | undefined
  /** How clients prove who they are. */
  readonly auth: 'scram' | 'password'
  /** Whether only this machine can reach the peer's end of the socket. */
  readonly isLocal: (socket: Socket) => boolean
  scram(user: string): Promise<ScramChallenge>
  /** @throws SallyportError `ERR_UNAUTHENTICATED` */
  authenticate(token: string): Promise<Principal>
}

/** What came of the first packets. */
export type Login =
  | { readonly kind: 'cancel'; readonly processId: number; readonly key: Buffer }
  | { readonly kind: 'client'; readonly client: Downstream; readonly packet: StartupRequest }

/** A StartupMessage. */
export type StartupRequest = Extract<StartupPacket, { type: 'startup' }>

/** The newest minor version that is spoken: 3.2 brought longer cancel keys (PostgreSQL 18). */
const MINOR_MAX = 2
/** SSLRequest and GSSENCRequest may come once each, then a StartupMessage. */
const PACKETS_MAX = 3

/** Reads the packets before the first message. */
export async function readFirstPackets(accepted: Socket, rooms: LoginRooms, signal: AbortSignal): Promise<Login> {
  let socket = accepted
  let bytes: Buffer = Buffer.alloc(0)
  const asked = new Set<string>()
  for (let count = 0; count < PACKETS_MAX; count++) {
    const read = await readPacket(socket, bytes, signal)
    const { packet } = read
    bytes = read.rest
    switch (packet.type) {
      case 'cancel':
        return { kind: 'cancel', processId: packet.processId, key: packet.key }
      case 'startup':
        return { kind: 'client', client: new Downstream(socket, bytes), packet }
      case 'ssl':
      case 'gssenc': {
        // What came before the answer was not written for the encrypted connection (CVE-2021-23214).
        if (bytes.length > 0) throw violation('start-up', 'is followed by bytes nobody asked for')
        if (asked.has(packet.type)) throw violation('start-up', 'asks for the same twice')
        asked.add(packet.type)
        const context = packet.type === 'ssl' ? rooms.tls() : undefined
        if (context === undefined) socket.write('N')
        else socket = await encrypted(socket, context, signal)
        break
      }
    }
  }
  throw violation('start-up', 'comes too often')
}

/** Asks the client to prove who it is. @throws SallyportError `ERR_UNAUTHENTICATED`, `ERR_INVALID_INPUT` */
export async function authenticate(client: Downstream, packet: StartupRequest, rooms: LoginRooms): Promise<Principal> {
  const user = packet.parameters.get('user') ?? ''
  const isPrivate = client.socket instanceof TLSSocket || rooms.isLocal(client.socket)
  if (!isPrivate) throw refused('This door takes clients from other machines only over TLS; use sslmode=require.')
  const principal = rooms.auth === 'scram' ? await byScram(client, user, rooms) : await byPassword(client, user, rooms)
  if (principal.id !== user) throw wrong()
  return principal
}

/** Answers the version a client asked for. @throws SallyportError `ERR_INVALID_INPUT` */
export function negotiate(
  client: Downstream,
  { major, minor }: StartupRequest,
  unknownOptions: readonly string[],
): void {
  if (major !== 3) {
    throw new SallyportError('ERR_INVALID_INPUT', 'This gateway speaks version 3 of the protocol.', {
      facts: { sqlstate: '0A000' },
    })
  }
  if (minor <= MINOR_MAX && unknownOptions.length === 0) return
  client.write(encodeNegotiateProtocolVersion(Math.min(minor, MINOR_MAX), unknownOptions))
}

async function byScram(client: Downstream, user: string, rooms: LoginRooms): Promise<Principal> {
  const exchange = new ScramExchange(await rooms.scram(user))
  client.write(encodeAuthentication({ type: 'sasl', mechanisms: [SCRAM] }))
  const { mechanism, data } = decodeSaslInitial(await proof(client))
  if (mechanism !== SCRAM) throw violation('SASLInitialResponse', 'names a mechanism that was not offered')
  const first = exchange.first(data.toString('utf8'))
  client.write(encodeAuthentication({ type: 'sasl-continue', data: Buffer.from(first) }))
  const found = await exchange.final((await proof(client)).toString('utf8'))
  if (found === undefined) throw wrong()
  client.write(encodeAuthentication({ type: 'sasl-final', data: Buffer.from(found.message) }))
  return found.principal
}

async function byPassword(client: Downstream, _user: string, rooms: LoginRooms): Promise<Principal> {
  client.write(encodeAuthentication({ type: 'password' }))
  const token = decodePassword(await proof(client))
  try {
    return await rooms.authenticate(token)
  } catch (error) {
    if (error instanceof SallyportError && error.code === 'ERR_UNAUTHENTICATED') throw wrong()
    throw error
  }
}

async function proof(client: Downstream): Promise<Buffer> {
  await client.flush()
  const message = await client.next()
  if (message === undefined) throw new SallyportError('ERR_CANCELLED', 'The client went away.')
  if (message.type !== 'Proof') throw violation(message.type, 'comes before the client has proved who it is')
  return message.body
}

function readPacket(
  socket: Socket,
  before: Buffer,
  signal: AbortSignal,
): Promise<{ readonly packet: StartupPacket; readonly rest: Buffer }> {
  return new Promise((resolve, reject) => {
    let bytes = before
    const stop = (): void => {
      socket.off('data', onData)
      socket.off('close', onClose)
      signal.removeEventListener('abort', onAbort)
    }
    const fail = (error: unknown): void => {
      stop()
      reject(error)
    }
    const onClose = (): void => fail(new SallyportError('ERR_CANCELLED', 'The client went away.'))
    const onAbort = (): void => fail(signal.reason)
    const look = (): boolean => {
      const read = readStartup(bytes)
      if (read === undefined) return false
      stop()
      socket.pause()
      resolve({ packet: read.packet, rest: bytes.subarray(read.length) })
      return true
    }
    const onData = (piece: Buffer): void => {
      bytes = bytes.length === 0 ? piece : Buffer.concat([bytes, piece])
      try {
        look()
      } catch (error) {
        fail(error)
      }
    }
    try {
      signal.throwIfAborted()
      if (before.length > 0 && look()) return
    } catch (error) {
      reject(error)
      return
    }
    socket.on('data', onData)
    socket.on('close', onClose)
    signal.addEventListener('abort', onAbort)
    socket.resume()
  })
}

/** Answers "yes" to an SSLRequest and shakes hands. */
function encrypted(socket: Socket, secureContext: SecureContext, signal: AbortSignal): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    socket.write('S')
    const secure = new TLSSocket(socket, { isServer: true, secureContext })
    const fail = (): void => {
      secure.destroy()
      reject(new SallyportError('ERR_INVALID_INPUT', 'The TLS handshake failed.'))
    }
    secure.once('error', fail)
    secure.once('close', fail)
    signal.addEventListener('abort', fail, { once: true })
    secure.once('secure', () => {
      secure.off('error', fail)
      secure.off('close', fail)
      signal.removeEventListener('abort', fail)
      secure.pause()
      resolve(secure)
    })
  })
}

/** One answer for every proof that is wrong, whatever is wrong with it. */
function wrong(): SallyportError {
  return new SallyportError('ERR_UNAUTHENTICATED', 'The user or the token is wrong.', { facts: { sqlstate: '28P01' } })
}

function refused(message: string): SallyportError {
  return new SallyportError('ERR_UNAUTHENTICATED', message, { facts: { sqlstate: '28000' } })
}
