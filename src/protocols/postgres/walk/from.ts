import { asList, eachChild, text, unwrap, words, type Ast } from '../ast.ts'
import { spoken } from '../names.ts'
import {
  derivedItem,
  findCte,
  hasColumn,
  outputOf,
  readAll,
  readColumn,
  relationItem,
  step,
  type Item,
  type Reading,
  type Use,
} from '../scope.ts'
import { callOperator } from './code.ts'
import { aliasOf, asFields, functionAlias, OPEN, type Context } from './context.ts'
import type { Walker } from './walker.ts'

/** The items of a FROM list. Relations mentioned directly in it, not in a sub-select, are added to `direct`. */
export function fromItems(walk: Walker, list: unknown, context: Context, direct: Use[]): readonly Item[] {
  const items: Item[] = []
  for (const entry of asList(list)) items.push(...fromItem(walk, entry, context, items, direct))
  noteTwins(walk, items)
  return items
}

/** Tables of two schemas may share a name in one FROM, as long as both are tables and not sub-selects. */
export function noteTwins(walk: Walker, items: readonly Item[]): void {
  if (items.length < 2) return
  const seen = new Map<string, Use>()
  for (const { unaliased, name, use } of items) {
    if (unaliased === undefined || name === undefined || use === undefined) continue
    const twin = seen.get(name)
    if (twin !== undefined) walk.twins.push(twin, use)
    seen.set(name, use)
  }
}

/** `left` is what LATERAL may speak of: everything to the left, and nothing else at this level. */
function fromItem(
  walk: Walker,
  entry: unknown,
  context: Context,
  left: readonly Item[],
  direct: Use[],
): readonly Item[] {
  const one = unwrap(entry)
  if (one === undefined) return []
  const { type, fields } = one
  const lateral: Context = { ...context, level: { items: left, parent: context.level } }
  switch (type) {
    case 'RangeVar':
      return [rangeVar(walk, fields, context, direct)]
    case 'RangeTableSample':
      return tableSample(walk, fields, lateral, context, left, direct)
    case 'RangeSubselect': {
      const query = unwrap(fields['subquery'])
      const own = fields['lateral'] === true ? lateral : context
      const output = query === undefined ? OPEN : walk.statement(query.type, query.fields, own)
      return [derivedItem(aliasOf(fields).name, output, aliasOf(fields).columns)]
    }
    case 'JoinExpr':
      return join(walk, fields, context, left, direct)
    case 'RangeFunction':
    case 'RangeTableFunc':
    case 'JsonTable': {
      eachChild(type, fields, (childType, child) => walk.expression(childType, child, lateral))
      const alias = aliasOf(fields)
      return [derivedItem(alias.name ?? functionAlias(fields), undefined, alias.columns)]
    }
    default:
      walk.unknown(`${type} in FROM is not understood`)
      return [derivedItem(undefined, undefined, [])]
  }
}

function rangeVar(walk: Walker, fields: Ast, context: Context, direct: Use[]): Item {
  const alias = aliasOf(fields)
  const relname = text(fields['relname'])
  walk.known.add(fields)
  const isBare = fields['schemaname'] === undefined && fields['catalogname'] === undefined
  const cte = isBare ? findCte(context.ctes, relname) : undefined
  if (cte !== undefined) return derivedItem(alias.name ?? relname, cte.output, alias.columns)
  const relation = walk.relation(fields)
  if (relation === undefined) return derivedItem(alias.name ?? relname, undefined, alias.columns)
  if (relation.kind === 'composite_type') walk.unknown(`${spoken(relname)} is a type`)
  const use = walk.use(relation, 'read', fields)
  direct.push(use)
  return relationItem(use, alias.name ?? relname, alias.name !== undefined, alias.columns)
}

