/**
 * What an approval may wait in: the open transaction of a client (C14).
 *
 * @packageDocumentation
 */
import { randomUUID } from 'node:crypto'
import type { HeldInTransaction, Plan } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { PostgresPlan } from './plan-types.ts'
import type { WireBackend } from './wire/backend.ts'

/** Locks are held for no longer while persons think. */
export const HOLD_INSIDE_MAX_MS = 60_000
/** Nobody answers sooner than this. */
const HOLD_MIN_MS = 5_000
/** What a preview may take, and a margin: the server must not be the one that ends the wait. */
const SPARE_MS = 12_000

/** The transactions of one client, as far as calls wait or have waited in them. */
export class ClientTransactions {
  readonly #backend: WireBackend
  readonly #lost = new AbortController()
  readonly #endings = new Set<() => void>()

  constructor(backend: WireBackend) {
    this.#backend = backend
  }

  /** One call inside the transaction that is open now. */
  held(): HeldInTransaction {
    const backend = this.#backend
    const endings = this.#endings
    const lost = this.#lost.signal
    let id: string | undefined
    return {
      get id() {
        return (id ??= randomUUID())
      },
      signal: lost,
      ready: (plan) => ready(plan, backend),
      // A connection that is gone tells of no further end.
      ended: () => (lost.aborted ? Promise.resolve() : new Promise((resolve) => endings.add(resolve))),
    }
  }

  /** Told when the transaction has ended, whichever way, and when there may have been one that has. */
  ended(): void {
    for (const resolve of this.#endings) resolve()
    this.#endings.clear()
  }

  /** Told when the connection is gone, and the transaction with it. */
  lost(why: unknown): void {
    this.#lost.abort(why)
    this.ended()
  }
}

async function ready(plan: Plan, backend: WireBackend): Promise<number> {
  const { kind, statements, session, outsideTransaction } = plan as PostgresPlan
  // Under a savepoint of the gateway's nothing may end the transaction, or leave in the session what cannot be taken back.
  if (kind === 'unknown' || statements !== undefined || session !== undefined || outsideTransaction !== undefined) {
    throw denied('A statement of this kind cannot wait for one inside a transaction; send it by itself.')
  }
  const limitMs = (await backend.idleLimit()) - SPARE_MS
  if (limitMs >= HOLD_MIN_MS) return Math.min(HOLD_INSIDE_MAX_MS, limitMs)
  throw denied(
    'The database would end the transaction before anybody could answer (idle_in_transaction_session_timeout, ' +
      'transaction_timeout); send the call by itself.',
  )
}

function denied(why: string): SallyportError {
  return new SallyportError('ERR_DENIED', `The call needs an approval. ${why}`)
}
