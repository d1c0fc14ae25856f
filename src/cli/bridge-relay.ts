import type { JSONRPCMessage, JSONRPCRequest, RequestId } from '@modelcontextprotocol/client'
import {
  isInitializedNotification,
  isInitializeRequest,
  isJSONRPCErrorResponse,
  isJSONRPCRequest,
  isJSONRPCResultResponse,
  PROTOCOL_VERSION_META_KEY,
  SdkHttpError,
  StreamableHTTPClientTransport,
  UnauthorizedError,
} from '@modelcontextprotocol/client'
import { SallyportError } from '../core/errors.ts'

/** What a relay is connected to. */
export interface RelayOptions {
  readonly url: URL
  readonly token: () => string
  /** The caller's own name for a piece of work. */
  readonly run?: string
  /** Takes a message for the client. */
  write(message: unknown): void
  /** Takes a sentence for whoever looks after the bridge. */
  say(text: string): void
}

/** Carries messages between one client and a gateway. */
export interface Relay {
  /** Sends a message of the client. Whatever goes wrong becomes the answer to it. */
  send(message: JSONRPCMessage | JSONRPCMessage[]): void
  /** Answers something that is no message. */
  refuse(message: string): void
  /** Waits until nothing is open, or until `ms` are over. */
  settle(ms: number): Promise<void>
  close(): Promise<void>
}

/** A request the gateway has not answered. */
interface Open {
  readonly request: JSONRPCRequest
  via?: StreamableHTTPClientTransport
  /** Set in the 2026 era, where leaving the response is how a request is cancelled. */
  readonly cancel?: AbortController
}

/** A gateway that comes back is noticed within half a minute. */
const RECONNECTION = {
  initialReconnectionDelay: 500,
  maxReconnectionDelay: 30_000,
  reconnectionDelayGrowFactor: 2,
  maxRetries: Number.MAX_SAFE_INTEGER,
}

/** How long the end of a session may take. */
const GOODBYE_MS = 1000

/** JSON-RPC 2.0 §5.1, and the range the protocol leaves to servers. */
const PARSE_ERROR = -32700
const SERVER_ERROR = -32000

