import { asList, eachChild, text, unwrap, words, type Ast } from '../ast.ts'
import { groupings } from '../group-by.ts'
import {
  derivedItem,
  itemsNamed,
  readAll,
  readUnqualified,
  step,
  type Cte,
  type CteScope,
  type Level,
  type Output,
  type Use,
} from '../scope.ts'
import { hasEffectiveWhere } from '../where.ts'
import { explainNamedSetting, walkOperator } from './code.ts'
import { asFields, CLOSED, OPEN, TOP, type Context } from './context.ts'
import { fromItems, lockRows } from './from.ts'
import { originsOf, outputsOf, starsOf } from './outputs.ts'
import type { Walker } from './walker.ts'

/** What a query costs, in steps, besides its nodes: a level of names, lists of what it shows and groups by. */
const QUERY_STEPS = 20

/** A SELECT, VALUES or set operation. `recursive` is the WITH query it is the body of, when that may read itself. */
export function walkSelect(walk: Walker, fields: Ast, context: Context, recursive?: Cte): Output {
  step(QUERY_STEPS)
  const ctes = withQueries(walk, fields['withClause'], context)
  const outer: Context = { ...context, ctes }
  if (text(fields['op']) !== '' && fields['op'] !== 'SETOP_NONE') return setOperation(walk, fields, outer, recursive)
  if (fields['valuesLists'] !== undefined) {
    walk.nodes(fields['valuesLists'], outer)
    tail(walk, fields, outer, CLOSED)
    return OPEN
  }
  const before = walk.uses.length
  const direct: Use[] = []
  const items = fromItems(walk, fields['fromClause'], outer, direct)
  const level: Level = { items, parent: outer.level }
  const inner: Context = { ...outer, level }
  walk.stars.push(...starsOf(fields, level))
  const hasWhere = hasEffectiveWhere(fields['whereClause'])
  for (const use of direct) use.hasWhere = hasWhere
  if (context === TOP) explainNamedSetting(walk, fields)
  walk.nodes(fields['targetList'], inner)
  const predicate: Context = { ...inner, isPredicate: true }
  walk.node(fields['whereClause'], predicate)
  walk.node(fields['havingClause'], predicate)
  walk.nodes(fields['windowClause'], inner)
  const output = outputsOf(fields['targetList'], items)
  namedClauses(walk, fields['distinctClause'], inner, output)
  namedClauses(walk, fields['groupClause'], inner, output)
  walk.groupings.push(...groupings(fields, items))
  tail(walk, fields, inner, output)
  for (const clause of asList(fields['lockingClause'])) lockRows(walk, clause, items, walk.uses.slice(before))
  if (context === TOP) walk.origins = originsOf(fields, items)
  return output
}

function setOperation(walk: Walker, fields: Ast, context: Context, recursive: Cte | undefined): Output {
  const left = walkSelect(walk, asFields(fields['larg']), context, recursive)
  // The recursive arm reads the query itself, which yields what its first arm yields.
  if (recursive !== undefined) recursive.output ??= left
  walkSelect(walk, asFields(fields['rarg']), context)
  const item = derivedItem(undefined, left, [])
  tail(walk, fields, { ...context, level: { items: [item], parent: context.level } }, left)
  if (asList(fields['lockingClause']).length > 0) walk.unknown('locking a set operation')
  return left
}

/** ORDER BY, LIMIT and OFFSET. */
function tail(walk: Walker, fields: Ast, context: Context, output: Output): void {
  namedClauses(walk, fields['sortClause'], context, output)
  walk.node(fields['limitCount'], context)
  walk.node(fields['limitOffset'], context)
}

/** Clauses whose bare names may also mean an output column: those are no unknown columns. */
function namedClauses(walk: Walker, list: unknown, context: Context, output: Output): void {
  for (const entry of asList(list)) {
    const sort = unwrap(entry)
    const inner = sort?.type === 'SortBy' ? sort.fields['node'] : entry
    if (sort?.type === 'SortBy') walkOperator(walk, sort.fields['useOp'])
    const ref = unwrap(inner)
    const name = ref?.type === 'ColumnRef' ? words(ref.fields['fields']) : undefined
    const [word = ''] = name ?? []
    step(output.names.length)
    if (name?.length === 1 && (output.isOpen || output.names.includes(word))) {
      // An input column of that name is read as well, in case it is the one meant.
      const found = readUnqualified(context.level, word, context)
      // Without an output column that is certain to have the name, it may also be a whole row.
      if (found !== 'found' && !output.names.includes(word))
        for (const item of itemsNamed(context.level, word)) readAll(item, context)
      continue
    }
    walk.node(inner, context)
  }
}

/** The WITH queries a statement brings, on top of those around it. */
export function withQueries(walk: Walker, clause: unknown, context: Context): CteScope | undefined {
  if (typeof clause !== 'object' || clause === null) return context.ctes
  const list = asList((clause as Ast)['ctes']).map((cte) => asFields(unwrap(cte)?.fields))
  const ctes = list.map((fields): Cte => ({ name: text(fields['ctename']), output: undefined }))
  const isRecursive = (clause as Ast)['recursive'] === true
  let scope = context.ctes
  // RECURSIVE: every query sees all of them, itself included. Otherwise each sees those before it only.
  if (isRecursive) for (const cte of ctes) scope = { cte, parent: scope }
  for (const [i, cte] of ctes.entries()) {
    const fields = list[i] ?? {}
    const query = unwrap(fields['ctequery'])
    const own: Context = { ...context, ctes: scope, isReturning: false }
    const renamed = words(fields['aliascolnames']) ?? []
    const isOpenEnded = fields['search_clause'] !== undefined || fields['cycle_clause'] !== undefined
    // The values of a CYCLE mark are written like constants, yet may name a type.
    eachChild('CommonTableExpr', { cycle_clause: fields['cycle_clause'] }, (type, child) =>
      walk.expression(type, child, own),
    )
    const yields =
      query === undefined ? OPEN : walk.statement(query.type, query.fields, own, isRecursive ? cte : undefined)
    cte.output =
      renamed.length > 0 || isOpenEnded ? { names: renamed.length > 0 ? renamed : yields.names, isOpen: true } : yields
    if (!isRecursive) scope = { cte, parent: scope }
  }
  return scope
}
