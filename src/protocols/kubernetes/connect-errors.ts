import { SallyportError, type ErrorCode } from '../../core/errors.ts'

interface Meaning {
  readonly code: ErrorCode
  readonly message: string
  /** Whether the request cannot have reached the server. */
  readonly isUnsent?: true
}

const UNREACHABLE: Meaning = {
  code: 'ERR_UPSTREAM_UNREACHABLE',
  message: 'The API server cannot be reached.',
  isUnsent: true,
}

/** By the codes of Node and undici. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  ECONNREFUSED: UNREACHABLE,
  EHOSTUNREACH: UNREACHABLE,
  ENETUNREACH: UNREACHABLE,
  EADDRNOTAVAIL: UNREACHABLE,
  ENOTFOUND: UNREACHABLE,
  EAI_AGAIN: UNREACHABLE,
  UND_ERR_CONNECT_TIMEOUT: { ...UNREACHABLE, message: 'The API server did not take the connection in time.' },
  UND_ERR_HEADERS_TIMEOUT: { code: 'ERR_TIMEOUT', message: 'The API server did not answer in time.' },
  UND_ERR_BODY_TIMEOUT: { code: 'ERR_TIMEOUT', message: 'The API server stopped in the middle of its answer.' },
  UND_ERR_HEADERS_OVERFLOW: { code: 'ERR_UPSTREAM_REJECTED', message: 'The headers of the answer are too large.' },
}

/**
 * Turns what went wrong with a request into what its caller may know.
 *
 * @param isAnswered whether headers of an answer had come.
 */
export function mapError(error: unknown, signal: AbortSignal, isAnswered: boolean): SallyportError {
  if (error instanceof SallyportError) return error
  if (signal.aborted) return reasonOf(signal)
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
  const { code: mapped, message, isUnsent } = meaningOf(code, isAnswered)
  return new SallyportError(mapped, message, { facts: isUnsent === true ? { noEffect: true } : {}, cause: error })
}

/** Why a call was stopped. */
export function reasonOf(signal: AbortSignal): SallyportError {
  if (signal.reason instanceof SallyportError) return signal.reason
  return new SallyportError('ERR_CANCELLED', 'The call was cancelled.', { cause: signal.reason })
}

function meaningOf(code: string, isAnswered: boolean): Meaning {
  const known = MEANINGS[code]
  if (known !== undefined) return known
  if (/^(?:CERT_|ERR_TLS_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_SSL_|EPROTO)/u.test(code)) {
    return { ...UNREACHABLE, message: 'The API server did not prove who it is (TLS).' }
  }
  return {
    code: 'ERR_UPSTREAM_LOST',
    message: isAnswered
      ? 'The connection to the API server broke in the middle of its answer.'
      : 'The connection to the API server broke.',
  }
}
