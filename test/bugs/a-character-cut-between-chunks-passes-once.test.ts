/** A chunk that nothing is replaced in goes on as it came; but not when a character is cut at one of its ends. */
import { describe, expect, it } from 'vitest'
import { bytes, exit, joined, lookingForAll, masked } from '../masking/support.ts'

describe('text that is searched', () => {
  it.each([
    ['in the first byte of all', [[0xc3], [0xa9, 0x0a]]],
    [
      'behind a whole line',
      [
        [0x61, 0x0a, 0xc3],
        [0xa9, 0x0a],
      ],
    ],
    ['twice', [[0x0a, 0xe6], [0xbc], [0xa2, 0x0a, 0xe6], [0xbc, 0xa2, 0x0a]]],
    ['and never finished', [[0x0a, 0xe6, 0xbc]]],
  ])('keeps every byte once where a character is cut %s', async (_where, pieces) => {
    const chunks = await masked(
      [...pieces.map((piece) => bytes('stdout', Uint8Array.from(piece))), exit],
      lookingForAll(),
    )
    expect([...joined(chunks, 'stdout')]).toEqual(pieces.flat())
  })
})
