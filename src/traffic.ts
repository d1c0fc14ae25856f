import type { Call } from './core/call.ts'
import type { Chunk } from './core/chunk.ts'
import type { Decision, Effect } from './core/decision.ts'
import { SallyportError } from './core/errors.ts'
import { endingOf } from './gateway/gateway.ts'
import type { Metrics } from './telemetry/metrics.ts'

/** The calls that run now: counted for the metrics, and so that an end can wait for theirs. */
export interface Traffic {
  readonly isOpen: () => boolean
  /** Notes what was decided of a call. */
  decided(call: Call, decision: Decision, seconds: number): void
  /** Passes a call's chunks on and notes how it ended. */
  count(call: Call, chunks: AsyncIterable<Chunk>): AsyncGenerator<Chunk, void, undefined>
  /** Refuses new calls and waits until none runs, at most `ms`. */
  drain(ms: number): Promise<void>
}

/** Builds the traffic of one gateway. */
export function createTraffic(metrics: Metrics): Traffic {
  const effects = new WeakMap<Call, Effect>()
  let running = 0
  let whenQuiet: (() => void) | undefined
  let open = true

  return {
    isOpen: () => open,

    decided(call, { effect }, seconds) {
      effects.set(call, effect)
      metrics.decided({ effect, seconds })
    },

    async *count(call, chunks) {
      if (!open) throw shuttingDown()
      running++
      const note = stopwatch(call, metrics)
      try {
        for await (const chunk of chunks) {
          note.chunk(chunk)
          yield chunk
        }
        note.done()
      } catch (error) {
        note.failed(SallyportError.from(error))
        throw error
      } finally {
        note.end(effects.get(call))
        running--
        if (running === 0) whenQuiet?.()
      }
    },

    async drain(ms) {
      open = false
      if (running === 0) return
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

function stopwatch(call: Call, metrics: Metrics) {
  const startedAt = performance.now()
  let facts: Omit<Parameters<Metrics['called']>[0], 'tool' | 'target' | 'seconds'> = { ending: 'abandoned' }
  return {
    chunk(chunk: Chunk) {
      if (chunk.kind === 'exit' && chunk.masked !== undefined) facts = { ...facts, masked: chunk.masked }
    },
    done() {
      facts = { ...facts, ending: 'done' }
    },
    failed(error: SallyportError) {
      if (isRecordingFailure(error) || isRecordingFailure(error.cause)) metrics.recordingFailed()
      facts = { ...facts, ending: endingOf(error), code: error.code }
    },
    end(effect: Effect | undefined) {
      metrics.called({
        tool: call.tool,
        target: call.target.name,
        seconds: (performance.now() - startedAt) / 1000,
        ...facts,
        ...(effect !== undefined && { effect }),
      })
    },
  }
}

function isRecordingFailure(error: unknown): boolean {
  return error instanceof SallyportError && error.code === 'ERR_RECORDING_FAILED'
}
