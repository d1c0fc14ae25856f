import { once } from 'node:events'
import type { ServerResponse } from 'node:http'

/** A comment this often keeps proxies from closing a quiet stream, and is when the token is checked again. */
export const HEARTBEAT_MS = 15_000

/**
 * Sends values as server-sent events (WHATWG HTML, section 9.2) until the source or `signal` ends.
 *
 * @param stillAllowed asked before each event and at each heartbeat; a rejection ends the stream, so that a revoked
 * token sees nothing more.
 */
export async function sendEvents(
  response: ServerResponse,
  events: AsyncIterable<unknown>,
  signal: AbortSignal,
  stillAllowed: () => Promise<unknown>,
): Promise<void> {
  response.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
  response.write(': watching\n\n')
  const heartbeat = setInterval(() => {
    stillAllowed().then(
      () => response.write(': still here\n\n'),
      () => response.destroy(),
    )
  }, HEARTBEAT_MS)
  heartbeat.unref()
  try {
    for await (const event of events) {
      await stillAllowed()
      // JSON has no raw line break, so one `data` line holds it.
      await write(response, `data: ${JSON.stringify(event)}\n\n`, signal)
    }
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    clearInterval(heartbeat)
    response.end()
  }
}

/** Sends lines as plain text, no faster than the caller reads. */
export async function sendLines(
  response: ServerResponse,
  lines: AsyncIterable<string>,
  signal: AbortSignal,
): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' })
  try {
    for await (const line of lines) await write(response, `${line}\n`, signal)
    response.end()
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

/** Writes, and waits while the caller reads slower than we write. */
async function write(response: ServerResponse, text: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  if (!response.write(text)) await once(response, 'drain', { signal })
}
