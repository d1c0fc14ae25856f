import { z } from 'zod'

const DURATION_UNITS_MS = { ms: 1, s: 1000, m: 60_000 } as const
const SIZE_UNITS = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const

/** What PostgreSQL keeps times in, and the longest a timer of Node.js runs: 32-bit milliseconds. As bytes it is plenty. */
const VALUE_MAX = 0x7fff_ffff

/** A duration as people write it in a target's options, such as `10s`; in milliseconds. */
export const durationMs = (example: string) => measure(DURATION_UNITS_MS, example)

/** A size as people write it in a target's options, such as `1MiB`; in bytes. */
export const sizeBytes = (example: string) => measure(SIZE_UNITS, example)

function measure(units: Readonly<Record<string, number>>, example: string) {
  const pattern = new RegExp(`^([1-9]\\d{0,8})(${Object.keys(units).join('|')})$`, 'u')
  return z.string().transform((text, context): number => {
    const [, digits = '', unit = ''] = pattern.exec(text) ?? []
    const value = Number(digits) * (units[unit] ?? Number.NaN)
    if (digits !== '' && value <= VALUE_MAX) return value
    context.addIssue({ code: 'custom', message: `must be a positive number with a unit, such as ${example}` })
    return z.NEVER
  })
}
