import type { Cell } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'

/** The longest message either side may send. */
export const MESSAGE_BYTES_MAX = 1024 * 1024

/** One message of a WebSocket. */
export interface Message {
  readonly from: 'caller' | 'service'
  readonly kind: 'text' | 'binary'
  readonly data: Buffer
}

/** A message as a row of a result: who said it, what kind it is, and its text, or its bytes in base64. */
export function rowOf({ from, kind, data }: Message): readonly Cell[] {
  return [from, kind, data.toString(kind === 'text' ? 'utf8' : 'base64')]
}

/**
 * Reads a row that has passed the masks.
 *
 * @throws SallyportError `ERR_UPSTREAM_REJECTED` when bytes are no longer what they were: a mask may have changed them.
 */
export function messageOf([from, kind, text]: readonly Cell[]): Message {
  const isText = kind === 'text'
  if (!isText && !/^[A-Za-z0-9+/]*={0,2}$/u.test(text ?? '')) {
    throw new SallyportError('ERR_UPSTREAM_REJECTED', 'A message that is not text holds something that is masked.')
  }
  return {
    from: from === 'caller' ? 'caller' : 'service',
    kind: isText ? 'text' : 'binary',
    data: Buffer.from(text ?? '', isText ? 'utf8' : 'base64'),
  }
}

/** A caller's message as a piece of a call's input. */
export function pieceOf(data: Uint8Array, isBinary: boolean): Uint8Array {
  return Buffer.concat([Buffer.from([isBinary ? 1 : 0]), data])
}

/** See {@link pieceOf}. */
export function readPiece(piece: Uint8Array): Message {
  return { from: 'caller', kind: piece[0] === 1 ? 'binary' : 'text', data: Buffer.from(piece.subarray(1)) }
}
