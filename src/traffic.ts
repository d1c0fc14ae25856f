import type { Call } from './core/call.ts'
import type { Chunk } from './core/chunk.ts'
import type { Decision, Effect } from './core/decision.ts'
import { SallyportError } from './core/errors.ts'
import { Roster, type Member } from './core/roster.ts'
import { endingOf } from './gateway/gateway.ts'
import type { Metrics } from './telemetry/metrics.ts'

/** The calls that run now: counted for the metrics, and so that an end can wait for theirs. */
export interface Traffic {
  readonly isOpen: () => boolean
  /** Notes what was decided of a call. */
  decided(call: Call, decision: Decision, seconds: number): void
  /** Passes a call's chunks on and notes how it ended. */
  count(call: Call, chunks: AsyncGenerator<Chunk, void, undefined>): AsyncGenerator<Chunk, void, undefined>
  /** Refuses new calls and waits until none runs, at most `ms`. */
  drain(ms: number): Promise<void>
}

/** Builds the traffic of one gateway. */
export function createTraffic(metrics: Metrics): Traffic {
  const running = new Roster<Note>()
  let whenQuiet: (() => void) | undefined
  let open = true

  return {
    isOpen: () => open,

    decided(call, { effect }, seconds) {
      const note = running.find((one) => one.call === call)
      if (note !== undefined) note.effect = effect
      metrics.decided({ effect, seconds })
    },

    count(call, chunks) {
      return new Counted(call, chunks, {
        begin(note) {
          if (!open) throw shuttingDown()
          running.add(note)
        },
        end(note) {
          const { effect } = note
          metrics.called({
            tool: call.tool,
            target: call.target.name,
            seconds: (performance.now() - note.startedAt) / 1000,
            ...note.facts,
            ...(effect !== undefined && { effect }),
          })
          running.remove(note)
          if (running.size === 0) whenQuiet?.()
        },
        failed(error) {
          if (isRecordingFailure(error) || isRecordingFailure(error.cause)) metrics.recordingFailed()
        },
      })
    },

    async drain(ms) {
      open = false
      if (running.size === 0) return
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms)
        whenQuiet = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    },
  }
}

/** What a caller is told while the gateway ends. */
export function shuttingDown(): SallyportError {
  return new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down; try again soon.')
}

/** What is known of a call that runs. */
interface Note extends Member {
  readonly call: Call
  readonly startedAt: number
  effect: Effect | undefined
  facts: Omit<Parameters<Metrics['called']>[0], 'tool' | 'target' | 'seconds'>
}

/** Told of the beginning and the end of a call, once each. */
interface Counter {
  /** @throws when nothing new is taken. */
  begin(note: Note): void
  failed(error: SallyportError): void
  end(note: Note): void
}

/** A call's chunks, counted as they pass. Not a generator: one more of those costs each chunk as much as reading it. */
class Counted implements AsyncGenerator<Chunk, void, undefined> {
  readonly #call: Call
  readonly #chunks: AsyncGenerator<Chunk, void, undefined>
  readonly #counter: Counter
  #note: Note | undefined
  #isOver = false

  constructor(call: Call, chunks: AsyncGenerator<Chunk, void, undefined>, counter: Counter) {
    this.#call = call
    this.#chunks = chunks
    this.#counter = counter
  }

  /** No async function: one step fewer to wait for with each chunk. */
  next(): Promise<IteratorResult<Chunk, void>> {
    if (this.#isOver) return Promise.resolve({ done: true, value: undefined })
    try {
      this.#begun()
    } catch (error) {
      return Promise.reject(SallyportError.from(error))
    }
    return this.#chunks.next().then(this.#came, this.#failed)
  }

  readonly #came = (next: IteratorResult<Chunk, void>): IteratorResult<Chunk, void> => {
    const note = this.#begun()
    if (next.done === true) this.#end(note, { ending: 'done' })
    else if (next.value.kind === 'exit' && next.value.masked !== undefined) {
      note.facts = { ...note.facts, masked: next.value.masked }
    }
    return next
  }

  readonly #failed = (cause: unknown): never => {
    const error = SallyportError.from(cause)
    if (!this.#isOver) this.#counter.failed(error)
    this.#end(this.#begun(), { ending: endingOf(error), code: error.code })
    throw cause
  }

  async return(): Promise<IteratorResult<Chunk, void>> {
    try {
      return await this.#chunks.return()
    } finally {
      // What never began is not counted.
      if (this.#note === undefined) this.#isOver = true
      else this.#end(this.#note)
    }
  }

  async throw(cause: unknown): Promise<IteratorResult<Chunk, void>> {
    await this.return()
    throw cause
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #begun(): Note {
    if (this.#note !== undefined) return this.#note
    const note: Note = {
      call: this.#call,
      place: -1,
      startedAt: performance.now(),
      effect: undefined,
      facts: { ending: 'abandoned' },
    }
    this.#counter.begin(note)
    this.#note = note
    return note
  }

  #end(note: Note, facts?: Pick<Note['facts'], 'ending' | 'code'>): void {
    if (this.#isOver) return
    this.#isOver = true
    if (facts !== undefined) note.facts = { ...note.facts, ...facts }
    this.#counter.end(note)
  }
}

function isRecordingFailure(error: unknown): boolean {
  return error instanceof SallyportError && error.code === 'ERR_RECORDING_FAILED'
}
