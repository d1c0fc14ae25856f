/**
 * What a backend says, put so that a caller may hear it (C10).
 *
 * PostgreSQL quotes values in its messages: the key that is not unique, the row that fails a check, the text that is no
 * number. On a target with masks, whatever trigger or constraint speaks may quote a masked one, so only what the
 * SQLSTATE itself says is passed on. Detail, hint, context and internal query never leave, with masks or without.
 *
 * @packageDocumentation
 */
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError, type ErrorCode } from '../../core/errors.ts'

/** The fields of an ErrorResponse or NoticeResponse that are read here (PostgreSQL manual, 54.8). */
export interface BackendReport {
  readonly severity?: string | undefined
  readonly code?: string | undefined
  readonly message?: string | undefined
  readonly position?: string | undefined
}

/** Texts for the codes callers meet most; the class speaks for the rest. */
const TEXT_OF_CODE: Readonly<Record<string, string>> = {
  '22001': 'a value is too long for its column',
  '22003': 'a number is out of range',
  '22007': 'a date or time is not valid',
  '22012': 'a division by zero',
  '22P02': 'a value does not have the form its type needs',
  '23502': 'a column that must not be null would be null',
  '23503': 'a foreign key constraint was violated',
  '23505': 'a unique constraint was violated',
  '23514': 'a check constraint was violated',
  '23P01': 'an exclusion constraint was violated',
  '25006': 'the statement writes, and the transaction is read-only',
  '40001': 'a concurrent change makes this transaction fail; it may be tried again',
  '40P01': 'a deadlock was found; the transaction may be tried again',
  '42501': 'the database role may not do this',
  '42601': 'a syntax error',
  '42703': 'a column does not exist',
  '42803': 'a column is neither in GROUP BY nor in an aggregate; where a table has masked columns, list each',
  '42804': 'a type does not fit',
  '42883': 'no function or operator takes these argument types',
  '42P01': 'a relation does not exist',
  '42P02': 'a parameter does not exist',
  '53200': 'the database is out of memory',
  '54001': 'the statement is too complex',
  '55P03': 'a lock could not be had',
  '57014': 'the statement was cancelled',
  P0001: 'the database raised an exception',
}

/** Texts by class, the first two characters of a SQLSTATE (PostgreSQL manual, appendix A). */
const TEXT_OF_CLASS: Readonly<Record<string, string>> = {
  '08': 'the connection failed',
  '0A': 'the feature is not supported',
  '21': 'a query gave more rows than its place takes',
  '22': 'a value does not fit',
  '23': 'a constraint was violated',
  '25': 'the transaction does not allow it',
  '26': 'a prepared statement does not exist',
  '28': 'the database refused the login',
  '2B': 'other objects depend on it',
  '34': 'a cursor does not exist',
  '38': 'a function failed',
  '39': 'a function failed',
  '40': 'the transaction was rolled back',
  '42': 'the statement does not fit the database: a name, a type or a right is wrong',
  '44': 'a row does not fit the view it is written through',
  '53': 'the database lacks resources',
  '54': 'the statement is too large or too complex',
  '55': 'an object is not in the state the statement needs',
  '57': 'an operator of the database intervened',
  '58': 'the database met a system error',
  P0: 'the database raised an exception',
  XX: 'the database met an internal error',
}

/** Classes after which the same statement may succeed when it is sent again. */
const RETRYABLE = new Set(['40001', '40P01', '55P03'])
const RETRY_AFTER_MS = 100
const MESSAGE_CHARS_MAX = 2000

/**
 * Turns an ErrorResponse into the error a caller sees.
 *
 * @param masked whether the call was planned under any mask; then nothing but what the SQLSTATE says is passed on.
 * @param positionIsOurs whether the text sent is the caller's own, so that a position in it means something.
 */
export function rejected(report: BackendReport, masked: boolean, positionIsOurs = false): SallyportError {
  const sqlstate = sqlstateOf(report)
  return new SallyportError('ERR_UPSTREAM_REJECTED', messageOf(report, sqlstate, masked, positionIsOurs), {
    facts: { sqlstate, ...(RETRYABLE.has(sqlstate) && { retryAfterMs: RETRY_AFTER_MS }) },
  })
}

