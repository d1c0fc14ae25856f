import type { ExitChunk } from '../../core/chunk.ts'
import { SallyportError, type ErrorCode } from '../../core/errors.ts'
import type { KubeRequest } from './request.ts'

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
 * Codes that a handshake ends with before anything is sent on its connection. Other errors of TLS (`ERR_SSL_…`, `EPROTO`)
 * may come at any time: whoever breaks a record may do so behind a request that was carried out.
 */
const IDENTITY = /^(?:CERT_|ERR_TLS_CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_SSL_WRONG_VERSION_NUMBER$)/u

/**
 * Turns what went wrong with a request into what its caller may know.
 *
 * @param isAnswered whether headers of an answer had come.
 */
export function mapError(error: unknown, signal: AbortSignal, isAnswered: boolean): SallyportError {
  if (error instanceof SallyportError) return error
  if (signal.aborted) return reasonOf(signal)
  const { code, message, isUnsent } = meaningOf(isOfConnection(error) ? '' : codeOf(error), isAnswered)
  return new SallyportError(code, message, { facts: isUnsent === true ? { noEffect: true } : {}, cause: error })
}

/**
 * Verbs whose refusal proves nothing. A collection is deleted one object after the other, and the first that is refused
 * becomes the answer of all; what stands behind a proxy, or is not understood, answers by rules of its own.
 */
const MAY_BE_HALF_DONE: ReadonlySet<string> = new Set(['deletecollection', 'proxy', 'unknown'])

/**
 * What an answer with an error says of the change that was asked for: the server refused it before it did any of it, or, of
 * its own errors, nobody knows (RFC 9110, sections 15.5 and 15.6). Both doors settle their approvals by it.
 */
export function failureOf(status: number, { verb }: Pick<KubeRequest, 'verb'>): Pick<ExitChunk, 'failed'> {
  if (status < 400) return {}
  return { failed: status < 500 && !MAY_BE_HALF_DONE.has(verb) ? 'no_effect' : 'unknown' }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

/**
 * Whether the system says it of a connection that was made. A host that goes away behind a request is told of by the same
 * codes as one that was never reached (`EHOSTUNREACH` once nobody acknowledges what was sent, tcp(7)).
 */
function isOfConnection(error: unknown): boolean {
  const call = error instanceof Error && 'syscall' in error ? error.syscall : undefined
  return call !== undefined && call !== 'connect' && call !== 'getaddrinfo'
}

/**
 * What went wrong before anything of a call could have changed something: whatever it was, nothing is left of it. Of a
 * connection that broke that is worth saying in other words, as it usually means that nobody knows.
 */
export function withoutEffect(error: unknown, signal: AbortSignal): SallyportError {
  const { code, message, facts, detail, cause } = mapError(error, signal, false)
  const isLost = code === 'ERR_UPSTREAM_LOST'
  return new SallyportError(isLost ? 'ERR_UPSTREAM_UNREACHABLE' : code, isLost ? BROKEN_BEFORE : message, {
    facts: { ...facts, noEffect: true },
    ...(detail !== undefined && { detail }),
    ...(cause !== undefined && { cause }),
  })
}

const BROKEN_BEFORE = 'The connection to the API server broke before anything was changed.'

/** Why a call was stopped. */
export function reasonOf(signal: AbortSignal): SallyportError {
  if (signal.reason instanceof SallyportError) return signal.reason
  return new SallyportError('ERR_CANCELLED', 'The call was cancelled.', { cause: signal.reason })
}

function meaningOf(code: string, isAnswered: boolean): Meaning {
  const known = MEANINGS[code]
  if (known !== undefined) return known
  if (!isAnswered && IDENTITY.test(code)) {
    return { ...UNREACHABLE, message: 'The API server did not prove who it is (TLS).' }
  }
  if (!isAnswered && code.startsWith('ERR_OSSL_')) {
    return { ...UNREACHABLE, code: 'ERR_CREDENTIAL_MISSING', message: 'The client certificate or its key is unusable.' }
  }
  return {
    code: 'ERR_UPSTREAM_LOST',
    message: isAnswered
      ? 'The connection to the API server broke in the middle of its answer.'
      : 'The connection to the API server broke.',
  }
}
