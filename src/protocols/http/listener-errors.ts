/**
 * How the HTTP listener says an error: problem details (RFC 9457) as the body, with one table for their titles.
 *
 * @packageDocumentation
 */
import type { ErrorCode, SallyportError } from '../../core/errors.ts'
import { errorHeaders, HTTP_STATUS, type ErrorAnswer, type HeldFacts } from '../../core/http-error.ts'

const TITLES: Readonly<Record<ErrorCode, string>> = {
  ERR_INVALID_INPUT: 'Invalid request',
  ERR_TOO_LARGE: 'Too large',
  ERR_UNKNOWN_TARGET: 'Unknown target',
  ERR_UNKNOWN_TOOL: 'Unknown tool',
  ERR_UNKNOWN_TICKET: 'Unknown ticket',
  ERR_UNAUTHENTICATED: 'Not authenticated',
  ERR_FORBIDDEN: 'Forbidden',
  ERR_DENIED: 'Denied by policy',
  ERR_APPROVAL_PENDING: 'Waiting for approval',
  ERR_APPROVAL_REFUSED: 'Refused by an approver',
  ERR_APPROVAL_EXPIRED: 'The approval expired',
  ERR_APPROVAL_CANCELLED: 'The approval was cancelled',
  ERR_APPROVAL_STALE: 'The approval no longer covers this request',
  ERR_APPROVAL_CONFLICT: 'The approval is in use',
  ERR_OUTCOME_UNKNOWN: 'It is unknown whether this took effect',
  ERR_LIMIT_RATE: 'Too many requests',
  ERR_LIMIT_CONCURRENCY: 'Too many requests at once',
  ERR_LIMIT_BUDGET: 'The budget is used up',
  ERR_POLICY_CHANGED: 'The policy changed while the request ran',
  ERR_TIMEOUT: 'Timed out',
  ERR_CANCELLED: 'Cancelled',
  ERR_UPSTREAM_UNREACHABLE: 'The service cannot be reached',
  ERR_UPSTREAM_AUTH: 'The service refused the gateway',
  ERR_UPSTREAM_REJECTED: 'The answer of the service cannot be passed on',
  ERR_UPSTREAM_LOST: 'The connection to the service was lost',
  ERR_CREDENTIAL_MISSING: 'The credential of the service is missing',
  ERR_CONFIG_INVALID: 'The gateway is not set up for this',
  ERR_POLICY_INVALID: 'The policy cannot be carried out',
  ERR_STATE_LOCKED: 'The gateway cannot serve this now',
  ERR_STORE_FAILED: 'The gateway cannot serve this now',
  ERR_RECORDING_FAILED: 'The gateway cannot record this now',
  ERR_RECORDING_INVALID: 'The gateway cannot record this now',
  ERR_SHUTTING_DOWN: 'The gateway is shutting down',
  ERR_INTERNAL: 'Internal error',
}

/** Writes an error down. Nothing but its message and its facts leaves. */
export function problemOf(error: SallyportError, held?: HeldFacts): ErrorAnswer {
  const status = HTTP_STATUS[error.code]
  const { rules, limit, hint, construct, ticket = held?.ticket, retryAfterMs } = error.facts
  const isPending = error.code === 'ERR_APPROVAL_PENDING'
  const retryAfterS = retryAfterMs !== undefined ? Math.ceil(retryAfterMs / 1000) : isPending ? 5 : undefined
  return {
    status,
    headers: errorHeaders('application/problem+json', status, { retryAfterS, ticket }),
    body: JSON.stringify({
      type: 'about:blank',
      title: TITLES[error.code],
      status,
      detail: error.message,
      code: error.code,
      ...(rules !== undefined && rules.length > 0 && { rules }),
      ...(limit !== undefined && { limit }),
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
