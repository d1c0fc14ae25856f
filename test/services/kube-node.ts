/**
 * A node that runs nothing: it takes every pod, says it is running, and answers logs, exec, attach and port-forward from
 * a table, over TLS and WebSocket, the way a kubelet does (channels of `v4.channel.k8s.io` and `v5.channel.k8s.io`).
 */
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { Duplex } from 'node:stream'
import { WebSocketServer, type WebSocket } from 'ws'
import { SpdyConnection } from '../../src/protocols/kubernetes/streams/spdy-connection.ts'
import type { SpdyStream } from '../../src/protocols/kubernetes/streams/spdy-stream.ts'
import { privateKubeApi, type KubeApi } from './kube-api.ts'

/** What one command of a container does. */
export type Program = (io: ProgramIo) => Promise<number>

/** What a command is given. */
export interface ProgramIo {
  readonly argv: readonly string[]
  readonly pod: string
  /** Standard input as it comes; it ends when the caller's does. */
  readonly stdin: AsyncIterable<Buffer>
  /** Sizes of the terminal that were told, as JSON. */
  readonly sizes: readonly string[]
  readonly out: (text: string | Buffer) => void
  readonly err: (text: string | Buffer) => void
}

/** The node of one control plane. */
export interface KubeNode {
  readonly name: string
  /** By first word. */
  readonly programs: Map<string, Program>
  /** Lines of a container, by `pod` or `pod/container`; others have two lines. */
  readonly logs: Map<string, readonly string[]>
  /** Whatever a connection to a forwarded port is answered with, by port. */
  readonly ports: Map<number, (received: Buffer) => Buffer>
  /** Requests it has seen: method and path. */
  readonly seen: string[]
  close(): Promise<void>
}

export interface KubeNodeOptions {
  readonly key: string
  readonly cert: string
  readonly api: KubeApi
}