/** Turns a NoticeResponse into the chunk a caller sees. */
export function noticeOf(report: BackendReport, masked: boolean): Chunk {
  const severity = /^[A-Z]{1,12}$/u.test(report.severity ?? '') ? (report.severity as string) : 'NOTICE'
  const text = masked ? `SQLSTATE ${sqlstateOf(report)}` : (report.message ?? '').slice(0, MESSAGE_CHARS_MAX)
  return { kind: 'notice', severity, text }
}

/** What kept a connection from being made. Names the target, never its address, its user or its secret. */
export function connectFailure(target: string, error: unknown): SallyportError {
  if (error instanceof SallyportError) return error
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const [kind, message] = connectText(target, code, error instanceof Error ? error.message : '')
  return new SallyportError(kind, message, { detail: code, ...(isSqlstate(code) && { facts: { sqlstate: code } }) })
}

function connectText(target: string, code: string, message: string): [ErrorCode, string] {
  // 28000 and 28P01: invalid authorization, invalid password. SASL failures are found on our side and carry no code.
  if (code.startsWith('28') || /SASL|SCRAM/u.test(message)) {
    return ['ERR_UPSTREAM_AUTH', `The database of target ${target} refused our login; check the target's credential.`]
  }
  if (code === '3D000') {
    return ['ERR_UPSTREAM_UNREACHABLE', `The server of target ${target} has no such database; check "database".`]
  }
  if (code === '42704' || code === '22023' || code === '42501') {
    return ['ERR_UPSTREAM_UNREACHABLE', `The server of target ${target} does not take the session settings we pin.`]
  }
  if (/^(53|57)/u.test(code)) {
    return ['ERR_UPSTREAM_UNREACHABLE', `The server of target ${target} takes no connections now (${code}).`]
  }
  if (/does not support SSL/u.test(message)) {
    return [
      'ERR_UPSTREAM_UNREACHABLE',
      `The server of target ${target} offers no TLS; set it up there, or state "tls: disable".`,
    ]
  }
  if (/CERT|SIGN|ISSUER|TLS|SSL/u.test(code)) {
    return [
      'ERR_UPSTREAM_UNREACHABLE',
      `The server of target ${target} could not prove who it is (${code}); check "tls.ca" and "tls.server_name".`,
    ]
  }
  return [
    'ERR_UPSTREAM_UNREACHABLE',
    `The server of target ${target} cannot be reached; check "host" and "port", and that it runs.`,
  ]
}

/** The connection went away while a call was using it. */
export function lost(target: string, cause: unknown): SallyportError {
  return new SallyportError(
    'ERR_UPSTREAM_LOST',
    `The connection to target ${target} was lost; nothing was committed.`,
    {
      cause,
    },
  )
}

/** The five characters of a SQLSTATE, or `XX000` for a server that sent something else. */
export function sqlstateOf(report: BackendReport): string {
  return isSqlstate(report.code ?? '') ? (report.code as string) : 'XX000'
}

function isSqlstate(code: string): boolean {
  // Every SQLSTATE has a digit; Node's own codes, such as EPIPE, have none.
  return /^(?=.*\d)[0-9A-Z]{5}$/u.test(code)
}

function messageOf(report: BackendReport, sqlstate: string, masked: boolean, positionIsOurs: boolean): string {
  const generic = TEXT_OF_CODE[sqlstate] ?? TEXT_OF_CLASS[sqlstate.slice(0, 2)] ?? 'it failed'
  if (masked) {
    return `The database rejected the statement: ${generic} (${sqlstate}). Its own words are withheld because this target has masked columns.`
  }
  const words = (report.message ?? generic).slice(0, MESSAGE_CHARS_MAX)
  const at = positionIsOurs && /^\d{1,9}$/u.test(report.position ?? '') ? ` at character ${report.position}` : ''
  return `The database rejected the statement: ${words}${at} (${sqlstate}).`
}
