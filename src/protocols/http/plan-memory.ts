import { PlanMemory as SharedMemory } from '../shared/plan-memory.ts'
import type { HttpOptions } from './options.ts'
import { planRequest, type HttpPlan, type PlanUnder } from './plan.ts'

/**
 * Plans of requests that were planned before (C8). A plan is made of the payload, the settings of its target and its masks
 * and of nothing else, so the very same request has the very same plan.
 *
 * Only requests without a body are kept: a body may be large, and is seldom the same again.
 */
export class PlanMemory {
  readonly #byOptions = new WeakMap<HttpOptions, SharedMemory<HttpPlan>>()

  /** As {@link planRequest}. */
  plan(payload: unknown, options: HttpOptions, under: PlanUnder): HttpPlan {
    const make = (): HttpPlan => planRequest(payload, options, under)
    const key = under.streams || under.resolve !== undefined ? undefined : keyOf(payload)
    if (key === undefined) return make()
    let plans = this.#byOptions.get(options)
    if (plans === undefined) this.#byOptions.set(options, (plans = new SharedMemory()))
    return plans.plan(key, under.masks, make)
  }
}

/** Everything that is read of a payload; `undefined` when its plan is not to be kept. */
function keyOf(payload: unknown): string | undefined {
  if (typeof payload !== 'object' || payload === null || 'body' in payload) return undefined
  return JSON.stringify(payload)
}
