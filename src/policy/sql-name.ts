import { compileGlob, type Glob } from './glob.ts'

/** A pattern over SQL resources: a dotted name, perhaps with columns or argument types in parentheses. */
export interface SqlPattern {
  readonly text: string
  readonly segments: readonly Glob[]
  /** The key of the name when it holds no `*`; the index looks such patterns up directly. */
  readonly exact?: string
  /** What stands in parentheses: columns of a relation, argument types of a function. */
  readonly list?: readonly string[]
  readonly columnGlobs?: readonly Glob[]
  readonly argumentGlobs?: readonly Glob[]
}

/** A SQL resource taken apart once per part. */
export interface SqlName {
  /** The name without what stands in parentheses, as written. */
  readonly base: string
  /** The same for two ways of writing one name. */
  readonly key: string
  /** The pieces between the dots, as written. */
  readonly words: readonly string[]
  /** Without the quotes: `"Orders"` and `Orders` are one name, because nothing is folded here. */
  readonly segments: readonly string[]
  /** Argument types when the name is a function's, as written. */
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
  if (baseEnd < 0) segments.push(text.slice(start))
  const plain = segments.map(unquote)
  const name = { words: segments, segments: plain, key: plain.join('\u0000') }
  return baseEnd < 0 ? { ...name, base: text } : { ...name, base: text.slice(0, baseEnd), args }
}

function isQuoted(word: string): boolean {
  return word.length >= 2 && word.startsWith('"') && word.endsWith('"')
}

function unquote(word: string): string {
  return isQuoted(word) ? word.slice(1, -1).replaceAll('""', '"') : word
}

/** A quoted word is that word; only an unquoted `*` stands for others. */
function compileWord(word: string): Glob {
  const plain = unquote(word)
  return isQuoted(word) ? (given) => given === plain : compileGlob(word)
}

/** Compiles a pattern, or says why it is none. */
export function parseSqlPattern(text: string): SqlPattern | string {
  const name = splitSqlName(text)
  if (name === undefined) return `"${text}" is not a name: its quotes or parentheses do not balance.`
  const { words } = name
  if (words.some((word) => word === '' || (!isQuoted(word) && /["\s]/.test(word)))) {
    return `"${text}" is not a name such as public.orders, ref_*.* or public.customers(id,name).`
  }
  if (name.args?.some((word) => word === '') === true) return `"${text}" has an empty word in its parentheses.`
  const isExact = words.every((word) => isQuoted(word) || !word.includes('*'))
  return {
    text,
    segments: words.map(compileWord),
    ...(isExact && { exact: name.key }),
    ...(name.args !== undefined && {
      list: name.args,
      columnGlobs: name.args.map(compileWord),
      argumentGlobs: name.args.map(compileGlob),
    }),
  }
}

/** Whether the dotted name matches, segment by segment: `*` never crosses a dot. */
export function nameMatches(pattern: SqlPattern, name: SqlName): boolean {
  const { segments } = pattern
  if (segments.length !== name.segments.length) return false
  for (let index = 0; index < segments.length; index++) {
    if (segments[index]?.(name.segments[index] ?? '') !== true) return false
  }
  return true
}

/** Whether the argument types match one by one; a single `*` stands for any list. */
export function argumentsMatch(pattern: SqlPattern, args: readonly string[]): boolean {
  const { list, argumentGlobs } = pattern
  if (list === undefined || argumentGlobs === undefined) return false
  if (list.length === 1 && list[0] === '*') return true
  return list.length === args.length && argumentGlobs.every((glob, index) => glob(args[index] ?? ''))
}

/** Whether a column is one of those in the pattern's parentheses. */
export function columnListed(pattern: SqlPattern, column: string): boolean {
  return pattern.columnGlobs?.some((glob) => glob(column)) === true
}
