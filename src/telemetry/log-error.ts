import { type ErrorFacts, framesOf, SallyportError } from '../core/errors.ts'

/** An error as the log shows it. */
export interface LoggedError {
  readonly name: string
  readonly code?: string
  readonly message?: string
  readonly detail?: string
  readonly facts?: ErrorFacts
  readonly frames?: readonly string[]
  readonly cause?: LoggedError
}

// A chain of causes may be long, and may bite its own tail.
const CAUSES_MAX = 5
const FRAMES_MAX = 20

/**
 * Turns any thrown thing into what may stand in a log.
 *
 * Of a {@link SallyportError} everything is written by us and safe. Of any other error only its name, code and stack
 * frames are: a driver quotes rows, addresses and passwords in its messages (`duplicate key … (ssn)=(…)`), and nobody
 * can tell which message does.
 */
export function logError(error: unknown): LoggedError {
  return serialize(error, CAUSES_MAX)
}

function serialize(error: unknown, causesLeft: number): LoggedError {
  if (!(error instanceof Error)) return { name: `thrown ${error === null ? 'null' : typeof error}` }
  const frames = framesOf(error)
    .split('\n')
    .slice(0, FRAMES_MAX)
    .map((frame) => frame.trim())
    .filter((frame) => frame !== '')
  const cause = error.cause
  return {
    name: nameOf(error),
    ...codeOf(error),
    ...(error instanceof SallyportError && { message: error.message, facts: error.facts }),
    ...(error instanceof SallyportError && error.detail !== undefined && { detail: error.detail }),
    ...(frames.length > 0 && { frames }),
    ...(cause !== undefined && causesLeft > 0 && { cause: serialize(cause, causesLeft - 1) }),
  }
}

/** Names and codes are identifiers; anything else in their place is data. */
function nameOf(error: Error): string {
  return /^[A-Za-z_$][\w$]{0,63}$/.test(error.name) ? error.name : 'Error'
}

function codeOf(error: Error): { readonly code?: string } {
  const code: unknown = 'code' in error ? error.code : undefined
  if (typeof code === 'number' && Number.isFinite(code)) return { code: String(code) }
  return typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? { code } : {}
}
