/**
 * Which resources a rule speaks of. A string is a SQL pattern; argv, Kubernetes and path patterns are tagged objects.
 * In all of them `*` never crosses a `.`, a `/` or the border of an argv word.
 *
 * @packageDocumentation
 */
import type { Resource } from '../core/action.ts'
import { compileGlob, type Glob } from './glob.ts'
import { compilePathPattern, type PathSpec } from './path-resource.ts'
import { argumentsMatch, columnListed, nameMatches, parseSqlPattern, splitSqlName } from './sql-name.ts'
import type { SqlName, SqlPattern } from './sql-name.ts'

/** One word of an argv pattern as the schema hands it over. */
type ArgvWord =
  | string
  | { readonly in: readonly string[] }
  | { readonly match: string }
  | { readonly rest: 'any' | 'flags'; readonly in?: readonly string[] | undefined }

/** A resource pattern as the schema hands it over. */
export type ResourceSpec =
  | string
  | { readonly argv: readonly ArgvWord[] }
  | {
      readonly kind: string
      readonly namespaces?: readonly string[] | undefined
      readonly names?: readonly string[] | undefined
    }
  | PathSpec

/** A part's resource, taken apart once. */
export interface ResourceView {
  readonly resource: Resource
  readonly sql?: SqlName
}

/**
 * A compiled pattern. `covers` is how an allow reads it: everything the part touches must be listed. `touches` is how
 * deny and require_approval read it: one listed thing is enough, and what is not known counts as listed.
 */
export interface ResourcePattern {
  readonly text: string
  /** Kinds of resource it can match at all; a rule whose patterns fit none of its targets is refused at load. */
  readonly types: readonly Resource['type'][]
  /** The SQL name it is about when it is about exactly one. */
  readonly exact?: string
  readonly sql?: SqlPattern
  covers(view: ResourceView): boolean
  touches(view: ResourceView): boolean
}

/** Prepares a resource for matching. */
export function viewOf(resource: Resource): ResourceView {
  const sql = resource.type === 'sql' ? splitSqlName(resource.name) : undefined
  return sql === undefined ? { resource } : { resource, sql }
}

/** Columns written out in a rendering before it says how many more there are. */
const COLUMNS_SHOWN_MAX = 24

/**
 * Writes a resource the way policies and logs do; `-` for none.
 *
 * Of a command only the program is shown, and of a path only the segments that are words: the others may be passwords,
 * tokens or numbers of persons, and this text stands in decisions, which no detector has passed. The masked request
 * stands beside it in the recording.
 */
export function renderResource(resource: Resource): string {
  switch (resource.type) {
    case 'none':
      return '-'
    case 'sql': {
      const { name, columns } = resource
      if (columns === undefined || columns.length === 0) return name
      const more = columns.length - COLUMNS_SHOWN_MAX
      const shown = columns.slice(0, COLUMNS_SHOWN_MAX).join(',')
      return more > 0 ? `${name}(${shown}, and ${more} more)` : `${name}(${shown})`
    }
    case 'argv':
      return resource.argv.length > 1 ? `${resource.argv[0] ?? ''} …` : (resource.argv[0] ?? '')
    case 'k8s':
      return [resource.kind, resource.namespace, resource.name].filter((piece) => piece !== undefined).join(' ')
    case 'http':
      return `${resource.host ?? ''}${resource.path.split('/').map(shownSegment).join('/')}`
    default:
      return resource.path
  }
}

/** A segment of a path that is a word or a version; `•` for any other. */
function shownSegment(segment: string): string {
  return /^(?:|[A-Za-z][A-Za-z._-]{0,31}|v\d{1,3})$/u.test(segment) ? segment : '•'
}

/** Compiles one pattern, or says why it is none. */
export function compileResource(spec: ResourceSpec): ResourcePattern | string {
  if (typeof spec === 'string') return compileName(spec)
  if ('argv' in spec) return compileArgv(spec.argv)
  if ('path' in spec) return compilePath(spec)
  return compileKind(spec)
}

function compileName(text: string): ResourcePattern | string {
  if (text === '**') return symmetric(text, ['none', 'sql', 'argv', 'k8s', 'http', 'file'], () => true)
  if (text === '-') return symmetric(text, ['none'], ({ resource }) => resource.type === 'none')
  const pattern = parseSqlPattern(text)
  if (typeof pattern === 'string') return pattern
  return {
    text,
    types: ['sql'],
    sql: pattern,
    ...(pattern.exact !== undefined && { exact: pattern.exact }),
    covers({ resource, sql }) {
      if (resource.type !== 'sql' || sql === undefined || !nameMatches(pattern, sql)) return false
      if (sql.args !== undefined) return argumentsMatch(pattern, sql.args)
      if (pattern.list === undefined) return true
      // Fail closed: columns the plan does not know cannot all be listed.
      return resource.columns?.every((column) => columnListed(pattern, column)) === true
    },
    touches({ resource, sql }) {
      if (resource.type !== 'sql') return false
      // Fail closed: a name that cannot be read may be the one a deny speaks of.
      if (sql === undefined) return true
      if (!nameMatches(pattern, sql)) return false
      if (pattern.list === undefined) return true
      if (sql.args !== undefined) return argumentsMatch(pattern, sql.args)
      return resource.columns === undefined || resource.columns.some((column) => columnListed(pattern, column))
    },
  }
}

