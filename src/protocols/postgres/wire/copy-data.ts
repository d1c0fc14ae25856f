import { SallyportError } from '../../../core/errors.ts'
import { goneAway } from '../listener-refusals.ts'
import type { FrontendMessage } from '../messages/frontend.ts'
import { violation } from '../messages/violation.ts'
import type { Downstream } from './downstream.ts'

/** Messages that are there already go on together, up to so many bytes: where one ends means nothing (manual, 55.2.6). */
const PIECE_BYTES = 64 * 1024

/**
 * COPY data from the client, read only while a COPY asks for it.
 *
 * @throws SallyportError when the client ends it, goes away, or sends something else.
 */
export async function* copyData(client: Downstream): AsyncGenerator<Uint8Array, void, undefined> {
  await client.flush()
  for (;;) {
    const pieces: Buffer[] = []
    let bytes = 0
    let message = client.now() ?? (await client.next())
    while (message?.type === 'CopyData') {
      pieces.push(message.data)
      bytes += message.data.length
      message = bytes < PIECE_BYTES ? client.now() : undefined
      if (message === undefined) break
    }
    if (pieces.length > 0) yield joined(pieces)
    if (message === undefined) {
      if (pieces.length === 0) throw goneAway()
      continue
    }
    if (isEnd(message)) return
  }
}

function joined(pieces: readonly Buffer[]): Buffer {
  const [only] = pieces
  return pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces)
}

/** Whether a message that is no data ends it in good order. */
function isEnd(message: FrontendMessage): boolean {
  switch (message.type) {
    case 'CopyDone':
      return true
    case 'CopyFail':
      throw new SallyportError('ERR_CANCELLED', message.reason)
    case 'Flush':
    case 'Sync':
      return false
    default:
      throw violation(message.type, 'comes in the middle of COPY data')
  }
}
