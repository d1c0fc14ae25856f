/**
 * How the MCP door says an error: one table from codes to what a model reads, and nothing about an error leaves the
 * door in any other way.
 *
 * @packageDocumentation
 */
import type { ErrorCode } from '../../core/errors.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Answer, Json, Status } from '../../../tools/answer.ts'
import { escapeLine } from '../../../tools/escape.ts'

/** What a code means at this door. */
interface Wire {
  readonly status: Status
  /** Opens the text: what kind of thing happened. */
  readonly says: string
  /** What the model should do now. */
  readonly advice: string
  /** Of the HTTP response, when the error is about the request as a whole. */
  readonly http: number
}

const ASK_OPERATOR = 'Tell your user: only the operator of the gateway can fix this.'
const FIX_ARGUMENTS = 'Correct the arguments and call again.'
const NOT_BY_ASKING = 'The same call will be refused again. Tell your user what stands in the way.'
const LATER = 'Try again later.'

const WIRE: Readonly<Record<ErrorCode, Wire>> = {
  ERR_INVALID_INPUT: { status: 'invalid', says: 'Invalid request', advice: FIX_ARGUMENTS, http: 400 },
  ERR_TOO_LARGE: { status: 'invalid', says: 'Too large', advice: 'Send less at once.', http: 413 },
  ERR_UNKNOWN_TARGET: { status: 'invalid', says: 'Unknown target', advice: FIX_ARGUMENTS, http: 404 },
  ERR_UNKNOWN_TOOL: { status: 'invalid', says: 'Unknown tool', advice: FIX_ARGUMENTS, http: 404 },
  ERR_UNKNOWN_TICKET: { status: 'invalid', says: 'Unknown ticket', advice: FIX_ARGUMENTS, http: 404 },
  ERR_UNAUTHENTICATED: { status: 'denied', says: 'Not authenticated', advice: 'Use a valid token.', http: 401 },
  ERR_FORBIDDEN: { status: 'denied', says: 'Forbidden', advice: NOT_BY_ASKING, http: 403 },
  ERR_DENIED: { status: 'denied', says: 'Denied by policy', advice: NOT_BY_ASKING, http: 403 },
  ERR_APPROVAL_PENDING: {
    status: 'pending_approval',
    says: 'Waiting for approval',
    advice: 'A person has to approve this call first.',
    http: 202,
  },
  ERR_APPROVAL_REFUSED: { status: 'denied', says: 'Refused by an approver', advice: NOT_BY_ASKING, http: 403 },
  ERR_APPROVAL_EXPIRED: {
    status: 'denied',
    says: 'The approval expired',
    advice: 'Nobody answered in time. Send the call again to ask anew.',
    http: 403,
  },
  ERR_APPROVAL_CANCELLED: {
    status: 'cancelled',
    says: 'The approval was cancelled',
    advice: 'Send the call again to ask anew.',
    http: 409,
  },
  ERR_APPROVAL_STALE: {
    status: 'denied',
    says: 'The approval no longer covers this call',
    advice: 'Send the call again to ask anew.',
    http: 409,
  },
  ERR_APPROVAL_CONFLICT: {
    status: 'denied',
    says: 'The approval is in use',
    advice: 'Another request claimed it. Ask with `approval_status` for its result.',
    http: 409,
  },
  ERR_OUTCOME_UNKNOWN: {
    status: 'outcome_unknown',
    says: 'It is unknown whether this took effect',
    advice: 'Do not repeat it. Check at the target first, or let your user ask the operator.',
    http: 500,
  },
  ERR_LIMIT_RATE: { status: 'limited', says: 'Too many calls', advice: 'Slow down.', http: 429 },
  ERR_LIMIT_CONCURRENCY: {
    status: 'limited',
    says: 'Too many calls at once',
    advice: 'Wait for one of your calls to end.',
    http: 429,
  },
  ERR_LIMIT_BUDGET: { status: 'limited', says: 'The budget is used up', advice: NOT_BY_ASKING, http: 429 },
  ERR_POLICY_CHANGED: {
    status: 'denied',
    says: 'The policy changed while the call ran',
    advice: 'Read `policy://effective` before you go on.',
    http: 403,
  },
  ERR_TIMEOUT: { status: 'failed', says: 'Timed out', advice: 'Ask for less at once.', http: 504 },
  ERR_CANCELLED: {
    status: 'cancelled',
    says: 'Cancelled',
    advice: 'Send the call again if it is still needed.',
    http: 499,
  },
  ERR_UPSTREAM_UNREACHABLE: { status: 'failed', says: 'The target cannot be reached', advice: LATER, http: 502 },
  ERR_UPSTREAM_AUTH: { status: 'failed', says: 'The target refused the gateway', advice: ASK_OPERATOR, http: 502 },
  ERR_UPSTREAM_REJECTED: {
    status: 'failed',
    says: 'The target rejected this',
    advice: 'Correct the request; `describe_target` shows what exists.',
    http: 422,
  },
  ERR_UPSTREAM_LOST: {
    status: 'failed',
    says: 'The connection to the target was lost',
    advice: 'If the call changes something, check at the target before you repeat it.',
    http: 502,
  },
  ERR_CREDENTIAL_MISSING: {
    status: 'failed',
    says: 'The gateway has no credential for the target',
    advice: ASK_OPERATOR,
    http: 502,
  },
  ERR_CONFIG_INVALID: { status: 'failed', says: 'The gateway is misconfigured', advice: ASK_OPERATOR, http: 500 },
  ERR_POLICY_INVALID: { status: 'failed', says: 'The policy is invalid', advice: ASK_OPERATOR, http: 500 },
  ERR_STATE_LOCKED: { status: 'failed', says: 'The state is in use', advice: ASK_OPERATOR, http: 500 },
  ERR_STORE_FAILED: { status: 'failed', says: 'The gateway cannot keep its state', advice: ASK_OPERATOR, http: 500 },
  ERR_RECORDING_FAILED: {
    status: 'failed',
    says: 'The gateway cannot record, so it runs nothing',
    advice: ASK_OPERATOR,
    http: 500,
  },
  ERR_RECORDING_INVALID: { status: 'failed', says: 'A recording is damaged', advice: ASK_OPERATOR, http: 500 },
  ERR_SHUTTING_DOWN: { status: 'failed', says: 'The gateway is shutting down', advice: LATER, http: 503 },
  ERR_INTERNAL: { status: 'failed', says: 'Internal error', advice: ASK_OPERATOR, http: 500 },
}

