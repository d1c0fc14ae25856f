/** The longest a timer can wait (2^31 - 1 ms). */
const TIMER_MAX_MS = 2_147_483_647

/** Calls back when moments come. Whoever makes it ends it. */
export interface Alarm {
  /** Sets the one next moment, in place of the one before. */
  set(at: number | undefined): void
  end(): void
}

/** Builds an alarm over a clock; `ring` looks for itself what is due. */
export function alarm(now: () => number, ring: () => void): Alarm {
  let timer: NodeJS.Timeout | undefined
  return {
    set(at) {
      clearTimeout(timer)
      if (at === undefined) return
      timer = setTimeout(ring, Math.min(Math.max(at - now(), 0) + 1, TIMER_MAX_MS))
      timer.unref()
    },
    end: () => clearTimeout(timer),
  }
}
