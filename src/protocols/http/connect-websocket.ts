/**
 * A WebSocket to a service (RFC 6455), message by message: each is recorded before it goes on, in both directions, and
 * what the service says passes the detectors as a text of its own. Frames, fragments and extensions end here, so nothing
 * can hide between what is looked at and what is passed on.
 *
 * @packageDocumentation
 */
import { WebSocket, type RawData } from 'ws'
import type { Chunk, RowsChunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { mapError, type Reached } from './connect-errors.ts'
import { HEADER_BYTES_MAX } from './connect-pool.ts'
import { addressesOf, type Sending } from './connector.ts'
import { secretsOf, sentHeaders } from './sent-headers.ts'
import { MESSAGE_BYTES_MAX, readPiece, rowOf, type Message } from './websocket-message.ts'

/** Messages of the service that may wait to be read; beyond them the service waits. */
const AHEAD_BYTES_MAX = 1024 * 1024

/**
 * Opens a WebSocket and talks until one side ends it.
 *
 * @throws SallyportError `ERR_DENIED` for an address that must not be reached and where fields are masked, `ERR_UPSTREAM_*`.
 */
export async function* talk(sending: Sending): AsyncGenerator<Chunk, void, undefined> {
  const { call, permit, options, secret, echoes } = sending
  if ((permit.obligations.fields ?? []).length > 0) {
    // Fail closed: a message is no document, and nothing says which fields it has.
    throw new SallyportError('ERR_DENIED', 'Fields of this target are masked, and messages of a WebSocket have none.', {
      facts: { construct: 'http.upgrade_over_fields', noEffect: true },
    })
  }
  const echo = echoes.of(secretsOf(secret, options))
  const socket = await opened(sending)
  const inbox = new Inbox(socket, permit.signal)
  // Ends with the input, which whoever gave it ends with the call.
  void inbox.takeFrom(call.input ?? [])
  try {
    yield {
      kind: 'head',
      columns: ['from', 'kind', 'message'].map((name) => ({ name, type: 'text' })),
      attributes: {
        ':status': '101',
        ...(socket.protocol !== '' && { 'sec-websocket-protocol': socket.protocol }),
      },
    }
    let left = permit.obligations.bytesMax ?? options.bytesMax
    for (;;) {
      const message = await inbox.next()
      if (message === undefined) break
      if (message.from === 'caller') {
        yield said(message)
        await sent(socket, message)
        continue
      }
      left -= message.data.length
      if (left < 0 || (message.kind === 'binary' && options.binary === 'refuse')) {
        const why = left < 0 ? 'it is longer than policy allows' : 'a message is not text'
        yield { kind: 'notice', severity: 'WARNING', text: `The rest of the conversation is withheld: ${why}.` }
        yield { kind: 'exit', status: left < 0 ? '1009' : '1003', truncated: true, truncatedBy: 'bytes' }
        return
      }
      yield said({ ...message, data: echo?.whole(message.data) ?? message.data })
    }
    yield { kind: 'exit', status: String(inbox.code), truncated: false }
  } catch (error) {
    throw mapError(error, permit.signal, 'answer')
  } finally {
    inbox.close()
  }
}

async function opened(sending: Sending): Promise<WebSocket> {
  const { permit } = sending
  const addresses = await addressesOf(sending)
  for (const [index, address] of addresses.entries()) {
    let reached: Reached = 'nothing'
    try {
      return await open(sending, address, () => (reached = 'request'))
    } catch (error) {
      const mapped = mapError(error, permit.signal, reached)
      if (index === addresses.length - 1 || mapped.code !== 'ERR_UPSTREAM_UNREACHABLE') throw mapped
    }
  }
  throw mapError(undefined, permit.signal, 'nothing')
}

async function open(
  { plan, permit, options, secret, pools }: Sending,
  address: Parameters<Sending['pools']['connecting']>[0],
  onBegun: () => void,
): Promise<WebSocket> {
  const { url, upgrade } = plan.request
  permit.signal.throwIfAborted()
  const { timeout, ...connecting } = pools.connecting(address)
  const { 'accept-encoding': _, 'content-type': _type, ...headers } = sentHeaders(plan, options, secret)
  const socket = new WebSocket(url.href.replace(/^http/u, 'ws'), [...(upgrade?.protocols ?? [])], {
    ...connecting,
    headers,
    handshakeTimeout: timeout,
    followRedirects: false,
    perMessageDeflate: false,
    maxPayload: MESSAGE_BYTES_MAX,
    maxHeaderSize: HEADER_BYTES_MAX,
    finishRequest: (request) => {
      // It waits in the connection until that is made.
      const made = url.protocol === 'https:' ? 'secureConnect' : 'connect'
      request.once('socket', (connection) => void connection.once(made, onBegun))
      request.end()
    },
  })
  const abort = (): void => socket.terminate()
  permit.signal.addEventListener('abort', abort, { once: true })
  // What comes before anybody reads must not be lost.
  socket.pause()
  try {
    await new Promise<void>((resolve, reject) => {
      let isAnswered = false
      socket.once('open', resolve)
      // Comes before key, protocol and extensions of the answer are looked at (RFC 6455, section 4.1).
      socket.once('upgrade', () => (isAnswered = true))
      socket.on('error', (cause) => reject(isAnswered ? badHandshake(cause) : cause))
      socket.once('unexpected-response', (_request, { statusCode = 0 }) => {
        reject(
          new SallyportError('ERR_UPSTREAM_REJECTED', `The service opened no WebSocket: it answered ${statusCode}.`),
        )
      })
    })
    return socket
  } catch (error) {
    socket.terminate()
    permit.signal.throwIfAborted()
    throw error
  } finally {
    permit.signal.removeEventListener('abort', abort)
  }
}

function badHandshake(cause: Error): SallyportError {
  return new SallyportError('ERR_UPSTREAM_REJECTED', 'The service opened no WebSocket: its handshake is not valid.', {
    cause,
  })
}

/** What both sides said, in the order it came. */
class Inbox {
  readonly #socket: WebSocket
  readonly #signal: AbortSignal
  readonly #messages: Message[] = []
  #bytes = 0
  #isEnded = false
  #isClosed = false
  #error: unknown
  #wake: (() => void) | undefined
  #taken: (() => void) | undefined
  /** The code the service closed with; 1000 when the caller did. */
  code = 1000

  constructor(socket: WebSocket, signal: AbortSignal) {
    this.#socket = socket
    this.#signal = signal
    socket.on('message', (data, isBinary) => {
      const message: Message = { from: 'service', kind: isBinary ? 'binary' : 'text', data: bytesOf(data) }
      this.#bytes += message.data.length
      if (this.#bytes > AHEAD_BYTES_MAX) socket.pause()
      this.#put(message)
    })
    socket.on('close', (code) => {
      this.code = code
      this.#end()
    })
    socket.on('error', (error) => this.#fail(error))
    signal.addEventListener('abort', this.#abort, { once: true })
    if (signal.aborted) this.#abort()
    socket.resume()
  }

  /** Reads what the caller says, one message at a time, until it has no more to say. */
  async takeFrom(input: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
    try {
      for await (const piece of input) {
        if (this.#isEnded || this.#isClosed) return
        this.#put(readPiece(piece))
        await new Promise<void>((resolve) => (this.#taken = resolve))
      }
      this.#socket.close(1000)
    } catch (error) {
      this.#fail(error)
    }
  }

  async next(): Promise<Message | undefined> {
    for (;;) {
      const message = this.#messages.shift()
      if (message?.from === 'service') {
        this.#bytes -= message.data.length
        if (this.#socket.isPaused && this.#bytes <= AHEAD_BYTES_MAX / 2) this.#socket.resume()
      } else if (message !== undefined) this.#taken?.()
      if (message !== undefined) return message
      if (this.#error !== undefined) throw this.#error
      if (this.#isEnded) return undefined
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  close(): void {
    this.#isClosed = true
    this.#signal.removeEventListener('abort', this.#abort)
    this.#socket.terminate()
    this.#taken?.()
  }

  readonly #abort = (): void => this.#fail(this.#signal.reason)

  #put(message: Message): void {
    this.#messages.push(message)
    this.#wake?.()
  }

  #fail(error: unknown): void {
    this.#error ??= error
    this.#messages.length = 0
    this.#end()
  }

  #end(): void {
    this.#isEnded = true
    this.#wake?.()
    this.#taken?.()
  }
}

function said(message: Message): RowsChunk {
  return { kind: 'data', channel: 'rows', rows: [rowOf(message)] }
}

function sent(socket: WebSocket, { kind, data }: Message): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(data, { binary: kind === 'binary' }, (error) => (error ? reject(error) : resolve()))
  })
}

function bytesOf(data: RawData): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data)
  return Buffer.isBuffer(data) ? data : Buffer.from(data)
}
