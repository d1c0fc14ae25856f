/**
 * Rates, budgets and concurrency, counted per principal, target and session: in memory, or, by several instances, in
 * slices of what they share.
 *
 * A reservation takes everything a call needs or nothing. Counting happens when the call is let through, not when it
 * ends, so calls in flight count. What never reached the backend is given back; of what surely came to nothing there the
 * budgets are, and rates are not: a budget is how much may be done, a rate is what the target has to bear. A restart of a gateway that is alone forgets what was counted.
 *
 * @packageDocumentation
 */
import type { Call } from '../core/call.ts'
import type { Budget, Decision, RateLimit } from '../core/decision.ts'
import { type ErrorCode, type ErrorFacts, SallyportError } from '../core/errors.ts'
import type { Store } from '../store/store.ts'
import { forwardClock } from './clock.ts'
import { createPlaces, type Place } from './places.ts'
import { createSlices } from './slices.ts'
import { Windows } from './windows.ts'

/** Rates, budgets and concurrency. Rows, bytes and time are the connector's to keep; they stand in the obligations. */
export interface Limits {
  /**
   * Reserves what the decision's obligations ask for, or nothing at all. Asks nobody when what is needed is at hand.
   *
   * @param waived budgets whose excess persons have agreed to: the call is not held to them and does not count.
   * @throws SallyportError `ERR_LIMIT_RATE`, `ERR_LIMIT_CONCURRENCY`, `ERR_LIMIT_BUDGET`, each with `retryAfterMs` where
   * known; see {@link askableBudgets}. `ERR_STORE_FAILED` when what instances share cannot be counted.
   */
  reserve(call: Call, decision: Decision, waived?: ReadonlySet<string>): Reservation | Promise<Reservation>
  /** Gives back what is set aside for calls that did not come. */
  close(): Promise<void>
}

/** Limits of one instance alone: everything is in memory. */
export interface MemoryLimits extends Limits {
  reserve(call: Call, decision: Decision, waived?: ReadonlySet<string>): Reservation
}

/** Held while a call runs. */
export interface Reservation {
  /**
   * Ends the reservation. `ran: false` gives rates and budgets back, because nothing reached the backend; `isInVain` gives
   * back the budgets alone, because the backend was kept busy and nothing was done or shown.
   */
  release(outcome: { readonly ran: boolean; readonly isInVain?: boolean }): void
  /** Told when the call can be counted no longer and has to end; left out where that cannot be. */
  onLost?(listener: (why: SallyportError) => void): void
}

const askable = new WeakMap<SallyportError, readonly Budget[]>()

/**
 * Returns the budgets behind a refusal when all that stands in the call's way are budgets whose excess persons may agree
 * to; otherwise none.
 */
export function askableBudgets(error: unknown): readonly Budget[] {
  return (error instanceof SallyportError ? askable.get(error) : undefined) ?? []
}

/**
 * Builds the limits of a gateway that is alone.
 *
 * @param options.now milliseconds; steps back are ignored, so a monotonic clock is best but not needed.
 */
export function createLimits(options: { readonly now: () => number }): MemoryLimits {
  const clock = forwardClock(options.now)
  const windows = new Windows()
  const slots: Slots = new Map()
  return {
    reserve(call, decision, waived = NONE) {
      const now = clock()
      const wanted = wantedOf(call, decision, waived)
      const counters = wanted.map((want) => inMemory(windows, want, now))
      // INVARIANT: every check comes before the first count, so a refused call has used up nothing.
      const slot = slotOf(call)
      throwIfFull(call, decision, slots.get(slot) ?? 0)
      const all = counted(wanted, counters, now)
      return reservation(all, occupied(slots, slot))
    },
    close: async () => undefined,
  }
}

/**
 * Builds the limits of one of several instances. What one session alone can use stays in memory; all other rates and
 * budgets are counted in the store, from which this instance takes slices, and so are calls at once. See `slices.ts` and
 * `places.ts`.
 *
 * @param options.isCounted whether a call that is not held to a concurrency limit counts for others of its caller that are.
 */
