/** A step of the wall clock beyond the monotonic one that counts as sleep; less is drift. */
const SLEEP_MS = 500

/**
 * Returns a clock for what must be given up in time: milliseconds that only go forward, and that go on while the machine
 * sleeps or its virtual machine is suspended, when a monotonic clock may stand still.
 *
 * It errs towards too much time: a wall clock that is set forward looks like sleep. One that is set back changes nothing.
 */
export function elapsedClock(
  monotonic: () => number = () => performance.now(),
  wall: () => number = Date.now,
): () => number {
  let apart = wall() - monotonic()
  let slept = 0
  return () => {
    const now = monotonic()
    const ahead = wall() - now - apart
    if (ahead > SLEEP_MS) slept += ahead
    if (ahead > SLEEP_MS || ahead < 0) apart += ahead
    return now + slept
  }
}