/** Starts the node and registers it. */
export async function openKubeNode({ key, cert, api }: KubeNodeOptions): Promise<KubeNode> {
  const name = 'node-1'
  const programs = new Map<string, Program>(PROGRAMS)
  const logs = new Map<string, readonly string[]>()
  const ports = new Map<number, (received: Buffer) => Buffer>()
  const seen: string[] = []
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) =>
      ['v5.channel.k8s.io', 'v4.channel.k8s.io'].find((known) => offered.has(known)) ?? false,
  })
  const server = createServer({ key, cert }, (request, response) => {
    const url = new URL(request.url ?? '/', 'https://node')
    seen.push(`${request.method ?? ''} ${url.pathname}`)
    const [, kind, , pod = '', container = ''] = url.pathname.split('/')
    if (kind !== 'containerLogs') {
      response.writeHead(404).end()
      return
    }
    const lines = logs.get(`${pod}/${container}`) ?? logs.get(pod) ?? [`hello from ${pod}`, 'second line']
    const tail = url.searchParams.get('tailLines')
    const shown = tail === null ? lines : lines.slice(lines.length - Math.min(lines.length, Number(tail)))
    response.writeHead(200, { 'content-type': 'text/plain' })
    for (const line of shown) response.write(`${line}\n`)
    // A log that is followed goes on until its reader leaves.
    if (url.searchParams.get('follow') !== 'true') response.end()
  })
  server.on('upgrade', (request, socket, head) => {
    const url = new URL(request.url ?? '/', 'https://node')
    seen.push(`${request.method ?? ''} ${url.pathname}`)
    const [, kind, , pod = ''] = url.pathname.split('/')
    socket.on('error', () => undefined)
    if (request.headers.upgrade === 'SPDY/3.1') {
      if (kind === 'portForward') forwardOverSpdy(socket, head, ports)
      else socket.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n')
      return
    }
    sockets.handleUpgrade(request, socket, head, (client) => {
      client.on('error', () => undefined)
      if (kind === 'portForward') forward(client, url, ports)
      else void runIn(client, url, pod, programs).catch(() => client.terminate())
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const caller = privateKubeApi(api)
  await caller.registerNode(name, port)
  const state = { isClosed: false }
  const kept = keepPods(caller, name, state)
  return {
    name,
    programs,
    logs,
    ports,
    seen,
    async close() {
      state.isClosed = true
      for (const client of sockets.clients) client.terminate()
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await Promise.all([closed, kept])
    },
  }
}

async function keepPods(
  caller: ReturnType<typeof privateKubeApi>,
  name: string,
  state: { isClosed: boolean },
): Promise<void> {
  while (!state.isClosed) {
    await caller.settlePods(name).catch(() => undefined)
    await delay(150)
  }
}

/** Commands every container has. */
const PROGRAMS: readonly (readonly [string, Program])[] = [
  [
    'echo',
    async ({ argv, out }) => {
      out(`${argv.slice(1).join(' ')}\n`)
      return 0
    },
  ],
  [
    'cat',
    async ({ stdin, out }) => {
      for await (const piece of stdin) out(piece)
      return 0
    },
  ],
  [
    'fail',
    async ({ argv, err }) => {
      err('it failed\n')
      return Number(argv[1] ?? 1)
    },
  ],
  [
    'sleep',
    async ({ stdin }) => {
      // Ends when its caller does: nothing is ever written to it.
      for await (const _ of stdin) continue
      return 0
    },
  ],
]

async function runIn(client: WebSocket, url: URL, pod: string, programs: KubeNode['programs']): Promise<void> {
  const argv = url.searchParams.getAll('command')
  const sizes: string[] = []
  const stdin = inputOf(client, sizes)
  const send = (channel: number, text: string | Buffer): void => {
    if (client.readyState === client.OPEN) client.send(Buffer.concat([Buffer.from([channel]), Buffer.from(text)]))
  }
  const program = programs.get(argv[0] ?? '')
  const code =
    program === undefined
      ? 127
      : await program({ argv, pod, stdin, sizes, out: (text) => send(1, text), err: (text) => send(2, text) })
  send(3, JSON.stringify(statusOf(code)))
  client.close(1000)
}

function statusOf(code: number): object {
  if (code === 0) return { metadata: {}, status: 'Success' }
  return {
    metadata: {},
    status: 'Failure',
    reason: 'NonZeroExitCode',
    message: `command terminated with non-zero exit code: exit status ${code}`,
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  }
}

async function* inputOf(client: WebSocket, sizes: string[]): AsyncGenerator<Buffer, void, undefined> {
  const pieces: Buffer[] = []
  const state = { isOver: false, wake: (): void => undefined }
  client.on('message', (data: Buffer) => {
    const [channel] = data
    if (channel === 0) pieces.push(data.subarray(1))
    else if (channel === 4) sizes.push(data.subarray(1).toString())
    else if (channel === 255 && data[1] === 0) state.isOver = true
    state.wake()
  })
  client.on('close', () => {
    state.isOver = true
    state.wake()
  })
  for (;;) {
    const piece = pieces.shift()
    if (piece !== undefined) yield piece
    else if (state.isOver) return
    else await new Promise<void>((resolve) => (state.wake = resolve))
  }
}

/** Channels `2i` and `2i+1` are data and error of the i-th port; each begins with the port in two bytes. */
/** Every forwarded connection answers once its caller has ended, which only SPDY can tell. */
function forwardOverSpdy(socket: Duplex, head: Buffer, ports: KubeNode['ports']): void {
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n' +
      'X-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n',
  )
  if (head.length > 0) socket.unshift(head)
  const errors = new Map<string, SpdyStream>()
  const connection = new SpdyConnection(socket, 'server', (stream) => {
    void connection.accept(stream).catch(() => undefined)
    const { streamtype, requestid = '', port = '' } = stream.headers
    if (streamtype === 'error') errors.set(requestid, stream)
    else void serve(stream, errors.get(requestid), Number(port)).catch(() => undefined)
  })
  const serve = async (data: SpdyStream, error: SpdyStream | undefined, port: number): Promise<void> => {
    const answer = ports.get(port)
    if (answer === undefined) await error?.write(Buffer.from(`nothing listens on ${port}`))
    else {
      const pieces: Uint8Array[] = []
      for await (const piece of data.received) pieces.push(piece)
      await data.write(answer(Buffer.concat(pieces)))
    }
    await data.end()
    await error?.end()
  }
  void connection.run().catch(() => undefined)
}

function forward(client: WebSocket, url: URL, ports: KubeNode['ports']): void {
  const wanted = url.searchParams.getAll('port').concat(url.searchParams.getAll('ports')).map(Number)
  wanted.forEach((port, index) => {
    for (const channel of [2 * index, 2 * index + 1]) {
      client.send(Buffer.from([channel, port & 0xff, port >> 8]))
    }
  })
  client.on('message', (data: Buffer) => {
    const channel = data[0] ?? 0
    const port = wanted[channel >> 1] ?? 0
    const answer = ports.get(port)
    const reply = (to: number, bytes: Buffer): void => client.send(Buffer.concat([Buffer.from([to]), bytes]))
    if (answer === undefined) reply(channel | 1, Buffer.from(`nothing listens on ${port}`))
    else reply(channel, answer(data.subarray(1)))
  })
}
