/**
 * How the Kubernetes listener says an error: one table from codes to statuses and reasons, and a `Status` object as the
 * body, which kubectl prints and every client library reads (Kubernetes API conventions, "Response Status Kind").
 *
 * @packageDocumentation
 */
import type { ErrorCode, SallyportError } from '../../core/errors.ts'

interface Wire {
  readonly status: number
  /** One of the reasons clients know; they print and act by it. */
  readonly reason: string
}

const WIRE: Readonly<Record<ErrorCode, Wire>> = {
  ERR_INVALID_INPUT: { status: 400, reason: 'BadRequest' },
  ERR_TOO_LARGE: { status: 413, reason: 'RequestEntityTooLarge' },
  ERR_UNKNOWN_TARGET: { status: 404, reason: 'NotFound' },
  ERR_UNKNOWN_TOOL: { status: 404, reason: 'NotFound' },
  ERR_UNKNOWN_TICKET: { status: 404, reason: 'NotFound' },
  ERR_UNAUTHENTICATED: { status: 401, reason: 'Unauthorized' },
  ERR_FORBIDDEN: { status: 403, reason: 'Forbidden' },
  ERR_DENIED: { status: 403, reason: 'Forbidden' },
  // Not 429: clients would send it again and again by themselves, and nobody would read the ticket.
  ERR_APPROVAL_PENDING: { status: 403, reason: 'Forbidden' },
  ERR_APPROVAL_REFUSED: { status: 403, reason: 'Forbidden' },
  ERR_APPROVAL_EXPIRED: { status: 403, reason: 'Forbidden' },
  ERR_APPROVAL_CANCELLED: { status: 403, reason: 'Forbidden' },
  ERR_APPROVAL_STALE: { status: 409, reason: 'Conflict' },
  ERR_APPROVAL_CONFLICT: { status: 409, reason: 'Conflict' },
  ERR_OUTCOME_UNKNOWN: { status: 500, reason: 'InternalError' },
  ERR_LIMIT_RATE: { status: 429, reason: 'TooManyRequests' },
  ERR_LIMIT_CONCURRENCY: { status: 429, reason: 'TooManyRequests' },
  ERR_LIMIT_BUDGET: { status: 403, reason: 'Forbidden' },
  ERR_POLICY_CHANGED: { status: 403, reason: 'Forbidden' },
  ERR_TIMEOUT: { status: 504, reason: 'Timeout' },
  // Nobody is there to read it; the number is the one proxies log for it.
  ERR_CANCELLED: { status: 499, reason: 'Timeout' },
  ERR_UPSTREAM_UNREACHABLE: { status: 502, reason: 'ServiceUnavailable' },
  ERR_UPSTREAM_AUTH: { status: 502, reason: 'ServiceUnavailable' },
  ERR_UPSTREAM_REJECTED: { status: 502, reason: 'InternalError' },
  ERR_UPSTREAM_LOST: { status: 502, reason: 'ServiceUnavailable' },
  ERR_CREDENTIAL_MISSING: { status: 502, reason: 'ServiceUnavailable' },
  ERR_CONFIG_INVALID: { status: 500, reason: 'InternalError' },
  ERR_POLICY_INVALID: { status: 500, reason: 'InternalError' },
  ERR_STATE_LOCKED: { status: 503, reason: 'ServiceUnavailable' },
  ERR_STORE_FAILED: { status: 503, reason: 'ServiceUnavailable' },
  ERR_RECORDING_FAILED: { status: 503, reason: 'ServiceUnavailable' },
  ERR_RECORDING_INVALID: { status: 503, reason: 'ServiceUnavailable' },
  ERR_SHUTTING_DOWN: { status: 503, reason: 'ServiceUnavailable' },
  ERR_INTERNAL: { status: 500, reason: 'InternalError' },
}

/** A response that holds a `Status`. */
export interface StatusAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** Whom a held request waits for. */
export interface HeldFacts {
  readonly ticket: string
  readonly approvers: readonly string[]
  readonly expiresAt: string
}

/** Writes an error down. Nothing but its message and its facts leaves. */
export function statusOf(error: SallyportError, held?: HeldFacts): StatusAnswer {
  const { status } = WIRE[error.code]
  const { ticket = held?.ticket, retryAfterMs } = error.facts
  // A client that is told when to come again does so by itself, ten times.
  const isComingAgain = status === 429 && retryAfterMs !== undefined
  return {
    status,
    headers: {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      ...(status === 401 && { 'www-authenticate': 'Bearer realm="sallyport"' }),
      ...(isComingAgain && { 'retry-after': String(Math.ceil(retryAfterMs / 1000)) }),
      ...(ticket !== undefined && { 'sallyport-ticket': ticket }),
    },
    body: JSON.stringify(statusObject(error, held)),
  }
}

/** The `Status` of an error, also for the end of a stream. */
export function statusObject(error: SallyportError, held?: HeldFacts): object {
  const { status, reason } = WIRE[error.code]
  const { rules = [], hint, construct, ticket = held?.ticket, retryAfterMs } = error.facts
  const isPending = error.code === 'ERR_APPROVAL_PENDING'
  const message = [
    error.message,
    ...(rules.length > 0 ? [`Rule: ${rules.join(', ')}.`] : []),
    ...(hint !== undefined ? [hint] : []),
    ...(ticket !== undefined ? [`Ticket: ${ticket}.`] : []),
    ...(isPending && held !== undefined ? [`Asked: ${held.approvers.join(', ')}.`] : []),
    ...(isPending ? ['Run the very same command again to wait on, or to pick up the result once approved.'] : []),
  ].join(' ')
  const causes = [
    { reason: 'SallyportCode', message: error.code },
    ...rules.map((rule) => ({ reason: 'SallyportRule', message: rule })),
    ...(construct !== undefined ? [{ reason: 'SallyportConstruct', message: construct }] : []),
    ...(ticket !== undefined ? [{ reason: 'SallyportTicket', message: ticket }] : []),
  ]
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    reason,
    details: {
      causes,
      ...(retryAfterMs !== undefined && status === 429 && { retryAfterSeconds: Math.ceil(retryAfterMs / 1000) }),
    },
    code: status,
  }
}
