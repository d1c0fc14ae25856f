import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { SallyportError } from '../../core/errors.ts'
import { headerValues } from '../../core/http-head.ts'
import { takeInput, type AcceptRemote } from './listener-remote.ts'
import type { KubeRequest } from './request.ts'
import { CHANNEL, V4, V5 } from './streams/channels.ts'
import type { Pieces } from './streams/pieces.ts'
import { SpdyConnection } from './streams/spdy-connection.ts'
import type { SpdyStream } from './streams/spdy-stream.ts'

/** How long a client may take to open the streams it asked for. */
const STREAMS_MS = 30_000

export function isSpdy({ headers }: IncomingMessage): boolean {
  return headers.upgrade?.toLowerCase() === 'spdy/3.1'
}

/** Versions of what the streams carry, as the client offers them. */
export function offeredVersions({ rawHeaders }: IncomingMessage): readonly string[] {
  return headerValues(rawHeaders, 'x-stream-protocol-version').flatMap((value) =>
    value.split(',').map((name) => name.trim()),
  )
}

/** Makes the connection a SPDY one that carries `version`. */
export function upgradeToSpdy(
  socket: Duplex,
  head: Buffer,
  version: string,
  onStream: (stream: SpdyStream) => void,
): SpdyConnection {
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${version}\r\n\r\n`,
  )
  if (head.length > 0) socket.unshift(head)
  return new SpdyConnection(socket, 'server', onStream)
}

/** Prepares the streams of a command over SPDY. @throws SallyportError `ERR_INVALID_INPUT` */
export function acceptSpdy(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  read: KubeRequest,
): (input: Pieces) => Promise<AcceptRemote> {
  const offered = offeredVersions(request)
  const version = [V5, V4].find((name) => offered.includes(name))
  if (version === undefined) throw new SallyportError('ERR_INVALID_INPUT', `The streams must be ${V5} or ${V4}.`)
  return (input) => overSpdy(socket, head, version, input, read)
}

async function overSpdy(
  socket: Duplex,
  head: Buffer,
  version: string,
  input: Pieces,
  read: KubeRequest,
): Promise<AcceptRemote> {
  const wanted = wantedStreams(read)
  const streams = new Map<string, SpdyStream>()
  let complete: () => void = () => undefined
  const opened = new Promise<void>((resolve) => (complete = resolve))
  const connection = upgradeToSpdy(socket, head, version, (stream) => {
    const type = stream.headers['streamtype'] ?? ''
    // What was not asked for was not judged.
    if (!wanted.includes(type) || streams.has(type)) {
      void stream.reset().catch(() => undefined)
      return
    }
    streams.set(type, stream)
    void connection.accept(stream).catch(() => undefined)
    if (streams.size === wanted.length) complete()
  })
  const running = connection.run()
  running.catch(() => undefined).finally(() => input.end())
  await within(Promise.race([opened, running]), () => connection.close())
  if (streams.size < wanted.length) {
    connection.close()
    throw new SallyportError('ERR_CANCELLED', 'The client opened less than it asked for.')
  }
  void passInput(streams, input, read).catch(() => connection.close())
  return {
    write: (channel, bytes) => streams.get(channel)?.write(bytes) ?? Promise.resolve(),
    async finish(status) {
      const error = streams.get('error')
      await error?.write(Buffer.from(JSON.stringify(status)))
      for (const stream of streams.values()) await stream.end()
      await connection.end()
    },
    destroy: () => connection.close(),
  }
}

function wantedStreams({ stdin, tty, query }: KubeRequest): readonly string[] {
  const asks = (name: string): boolean => query.some(([key, value]) => key === name && value === 'true')
  return [
    'error',
    ...(stdin === true ? ['stdin'] : []),
    ...(asks('stdout') ? ['stdout'] : []),
    ...(asks('stderr') && tty !== true ? ['stderr'] : []),
    ...(tty === true ? ['resize'] : []),
  ]
}

async function passInput(streams: ReadonlyMap<string, SpdyStream>, input: Pieces, read: KubeRequest): Promise<void> {
  const pass = async (type: 'stdin' | 'resize'): Promise<void> => {
    for await (const bytes of streams.get(type)?.received ?? []) {
      await takeInput({ channel: CHANNEL[type], bytes }, input, read)
    }
  }
  await Promise.all([pass('stdin').then(() => (streams.has('stdin') ? input.end() : undefined)), pass('resize')])
}

async function within(what: Promise<unknown>, giveUp: () => void): Promise<void> {
  const timer = setTimeout(giveUp, STREAMS_MS)
  try {
    await what.catch(() => undefined)
  } finally {
    clearTimeout(timer)
  }
}
