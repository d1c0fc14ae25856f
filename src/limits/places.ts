/**
 * How many calls run at once, over all instances that share a store.
 *
 * A ledger in the store says for each key how many places each instance holds. A place is taken there before its call
 * runs and given back when it ended, so that never more run than the limit says. What an instance holds stays taken until
 * {@link LEASE_MS} after it last said so: one that died gives its places back no sooner, and one that cannot say so any
 * more ends the calls in them before somebody else may have them.
 *
 * @packageDocumentation
 */
import { createHash } from 'node:crypto'
import { SallyportError } from '../core/errors.ts'
import type { Store } from '../store/store.ts'

/** The places this instance holds. */
export interface Places {
  /**
   * Takes a place, or resolves `undefined` when none is free and none became free in a moment ({@link WAIT_MS}).
   *
   * @param max left out, the call is only counted.
   * @throws SallyportError `ERR_STORE_FAILED`
   */
  take(key: string, max: number | undefined): Promise<Place | undefined>
  /** Gives everything back. */
  close(): Promise<void>
}

/** One call that may run. */
export interface Place {
  release(): void
  /** Told when the place can be kept no longer: its call has to end. */
  onLost(listener: (why: SallyportError) => void): void
}

/** What places are taken with. */
export interface PlaceOptions {
  readonly store: Store
  readonly instance: string
  /** Milliseconds that only go forward, while the machine sleeps, too. */
  readonly now: () => number
  /** How long to wait for a place that is just being given back; {@link WAIT_MS} unless told. */
  readonly waitMs?: number
}

/** The collection of ledgers. */
const PLACES = 'places'

/** How long a place stays taken after the instance that holds it was last heard of. */
export const LEASE_MS = 60_000

/** Before the ledger gives a place away, its call has this long to end. */
const END_MS = 15_000

const RENEW_MS = 5_000

/** A caller whose last call is just ending elsewhere must not be refused for that. */
const WAIT_MS = 500

interface Holder {
  readonly instance: string
  readonly count: number
  /** By the store's clock. */
  readonly until: number
}

interface Ledger {
  /** The latest moment anybody saw on the store's clock: it never seems to go back. */
  readonly at: number
  readonly holders: readonly Holder[]
}

/** Builds the places of one instance. */
export function createPlaces(options: PlaceOptions): Places {
  const keys = new Map<string, Key>()
  const leave = options.store.subscribe(PLACES, (change) => {
    if (change.kind === 'resync') for (const key of keys.values()) key.settle()
    else keys.get(change.id)?.changed()
  })
  const timer = setInterval(() => {
    for (const key of keys.values()) key.renew()
  }, RENEW_MS)
  timer.unref()

  return {
    take(name, max) {
      const document = createHash('sha256').update(name).digest('hex')
      const key = keys.get(document) ?? new Key(document, options, () => keys.delete(document))
      keys.set(document, key)
      return key.take(max)
    },
    async close() {
      clearInterval(timer)
      leave()
      await Promise.allSettled([...keys.values()].map((key) => key.giveUp()))
    },
  }
}

interface Waiting {
  readonly max: number | undefined
  readonly since: number
  readonly timer: NodeJS.Timeout
  readonly resolve: (place: Place | undefined) => void
  readonly reject: (error: unknown) => void
}

/** The places of one key. */
class Key {
  readonly #document: string
  readonly #options: PlaceOptions
  readonly #onUnused: () => void
  readonly #waitMs: number
  readonly #held = new Set<Held>()
  #waiting: Waiting[] = []
  /** By our clock: until then the ledger surely has what we hold. */
  #until = Number.NEGATIVE_INFINITY
  /** Whether the ledger may say something else than is so. */
  #isDue = false
  #settling: Promise<void> | undefined

  constructor(document: string, options: PlaceOptions, onUnused: () => void) {
    this.#document = document
    this.#options = options
    this.#waitMs = options.waitMs ?? WAIT_MS
    this.#onUnused = onUnused
  }

