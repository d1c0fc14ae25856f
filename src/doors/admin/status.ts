import type { ErrorCode } from '../../core/errors.ts'
import { HTTP_STATUS } from '../../core/http-error.ts'

/** The HTTP status of each code at the admin door, whose clients act on tickets, policies and recordings themselves. */
export const STATUS: Readonly<Record<ErrorCode, number>> = {
  ...HTTP_STATUS,
  ERR_APPROVAL_PENDING: 409,
  ERR_APPROVAL_EXPIRED: 410,
  ERR_APPROVAL_CANCELLED: 410,
  ERR_OUTCOME_UNKNOWN: 409,
  ERR_POLICY_CHANGED: 409,
  ERR_CONFIG_INVALID: 422,
  ERR_POLICY_INVALID: 422,
  ERR_RECORDING_INVALID: 422,
}