/** Builds a relay. It connects with the first message. */
export function createRelay(options: RelayOptions): Relay {
  const open = new Map<RequestId, Open>()
  const idle = new Set<() => void>()
  /** What opened the session, to open it again when the gateway has forgotten it. */
  let opening: { initialize: JSONRPCRequest; initialized?: JSONRPCMessage } | undefined
  let reopening: Promise<void> | undefined
  let isClosed = false
  let transport = connect()

  /** @param takeFirst sees each message before it is received; returns whether it kept it. */
  function connect(takeFirst?: (message: JSONRPCMessage) => boolean): StreamableHTTPClientTransport {
    const next = new StreamableHTTPClientTransport(options.url, {
      authProvider: { token: async () => options.token() },
      reconnectionOptions: RECONNECTION,
      ...(options.run !== undefined && { requestInit: { headers: { 'sallyport-run': options.run } } }),
    })
    Object.assign(next, {
      onmessage: (message: JSONRPCMessage) => {
        if (takeFirst?.(message) !== true) receive(message)
      },
      // The stream on which the gateway speaks first tells in this way that the session is gone.
      onerror: (error: Error) => {
        if (next === transport && isSessionLost(error)) recover()
      },
    })
    void next.start()
    return next
  }

  function recover(): void {
    reopen().catch((error: unknown) => options.say(wordsOf(error)))
  }

  function receive(message: JSONRPCMessage): void {
    if (isJSONRPCResultResponse(message) || isJSONRPCErrorResponse(message)) {
      if (message.id !== undefined && !settleOne(message.id)) return
      if (isJSONRPCResultResponse(message)) learnVersion(message.result)
    }
    options.write(message)
  }

  /** The client speaks the version the gateway chose; the transport must say so in its headers. */
  function learnVersion(result: Readonly<Record<string, unknown>>): void {
    if (typeof result['protocolVersion'] === 'string') transport.setProtocolVersion(result['protocolVersion'])
  }

  /** Whether the request was still open. */
  function settleOne(id: RequestId): boolean {
    const wasOpen = open.delete(id)
    if (open.size === 0) for (const wake of idle) wake()
    return wasOpen
  }

  function send(message: JSONRPCMessage | JSONRPCMessage[]): void {
    const messages = Array.isArray(message) ? message : [message]
    const requests = messages.filter((one) => isJSONRPCRequest(one))
    const [only] = requests
    if (isCancelled(message) && cancel(message.params?.requestId)) return
    if (!Array.isArray(message)) remember(message)
    const cancellation = only !== undefined && isModern(only) ? new AbortController() : undefined
    for (const request of requests) {
      open.set(request.id, { request, ...(cancellation !== undefined && { cancel: cancellation }) })
    }
    deliver(message, requests, cancellation).catch((error: unknown) => {
      if (requests.length === 0) options.say(wordsOf(error))
      else fail(requests, error)
    })
  }

  async function deliver(
    message: JSONRPCMessage | JSONRPCMessage[],
    requests: readonly JSONRPCRequest[],
    cancellation: AbortController | undefined,
  ): Promise<void> {
    await reopening?.catch(() => undefined)
    const how = {
      ...(cancellation !== undefined && { requestSignal: cancellation.signal }),
      onRequestStreamEnd: () => lose(requests),
    }
    const used = through(requests)
    try {
      await used.send(message, how)
    } catch (error) {
      if (!isSessionLost(error) || opening === undefined || isOpening(message)) throw error
      for (const { id } of requests) delete open.get(id)?.via
      // Another message may have noticed first.
      if (used === transport) await reopen()
      await through(requests).send(message, how)
    }
  }

  function through(requests: readonly JSONRPCRequest[]): StreamableHTTPClientTransport {
    for (const { id } of requests) {
      const entry = open.get(id)
      if (entry !== undefined) entry.via = transport
    }
    return transport
  }

  function remember(message: JSONRPCMessage): void {
    if (isInitializeRequest(message)) opening = { initialize: message as JSONRPCRequest }
    else if (opening !== undefined && isInitializedNotification(message)) opening.initialized = message
  }

  /** Opens a new session with what opened the old one. The client does not notice. */
  function reopen(): Promise<void> {
    reopening ??= reopenOnce().finally(() => {
      reopening = undefined
    })
    return reopening
  }

  async function reopenOnce(): Promise<void> {
    if (opening === undefined || isClosed) return
    const { initialize, initialized } = opening
    const old = transport
    const answered = promiseOf<JSONRPCMessage>()
    const next = connect((message) => {
      const isAnswer = next !== transport && 'id' in message && message.id === initialize.id && !('method' in message)
      if (isAnswer) answered.resolve(message)
      return isAnswer
    })
    try {
      await next.send(initialize, {
        onRequestStreamEnd: () => answered.reject(new Error('The gateway ended the connection.')),
      })
      const answer = await answered.promise
      if (!isJSONRPCResultResponse(answer)) throw new Error('The gateway did not open a new session.')
      transport = next
      learnVersion(answer.result)
      if (initialized !== undefined) await next.send(initialized)
      options.say('the gateway was restarted or ended the session; a new one is open')
    } catch (error) {
      transport = old
      await next.close()
      throw error
    }
    const orphans = [...open.values()].filter(({ via }) => via === old).map(({ request }) => request)
    await old.close()
    fail(orphans, new Error('The gateway ended the session before it answered.'))
  }

  /** Ends a request of the 2026 era by leaving its response. Returns whether there was one. */
  function cancel(id: unknown): boolean {
    if (typeof id !== 'string' && typeof id !== 'number') return false
    const request = open.get(id)
    if (request?.cancel === undefined) return false
    request.cancel.abort()
    settleOne(id)
    return true
  }

  function lose(requests: readonly JSONRPCRequest[]): void {
    const lost = requests.filter(({ id }) => open.has(id))
    fail(lost, new Error('The gateway ended the connection before it answered.'))
  }

  function fail(requests: readonly JSONRPCRequest[], error: unknown): void {
    if (isClosed || requests.length === 0) return
    const { code, message } = errorOf(error)
    for (const { id } of requests) {
      if (settleOne(id)) options.write({ jsonrpc: '2.0', id, error: { code, message } })
    }
    options.say(message)
  }

  function isOpening(message: JSONRPCMessage | JSONRPCMessage[]): boolean {
    return !Array.isArray(message) && isInitializeRequest(message)
  }

  function errorOf(error: unknown): { readonly code: number; readonly message: string } {
    return gatewayError(error) ?? { code: SERVER_ERROR, message: wordsOf(error) }
  }

  function wordsOf(error: unknown): string {
    if (error instanceof SallyportError) return error.message
    if (error instanceof UnauthorizedError)
      return 'The gateway did not accept the token: it is wrong, expired or revoked.'
    const said = gatewayError(error)
    if (said !== undefined) return said.message
    if (error instanceof SdkHttpError) return `The gateway answered with HTTP status ${error.status}.`
    const cause = causeOf(error)
    if (cause !== undefined) return `The gateway at ${options.url.origin} cannot be reached (${cause}). Is it running?`
    return error instanceof Error ? error.message : 'The message could not be relayed.'
  }

  return {
    send,
    refuse(message) {
      options.write({ jsonrpc: '2.0', id: null, error: { code: PARSE_ERROR, message } })
      options.say(message)
    },
    async settle(ms) {
      if (open.size === 0) return
      const settled = promiseOf<void>()
      const timer = setTimeout(settled.resolve, ms)
      idle.add(settled.resolve)
      try {
        await settled.promise
      } finally {
        clearTimeout(timer)
        idle.delete(settled.resolve)
      }
    },
    async close() {
      isClosed = true
      for (const request of open.values()) request.cancel?.abort()
      open.clear()
      const timer = setTimeout(() => void transport.close(), GOODBYE_MS)
      try {
        await transport.terminateSession()
      } catch {
        // The gateway ends a session it does not hear of by itself.
      } finally {
        clearTimeout(timer)
        await transport.close()
      }
    },
  }
}