  take(max: number | undefined): Promise<Place | undefined> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.settle(), this.#waitMs + 1)
      timer.unref()
      this.#waiting.push({ max, since: performance.now(), timer, resolve, reject })
      this.settle()
    })
  }

  /** Another instance, or this one, has changed the ledger: perhaps a place is free. */
  changed(): void {
    if (this.#waiting.length > 0) this.settle()
  }

  /** Brings ledger and truth together. Whatever changes meanwhile is seen to after it. */
  settle(): void {
    this.#isDue = true
    this.#settling ??= this.#settleAll()
  }

  renew(): void {
    if (this.#isDue || (this.#held.size > 0 && this.#isOld())) this.settle()
    this.#loseLate()
  }

  async giveUp(): Promise<void> {
    this.#held.clear()
    this.settle()
    await this.#settling
  }

  async #settleAll(): Promise<void> {
    try {
      while (this.#isDue) {
        this.#isDue = false
        await this.#settleOnce()
      }
    } catch (error) {
      // The ledger may say too much now, never too little; the next renewal tries again.
      this.#isDue = true
      for (const { reject, timer } of this.#waiting.splice(0)) {
        clearTimeout(timer)
        reject(error)
      }
    } finally {
      this.#settling = undefined
      if (!this.#isDue && this.#held.size === 0 && this.#waiting.length === 0) this.#onUnused()
    }
  }

  async #settleOnce(): Promise<void> {
    const { store, instance, now } = this.#options
    this.#loseLate()
    const askedAt = now()
    const [time, read] = await Promise.all([store.clock(), store.get<Ledger>(PLACES, this.#document)])
    const at = Math.max(time, read?.value.at ?? 0)
    const holders = (read?.value.holders ?? []).filter(({ until }) => until > at)
    const others = holders.filter((holder) => holder.instance !== instance)
    const ours = holders.find((holder) => holder.instance === instance)
    const taken = others.reduce((sum, { count }) => sum + count, 0)
    const admitted = this.#admissible(taken)
    const count = this.#held.size + admitted.length

    if (count !== (ours?.count ?? 0) || (count > 0 && this.#isOld())) {
      const own = count === 0 ? [] : [{ instance, count, until: at + LEASE_MS }]
      const value: Ledger = { at, holders: [...others, ...own] }
      const place = { collection: PLACES, id: this.#document, expect: read?.version ?? 0 }
      const isCommitted = await store.commit([
        value.holders.length === 0 ? { kind: 'remove', ...place } : { kind: 'put', ...place, value },
      ])
      if (!isCommitted) {
        this.#isDue = true
        return
      }
      this.#until = askedAt + LEASE_MS - END_MS
    }
    // Held only once it stands in the ledger.
    for (const waiting of admitted) this.#answer(waiting, this.#hold())
    for (const waiting of this.#waiting) {
      if (performance.now() - waiting.since >= this.#waitMs) this.#answer(waiting, undefined)
    }
  }

  #answer(waiting: Waiting, place: Place | undefined): void {
    clearTimeout(waiting.timer)
    this.#waiting = this.#waiting.filter((other) => other !== waiting)
    waiting.resolve(place)
  }

  #isOld(): boolean {
    return this.#until - this.#options.now() < LEASE_MS - END_MS - RENEW_MS
  }

  /** Fail closed: what could not be renewed in time may be somebody else's by now. */
  #loseLate(): void {
    if (this.#held.size === 0 || this.#options.now() < this.#until) return
    for (const held of this.#held) held.lose()
  }

  /** Those that fit beside what others hold, in the order they came. */
  #admissible(taken: number): readonly Waiting[] {
    const admitted: Waiting[] = []
    for (const waiting of this.#waiting) {
      const count = taken + this.#held.size + admitted.length
      if (waiting.max === undefined || count < waiting.max) admitted.push(waiting)
    }
    return admitted
  }

  #hold(): Held {
    const held = new Held(() => {
      if (this.#held.delete(held)) this.settle()
    })
    this.#held.add(held)
    return held
  }
}

class Held implements Place {
  readonly release: () => void
  readonly #listeners: ((why: SallyportError) => void)[] = []

  constructor(release: () => void) {
    this.release = release
  }

  onLost(listener: (why: SallyportError) => void): void {
    this.#listeners.push(listener)
  }

  lose(): void {
    const why = new SallyportError(
      'ERR_STORE_FAILED',
      'The call was ended, because the shared store that counts calls at once could not be reached for too long.',
    )
    for (const listener of this.#listeners) listener(why)
  }
}
