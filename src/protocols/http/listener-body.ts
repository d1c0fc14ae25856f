import type { IncomingMessage } from 'node:http'
import { SallyportError } from '../../core/errors.ts'
import type { HttpOptions } from './options.ts'

/** Bodies up to this size are read before the call is judged: conditions can see them, and approvers. */
const BUFFERED_BYTES_MAX = 1024 * 1024

/** A request's body: all of it, or a stream of what is too long to be held. */
export interface ReceivedBody {
  readonly whole?: Buffer
  readonly input?: AsyncIterable<Uint8Array>
}

/**
 * Receives a body. What is longer than a call may hold in memory becomes its `input`: it goes on as it comes, no
 * condition on it is true, and nobody can approve it.
 *
 * @throws SallyportError `ERR_TOO_LARGE` as soon as it is certain.
 */
export async function receiveBody(request: IncomingMessage, { requestBytesMax }: HttpOptions): Promise<ReceivedBody> {
  const declared = Number(request.headers['content-length'] ?? Number.NaN)
  if (declared > requestBytesMax) throw tooLarge(requestBytesMax)
  if (declared === 0 || (Number.isNaN(declared) && request.headers['transfer-encoding'] === undefined)) return {}
  const pieces: Buffer[] = []
  let bytes = 0
  const source: AsyncIterator<Buffer> = (request as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
  for (;;) {
    const next = await source.next()
    if (next.done === true) return { whole: Buffer.concat(pieces) }
    pieces.push(next.value)
    bytes += next.value.length
    if (bytes > requestBytesMax) throw tooLarge(requestBytesMax)
    if (bytes > BUFFERED_BYTES_MAX) return { input: rest(pieces, source) }
  }
}

async function* rest(pieces: readonly Buffer[], source: AsyncIterator<Buffer>): AsyncGenerator<Uint8Array> {
  try {
    yield* pieces
    for (;;) {
      const next = await source.next()
      if (next.done === true) return
      yield next.value
    }
  } finally {
    await source.return?.()
  }
}

function tooLarge(bytesMax: number): SallyportError {
  return new SallyportError('ERR_TOO_LARGE', `The body has more than the ${bytesMax} bytes this target takes.`)
}
