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

/**
 * What an allow takes for one, and what a deny does: whatever some server reads as one. Numbers are read with signs, with
 * zeros before and words behind, and in digits of other scripts, which stand here as bytes; UUIDs without dashes, in
 * braces and as URNs (RFC 9562).
 */
const PLACEHOLDERS: Readonly<Record<string, readonly [strict: RegExp, loose: RegExp]>> = {
  int: [/^[0-9]{1,18}$/, /^\s*[+-]?[\d\x80-\xff]/],
  uuid: [/^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i, /^\s*(?:urn:uuid:)?\{?(?:-*[0-9a-f]){32}\}?$/i],
  word: [/^[\w-]{1,128}$/, /^[\w-]+$/],
}

/**
 * What some servers drop from a segment: blanks around it, and dots behind it, as Windows does. Looked for from the first of
 * a run only: from each of them, a long run would cost its square.
 */
const BLANKS = /(?<=\/)[\0-\x20]+|(?<![\0-\x20])[\0-\x20]+(?=\/|$)/gu
const BLANKS_AND_DOTS = /(?<=\/)[\0-\x20]+|(?<![\0-\x20.])[\0-\x20.]+(?=\/|$)/gu

/** How deep escapes are undone; a path with more layers than this meets every deny. */
const LAYERS_MAX = 4

/**
 * What has no single reading: escapes that hide a slash, a dot, a percent sign or a control character, characters in more
 * bytes than UTF-8 has for them, and what two servers read apart.
 */
const AMBIGUOUS =
  /%(?:2f|5c|2e|25|3b|0[0-9a-f]|1[0-9a-f]|7f|c0|c1|e0%[89][0-9a-f]|f0%8[0-9a-f])|[\\;]|\/\/|[^\x21-\x7e]/iu

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
  const isSlashed = !isDeep && words.length > 1 && words.at(-1) === ''
  const loose = isSlashed ? segments.slice(0, -1) : segments
  const covered = (given: readonly string[]): boolean =>
    (isDeep ? given.length > segments.length : given.length === segments.length) &&
    segments.every(([strict], index) => strict(given[index] ?? '')) &&
    (!isDeep || given.slice(segments.length).every(isPlainSegment))
  const touched = (given: readonly string[]): boolean =>
    (isDeep ? given.length > loose.length : given.length === loose.length) &&
    loose.every(([, fits], index) => fits(given[index] ?? ''))
  return {
    covers(resource) {
      if (resource.type !== 'http' && resource.type !== 'file') return false
      const actual = resource.type === 'http' ? resource.host : undefined
      // Fail closed: where the caller chooses the host, a pattern that names none vouches for none.
      if ((actual === undefined) !== (hosts === undefined)) return false
      if (actual !== undefined && hosts?.(actual) !== true) return false
      if (!resource.path.startsWith('/') || (resource.type === 'http' && AMBIGUOUS.test(resource.path))) return false
      return covered(resource.path.split('/').slice(1))
    },
    touches(resource) {
      if (resource.type !== 'http' && resource.type !== 'file') return false
      if (hosts !== undefined && (resource.type !== 'http' || resource.host === undefined || !hosts(resource.host))) {
        return false
      }
      const readings = readingsOf(resource.path)
      // Fail closed: a path nobody can read to its end may be the one a deny speaks of.
      return readings === undefined || readings.some(touched)
    },
  }
}

/** A segment as an allow reads it, and as a deny does: in lower case. */
function compileSegment(word: string): readonly [Glob, Glob] | string {
  const placeholder = /^\{\w+:(\w+)\}$/.exec(word)
  if (placeholder !== null) {
    const patterns = PLACEHOLDERS[placeholder[1] ?? '']
    if (patterns === undefined) return noPlaceholder(word)
    const [strict, loose] = patterns
    return [(given) => strict.test(given), (given) => loose.test(given)]
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
 * Every way some server may read the path: escapes undone layer by layer, slashes joined, dot segments climbed before or
 * after that, parameters dropped, cut where a string or a path ends for some, blanks and last dots trimmed, in lower
 * case. `undefined` when there is no end to the layers.
 */
function readingsOf(path: string): readonly (readonly string[])[] | undefined {
  const readings: (readonly string[])[] = []
  let texts: ReadonlySet<string> = new Set([path.toLowerCase()])
  for (let layer = 0; layer <= LAYERS_MAX; layer++) {
    const next = new Set<string>()
    for (const text of texts) {
      const plain = text.replaceAll('\\', '/')
      const collapsed = plain.replace(/;[^/]*/gu, '').replace(/\/{2,}/gu, '/')
      const whole = climbed(collapsed)
      // These stand in a path only once an escape is undone.
      const cut = layer === 0 ? whole : climbed(collapsed.replace(/[\0?#].*$/su, ''))
      const trimmed = climbed(collapsed.replace(BLANKS, ''))
      const undotted = climbed(collapsed.replace(BLANKS_AND_DOTS, ''))
      for (const one of new Set([plain, collapsed, whole, cut, trimmed, undotted]))
        readings.push(...withoutLastSlash(one))
      for (const one of [text, whole]) if (undone(one) !== one) next.add(undone(one))
    }
    if (next.size === 0) return readings
    texts = next
  }
  return undefined
}

/** A path with or without its last slash is one resource to many servers. */
function withoutLastSlash(path: string): readonly (readonly string[])[] {
  const words = path.split('/').slice(1)
  return words.length > 1 && words.at(-1) === '' ? [words, words.slice(0, -1)] : [words]
}

/** One layer of escapes undone, and of characters written in more bytes than UTF-8 has for them (RFC 3629, section 10). */
function undone(text: string): string {
  return text
    .replace(/%([0-9a-f]{2})/giu, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    .replace(/(?:[\xc0\xc1]|\xe0[\x80\x81]|\xf0\x80[\x80\x81])([\x80-\xbf])/gu, (bytes, last: string) =>
      String.fromCharCode((((bytes.at(-2) ?? '').charCodeAt(0) & 1) << 6) | (last.charCodeAt(0) & 0x3f)),
    )
    .toLowerCase()
}

function climbed(path: string): string {
  const words: string[] = []
  for (const word of path.split('/').slice(1)) {
    if (word === '..') words.pop()
    else if (word !== '.') words.push(word)
  }
  return `/${words.join('/')}`
}
