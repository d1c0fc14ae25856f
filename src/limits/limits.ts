import type { Call } from '../core/call.ts'
import type { Decision } from '../core/decision.ts'

/** Rates, budgets and concurrency. Rows, bytes and time are the connector's to keep; they stand in the obligations. */
export interface Limits {
  /**
   * Reserves what the decision's obligations ask for, or nothing at all.
   *
   * @throws SallyportError `ERR_LIMIT_RATE`, `ERR_LIMIT_CONCURRENCY`, `ERR_LIMIT_BUDGET`, each with `retryAfterMs` where known.
   */
  reserve(call: Call, decision: Decision): Reservation
}

/** Held while a call runs. */
export interface Reservation {
  /** Ends the reservation. `ran: false` gives rates and budgets back, because nothing reached the backend. */
  release(outcome: { readonly ran: boolean }): void
}
