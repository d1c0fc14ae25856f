import type { Proven } from '../core/call.ts'
import type { Principal } from '../core/principal.ts'
import type { Store, Versioned } from '../store/store.ts'
import type { TicketChanges } from './changes.ts'
import type { Ticket, TicketState, Vote } from './ticket.ts'
import type { Tickets } from './tickets.ts'

/** The keys approvals use; `store/keys.ts` derives them. */
export interface ApprovalKeys {
  readonly digest: Uint8Array
  readonly votes: Uint8Array
  readonly payload: Uint8Array
}

/** What happened to a ticket, for the recording, the metrics and whoever tells approvers. Holds no payload. */
export type ApprovalEvent =
  | {
      readonly kind: 'state'
      readonly at: number
      readonly ticket: string
      readonly to: TicketState
      readonly by: string
      readonly requester: string
      readonly target: string
      /** Set where an earlier approval covers the call, so that nobody was asked. */
      readonly isCovered?: true
      /** How long it waited for persons, once they have answered. */
      readonly waitedMs?: number
    }
  | {
      /** A person's act. Told before it takes effect: when the listener rejects, it does not happen. */
      readonly kind: 'vote' | 'resolve' | 'cancel'
      readonly at: number
      readonly ticket: string
      readonly by: Principal
      readonly what: string
      readonly reason?: string
    }
  | {
      /** An act that was refused, such as approving one's own request. */
      readonly kind: 'refused'
      readonly at: number
      readonly ticket: string
      readonly by: Principal
      readonly what: string
      readonly why: string
    }

/** Times and sizes. All may be changed by configuration; the defaults are in {@link APPROVAL_SETTINGS}. */
export interface ApprovalSettings {
  /** How long an approval may be used after it was given. */
  readonly grantMs: number
  /** How long a result waits to be picked up; within it the same call is answered from it. */
  readonly resultMs: number
  /** Result bytes kept per ticket; of a larger one only the status is kept. */
  readonly resultBytesMax: number
  /** Bytes of a request that can be stored for approval. */
  readonly requestBytesMax: number
  /** Tickets one requester may have waiting. */
  readonly pendingMax: number
  /** Finished tickets of one requester that are listed; with more, the oldest go early. The recordings keep them all. */
  readonly finishedMax: number
  /** How long finished tickets are listed. Unknown outcomes stay until somebody resolves them. */
  readonly retentionMs: number
  /** How often time is looked at: expiry, erasure, executors that died. */
  readonly sweepMs: number
  /** An executor that did not show itself for this long counts as dead. */
  readonly leaseMs: number
}

/** The settings that hold when nothing else is configured. */
export const APPROVAL_SETTINGS: ApprovalSettings = {
  grantMs: 15 * 60_000,
  resultMs: 60 * 60_000,
  resultBytesMax: 256 * 1024,
  requestBytesMax: 1024 * 1024,
  pendingMax: 20,
  finishedMax: 200,
  retentionMs: 30 * 24 * 60 * 60_000,
  sweepMs: 10_000,
  leaseMs: 40_000,
}

/** What every part of this room works with. */
export interface Desk {
  readonly store: Store
  readonly keys: ApprovalKeys
  readonly settings: ApprovalSettings
  /** This run of this gateway; another run is another instance. */
  readonly instance: string
  readonly now: () => number
  readonly onEvent: (event: ApprovalEvent) => void | Promise<void>
  /** The approver as identity knows them now, or `undefined` when their vote no longer counts. */
  readonly approverNow: (vote: Vote) => Promise<Vote['approver'] | undefined>
  /** What the backend says of a call whose executor died, by the proof that one left. */
  readonly outcomeOf?: (ticket: Ticket) => Promise<Proven>
  readonly tickets: Tickets
  readonly changes: TicketChanges
  /** Ends that could not be stored; the sweep tries them again. */
  readonly unsettled: Map<string, () => Promise<void>>
  /** Aborts when the room closes: nothing waits longer. */
  readonly closing: AbortSignal
}

/** A ticket together with the version it was read at. */
export type ReadTicket = Versioned<Ticket>

/** The name of the lease by which an instance shows that it lives. */
export function leaseOf(instance: string): string {
  return `instance:${instance}`
}
