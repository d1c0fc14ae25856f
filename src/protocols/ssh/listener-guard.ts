/**
 * Keeps strangers out of the way: how many connections may wait to be known, and how often somebody may guess.
 *
 * @packageDocumentation
 */

/** Connections that have not logged in: over all, and from one address. */
const UNKNOWN_MAX = 64
const UNKNOWN_PER_ADDRESS_MAX = 16
/** Failed log-ins from one address in a window, after which it is not answered. */
const FAILURES_MAX = 20
const WINDOW_MS = 60_000
/** Addresses remembered. Beyond it the oldest is forgotten, so that a flood costs a bounded amount of memory. */
const ADDRESSES_MAX = 10_000

/** A connection that is not known yet. */
export interface Stranger {
  /** It logged in, or went away. */
  over(): void
}

/** Counts strangers and failures. */
export class Guard {
  readonly #now: () => number
  readonly #failures = new Map<string, { count: number; since: number }>()
  readonly #strangers = new Map<string, number>()
  #total = 0

  /** @param now milliseconds; only differences matter. */
  constructor(now: () => number) {
    this.#now = now
  }

  /** Lets a connection begin, or returns `undefined` when it is to be dropped. */
  admit(address: string): Stranger | undefined {
    const waiting = this.#strangers.get(address) ?? 0
    if (this.#total >= UNKNOWN_MAX || waiting >= UNKNOWN_PER_ADDRESS_MAX || this.#isBlocked(address)) return undefined
    this.#total++
    this.#strangers.set(address, waiting + 1)
    let isOver = false
    return {
      over: () => {
        if (isOver) return
        isOver = true
        this.#total--
        const left = (this.#strangers.get(address) ?? 1) - 1
        if (left === 0) this.#strangers.delete(address)
        else this.#strangers.set(address, left)
      },
    }
  }

  /** Notes a failed log-in. */
  failed(address: string): void {
    const known = this.#failures.get(address)
    const isCurrent = known !== undefined && this.#now() - known.since < WINDOW_MS
    this.#failures.delete(address)
    this.#failures.set(address, isCurrent ? { ...known, count: known.count + 1 } : { count: 1, since: this.#now() })
    const [oldest] = this.#failures.keys()
    if (this.#failures.size > ADDRESSES_MAX && oldest !== undefined) this.#failures.delete(oldest)
  }

  #isBlocked(address: string): boolean {
    const known = this.#failures.get(address)
    return known !== undefined && this.#now() - known.since < WINDOW_MS && known.count >= FAILURES_MAX
  }
}
