import { isAlias, isMap, isScalar, isSeq, LineCounter, parseAllDocuments, Scalar, type Document, type Node } from 'yaml'
import type { Position, Problem } from './problem.ts'

/** A policy file as text. */
export interface SourceFile {
  readonly path: string
  readonly text: string
}

/** A path into a YAML value: keys and indices. */
export type ValuePath = readonly PropertyKey[]

/** A YAML file as plain data that remembers where everything stood. */
export interface YamlFile {
  readonly path: string
  readonly value: unknown
  /** The place of a value, or of the deepest part of the path that exists. `key` names the place of that key instead. */
  at(path: ValuePath, key?: string): Position
  /** The place of one character of a string value, counted from 0. */
  inText(path: ValuePath, offset: number): Position
}

/** Files larger than this are refused before they are parsed. */
export const FILE_LENGTH_MAX = 1024 * 1024

/** Deeper nesting than any policy has; more would only serve to exhaust the stack. */
const DEPTH_MAX = 16

/** How many syntax errors of one document are reported; one broken bracket can cause thousands. */
const ISSUES_MAX = 20

/** Keys that mean something to JavaScript objects and nothing to a policy. */
const FORBIDDEN_KEYS = new Set(['__proto__', 'constructor', 'prototype'])

/**
 * Parses YAML strictly: one document, no aliases, anchors, tags or duplicate keys, string keys only.
 *
 * Everything refused here is something a reviewer may read one way and a parser another.
 */
export function readYaml(file: SourceFile): { readonly yaml?: YamlFile; readonly problems: readonly Problem[] } {
  const problems: Problem[] = []
  const report = (position: Position, message: string): void => {
    problems.push({ path: file.path, ...position, message })
  }
  if (file.text.length > FILE_LENGTH_MAX) {
    report({ line: 1, column: 1 }, `The file is larger than ${FILE_LENGTH_MAX} characters.`)
    return { problems }
  }
  const lines = new LineCounter()
  const position = (offset: number): Position => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const document = parse(file, lines, report, position)
  if (document === undefined || problems.length > 0) return { problems }
  const root = document.contents
  const value = toValue(root, 0, (node, message) => {
    report(position(node?.range?.[0] ?? 0), message)
  })
  if (problems.length > 0) return { problems }
  return {
    problems,
    yaml: {
      path: file.path,
      value,
      at: (path, key) => position(startOf(root, path, key)),
      inText: (path, offset) => position(charOffset(nodeAt(root, path), file.text, offset)),
    },
  }
}

function parse(
  file: SourceFile,
  lineCounter: LineCounter,
  report: (position: Position, message: string) => void,
  position: (offset: number) => Position,
): Document.Parsed | undefined {
  let documents: readonly Document.Parsed[]
  try {
    const parsed = parseAllDocuments(file.text, {
      lineCounter,
      version: '1.2',
      schema: 'core',
      merge: false,
      uniqueKeys: true,
      stringKeys: false,
      prettyErrors: false,
      logLevel: 'silent',
    })
    documents = Array.isArray(parsed) ? parsed : []
  } catch {
    report({ line: 1, column: 1 }, 'The file cannot be parsed: it is nested too deeply.')
    return undefined
  }
  const first = documents[0]
  if (first === undefined || first.contents === null) {
    // An editor that truncates before it writes must not be taken for an operator who removes every rule.
    report({ line: 1, column: 1 }, 'The file is empty; a policy file without rules says `rules: []`.')
  } else if (first.directives.yaml.explicit === true) {
    report({ line: 1, column: 1 }, 'Directives (%YAML) are not allowed in policies.')
  }
  for (const document of documents) {
    // A warning (an unknown tag, an unresolved directive) means the parser guessed; a policy is never guessed at.
    for (const issue of [...document.errors, ...document.warnings].slice(0, ISSUES_MAX)) {
      const [offset] = issue.pos
      report(position(offset), `This is not valid YAML: ${issue.message}`)
    }
  }
  const second = documents[1]
  if (second !== undefined) {
    report(position(second.range[0]), 'A policy file holds one YAML document; move the second one to its own file.')
  }
  return first
}

