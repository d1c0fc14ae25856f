import type { Store } from '../store/store.ts'
import { TICKETS } from './tickets.ts'

/** Tells waiters when a ticket changed. One subscription to the store serves them all; nothing polls. */
export interface TicketChanges {
  /** Watches one ticket, or all when no id is given. Open it before reading, or a change between the two is missed. */
  watch(ticket?: string): TicketWatch
  close(): void
}

/** One waiter. Whoever opens it closes it. */
export interface TicketWatch {
  /**
   * Resolves with the ids that changed since the last call: at once when there are any, else with the next change, or
   * empty after `timeoutMs`. `'all'` means that changes may have been missed.
   *
   * @throws the signal's reason, when it aborts.
   */
  next(signal: AbortSignal, timeoutMs: number): Promise<readonly string[] | 'all'>
  close(): void
}

/** The longest a timer can wait (2^31 - 1 ms). */
const TIMER_MAX_MS = 2_147_483_647

/** Ids one watch gathers before it only remembers that there were many. */
const GATHERED_MAX = 1_000

interface Waiter {
  readonly gathered: Set<string>
  missed: boolean
  wake: () => void
}

/** Subscribes to the tickets of a store. */
export function ticketChanges(store: Store): TicketChanges {
  const byTicket = new Map<string, Set<Waiter>>()
  const ofAll = new Set<Waiter>()

  const leave = store.subscribe(TICKETS, (change) => {
    if (change.kind === 'resync') {
      for (const waiters of [ofAll, ...byTicket.values()]) for (const waiter of waiters) tell(waiter, undefined)
      return
    }
    for (const waiter of ofAll) tell(waiter, change.id)
    for (const waiter of byTicket.get(change.id) ?? []) tell(waiter, change.id)
  })

  return {
    watch(ticket) {
      const waiter: Waiter = { gathered: new Set(), missed: false, wake: () => undefined }
      const waiters = ticket === undefined ? ofAll : (byTicket.get(ticket) ?? new Set())
      if (ticket !== undefined) byTicket.set(ticket, waiters)
      waiters.add(waiter)
      return {
        async next(signal, timeoutMs) {
          signal.throwIfAborted()
          if (waiter.gathered.size === 0 && !waiter.missed) await wait(waiter, signal, timeoutMs)
          const changed = waiter.missed ? ('all' as const) : [...waiter.gathered]
          waiter.gathered.clear()
          waiter.missed = false
          return changed
        },
        close() {
          waiters.delete(waiter)
          if (ticket !== undefined && waiters.size === 0) byTicket.delete(ticket)
        },
      }
    },
    close: leave,
  }
}

function tell(waiter: Waiter, id: string | undefined): void {
  if (id === undefined || waiter.gathered.size >= GATHERED_MAX) waiter.missed = true
  else waiter.gathered.add(id)
  waiter.wake()
}

function wait(waiter: Waiter, signal: AbortSignal, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (settle: () => void): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      waiter.wake = () => undefined
      settle()
    }
    const onAbort = (): void => end(() => reject(signal.reason))
    const timer = setTimeout(() => end(resolve), Math.min(Math.max(timeoutMs, 0), TIMER_MAX_MS))
    timer.unref()
    signal.addEventListener('abort', onAbort, { once: true })
    waiter.wake = () => end(resolve)
  })
}
