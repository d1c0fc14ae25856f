/**
 * Walks one statement and writes down what it touches: relations with the columns read and written, functions, user
 * operators and casts, locks, and everything that was not understood.
 *
 * It decides nothing. Unknown node types and fields are found first, over the whole tree (`ast.ts`); what is walked here
 * has a known shape, and whatever this file has no special word for is descended into, so nothing is skipped.
 *
 * @packageDocumentation
 */
import { unknownShapes, type Ast } from '../ast.ts'
import type { Catalog } from '../catalog.ts'
import { indexOf } from '../indexes.ts'
import type { Cte, Output } from '../scope.ts'
import { OPEN, TOP, type Context } from './context.ts'
import { walkExplain } from './explain.ts'
import { walkExpression } from './expression.ts'
import type { Findings } from './findings.ts'
import { walkSelect } from './select.ts'
import { Walker } from './walker.ts'
import { walkDelete, walkInsert, walkMerge, walkUpdate } from './write.ts'

/** Walks a SELECT, INSERT, UPDATE, DELETE, MERGE or EXPLAIN of one. Anything else is not understood. */
export function walk(catalog: Catalog, type: string, fields: Ast): Findings {
  const walker = new Walker(catalog, { statement: walkStatement, expression: walkExpression })
  for (const shape of unknownShapes(type, fields)) walker.unknown(`${shape} is not understood`)
  // Implicit and assignment casts need no syntax: while a user made one, any statement may run it.
  for (const fn of indexOf(catalog).implicitCasts) walker.call(fn, 'cast')
  // So do comparisons: which types are sorted or grouped is only known to the backend.
  for (const fn of indexOf(catalog).comparisons) walker.call(fn, 'operator')
  const output = type === 'ExplainStmt' ? walkExplain(walker, fields) : walker.statement(type, fields, TOP)
  // INVARIANT: every relation in the tree was met. One that was not would be sent as it is, unmasked.
  for (const ref of relationRefs(fields)) if (!walker.known.has(ref)) walker.unknown('a relation was not met')
  return walker.findings(output)
}

function walkStatement(walker: Walker, type: string, fields: Ast, context: Context, recursive?: Cte): Output {
  switch (type) {
    case 'SelectStmt':
      return walkSelect(walker, fields, context, recursive)
    case 'InsertStmt':
      return walkInsert(walker, fields, context)
    case 'UpdateStmt':
      return walkUpdate(walker, fields, context)
    case 'DeleteStmt':
      return walkDelete(walker, fields, context)
    case 'MergeStmt':
      return walkMerge(walker, fields, context)
    default:
      walker.unknown(`${type} is not understood`)
      return OPEN
  }
}

/** Every `RangeVar` in a tree, wrapped or bare, found by its shape alone. */
function relationRefs(value: unknown): readonly Ast[] {
  if (typeof value !== 'object' || value === null) return []
  const found: Ast[] = Object.hasOwn(value, 'relname') ? [value as Ast] : []
  for (const child of Object.values(value)) if (typeof child === 'object') found.push(...relationRefs(child))
  return found
}
