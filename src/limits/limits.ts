/**
 * Rates, budgets and concurrency, kept in memory per principal, target and session.
 *
 * A reservation takes everything a call needs or nothing. Counting happens when the call is let through, not when it
 * ends, so calls in flight count; what never reached the backend is given back. A restart forgets what was counted.
 *
 * @packageDocumentation
 */
import type { Call } from '../core/call.ts'
import type { Decision, RateLimit } from '../core/decision.ts'
import { type ErrorCode, SallyportError } from '../core/errors.ts'
import { forwardClock } from './clock.ts'
import type { SlidingWindow } from './window.ts'
import { Windows } from './windows.ts'

/** Rates, budgets and concurrency. Rows, bytes and time are the connector's to keep; they stand in the obligations. */
export interface Limits {
  /**
   * Reserves what the decision's obligations ask for, or nothing at all.
   *
   * @throws SallyportError `ERR_LIMIT_RATE`, `ERR_LIMIT_CONCURRENCY`, `ERR_LIMIT_BUDGET`, each with `retryAfterMs` where known.
   */
  reserve(call: Call, decision: Decision): Reservation
}

/** Held while a call runs. */
export interface Reservation {
  /** Ends the reservation. `ran: false` gives rates and budgets back, because nothing reached the backend. */
  release(outcome: { readonly ran: boolean }): void
}

/**
 * Builds the limits of one gateway.
 *
 * @param options.now milliseconds; steps back are ignored, so a monotonic clock is best but not needed.
 */
export function createLimits(options: { readonly now: () => number }): Limits {
  const clock = forwardClock(options.now)
  const windows = new Windows()
  const running = new Map<string, number>()

  return {
    reserve(call, decision) {
      const now = clock()
      const { concurrencyMax, rates, budgets } = decision.obligations
      // INVARIANT: every check comes before the first count, so a refused call has used up nothing.
      const slot = keyOf('concurrency', [call.session.principal.id, call.target.name])
      if (concurrencyMax !== undefined && !((running.get(slot) ?? 0) < concurrencyMax)) {
        throw tooManyAtOnce(call, decision, concurrencyMax)
      }
      const counted = [
        ...rates.map((limit) => check(call, limit, 'ERR_LIMIT_RATE', now)),
        ...budgets.map((limit) => check(call, limit, 'ERR_LIMIT_BUDGET', now)),
      ]

      running.set(slot, (running.get(slot) ?? 0) + 1)
      // One key counts a call once, also when two rules bring the same limit.
      const takeBack = [...new Set(counted)].map((window) => window.add(now))
      let isReleased = false
      return {
        release({ ran }) {
          if (isReleased) return
          isReleased = true
          const left = (running.get(slot) ?? 1) - 1
          if (left > 0) running.set(slot, left)
          else running.delete(slot)
          if (!ran) for (const undo of takeBack) undo()
        },
      }
    },
  }

  function check(call: Call, limit: RateLimit, code: LimitCode, now: number): SlidingWindow {
    const { principal } = call.session
    // Fail closed: a limit that makes no sense admits nothing.
    if (!(limit.windowMs > 0) || !Number.isFinite(limit.windowMs)) throw exceeded(code, limit, undefined)
    const key = keyOf(code, [limit.id, limit.windowMs, ...scopeOf(call, limit)])
    const window = windows.get(key, principal.id, limit.windowMs, now)
    if (window === undefined) throw tooManyKeys(code, limit)
    if (!(window.count(now) < limit.max)) throw exceeded(code, limit, window.waitMs(now, limit.max))
    return window
  }
}

type LimitCode = Extract<ErrorCode, 'ERR_LIMIT_RATE' | 'ERR_LIMIT_BUDGET'>

/** JSON keeps the parts apart whatever a name holds. */
function keyOf(kind: string, parts: readonly (string | number)[]): string {
  return JSON.stringify([kind, ...parts])
}

/** What a limit counts separately. Each value carries its dimension, so a target cannot pose as a principal. */
function scopeOf(call: Call, limit: RateLimit): readonly string[] {
  const dimensions = [...new Set(limit.per)].sort()
  return dimensions.flatMap((dimension) => {
    switch (dimension) {
      case 'principal':
        return [dimension, call.session.principal.id]
      case 'target':
        return [dimension, call.target.name]
      default:
        return [dimension, call.session.id]
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
    { facts: { rules: [limit.id], ...(waitMs !== undefined && { retryAfterMs: Math.ceil(waitMs) }) } },
  )
}

function tooManyKeys(code: LimitCode, limit: RateLimit): SallyportError {
  return new SallyportError(
    code,
    `Limit ${limit.id} cannot be counted: too many separate counts are open. End sessions that are not needed.`,
    { facts: { rules: [limit.id] } },
  )
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
