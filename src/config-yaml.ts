/**
 * YAML with positions: reads a file and says line and column of whatever a schema refuses.
 *
 * Messages never quote a value of the file, because the value may be a password somebody put in the wrong place.
 *
 * @packageDocumentation
 */
import { isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseDocument, type Document } from 'yaml'
import type { z } from 'zod'

/** One mistake in a file, with its place counted from 1. */
export interface Mistake {
  readonly line: number
  readonly column: number
  readonly message: string
}

/** A file that is YAML at all, with a way back from a path to its place. */
export interface YamlFile {
  readonly value: unknown
  /** Turns what zod found into mistakes with places. */
  mistakes(issues: readonly z.core.$ZodIssue[]): readonly Mistake[]
}

/** More than any configuration needs; beyond it the file is the wrong file. */
export const YAML_BYTES_MAX = 1024 * 1024

/** Anchors may be used this often; a "billion laughs" file uses them exponentially. */
const ALIASES_MAX = 100

/** Parses one YAML document (version 1.2, core schema). Duplicate keys and unknown tags are mistakes. */
export function parseYaml(
  text: string,
): { readonly file: YamlFile } | { readonly mistakes: readonly [Mistake, ...Mistake[]] } {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, stringKeys: true })
  const [first, ...others] = [...document.errors, ...document.warnings].map(({ pos, message }) => ({
    ...place(lines, pos[0]),
    // What stands after a colon or a quote is a piece of the file.
    message: `is not valid YAML: ${(message.split(/[:"]/u)[0] ?? '').trim()}`,
  }))
  if (first !== undefined) return { mistakes: [first, ...others] }
  let value: unknown
  try {
    value = document.toJS({ maxAliasCount: ALIASES_MAX })
  } catch {
    return { mistakes: [{ line: 1, column: 1, message: `uses anchors more than ${ALIASES_MAX} times` }] }
  }
  return { file: { value, mistakes: (issues) => issues.flatMap((issue) => mistakesOf(issue, document, lines)) } }
}

function mistakesOf(issue: z.core.$ZodIssue, document: Document, lines: LineCounter): Mistake[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      ...place(lines, offsetOf(document, [...issue.path, key])),
      message: `${[...issue.path, key].join('.')} is not a known key${hintFor(key)}`,
    }))
  }
  const name = issue.path.length === 0 ? 'the file' : issue.path.join('.')
  return [{ ...place(lines, offsetOf(document, issue.path)), message: `${name} ${describe(issue)}` }]
}

function describe(issue: z.core.$ZodIssue): string {
  // The schemas' own messages start this way; zod's never do.
  if (issue.message.startsWith('must')) return issue.message
  switch (issue.code) {
    case 'invalid_type':
      if (issue.message.endsWith('received undefined')) return 'is missing'
      return `must be ${ARTICLES[issue.expected] ?? `of type ${issue.expected}`}`
    case 'invalid_value':
      return `must be ${issue.values.map(String).join(' or ')}`
    case 'too_small':
      return issue.origin === 'string' || issue.origin === 'array'
        ? 'must not be empty'
        : `must be at least ${String(issue.minimum)}`
    case 'too_big':
      return `must be at most ${String(issue.maximum)}`
    case 'invalid_key':
      return `is not a good name: ${issue.issues.map(({ message }) => message).join(', ')}`
    case 'custom':
      return issue.message
    case 'invalid_format':
      return `is not a valid ${issue.format}`
    default:
      return 'is not valid'
  }
}

const ARTICLES: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'a mapping of keys to values',
  record: 'a mapping of names to values',
  array: 'a list',
}

/** People put passwords where they were used to; say where they go instead. */
function hintFor(key: string): string {
  return /pass|secret|token|api_?key/iu.test(key)
    ? '; secrets are not written here: use credential with env, file or exec'
    : ''
}

/** The offset of the node at `path`, or of the nearest one that exists above it; a map's key rather than its value. */
function offsetOf(document: Document, path: readonly PropertyKey[]): number {
  let node: unknown = document.contents
  let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0
  for (const step of path) {
    if (isMap(node)) {
      const pair: unknown = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step))
      if (!isPair(pair)) return offset
      if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset
      node = pair.value
    } else if (isSeq(node)) {
      node = node.items[Number(step)]
      if (isNode(node)) offset = node.range?.[0] ?? offset
    } else {
      return offset
    }
  }
  return offset
}

function place(lines: LineCounter, offset: number): { readonly line: number; readonly column: number } {
  const { line, col } = lines.linePos(offset)
  return { line: Math.max(line, 1), column: Math.max(col, 1) }
}
