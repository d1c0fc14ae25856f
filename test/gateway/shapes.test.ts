/**
 * Three shapes the listeners to come will drive through the spine, against scripted upstreams: a portal that is
 * executed in pieces, a COPY that is fed while it runs, a shell that talks both ways. They are the contract between
 * `govern()` and every listener.
 */
import { describe, expect, it } from 'vitest'
import type { Call } from '../../src/core/call.ts'
import type { Cell, Chunk, RowsChunk } from '../../src/core/chunk.ts'
import { codeOf, collect, kit, rows, type Kit } from './kit.ts'

/**
 * An extended-protocol portal as a listener keeps it: the generator of the one call stays suspended between Executes,
 * and at most one chunk's rows wait here for the next.
 */
class Portal {
  #left: (readonly Cell[])[] = []
  #ended = false
  #stopped: 'done' | 'abandoned' = 'abandoned'
  readonly #source: AsyncGenerator<Chunk, void, undefined>

  constructor(kit: Kit, more: Partial<Call> = {}) {
    this.#source = kit.run(kit.call({ verb: 'ssh.fetch' }, { ...more, stopped: () => this.#stopped }))
  }

  /** Execute (PostgreSQL manual, "Message Formats"): at most `rowsMax` rows; 0 means no limit. */
  async execute(rowsMax: number): Promise<{ rows: readonly (readonly Cell[])[]; suspended: boolean }> {
    const wanted = rowsMax === 0 ? Number.POSITIVE_INFINITY : rowsMax
    while (!this.#ended && this.#left.length < wanted) {
      const next = await this.#source.next()
      if (next.done === true) this.#ended = true
      else if (next.value.kind === 'data' && next.value.channel === 'rows') this.#left.push(...next.value.rows)
    }
    const shown = rowsMax === 0 ? this.#left.splice(0) : this.#left.splice(0, rowsMax)
    return { rows: shown, suspended: !this.#ended || this.#left.length > 0 }
  }

  /** Close, Sync outside a transaction, or commit: the client is done with the portal. */
  async close(): Promise<void> {
    this.#stopped = 'done'
    await this.#source.return()
  }

  /** The connection broke. */
  async drop(): Promise<void> {
    await this.#source.return()
  }
}

/** An upstream portal of `total` rows in chunks of 4, which notes how far it was read and that it was ended. */
function upstreamPortal(total: number): { read: number; ended: boolean; execute(): AsyncIterable<Chunk> } {
  return {
    read: 0,
    ended: false,
    async *execute() {
      try {
        while (this.read < total) {
          const count = Math.min(4, total - this.read)
          const chunk = rows(this.read, count)
          this.read += count
          yield chunk
        }
        yield { kind: 'exit', status: `SELECT ${total}`, rowCount: total, truncated: false }
      } finally {
        this.ended = true
      }
    },
  }
}

describe('an extended-protocol portal', () => {
  it('yields the rows of one Execute and stays suspended without reading ahead more than one chunk', async () => {
    const upstream = upstreamPortal(100)
    const portal = new Portal(kit(upstream))
    const first = await portal.execute(3)
    expect(first.rows.map(([value]) => value)).toEqual(['0', '1', '2'])
    expect(first.suspended).toBe(true)
    expect(upstream.read).toBe(4)
    await portal.close()
  })

  it('resumes the same call: one decision, no row lost or doubled', async () => {
    const world = kit(upstreamPortal(10))
    const portal = new Portal(world)
    const seen: (readonly Cell[])[] = []
    for (let suspended = true; suspended;) {
      const result = await portal.execute(3)
      seen.push(...result.rows)
      suspended = result.suspended
    }
    expect(seen.map(([value]) => value)).toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
    expect(world.recorded).toHaveLength(1)
    expect(world.recorded[0]?.judged).toHaveLength(1)
    expect(world.recorded[0]?.ending).toBe('done')
  })

  it('ends done, and ends upstream, when the client closes it half-way', async () => {
    const upstream = upstreamPortal(100)
    const world = kit(upstream)
    const portal = new Portal(world)
    await portal.execute(5)
    await portal.close()
    expect(upstream.ended).toBe(true)
    expect(world.recorded[0]?.ending).toBe('done')
    expect(world.permits.live()).toEqual([])
  })

  it('ends abandoned when the connection breaks half-way', async () => {
    const world = kit(upstreamPortal(100))
    const portal = new Portal(world)
    await portal.execute(5)
    await portal.drop()
    expect(world.recorded[0]?.ending).toBe('abandoned')
  })

  it('keeps what was shown, and only that, in the recording', async () => {
    const world = kit(upstreamPortal(100))
    const portal = new Portal(world)
    await portal.execute(5)
    await portal.close()
    const recorded = (world.recorded[0]?.shown ?? []).filter((chunk): chunk is RowsChunk => chunk.kind === 'data')
    expect(recorded.flatMap(({ rows }) => rows)).toHaveLength(8)
  })

  it('C2: is cut between two Executes when a new policy denies it', async () => {
    const upstream = upstreamPortal(100)
    upstream.execute = async function* (
      this: typeof upstream,
      _call?: Call,
      _plan?: unknown,
      permit?: { signal: AbortSignal },
    ) {
      for (;;) {
        permit?.signal.throwIfAborted()
        this.read += 4
        yield rows(this.read, 4)
      }
    } as typeof upstream.execute
    const world = kit(upstream)
    const portal = new Portal(world)
    await portal.execute(4)
    world.permits.recheck((_call, judged) => ({
      decision: { ...judged.decision, effect: 'deny', reason: 'Not any more.' },
      masks: [],
    }))
    expect(await codeOf(portal.execute(4))).toBe('ERR_POLICY_CHANGED')
    expect(world.recorded[0]?.ending).toBe('denied')
  })
})

/** An upstream that swallows COPY data as it comes and counts it. */
function upstreamCopy(): { bytes: number; execute(call: Call): AsyncIterable<Chunk> } {
  return {
    bytes: 0,
    async *execute(call) {
      for await (const piece of call.input ?? []) this.bytes += piece.length
      yield { kind: 'exit', status: 'COPY 3', rowCount: 3, truncated: false }
    },
  }
}

async function* copyData(onRead: () => void, pieces = 3): AsyncGenerator<Uint8Array> {
  for (let index = 0; index < pieces; index++) {
    onRead()
    yield new TextEncoder().encode(`${index}\tname\n`)
  }
}

describe('COPY IN', () => {
  it('feeds the input to the call while it runs', async () => {
    const upstream = upstreamCopy()
    const world = kit(upstream)
    const chunks = await collect(world.run(world.call({ verb: 'ssh.copy' }, { input: copyData(() => undefined) })))
    expect(upstream.bytes).toBe(21)
    expect(chunks).toEqual([{ kind: 'exit', status: 'COPY 3', rowCount: 3, truncated: false }])
    expect(world.recorded[0]?.ending).toBe('done')
  })

  it('reads nothing of the input of a call that is denied', async () => {
    let read = 0
    const world = kit(upstreamCopy(), { yaml: 'targets: [box]\nrules: []\n' })
    const call = world.call({ verb: 'ssh.copy' }, { input: copyData(() => read++) })
    expect(await codeOf(collect(world.run(call)))).toBe('ERR_DENIED')
    expect(read).toBe(0)
    expect(world.recorded[0]?.ending).toBe('denied')
  })

  it('fails, and says so in the recording, when the input breaks half-way', async () => {
    const world = kit(upstreamCopy())
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(4)
      throw new Error('connection reset')
    }
    expect(await codeOf(collect(world.run(world.call({ verb: 'ssh.copy' }, { input: broken() }))))).toBe('ERR_INTERNAL')
    expect(world.recorded[0]?.ending).toBe('failed')
  })
})

