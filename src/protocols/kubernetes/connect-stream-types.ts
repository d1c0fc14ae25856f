import { SallyportError } from '../../core/errors.ts'
import type { Frame } from './streams/channels.ts'

/** Where streams are opened, and what proves us there. */
export interface StreamRequest {
  /** `https://…` with the query of the request, exactly as it was judged. */
  readonly url: URL
  /** Our own headers, such as `authorization`. */
  readonly headers: Readonly<Record<string, string>>
  readonly tls: {
    readonly ca?: string | Buffer
    readonly cert?: string | Buffer
    readonly key?: string | Buffer
    readonly servername?: string
  }
  /** Which channels the request asks for. */
  readonly channels: {
    readonly stdin: boolean
    readonly stdout: boolean
    readonly stderr: boolean
    readonly tty: boolean
  }
  /** Frames for the server; its end is the end of standard input. */
  readonly input?: AsyncIterable<Uint8Array>
  readonly signal: AbortSignal
}

/** The server's answer instead of streams: nothing has run. */
export interface StreamRefusal {
  readonly kind: 'refused'
  readonly status: number
  readonly contentType?: string
  /** At most {@link REFUSAL_BYTES_MAX} of it. */
  readonly body: Buffer
}

/** Open streams. Whoever opened them closes them in `finally`. */
export interface OpenStreams {
  readonly kind: 'open'
  /** What the server sends, until it ends. @throws SallyportError `ERR_UPSTREAM_LOST`, or why it was aborted */
  frames(): AsyncIterable<Frame>
  close(): void
}

/** Most of a refusal that is read. */
export const REFUSAL_BYTES_MAX = 64 * 1024

/** Says that the server cannot be reached. */
export function unreachable(cause: unknown): SallyportError {
  return new SallyportError('ERR_UPSTREAM_UNREACHABLE', 'The API server cannot be reached.', { cause })
}

/** Says that the connection broke while streams were open. */
export function lost(cause?: unknown): SallyportError {
  return new SallyportError('ERR_UPSTREAM_LOST', 'The connection to the API server broke.', {
    ...(cause !== undefined && { cause }),
  })
}
