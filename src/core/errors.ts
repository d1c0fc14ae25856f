/**
 * The one error class of the gateway and the closed list of its codes.
 *
 * Two texts: `message` is safe for the caller (no secret, no row, no backend address); `detail` and `cause` are for the
 * log only. Doors map codes to their own wire, each in one table; nothing else about an error may leave a door.
 *
 * @packageDocumentation
 */

/** Every way a call, a request to the admin door or a start can fail. Codes are API; messages are not. */
export type ErrorCode =
  // The caller's request
  | 'ERR_INVALID_INPUT'
  | 'ERR_TOO_LARGE'
  | 'ERR_UNKNOWN_TARGET'
  | 'ERR_UNKNOWN_TOOL'
  | 'ERR_UNKNOWN_TICKET'
  // Who is calling
  | 'ERR_UNAUTHENTICATED'
  | 'ERR_FORBIDDEN'
  // The decision
  | 'ERR_DENIED'
  | 'ERR_APPROVAL_PENDING'
  | 'ERR_APPROVAL_REFUSED'
  | 'ERR_APPROVAL_EXPIRED'
  | 'ERR_APPROVAL_CANCELLED'
  | 'ERR_APPROVAL_STALE'
  | 'ERR_APPROVAL_CONFLICT'
  | 'ERR_OUTCOME_UNKNOWN'
  | 'ERR_LIMIT_RATE'
  | 'ERR_LIMIT_CONCURRENCY'
  | 'ERR_LIMIT_BUDGET'
  | 'ERR_POLICY_CHANGED'
  // The running call
  | 'ERR_TIMEOUT'
  | 'ERR_CANCELLED'
  // The backend
  | 'ERR_UPSTREAM_UNREACHABLE'
  | 'ERR_UPSTREAM_AUTH'
  | 'ERR_UPSTREAM_REJECTED'
  | 'ERR_UPSTREAM_LOST'
  | 'ERR_CREDENTIAL_MISSING'
  // The gateway itself
  | 'ERR_CONFIG_INVALID'
  | 'ERR_POLICY_INVALID'
  | 'ERR_STATE_LOCKED'
  | 'ERR_STORE_FAILED'
  | 'ERR_RECORDING_FAILED'
  | 'ERR_RECORDING_INVALID'
  | 'ERR_SHUTTING_DOWN'
  | 'ERR_INTERNAL'

/** Facts about an error that a door may show to the caller: names and numbers, never data. */
export interface ErrorFacts {
  /** Rules the decision rests on. */
  readonly rules?: readonly string[]
  /** The limit that has no room, where there is one: a rule has several. */
  readonly limit?: string
  /** What the caller could do instead; safe to show. */
  readonly hint?: string
  /** The construct that could not be judged, such as `sql.view_over_mask`. */
  readonly construct?: string
  /** The ticket an approval hangs on. */
  readonly ticket?: string
  /** When trying again makes sense, in milliseconds. */
  readonly retryAfterMs?: number
  /** SQLSTATE of the backend (PostgreSQL manual, appendix A). */
  readonly sqlstate?: string
  /**
   * Set when a call that was stopped (cancelled, out of time, too large) is known to have left nothing behind: it was
   * rolled back, or never sent. Without it a stopped call that had an approval counts as one with an unknown outcome.
   */
  readonly noEffect?: true
  /**
   * Set with `ERR_APPROVAL_STALE` when what was approved is no longer what the call would do: the call is held again, so
   * that the approvers see what it would do now.
   */
  readonly askAgain?: true
}

/** What the caller may know, and what only the log may. */
export interface ErrorOptions {
  readonly facts?: ErrorFacts
  /** For the log only. Must still hold no secret and no row value. */
  readonly detail?: string
  readonly cause?: unknown
}

/** The only error that crosses a room's border. */
export class SallyportError extends Error {
  readonly code: ErrorCode
  readonly facts: ErrorFacts
  readonly detail: string | undefined

  /** @param message shown to the caller: one sentence that names what to fix. */
  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'SallyportError'
    this.code = code
    this.facts = options.facts ?? {}
    this.detail = options.detail
  }

  /**
   * Returns `error` itself when it already is one, and otherwise an `ERR_INTERNAL` whose message says nothing of it:
   * what we did not foresee may hold anything, so it is kept as the cause, for the log.
   */
  static from(error: unknown): SallyportError {
    if (error instanceof SallyportError) return error
    return new SallyportError('ERR_INTERNAL', 'The gateway met an internal error; the operator finds it in the log.', {
      cause: error,
    })
  }
}

/**
 * Returns the stack frames of an error without its message, which may hold data; '' when they cannot be told apart.
 */
export function framesOf(error: Error): string {
  const stack = error.stack ?? ''
  // V8 writes name and message as they were when the error was made; a message may itself look like a frame.
  const end = error.message === '' ? 0 : stack.indexOf(error.message)
  if (end < 0) return ''
  const frames = stack
    .slice(end + error.message.length)
    .split('\n')
    .slice(1)
  return frames.every((frame) => /^ {4}at /.test(frame)) ? frames.join('\n') : ''
}
