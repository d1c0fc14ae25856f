/**
 * How the HTTP listener says an error: one table from codes to statuses, and problem details (RFC 9457) as the body.
 *
 * @packageDocumentation
 */
import type { ErrorCode, SallyportError } from '../../core/errors.ts'

interface Wire {
  readonly status: number
  readonly title: string
}

const WIRE: Readonly<Record<ErrorCode, Wire>> = {
  ERR_INVALID_INPUT: { status: 400, title: 'Invalid request' },
  ERR_TOO_LARGE: { status: 413, title: 'Too large' },
  ERR_UNKNOWN_TARGET: { status: 404, title: 'Unknown target' },
  ERR_UNKNOWN_TOOL: { status: 404, title: 'Unknown tool' },
  ERR_UNKNOWN_TICKET: { status: 404, title: 'Unknown ticket' },
  ERR_UNAUTHENTICATED: { status: 401, title: 'Not authenticated' },
  ERR_FORBIDDEN: { status: 403, title: 'Forbidden' },
  ERR_DENIED: { status: 403, title: 'Denied by policy' },
  ERR_APPROVAL_PENDING: { status: 202, title: 'Waiting for approval' },
  ERR_APPROVAL_REFUSED: { status: 403, title: 'Refused by an approver' },
  ERR_APPROVAL_EXPIRED: { status: 403, title: 'The approval expired' },
  ERR_APPROVAL_CANCELLED: { status: 409, title: 'The approval was cancelled' },
  ERR_APPROVAL_STALE: { status: 409, title: 'The approval no longer covers this request' },
  ERR_APPROVAL_CONFLICT: { status: 409, title: 'The approval is in use' },
  ERR_OUTCOME_UNKNOWN: { status: 500, title: 'It is unknown whether this took effect' },
  ERR_LIMIT_RATE: { status: 429, title: 'Too many requests' },
  ERR_LIMIT_CONCURRENCY: { status: 429, title: 'Too many requests at once' },
  ERR_LIMIT_BUDGET: { status: 429, title: 'The budget is used up' },
  ERR_POLICY_CHANGED: { status: 403, title: 'The policy changed while the request ran' },
  ERR_TIMEOUT: { status: 504, title: 'Timed out' },
  // Nobody is there to read it; the number is the one proxies log for it.
  ERR_CANCELLED: { status: 499, title: 'Cancelled' },
  ERR_UPSTREAM_UNREACHABLE: { status: 502, title: 'The service cannot be reached' },
  ERR_UPSTREAM_AUTH: { status: 502, title: 'The service refused the gateway' },
  ERR_UPSTREAM_REJECTED: { status: 502, title: 'The answer of the service cannot be passed on' },
  ERR_UPSTREAM_LOST: { status: 502, title: 'The connection to the service was lost' },
  ERR_CREDENTIAL_MISSING: { status: 502, title: 'The credential of the service is missing' },
  ERR_CONFIG_INVALID: { status: 500, title: 'The gateway is not set up for this' },
  ERR_POLICY_INVALID: { status: 500, title: 'The policy cannot be carried out' },
  ERR_STATE_LOCKED: { status: 503, title: 'The gateway cannot serve this now' },
  ERR_STORE_FAILED: { status: 503, title: 'The gateway cannot serve this now' },
  ERR_RECORDING_FAILED: { status: 503, title: 'The gateway cannot record this now' },
  ERR_RECORDING_INVALID: { status: 503, title: 'The gateway cannot record this now' },
  ERR_SHUTTING_DOWN: { status: 503, title: 'The gateway is shutting down' },
  ERR_INTERNAL: { status: 500, title: 'Internal error' },
}

/** A response that holds problem details. */
export interface Problem {
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
export function problemOf(error: SallyportError, held?: HeldFacts): Problem {
  const { status, title } = WIRE[error.code]
  const { rules, hint, construct, ticket = held?.ticket, retryAfterMs } = error.facts
  const isPending = error.code === 'ERR_APPROVAL_PENDING'
  const seconds = retryAfterMs !== undefined ? Math.ceil(retryAfterMs / 1000) : isPending ? 5 : undefined
  return {
    status,
    headers: {
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      ...(status === 401 && { 'www-authenticate': 'Bearer realm="sallyport"' }),
      ...(seconds !== undefined && { 'retry-after': String(seconds) }),
      ...(ticket !== undefined && { 'sallyport-ticket': ticket }),
    },
    body: JSON.stringify({
      type: 'about:blank',
      title,
      status,
      detail: error.message,
      code: error.code,
      ...(rules !== undefined && rules.length > 0 && { rules }),
      ...(hint !== undefined && { hint }),
      ...(construct !== undefined && { construct }),
      ...(ticket !== undefined && { ticket }),
      ...(isPending && held !== undefined && { approvers: held.approvers, expires_at: held.expiresAt }),
      ...(isPending && {
        next: 'Send the very same request again to wait on, or to pick up the result once approved.',
      }),
    }),
  }
}
