import { SallyportError } from '../../core/errors.ts'
import type { Principal } from '../../core/principal.ts'

/** Connections of one principal that may be streams at once; a forwarding can be open for days and say nothing. */
export const STREAMING_MAX = 64

/** Counts who has which connections as streams: no limit of a policy sees a forwarding that carries nothing. */
export class Streaming {
  readonly #byPrincipal = new Map<string, number>()

  /**
   * Takes a place; the returned function gives it back, once.
   *
   * @throws SallyportError `ERR_LIMIT_CONCURRENCY`
   */
  enter({ id }: Principal): () => void {
    const open = this.#byPrincipal.get(id) ?? 0
    if (open >= STREAMING_MAX) {
      throw new SallyportError(
        'ERR_LIMIT_CONCURRENCY',
        `${STREAMING_MAX} connections of ${id} are streams already (exec, attach, port-forward). End some of them.`,
      )
    }
    this.#byPrincipal.set(id, open + 1)
    let hasLeft = false
    return () => {
      if (hasLeft) return
      hasLeft = true
      const left = (this.#byPrincipal.get(id) ?? 1) - 1
      if (left > 0) this.#byPrincipal.set(id, left)
      else this.#byPrincipal.delete(id)
    }
  }
}
