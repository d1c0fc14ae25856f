import type { Call } from './core/call.ts'
import type { Chunk } from './core/chunk.ts'
import type { Effect } from './core/decision.ts'
import { SallyportError, type ErrorCode } from './core/errors.ts'
import { endingOf } from './gateway/gateway.ts'
import type { Permits } from './gateway/permits.ts'
import type { Metrics } from './telemetry/metrics.ts'

/** The calls that run now: counted for the metrics, and so that an end can wait for theirs. */
export interface Traffic {
  readonly isOpen: () => boolean
  /** Passes a call's chunks on and notes how it ended. */
  count(call: Call, chunks: AsyncIterable<Chunk>): AsyncGenerator<Chunk, void, undefined>
  /** Refuses new calls and waits until none runs, at most `ms`. */
  drain(ms: number): Promise<void>
}

/** Builds the traffic of one gateway. */
export function createTraffic(rooms: {
  readonly metrics: Metrics
  readonly rooms: { readonly permits: Permits }
}): Traffic {
  const { metrics } = rooms
  const { permits } = rooms.rooms
  let running = 0
  let whenQuiet: (() => void) | undefined
  let open = true

  return {
    isOpen: () => open,

    async *count(call, chunks) {
      if (!open) throw shuttingDown()
      running++
      const note = stopwatch(call, metrics)
      try {
        let effect: Effect | undefined
        for await (const chunk of chunks) {
          effect ??= permits.live().find((entry) => entry.call === call)?.judged.decision.effect
          note.chunk(chunk, effect)
          yield chunk
        }
        note.done()
      } catch (error) {
        note.failed(SallyportError.from(error))
        throw error
      } finally {
        note.end()
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
    chunk(chunk: Chunk, effect: Effect | undefined) {
      facts = {
        ...facts,
        ...(effect !== undefined && { effect }),
        ...(chunk.kind === 'exit' && chunk.masked !== undefined && { masked: chunk.masked }),
      }
    },
    done() {
      facts = { ...facts, ending: 'done' }
    },
    failed(error: SallyportError) {
      if (error.code === 'ERR_RECORDING_FAILED') metrics.recordingFailed()
      const effect = effectBehind(error.code)
      facts = { ...facts, ending: endingOf(error), code: error.code, ...(effect !== undefined && { effect }) }
    },
    end() {
      metrics.called({
        tool: call.tool,
        target: call.target.name,
        seconds: (performance.now() - startedAt) / 1000,
        ...facts,
      })
    },
  }
}

/** The effect of the decision that an error follows from, where the code says it. */
function effectBehind(code: ErrorCode): Effect | undefined {
  if (code === 'ERR_DENIED') return 'deny'
  return code.startsWith('ERR_APPROVAL_') ? 'require_approval' : undefined
}
