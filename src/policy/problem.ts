/** A place in a policy file, counted from 1. */
export interface Position {
  readonly line: number
  readonly column: number
}

/** One thing wrong with a policy file, and where. */
export interface Problem extends Position {
  readonly path: string
  readonly message: string
}

/** Writes problems the way compilers do, one per line, so that editors can jump to them. */
export function formatProblems(problems: readonly Problem[]): string {
  return problems.map(({ path, line, column, message }) => `${path}:${line}:${column}: ${message}`).join('\n')
}

/** Sorts by place, so that a report is the same however the problems were found. */
export function sortProblems(problems: readonly Problem[]): readonly Problem[] {
  return [...problems].sort(
    (a, b) => compare(a.path, b.path) || a.line - b.line || a.column - b.column || compare(a.message, b.message),
  )
}

/** Orders by code unit: the same on every machine, whatever its locale. */
export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Returns ` Did you mean "…"?` for the closest of `known`, or nothing when none is close. */
export function nearest(word: string, known: Iterable<string>): string {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const candidate of known) {
    const distance = editDistance(word.slice(0, 64), candidate.slice(0, 64))
    if (distance < bestDistance || (distance === bestDistance && best !== undefined && candidate < best)) {
      best = candidate
      bestDistance = distance
    }
  }
  return best === undefined ? '' : ` Did you mean "${best}"?`
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
