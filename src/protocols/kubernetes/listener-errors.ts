/**
 * How the Kubernetes listener says an error: a `Status` object as the body, which kubectl prints and every client library
 * reads (Kubernetes API conventions, "Response Status Kind").
 *
 * @packageDocumentation
 */
import type { ErrorCode, SallyportError } from '../../core/errors.ts'
import { errorHeaders, HTTP_STATUS, type ErrorAnswer, type HeldFacts } from '../../core/http-error.ts'

/** Where clients of Kubernetes do something else than other clients with the usual status. */
const STATUS: Readonly<Record<ErrorCode, number>> = {
  ...HTTP_STATUS,
  // Neither 202, which is a success, nor 429: clients would send it again by themselves, and nobody would read the ticket.
  ERR_APPROVAL_PENDING: 403,
  ERR_APPROVAL_CANCELLED: 403,
  ERR_LIMIT_BUDGET: 403,
}

/** The reasons clients know; they print and act by them. What is not here is an internal error. */
const REASONS: Readonly<Partial<Record<number, string>>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  409: 'Conflict',
  413: 'RequestEntityTooLarge',
  429: 'TooManyRequests',
  499: 'Timeout',
  502: 'ServiceUnavailable',
  503: 'ServiceUnavailable',
  504: 'Timeout',
}

const INTERNAL = 'InternalError'

/** Writes an error down. Nothing but its message and its facts leaves. */
export function statusOf(error: SallyportError, held?: HeldFacts): ErrorAnswer {
  const status = STATUS[error.code]
  const { ticket = held?.ticket, retryAfterMs } = error.facts
  // A client that is told when to come again does so by itself, ten times.
  const isComingAgain = status === 429 && retryAfterMs !== undefined
  const retryAfterS = isComingAgain ? Math.ceil(retryAfterMs / 1000) : undefined
  return {
    status,
    headers: errorHeaders('application/json', status, { retryAfterS, ticket }),
    body: JSON.stringify(statusObject(error, held)),
  }
}

/** The `Status` of an error, also for the end of a stream. */
export function statusObject(error: SallyportError, held?: HeldFacts): object {
  const status = STATUS[error.code]
  // What of an answer cannot be passed on is no reason to come again.
  const reason = error.code === 'ERR_UPSTREAM_REJECTED' ? INTERNAL : (REASONS[status] ?? INTERNAL)
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