function compileArgv(words: readonly ArgvWord[]): ResourcePattern | string {
  const last = words.at(-1)
  const rest = typeof last === 'object' && 'rest' in last ? last : undefined
  const fixed = (rest === undefined ? words : words.slice(0, -1)).map(wordMatcher)
  if (fixed.some((matcher) => matcher === undefined)) return '`rest` stands only at the end of an argv pattern.'
  if (words[0] === undefined || (typeof words[0] === 'object' && 'rest' in words[0])) {
    return 'An argv pattern starts with the program.'
  }
  const flags = rest?.in === undefined ? undefined : rest.in.map(compileWord)
  const restMatches = (word: string): boolean => {
    if (rest?.rest === 'flags' && !word.startsWith('-')) return false
    return flags === undefined || flags.some((glob) => glob(word))
  }
  const matcher =
    (isDeny: boolean) =>
    ({ resource }: ResourceView): boolean => {
      if (resource.type !== 'argv') return false
      const { argv, dynamicFrom } = resource
      const known = Math.min(argv.length, dynamicFrom ?? argv.length)
      const isKnownWhole = dynamicFrom === undefined
      if (isKnownWhole && (argv.length < fixed.length || (rest === undefined && argv.length > fixed.length)))
        return false
      if (rest === undefined && known > fixed.length) return false
      // Fail closed: words nobody knows yet may be any and any number. They are all that a deny speaks of, and nothing
      // that an allow lists, unless it takes whatever comes.
      if (!isKnownWhole && !isDeny && (known < fixed.length || rest?.rest !== 'any' || flags !== undefined))
        return false
      for (let index = 0; index < known; index++) {
        const word = argv[index] ?? ''
        const matches = fixed[index]
        if (!(matches === undefined ? restMatches(word) : matches(word))) return false
      }
      return true
    }
  return { text: JSON.stringify(words), types: ['argv'], covers: matcher(false), touches: matcher(true) }
}

/**
 * Compiles a glob over one word. Words are often paths: `*` stays between two slashes, and never stands for what climbs
 * out of a directory.
 */
function compileWord(pattern: string): Glob {
  const segments = pattern.split('/').map((text) => ({ glob: compileGlob(text), isOpen: text.includes('*') }))
  const isPath = segments.length > 1
  return (word) => {
    const given = word.split('/')
    return (
      given.length === segments.length &&
      segments.every(({ glob, isOpen }, index) => {
        const segment = given[index] ?? ''
        return glob(segment) && !(isOpen && (segment === '.' || segment === '..' || (isPath && segment === '')))
      })
    )
  }
}

function wordMatcher(word: ArgvWord): Glob | undefined {
  if (typeof word === 'string') return word === '*' ? () => true : (given) => given === word
  if ('rest' in word) return undefined
  if ('match' in word) return compileWord(word.match)
  const listed = new Set(word.in)
  return (given) => listed.has(given)
}

function compileKind(spec: Extract<ResourceSpec, { readonly kind: string }>): ResourcePattern | string {
  const kind = spec.kind.split('/').map(compileGlob)
  const namespaces = spec.namespaces?.map(compileGlob)
  const names = spec.names?.map(compileGlob)
  const kindMatches = (given: string): boolean => {
    const pieces = given.split('/')
    return pieces.length === kind.length && kind.every((glob, index) => glob(pieces[index] ?? ''))
  }
  const fits = (globs: readonly Glob[] | undefined, given: string | undefined, unknown: boolean): boolean =>
    globs === undefined || (given === undefined ? unknown : globs.some((glob) => glob(given)))
  const matcher =
    (isDeny: boolean) =>
    ({ resource }: ResourceView): boolean =>
      resource.type === 'k8s' &&
      (kindMatches(resource.kind) || (isDeny && resource.also?.some(kindMatches) === true)) &&
      fits(namespaces, resource.namespace, isDeny) &&
      fits(names, resource.name, isDeny)
  // One object may have several kinds: an allow means the one it says, a deny each of them.
  // A list over all namespaces has none of its own: no allow for `web-*` covers it, every deny for `web-*` meets it.
  return { text: JSON.stringify(spec), types: ['k8s'], covers: matcher(false), touches: matcher(true) }
}

function compilePath(spec: PathSpec): ResourcePattern | string {
  const pattern = compilePathPattern(spec)
  if (typeof pattern === 'string') return pattern
  return {
    text: spec.host === undefined ? spec.path : `${spec.host}${spec.path}`,
    types: ['http', 'file'],
    covers: ({ resource }) => pattern.covers(resource),
    touches: ({ resource }) => pattern.touches(resource),
  }
}

function symmetric(
  text: string,
  types: readonly Resource['type'][],
  matches: (view: ResourceView) => boolean,
): ResourcePattern {
  return { text, types, covers: matches, touches: matches }
}
