/**
 * Limits that several instances share, without asking the store at every call.
 *
 * What a limit has left stands in a ledger in the store. An instance takes a slice of it: some calls that it may let
 * through until the slice ends. As long as a slice stands, all of it counts as used, for as long as a call let through in
 * its last moment would. When it ends, what was not used is given back. So never more calls pass than the limit says, in
 * whatever stretch of the window one looks; what can happen is that a call is refused while another instance still holds
 * some it does not use, for {@link IDLE_MS} at most, or for a window when that instance died.
 *
 * Times in the ledger are the store's clock. An instance counts on from the moment *before* it asked for the time, so it
 * stops using a slice before the ledger lets go of it, whatever its own clock says.
 *
 * @packageDocumentation
 */
import { createHash, randomUUID } from 'node:crypto'
import type { RateLimit } from '../core/decision.ts'
import type { Store } from '../store/store.ts'
import type { Counter } from './limits.ts'

/** Slices of all shared limits that this instance holds. */
export interface Slices {
  /** The counter of one key, or `undefined` when no more can be kept: who asks must then refuse. */
  counter(key: string, owner: string, limit: RateLimit): Counter | undefined
  /** Gives everything back. */
  close(): Promise<void>
}

/** What slices are taken with. */
export interface SliceOptions {
  readonly store: Store
  readonly instance: string
  /** Milliseconds that only go forward, while the machine sleeps, too. */
  readonly now: () => number
}

/** The collection of ledgers. */
const LEDGERS = 'limits'

/** A slice that nobody used for this long is given back. */
const IDLE_MS = 1_000

const COUNTERS_MAX = 20_000
const COUNTERS_PER_OWNER_MAX = 1_000

/** Slices that are over are kept as this many entries at most; neighbours are merged and count until the later one's end. */
const SETTLED_MAX = 64

/** Calls that count, until a moment of the store's clock. */
interface Entry {
  readonly id: string
  readonly count: number
  readonly until: number
  /** Set while an instance may still use it. */
  readonly open?: true
}

interface Ledger {
  /** The latest moment anybody saw on the store's clock: it never seems to go back. */
  readonly at: number
  readonly entries: readonly Entry[]
}

/** What this instance may use now. */
interface Slice {
  readonly id: string
  readonly count: number
  used: number
  /** By this instance's clock, before which the ledger surely still holds it. */
  readonly endsAt: number
  /** Turns a moment of our clock into one that the store's clock has not passed before. */
  readonly storeTime: (now: number) => number
  usedAt: number
}

/** Builds the slices of one instance. */
export function createSlices(options: SliceOptions): Slices {
  const counters = new Map<string, SharedCounter>()
  const owned = new Map<string, number>()
  let isClosed = false
  const timer = setInterval(() => {
    for (const [key, counter] of counters) {
      void counter.giveBackIdle().catch(() => undefined)
      if (counter.isForgettable()) forget(key, counter)
    }
  }, IDLE_MS)
  timer.unref()

  return {
    counter(key, owner, limit) {
      const known = counters.get(key)
      if (known !== undefined) return known.for(limit)
      const ofOwner = owned.get(owner) ?? 0
      if (isClosed || counters.size >= COUNTERS_MAX || ofOwner >= COUNTERS_PER_OWNER_MAX) return undefined
      const counter = new SharedCounter(key, owner, limit, options)
      counters.set(key, counter)
      owned.set(owner, ofOwner + 1)
      return counter.for(limit)
    },
    async close() {
      isClosed = true
      clearInterval(timer)
      await Promise.allSettled([...counters.values()].map((counter) => counter.giveBack()))
    },
  }

  function forget(key: string, { owner }: SharedCounter): void {
    counters.delete(key)
    const left = (owned.get(owner) ?? 1) - 1
    if (left > 0) owned.set(owner, left)
    else owned.delete(owner)
  }
}

class SharedCounter {
  readonly owner: string
  readonly #document: string
  readonly #windowMs: number
  readonly #options: SliceOptions
  #slice: Slice | undefined
  /** Why there is no slice: nothing was left when we asked, until about this moment. */
  #exhausted: { readonly until: number; readonly waitMs: number | undefined } | undefined
  #taking: Promise<void> | undefined
  #max: number
  /** How many calls a slice is asked for: more when the last ones were used up, fewer when not. */
  #size = 1
  #askedAt: number

  constructor(key: string, owner: string, limit: RateLimit, options: SliceOptions) {
    this.owner = owner
    this.#document = createHash('sha256').update(key).digest('hex')
    this.#windowMs = limit.windowMs
    this.#max = limit.max
    this.#options = options
    this.#askedAt = options.now()
  }

