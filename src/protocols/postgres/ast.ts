/**
 * The parse tree as data, walked by the list of what it may hold.
 *
 * Every node type and every field the planner knows stands in {@link NODES}. A node or field that is not there makes
 * the statement not understood (C4), whatever else it holds: a newer grammar can add nothing behind our back.
 *
 * @packageDocumentation
 */
import { NODES } from './grammar.ts'
import { step } from './scope.ts'

/** A node's fields as the parser gives them. Fields that hold a default (0, false, "") are absent. */
export type Ast = Readonly<Record<string, unknown>>

/** The one key of a wrapped node, and what it wraps. `{}` is the parser's null. */
export function unwrap(wrapped: unknown): { readonly type: string; readonly fields: Ast } | undefined {
  if (typeof wrapped !== 'object' || wrapped === null) return undefined
  for (const type in wrapped) {
    const fields = (wrapped as Record<string, unknown>)[type]
    return { type, fields: typeof fields === 'object' && fields !== null ? (fields as Ast) : {} }
  }
  return undefined
}

/** Calls `visit` for every child node of a node, wrapped or bare, in the order of the parse tree's fields. */
export function eachChild(type: string, fields: Ast, visit: (type: string, fields: Ast) => void): void {
  const grammar = fieldsOf(type)
  if (grammar === undefined) return
  for (const name in fields) {
    const kind = grammar.get(name)
    if (kind === undefined || kind === 'leaf') continue
    const value = fields[name]
    if (kind === 'node') visitWrapped(value, visit)
    else if (kind === 'nodes') for (const item of asList(value)) visitWrapped(item, visit)
    else if (typeof value === 'object' && value !== null) visit(kind.bare, value as Ast)
  }
}

/** Node types and fields anywhere in the tree that {@link NODES} does not know, as `Type` or `Type.field`. */
export function unknownShapes(type: string, fields: Ast): ReadonlySet<string> {
  const found = new Set<string>()
  findUnknown(type, fields, found)
  return found
}

/** What a node costs, in steps: it is parsed, met by several walks and compared. */
const NODE_STEPS = 3

function findUnknown(type: string, fields: Ast, found: Set<string>): void {
  step(NODE_STEPS)
  const grammar = FIELDS.get(type)
  if (grammar === undefined) {
    found.add(type)
    return
  }
  for (const name in fields) {
    const kind = grammar.get(name)
    if (kind === 'leaf') continue
    const value = fields[name]
    if (kind === undefined) found.add(`${type}.${name}`)
    else if (kind === 'node') findUnknownIn(value, found)
    else if (kind === 'nodes') {
      if (Array.isArray(value)) for (const item of value) findUnknownIn(item, found)
    } else if (typeof value === 'object' && value !== null) findUnknown(kind.bare, value as Ast, found)
  }
}

function findUnknownIn(wrapped: unknown, found: Set<string>): void {
  const one = unwrap(wrapped)
  if (one !== undefined) findUnknown(one.type, one.fields, found)
}

/** A list field, empty when absent. */
export function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

/** Words of a list of `String` nodes, such as a qualified name; undefined when it holds anything else. */
export function words(list: unknown): readonly string[] | undefined {
  const found: string[] = []
  for (const item of asList(list)) {
    const one = unwrap(item)
    if (one?.type !== 'String') return undefined
    found.push(text(one.fields['sval']))
  }
  return found
}

/** A string field, empty when absent. */
export function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/**
 * How a field is to be walked: `leaf` (a scalar or an enum word), `node` (one wrapped node), `nodes` (a list of wrapped
 * nodes), or the type of a field that the parser gives bare, without its wrapper. `DeleteStmt.relation` is such a field;
 * a walk that only looks for `{RangeVar: …}` would miss the table that loses its rows.
 */
type FieldKind = 'leaf' | 'node' | 'nodes' | { readonly bare: string }

/** Values of constants: nothing is to be found in them. */
const CONSTANT_TYPES = new Set(['String', 'Integer', 'Float', 'Boolean', 'BitString'])

// Maps, because a field named `constructor` would be found on any plain object.
const FIELDS: ReadonlyMap<string, ReadonlyMap<string, FieldKind>> = new Map(
  Object.entries(NODES).map(([type, words]) => [type, new Map(words.split(' ').map(fieldKind))]),
)

function fieldKind(word: string): readonly [string, FieldKind] {
  const [, name = '', mark = ''] = /^(\w*)(.*)$/.exec(word) ?? []
  if (mark === '?') return [name, 'node']
  if (mark === '*') return [name, 'nodes']
  const bare = mark.slice(1)
  return [name, bare === '' || CONSTANT_TYPES.has(bare) ? 'leaf' : { bare }]
}

function fieldsOf(type: string): ReadonlyMap<string, FieldKind> | undefined {
  return FIELDS.get(type)
}

function visitWrapped(value: unknown, visit: (type: string, fields: Ast) => void): void {
  const one = unwrap(value)
  if (one !== undefined) visit(one.type, one.fields)
}
