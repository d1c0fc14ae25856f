import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocketServer, type WebSocket } from 'ws'
import { SallyportError } from '../../core/errors.ts'
import { takeInput, type AcceptRemote } from './listener-remote.ts'
import type { KubeRequest } from './request.ts'
import { CHANNEL, MESSAGE_BYTES_MAX, readFrame, V4, V5, writeFrame } from './streams/channels.ts'
import type { Pieces } from './streams/pieces.ts'

/** One for all: it only speaks the handshake, and keeps no list of who is connected. */
const server = new WebSocketServer({
  noServer: true,
  clientTracking: false,
  maxPayload: MESSAGE_BYTES_MAX,
  perMessageDeflate: false,
})

/** A client that does not answer the close gets no more time than this. */
const CLOSE_MS = 5_000

export function isWebSocket({ headers }: IncomingMessage): boolean {
  return headers.upgrade?.toLowerCase() === 'websocket'
}

/** Protocols the client offers, as it wrote them. */
export function offeredProtocols({ headers }: IncomingMessage): readonly string[] {
  return (headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())
}

/** Which protocol each request was given. */
const CHOSEN: WeakMap<IncomingMessage, string> = new WeakMap()

server.on('headers', (headers, request) => {
  const name = CHOSEN.get(request)
  if (name !== undefined) headers.push(`Sec-WebSocket-Protocol: ${name}`)
})

/**
 * Makes the connection a WebSocket in the first of the protocols that the client offers.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`
 */
export function upgradeToWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocols: readonly string[],
): Promise<WebSocket> {
  const offered = offeredProtocols(request)
  const name = protocols.find((one) => offered.includes(one))
  if (name !== undefined) CHOSEN.set(request, name)
  // Chosen here: a name with a slash, as Kubernetes has one, is none to the library (RFC 6455, section 4.1).
  delete request.headers['sec-websocket-protocol']
  return new Promise((resolve, reject) => {
    // A handshake that is none is answered by the library, which then ends the connection.
    socket.once('close', () =>
      reject(new SallyportError('ERR_INVALID_INPUT', 'The handshake of the WebSocket failed.')),
    )
    server.handleUpgrade(request, socket, head, (opened) => {
      opened.binaryType = 'nodebuffer'
      resolve(opened)
    })
  })
}

/** Prepares the streams of a command over WebSocket. @throws SallyportError `ERR_INVALID_INPUT` */
export function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  read: KubeRequest,
): (input: Pieces) => Promise<AcceptRemote> {
  const offered = offeredProtocols(request)
  if (!offered.includes(V5) && !offered.includes(V4)) {
    throw new SallyportError('ERR_INVALID_INPUT', `The WebSocket must offer ${V5} or ${V4}.`)
  }
  return async (input) => overWebSocket(await upgradeToWebSocket(request, socket, head, [V5, V4]), input, read)
}

function overWebSocket(socket: WebSocket, input: Pieces, read: KubeRequest): AcceptRemote {
  socket.on('error', () => undefined)
  let isViolated = false
  let taking = Promise.resolve()
  const violated = (): void => {
    if (!isViolated) void closed(socket, POLICY_VIOLATION)
    isViolated = true
  }
  socket.on('message', (data: Buffer) => {
    const frame = isViolated ? undefined : readFrame(data)
    if (frame === undefined) return
    socket.pause()
    // One after the other: several may come at once, and what is behind one that was not asked for is not taken either.
    taking = taking.then(() => takeInput(frame, input, read))
    taking.then(() => socket.resume(), violated)
  })
  socket.once('close', () => input.end())
  const finish = async (status: object): Promise<void> => {
    await sent(socket, writeFrame(CHANNEL.error, Buffer.from(JSON.stringify(status))))
    await closed(socket)
  }
  return {
    write: (channel, bytes) => sent(socket, writeFrame(CHANNEL[channel], bytes)),
    finish,
    destroy: () => socket.terminate(),
  }
}

/** Why a WebSocket is closed (RFC 6455, section 7.4.1). */
const NORMAL = 1000
const POLICY_VIOLATION = 1008

/** Sends a message; resolves when it is on its way. */
export function sent(socket: WebSocket, message: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(message, { binary: true }, (error) => {
      if (error === undefined || error === null) resolve()
      else reject(new SallyportError('ERR_CANCELLED', 'The client went away.', { cause: error }))
    })
  })
}

async function closed(socket: WebSocket, code = NORMAL): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => socket.terminate(), CLOSE_MS)
    timer.unref()
    socket.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
    socket.close(code)
    // Paused it would not read that the client closes as well.
    socket.resume()
  })
}
