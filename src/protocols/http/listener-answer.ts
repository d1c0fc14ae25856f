import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { Chunk, ExitChunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'

/** What an answer is written with. */
export interface Answering {
  readonly response: ServerResponse
  readonly target: string
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal
  readonly isHead: boolean
}

/**
 * Writes a result as it comes, no faster than it is read.
 *
 * An answer that was cut, or whose body was withheld, never looks complete: before anything was sent it becomes an
 * error, and after that the connection breaks in the middle of the body, which every client notices.
 *
 * @throws SallyportError `ERR_UPSTREAM_REJECTED` for what cannot be passed on; whatever the call throws.
 */
export async function writeAnswer(chunks: AsyncIterable<Chunk>, answering: Answering): Promise<void> {
  const { response, target, isHead } = answering
  let head: Readonly<Record<string, string>> | undefined
  let exit: ExitChunk | undefined
  const start = (): void => {
    if (head === undefined || response.headersSent) return
    const { ':status': status = '502', ':redirect': redirect, ...headers } = head
    const location = redirect === undefined ? undefined : placeAt(target, redirect)
    if (headers['location'] !== undefined && location === undefined && /^30[12378]$/u.test(status)) {
      // A client that follows it would leave the gateway, and take along whatever the service wrote into the place.
      throw rejected('The service redirects to a place that is not part of this target.')
    }
    response.writeHead(Number(status), { ...headers, ...(location !== undefined && { location }) })
  }
  let problem: SallyportError | undefined
  // What was not begun yet is read to its end all the same: a call that is left in the middle has no known outcome.
  const fail = (error: unknown): void => {
    if (response.headersSent) throw error
    problem ??= SallyportError.from(error)
  }
  for await (const chunk of chunks) {
    if (problem !== undefined) continue
    switch (chunk.kind) {
      case 'head':
        head = chunk.attributes
        break
      case 'notice':
        if (chunk.severity !== 'WARNING') break
        fail(rejected(chunk.text))
        break
      case 'data':
        if (chunk.channel !== 'body') break
        try {
          start()
        } catch (error) {
          fail(error)
          break
        }
        await write(answering, chunk.bytes)
        break
      case 'exit':
        exit = chunk
    }
  }
  if (problem !== undefined) throw problem
  start()
  if (exit?.truncated === true && !isHead) throw rejected('The answer is larger than policy allows.')
  if (exit === undefined || !response.headersSent) throw rejected('The service gave no answer.')
  response.end()
}

async function write({ response, signal }: Answering, bytes: Uint8Array): Promise<void> {
  if (!response.write(bytes)) await once(response, 'drain', { signal })
}

function placeAt(target: string, redirect: string): string {
  return redirect.startsWith('/') ? `/${target}${redirect}` : `/${target}/${redirect}`
}

function rejected(message: string): SallyportError {
  return new SallyportError('ERR_UPSTREAM_REJECTED', message)
}