export function createSharedLimits(options: {
  readonly now: () => number
  readonly store: Store
  readonly instance: string
  /** Milliseconds that only go forward, while the machine sleeps, too; `now` unless told. */
  readonly elapsed?: () => number
  readonly isCounted?: (call: Call) => boolean
}): Limits {
  const clock = forwardClock(options.now)
  const windows = new Windows()
  const shared = { store: options.store, instance: options.instance, now: options.elapsed ?? clock }
  const slices = createSlices(shared)
  const places = createPlaces(shared)
  return {
    async reserve(call, decision, waived = NONE) {
      const place = await placeFor(call, decision)
      try {
        return reservation(await countedIn(call, wantedOf(call, decision, waived, true)), place)
      } catch (error) {
        place?.release()
        throw error
      }
    },
    async close() {
      await Promise.all([slices.close(), places.close()])
    },
  }

  async function placeFor(call: Call, decision: Decision): Promise<Place | undefined> {
    const { concurrencyMax } = decision.obligations
    // Most callers are held to no such limit, and then nobody has to know.
    if (concurrencyMax === undefined && options.isCounted?.(call) !== true) return undefined
    const place = await places.take(slotOf(call), concurrencyMax)
    if (place === undefined) throwIfFull(call, decision, Number.POSITIVE_INFINITY)
    return place
  }

  async function countedIn(call: Call, wanted: readonly Wanted[]): Promise<readonly Counted[]> {
    for (let tries = 0; ; tries++) {
      call.signal.throwIfAborted()
      const now = clock()
      const counters = wanted.map((want) => {
        if (want.isOfOneSession) return inMemory(windows, want, now)
        return slices.counter(want.key, want.owner, want.limit) ?? throwTooManyKeys(want)
      })
      const lacking = counters.filter((counter) => counter.admits(now) === 'ask')
      if (lacking.length === 0) return counted(wanted, counters, now)
      if (tries === REFILLS_MAX) throw busy(call)
      // A slice may be used up by others by the time all have come: then they are asked for again.
      for (const counter of lacking) await counter.refill()
    }
  }
}

const NONE: ReadonlySet<string> = new Set()

/** How often a call asks for slices that others then use up before it is refused. */
const REFILLS_MAX = 20

/** How many calls run now, by principal and target. */
type Slots = Map<string, number>

/** One limit that a call must fit into, and the key under which it is counted. */
interface Wanted {
  readonly limit: RateLimit | Budget
  readonly code: LimitCode
  readonly key: string
  readonly owner: string
  /** Whether no other instance can have a call that counts under the same key. */
  readonly isOfOneSession: boolean
}

/** What counts one limit for one key. */
export interface Counter {
  /** Whether one more call fits; `ask` when that is not known here yet. */
  admits(now: number): 'yes' | 'no' | 'ask'
  /** Counts a call and returns how to take it back. */
  add(now: number): () => void
  /** How long until one more may fit, when that is known. */
  waitMs(now: number): number | undefined
  /** Finds out at the store. */
  refill(): Promise<void>
}

function wantedOf(
  call: Call,
  { obligations }: Decision,
  waived: ReadonlySet<string>,
  isShared = false,
): readonly Wanted[] {
  const { principal, id, sharedId } = call.session
  // A caller without a connection has one session, whichever instances its calls come to.
  const session = isShared && sharedId !== undefined ? sharedId : id
  const wanted = (limit: RateLimit | Budget, code: LimitCode): Wanted => {
    // Fail closed: a limit that makes no sense admits nothing.
    if (!(limit.windowMs > 0) || !Number.isFinite(limit.windowMs)) throw exceeded(code, limit, undefined)
    const key = keyOf(code, [limit.id, limit.windowMs, ...scopeOf(call, limit, session)])
    const isOfOneSession = limit.per.includes('session') && session === id
    return { limit, code, key, owner: principal.id, isOfOneSession }
  }
  return [
    ...obligations.rates.map((limit) => wanted(limit, 'ERR_LIMIT_RATE')),
    ...obligations.budgets.filter(({ id }) => !waived.has(id)).map((limit) => wanted(limit, 'ERR_LIMIT_BUDGET')),
  ]
}

function inMemory(windows: Windows, { key, owner, limit, code }: Wanted, now: number): Counter {
  const window = windows.get(key, owner, limit.windowMs, now)
  if (window === undefined) throw tooManyKeys(code, limit)
  return {
    admits: (at) => (window.count(at) < limit.max ? 'yes' : 'no'),
    add: (at) => window.add(at),
    waitMs: (at) => window.waitMs(at, limit.max),
    refill: async () => undefined,
  }
}

/** What one call was counted under, and how to take it back. */
interface Counted {
  readonly code: LimitCode
  readonly takeBack: () => void
}

/** Checks and counts in one turn of the event loop, so that nobody comes in between. */
function counted(wanted: readonly Wanted[], counters: readonly Counter[], now: number): readonly Counted[] {
  throwIfExceeded(wanted, counters, now)
  const seen = new Set<string>()
  return wanted.flatMap(({ key, code }, index) => {
    const counter = counters[index]
    // One key counts a call once, also when two rules bring the same limit.
    if (counter === undefined || seen.has(key)) return []
    seen.add(key)
    return [{ code, takeBack: counter.add(now) }]
  })
}

