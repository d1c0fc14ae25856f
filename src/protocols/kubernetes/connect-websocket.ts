import type { IncomingMessage } from 'node:http'
import { WebSocket } from 'ws'
import { SallyportError } from '../../core/errors.ts'
import { mapError, withoutEffect } from './connect-errors.ts'
import { lost, REFUSAL_BYTES_MAX } from './connect-stream-types.ts'
import type { OpenStreams, StreamRefusal, StreamRequest } from './connect-stream-types.ts'
import { isStdinEnd, MESSAGE_BYTES_MAX, readFrame, STDIN_END, V5, type Frame } from './streams/channels.ts'
import { Pieces } from './streams/pieces.ts'

/** How long a server may take to answer the upgrade; a command that was admitted starts at once. */
const HANDSHAKE_MS = 30_000

/** Opens a WebSocket in one of the protocols. */
export function openWebSocket(
  request: StreamRequest,
  protocols: readonly string[],
): Promise<OpenStreams | StreamRefusal> {
  const { url, headers, tls, signal } = request
  const secure = new URL(url)
  secure.protocol = url.protocol === 'http:' ? 'ws:' : 'wss:'
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(withoutEffect(undefined, signal))
    const socket = new WebSocket(secure, [...protocols], {
      ...tls,
      headers: { ...headers },
      handshakeTimeout: HANDSHAKE_MS,
      maxPayload: MESSAGE_BYTES_MAX,
      perMessageDeflate: false,
      followRedirects: false,
    })
    socket.binaryType = 'nodebuffer'
    const abort = (): void => {
      socket.terminate()
      reject(SallyportError.from(signal.reason))
    }
    signal.addEventListener('abort', abort, { once: true })
    // From the first moment: a server may send before anybody asked.
    const received = receive(socket)
    socket.once('error', (cause) => {
      signal.removeEventListener('abort', abort)
      // A server may have begun to run what was asked for, and then not have come to say so.
      reject(mapError(cause, signal, false))
    })
    socket.once('unexpected-response', (_request, response: IncomingMessage) => {
      signal.removeEventListener('abort', abort)
      // A refusal may come as slowly as it likes; whoever waits for it may leave.
      const leave = (): void => void response.destroy()
      if (signal.aborted) leave()
      else signal.addEventListener('abort', leave, { once: true })
      refusal(response)
        .then(resolve, (cause: unknown) => reject(signal.aborted ? SallyportError.from(signal.reason) : lost(cause)))
        .finally(() => signal.removeEventListener('abort', leave))
    })
    socket.once('open', () => {
      signal.removeEventListener('abort', abort)
      resolve(opened(socket, request, received))
    })
  })
}

async function refusal(response: IncomingMessage): Promise<StreamRefusal> {
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of response as AsyncIterable<Buffer>) {
    pieces.push(piece)
    bytes += piece.length
    if (bytes > REFUSAL_BYTES_MAX) break
  }
  response.destroy()
  const contentType = response.headers['content-type']
  return {
    kind: 'refused',
    status: response.statusCode ?? 502,
    ...(contentType !== undefined && { contentType }),
    body: Buffer.concat(pieces).subarray(0, REFUSAL_BYTES_MAX),
  }
}

/** Collects messages, and stops reading from the socket while too many wait. */
function receive(socket: WebSocket): Pieces {
  const received = new Pieces()
  socket.on('message', (data: Buffer) => {
    socket.pause()
    void received.push(data).then(() => socket.resume())
  })
  socket.once('close', (code: number) => {
    // 1000 is a good end; some servers end by closing without a word.
    if (code === 1000 || code === 1005) received.end()
    else received.fail(lost())
  })
  return received
}

function opened(socket: WebSocket, request: StreamRequest, received: Pieces): OpenStreams {
  const { signal, input } = request
  const abort = (): void => {
    received.fail(SallyportError.from(signal.reason))
    socket.terminate()
  }
  socket.on('error', (cause) => received.fail(lost(cause)))
  if (signal.aborted) abort()
  else signal.addEventListener('abort', abort, { once: true })
  const sending = new AbortController()
  if (input !== undefined) {
    send(socket, input, sending.signal).catch((cause: unknown) => {
      if (!sending.signal.aborted) received.fail(SallyportError.from(cause))
    })
  }
  return {
    kind: 'open',
    async *frames(): AsyncGenerator<Frame, void, undefined> {
      for await (const piece of received) {
        const frame = readFrame(piece)
        if (frame !== undefined) yield frame
      }
    },
    close() {
      sending.abort()
      signal.removeEventListener('abort', abort)
      if (socket.readyState === WebSocket.OPEN) socket.close(1000)
      // A server that does not answer the close must not keep the connection.
      else socket.terminate()
      setTimeout(() => socket.terminate(), CLOSE_MS).unref()
    },
  }
}

const CLOSE_MS = 1_000
const HALF_CLOSED_MS = 5_000

async function send(socket: WebSocket, input: AsyncIterable<Uint8Array>, stop: AbortSignal): Promise<void> {
  let hasEnded = false
  for await (const piece of input) {
    if (stop.aborted || socket.readyState !== WebSocket.OPEN) return
    const frame = readFrame(piece)
    if (frame === undefined) continue
    hasEnded ||= isStdinEnd(frame)
    await sent(socket, piece)
  }
  if (hasEnded || stop.aborted || socket.readyState !== WebSocket.OPEN) return
  if (socket.protocol === V5) await sent(socket, STDIN_END)
  // Version 4 cannot say it. What the other side still has to say gets a while, and then both directions end.
  else setTimeout(() => socket.close(1000), HALF_CLOSED_MS).unref()
}

function sent(socket: WebSocket, piece: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(piece, { binary: true }, (error) =>
      error === undefined || error === null ? resolve() : reject(lost(error)),
    )
  })
}
