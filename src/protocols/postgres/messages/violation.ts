import { SallyportError } from '../../../core/errors.ts'

/** `protocol_violation` (PostgreSQL manual, appendix A). */
const PROTOCOL_VIOLATION = '08P01'

/** What a message that breaks the protocol is answered with. Names the message, never its content. */
export function violation(message: string, what: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', `The ${message} message ${what}.`, {
    facts: { sqlstate: PROTOCOL_VIOLATION },
  })
}
