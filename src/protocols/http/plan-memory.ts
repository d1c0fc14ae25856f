import type { HttpOptions } from './options.ts'
import { planRequest, type HttpPlan, type PlanUnder } from './plan.ts'

/** Plans kept for each target. */
const PLANS_MAX = 256
/** Longest payload whose plan is kept, in characters: none is worth more memory than making it again costs. */
const KEY_CHARS_MAX = 2_048

interface Known {
  readonly plan: HttpPlan
  readonly masks: PlanUnder['masks']
}

/**
 * Plans of requests that were planned before (C8). A plan is made of the payload, the settings of its target and its masks
 * and of nothing else, so the very same request has the very same plan; with it, what was decided of it is remembered
 * as well where the policy asked no condition.
 *
 * Only requests without a body are: a body may be large, and is seldom the same again.
 */
export class PlanMemory {
  readonly #byOptions = new WeakMap<HttpOptions, Map<string, Known>>()

  /** As {@link planRequest}. */
  plan(payload: unknown, options: HttpOptions, under: PlanUnder): HttpPlan {
    const key = under.streams || under.resolve !== undefined ? undefined : keyOf(payload)
    if (key === undefined) return planRequest(payload, options, under)
    let plans = this.#byOptions.get(options)
    if (plans === undefined) this.#byOptions.set(options, (plans = new Map()))
    const known = plans.get(key)
    // INVARIANT: compared by identity, as policies hand out one list for one set of masks.
    if (known?.masks === under.masks) return known.plan
    const plan = planRequest(payload, options, under)
    if (known === undefined && plans.size >= PLANS_MAX) forgetOldest(plans)
    plans.set(key, { plan, masks: under.masks })
    return plan
  }
}

/** Everything that is read of a payload; `undefined` when its plan is not to be kept. */
function keyOf(payload: unknown): string | undefined {
  if (typeof payload !== 'object' || payload === null || 'body' in payload || 'upgrade' in payload) return undefined
  const key = JSON.stringify(payload)
  return key.length > KEY_CHARS_MAX ? undefined : key
}

function forgetOldest(plans: Map<string, Known>): void {
  for (const key of plans.keys()) {
    plans.delete(key)
    return
  }
}