function isModern({ params }: JSONRPCRequest): boolean {
  return typeof params?._meta?.[PROTOCOL_VERSION_META_KEY] === 'string'
}

function isCancelled(
  message: JSONRPCMessage | JSONRPCMessage[],
): message is JSONRPCMessage & { readonly params?: { readonly requestId?: unknown } } {
  return 'method' in message && message.method === 'notifications/cancelled'
}

function isSessionLost(error: unknown): boolean {
  return error instanceof SdkHttpError && error.status === 404
}

/** The error the gateway itself gave for a request as a whole. */
function gatewayError(error: unknown): { readonly code: number; readonly message: string } | undefined {
  if (!(error instanceof SdkHttpError) || typeof error.data.text !== 'string') return undefined
  try {
    const body: unknown = JSON.parse(error.data.text)
    if (isJSONRPCErrorResponse(body)) return { code: body.error.code, message: body.error.message }
    return isErrorBody(body) ? body.error : undefined
  } catch {
    return undefined
  }
}

function isErrorBody(body: unknown): body is { readonly error: { readonly code: number; readonly message: string } } {
  if (typeof body !== 'object' || body === null || !('error' in body)) return false
  const { error } = body
  return (
    typeof error === 'object' &&
    error !== null &&
    'code' in error &&
    typeof error.code === 'number' &&
    'message' in error &&
    typeof error.message === 'string'
  )
}

/** What the network said, such as `ECONNREFUSED`. */
function causeOf(error: unknown): string | undefined {
  if (!(error instanceof TypeError) || error.cause === undefined) return undefined
  const { cause } = error
  if (cause instanceof AggregateError) return codeOf(cause.errors[0]) ?? codeOf(cause)
  return codeOf(cause) ?? 'network error'
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

function promiseOf<T>(): {
  readonly promise: Promise<T>
  readonly resolve: (value: T) => void
  readonly reject: (reason: Error) => void
} {
  let resolve: (value: T) => void = () => undefined
  let reject: (reason: Error) => void = () => undefined
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
