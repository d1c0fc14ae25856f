/** HTTP servers of the tests: real ones, on loopback, that answer as a test says, also with what is no HTTP. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { createServer as createRawServer, type AddressInfo, type Server, type Socket } from 'node:net'
import type { Certificate } from '../../src/self-signed.ts'

/** A request as a server saw it. */
export interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

/** A server and everything it was asked. */
export interface TestService {
  readonly port: number
  readonly url: string
  readonly seen: Seen[]
  /** Connections ever made to it. */
  readonly connections: () => number
  close(): Promise<void>
}

/** Answers one request, whose body was read. */
export type Answering = (seen: Seen, response: ServerResponse) => void | Promise<void>

/** Starts a server for HTTP/1.1, with TLS where a certificate is given; on a free port of 127.0.0.1 unless told. */
export async function startService(
  answer: Answering,
  tls?: Certificate,
  at: { readonly host?: string; readonly port?: number } = {},
): Promise<TestService> {
  const seen: Seen[] = []
  const listener: RequestListener = (request, response) => {
    void (async () => {
      const pieces: Buffer[] = []
      for await (const piece of request) pieces.push(piece as Buffer)
      const { method = '', url = '', headers } = request
      const one = { method, url, headers, body: Buffer.concat(pieces).toString('utf8') }
      seen.push(one)
      await answer(one, response)
    })().catch(() => response.destroy())
  }
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener)
  return opened(server, seen, tls === undefined ? 'http' : 'https', at)
}

/** Starts a server that writes bytes of its own choice to whoever connects. */
export async function startRaw(serve: (socket: Socket) => void): Promise<TestService> {
  const server = createRawServer((socket) => {
    socket.on('error', () => undefined)
    serve(socket)
  })
  return opened(server, [], 'http', {})
}

async function opened(
  server: Server,
  seen: Seen[],
  scheme: string,
  { host = '127.0.0.1', port: wanted = 0 }: { readonly host?: string; readonly port?: number },
): Promise<TestService> {
  const sockets = new Set<Socket>()
  let connections = 0
  server.on('connection', (socket: Socket) => {
    connections++
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(wanted, host)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    port,
    url: `${scheme}://${host}:${port}`,
    seen,
    connections: () => connections,
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
