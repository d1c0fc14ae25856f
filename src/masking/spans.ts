import type { Transform } from '../core/decision.ts'
import { combine, type Compiled } from './compile.ts'
import { HIDDEN } from './detectors/detector.ts'
import { fold, type Folded } from './fold.ts'
import { findPattern } from './pattern.ts'
import { placeholdersIn } from './transforms.ts'

/** A value found in a text, or several that overlap and are replaced as one. */
export interface Span {
  readonly start: number
  readonly end: number
  readonly kind: string
  readonly transform: Transform
  /** The value as it reads once disguises are undone. */
  readonly value: string
}

/**
 * Returns what is to be replaced in `text`, in order and without overlap.
 *
 * @param folded what `fold` returns for the text.
 */
export function findSpans(text: string, compiled: Compiled, folded: Folded | undefined): readonly Span[] {
  let spans = merge(text, look(text, compiled, folded))
  // A value that stood against another one, as in `AKIA…123-45-6789`, shows once that one is gone.
  for (let round = 0; spans.length > 0 && round < ROUNDS_MAX; round++) {
    const fresh = lookBeside(text, compiled, spans)
    if (fresh.length === 0) break
    spans = merge(text, [...spans, ...fresh])
  }
  return spans
}

const ROUNDS_MAX = 4

function look(text: string, compiled: Compiled, folded: Folded | undefined): readonly Span[] {
  const found: Span[] = []
  search(text, compiled, (start, end, kind, transform) => {
    found.push({ start, end, kind, transform, value: text.slice(start, end) })
  })
  // The copy is searched besides the text, not instead: undoing a disguise can also glue things together.
  if (folded !== undefined) {
    search(folded.text, compiled, (start, end, kind, transform) => {
      found.push({
        start: folded.startOf(start),
        end: folded.endOf(end - 1),
        kind,
        transform,
        value: folded.text.slice(start, end),
      })
    })
  }
  return found.length === 0 ? found : withoutPlaceholders(text, found, compiled)
}

/** Searches the lines that hold spans once more, with the spans blanked out. */
function lookBeside(text: string, compiled: Compiled, spans: readonly Span[]): readonly Span[] {
  const fresh: Span[] = []
  for (let index = 0; index < spans.length;) {
    const at = spans[index]?.start ?? 0
    const lineStart = text.lastIndexOf('\n', at) + 1
    const newline = text.indexOf('\n', at)
    const lineEnd = newline < 0 ? text.length : newline
    let line = ''
    let copied = lineStart
    const own: Span[] = []
    for (let span = spans[index]; span !== undefined && span.start < lineEnd; span = spans[++index]) {
      line += text.slice(copied, span.start) + HIDDEN.repeat(span.end - span.start)
      copied = span.end
      own.push(span)
    }
    line += text.slice(copied, lineEnd)
    for (const found of look(line, compiled, fold(line))) {
      const start = lineStart + found.start
      const end = lineStart + found.end
      if (!own.some((span) => span.start <= start && end <= span.end)) fresh.push({ ...found, start, end })
    }
  }
  return fresh
}

function search(
  text: string,
  compiled: Compiled,
  report: (start: number, end: number, kind: string, transform: Transform) => void,
): void {
  for (const { detector, transform } of compiled.declared) {
    if (!detector.trigger(text)) continue
    detector.find(text, (start, end) => report(start, end, detector.kind, transform))
  }
  for (const { kind, pattern, transform } of compiled.custom) {
    findPattern(pattern, text, (start, end) => report(start, end, kind, transform))
  }
}

function withoutPlaceholders(text: string, found: readonly Span[], compiled: Compiled): readonly Span[] {
  const placeholders = placeholdersIn(text, new Set(compiled.custom.map(({ kind }) => kind)))
  if (placeholders.length === 0) return found
  const starts = placeholders.map(({ start }) => start)
  return found.filter(({ start, end }) => {
    const placeholder = placeholders[lastAtMost(starts, start)]
    if (placeholder === undefined || start > placeholder.heldUntil) return true
    // `[HASH:url_password:h…]@db`: what looks like a name is the placeholder's own kind.
    return start === placeholder.start && end > placeholder.end
  })
}

/** Index of the last of the sorted `values` that is at most `limit`, or -1. */
function lastAtMost(values: readonly number[], limit: number): number {
  let low = 0
  let high = values.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((values[middle] ?? 0) <= limit) low = middle + 1
    else high = middle
  }
  return low - 1
}

/**
 * Overlapping finds become one: their union, named after the longest, by their common transform. Unequal transforms
 * redact, and so do different kinds under `partial` or when none covers the rest: a piece that one find would keep may
 * be another's secret.
 */
function merge(text: string, found: readonly Span[]): readonly Span[] {
  const sorted = [...found].sort((a, b) => a.start - b.start || b.end - a.end || compare(a.kind, b.kind))
  const merged: Span[] = []
  for (const span of sorted) {
    const last = merged.at(-1)
    if (last === undefined || span.start >= last.end) merged.push(span)
    else merged[merged.length - 1] = union(text, last, span)
  }
  return merged
}

function union(text: string, one: Span, other: Span): Span {
  const longer = other.end - other.start > one.end - one.start ? other : one
  const end = Math.max(one.end, other.end)
  const covers = longer.start === one.start && longer.end === end
  return {
    start: one.start,
    end,
    kind: longer.kind,
    transform: commonTransform(one, other, covers),
    value: covers ? longer.value : text.slice(one.start, end),
  }
}

function commonTransform(one: Span, other: Span, covers: boolean): Transform {
  const transform = combine(one.transform, other.transform)
  if (one.kind === other.kind || transform === 'null') return transform
  // `password=jane@example.com`: the harmless piece of an address is a piece of the password.
  return covers && transform !== 'partial' ? transform : 'redact'
}

function compare(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}
