/**
 * The loop breaker: notices a caller that gets nowhere, says so, and then stops it.
 *
 * Four signs, each with thresholds from the policy: the very same call again and again; a few calls that come round in the
 * same order; one error after another that are the same error; one empty result after another. They are counted per
 * principal and per session, in memory and bounded, over what ended: what waits for a person is no loop.
 *
 * @packageDocumentation
 */
import { createHash } from 'node:crypto'
import type { Call, Judged } from '../core/call.ts'
import type { Chunk } from '../core/chunk.ts'
import type { LoopLimit } from '../core/decision.ts'
import type { SallyportError } from '../core/errors.ts'
import { forwardClock } from './clock.ts'

/** The loop breaker of one instance. */
export interface Loops {
  /** Looks at what came before and says what to do about this call. */
  look(call: Call, judged: Judged): LoopVerdict
  /** Follows a call to its end. */
  follow(call: Call, judged: Judged): LoopWatch
}

/** Told what becomes of one call. */
export interface LoopWatch {
  shown(chunk: Chunk): void
  ended(error?: SallyportError): void
}

/** What to do about a call: nothing, tell its caller, or stop it. */
export type LoopVerdict =
  | { readonly kind: 'none' }
  | { readonly kind: 'warn'; readonly warning: string }
  | { readonly kind: 'stop'; readonly limit: LoopLimit; readonly reason: string }

/** Calls remembered for one principal or session; a longer cycle than these is none. */
const EVENTS_MAX = 256
/** The longest cycle that is looked for: A-B-C-D. */
const PERIOD_MAX = 4
const SCOPES_MAX = 10_000

interface Event {
  readonly at: number
  readonly call: string
  readonly outcome: string
}

const OK = 'ok'
const EMPTY = 'empty'

/** Builds a loop breaker. @param options.now milliseconds; steps back are ignored. */
export function createLoops(options: { readonly now: () => number }): Loops {
  const clock = forwardClock(options.now)
  const scopes = new Map<string, Event[]>()

  return {
    look(call, { plan, decision }) {
      let warning: string | undefined
      for (const limit of decision.obligations.loops ?? []) {
        for (const scope of scopesOf(call)) {
          const since = clock() - limit.windowMs
          const recent = (scopes.get(scope) ?? []).filter(({ at }) => at > since)
          const seen = signs(limit, recent, fingerprint(call, plan.exact))
          const stop = seen.find(({ isStop }) => isStop)
          if (stop !== undefined) {
            // Once it is over, counting begins anew: a caller that may go on must not be stopped at once again.
            if (limit.onStop === 'suspend') for (const each of scopesOf(call)) scopes.delete(each)
            return { kind: 'stop', limit, reason: stop.says }
          }
          warning ??= seen[0]?.says
        }
      }
      return warning === undefined ? { kind: 'none' } : { kind: 'warn', warning: advised(warning) }
    },

    follow(call, { plan, decision }) {
      const isWatched = (decision.obligations.loops ?? []).length > 0
      let rows = 0
      let outcome = OK
      let isEnded = !isWatched
      return {
        shown(chunk) {
          if (chunk.kind === 'data') rows += chunk.channel === 'rows' ? chunk.rows.length : 1
          if (chunk.kind === 'exit' && chunk.rowCount === 0 && rows === 0) outcome = EMPTY
        },
        ended(error) {
          if (isEnded || (error !== undefined && IS_NO_END.has(error.code))) return
          isEnded = true
          if (error !== undefined) outcome = `error:${call.target.name}:${error.code}:${error.facts.sqlstate ?? ''}`
          const event = { at: clock(), call: fingerprint(call, plan.exact), outcome }
          for (const scope of scopesOf(call)) remember(scope, event)
        },
      }
    },
  }

  function remember(scope: string, event: Event): void {
    const events = scopes.get(scope) ?? []
    // The one used longest ago stands first, and goes first.
    scopes.delete(scope)
    scopes.set(scope, events)
    events.push(event)
    if (events.length > EVENTS_MAX) events.shift()
    if (scopes.size > SCOPES_MAX) for (const oldest of [...scopes.keys()].slice(0, 1)) scopes.delete(oldest)
  }
}

/** Codes after which a call may still come to an end, or which say nothing of what it would have met. */
const IS_NO_END: ReadonlySet<string> = new Set(['ERR_APPROVAL_PENDING', 'ERR_CANCELLED', 'ERR_SHUTTING_DOWN'])

function scopesOf({ session }: Call): readonly string[] {
  return [JSON.stringify(['principal', session.principal.id]), JSON.stringify(['session', session.id])]
}

function fingerprint({ target }: Call, exact: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify([target.name, exact]))
    .digest('base64')
}

interface Sign {
  readonly says: string
  readonly isStop: boolean
}

/** The signs of a loop that this call would show after those, the worst first. */
function signs(limit: LoopLimit, recent: readonly Event[], call: string): readonly Sign[] {
  const within = `within ${Math.round(limit.windowMs / 1_000)} s`
  const { repeats, cycles, errors, empty } = limit
  const found: Sign[] = []
  const note = (count: number, threshold: { warn: number; stop: number } | undefined, says: string): void => {
    if (threshold !== undefined && count >= threshold.warn) found.push({ says, isStop: count >= threshold.stop })
  }
  const same = recent.filter((event) => event.call === call).length + 1
  note(same, repeats, `this very call came ${same} times ${within}`)
  const round = roundsOf([...recent.map((event) => event.call), call])
  note(round.count, cycles, `the same ${round.period} calls came round ${round.count} times ${within}`)
  const last = recent.at(-1)?.outcome
  const alike = recent.length - 1 - recent.findLastIndex(({ outcome }) => outcome !== last)
  if (last?.startsWith('error:') === true) {
    note(alike, errors, `the last ${alike} calls failed in the same way (${last.split(':')[2] ?? ''})`)
  }
  if (last === EMPTY) note(alike, empty, `the last ${alike} calls brought nothing`)
  return found.sort((a, b) => Number(b.isStop) - Number(a.isStop))
}

/** How often the calls at the end go round in one order of two to {@link PERIOD_MAX} different ones. */
function roundsOf(calls: readonly string[]): { readonly period: number; readonly count: number } {
  let most = { period: 0, count: 0 }
  for (let period = 2; period <= PERIOD_MAX; period++) {
    if (new Set(calls.slice(-period)).size < 2) continue
    let length = period
    while (length < calls.length && calls.at(-length - 1) === calls.at(-length - 1 + period)) length++
    const count = Math.floor(length / period)
    if (count > 1 && count > most.count) most = { period, count }
  }
  return most
}

function advised(what: string): string {
  return `You seem to go round in circles: ${what}. Change your approach or ask your user; going on like this is stopped.`
}
