import { SallyportError } from '../../core/errors.ts'

/** A session that nobody watched, under a policy that looks at statements. */
export function unwatched(): SallyportError {
  return new SallyportError(
    'ERR_UNAUTHENTICATED',
    'The policy looks at statements now, and has not looked at what this session did before. Connect again.',
    { facts: { sqlstate: '57P01' } },
  )
}

export function goneAway(): SallyportError {
  return new SallyportError('ERR_CANCELLED', 'The client went away.')
}

export function shuttingDown(): SallyportError {
  return new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down; connect again soon.')
}

export function idle(inTransaction: boolean): SallyportError {
  return inTransaction
    ? new SallyportError('ERR_TIMEOUT', 'The session was idle in a transaction for too long.', {
        facts: { sqlstate: '25P03' },
      })
    : new SallyportError('ERR_TIMEOUT', 'The session was idle for too long.', { facts: { sqlstate: '57P05' } })
}

/** A statement or portal nobody has made. */
export function missing(sqlstate: string, what: string, name: string): SallyportError {
  const which = name === '' ? `unnamed ${what}` : `${what} "${name}"`
  return new SallyportError('ERR_INVALID_INPUT', `${which} does not exist`, { facts: { sqlstate } })
}

/** In a failed transaction nothing can be looked up; the server would say the same. */
export function transactionAborted(): SallyportError {
  return new SallyportError(
    'ERR_UPSTREAM_REJECTED',
    'current transaction is aborted, commands ignored until end of transaction block',
    { facts: { sqlstate: '25P02' } },
  )
}

export function duplicate(sqlstate: string, what: string, name: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', `${what} "${name}" already exists`, { facts: { sqlstate } })
}

export function tooManyKept(max: number): SallyportError {
  return new SallyportError('ERR_TOO_LARGE', `A session may keep ${max} statements and portals; close some.`)
}
