import { readFile } from 'node:fs/promises'
import { createServer as createHttpServer, type IncomingMessage, type RequestListener, type Server } from 'node:http'
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Config, ListenAddress } from './config.ts'
import { SallyportError } from './core/errors.ts'

/** An open door's listener. */
export interface Listener {
  /** Without path: `http://127.0.0.1:7400`. */
  readonly url: string
  /** Reads key and certificate again; connections that are open keep the old ones. */
  reloadTls(): Promise<void>
  /** Takes no new connection, lets answers end for `graceMs`, then cuts what is left. Safe to call twice. */
  close(graceMs: number): Promise<void>
}

/**
 * Takes over a connection whose client asks for another protocol. What goes on as HTTP after all is handed back with
 * `resume`, the request as its first bytes.
 */
export type UpgradeListener = (
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  resume: (socket: Duplex) => void,
) => void

/** What one listener has besides. */
export interface ListenOptions {
  /** Without it no other protocol is ever spoken: such a request is one like any other. */
  readonly upgrade?: UpgradeListener
  /** How long a client may take for its headers, and for its whole request, in milliseconds. */
  readonly headersMs?: number
  readonly requestMs?: number
  /** How often connections are looked at for that. */
  readonly checkMs?: number
  /** Encrypts with this when the configuration names no certificate. */
  readonly certificate?: { readonly key: string; readonly cert: string }
}

/** A client has this long to send its headers, and this long to send its whole request. */
const HEADERS_MS = 10_000
const REQUEST_MS = 60_000
const CHECK_MS = 5_000
const CONNECTIONS_MAX = 4096

/**
 * Opens a listener.
 *
 * @param name how messages name the setting: `listen.mcp`.
 * @throws SallyportError `ERR_CONFIG_INVALID` that names the port, or the file of key or certificate.
 */
export async function listen(
  name: string,
  handler: RequestListener,
  address: ListenAddress,
  tls: Config['tls'],
  { upgrade, certificate, headersMs = HEADERS_MS, requestMs = REQUEST_MS, checkMs = CHECK_MS }: ListenOptions = {},
): Promise<Listener> {
  const limits = {
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    keepAliveTimeout: 5_000,
    connectionsCheckingInterval: checkMs,
  }
  const context = tls === undefined ? certificate : await contextOf(tls)
  const secure =
    context === undefined ? undefined : createHttpsServer({ ...limits, minVersion: 'TLSv1.2', ...context }, handler)
  const server: Server | HttpsServer = secure ?? createHttpServer(limits, handler)
  server.maxConnections = CONNECTIONS_MAX
  const upgraded = new Set<Duplex>()
  if (upgrade !== undefined) {
    const again = secure === undefined ? 'connection' : 'secureConnection'
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      // Node lets go of connections that are no longer HTTP; a listener that closes must still find them.
      upgraded.add(socket)
      socket.once('close', () => upgraded.delete(socket))
      upgrade(request, socket, head, (plain) => void server.emit(again, plain))
    })
  }
  const { port } = await opened(server, name, address)
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  let closed: Promise<void> | undefined

  return {
    url: `${secure === undefined ? 'http' : 'https'}://${host}:${port}`,
    async reloadTls() {
      if (secure !== undefined && tls !== undefined) secure.setSecureContext(await contextOf(tls))
    },
    close(graceMs) {
      closed ??= closeServer(server, graceMs, upgraded)
      return closed
    },
  }
}

function opened(server: Server | HttpsServer, name: string, { host, port }: ListenAddress): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const at = `${host}:${port}`
      const why =
        error.code === 'EADDRINUSE'
          ? `${at} is in use by another process; stop it, or set ${name} to a free port`
          : `cannot listen on ${at} (${error.code ?? 'unknown error'}); set ${name} to an address of this machine`
      reject(new SallyportError('ERR_CONFIG_INVALID', `${why}.`, { cause: error }))
    })
    server.listen(port, host, () => {
      const address = server.address()
      if (address === null || typeof address === 'string') reject(new TypeError('a TCP server has an address'))
      else resolve(address)
    })
  })
}

async function contextOf(tls: NonNullable<Config['tls']>) {
  const [key, cert] = await Promise.all([pem(tls.keyFile, 'listen.tls.key'), pem(tls.certFile, 'listen.tls.cert')])
  return { key, cert, minVersion: 'TLSv1.2' as const }
}

async function pem(file: string, name: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (error) {
    throw new SallyportError('ERR_CONFIG_INVALID', `${name} names ${file}, which cannot be read.`, { cause: error })
  }
}

async function closeServer(
  server: Server | HttpsServer,
  graceMs: number,
  upgraded: ReadonlySet<Duplex>,
): Promise<void> {
  const timer = setTimeout(() => {
    server.closeAllConnections()
    for (const socket of upgraded) socket.destroy()
  }, graceMs)
  timer.unref()
  try {
    await new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeIdleConnections()
    })
  } finally {
    clearTimeout(timer)
  }
}
