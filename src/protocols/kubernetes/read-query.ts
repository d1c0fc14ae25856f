/**
 * Reads a query into pairs that mean one thing, and nothing twice. The server takes the first of two equal parameters in
 * one place and all of them in another, and reads anything but `false` and `0` as true; so neither is left open here.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../core/errors.ts'

/** Parameters in the order they came, once each but for lists. */
export type Query = readonly (readonly [string, string])[]

/** Parameters that are lists by their nature. */
const LISTS = new Set(['command', 'ports'])

/** Parameters the server reads as true or false (apimachinery, conversion of a text to bool). */
const FLAGS = new Set([
  'watch',
  'allowWatchBookmarks',
  'sendInitialEvents',
  'follow',
  'previous',
  'timestamps',
  'insecureSkipTLSVerifyBackend',
  'stdin',
  'stdout',
  'stderr',
  'tty',
  'force',
  'orphanDependents',
  'ignoreStoreReadErrorWithClusterBreakingPotential',
  'pretty',
  'export',
  'exact',
])

const VALUE = /^[^\p{Cc}]*$/u

/**
 * Reads the text behind the question mark.
 *
 * @throws SallyportError `ERR_INVALID_INPUT` for a parameter that is repeated or cannot be read in one way.
 */
export function readQuery(text: string): Query {
  if (text === '') return []
  // Old servers cut at a semicolon as well; nobody who means well writes one.
  if (text.includes(';')) throw invalid('The query must not hold a semicolon; write it as %3B.')
  const seen = new Set<string>()
  const pairs: (readonly [string, string])[] = []
  for (const field of text.split('&')) {
    if (field === '') continue
    const equals = field.indexOf('=')
    const name = decode(equals < 0 ? field : field.slice(0, equals))
    const value = decode(equals < 0 ? '' : field.slice(equals + 1))
    if (!/^[A-Za-z][A-Za-z0-9._-]{0,63}$/u.test(name)) throw invalid('A parameter of the query has no plain name.')
    if (seen.has(name) && !LISTS.has(name)) throw invalid(`The parameter ${name} is given twice.`)
    seen.add(name)
    if (name !== 'command' && !VALUE.test(value)) throw invalid(`The parameter ${name} holds a control character.`)
    if (!FLAGS.has(name)) pairs.push([name, value])
    else if (!/^(?:false|0)$/iu.test(value)) pairs.push([name, 'true'])
  }
  // Names that differ in case only are one parameter to somebody.
  const lower = new Set([...seen].map((name) => name.toLowerCase()))
  if (lower.size < seen.size) throw invalid('Two parameters of the query differ in case only.')
  return pairs
}

/** The value of a parameter. */
export function valueOf(query: Query, name: string): string | undefined {
  return query.find(([given]) => given === name)?.[1]
}

/** All values of a list. */
export function valuesOf(query: Query, name: string): readonly string[] {
  return query.flatMap(([given, value]) => (given === name ? [value] : []))
}

function decode(text: string): string {
  if (/[^\x21-\x7e]/u.test(text)) throw invalid('The query must be printable ASCII; write other characters as %XX.')
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    throw invalid('The query holds an escape that is none.')
  }
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
