/**
 * WebSockets at the HTTP door: one call each, from the request that asks for it to the last message. The client hears
 * "switching protocols" only after the call was judged and the service has agreed.
 *
 * @packageDocumentation
 */
import { ServerResponse, type IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { WebSocket, WebSocketServer, type RawData } from 'ws'
import type { Call } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { HeldFacts } from '../../core/http-error.ts'
import { callOf, receive, refuse, type HttpListenerDeps } from './listener.ts'
import { upgradeOf, webSocketOf } from './listener-request.ts'
import { MESSAGE_BYTES_MAX, messageOf, pieceOf } from './websocket-message.ts'

/** How long a client may take to answer the end of a conversation. */
const LAST_WORDS_MS = 2_000

/** Messages of a client that wait to be sent; beyond them it waits. */
const AHEAD_MAX = 16

/** Builds what takes over connections at the door; see `UpgradeListener`. */
export function createUpgradeListener(deps: HttpListenerDeps) {
  return (request: IncomingMessage, socket: Duplex, head: Buffer, resume: (socket: Duplex) => void): void => {
    socket.on('error', () => undefined)
    // HTTP/2 is an offer a server may pass over (RFC 9110, section 7.8); clients make it with every request.
    if (upgradeOf(request) === 'h2c') resume(withoutUpgrade(request, socket, head))
    else void converse(request, socket, head, deps)
  }
}

/** Puts the request back in front of its connection, without the offer. */
function withoutUpgrade({ method, url, rawHeaders }: IncomingMessage, socket: Duplex, head: Buffer): Duplex {
  const lines = [`${method ?? ''} ${url ?? ''} HTTP/1.1`]
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? ''
    if (!/^(?:upgrade|http2-settings)$/iu.test(name)) lines.push(`${name}: ${rawHeaders[at + 1] ?? ''}`)
  }
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), head]))
  return socket
}

async function converse(request: IncomingMessage, socket: Duplex, head: Buffer, deps: HttpListenerDeps): Promise<void> {
  const gone = new AbortController()
  const leave = (): void => gone.abort(new SallyportError('ERR_CANCELLED', 'The client went away.'))
  socket.once('close', leave)
  const held: { now?: HeldFacts } = {}
  const talk = new Talk(request, socket, head)
  let give = (): void => undefined
  try {
    const isWebSocket = upgradeOf(request) === 'websocket'
    const asked = await receive(request, deps, isWebSocket)
    give = deps.slots.take(asked.principal.id)
    const call: Call = {
      ...(await callOf(request, asked, deps)),
      payload: { ...asked.payload, upgrade: webSocketOf(request) },
      input: talk.said(),
      signal: gone.signal,
      hold: { waitMs: deps.holdMs, onHeld: (facts) => void (held.now = facts) },
    }
    for await (const chunk of deps.run(call)) {
      if (chunk.kind === 'head') {
        // From here on a client that hangs up has ended the conversation; nothing of it is left undone.
        socket.off('close', leave)
        await talk.open(chunk.attributes?.['sec-websocket-protocol'] ?? '')
      } else if (chunk.kind === 'data' && chunk.channel === 'rows')
        for (const row of chunk.rows) await talk.hear(messageOf(row))
      else if (chunk.kind === 'exit') talk.end(Number(chunk.status))
    }
    talk.end(1000)
  } catch (cause) {
    const error = SallyportError.from(cause)
    if (error.code === 'ERR_INTERNAL' && !gone.signal.aborted) deps.onFault(error)
    if (talk.isOpen) talk.end(error.code === 'ERR_SHUTTING_DOWN' ? 1001 : 1008, error.code)
    else answerWith(request, socket, error, held.now)
  } finally {
    give()
    socket.off('close', leave)
    talk.finish()
  }
}

/** Answers a request that becomes no WebSocket, as any other request would be. */
function answerWith(request: IncomingMessage, socket: Duplex, error: SallyportError, held?: HeldFacts): void {
  if (socket.destroyed || !(socket instanceof Socket)) return void socket.destroy()
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket)
  response.on('finish', () => socket.end())
  refuse(request, response, error, held)
}

/** The client's side of one conversation. */
class Talk {
  readonly #request: IncomingMessage
  readonly #socket: Duplex
  readonly #head: Buffer
  readonly #pieces: Uint8Array[] = []
  #client: WebSocket | undefined
  #isOver = false
  #wake: (() => void) | undefined

  constructor(request: IncomingMessage, socket: Duplex, head: Buffer) {
    this.#request = request
    this.#socket = socket
    this.#head = head
  }

  get isOpen(): boolean {
    return this.#client !== undefined
  }

  /** Tells the client that the service has agreed. */
  async open(protocol: string): Promise<void> {
    const server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: MESSAGE_BYTES_MAX,
      handleProtocols: () => (protocol === '' ? false : protocol),
    })
    const client = await new Promise<WebSocket>((resolve) => {
      server.handleUpgrade(this.#request, this.#socket, this.#head, resolve)
    })
    this.#client = client
    client.on('message', (data, isBinary) => {
      this.#pieces.push(pieceOf(bytesOf(data), isBinary))
      if (this.#pieces.length > AHEAD_MAX) client.pause()
      this.#wake?.()
    })
    client.on('error', () => client.terminate())
    client.on('close', () => this.finish())
  }

  /** What the client says, until it says no more. */
  async *said(): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const piece = this.#pieces.shift()
      if (piece !== undefined) {
        if (this.#client?.isPaused === true) this.#client.resume()
        yield piece
      } else if (this.#isOver) return
      else await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  /** Passes on what the service says, no faster than it is read. */
  async hear({ from, kind, data }: ReturnType<typeof messageOf>): Promise<void> {
    const client = this.#client
    if (from === 'caller' || client?.readyState !== WebSocket.OPEN) return
    // An error of the connection ends the call by its own way; here nobody waits for it.
    await new Promise<void>((resolve) => client.send(data, { binary: kind === 'binary' }, () => resolve()))
  }

  /** Ends the conversation, with what may stand in a frame that says so (RFC 6455, section 7.4). */
  end(code: number, reason?: string): void {
    const client = this.#client
    if (client === undefined || client.readyState !== WebSocket.OPEN) return
    client.close((code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || code >= 3000 ? code : 1000, reason)
    const timer = setTimeout(() => client.terminate(), LAST_WORDS_MS).unref()
    client.once('close', () => clearTimeout(timer))
  }

  finish(): void {
    this.#isOver = true
    this.#wake?.()
  }
}

function bytesOf(data: RawData): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data)
  return Buffer.isBuffer(data) ? data : Buffer.from(data)
}
