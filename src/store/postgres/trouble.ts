import { SallyportError } from '../../core/errors.ts'
import { errnoOf } from '../store.ts'

/** What to do about an error of the database. */
export type Trouble = 'lost' | 'again' | 'failed'

/**
 * Sorts an error (PostgreSQL manual, appendix A): `lost` means the connection is of no use, `again` that the statement was
 * rolled back for reasons of the moment, `failed` that trying again would meet the same.
 */
export function troubleOf(error: unknown): Trouble {
  const code = errnoOf(error)
  // Deadlocks and serialization failures.
  if (code === '40001' || code === '40P01') return 'again'
  // Going down, starting up, too many connections, and a server that became a standby: another connection may do.
  if (/^(08|57P0)/.test(code) || code === '53300' || code === '25006') return 'lost'
  return /^[0-9A-Z]{5}$/.test(code) ? 'failed' : 'lost'
}

/** What a caller is told when the shared store does not answer. What it said itself stays in the log. */
export function unreachable(what: string, error: unknown, isKept: 'nothing' | 'unknown' = 'nothing'): SallyportError {
  if (error instanceof SallyportError) return error
  const after = isKept === 'nothing' ? 'nothing was changed' : 'whether the change was kept is not known'
  return new SallyportError(
    'ERR_STORE_FAILED',
    `The gateway cannot ${what}, because its shared store ${saying(error)}; ${after}. Until it answers, what needs it is denied.`,
    { cause: error },
  )
}

function saying(error: unknown): string {
  const code = errnoOf(error)
  if (code === '57014' || code === '55P03') return 'takes too long'
  if (code === '28P01' || code === '28000') return 'refuses the login'
  if (code === '42501') return 'refuses its user a right it needs'
  if (code === '53100') return 'has a full disk'
  return troubleOf(error) === 'failed' ? `reports an error (${code})` : 'cannot be reached'
}
