/** Plans kept at once. */
const PLANS_MAX = 256
/** Longest key whose plan is kept, in characters: none is worth more memory than making it again costs. */
const KEY_CHARS_MAX = 2_048

interface Known<P> {
  readonly plan: P
  readonly masks: object
}

/**
 * Plans of requests that were planned before (C8). The very same request has the very same plan, as long as a plan is made
 * of nothing but what its key and its masks say; with the plan, what was decided of it is remembered as well where the
 * policy asked no condition.
 */
export class PlanMemory<P> {
  readonly #plans = new Map<string, Known<P>>()

  /**
   * Returns the plan kept under a key, or makes it and keeps it. What `make` throws is not kept.
   *
   * @param key everything the plan is made of besides masks.
   * @param masks compared by identity, as policies hand out one list for one set of masks.
   */
  plan(key: string, masks: object, make: () => P): P {
    const known = this.#plans.get(key)
    if (known?.masks === masks) return known.plan
    const plan = make()
    if (key.length > KEY_CHARS_MAX) return plan
    if (known === undefined && this.#plans.size >= PLANS_MAX) this.#forgetOldest()
    this.#plans.set(key, { plan, masks })
    return plan
  }

  #forgetOldest(): void {
    for (const key of this.#plans.keys()) {
      this.#plans.delete(key)
      return
    }
  }
}
