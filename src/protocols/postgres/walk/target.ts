import { asList, text, unwrap, words, type Ast } from '../ast.ts'
import { spoken } from '../names.ts'
import { noteValue } from '../lengths.ts'
import { derivedItem, relationItem, type Item, type Level, type Output, type Role, type Use } from '../scope.ts'
import type { Relation, RelationKind } from '../catalog.ts'
import { baseOf } from '../view-base.ts'
import { aliasOf, asFields, CLOSED, OPEN, type Context } from './context.ts'
import { fromItems, noteTwins } from './from.ts'
import type { Returning } from './findings.ts'
import { hasMergingJoin, outputsOf, starItems } from './outputs.ts'
import type { Walker } from './walker.ts'

/** The table a statement writes, undefined when there is none of that name. */
export function targetOf(
  walk: Walker,
  fields: Ast,
  role: Role,
): { readonly use: Use; readonly item: Item } | undefined {
  const ref = asFields(fields['relation'])
  walk.known.add(ref)
  // A WITH query never captures the target of a write, so it is looked up in the catalog at once.
  const relation = walk.relation(ref)
  if (relation === undefined) return undefined
  if (!isWritable(walk, relation, role)) walk.unknown(`writing through ${relation.name}, which is no table`)
  if (relation.hasRules) walk.unknown(`writing ${relation.name}, which has rewrite rules`)
  const use = walk.use(relation, role, ref)
  const alias = aliasOf(ref)
  walk.mayWrite = true
  return { use, item: relationItem(use, alias.name ?? relation.name, alias.name !== undefined, []) }
}

/**
 * A table, or a view whose writes have a known end: in the relation it shows, or in a trigger. MERGE through a view means
 * something to the newest servers only.
 */
function isWritable({ catalog }: Walker, relation: Relation, role: Role): boolean {
  if (relation.kind !== 'view') return TABLES.has(relation.kind)
  if (relation.builtin || role === 'merge') return false
  return relation.triggers.length > 0 || baseOf(catalog, relation) !== undefined
}

const TABLES: ReadonlySet<RelationKind> = new Set(['table', 'partitioned_table', 'foreign_table'])

/** The level of a write: its target and what stands beside it. Sub-selects beside it cannot see the target. */
export function besideTarget(walk: Walker, target: { readonly item: Item }, list: unknown, context: Context): Context {
  const direct: Use[] = []
  const items = fromItems(walk, list, context, direct)
  for (const use of direct) use.hasWhere = true
  noteTwins(walk, [target.item, ...items])
  const isPlainFrom = !hasMergingJoin(list)
  return { ...context, level: { items: [target.item, ...items], parent: context.level }, isPlainFrom }
}

/** `SET column = value, …` */
export function assignments(walk: Walker, use: Use, into: Set<string>, list: unknown, context: Context): void {
  for (const entry of asList(list)) {
    const fields = asFields(unwrap(entry)?.fields)
    assigned(walk, use, into, fields)
    if (into === use.updated) noteValue(use.values, text(fields['name']), wholeValue(fields))
    walk.nodes(fields['indirection'], context)
    // Part of a value is replaced, so the rest of it is read.
    if (asList(fields['indirection']).length > 0) use.read.add(text(fields['name']))
    walk.node(fields['val'], context)
  }
}

/** What an assignment makes of the whole column; undefined where it replaces part of what is there. */
function wholeValue(fields: Ast): unknown {
  return asList(fields['indirection']).length > 0 ? undefined : fields['val']
}

/** One column that is given a value. */
export function assigned(walk: Walker, use: Use, into: Set<string>, fields: Ast | undefined): void {
  const name = text(fields?.['name'])
  if (use.relation.columns.some((column) => column.name === name)) into.add(name)
  else walk.unknown(`column ${spoken(name)} was not found`)
}

