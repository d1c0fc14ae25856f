import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { Chunk, ExitChunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'

/** What an answer is written with. */
export interface Answering {
  readonly response: ServerResponse
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal
  readonly isHead: boolean
}

/** Attributes of a head that are no headers of the answer. */
const OWN = /^:/u

/** Status and headers of an answer, as they are told the client. */
export function headOf(attributes: Readonly<Record<string, string>>): {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
} {
  const type = attributes[':content-type'] ?? attributes['content-type']
  return {
    status: Number(attributes[':status'] ?? '502'),
    headers: {
      ...Object.fromEntries(Object.entries(attributes).filter(([name]) => !OWN.test(name))),
      ...(type !== undefined && { 'content-type': type }),
      'cache-control': 'no-cache, private',
    },
  }
}

/**
 * Writes a result as it comes, no faster than it is read. An answer that was cut never looks complete: before anything
 * was sent it becomes an error, and after that the connection breaks, which every client notices.
 *
 * @throws SallyportError `ERR_UPSTREAM_REJECTED` for what cannot be passed on; whatever the call throws.
 */
export async function writeAnswer(chunks: AsyncIterable<Chunk>, answering: Answering): Promise<void> {
  const { response, signal, isHead } = answering
  let head: Readonly<Record<string, string>> | undefined
  let exit: ExitChunk | undefined
  let advice: string | undefined
  let first: Uint8Array | undefined
  let alone: NodeJS.Timeout | undefined
  const start = (length?: number): void => {
    clearTimeout(alone)
    if (head === undefined || response.headersSent) return
    const { status, headers } = headOf(head)
    if (advice !== undefined) response.setHeader('warning', warningOf(advice))
    response.writeHead(status, { ...headers, ...(length !== undefined && { 'content-length': length }) })
  }
  const begin = (): void => {
    start()
    response.flushHeaders()
    if (first !== undefined) response.write(first)
    first = undefined
  }
  try {
    for await (const chunk of chunks) {
      switch (chunk.kind) {
        case 'head':
          head = chunk.attributes
          // A watch may have nothing to say for long, and its client waits for the head. What comes at once goes in one piece.
          alone = setTimeout(begin, HEAD_ALONE_MS)
          break
        case 'data':
          if ((chunk.channel !== 'body' && chunk.channel !== 'stdout') || isHead) break
          if (first === undefined && !response.headersSent) {
            first = chunk.bytes
            break
          }
          if (!response.headersSent) begin()
          if (!response.write(chunk.bytes)) await once(response, 'drain', { signal })
          break
        case 'exit':
          exit = chunk
          break
        case 'notice':
          if (chunk.isAdvice === true) {
            advice = chunk.text
            break
          }
          // Fail closed: what was withheld from an answer must not make it look short.
          if (chunk.severity === 'WARNING') throw rejected(chunk.text)
      }
    }
    if (exit?.truncated === true && !isHead) throw rejected('The answer is larger than policy allows.')
    if (exit === undefined || head === undefined) throw rejected('The API server gave no answer.')
    start(first?.length)
    response.end(first)
  } finally {
    clearTimeout(alone)
  }
}

/** As kubectl and its libraries show it: code 299, and a text in quotes (RFC 7234, section 5.5). */
function warningOf(text: string): string {
  return `299 - "${text.replaceAll(/[^\x20-\x7e]/gu, '?').replaceAll(/["\\]/gu, "'")}"`
}

/** How long the head of an answer waits for the first piece of its body. */
const HEAD_ALONE_MS = 10

function rejected(message: string): SallyportError {
  return new SallyportError('ERR_UPSTREAM_REJECTED', message)
}
