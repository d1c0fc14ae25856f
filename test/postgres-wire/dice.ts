/** Numbers that look random and come again for the same seed (xorshift, 32 bits). */
export interface Dice {
  /** A whole number from 0 up to, and not including, `max`. */
  below(max: number): number
}

/** Words of the protocol, so that not everything fails at the first byte. */
export const SALT_WORDS: readonly string[] = [
  '',
  'select 1',
  'S',
  'P',
  'user',
  'database',
  'portal',
  'é',
  "'\\''",
  'C42501',
]

export function diceOf(seed: number): Dice {
  let state = seed | 1
  return {
    below(max) {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      return (state >>> 0) % max
    },
  }
}
