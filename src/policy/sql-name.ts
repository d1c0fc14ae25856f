import { compileGlob, type Glob } from './glob.ts'

/** A pattern over SQL resources: a dotted name, perhaps with columns or argument types in parentheses. */
export interface SqlPattern {
  readonly text: string
  readonly segments: readonly Glob[]
  /** The name without parentheses when it holds no `*`; the index looks such patterns up directly. */
  readonly exact?: string
  /** What stands in parentheses: columns of a relation, argument types of a function. */
  readonly list?: readonly string[]
  readonly listGlobs?: readonly Glob[]
}

/** A SQL resource taken apart once per part. */
export interface SqlName {
  readonly base: string
  readonly segments: readonly string[]
  /** Argument types when the name is a function's. */
  readonly args?: readonly string[]
}

/**
 * Splits `schema.relation` or `schema.fn(argtypes)`. Double quotes protect dots, commas and parentheses, as in SQL.
 * Returns `undefined` when quotes or parentheses do not balance: such a name is matched by nothing.
 */
export function splitSqlName(text: string): SqlName | undefined {
  const segments: string[] = []
  const args: string[] = []
  let quoted = false
  let depth = 0
  let start = 0
  let baseEnd = -1
  for (let index = 0; index < text.length; index++) {
    const char = text[index]
    if (char === '"') quoted = !quoted
    else if (quoted) continue
    else if (baseEnd >= 0 && depth === 0) return undefined
    else if (char === '(') {
      if (depth++ === 0) {
        segments.push(text.slice(start, index))
        baseEnd = index
        start = index + 1
      }
    } else if (char === ')') {
      if (--depth < 0) return undefined
      if (depth === 0) {
        const word = text.slice(start, index).trim()
        if (word !== '' || args.length > 0) args.push(word)
      }
    } else if (char === ',' && depth === 1) {
      args.push(text.slice(start, index).trim())
      start = index + 1
    } else if (char === '.' && depth === 0) {
      segments.push(text.slice(start, index))
      start = index + 1
    }
  }
  if (quoted || depth !== 0) return undefined
  if (baseEnd < 0) {
    segments.push(text.slice(start))
    return { base: text, segments }
  }
  return { base: text.slice(0, baseEnd), segments, args }
}

/** Compiles a pattern, or says why it is none. */
export function parseSqlPattern(text: string): SqlPattern | string {
  const name = splitSqlName(text)
  if (name === undefined) return `"${text}" is not a name: its quotes or parentheses do not balance.`
  if (name.segments.some((segment) => segment === '' || /\s/.test(segment.replaceAll(/"[^"]*"/g, '')))) {
    return `"${text}" is not a name such as public.orders, ref_*.* or public.customers(id,name).`
  }
  if (name.args?.some((word) => word === '') === true) return `"${text}" has an empty word in its parentheses.`
  const segments = name.segments.map(compileGlob)
  return {
    text,
    segments,
    ...(!name.base.includes('*') && { exact: name.base }),
    ...(name.args !== undefined && { list: name.args, listGlobs: name.args.map(compileGlob) }),
  }
}

/** Whether the dotted name matches, segment by segment: `*` never crosses a dot. */
export function nameMatches(pattern: SqlPattern, name: SqlName): boolean {
  return (
    pattern.segments.length === name.segments.length &&
    pattern.segments.every((glob, index) => glob(name.segments[index] ?? ''))
  )
}

/** Whether the argument types match one by one; a single `*` stands for any list. */
export function argumentsMatch(pattern: SqlPattern, args: readonly string[]): boolean {
  const { list, listGlobs } = pattern
  if (list === undefined || listGlobs === undefined) return false
  if (list.length === 1 && list[0] === '*') return true
  return list.length === args.length && listGlobs.every((glob, index) => glob(args[index] ?? ''))
}

/** Whether a column is one of those in the pattern's parentheses. */
export function columnListed(pattern: SqlPattern, column: string): boolean {
  return pattern.listGlobs?.some((glob) => glob(column)) === true
}
