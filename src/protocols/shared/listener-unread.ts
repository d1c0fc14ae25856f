import type { IncomingMessage, ServerResponse } from 'node:http'

/** Bytes of a refused request that are taken and dropped before its connection ends. */
const BYTES_MAX = 32 * 1024 * 1024
/** How long they are taken for, and how long none may come. */
const TOTAL_MS = 5_000
const IDLE_MS = 500

/**
 * Ends an answer whose head says that the connection closes, to a request that was not read to its end. A connection that
 * is closed while bytes of its client are unread is reset, and the reset overtakes the answer (RFC 9112, section 9.6): so
 * what the client still sends is dropped for a while, and the connection ends when it has stopped.
 */
export function endUnread(request: IncomingMessage, response: ServerResponse, body: string | undefined): void {
  if (body === undefined) response.flushHeaders()
  else response.write(body)
  let bytes = 0
  let isOver = false
  const end = (): void => {
    if (isOver) return
    isOver = true
    clearTimeout(idle)
    clearTimeout(total)
    response.end()
  }
  const idle = setTimeout(end, IDLE_MS)
  const total = setTimeout(end, TOTAL_MS)
  // Whoever began to read it has stopped; a listener left behind would hold the rest back.
  request.removeAllListeners('readable')
  request.on('data', (piece: Buffer) => {
    bytes += piece.length
    if (bytes > BYTES_MAX) end()
    else if (!isOver) idle.refresh()
  })
  for (const event of ['end', 'error', 'close']) request.once(event, end)
  response.once('close', end)
  request.resume()
}
