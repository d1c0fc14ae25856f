/**
 * Returns a clock that only goes forward, fed by one that may jump back.
 *
 * Set back, a clock would make every event look recent for too long or, corrected later, old too soon. Here a step back
 * counts as no time at all, and time goes on from there.
 */
export function forwardClock(now: () => number): () => number {
  let last = now()
  let elapsed = 0
  return () => {
    const current = now()
    // A clock that returns no number stands still: windows stay as they are.
    if (current > last) elapsed += current - last
    if (Number.isFinite(current)) last = current
    return elapsed
  }
}
