import { RE2JS } from 're2js'
import { SallyportError } from '../core/errors.ts'

/** Longest pattern an operator may write; compiled programs grow with it. */
const PATTERN_LENGTH_MAX = 1000
/** Counted repetition multiplies the program, and each character of a text may visit all of it. */
const PROGRAM_SIZE_MAX = 5000
/** Texts on which a pattern that can match nothing shows itself. */
const PROBES = ['', 'a', '0', ' ', '-', 'a b', 'a-0 B_1']

/**
 * Returns what is wrong with an operator's pattern, or `undefined` when it is fine. For the policy loader.
 *
 * Only RE2 syntax is taken: it is matched in time linear in the text, whatever the pattern.
 */
export function checkPattern(pattern: string): string | undefined {
  if (pattern === '') return 'the pattern is empty'
  if (pattern.length > PATTERN_LENGTH_MAX) return `the pattern is longer than ${PATTERN_LENGTH_MAX} characters`
  let compiled: RE2JS
  try {
    compiled = RE2JS.compile(pattern)
  } catch (error) {
    return `it is not an RE2 pattern: ${error instanceof Error ? error.message : 'unknown reason'}`
  }
  if (compiled.programSize() > PROGRAM_SIZE_MAX) return 'the pattern is too large; shorten its counted repetitions'
  if (PROBES.some((probe) => matchesNothing(compiled, probe))) return 'the pattern can match the empty text'
  return undefined
}

/** Compiles a checked pattern. @throws SallyportError `ERR_POLICY_INVALID`. */
export function compilePattern(detector: string, pattern: string): RE2JS {
  const problem = checkPattern(pattern)
  // Fail closed: a duty that cannot be performed denies the call.
  if (problem !== undefined) throw new SallyportError('ERR_POLICY_INVALID', `Detector ${detector}: ${problem}.`)
  return RE2JS.compile(pattern)
}

/** Reports each non-empty match, line by line, so that `^` and `$` mean a line and no match spans two. */
export function findPattern(pattern: RE2JS, text: string, report: (start: number, end: number) => void): void {
  for (let start = 0; start <= text.length;) {
    const newline = text.indexOf('\n', start)
    const end = newline < 0 ? text.length : newline
    if (end > start) {
      const matcher = pattern.matcher(text.slice(start, end))
      while (matcher.find()) {
        if (matcher.end() > matcher.start()) report(start + matcher.start(), start + matcher.end())
      }
    }
    start = end + 1
  }
}

function matchesNothing(pattern: RE2JS, probe: string): boolean {
  const matcher = pattern.matcher(probe)
  while (matcher.find()) if (matcher.start() === matcher.end()) return true
  return false
}
