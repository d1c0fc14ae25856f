/** How many there are now, by whose they are. */
export class Tally {
  readonly #counts = new Map<string, number>()
  #all = 0

  /** Of all together. */
  get all(): number {
    return this.#all
  }

  of(whose: string): number {
    return this.#counts.get(whose) ?? 0
  }

  /** Counts one more, until the returned function is called. Calling that twice does no harm. */
  add(whose: string): () => void {
    this.#counts.set(whose, this.of(whose) + 1)
    this.#all++
    let isCounted = true
    return () => {
      if (!isCounted) return
      isCounted = false
      this.#all--
      const left = this.of(whose) - 1
      // Addresses and names come and go without end: none is kept for nothing.
      if (left === 0) this.#counts.delete(whose)
      else this.#counts.set(whose, left)
    }
  }
}