function reservation(all: readonly Counted[], place: Partial<Place> | undefined): Reservation {
  let isReleased = false
  return {
    release({ ran, isInVain = false }) {
      if (isReleased) return
      isReleased = true
      place?.release?.()
      for (const { code, takeBack } of all) {
        if (!ran || (isInVain && code === 'ERR_LIMIT_BUDGET')) takeBack()
      }
    },
    ...(place?.onLost !== undefined && { onLost: (listener) => place.onLost?.(listener) }),
  }
}

function slotOf({ session, target }: Call): string {
  return keyOf('concurrency', [session.principal.id, target.name])
}

function occupied(slots: Slots, slot: string): Pick<Place, 'release'> {
  slots.set(slot, (slots.get(slot) ?? 0) + 1)
  return {
    release() {
      const left = (slots.get(slot) ?? 1) - 1
      if (left > 0) slots.set(slot, left)
      else slots.delete(slot)
    },
  }
}

function throwIfFull(call: Call, decision: Decision, running: number): void {
  const { concurrencyMax } = decision.obligations
  if (concurrencyMax !== undefined && !(running < concurrencyMax)) throw tooManyAtOnce(call, decision, concurrencyMax)
}

function throwIfExceeded(wanted: readonly Wanted[], counters: readonly Counter[], now: number): void {
  let first: SallyportError | undefined
  const asking: Budget[] = []
  for (const [index, { limit, code }] of wanted.entries()) {
    const counter = counters[index]
    if (counter?.admits(now) === 'yes') continue
    const error = exceeded(code, limit, counter?.waitMs(now))
    if (!('onExceed' in limit) || limit.onExceed !== 'require_approval') throw error
    first ??= error
    asking.push(limit)
  }
  if (first === undefined) return
  askable.set(first, asking)
  throw first
}

type LimitCode = Extract<ErrorCode, 'ERR_LIMIT_RATE' | 'ERR_LIMIT_BUDGET'>

/** JSON keeps the parts apart whatever a name holds. */
function keyOf(kind: string, parts: readonly (string | number)[]): string {
  return JSON.stringify([kind, ...parts])
}

/** What a limit counts separately. Each value carries its dimension, so a target cannot pose as a principal. */
function scopeOf(call: Call, limit: RateLimit, session: string): readonly string[] {
  const dimensions = [...new Set(limit.per)].sort()
  return dimensions.flatMap((dimension) => {
    switch (dimension) {
      case 'principal':
        return [dimension, call.session.principal.id]
      case 'target':
        return [dimension, call.target.name]
      default:
        return [dimension, session]
    }
  })
}

function tooManyAtOnce(call: Call, decision: Decision, max: number): SallyportError {
  const message = `${named(decision.rules)} lets at most ${max} of your calls run on ${call.target.name} at once; wait until one has ended.`
  return new SallyportError('ERR_LIMIT_CONCURRENCY', message, { facts: { rules: decision.rules } })
}

function exceeded(code: LimitCode, limit: RateLimit, waitMs: number | undefined): SallyportError {
  const kind = code === 'ERR_LIMIT_RATE' ? 'Rate limit' : 'Budget'
  const per = limit.per.length === 0 ? '' : ` for each ${limit.per.join(' and ')}`
  const after = waitMs === undefined ? '' : ` Try again in ${spoken(waitMs)}.`
  return new SallyportError(
    code,
    `${kind} ${limit.id} allows ${limit.max} calls in ${spoken(limit.windowMs)}${per}, and they are used up.${after}`,
    { facts: { ...factsOf(limit), ...(waitMs !== undefined && { retryAfterMs: Math.ceil(waitMs) }) } },
  )
}

function throwTooManyKeys({ code, limit }: Wanted): never {
  throw tooManyKeys(code, limit)
}

function busy(call: Call): SallyportError {
  return new SallyportError(
    'ERR_LIMIT_RATE',
    `Too many calls of ${call.session.principal.id} count against the same limits at once; try again.`,
    { facts: { retryAfterMs: 1_000 } },
  )
}

function tooManyKeys(code: LimitCode, limit: RateLimit): SallyportError {
  return new SallyportError(
    code,
    `Limit ${limit.id} cannot be counted: too many separate counts are open. End sessions that are not needed.`,
    { facts: factsOf(limit) },
  )
}

/** Rules by the names they have in the policy, as in every other refusal. */
function factsOf({ id, rule = id }: RateLimit): ErrorFacts {
  return { rules: [rule], limit: id }
}

function named(rules: readonly string[]): string {
  return rules.length === 0 ? 'The policy' : `The policy (${rules.join(', ')})`
}

/** A duration as a person says it, rounded up. */
function spoken(ms: number): string {
  if (ms < 1_000) return `${Math.ceil(ms)} ms`
  if (ms < 120_000) return `${Math.ceil(ms / 1_000)} s`
  if (ms < 7_200_000) return `${Math.ceil(ms / 60_000)} min`
  return `${Math.ceil(ms / 3_600_000)} h`
}
