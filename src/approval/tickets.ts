import { randomBytes } from 'node:crypto'
import { SallyportError } from '../core/errors.ts'
import type { Store, Versioned, Where, Write } from '../store/store.ts'
import type { ApprovalEvent } from './desk.ts'
import { hasExpired, moved, type Ticket } from './ticket.ts'

/** The collection of tickets. */
export const TICKETS = 'tickets'
/** Which ticket stands for a call: one document per digest (and `new_request`), so that there is never a second. */
export const STANDING = 'tickets.standing'
/** One document per requester, changed with each filing, so that the count of waiting tickets cannot be raced past. */
export const FILING = 'tickets.filing'

/** Tickets in the store. Whatever is read here is already expired when its time has run out. */
export interface Tickets {
  read(id: string): Promise<Versioned<Ticket> | undefined>
  list(where?: Where): Promise<readonly Versioned<Ticket>[]>
  standing(key: string): Promise<{ readonly ticket: Versioned<Ticket> | undefined; readonly version: number }>
  /** Files a ticket together with what must change with it, unless something it rests on changed meanwhile. */
  file(ticket: Ticket, together: readonly Write[]): Promise<boolean>
  /**
   * Changes a ticket by compare-and-set, as often as it takes. `next` gets the ticket as it is and returns it as it shall
   * be, or the same object to leave it; what it throws ends the attempt.
   *
   * @throws SallyportError `ERR_UNKNOWN_TICKET`, `ERR_STORE_FAILED`, or whatever `next` throws.
   */
  change(id: string, next: (ticket: Ticket) => Ticket): Promise<Ticket>
  /** One attempt to change a ticket that must still be as it was read. */
  swap(read: Versioned<Ticket>, next: Ticket, together?: readonly Write[]): Promise<boolean>
  remove(read: Versioned<Ticket>): Promise<boolean>
}

/** Returns the key under which a call finds its ticket. */
export function standingKey({ digest, newRequest }: Pick<Ticket, 'digest' | 'newRequest'>): string {
  return newRequest === undefined ? digest : `${digest}.${newRequest}`
}

// Crockford's base32: no letters that are mistaken for digits when a person types an id.
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'

/** Returns a fresh ticket id: 60 random bits in a form a person can type. */
export function newTicketId(): string {
  return [...randomBytes(12)].map((byte) => ALPHABET.charAt(byte & 31)).join('')
}

/** The error for a ticket that does not exist, and for one that is not the asker's to see: nobody can tell the two apart. */
export function unknownTicket(): SallyportError {
  return new SallyportError('ERR_UNKNOWN_TICKET', 'There is no such ticket, or it is not yours to see.')
}

/** Keeps tickets in a store and tells of each move. */
export function ticketsIn(
  store: Store,
  now: () => number,
  onEvent: (event: ApprovalEvent) => void | Promise<void>,
): Tickets {
  const tickets: Tickets = {
    async read(id) {
      const read = await store.get<Ticket>(TICKETS, id)
      return read === undefined ? undefined : expired(read)
    },

    async list(where) {
      const all = await store.list<Ticket>(TICKETS, where)
      const current = await Promise.all(all.map(expired))
      return current.filter((read) => read !== undefined)
    },

    async standing(key) {
      const read = await store.get<{ readonly ticket: string }>(STANDING, key)
      if (read === undefined) return { ticket: undefined, version: 0 }
      return { ticket: await tickets.read(read.value.ticket), version: read.version }
    },

    async file(ticket, together) {
      const filed = await store.commit([put(ticket, 0), ...together])
      if (filed) await tell(undefined, ticket)
      return filed
    },

    async change(id, next) {
      for (;;) {
        const read = await tickets.read(id)
        if (read === undefined) throw unknownTicket()
        const after = next(read.value)
        if (after === read.value) return after
        if (await tickets.swap(read, after)) return after
      }
    },

    async swap(read, next, together = []) {
      const swapped = await store.commit([put(next, read.version), ...together])
      if (swapped) await tell(read.value, next)
      return swapped
    },

    async remove({ id, version, value }) {
      const key = standingKey(value)
      const standing = await store.get<{ readonly ticket: string }>(STANDING, key)
      const isStanding = standing?.value.ticket === id
      return store.commit([
        { kind: 'remove', collection: TICKETS, id, expect: version },
        ...(isStanding ? [{ kind: 'remove', collection: STANDING, id: key, expect: standing.version } as const] : []),
      ])
    },
  }
  return tickets

  async function expired(read: Versioned<Ticket>): Promise<Versioned<Ticket> | undefined> {
    let current: Versioned<Ticket> | undefined = read
    while (current !== undefined && hasExpired(current.value, now())) {
      const why = current.value.state === 'pending' ? 'nobody answered in time' : 'the approval was not used in time'
      const next = moved(current.value, 'expired', { at: now(), by: 'gateway', why })
      await tickets.swap(current, next)
      current = await store.get<Ticket>(TICKETS, read.id)
    }
    return current
  }

  async function tell(before: Ticket | undefined, after: Ticket): Promise<void> {
    if (before?.state === after.state) return
    const answered = after.state === 'approved' || after.state === 'denied'
    try {
      await onEvent({
        kind: 'state',
        at: now(),
        ticket: after.id,
        to: after.state,
        by: after.history.at(-1)?.by ?? after.requester.id,
        requester: after.requester.id,
        target: after.target,
        ...(after.coveredBy !== undefined && { isCovered: true }),
        ...(answered && { waitedMs: now() - after.createdAt }),
      })
    } catch {
      // The move is already durable and cannot be taken back; the session's own recording holds the same fact, and the
      // listener logs its troubles itself.
    }
  }
}

/** The write that changes a ticket which must still be as it was read. */
export function put(ticket: Ticket, expect: number): Write {
  return { kind: 'put', collection: TICKETS, id: ticket.id, expect, value: ticket }
}
