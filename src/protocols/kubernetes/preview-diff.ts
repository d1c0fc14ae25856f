/**
 * The difference between an object as it is and as it would be, as lines of YAML, masked.
 *
 * @packageDocumentation
 */
import { stringify } from 'yaml'
import { isJsonObject, JsonNumber, writeJson, type JsonValue } from '../../core/json.ts'
import { maskValue, type MaskContext } from './masks.ts'

/** Lines kept around a change. */
const AROUND = 3
/** Beyond so many lines on either side a difference is told as all lines of both. */
const COMPARED_MAX = 2_000

/** A difference. */
export interface Diff {
  /** Lines that begin with `-`, `+` or a space; empty when nothing that is shown differs. */
  readonly text: string
  /** Where values differ that nobody is shown. */
  readonly hidden: readonly string[]
}

/** Compares two objects; `undefined` for one that is not there. */
export function diffOf(before: JsonValue | undefined, after: JsonValue | undefined, about: MaskContext): Diff {
  const [old, made] = [before, after].map((value) => (value === undefined ? undefined : withoutNoise(value)))
  const [shownOld, shownMade] = [old, made].map((value) =>
    value === undefined ? undefined : maskValue(value, about).value,
  )
  const hidden: string[] = []
  if (old !== undefined && made !== undefined) hiddenChanges([old, made], [shownOld, shownMade], '', hidden)
  return { text: lineDiff(linesOf(shownOld), linesOf(shownMade)).join('\n'), hidden }
}

/** What the server writes by itself whenever anything changes, or gives to what it only pretends to make. */
const NOISE = ['managedFields', 'resourceVersion', 'generation', 'creationTimestamp', 'uid', 'selfLink']

/** An object without what says nothing about a change. */
export function withoutNoise(value: JsonValue): JsonValue {
  if (!isJsonObject(value)) return value
  const metadata = value.get('metadata')
  if (!isJsonObject(metadata)) return value
  const kept = new Map([...metadata].filter(([key]) => !NOISE.includes(key)))
  return new Map([...value].map(([key, field]) => [key, key === 'metadata' ? kept : field]))
}

type Pair = readonly [JsonValue | undefined, JsonValue | undefined]

/** Finds where two values differ whose masked forms do not. */
function hiddenChanges([old, made]: Pair, [shownOld, shownMade]: Pair, path: string, found: string[]): void {
  if (textOf(old) === textOf(made)) return
  if (textOf(shownOld) === textOf(shownMade) && !(isJsonObject(shownOld) || Array.isArray(shownOld))) {
    found.push(path)
    return
  }
  const fields = (value: JsonValue | undefined): ReadonlyMap<string, JsonValue> => {
    if (isJsonObject(value)) return value
    return new Map(
      Array.isArray(value) ? (value as readonly JsonValue[]).map((item, index) => [String(index), item]) : [],
    )
  }
  const [olds, mades, shownOlds, shownMades] = [old, made, shownOld, shownMade].map(fields)
  for (const key of new Set([...(olds?.keys() ?? []), ...(mades?.keys() ?? [])])) {
    const pair: Pair = [olds?.get(key), mades?.get(key)]
    // What came or went is seen by its name.
    if (pair[0] === undefined || pair[1] === undefined) continue
    hiddenChanges(pair, [shownOlds?.get(key), shownMades?.get(key)], path === '' ? key : `${path}.${key}`, found)
  }
}

function textOf(value: JsonValue | undefined): string {
  return value === undefined ? '' : writeJson(value)
}

function linesOf(value: JsonValue | undefined): readonly string[] {
  if (value === undefined) return []
  return stringify(plainOf(value), { lineWidth: 0, aliasDuplicateObjects: false }).trimEnd().split('\n')
}

function plainOf(value: JsonValue): unknown {
  if (value instanceof JsonNumber) return String(Number(value.raw)) === value.raw ? Number(value.raw) : value.raw
  if (isJsonObject(value)) return new Map([...value].map(([key, field]) => [key, plainOf(field)]))
  return Array.isArray(value) ? (value as readonly JsonValue[]).map(plainOf) : value
}

/** Lines that differ, each with a few around it, and above them the keys they stand under. */
export function lineDiff(before: readonly string[], after: readonly string[]): readonly string[] {
  const edits = editsOf(before, after)
  const isNear = edits.map(() => false)
  edits.forEach(({ sign }, index) => {
    if (sign === ' ') return
    for (let near = Math.max(0, index - AROUND); near <= Math.min(edits.length - 1, index + AROUND); near++) {
      isNear[near] = true
    }
  })
  const lines: string[] = []
  edits.forEach(({ sign, line }, index) => {
    if (isNear[index] !== true) return
    if (index > 0 && isNear[index - 1] !== true) lines.push(`@@ ${keysAbove(edits, index)}`.trimEnd())
    lines.push(`${sign} ${line}`)
  })
  return lines
}

interface Edit {
  readonly sign: ' ' | '-' | '+'
  readonly line: string
}

function keysAbove(edits: readonly Edit[], from: number): string {
  const keys: string[] = []
  let depth = indentOf(edits[from]?.line ?? '')
  for (let index = from - 1; index >= 0 && depth > 0; index--) {
    const { line, sign } = edits[index] ?? { line: '', sign: '+' }
    if (sign === '+' || indentOf(line) >= depth) continue
    depth = indentOf(line)
    keys.unshift(line.trim().replace(/:.*$/su, ''))
  }
  return keys.join('.')
}

function indentOf(line: string): number {
  return /^ */u.exec(line)?.[0].length ?? 0
}

/** The longest common subsequence by dynamic programming, after what both begin and end with. */
function editsOf(before: readonly string[], after: readonly string[]): readonly Edit[] {
  let start = 0
  while (start < before.length && start < after.length && before[start] === after[start]) start++
  let end = 0
  while (
    end < before.length - start &&
    end < after.length - start &&
    before[before.length - 1 - end] === after[after.length - 1 - end]
  ) {
    end++
  }
  const same = (line: string): Edit => ({ sign: ' ', line })
  return [
    ...before.slice(0, start).map(same),
    ...middleEdits(before.slice(start, before.length - end), after.slice(start, after.length - end)),
    ...before.slice(before.length - end).map(same),
  ]
}

function middleEdits(before: readonly string[], after: readonly string[]): Edit[] {
  const gone = (line: string): Edit => ({ sign: '-', line })
  const come = (line: string): Edit => ({ sign: '+', line })
  if (before.length > COMPARED_MAX || after.length > COMPARED_MAX) return [...before.map(gone), ...after.map(come)]
  const width = after.length + 1
  const lengths = new Uint16Array((before.length + 1) * width)
  const at = (row: number, column: number): number => lengths[row * width + column] ?? 0
  for (let row = before.length - 1; row >= 0; row--) {
    for (let column = after.length - 1; column >= 0; column--) {
      lengths[row * width + column] =
        before[row] === after[column] ? at(row + 1, column + 1) + 1 : Math.max(at(row + 1, column), at(row, column + 1))
    }
  }
  const edits: Edit[] = []
  let [row, column] = [0, 0]
  while (row < before.length || column < after.length) {
    const [old, made] = [before[row], after[column]]
    if (old !== undefined && old === made) {
      edits.push({ sign: ' ', line: old })
      row++
      column++
    } else if (old !== undefined && (made === undefined || at(row + 1, column) >= at(row, column + 1))) {
      edits.push(gone(old))
      row++
    } else if (made !== undefined) {
      edits.push(come(made))
      column++
    }
  }
  return edits
}
