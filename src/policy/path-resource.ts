/**
 * Patterns of HTTP paths and hosts, and of file paths. Matched segment by segment, never as text.
 *
 * An allow and a deny read the same pattern differently. What one server keeps apart another may join: an escaped slash,
 * a dot segment, a doubled slash, a path parameter, another case. So an allow vouches only for paths that can be read in
 * one way, and a deny meets whatever some reading of the path would be.
 *
 * @packageDocumentation
 */
import type { Resource } from '../core/action.ts'
import { compileGlob, type Glob } from './glob.ts'

/** A pattern as the schema hands it over. */
export interface PathSpec {
  readonly path: string
  readonly host?: string | undefined
}

/** A compiled pattern; see `ResourcePattern` for the two ways of reading it. */
export interface PathPattern {
  covers(resource: Resource): boolean
  touches(resource: Resource): boolean
}

const PLACEHOLDERS: Readonly<Record<string, RegExp>> = {
  int: /^[0-9]{1,18}$/,
  uuid: /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i,
  word: /^[\w-]{1,128}$/,
}

/** How deep escapes are undone; a path with more layers than this meets every deny. */
const LAYERS_MAX = 4

/** What has one reading: no escape that hides a slash, a dot, a percent sign or a NUL, nothing two servers read apart. */
const AMBIGUOUS = /%(?:2f|5c|2e|25|00|3b|0[0-9a-f]|1[0-9a-f]|7f)|[\\;]|\/\/|[^\x21-\x7e]/iu

/** Compiles a pattern, or says why it is none. */
export function compilePathPattern({ path, host }: PathSpec): PathPattern | string {
  if (!path.startsWith('/')) return `The path "${path}" does not start with a slash.`
  const words = path.split('/').slice(1)
  const isDeep = words.at(-1) === '**'
  const segments: (readonly [strict: Glob, loose: Glob])[] = []
  for (const word of isDeep ? words.slice(0, -1) : words) {
    const segment = compileSegment(word)
    if (typeof segment === 'string') return segment
    segments.push(segment)
  }
  const hosts = host === undefined ? undefined : compileHost(host)
  if (typeof hosts === 'string') return hosts
  const fits = (given: readonly string[], way: 0 | 1): boolean =>
    (isDeep ? given.length > segments.length : given.length === segments.length) &&
    segments.every((globs, index) => globs[way](given[index] ?? '')) &&
    (!isDeep || given.slice(segments.length).every((word) => way === 1 || isPlainSegment(word)))
  return {
    covers(resource) {
      if (resource.type !== 'http' && resource.type !== 'file') return false
      const actual = resource.type === 'http' ? resource.host : undefined
      // Fail closed: where the caller chooses the host, a pattern that names none vouches for none.
      if ((actual === undefined) !== (hosts === undefined)) return false
      if (actual !== undefined && hosts?.(actual) !== true) return false
      if (!resource.path.startsWith('/') || (resource.type === 'http' && AMBIGUOUS.test(resource.path))) return false
      return fits(resource.path.split('/').slice(1), 0)
    },
    touches(resource) {
      if (resource.type !== 'http' && resource.type !== 'file') return false
      if (hosts !== undefined && (resource.type !== 'http' || resource.host === undefined || !hosts(resource.host))) {
        return false
      }
      const readings = readingsOf(resource.path)
      // Fail closed: a path nobody can read to its end may be the one a deny speaks of.
      return readings === undefined || readings.some((given) => fits(given, 1))
    },
  }
}

/** A segment as an allow reads it, and as a deny does: in lower case. */
function compileSegment(word: string): readonly [Glob, Glob] | string {
  const placeholder = /^\{\w+:(\w+)\}$/.exec(word)
  if (placeholder !== null) {
    const pattern = PLACEHOLDERS[placeholder[1] ?? '']
    const test = (given: string): boolean => pattern?.test(given) === true
    return pattern === undefined ? noPlaceholder(word) : [test, test]
  }
  if (/[{}]/.test(word)) return noPlaceholder(word)
  if (word.includes('**')) return '`**` stands only at the end of a path, for one or more segments.'
  const strict = compileGlob(word)
  const loose = compileGlob(word.toLowerCase())
  return [(given) => (given === '' ? word === '' : isPlainSegment(given) && strict(given)), loose]
}

function noPlaceholder(word: string): string {
  return `"${word}" is not a placeholder: use {name:int}, {name:uuid} or {name:word}.`
}

/** Fail closed: what another parser may drop or climb with is no segment a pattern vouches for. */
function isPlainSegment(word: string): boolean {
  return word !== '' && word !== '.' && word !== '..'
}

function compileHost(host: string): ((given: string) => boolean) | string {
  const labels = host.toLowerCase().split('.')
  if (labels.some((label) => !/^[a-z0-9_*-]{1,63}$/u.test(label)))
    return `"${host}" is not a host; write api.example.com or *.example.com.`
  const globs = labels.map(compileGlob)
  return (given) => {
    const words = given.split('.')
    return words.length === globs.length && globs.every((glob, index) => glob(words[index] ?? ''))
  }
}

/**
 * Every way some server may read the path: escapes undone layer by layer, slashes joined, dot segments climbed,
 * parameters dropped, in lower case. `undefined` when there is no end to the layers.
 */
function readingsOf(path: string): readonly (readonly string[])[] | undefined {
  const readings: (readonly string[])[] = []
  let text = path
  for (let layer = 0; layer <= LAYERS_MAX; layer++) {
    const lower = text.toLowerCase().replaceAll('\\', '/')
    readings.push(lower.split('/').slice(1))
    const collapsed = lower.replace(/;[^/]*/gu, '').replace(/\/{2,}/gu, '/')
    readings.push(collapsed.split('/').slice(1), climbed(collapsed))
    // A path with or without its last slash is one resource to many servers.
    if (collapsed.endsWith('/') && collapsed.length > 1) readings.push(collapsed.slice(0, -1).split('/').slice(1))
    const next = undone(text)
    if (next === text) return readings
    text = next
  }
  return undefined
}

function undone(text: string): string {
  return text.replace(/%([0-9a-f]{2})/giu, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

function climbed(path: string): readonly string[] {
  const words: string[] = []
  for (const word of path.split('/').slice(1)) {
    if (word === '..') words.pop()
    else if (word !== '.') words.push(word)
  }
  return words
}
