/**
 * Writing to an HTTP response: JSON-RPC errors of the door itself, and responses of the MCP libraries.
 *
 * @packageDocumentation
 */
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { SallyportError } from '../../core/errors.ts'
import { httpStatusOf } from './errors.ts'

/** JSON-RPC 2.0 §5.1, and the range the protocol leaves to servers. */
export const RPC = {
  parse: -32700,
  invalidRequest: -32600,
  internal: -32603,
  server: -32000,
  sessionNotFound: -32001,
} as const

/** Answers a request as a whole with an error. Nothing of the request is repeated in it. */
export function replyError(
  res: ServerResponse,
  status: number,
  code: number,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (res.headersSent || res.destroyed) {
    res.destroy()
    return
  }
  res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers })
  res.end(JSON.stringify({ jsonrpc: '2.0', error: { code, message }, id: null }))
}

/** The same for an error that has a code of ours. */
export function replyFailure(res: ServerResponse, error: SallyportError): void {
  const status = httpStatusOf(error)
  const headers: Record<string, string> = {}
  if (error.code === 'ERR_UNAUTHENTICATED') {
    // RFC 6750 §3: the challenge says what kind of credential is wanted, and no more.
    headers['www-authenticate'] = 'Bearer realm="sallyport", error="invalid_token"'
  }
  if (error.facts.retryAfterMs !== undefined) {
    headers['retry-after'] = String(Math.ceil(error.facts.retryAfterMs / 1000))
  }
  replyError(res, status, rpcCodeOf(error, status), error.message, headers)
}

function rpcCodeOf(error: SallyportError, status: number): number {
  if (error.code === 'ERR_INVALID_INPUT') {
    return error.message.startsWith('Parse error') ? RPC.parse : RPC.invalidRequest
  }
  return status >= 500 ? RPC.internal : RPC.server
}

/**
 * Writes a web response to a Node one, as fast as the client reads, and cancels it when the client goes away. A client
 * that has not taken a piece after `unreadMs` is cut off: what waits for it takes the room of others.
 */
export async function sendResponse(
  res: ServerResponse,
  response: Response,
  gone: AbortSignal,
  unreadMs: number,
): Promise<void> {
  if (gone.aborted) {
    await response.body?.cancel()
    return
  }
  res.writeHead(response.status, Object.fromEntries(response.headers))
  if (response.body === null) {
    res.end()
    return
  }
  // The headers of a stream that has nothing to say yet must reach the client all the same.
  res.flushHeaders()
  const reader = response.body.getReader()
  const cancel = (): void => void reader.cancel().catch(() => undefined)
  gone.addEventListener('abort', cancel, { once: true })
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      if (!res.write(value)) await drained(res, gone, unreadMs)
    }
  } catch (error) {
    if (!gone.aborted) throw error
  } finally {
    gone.removeEventListener('abort', cancel)
    res.end()
  }
}

async function drained(res: ServerResponse, gone: AbortSignal, unreadMs: number): Promise<void> {
  const timer = setTimeout(() => res.destroy(), unreadMs)
  timer.unref()
  try {
    await once(res, 'drain', { signal: gone })
  } finally {
    clearTimeout(timer)
  }
}
