import { SallyportError, type ErrorCode } from '../../core/errors.ts'

/** How far a call had come: nothing of it was sent, or its request was begun, or the head of an answer had come. */
export type Reached = 'nothing' | 'request' | 'answer'

interface Meaning {
  readonly code: ErrorCode
  readonly message: string
}

/** What went wrong with a request that was begun, by the codes of Node and undici. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  UND_ERR_HEADERS_TIMEOUT: { code: 'ERR_TIMEOUT', message: 'The service did not answer in time.' },
  UND_ERR_BODY_TIMEOUT: { code: 'ERR_TIMEOUT', message: 'The service stopped in the middle of its answer.' },
  UND_ERR_HEADERS_OVERFLOW: { code: 'ERR_UPSTREAM_REJECTED', message: 'The headers of the answer are too large.' },
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: {
    code: 'ERR_UPSTREAM_LOST',
    message: 'The answer is shorter or longer than it said.',
  },
}

/**
 * Turns what went wrong with a request into what its caller may know.
 *
 * What an error is called never tells whether the request was sent: a connection that breaks later has the codes of one
 * that was never made, and whoever is at its other end chooses which.
 */
export function mapError(error: unknown, signal: AbortSignal, reached: Reached): SallyportError {
  if (reached === 'nothing') return unsent(error, signal)
  if (error instanceof SallyportError) return error
  if (signal.aborted) return reasonOf(signal)
  const { code, message } = meaningOf(codeOf(error), reached)
  return new SallyportError(code, message, { cause: error })
}

/** What went wrong before the first byte was sent: another try cannot be a second one. */
function unsent(error: unknown, signal: AbortSignal): SallyportError {
  const known = error instanceof SallyportError ? error : signal.aborted ? reasonOf(signal) : undefined
  if (known?.facts.noEffect === true) return known
  const { code, message } = known ?? meaningOfUnsent(codeOf(error))
  return new SallyportError(code, message, {
    facts: { ...known?.facts, noEffect: true },
    ...(known?.detail !== undefined && { detail: known.detail }),
    cause: known?.cause ?? error,
  })
}

function reasonOf(signal: AbortSignal): SallyportError {
  if (signal.reason instanceof SallyportError) return signal.reason
  return new SallyportError('ERR_CANCELLED', 'The call was cancelled.', { cause: signal.reason })
}

function meaningOfUnsent(code: string): Meaning {
  if (code === 'UND_ERR_INVALID_ARG' || code === 'ERR_INVALID_CHAR') {
    // Everything else of the request was looked at letter by letter when it was planned.
    return {
      code: 'ERR_CREDENTIAL_MISSING',
      message: 'The credential of the service has characters no header can hold.',
    }
  }
  const message =
    code === 'UND_ERR_CONNECT_TIMEOUT'
      ? 'The service did not take the connection in time.'
      : TLS.test(code)
        ? 'The service did not prove who it is (TLS).'
        : 'The service cannot be reached.'
  return { code: 'ERR_UPSTREAM_UNREACHABLE', message }
}

const TLS = /^(?:CERT_|ERR_TLS_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_SSL_|EPROTO)/u

function meaningOf(code: string, reached: Reached): Meaning {
  const known = MEANINGS[code]
  if (known !== undefined) return known
  if (code.startsWith('HPE_')) {
    return { code: 'ERR_UPSTREAM_REJECTED', message: 'The service answered with something that is no HTTP.' }
  }
  if (
    code.startsWith('Z_') ||
    code.startsWith('ERR__ERROR') ||
    code.startsWith('ERR_BROTLI') ||
    code === 'ERR_PADDING_2'
  ) {
    return { code: 'ERR_UPSTREAM_REJECTED', message: 'The answer cannot be decompressed.' }
  }
  return {
    code: 'ERR_UPSTREAM_LOST',
    message:
      reached === 'answer'
        ? 'The connection to the service broke in the middle of its answer.'
        : 'The connection to the service broke.',
  }
}

function codeOf(error: unknown): string {
  // The parser's errors have lost their codes in some versions; their name says enough.
  if (error instanceof Error && error.name === 'HTTPParserError') return 'HPE_'
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}