function tableSample(
  walk: Walker,
  fields: Ast,
  lateral: Context,
  context: Context,
  left: readonly Item[],
  direct: Use[],
): readonly Item[] {
  const method = words(fields['method']) ?? []
  const name = method.at(-1) ?? ''
  const isKnown = (name === 'system' || name === 'bernoulli') && (method.length === 1 || method[0] === 'pg_catalog')
  if (!isKnown || walk.hasUserFunction(name)) walk.unknown('TABLESAMPLE with a method of its own')
  walk.nodes(fields['args'], lateral)
  walk.node(fields['repeatable'], lateral)
  const before = direct.length
  const items = fromItem(walk, fields['relation'], context, left, direct)
  for (const use of direct.slice(before)) {
    use.sampled = true
    walk.samples.push({ use, node: fields })
  }
  return items
}

function join(walk: Walker, fields: Ast, context: Context, left: readonly Item[], direct: Use[]): readonly Item[] {
  const larg = fromItem(walk, fields['larg'], context, left, direct)
  const rarg = fromItem(walk, fields['rarg'], context, [...left, ...larg], direct)
  const both = [...larg, ...rarg]
  step(left.length + both.length)
  const predicate: Reading = { isPredicate: true, isReturning: false }
  const using = words(fields['usingClause']) ?? []
  if (using.length > 0 || fields['isNatural'] === true) callOperator(walk, undefined, '=')
  for (const name of using) for (const item of both) if (hasColumn(item, name)) readColumn(item, name, predicate)
  if (fields['isNatural'] === true) naturalJoin(larg, rarg, predicate)
  // The ON condition speaks of the two sides only; a neighbour in FROM is not visible in it.
  const on: Context = { ...context, level: { items: both, parent: context.level }, isPredicate: true }
  walk.node(fields['quals'], on)
  const alias = aliasOf(fields)
  if (alias.name !== undefined) {
    noteTwins(walk, both)
    return [
      {
        name: alias.name,
        columns: new Map(alias.columns.map((column) => [column, ''])),
        isOpen: alias.columns.length > 0,
        parts: both,
        isOpaque: alias.columns.length > 0,
      },
    ]
  }
  const usingAlias = asFields(fields['join_using_alias'])
  if (usingAlias['aliasname'] === undefined) return both
  // It has the merged columns and no others, and those were marked as read above.
  return [...both, derivedItem(text(usingAlias['aliasname']), { names: using, isOpen: false }, [])]
}

function naturalJoin(left: readonly Item[], right: readonly Item[], reading: Reading): void {
  const a = outputOf(left)
  const b = outputOf(right)
  for (const item of [...left, ...right]) markNatural(item)
  const [named, others] = [new Set(a.names), new Set(b.names)]
  for (const item of left)
    for (const name of named)
      if ((b.isOpen || others.has(name)) && hasColumn(item, name)) readColumn(item, name, reading)
  for (const item of right)
    for (const name of others)
      if ((a.isOpen || named.has(name)) && hasColumn(item, name)) readColumn(item, name, reading)
  for (const item of [...left, ...right]) if (item.isOpaque === true) readAll(item, reading)
}

function markNatural(item: Item): void {
  if (item.use !== undefined) item.use.natural = true
  for (const part of item.parts ?? []) markNatural(part)
}

/** `FOR UPDATE` and its like. */
export function lockRows(walk: Walker, clause: unknown, items: readonly Item[], within: readonly Use[]): void {
  const named = asList(unwrap(clause)?.fields['lockedRels']).map((rel) => {
    // These are names of FROM items, never of relations.
    walk.known.add(asFields(unwrap(rel)?.fields))
    return text(asFields(unwrap(rel)?.fields)['relname'])
  })
  const meant =
    named.length === 0 ? [undefined] : items.filter((item) => item.name !== undefined && named.includes(item.name))
  walk.mayWrite = true
  // A lock on a sub-select reaches every table in it; without a plain relation to point at, all of them count.
  const isPlain = named.length > 0 && meant.length === named.length && meant.every((item) => item?.use !== undefined)
  for (const use of isPlain ? meant.flatMap((item) => item?.use ?? []) : within)
    if (use.role === 'read') use.locked = true
}
