import { SallyportError } from '../core/errors.ts'

const UNITS_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** Milliseconds of a text like `30d`. @throws SallyportError `ERR_INVALID_INPUT`. */
export function durationMs(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,6})([smhd])$/u.exec(text) ?? []
  const value = Number(digits) * (UNITS_MS[unit] ?? Number.NaN)
  if (digits !== '' && Number.isSafeInteger(value) && value > 0) return value
  throw new SallyportError('ERR_INVALID_INPUT', 'A time is a number with s, m, h or d, such as 30d.')
}

/** Words of an option that may be repeated, or hold several with commas between them. */
export function words(values: readonly string[] | undefined): string[] {
  return (values ?? []).flatMap((value) => value.split(',')).flatMap((word) => (word === '' ? [] : [word]))
}

/** A number with its noun: `1 file`, `2 files`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}
