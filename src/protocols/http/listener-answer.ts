import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { Chunk } from '../../core/chunk.ts'
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
  for await (const chunk of chunks) {
    switch (chunk.kind) {
      case 'head':
        head = chunk.attributes
        break
      case 'notice':
        if (chunk.severity !== 'WARNING') break
        throw rejected(chunk.text)
      case 'data':
        if (chunk.channel !== 'body') break
        start()
        await write(answering, chunk.bytes)
        break
      case 'exit':
        start()
        if (chunk.truncated && !isHead) throw rejected('The answer is larger than policy allows.')
        if (!response.headersSent) throw rejected('The service gave no answer.')
        response.end()
    }
  }
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
