/** A file that a client has open at the door: what it reads is the result of a call, what it writes the input. */
import { describe, expect, it } from 'vitest'
import type { Call } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { placeOf } from '../../src/protocols/ssh/connector-sftp.ts'
import { ReadFile, WriteFile } from '../../src/protocols/ssh/listener-files.ts'

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
    await expect(file.write(10, Buffer.alloc(1))).rejects.toMatchObject({ status: 'PERMISSION_DENIED' })
  })

  it('is not open where the target refuses it', async () => {
    const file = new WriteFile(
      '/x',
      async function* () {
        yield { kind: 'exit', status: 'NO_SUCH_FILE', truncated: false }
      },
      () => undefined,
    )
    await expect(file.opened()).rejects.toMatchObject({ status: 'NO_SUCH_FILE' })
  })

  it('takes nothing behind its end', async () => {
    const taken: string[] = []
    const file = new WriteFile(
      '/x',
      (more) => taking(more, taken),
      () => undefined,
    )
    await file.opened()
    await file.write(0, Buffer.from('all'))
    await file.close()
    await expect(file.write(3, Buffer.from('more'))).rejects.toMatchObject({ status: 'FAILURE' })
    expect(taken).toEqual(['all', 'end'])
  })

  it('does not end well where its client went away', async () => {
    const taken: string[] = []
    const file = new WriteFile(
      '/x',
      (more) => taking(more, taken),
      () => undefined,
    )
    await file.opened()
    await file.write(0, Buffer.from('some'))
    file.leave()
    await expect(file.close()).rejects.toMatchObject({ code: 'ERR_CANCELLED' })
    expect(taken).toEqual(['some'])
  })
})

/** A target that writes what it gets, and says when that ends. */
async function* taking({ input = [] as never }: Partial<Call>, taken: string[]): AsyncGenerator<Chunk> {
  yield { kind: 'head' }
  for await (const bytes of input) {
    taken.push(Buffer.from(bytes).toString())
    placeOf(bytes)?.written()
  }
  taken.push('end')
  yield { kind: 'exit', status: 'OK', truncated: false }
}

describe('a file a client reads', () => {
  const body = (text: string | Buffer): Chunk => ({ kind: 'data', channel: 'body', bytes: Buffer.from(text) })
  const exit = (more: object = {}): Chunk => ({ kind: 'exit', status: 'OK', truncated: false, ...more })

  /** What the call came to, as its record says. */
  interface Told {
    stopped?: ReturnType<NonNullable<Call['stopped']>> | undefined
  }

  function opened(chunks: readonly Chunk[], told: Told = {}): ReadFile {
    return new ReadFile('/x', async function* ({ stopped }) {
      try {
        yield { kind: 'head' }
        for (const chunk of chunks) {
          await new Promise(setImmediate)
          yield chunk
        }
      } finally {
        told.stopped = stopped?.()
      }
    })
  }
  const text = async (reading: Promise<Buffer | undefined>): Promise<string | undefined> => (await reading)?.toString()

  it('is not open where the target refuses it, or says nothing of it', async () => {
    const refused = new ReadFile('/x', async function* () {
      yield exit({ status: 'PERMISSION_DENIED' })
    })
    await expect(refused.opened()).rejects.toMatchObject({ status: 'PERMISSION_DENIED' })
    const mute = new ReadFile('/x', async function* () {})
    await expect(mute.opened()).rejects.toMatchObject({ status: 'FAILURE' })
  })

  it('is read from front to back, in pieces of any length, and what is left out is skipped', async () => {
    const file = opened([body('abc'), body('defgh'), exit()])
    expect(await text(file.read(0, 2))).toBe('ab')
    expect(await text(file.read(3, 4))).toBe('defg')
    await expect(file.read(0, 2)).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
    expect(await text(file.read(7, 100))).toBe('h')
    expect(await text(file.read(8, 1))).toBeUndefined()
  })

  it('answers readers that ask at once as if they asked one after the other', async () => {
    const file = opened([body('ab'), body('cd'), body('ef'), exit()])
    await file.opened()
    const answers = await Promise.all([text(file.read(0, 3)), text(file.read(3, 2)), text(file.read(5, 9))])
    expect(answers).toEqual(['abc', 'de', 'f'])
  })

  it('does not look like a shorter one when it was cut, or when the target failed in its middle', async () => {
    const cut = opened([body('abc'), exit({ truncated: true, truncatedBy: 'bytes' })])
    expect(await text(cut.read(0, 10))).toBe('abc')
    await expect(cut.read(3, 10)).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' })
    const broken = opened([body('abc'), exit({ status: 'FAILURE' })])
    expect(await text(broken.read(0, 10))).toBe('abc')
    await expect(broken.read(3, 10)).rejects.toMatchObject({ status: 'FAILURE' })
  })

  it('gives 256 KiB at once to whoever asks for more', async () => {
    const file = opened([body(Buffer.alloc(600 * 1024)), exit()])
    expect(await file.read(0, 0xffff_ffff)).toHaveLength(256 * 1024)
  })

  it('is done for its record when its client closed it, and abandoned when its client went away', async () => {
    const closed: Told = {}
    const file = opened([body('abc'), body('def'), exit()], closed)
    await file.opened()
    await file.close()
    expect(closed.stopped).toBe('done')
    const left: Told = {}
    const other = opened([body('abc'), body('def'), exit()], left)
    await other.opened()
    other.leave()
    await expect.poll(() => left.stopped).toBe('abandoned')
  })
})
