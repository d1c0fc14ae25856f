/** A file that a client writes, before anything takes what it writes. */
import { describe, expect, it } from 'vitest'
import { WriteFile } from '../../src/protocols/ssh/listener-files.ts'

const PIECE = 256 * 1024

describe('a file a client writes', () => {
  it('keeps 8 MiB for a target that takes nothing, and refuses what is more', async () => {
    const file = new WriteFile(
      '/x',
      async function* () {
        yield { kind: 'head' }
        await new Promise(() => undefined)
      },
      () => undefined,
    )
    await file.opened()
    for (let count = 0; count < 32; count++) void file.write(count * PIECE, Buffer.alloc(PIECE))
    await expect(file.write(32 * PIECE, Buffer.alloc(1))).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' })
  })

  it('tells whoever wrote what of it failed when the target refuses in the middle', async () => {
    const file = new WriteFile(
      '/x',
      async function* ({ input }) {
        yield { kind: 'head' }
        for await (const bytes of input ?? []) if (bytes.length > 0) break
        yield { kind: 'exit', status: 'PERMISSION_DENIED', truncated: false }
      },
      () => undefined,
    )
    await file.opened()
    await expect(file.write(0, Buffer.alloc(10))).rejects.toMatchObject({ status: 'PERMISSION_DENIED' })
    await expect(file.close()).rejects.toMatchObject({ status: 'PERMISSION_DENIED' })
  })
})
