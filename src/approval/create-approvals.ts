/**
 * Builds the approvals of one gateway: what the spine asks for consent, what persons answer through, and the clock work
 * behind both. Read `ticket.ts` for the states, `consent.ts` for how a call waits, `claim.ts` for the one use.
 *
 * @packageDocumentation
 */
import type { Proven } from '../core/call.ts'
import type { Principal } from '../core/principal.ts'
import type { Store } from '../store/store.ts'
import type { Approvals } from './approvals.ts'
import { ticketChanges } from './changes.ts'
import { isCovering, uncovered } from './cover.ts'
import { consenting, standingOf } from './consent.ts'
import {
  type ApprovalEvent,
  type ApprovalKeys,
  APPROVAL_SETTINGS,
  type ApprovalSettings,
  type Desk,
  leaseOf,
} from './desk.ts'
import { housekeeping } from './housekeeping.ts'
import { createInbox, type Inbox } from './inbox.ts'
import { type Reissue, reissue } from './reissue.ts'
import type { Ticket, Vote } from './ticket.ts'
import { ticketsIn } from './tickets.ts'

/** The whole room. */
export interface ApprovalRoom extends Approvals {
  readonly inbox: Inbox
  /**
   * Returns the stored call behind a ticket, so that its requester can run it through the gateway again without
   * repeating it.
   *
   * @throws SallyportError `ERR_UNKNOWN_TICKET`, also for somebody else's; the way the ticket ended, when no call follows.
   */
  reissue(ticket: string, requester: Principal): Promise<Reissue>
  /** Ends whatever approvals of this requester, or for this target, still cover. Tickets themselves stay as they are. */
  uncover(whose: { readonly requestedBy: string } | { readonly target: string }, by: string, why: string): Promise<void>
  /** Does what time demands. A timer calls it; tests and a shutdown may too. */
  sweep(): Promise<void>
  /** Ends timers and subscriptions. Tickets live on in the store. */
  close(): Promise<void>
}

/** What the room is built from. */
export interface ApprovalOptions {
  readonly store: Store
  readonly keys: ApprovalKeys
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Unique to this run of this gateway. */
  readonly instance: string
  /** Told of everything that happens; see {@link ApprovalEvent} for what its rejection does. */
  readonly onEvent: (event: ApprovalEvent) => void | Promise<void>
  /** Told when the timed work fails, such as on a full disk. It is tried again. */
  readonly onFault: (error: unknown) => void
  /**
   * Returns an approver as identity knows them now, or `undefined` when the token they voted with was revoked. Asked at
   * the claim: who may no longer approve has not approved.
   */
  readonly approverNow?: (vote: Vote) => Promise<Vote['approver'] | undefined>
  /**
   * Asks the backend of a ticket what became of its call, by the ticket's proof. `unknown` when it is another backend by
   * now. Left out, a person has to find out.
   */
  readonly outcomeOf?: (ticket: Ticket) => Promise<Proven>
  readonly settings?: Partial<ApprovalSettings>
}

/**
 * Opens the room, and first settles what earlier runs left: nothing may be claimed before that.
 *
 * @throws SallyportError `ERR_STORE_FAILED`
 */
export async function createApprovals(options: ApprovalOptions): Promise<ApprovalRoom> {
  const { store, keys, now, instance, onEvent } = options
  const settings = { ...APPROVAL_SETTINGS, ...options.settings }
  const changes = ticketChanges(store)
  const closing = new AbortController()
  const desk: Desk = {
    store,
    keys,
    settings,
    instance,
    now,
    onEvent,
    approverNow: options.approverNow ?? (async ({ approver }) => approver),
    tickets: ticketsIn(store, now, onEvent),
    changes,
    ...(options.outcomeOf !== undefined && { outcomeOf: options.outcomeOf }),
    unsettled: new Map(),
    closing: closing.signal,
  }
  const chores = housekeeping(desk)
  try {
    await chores.renew()
    await chores.recover()
  } catch (error) {
    changes.close()
    throw error
  }

  let running: Promise<void> | undefined
  const sweep = (): Promise<void> => {
    running ??= chores.sweep().finally(() => {
      running = undefined
    })
    return running
  }
  const timer = setInterval(() => void sweep().catch(options.onFault), settings.sweepMs)
  timer.unref()
  // What earlier runs left is settled as soon as its backend can be asked, and not only when the first period is over.
  if (desk.outcomeOf !== undefined) void sweep().catch(options.onFault)

  return {
    consent: consenting(desk),
    standing: standingOf(desk),
    inbox: createInbox(desk),
    reissue: (ticket, requester) => reissue(desk, ticket, requester),
    async uncover(whose, by, why) {
      for (const { id, value } of await desk.tickets.list({ ...whose })) {
        if (!isCovering(value, now())) continue
        await desk.tickets.change(id, (ticket) =>
          isCovering(ticket, now()) ? uncovered(ticket, by, now(), why) : ticket,
        )
      }
    },
    sweep,
    async close() {
      clearInterval(timer)
      closing.abort()
      await running?.catch(() => undefined)
      changes.close()
      await store.release(leaseOf(instance), instance)
    },
  }
}
