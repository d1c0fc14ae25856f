/**
 * What a client has named. The unnamed one, which most clients use for all they do, stands beside the rest: `core/roster.ts`
 * says what it costs to add to a `Map` and delete from it without end.
 */
export class ByName<T> {
  readonly #named = new Map<string, T>()
  #unnamed: T | undefined

  get size(): number {
    return this.#named.size + (this.#unnamed === undefined ? 0 : 1)
  }

  get(name: string): T | undefined {
    return name === '' ? this.#unnamed : this.#named.get(name)
  }

  has(name: string): boolean {
    return this.get(name) !== undefined
  }

  set(name: string, value: T): void {
    if (name === '') this.#unnamed = value
    else this.#named.set(name, value)
  }

  delete(name: string): void {
    if (name === '') this.#unnamed = undefined
    else if (this.#named.size > 0) this.#named.delete(name)
  }

  clear(): void {
    this.#unnamed = undefined
    if (this.#named.size > 0) this.#named.clear()
  }

  /** The names there are now. */
  keys(): readonly string[] {
    return [...(this.#unnamed === undefined ? [] : ['']), ...this.#named.keys()]
  }
}
