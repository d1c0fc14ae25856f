/**
 * What doors that speak HTTP share of saying an error: the status of each code and the headers that go with it. What the
 * body looks like, and where its clients need another status, each door says in one table of its own.
 *
 * @packageDocumentation
 */
import type { ErrorCode } from './errors.ts'

/** Statuses of errors (RFC 9110, section 15). Exhaustive: a new code does not compile without a line here. */
export const HTTP_STATUS: Readonly<Record<ErrorCode, number>> = {
  ERR_INVALID_INPUT: 400,
  ERR_TOO_LARGE: 413,
  ERR_UNKNOWN_TARGET: 404,
  ERR_UNKNOWN_TOOL: 404,
  ERR_UNKNOWN_TICKET: 404,
  ERR_UNAUTHENTICATED: 401,
  ERR_FORBIDDEN: 403,
  ERR_DENIED: 403,
  ERR_APPROVAL_PENDING: 202,
  ERR_APPROVAL_REFUSED: 403,
  ERR_APPROVAL_EXPIRED: 403,
  ERR_APPROVAL_CANCELLED: 409,
  ERR_APPROVAL_STALE: 409,
  ERR_APPROVAL_CONFLICT: 409,
  ERR_OUTCOME_UNKNOWN: 500,
  ERR_LIMIT_RATE: 429,
  ERR_LIMIT_CONCURRENCY: 429,
  ERR_LIMIT_BUDGET: 429,
  ERR_POLICY_CHANGED: 403,
  ERR_TIMEOUT: 504,
  // Nobody is there to read it; the number is the one proxies log for it.
  ERR_CANCELLED: 499,
  ERR_UPSTREAM_UNREACHABLE: 502,
  ERR_UPSTREAM_AUTH: 502,
  ERR_UPSTREAM_REJECTED: 502,
  ERR_UPSTREAM_LOST: 502,
  ERR_CREDENTIAL_MISSING: 502,
  ERR_CONFIG_INVALID: 500,
  ERR_POLICY_INVALID: 500,
  ERR_STATE_LOCKED: 503,
  ERR_STORE_FAILED: 503,
  ERR_RECORDING_FAILED: 503,
  ERR_RECORDING_INVALID: 503,
  ERR_SHUTTING_DOWN: 503,
  ERR_INTERNAL: 500,
}

/** An error as a whole response. */
export interface ErrorAnswer {
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

/** The headers of an error. @param say `retryAfterS` in seconds, where it makes sense to come again. */
export function errorHeaders(
  contentType: string,
  status: number,
  say: { readonly retryAfterS?: number | undefined; readonly ticket?: string | undefined },
): Readonly<Record<string, string>> {
  return {
    'content-type': contentType,
    'cache-control': 'no-store',
    ...(status === 401 && { 'www-authenticate': 'Bearer realm="sallyport"' }),
    ...(say.retryAfterS !== undefined && { 'retry-after': String(say.retryAfterS) }),
    ...(say.ticket !== undefined && { 'sallyport-ticket': say.ticket }),
  }
}
