/** Numbers that stay comparable on a noisy machine: rounds interleaved, medians of rounds, ratios. */
import { readFileSync } from 'node:fs'

/** A percentile of numbers that need not be sorted; `p` from 0 to 1. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? Number.NaN
}

/** CPU a process has used so far, all its threads, in milliseconds (proc(5), `utime` + `stime`; a tick is 10 ms). */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

/** What one lane did in one round. */
export interface Round {
  readonly latenciesMs: readonly number[]
  /** CPU of the server behind the lane, per call; of this process for the direct lane. */
  readonly cpuMsPerCall: number
}

/** Runs `calls` calls, `concurrency` at a time. */
export async function round(
  run: () => Promise<void>,
  options: { calls: number; concurrency: number; pid: number },
): Promise<Round> {
  const latenciesMs: number[] = []
  const cpuBefore = cpuMs(options.pid)
  let left = options.calls
  await Promise.all(
    Array.from({ length: options.concurrency }, async () => {
      while (left-- > 0) {
        const started = performance.now()
        await run()
        latenciesMs.push(performance.now() - started)
      }
    }),
  )
  return { latenciesMs, cpuMsPerCall: (cpuMs(options.pid) - cpuBefore) / options.calls }
}

/** One row of the table every bench prints. */
export function summary(rounds: readonly Round[]): { p50: number; p99: number; cpu: number } {
  return {
    p50: percentile(
      rounds.map(({ latenciesMs }) => percentile(latenciesMs, 0.5)),
      0.5,
    ),
    p99: percentile(
      rounds.map(({ latenciesMs }) => percentile(latenciesMs, 0.99)),
      0.5,
    ),
    cpu: percentile(
      rounds.map(({ cpuMsPerCall }) => cpuMsPerCall),
      0.5,
    ),
  }
}
