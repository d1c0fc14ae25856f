/** What a channel for files owes whoever has it and everybody else: order, limits, and an end of all it began. */
import { EventEmitter, once } from 'node:events'
import type { Socket } from 'node:net'
import type { SFTPWrapper } from 'ssh2'
import { describe, expect, it } from 'vitest'
import type { Call, Session } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { Target } from '../../src/core/target.ts'
import { serveSftp } from '../../src/protocols/ssh/listener-sftp.ts'
import type { SftpPayload } from '../../src/protocols/ssh/payload.ts'
import { STATUS } from '../../src/protocols/ssh/sftp-channel.ts'

const EXIT: Chunk = { kind: 'exit', status: 'OK', truncated: false }

/** What the library tells the door, and what the door has it answer. */
class Channel extends EventEmitter {
  /** Answers the library could not send yet. */
  readonly _buffer: unknown[] = []
  /** Its client already said that it wants no more. */
  readonly outgoing = { id: 0, state: 'closed' }
  readonly answers: (readonly [id: number, ...answer: unknown[]])[] = []
  isEnded = false

  status(id: number, code: number, message = ''): void {
    this.#say(id, code, message)
  }
  data(id: number, bytes: Buffer): void {
    this.#say(id, bytes.toString())
  }
  handle(id: number, handle: Buffer): void {
    this.#say(id, handle)
  }
  name(id: number, names: readonly { readonly filename: string }[]): void {
    this.#say(id, ...names.map(({ filename }) => filename))
  }
  attrs(id: number): void {
    this.#say(id, 'attributes')
  }
  end(): void {
    this.isEnded = true
    this.emit('ended')
  }
  /** Resolves with the answer to a request. */
  async answer(id: number): Promise<readonly unknown[]> {
    for (;;) {
      const found = this.answers.find(([each]) => each === id)
      if (found !== undefined) return found.slice(1)
      await once(this, 'answered')
    }
  }
  #say(id: number, ...answer: unknown[]): void {
    this.answers.push([id, ...answer])
    this.emit('answered')
  }
}

/** How full the connection is. */
class Line extends EventEmitter {
  writableLength = 0
  destroyed = false
  cork(): void {}
  uncork(): void {}
}

type Run = (call: Call, payload: SftpPayload) => AsyncIterable<Chunk>

function serve(run: Run): { readonly sftp: Channel; readonly line: Line; readonly calls: Call[] } {
  const sftp = new Channel()
  const line = new Line()
  const calls: Call[] = []
  const session = Promise.resolve({ session: {} as Session, close: async () => undefined })
  serveSftp(sftp as unknown as SFTPWrapper, line as unknown as Socket, session, { name: 'box' } as Target, {
    holdMs: 0,
    run(call) {
      calls.push(call)
      return run(call, call.payload as SftpPayload)
    },
  })
  return { sftp, line, calls }
}

/** A target that says nothing until the call is stopped. */
async function* silent(call: Call): AsyncGenerator<Chunk> {
  await new Promise((_resolve, reject) => {
    const stop = (): void => reject(call.signal.reason as Error)
    if (call.signal.aborted) stop()
    else call.signal.addEventListener('abort', stop, { once: true })
  })
  yield EXIT
}

async function* file(...pieces: readonly string[]): AsyncGenerator<Chunk> {
  yield { kind: 'head' }
  for (const piece of pieces) yield { kind: 'data', channel: 'body', bytes: Buffer.from(piece) }
  yield EXIT
}

/** Lets everything happen that waits for nothing but its turn. */
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate)
}