/** RETURNING: the target, its old and new rows, and what stands beside it. */
export function returningOutput(
  walk: Walker,
  clause: unknown,
  target: { readonly use: Use; readonly item: Item },
  context: Context,
): Output {
  if (typeof clause !== 'object' || clause === null) return CLOSED
  const fields = clause as Ast
  target.use.returning = true
  const aliases = asList(fields['options']).map((option) => text(asFields(unwrap(option)?.fields)['value']))
  const rows = ['old', 'new', ...aliases].map((name): Item => ({ ...relationItem(target.use, name, true, []) }))
  // Old and new rows answer to their own names only; unqualified columns are the target's.
  const items = context.level?.items ?? []
  const inner: Context = {
    ...context,
    level: { items: [...items, ...rows], parent: context.level?.parent },
    isReturning: true,
  }
  const plain = target.use.role !== 'merge' && (context.isPlainFrom ?? true)
  for (const [index, entry] of asList(fields['exprs']).entries()) {
    const direct = directReturn(target.use, fields, index, entry, inner.level, items, plain)
    if (direct !== undefined) walk.returnings.push(direct)
    walk.node(entry, direct === undefined ? inner : { ...inner, isDirect: true })
  }
  return outputsOf(fields['exprs'], items)
}

/** What a result column of RETURNING shows of the target, when it is a column of it, or all of them, as they are. */
function directReturn(
  use: Use,
  clause: Ast,
  index: number,
  entry: unknown,
  level: Level | undefined,
  items: readonly Item[],
  isPlain: boolean,
): Returning | undefined {
  const target = asFields(unwrap(entry)?.fields)
  const ref = unwrap(target['val'])
  if (ref?.type !== 'ColumnRef' || level === undefined) return undefined
  const isNamed = target['name'] !== undefined
  const list = asList(ref.fields['fields'])
  const star = list.length === 1 ? { items, parent: undefined } : level
  const shown = starItems(ref.fields, star)
  if (shown !== undefined) {
    if (!shown.some((item) => item.use === use)) return undefined
    return { clause, index, ref: ref.fields, items: shown, column: undefined, isNamed, isPlain }
  }
  const column = words(list)?.at(-1)
  if (column === undefined) return undefined
  const named = list.length === 1 ? items : starItems({ fields: [...list.slice(0, -1), { A_Star: {} }] }, level)
  const holders = (named ?? []).filter((item) => item.use === use && item.columns.has(column))
  return holders.length === 1 ? { clause, index, ref: ref.fields, items: holders, column, isNamed, isPlain } : undefined
}

/** A write whose target was not found: the rest is walked all the same, so that it shows up in the parts. */
export function lostTarget(walk: Walker, fields: Ast, context: Context, beside: string): Output {
  const list = Array.isArray(fields[beside]) ? fields[beside] : [fields[beside]]
  const items = [derivedItem(undefined, undefined, []), ...fromItems(walk, list, context, [])]
  const inner: Context = { ...context, level: { items, parent: context.level } }
  descend(walk, fields, inner, ['targetList', 'whereClause', 'joinCondition', 'mergeWhenClauses', 'returningClause'])
  return OPEN
}

/** Walks fields of which nothing is known but that they may hold expressions. */
export function descend(walk: Walker, fields: Ast, context: Context, names: readonly string[]): void {
  for (const name of names) {
    if (Array.isArray(fields[name])) walk.nodes(fields[name], context)
    else if (unwrap(fields[name])?.type !== undefined) loose(walk, fields[name], context)
  }
}

/** A field that may be wrapped or bare: everything in it is walked as far as its keys are node types. */
function loose(walk: Walker, value: unknown, context: Context): void {
  if (Array.isArray(value)) for (const item of value) loose(walk, item, context)
  else if (typeof value === 'object' && value !== null) {
    for (const [key, child] of Object.entries(value)) {
      if (/^[A-Z]/.test(key) && typeof child === 'object' && child !== null) walk.expression(key, child as Ast, context)
      else loose(walk, child, context)
    }
  }
}
