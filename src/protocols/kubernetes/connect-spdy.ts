import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { Duplex } from 'node:stream'
import { SallyportError } from '../../core/errors.ts'
import { lost, REFUSAL_BYTES_MAX, unreachable } from './connect-stream-types.ts'
import type { OpenStreams, StreamRefusal, StreamRequest } from './connect-stream-types.ts'
import { CHANNEL, isStdinEnd, readFrame, V4, writeFrame, type Frame } from './streams/channels.ts'
import { Pieces } from './streams/pieces.ts'
import { SpdyConnection } from './streams/spdy-connection.ts'
import type { SpdyStream } from './streams/spdy-stream.ts'

const HANDSHAKE_MS = 30_000

/** Opens the streams of a remote command over SPDY/3.1. */
export function openSpdy(request: StreamRequest): Promise<OpenStreams | StreamRefusal> {
  return overSpdy(request, V4, async (connection, received) => {
    const { channels, input } = request
    const open = (streamtype: string): Promise<SpdyStream> => connection.open({ streamtype })
    const error = await open('error')
    const stdin = channels.stdin ? await open('stdin') : undefined
    const stdout = channels.stdout ? await open('stdout') : undefined
    const stderr = channels.stderr && !channels.tty ? await open('stderr') : undefined
    const resize = channels.tty ? await open('resize') : undefined
    if (input !== undefined) {
      send(input, stdin, resize).catch((cause: unknown) => received.fail(SallyportError.from(cause)))
    }
    return [
      passWhole(error, received),
      ...(stdout === undefined ? [] : [pass(stdout, CHANNEL.stdout, received)]),
      ...(stderr === undefined ? [] : [pass(stderr, CHANNEL.stderr, received)]),
    ]
  })
}

/** Channels of a forwarded connection. */
const DATA = 0
const ERROR = 1

/** Opens one connection to a port over SPDY/3.1, which can end each direction by itself. */
export function openSpdyPort(request: StreamRequest, port: string): Promise<OpenStreams | StreamRefusal> {
  return overSpdy(request, 'portforward.k8s.io', async (connection, received) => {
    const error = await connection.open({ streamtype: 'error', port, requestid: '0' })
    await error.end()
    const data = await connection.open({ streamtype: 'data', port, requestid: '0' })
    if (request.input !== undefined) {
      sendBytes(request.input, data).catch((cause: unknown) => received.fail(SallyportError.from(cause)))
    }
    return [pass(error, ERROR, received), pass(data, DATA, received)]
  })
}

async function sendBytes(input: AsyncIterable<Uint8Array>, data: SpdyStream): Promise<void> {
  for await (const piece of input) {
    const frame = readFrame(piece)
    if (frame?.channel === DATA) await data.write(frame.bytes)
  }
  await data.end()
}

/** Opens streams after the upgrade; `begin` returns what has to end before they are over. */
async function overSpdy(
  request: StreamRequest,
  version: string,
  begin: (connection: SpdyConnection, received: Pieces) => Promise<readonly Promise<void>[]>,
): Promise<OpenStreams | StreamRefusal> {
  const upgraded = await upgrade(request, version)
  if ('kind' in upgraded) return upgraded
  const { socket } = upgraded
  const { signal } = request
  // The server opens none.
  const connection = new SpdyConnection(socket, 'client', (stream) => void stream.reset().catch(() => undefined))
  const received = new Pieces()
  const abort = (): void => {
    received.fail(SallyportError.from(signal.reason))
    connection.close()
  }
  signal.addEventListener('abort', abort, { once: true })
  const running = connection.run()
  running.catch((cause: unknown) => received.fail(SallyportError.from(cause)))
  try {
    Promise.all(await begin(connection, received)).then(
      () => received.end(),
      (cause: unknown) => received.fail(SallyportError.from(cause)),
    )
  } catch (cause) {
    signal.removeEventListener('abort', abort)
    connection.close()
    throw signal.aborted ? SallyportError.from(signal.reason) : SallyportError.from(cause)
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
      signal.removeEventListener('abort', abort)
      received.end()
      connection.close()
    },
  }
}

async function pass(stream: SpdyStream, channel: number, received: Pieces): Promise<void> {
  for await (const piece of stream.received) await received.push(writeFrame(channel, piece))
}

/** The status of a command is one message, however the socket cut it. */
async function passWhole(stream: SpdyStream, received: Pieces): Promise<void> {
  const pieces: Uint8Array[] = []
  let bytes = 0
  for await (const piece of stream.received) {
    bytes += piece.length
    if (bytes <= REFUSAL_BYTES_MAX) pieces.push(piece)
  }
  if (pieces.length > 0) await received.push(writeFrame(CHANNEL.error, Buffer.concat(pieces)))
}

async function send(
  input: AsyncIterable<Uint8Array>,
  stdin: SpdyStream | undefined,
  resize: SpdyStream | undefined,
): Promise<void> {
  for await (const piece of input) {
    const frame = readFrame(piece)
    if (frame === undefined) continue
    if (isStdinEnd(frame)) await stdin?.end()
    else if (frame.channel === CHANNEL.stdin) await stdin?.write(frame.bytes)
    else if (frame.channel === CHANNEL.resize) await resize?.write(frame.bytes)
  }
  await stdin?.end()
}

/** Asks for the upgrade. Nothing is read as streams before the server has answered 101 (CVE-2018-1002105). */
function upgrade(
  { url, headers, tls, signal }: StreamRequest,
  version: string,
): Promise<{ socket: Duplex } | StreamRefusal> {
  return new Promise((resolve, reject) => {
    const send = url.protocol === 'http:' ? httpRequest : httpsRequest
    const sending = send(url, {
      ...tls,
      method: 'POST',
      agent: false,
      signal,
      timeout: HANDSHAKE_MS,
      headers: {
        ...headers,
        connection: 'Upgrade',
        upgrade: 'SPDY/3.1',
        'x-stream-protocol-version': version,
        'content-length': '0',
      },
    })
    sending.once('timeout', () => sending.destroy(new Error('no answer')))
    sending.once('error', (cause) => reject(signal.aborted ? SallyportError.from(signal.reason) : unreachable(cause)))
    sending.once('upgrade', (response: IncomingMessage, socket: Duplex, head: Buffer) => {
      sending.setTimeout(0)
      if (response.headers['x-stream-protocol-version'] !== version) {
        socket.destroy()
        return reject(lost('the server chose a protocol nobody offered'))
      }
      if (head.length > 0) socket.unshift(head)
      resolve({ socket })
    })
    sending.once('response', (response: IncomingMessage) => {
      const pieces: Buffer[] = []
      let bytes = 0
      response.on('data', (piece: Buffer) => {
        bytes += piece.length
        if (bytes <= REFUSAL_BYTES_MAX) pieces.push(piece)
        else response.destroy()
      })
      response.once('close', () => {
        const contentType = response.headers['content-type']
        resolve({
          kind: 'refused',
          status: response.statusCode ?? 502,
          ...(contentType !== undefined && { contentType }),
          body: Buffer.concat(pieces),
        })
      })
      response.on('error', () => undefined)
    })
    sending.end()
  })
}
