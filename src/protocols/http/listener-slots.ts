import { SallyportError } from '../../core/errors.ts'

/** Requests and conversations one caller may have at the door at once: each holds a connection, and a body in memory. */
const PER_PRINCIPAL_MAX = 256

/** How many requests each caller has under way at a door. */
export class Slots {
  readonly #max: number
  readonly #taken = new Map<string, number>()

  constructor(max = PER_PRINCIPAL_MAX) {
    this.#max = max
  }

  /**
   * Takes a place for one request; the returned function gives it back.
   *
   * @throws SallyportError `ERR_LIMIT_CONCURRENCY`
   */
  take(principal: string): () => void {
    const taken = this.#taken.get(principal) ?? 0
    if (taken >= this.#max) {
      throw new SallyportError(
        'ERR_LIMIT_CONCURRENCY',
        `You have ${this.#max} requests under way; wait until some end.`,
        {
          facts: { retryAfterMs: 1_000, noEffect: true },
        },
      )
    }
    this.#taken.set(principal, taken + 1)
    let isGiven = false
    return () => {
      if (isGiven) return
      isGiven = true
      const left = (this.#taken.get(principal) ?? 1) - 1
      if (left === 0) this.#taken.delete(principal)
      else this.#taken.set(principal, left)
    }
  }
}