/** What is known of a call that waits for a person. */
export interface Held {
  readonly ticket: string
  readonly approvers: readonly string[]
  readonly expiresAt: string
}

/** The answer a model gets for an error. */
export function answerError(error: SallyportError, pollAfterMs: number, held?: Held): Answer {
  const wire = WIRE[error.code]
  const ticket = error.facts.ticket ?? held?.ticket
  const isPending = error.code === 'ERR_APPROVAL_PENDING' && ticket !== undefined
  return {
    structured: {
      status: wire.status,
      code: error.code,
      reason: error.message,
      ...factsOf(error),
      ...(ticket !== undefined && { ticket }),
      ...(isPending && pendingOf(ticket, pollAfterMs, held)),
    },
    text: textOf(wire, error, isPending ? { ticket, pollAfterMs, held } : undefined),
    // A call that waits has not failed: a client that shows errors must not show one.
    isError: !isPending,
  }
}

/** The HTTP status of an error about the request as a whole. */
export function httpStatusOf(error: SallyportError): number {
  return WIRE[error.code].http
}

function factsOf({ facts }: SallyportError): { readonly [field: string]: Json } {
  return {
    ...(facts.rules !== undefined && { rules: facts.rules }),
    ...(facts.limit !== undefined && { limit: facts.limit }),
    ...(facts.hint !== undefined && { hint: facts.hint }),
    ...(facts.construct !== undefined && { construct: facts.construct }),
    ...(facts.sqlstate !== undefined && { sqlstate: facts.sqlstate }),
    ...(facts.retryAfterMs !== undefined && { retry_after_ms: Math.ceil(facts.retryAfterMs) }),
  }
}

function pendingOf(ticket: string, pollAfterMs: number, held: Held | undefined): { readonly [field: string]: Json } {
  return {
    poll_after_ms: pollAfterMs,
    resume: { tool: 'approval_status', arguments: { ticket } },
    ...(held !== undefined && { approvers: held.approvers, expires_at: held.expiresAt }),
  }
}

function textOf(
  wire: Wire,
  { code, message, facts }: SallyportError,
  pending: { readonly ticket: string; readonly pollAfterMs: number; readonly held: Held | undefined } | undefined,
): string {
  const lines = [`${wire.says} (${code}): ${escapeLine(message)}`]
  if (facts.rules !== undefined && facts.rules.length > 0) lines.push(`Rules: ${facts.rules.join(', ')}.`)
  if (facts.construct !== undefined) lines.push(`What could not be judged: ${escapeLine(facts.construct)}.`)
  if (facts.sqlstate !== undefined) lines.push(`SQLSTATE ${facts.sqlstate}.`)
  if (facts.hint !== undefined) lines.push(`Instead: ${escapeLine(facts.hint)}`)
  if (pending !== undefined) {
    const { ticket, pollAfterMs, held } = pending
    if (held !== undefined) lines.push(`May approve: ${held.approvers.join(', ')}. Expires ${held.expiresAt}.`)
    lines.push(
      `Ticket: ${ticket}. Nothing has run. In ${Math.ceil(pollAfterMs / 1000)} s or later, call approval_status with ` +
        '{"ticket": "' +
        `${ticket}"} to pick up the result. Do not send a changed request instead.`,
    )
  }
  if (facts.retryAfterMs !== undefined) lines.push(`Retry after ${Math.ceil(facts.retryAfterMs)} ms.`)
  else if (facts.hint === undefined) lines.push(wire.advice)
  return lines.join('\n')
}