  /** The counter under a limit that may have another maximum than before. */
  for(limit: RateLimit): Counter {
    this.#max = limit.max
    this.#askedAt = this.#options.now()
    // Slices have a clock of their own: one that goes on while the machine sleeps.
    return {
      admits: () => this.#admits(this.#options.now()),
      add: () => this.#add(this.#options.now()),
      waitMs: () => this.#exhausted?.waitMs,
      refill: () => (this.#taking ??= this.#take().finally(() => (this.#taking = undefined))),
    }
  }

  isForgettable(): boolean {
    const idleMs = this.#options.now() - this.#askedAt
    return this.#slice === undefined && this.#taking === undefined && idleMs > 10 * IDLE_MS
  }

  async giveBackIdle(): Promise<void> {
    const slice = this.#slice
    const now = this.#options.now()
    if (slice === undefined || this.#taking !== undefined) return
    if (now < slice.endsAt && now - slice.usedAt < IDLE_MS) return
    await this.giveBack()
  }

  /** Says in the ledger what was really used. */
  async giveBack(): Promise<void> {
    await this.#taking?.catch(() => undefined)
    if (this.#slice === undefined) return
    // Nobody may use what is being given back.
    const slice = this.#slice
    this.#slice = undefined
    const { store } = this.#options
    for (;;) {
      const read = await store.get<Ledger>(LEDGERS, this.#document)
      if (read === undefined) return
      const entries = this.#settled(read.value.entries, slice)
      const value: Ledger = { ...read.value, entries }
      const write =
        entries.length === 0
          ? ({ kind: 'remove', collection: LEDGERS, id: this.#document, expect: read.version } as const)
          : ({ kind: 'put', collection: LEDGERS, id: this.#document, expect: read.version, value } as const)
      if (await store.commit([write])) return
    }
  }

  #admits(now: number): 'yes' | 'no' | 'ask' {
    const slice = this.#slice
    if (slice !== undefined && now < slice.endsAt && slice.used < slice.count) return 'yes'
    if (this.#exhausted !== undefined && now < this.#exhausted.until) return 'no'
    return 'ask'
  }

  #add(now: number): () => void {
    const slice = this.#slice
    if (slice === undefined) throw new TypeError('a call is counted only where it was admitted')
    slice.used++
    slice.usedAt = now
    let isBack = false
    return () => {
      if (isBack) return
      isBack = true
      // What was already told to the ledger as used stays used.
      if (this.#slice === slice) slice.used--
    }
  }

  async #take(): Promise<void> {
    const { store, now } = this.#options
    const before = this.#slice
    this.#slice = undefined
    if (before !== undefined) this.#size = before.used < before.count ? Math.ceil(this.#size / 2) : this.#size * 2
    for (;;) {
      const askedAt = now()
      const [time, read] = await Promise.all([store.clock(), store.get<Ledger>(LEDGERS, this.#document)])
      const at = Math.max(time, read?.value.at ?? 0)
      const entries = this.#settled(read?.value.entries ?? [], before).filter(({ until }) => until > at)
      const left = this.#max - entries.reduce((sum, { count }) => sum + count, 0)
      const count = Math.max(0, Math.min(left, Math.max(1, Math.min(this.#size, Math.floor(left / 4)))))
      const sliceMs = Math.min(Math.max(this.#windowMs / 20, 250), 15_000)
      const id = randomUUID()
      const open: readonly Entry[] =
        count === 0 ? [] : [{ id, count, until: at + sliceMs + this.#windowMs, open: true }]
      const value: Ledger = { at, entries: [...entries, ...open] }
      const write = { collection: LEDGERS, id: this.#document, expect: read?.version ?? 0 }
      if (!(await store.commit([{ kind: 'put', ...write, value }]))) continue
      // Our clock runs from before the question, so it is ahead of the ledger's.
      const storeTime = (moment: number): number => at + moment - askedAt
      if (count > 0) this.#slice = { id, count, used: 0, endsAt: askedAt + sliceMs, storeTime, usedAt: now() }
      this.#exhausted = count > 0 ? undefined : exhaustedUntil(entries, at, now())
      return
    }
  }

  /** The entries with a slice of ours as it really was, or without it when nothing of it was used. */
  #settled(entries: readonly Entry[], slice: Slice | undefined): readonly Entry[] {
    if (slice === undefined) return entries
    const others = entries.filter(({ id }) => id !== slice.id)
    // Somebody removed it: it had run out already, and with it what was used.
    if (others.length === entries.length) return entries
    if (slice.used === 0) return others
    const until = slice.storeTime(slice.usedAt) + this.#windowMs
    return merged([...others, { id: slice.id, count: slice.used, until }])
  }
}

/** A ledger that is read and written whole stays short: what is over is merged, and counts too long rather than too short. */
function merged(entries: readonly Entry[]): readonly Entry[] {
  const settled = entries.filter(({ open }) => open !== true).sort((a, b) => a.until - b.until)
  if (settled.length <= SETTLED_MAX) return entries
  const halved: Entry[] = []
  for (let index = 0; index < settled.length; index += 2) {
    const earlier = settled[index]
    const later = settled[index + 1]
    if (earlier === undefined) break
    halved.push(later === undefined ? earlier : { ...later, count: earlier.count + later.count })
  }
  return [...entries.filter(({ open }) => open === true), ...halved]
}

/** How long "nothing is left" is believed without asking again: as long as it surely holds, unless a slice may come back. */
function exhaustedUntil(
  entries: readonly Entry[],
  at: number,
  now: number,
): { readonly until: number; readonly waitMs: number | undefined } {
  const first = entries.reduce((least, { until }) => Math.min(least, until), Number.POSITIVE_INFINITY)
  const waitMs = Number.isFinite(first) ? Math.max(1, first - at) : undefined
  const mayComeBack = entries.some(({ open }) => open === true)
  const sureMs = Math.min(waitMs ?? IDLE_MS, mayComeBack ? 100 : IDLE_MS)
  return { until: now + sureMs, waitMs: mayComeBack ? Math.min(waitMs ?? IDLE_MS, 2 * IDLE_MS) : waitMs }
}
