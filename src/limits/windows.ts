import { SlidingWindow } from './window.ts'

/** Windows one principal can hold at once. A caller picks how many sessions it opens, so it could grow them for ever. */
export const WINDOWS_PER_OWNER_MAX = 1_000
/** Windows all principals can hold at once. */
export const WINDOWS_MAX = 50_000

/** The windows of one gateway, by key. Idle ones are forgotten; the number is bounded per owner and in all. */
export class Windows {
  readonly #windows = new Map<string, Entry>()
  readonly #owned = new Map<string, Set<string>>()
  #sweptAt = Number.NEGATIVE_INFINITY

  /**
   * Returns the window of a key, made when it is new, or `undefined` when no more can be kept: who asks must then
   * refuse, because what is not counted is not limited.
   */
  get(key: string, owner: string, windowMs: number, now: number): SlidingWindow | undefined {
    const known = this.#windows.get(key)
    if (known !== undefined) {
      known.askedAt = now
      return known.window
    }
    const owned = this.#owned.get(owner)
    if (owned !== undefined && owned.size >= WINDOWS_PER_OWNER_MAX) {
      this.#forgetIdle(owned, now)
      if (owned.size >= WINDOWS_PER_OWNER_MAX) return undefined
    }
    if (this.#windows.size >= WINDOWS_MAX) {
      // Walking all of them costs; refusing meanwhile is safe.
      if (now - this.#sweptAt < 1_000) return undefined
      this.#sweptAt = now
      this.#forgetIdle(this.#windows.keys(), now)
      if (this.#windows.size >= WINDOWS_MAX) return undefined
    }
    const window = new SlidingWindow(windowMs)
    this.#windows.set(key, { owner, window, askedAt: now })
    const keys = this.#owned.get(owner) ?? new Set()
    this.#owned.set(owner, keys.add(key))
    return window
  }

  /** How many windows are kept. */
  get size(): number {
    return this.#windows.size
  }

  #forgetIdle(keys: Iterable<string>, now: number): void {
    for (const key of keys) {
      const entry = this.#windows.get(key)
      // What was asked for at this moment is about to count its first event.
      if (entry === undefined || entry.askedAt === now || entry.window.count(now) > 0) continue
      this.#windows.delete(key)
      const owned = this.#owned.get(entry.owner)
      owned?.delete(key)
      if (owned?.size === 0) this.#owned.delete(entry.owner)
    }
  }
}

interface Entry {
  readonly owner: string
  readonly window: SlidingWindow
  askedAt: number
}
