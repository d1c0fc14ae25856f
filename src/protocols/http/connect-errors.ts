import { SallyportError, type ErrorCode } from '../../core/errors.ts'

interface Meaning {
  readonly code: ErrorCode
  readonly message: string
  /** Whether the request cannot have reached the service. */
  readonly isUnsent?: true
}

const UNREACHABLE: Meaning = {
  code: 'ERR_UPSTREAM_UNREACHABLE',
  message: 'The service cannot be reached.',
  isUnsent: true,
}

/** By the codes of Node and undici. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  ECONNREFUSED: UNREACHABLE,
  EHOSTUNREACH: UNREACHABLE,
  ENETUNREACH: UNREACHABLE,
  EADDRNOTAVAIL: UNREACHABLE,
  UND_ERR_CONNECT_TIMEOUT: { ...UNREACHABLE, message: 'The service did not take the connection in time.' },
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
 * @param isAnswered whether headers of an answer had come.
 */
export function mapError(error: unknown, signal: AbortSignal, isAnswered: boolean): SallyportError {
  if (error instanceof SallyportError) return error
  if (signal.aborted) {
    if (signal.reason instanceof SallyportError) return signal.reason
    return new SallyportError('ERR_CANCELLED', 'The call was cancelled.', { cause: signal.reason })
  }
  // The parser's errors have lost their codes in some versions; their name says enough.
  const code = error instanceof Error && error.name === 'HTTPParserError' ? 'HPE_' : codeOf(error)
  const { code: mapped, message, isUnsent } = meaningOf(code, isAnswered)
  return new SallyportError(mapped, message, { facts: isUnsent === true ? { noEffect: true } : {}, cause: error })
}

function meaningOf(code: string, isAnswered: boolean): Meaning {
  const known = MEANINGS[code]
  if (known !== undefined) return known
  if (/^(?:CERT_|ERR_TLS_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_SSL_|EPROTO)/u.test(code)) {
    return { ...UNREACHABLE, message: 'The service did not prove who it is (TLS).' }
  }
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
    message: isAnswered
      ? 'The connection to the service broke in the middle of its answer.'
      : 'The connection to the service broke.',
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}
