import type { Call, Ending, Judged, Proof } from '../core/call.ts'
import type { Chunk } from '../core/chunk.ts'
import type { SallyportError } from '../core/errors.ts'
import type { Preview } from '../core/preview.ts'

/** Tickets, grants and claims (DESIGN §6). The spine sees only this; doors see `inbox.ts`. */
export interface Approvals {
  /**
   * Files a ticket for this exact call, or joins the one that stands for its digest, and waits for consent as long as
   * `call.hold` and `call.signal` allow. Silence is never consent.
   *
   * @throws SallyportError `ERR_APPROVAL_PENDING` (time to hold is over; the ticket lives on), `ERR_APPROVAL_REFUSED`,
   * `ERR_APPROVAL_EXPIRED`, `ERR_APPROVAL_CANCELLED`, `ERR_OUTCOME_UNKNOWN`, `ERR_CANCELLED` (caller went away; detaches
   * only), `ERR_LIMIT_CONCURRENCY` (too many of the caller's requests wait already), `ERR_STORE_FAILED`; and, when the
   * call joined one that ran meanwhile and failed, the code that one failed with.
   *
   * @param preview works out what the call would change; asked only when a ticket is filed, because everybody who answers
   * one ticket must have seen the same.
   */
  consent(call: Call, judged: Judged, preview?: () => Promise<Preview | undefined>): Promise<Consent>
  /**
   * Returns the rules and budgets in whose name persons are or were asked for this exact call, as long as its ticket
   * stands; `undefined` when there is none.
   */
  standing?(call: Call, judged: Judged): Promise<ReadonlySet<string> | undefined>
}

/** What persons agreed to: either a grant still to be used, or the result of the one use it allowed. */
export type Consent =
  | {
      readonly kind: 'granted'
      readonly ticket: string
      /** Ids of the persons who agreed. */
      readonly by: readonly string[]
      /**
       * Checks that the grant covers `judged` as it stands now (same digest, requirements still met), then moves it to
       * `executing`, durably and one way: at most one caller ever gets past this (C12).
       *
       * @throws SallyportError `ERR_APPROVAL_STALE`, `ERR_APPROVAL_CONFLICT` (somebody else claimed it).
       */
      claim(judged: Judged): Promise<ClaimedTicket>
      /** Set where nobody can come back for a grant that was not claimed: ends its ticket. Never throws. */
      readonly withdraw?: () => Promise<void>
    }
  | {
      readonly kind: 'executed'
      readonly ticket: string
      /**
       * The stored masked result, its exit marked `replayed`. What was masked less than `judged` asks for now, or was too
       * large to keep, or was erased, is not shown: a notice says so and only the status follows.
       */
      result(judged: Judged): AsyncIterable<Chunk>
    }

/** A grant in use. */
export interface ClaimedTicket {
  /** What the preview the approvers saw demands of the execution. */
  readonly guard?: string
  /** Keeps a masked chunk for callers who come back for the result. Bounded; beyond the bound only the status is kept. */
  shown(chunk: Chunk): void
  /**
   * Notes durably by what the backend can be asked whether the call took effect. Called before it can have.
   *
   * @throws SallyportError `ERR_STORE_FAILED`, `ERR_APPROVAL_CONFLICT` when the ticket is no longer this claim's.
   */
  prove?(proof: Proof): Promise<void>
  /**
   * Durably settles the ticket: `done`, `failed` (known not to have taken effect) or `outcome_unknown`.
   *
   * `done` needs the `exit` chunk, so a protocol yields it only after the backend confirmed the end (a COMMIT answered).
   * `failed` needs an error that proves it: one that says the call never reached its backend, or any with
   * `facts.noEffect`; or that the proof which comes before the effect was never noted. All else is unknown.
   *
   * @param isStopped whether this gateway stopped the call, so that the error says nothing of its backend.
   */
  end(ending: Ending, error?: SallyportError, isStopped?: boolean): Promise<void>
}
