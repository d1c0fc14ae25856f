import type { Readable } from 'node:stream'

/**
 * Splits a stream into lines. A line longer than `bytesMax` is skipped to its end and yielded as `undefined`: its reader
 * must be told, and nothing may grow with it.
 */
export async function* readLines(
  stream: Readable,
  bytesMax: number,
  signal: AbortSignal,
): AsyncGenerator<string | undefined, void, undefined> {
  let pieces: Buffer[] = []
  let size = 0
  let isSkipping = false
  const stop = (): void => void stream.destroy()
  if (signal.aborted) return
  signal.addEventListener('abort', stop, { once: true })
  try {
    for await (const piece of stream as AsyncIterable<Buffer | string>) {
      let rest = typeof piece === 'string' ? Buffer.from(piece) : piece
      for (;;) {
        const end = rest.indexOf(LINE_FEED)
        const part = end === -1 ? rest : rest.subarray(0, end)
        size += part.length
        if (size > bytesMax) {
          isSkipping = true
          pieces = []
        } else {
          pieces.push(part)
        }
        if (end === -1) break
        yield isSkipping ? undefined : Buffer.concat(pieces).toString('utf8')
        pieces = []
        size = 0
        isSkipping = false
        rest = rest.subarray(end + 1)
      }
    }
    if (size > 0) yield isSkipping ? undefined : Buffer.concat(pieces).toString('utf8')
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

const LINE_FEED = 0x0a
