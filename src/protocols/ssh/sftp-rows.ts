import type { Cell, Column } from '../../core/chunk.ts'

/** Attributes of a file as far as they are known. Times are seconds since the epoch. */
export interface Attributes {
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly size?: number
  readonly atime?: number
  readonly mtime?: number
}

/** A file as it is listed. */
export interface Entry {
  readonly name: string
  /** As `ls -l` would show it. */
  readonly long: string
  readonly attributes: Attributes
}

const NUMBERS = ['mode', 'uid', 'gid', 'size', 'atime', 'mtime'] as const

/** What the rows of a listing, a look at attributes and a look at a link are made of. */
export const ENTRY_COLUMNS: readonly Column[] = [
  { name: 'name', type: 'text' },
  { name: 'long', type: 'text' },
  ...NUMBERS.map((name) => ({ name, type: 'bigint' })),
]

/** Spells an entry as a row, so that it is masked and recorded like any other result. */
export function rowOf({ name, long, attributes }: Entry): readonly Cell[] {
  return [name, long, ...NUMBERS.map((key) => (attributes[key] === undefined ? null : String(attributes[key])))]
}

/** Reads a row back, after the masks. */
export function entryOf(row: readonly Cell[]): Entry {
  const [name, long, ...numbers] = row
  return {
    name: name ?? '',
    long: long ?? '',
    attributes: attributesOf(
      Object.fromEntries(
        NUMBERS.map((key, index) => [key, numbers[index] == null ? undefined : Number(numbers[index])]),
      ),
    ),
  }
}

/** Picks the known attributes out of what the library returns. */
export function attributesOf(raw: Readonly<Partial<Record<(typeof NUMBERS)[number], unknown>>>): Attributes {
  const known = NUMBERS.flatMap((key) => {
    const value = raw[key]
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? [[key, value] as const] : []
  })
  return Object.fromEntries(known)
}
