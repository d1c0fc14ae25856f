/**
 * Counts events of the last `windowMs`, exactly while they are few and from above when they are many.
 *
 * A sliding log: in no stretch of `windowMs`, wherever it begins, are more than the admitted number of events, which a
 * bucket that refills or a counter per minute does not promise. Memory is bounded: past {@link MARKS_MAX} points in
 * time neighbours are merged and kept until the later of them is old, so an event may count too long, never too short.
 */
export class SlidingWindow {
  readonly windowMs: number
  #marks: Mark[] = []
  #total = 0

  constructor(windowMs: number) {
    this.windowMs = windowMs
  }

  /** How many events count at `now`. */
  count(now: number): number {
    this.#expire(now)
    return this.#total
  }

  /** Adds one event and returns how to take it back. */
  add(now: number): () => void {
    this.#expire(now)
    let mark = this.#marks.at(-1)
    if (mark === undefined || mark.at !== now) {
      if (this.#marks.length >= MARKS_MAX) this.#merge()
      mark = { at: now, count: 0, into: undefined }
      this.#marks.push(mark)
    }
    mark.count++
    this.#total++
    const own = mark
    let isBack = false
    return () => {
      if (isBack) return
      isBack = true
      this.#takeBack(own)
    }
  }

  /** How long until fewer than `max` events count, or `undefined` when waiting does not help. */
  waitMs(now: number, max: number): number | undefined {
    this.#expire(now)
    if (max < 1) return undefined
    let left = this.#total
    if (left < max) return 0
    for (const { at, count } of this.#marks) {
      left -= count
      if (left < max) return Math.max(0, at + this.windowMs - now)
    }
    return undefined
  }

  #takeBack(own: Mark): void {
    let mark = own
    while (mark.into !== undefined) mark = mark.into
    // What has expired was subtracted then.
    if (mark.count === 0) return
    mark.count--
    this.#total--
  }

  #expire(now: number): void {
    let old = 0
    for (const mark of this.#marks) {
      if (mark.at > now - this.windowMs) break
      this.#total -= mark.count
      mark.count = 0
      old++
    }
    if (old > 0) this.#marks.splice(0, old)
  }

  #merge(): void {
    const kept: Mark[] = []
    for (let index = 0; index < this.#marks.length; index += 2) {
      const earlier = this.#marks[index]
      const later = this.#marks[index + 1]
      if (earlier === undefined) break
      if (later !== undefined) {
        later.count += earlier.count
        earlier.into = later
      }
      kept.push(later ?? earlier)
    }
    this.#marks = kept
  }
}

/** Points in time one window keeps. */
export const MARKS_MAX = 256

interface Mark {
  readonly at: number
  count: number
  /** The later mark this one was merged into. */
  into: Mark | undefined
}
