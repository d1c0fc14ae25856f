/**
 * What the gateway counts, in the Prometheus text format.
 *
 * Labels hold names of tools, targets, effects, endings and detectors and nothing else: no principal, no value, no
 * text a caller chose. A name that nobody registered counts as `other`, so callers cannot grow the number of series.
 *
 * @packageDocumentation
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Ending } from '../core/call.ts'
import type { Effect } from '../core/decision.ts'
import type { ErrorCode } from '../core/errors.ts'

/** Counters of one gateway. No method throws: counting never fails a call. */
export interface Metrics {
  /** A call ended. `effect` is absent when it was never decided. */
  called(call: {
    readonly tool: string
    readonly target?: string
    readonly effect?: Effect
    readonly ending: Ending
    /** From the first byte to the end, waiting for people included. */
    readonly seconds: number
    readonly code?: ErrorCode
    /** Replaced values by detector, as `exit.masked` reports them. */
    readonly masked?: Readonly<Record<string, number>>
  }): void
  /** A decision was made in this time, planning not included. */
  decided(decision: { readonly effect: Effect; readonly seconds: number }): void
  /** A policy was loaded, or refused and the old one kept. */
  policyLoaded(load: { readonly isGood: boolean }): void
  /** A recording could not be written. */
  recordingFailed(): void
  /** The text a scraper reads. */
  render(): Promise<string>
  /** Media type of that text. */
  readonly contentType: string
}

/** What the numbers are taken from, asked at each scrape or count. */
export interface MetricsSource {
  /** Whether a tool of this name is registered. */
  readonly isTool: (name: string) => boolean
  /** Whether a target of this name is registered. */
  readonly isTarget: (name: string) => boolean
  /** Calls that run or wait now. */
  readonly live: () => number
  /** Tickets that wait for a person now. */
  readonly held: () => number
  /** Open sessions. */
  readonly sessions: () => number
}

/** Names of detectors kept apart; operators write some, so there is an end. */
const DETECTORS_MAX = 200

/**
 * Builds the counters of one gateway.
 *
 * @param options.process whether memory, CPU and event loop of the process are reported as well.
 */
export function createMetrics(source: MetricsSource, options: { readonly process?: boolean } = {}): Metrics {
  const registry = new Registry()
  const registers = [registry]
  if (options.process !== false) collectDefaultMetrics({ register: registry })

  const calls = new Counter({
    name: 'sallyport_calls_total',
    help: 'Calls that ended, by tool, target, effect of the decision and ending.',
    labelNames: ['tool', 'target', 'effect', 'ending'] as const,
    registers,
  })
  const callSeconds = new Histogram({
    name: 'sallyport_call_seconds',
    help: 'Time from the first byte of a call to its end, waiting for people included.',
    labelNames: ['ending'] as const,
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800],
    registers,
  })
  const errors = new Counter({
    name: 'sallyport_errors_total',
    help: 'Calls that ended with an error, by code.',
    labelNames: ['code'] as const,
    registers,
  })
  const decisionSeconds = new Histogram({
    name: 'sallyport_decision_seconds',
    help: 'Time one decision takes.',
    labelNames: ['effect'] as const,
    buckets: [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1, 1],
    registers,
  })
  const masked = new Counter({
    name: 'sallyport_masked_values_total',
    help: 'Values that detectors replaced in results.',
    labelNames: ['detector'] as const,
    registers,
  })
  const loads = new Counter({
    name: 'sallyport_policy_loads_total',
    help: 'Policy loads; a failed one leaves the policy before it in force.',
    labelNames: ['outcome'] as const,
    registers,
  })
  const recordingFailures = new Counter({
    name: 'sallyport_recording_failures_total',
    help: 'Recording entries that could not be written.',
    registers,
  })
  gauge('sallyport_live_calls', 'Calls that run or wait now.', source.live)
  gauge('sallyport_held_tickets', 'Tickets that wait for a person now.', source.held)
  gauge('sallyport_sessions', 'Open sessions.', source.sessions)
  // A series that appears with its first failure cannot be alerted on; these begin at 0.
  for (const outcome of ['good', 'failed']) loads.inc({ outcome }, 0)
  recordingFailures.inc(0)

  const detectors = new Set<string>()

  function gauge(name: string, help: string, read: () => number): void {
    const made: Gauge = new Gauge({ name, help, registers, collect: () => made.set(finite(read())) })
  }

  function detectorLabel(name: string): string {
    if (detectors.has(name)) return name
    if (detectors.size >= DETECTORS_MAX || !/^[A-Za-z][\w:-]{0,79}$/.test(name)) return 'other'
    detectors.add(name)
    return name
  }

  return {
    called({ tool, target, effect, ending, seconds, code, masked: counts }) {
      calls.inc({
        tool: source.isTool(tool) ? tool : 'other',
        target: target === undefined ? 'none' : source.isTarget(target) ? target : 'other',
        effect: effect ?? 'none',
        ending,
      })
      callSeconds.observe({ ending }, finite(seconds))
      if (code !== undefined) errors.inc({ code })
      for (const [name, count] of Object.entries(counts ?? {}))
        masked.inc({ detector: detectorLabel(name) }, finite(count))
    },
    decided({ effect, seconds }) {
      decisionSeconds.observe({ effect }, finite(seconds))
    },
    policyLoaded({ isGood }) {
      loads.inc({ outcome: isGood ? 'good' : 'failed' })
    },
    recordingFailed() {
      recordingFailures.inc()
    },
    render: () => registry.metrics(),
    contentType: registry.contentType,
  }
}

/** The library throws on what is no number, and a counter on what is negative. */
function finite(value: number): number {
  return Number.isFinite(value) && value > 0 ? value : 0
}
