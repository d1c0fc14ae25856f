import type { RateLimit } from '../core/decision.ts'

const BYTES: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }
const MILLISECONDS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  min: 60_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** Parses `64KiB`, `1MiB` or a plain number of bytes. Returns `undefined` for anything else. */
export function parseBytes(text: string): number | undefined {
  return scaled(/^(\d{1,12})(B|KiB|MiB|GiB)?$/, text, BYTES, 'B')
}

/** Parses `500ms`, `10s`, `15m`, `1h`, `7d` into milliseconds. A number without a unit is refused: of what? */
export function parseDuration(text: string): number | undefined {
  return scaled(/^(\d{1,9})(ms|s|min|m|h|d)$/, text, MILLISECONDS, 'ms')
}

/** Parses `60/min`, `10/s`, `100/15m`. */
export function parseRate(text: string): Pick<RateLimit, 'max' | 'windowMs'> | undefined {
  const match = /^(\d{1,9})\/(\d{0,4})(ms|s|min|m|h|d)$/.exec(text)
  const max = Number(match?.[1])
  const windowMs = Number(match?.[2] === '' ? 1 : match?.[2]) * (MILLISECONDS[match?.[3] ?? ''] ?? Number.NaN)
  return max > 0 && windowMs > 0 ? { max, windowMs } : undefined
}

/** Writes milliseconds the way policies do. */
export function formatDuration(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const size = MILLISECONDS[unit] ?? 1
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`
  }
  return `${ms}ms`
}

/** Writes bytes the way policies do. */
export function formatBytes(bytes: number): string {
  for (const unit of ['GiB', 'MiB', 'KiB'] as const) {
    const size = BYTES[unit] ?? 1
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`
  }
  return `${bytes}B`
}

function scaled(
  pattern: RegExp,
  text: string,
  units: Readonly<Record<string, number>>,
  unitDefault: string,
): number | undefined {
  const match = pattern.exec(text)
  const value = Number(match?.[1]) * (units[match?.[2] ?? unitDefault] ?? Number.NaN)
  return value > 0 && Number.isSafeInteger(value) ? value : undefined
}
