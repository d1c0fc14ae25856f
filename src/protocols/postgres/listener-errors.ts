import { SallyportError, type ErrorCode } from '../../core/errors.ts'
import { encodeReport, type Report } from './messages/report.ts'
import { BackendWords } from './wire/reported.ts'

/** SQLSTATEs of the gateway's own errors (PostgreSQL manual, appendix A). A backend's own code comes before these. */
const SQLSTATE: Readonly<Record<ErrorCode, string>> = {
  ERR_INVALID_INPUT: '22023',
  ERR_TOO_LARGE: '54000',
  ERR_UNKNOWN_TARGET: '3D000',
  ERR_UNKNOWN_TOOL: '0A000',
  ERR_UNKNOWN_TICKET: '22023',
  ERR_UNAUTHENTICATED: '28000',
  ERR_FORBIDDEN: '42501',
  ERR_DENIED: '42501',
  ERR_APPROVAL_PENDING: '42501',
  ERR_APPROVAL_REFUSED: '42501',
  ERR_APPROVAL_EXPIRED: '42501',
  ERR_APPROVAL_CANCELLED: '57014',
  ERR_APPROVAL_STALE: '42501',
  ERR_APPROVAL_CONFLICT: '42501',
  ERR_OUTCOME_UNKNOWN: '08007',
  ERR_LIMIT_RATE: '53400',
  ERR_LIMIT_CONCURRENCY: '53400',
  ERR_LIMIT_BUDGET: '53400',
  ERR_POLICY_CHANGED: '42501',
  ERR_TIMEOUT: '57014',
  ERR_CANCELLED: '57014',
  ERR_UPSTREAM_UNREACHABLE: '08001',
  ERR_UPSTREAM_AUTH: '08001',
  ERR_UPSTREAM_REJECTED: '42000',
  ERR_UPSTREAM_LOST: '08006',
  ERR_CREDENTIAL_MISSING: '08001',
  ERR_CONFIG_INVALID: 'F0000',
  ERR_POLICY_INVALID: 'F0000',
  ERR_STATE_LOCKED: '55000',
  ERR_STORE_FAILED: '58030',
  ERR_RECORDING_FAILED: '58030',
  ERR_RECORDING_INVALID: '58030',
  ERR_SHUTTING_DOWN: '57P01',
  ERR_INTERNAL: 'XX000',
}

/** An error as its client hears it; `FATAL` ends the session. */
export function errorResponse(error: SallyportError, severity: 'ERROR' | 'FATAL' = 'ERROR'): Buffer {
  return encodeReport('ErrorResponse', reportOf(error, severity))
}

function reportOf(error: SallyportError, severity: string): Report {
  if (error.cause instanceof BackendWords) return error.cause.report
  const { rules, hint, construct, ticket, sqlstate } = error.facts
  const detail = [
    rules !== undefined && rules.length > 0 ? `Rules: ${rules.join(', ')}.` : '',
    construct === undefined ? '' : `Construct: ${construct}.`,
    ticket === undefined ? '' : `Ticket: ${ticket}.`,
  ].filter((part) => part !== '')
  return new Map([
    ['S', severity],
    ['V', severity],
    ['C', sqlstate ?? SQLSTATE[error.code]],
    ['M', error.message],
    ...(detail.length > 0 ? [['D', detail.join(' ')] as const] : []),
    ...(hint === undefined ? [] : [['H', hint] as const]),
  ])
}