function toValue(node: unknown, depth: number, report: (node: Node | undefined, message: string) => void): unknown {
  if (node === null || node === undefined) return null
  const at = node as Node
  if (depth > DEPTH_MAX) return report(at, `The file is nested more than ${DEPTH_MAX} levels deep.`)
  if (isAlias(node)) return report(at, `Aliases (*${node.source}) are not allowed in policies; write the value out.`)
  if (isScalar(node) || isMap(node) || isSeq(node)) {
    if (node.anchor !== undefined) report(at, `Anchors (&${node.anchor}) are not allowed in policies.`)
    // A tag that only repeats the kind of its node is set by the parser itself; a written one has `!` in the source.
    if (node.tag !== undefined) report(at, `Tags (${node.tag}) are not allowed in policies.`)
  }
  if (isScalar(node)) return scalarValue(node)
  if (isSeq(node)) return node.items.map((item) => toValue(item, depth + 1, report))
  if (!isMap(node)) return report(at, 'This is neither a value, a list nor a mapping.')
  const result: Record<string, unknown> = {}
  for (const { key, value } of node.items) {
    if (!isScalar(key) || typeof key.value !== 'string') {
      report((key as Node | null) ?? at, 'Keys must be plain words.')
    } else if (key.anchor !== undefined || key.tag !== undefined) {
      report(key, 'Anchors and tags are not allowed in policies.')
    } else if (FORBIDDEN_KEYS.has(key.value)) {
      report(key, `The key "${key.value}" is not allowed.`)
    } else {
      result[key.value] = toValue(value, depth + 1, report)
    }
  }
  return result
}

/** The word `null` where a word stands (`transform: null`) is that word; an empty value stays null, and is refused. */
function scalarValue(node: Scalar): unknown {
  if (node.value === null && node.type === Scalar.PLAIN && node.source === 'null') return 'null'
  return node.value
}

function nodeAt(root: unknown, path: ValuePath): Node | undefined {
  let node: unknown = root
  for (const step of path) {
    const next = isMap(node) || isSeq(node) ? node.get(step, true) : undefined
    if (next === undefined || next === null) break
    node = next
  }
  return (node ?? undefined) as Node | undefined
}

function startOf(root: unknown, path: ValuePath, key: string | undefined): number {
  const node = nodeAt(root, path)
  if (key !== undefined && isMap(node)) {
    const pair = node.items.find((item) => isScalar(item.key) && item.key.value === key)
    const range = isScalar(pair?.key) ? pair.key.range : undefined
    if (range) return range[0]
  }
  return node?.range?.[0] ?? 0
}

/**
 * Finds a character of a string value in the source. Exact where the source shows the value as it is (plain, quoted
 * without escapes, literal blocks); otherwise the start of the value.
 */
function charOffset(node: Node | undefined, source: string, offset: number): number {
  const start = node?.range?.[0] ?? 0
  if (!isScalar(node) || typeof node.value !== 'string') return start
  const quote = node.type === Scalar.QUOTE_DOUBLE || node.type === Scalar.QUOTE_SINGLE ? 1 : 0
  if (source.startsWith(node.value, start + quote)) return start + quote + offset
  const before = node.value.slice(0, offset).split('\n')
  const wanted = node.value.split('\n')[before.length - 1] ?? ''
  let lineStart = start
  for (let line = 0; line < before.length; line++) lineStart = source.indexOf('\n', lineStart) + 1
  const found = source.indexOf(wanted, lineStart)
  const end = source.indexOf('\n', lineStart)
  if (node.type !== Scalar.BLOCK_LITERAL || found < 0 || (end >= 0 && found > end)) return start
  return found + (before.at(-1)?.length ?? 0)
}
