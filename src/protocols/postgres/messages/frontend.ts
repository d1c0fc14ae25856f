/**
 * What a client may send once it was let in, and how the bytes of a connection become messages.
 *
 * @packageDocumentation
 */
import { decodeBind, type Bind } from './bind.ts'
import { decodeCopyFail, type CopyIn } from './copy.ts'
import { decodeDescribe, type DescribeOrClose } from './describe.ts'
import { decodeExecute, type Execute } from './execute.ts'
import { decodeFunctionCall, type FunctionCall } from './function-call.ts'
import { AUTH_BYTES_MAX, COPY_BYTES_MAX, LARGE_BYTES_MAX, SMALL_BYTES_MAX } from './limits.ts'
import { decodeParse, type Parse } from './parse.ts'
import { decodeQuery, type Query } from './query.ts'
import { violation } from './violation.ts'

/** A message of a client (PostgreSQL manual, 55.7). */
export type FrontendMessage =
  | Query
  | Parse
  | Bind
  | DescribeOrClose
  | Execute
  | FunctionCall
  | CopyIn
  | { readonly type: 'Sync' }
  | { readonly type: 'Flush' }
  | { readonly type: 'Terminate' }
  /** What proves who the client is; how its body reads depends on what was asked. */
  | { readonly type: 'Proof'; readonly body: Buffer }

interface Kind {
  readonly name: string
  readonly bytesMax: number
  readonly decode: (body: Buffer) => FrontendMessage
}

const KINDS: ReadonlyMap<number, Kind> = new Map(
  Object.entries<Kind>({
    Q: { name: 'Query', bytesMax: LARGE_BYTES_MAX, decode: decodeQuery },
    P: { name: 'Parse', bytesMax: LARGE_BYTES_MAX, decode: decodeParse },
    B: { name: 'Bind', bytesMax: LARGE_BYTES_MAX, decode: decodeBind },
    D: { name: 'Describe', bytesMax: SMALL_BYTES_MAX, decode: (body) => decodeDescribe('Describe', body) },
    C: { name: 'Close', bytesMax: SMALL_BYTES_MAX, decode: (body) => decodeDescribe('Close', body) },
    E: { name: 'Execute', bytesMax: SMALL_BYTES_MAX, decode: decodeExecute },
    F: { name: 'FunctionCall', bytesMax: LARGE_BYTES_MAX, decode: decodeFunctionCall },
    d: { name: 'CopyData', bytesMax: COPY_BYTES_MAX, decode: (data) => ({ type: 'CopyData', data }) },
    c: { name: 'CopyDone', bytesMax: 0, decode: () => ({ type: 'CopyDone' }) },
    f: { name: 'CopyFail', bytesMax: SMALL_BYTES_MAX, decode: decodeCopyFail },
    S: { name: 'Sync', bytesMax: 0, decode: () => ({ type: 'Sync' }) },
    H: { name: 'Flush', bytesMax: 0, decode: () => ({ type: 'Flush' }) },
    X: { name: 'Terminate', bytesMax: 0, decode: () => ({ type: 'Terminate' }) },
    p: { name: 'Password', bytesMax: AUTH_BYTES_MAX, decode: (body) => ({ type: 'Proof', body }) },
  }).map(([letter, kind]) => [letter.charCodeAt(0), kind]),
)

const HEADER_BYTES = 5

/**
 * Cuts a client's bytes into messages, however they come. Holds at most one incomplete message, whose length was checked
 * against what its kind may have before any of it was waited for.
 */
export class FrontendReader {
  #pieces: Buffer[] = []
  #bytes = 0
  /** Bytes needed before there is anything to look at. */
  #wanted = HEADER_BYTES

  push(piece: Buffer): void {
    if (piece.length === 0) return
    this.#pieces.push(piece)
    this.#bytes += piece.length
  }

  /** Bytes that wait. */
  get waiting(): number {
    return this.#bytes
  }

  /** The letter of the next message, when its header is there. */
  peek(): string | undefined {
    if (this.#bytes < 1) return undefined
    return String.fromCharCode(this.#joined()[0] as number)
  }

  /**
   * Returns the next message, or `undefined` until more bytes have come.
   *
   * @throws SallyportError `ERR_INVALID_INPUT`; what follows cannot be told apart any more, so the connection must end.
   */
  next(): FrontendMessage | undefined {
    if (this.#bytes < this.#wanted) return undefined
    const bytes = this.#joined()
    const kind = KINDS.get(bytes[0] as number)
    if (kind === undefined) throw violation('last', 'is of no kind the protocol knows')
    // The length counts itself but not the type before it.
    const length = bytes.readUInt32BE(1)
    if (length < 4 || length - 4 > kind.bytesMax) throw violation(kind.name, 'has a length that cannot be')
    this.#wanted = length + 1
    if (bytes.length < this.#wanted) return undefined
    const body = bytes.subarray(HEADER_BYTES, length + 1)
    this.#pieces = bytes.length === length + 1 ? [] : [bytes.subarray(length + 1)]
    this.#bytes -= length + 1
    this.#wanted = HEADER_BYTES
    return kind.decode(body)
  }

  #joined(): Buffer {
    const [first] = this.#pieces
    if (first !== undefined && this.#pieces.length === 1) return first
    const joined = Buffer.concat(this.#pieces, this.#bytes)
    this.#pieces = [joined]
    return joined
  }
}