describe('a channel for files', () => {
  it.each(['end', 'close', 'error'])('stops what the target has not answered on its %s', async (event) => {
    const { sftp, calls } = serve(silent)
    sftp.emit('STAT', 1, '/x')
    await expect.poll(() => calls.length).toBe(1)
    sftp.emit(event)
    expect([calls[0]?.signal.aborted, sftp.isEnded]).toEqual([true, true])
    await settle()
    expect(sftp.answers).toEqual([])
  })

  it('ends the call of a file nobody reads on, also where nothing asks it for more', async () => {
    let isOver = false
    const { sftp } = serve(async function* () {
      try {
        yield* file('some', 'more', 'and more')
      } finally {
        isOver = true
      }
    })
    sftp.emit('OPEN', 1, '/x', 1, {})
    await sftp.answer(1)
    expect(isOver).toBe(false)
    sftp.emit('end')
    await expect.poll(() => isOver).toBe(true)
  })

  it('leaves a file that was opened for a client that is gone', async () => {
    let open: () => void = () => undefined
    const opened = new Promise<void>((resolve) => (open = resolve))
    let isOver = false
    const { sftp, calls } = serve(async function* () {
      try {
        await opened
        yield* file('some', 'more')
      } finally {
        isOver = true
      }
    })
    sftp.emit('OPEN', 1, '/x', 1, {})
    await expect.poll(() => calls.length).toBe(1)
    sftp.emit('end')
    open()
    await expect.poll(() => isOver).toBe(true)
    expect(sftp.answers).toEqual([])
  })

  it('reads for a client when it took what was read before, one answer after the other', async () => {
    const { sftp, line } = serve((_call, { path }) => file(path, path))
    for (const id of [1, 2]) sftp.emit('OPEN', id, `/${id}`, 1, {})
    const handles = [await sftp.answer(1), await sftp.answer(2)].map(([handle]) => handle)
    const full = 64 * 1024 * 1024
    line.writableLength = full
    const data = sftp.data.bind(sftp)
    sftp.data = (id, bytes) => {
      data(id, bytes)
      line.writableLength = full
    }
    sftp.emit('READ', 3, handles[0], 0, 2)
    sftp.emit('READ', 4, handles[1], 0, 2)
    const drain = async (): Promise<unknown> => {
      line.writableLength = 0
      line.emit('drain')
      await settle()
      return sftp.answers.slice(2).map(([id, answer]) => [id, answer])
    }
    await settle()
    expect(sftp.answers).toHaveLength(2)
    expect(await drain()).toEqual([[3, '/1']])
    expect(await drain()).toEqual([
      [3, '/1'],
      [4, '/2'],
    ])
  })

  it('has 1,024 requests unanswered, and no client that asks one more', async () => {
    const { sftp } = serve(silent)
    for (let id = 0; id < 1024; id++) sftp.emit('STAT', id, '/x')
    await settle()
    expect(sftp.isEnded).toBe(false)
    sftp.emit('STAT', 1024, '/x')
    expect(sftp.isEnded).toBe(true)
  })

  it('has 1,024 answers unread, and no client that asks for one more', () => {
    const { sftp, calls } = serve(silent)
    sftp._buffer.push(...Array.from({ length: 1025 }, () => undefined))
    sftp.emit('STAT', 1, '/x')
    expect([sftp.isEnded, calls]).toEqual([true, []])
  })

  it('opens nothing with a flag it does not know', async () => {
    const { sftp, calls } = serve(silent)
    for (const [id, flags] of [0x41, 0x03, 0, 0x42].entries()) {
      sftp.emit('OPEN', id, '/x', flags, {})
      expect((await sftp.answer(id))[0]).toBe(STATUS.OP_UNSUPPORTED)
    }
    expect(calls).toEqual([])
  })

  it('judges both paths of a renaming without what changes nothing, and keeps what climbs', async () => {
    const { sftp, calls } = serve(async function* () {
      yield EXIT
    })
    sftp.emit('RENAME', 1, 'a//./b', './c//d/../e')
    expect(await sftp.answer(1)).toEqual([STATUS.OK, ''])
    expect(calls[0]?.payload).toMatchObject({ operation: 'rename', path: '/a/b', to: '/c/d/../e' })
  })

  it('says that a listing was cut behind its last entry, and not that it is all', async () => {
    const { sftp } = serve(async function* () {
      yield { kind: 'data', channel: 'rows', rows: [['one', 'one', null, null, null, null, null, null]] }
      yield { kind: 'exit', status: 'OK', truncated: true, truncatedBy: 'rows' }
    })
    sftp.emit('OPENDIR', 1, '/x')
    const [handle] = await sftp.answer(1)
    sftp.emit('READDIR', 2, handle)
    expect(await sftp.answer(2)).toEqual(['one'])
    sftp.emit('READDIR', 3, handle)
    expect(await sftp.answer(3)).toEqual([STATUS.FAILURE, expect.stringContaining('cut at the limit')])
  })

  it('answers nothing when what it asked fails after its client went', async () => {
    const { sftp, calls } = serve(silent)
    sftp.emit('REMOVE', 1, '/x')
    await expect.poll(() => calls.length).toBe(1)
    sftp.emit('end')
    await settle()
    expect(sftp.answers).toEqual([])
  })

  it('says the end of a file where it ends, and not an empty piece', async () => {
    const { sftp } = serve(() => file('ab'))
    sftp.emit('OPEN', 1, '/x', 1, {})
    const [handle] = await sftp.answer(1)
    sftp.emit('READ', 2, handle, 0, 10)
    expect(await sftp.answer(2)).toEqual(['ab'])
    sftp.emit('READ', 3, handle, 2, 10)
    expect(await sftp.answer(3)).toEqual([STATUS.EOF, ''])
  })

  it('passes on what the target refuses, by its number, and never an OK in its place', async () => {
    let status = 'NO_SUCH_FILE'
    const { sftp } = serve(async function* () {
      yield { kind: 'exit', status, truncated: false }
    })
    sftp.emit('REMOVE', 1, '/x')
    expect(await sftp.answer(1)).toEqual([STATUS.NO_SUCH_FILE, ''])
    sftp.emit('OPEN', 2, '/x', 1, {})
    expect(await sftp.answer(2)).toEqual([STATUS.NO_SUCH_FILE, ''])
    status = 'WHO_KNOWS'
    sftp.emit('REMOVE', 3, '/x')
    expect(await sftp.answer(3)).toEqual([STATUS.FAILURE, ''])
  })

  it('knows its own handles only, each for what it is', async () => {
    const { sftp, calls } = serve(() => file('ab'))
    const stranger = Buffer.from('7')
    for (const [id, name, ...more] of [
      [1, 'READDIR'],
      [2, 'CLOSE'],
      [3, 'FSTAT'],
      [4, 'FSETSTAT', {}],
      [5, 'READ', 0, 1],
      [6, 'WRITE', 0, Buffer.from('x')],
    ] as const) {
      sftp.emit(name, id, stranger, ...more)
      expect([name, ...(await sftp.answer(id))]).toEqual([
        name,
        STATUS.FAILURE,
        expect.stringMatching(/is no|not open/u),
      ])
    }
    expect(calls).toEqual([])
    sftp.emit('OPEN', 7, '/x', 1, {})
    const [handle] = await sftp.answer(7)
    sftp.emit('READDIR', 8, handle)
    expect(await sftp.answer(8)).toEqual([STATUS.FAILURE, expect.stringContaining('no open directory')])
  })

  it('ends the call of a file it has no room for', async () => {
    let open = 0
    const { sftp } = serve(async function* () {
      open++
      try {
        yield* file('some', 'more')
      } finally {
        open--
      }
    })
    for (let id = 0; id < 65; id++) {
      sftp.emit('OPEN', id, '/x', 1, {})
      await sftp.answer(id)
    }
    expect(sftp.answers.at(-1)).toEqual([64, STATUS.FAILURE, expect.stringContaining('64 files open')])
    await expect.poll(() => open).toBe(64)
  })
})