/** A shell that echoes each line it is sent, until it is told to exit or its permit is taken away. */
function upstreamShell(): {
  closed: boolean
  execute(call: Call, plan: unknown, permit: { signal: AbortSignal }): AsyncIterable<Chunk>
} {
  return {
    closed: false,
    async *execute(call, _plan, permit) {
      try {
        for await (const piece of call.input ?? []) {
          permit.signal.throwIfAborted()
          const line = new TextDecoder().decode(piece)
          if (line === 'exit\n') break
          yield { kind: 'data', channel: 'stdout', bytes: new TextEncoder().encode(`you said ${line}`) }
        }
        yield { kind: 'exit', status: '0', truncated: false }
      } finally {
        this.closed = true
      }
    },
  }
}

/** Keystrokes a test sends one at a time. */
function keyboard(): { type(line: string): void; close(): void; input: AsyncIterable<Uint8Array> } {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
  const writer = writable.getWriter()
  return {
    type: (line) => void writer.write(new TextEncoder().encode(line)),
    close: () => void writer.close(),
    input: readable,
  }
}

async function nextText(source: AsyncGenerator<Chunk, void, undefined>): Promise<string> {
  const { value } = await source.next()
  if (value === undefined || value.kind !== 'data' || value.channel === 'rows') throw new Error(JSON.stringify(value))
  return new TextDecoder().decode(value.bytes)
}

describe('an SSH shell channel', () => {
  it('carries both directions as one call', async () => {
    const world = kit(upstreamShell())
    const keys = keyboard()
    const shell = world.run(world.call({ verb: 'ssh.shell' }, { input: keys.input }))
    keys.type('hello\n')
    expect(await nextText(shell)).toBe('you said hello\n')
    keys.type('again\n')
    expect(await nextText(shell)).toBe('you said again\n')
    keys.type('exit\n')
    expect(await collect(shell)).toEqual([{ kind: 'exit', status: '0', truncated: false }])
    expect(world.recorded).toHaveLength(1)
    expect(world.recorded[0]?.ending).toBe('done')
  })

  it('closes the upstream channel when the caller goes away', async () => {
    const upstream = upstreamShell()
    const world = kit(upstream)
    const keys = keyboard()
    const shell = world.run(world.call({ verb: 'ssh.shell' }, { input: keys.input }))
    keys.type('hello\n')
    await nextText(shell)
    await shell.return()
    expect(upstream.closed).toBe(true)
    expect(world.recorded[0]?.ending).toBe('abandoned')
  })

  it('is killed by an operator, who is told apart from the caller', async () => {
    const world = kit(upstreamShell())
    const keys = keyboard()
    const shell = world.run(world.call({ verb: 'ssh.shell' }, { input: keys.input }))
    keys.type('hello\n')
    await nextText(shell)
    const { SallyportError } = await import('../../src/core/errors.ts')
    expect(
      world.permits.cancel(() => true, new SallyportError('ERR_CANCELLED', 'An operator ended the session.')),
    ).toBe(1)
    keys.type('more\n')
    await expect(collect(shell)).rejects.toThrow('An operator ended the session.')
    expect(world.recorded[0]?.ending).toBe('cancelled')
  })
})
