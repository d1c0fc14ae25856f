/**
 * Walks one statement and writes down what it touches: relations with the columns read and written, functions, user
 * operators and casts, locks, and everything that was not understood.
 *
 * It decides nothing. Unknown node types and fields are found first, over the whole tree (`ast.ts`); what is walked here
 * has a known shape, and whatever this file has no special word for is descended into, so nothing is skipped.
 *
 * @packageDocumentation
 */
import { text, unknownShapes, unwrap, type Ast } from '../ast.ts'
import type { Catalog } from '../catalog.ts'
import { indexOf } from '../indexes.ts'
import { derivedItem, type Cte, type Output } from '../scope.ts'
import { asFields, OPEN, TOP, type Context } from './context.ts'
import { walkCopy } from './copy.ts'
import { walkExplain } from './explain.ts'
import { walkExpression } from './expression.ts'
import type { Findings } from './findings.ts'
import { walkSelect } from './select.ts'
import { Walker } from './walker.ts'
import { walkDelete, walkInsert, walkMerge, walkUpdate } from './write.ts'

/** Walks a SELECT, INSERT, UPDATE, DELETE, MERGE or EXPLAIN of one. {@link walkUtility} walks anything else. */
export function walk(catalog: Catalog, type: string, fields: Ast): Findings {
  const walker = newWalker(catalog)
  for (const shape of unknownShapes(type, fields)) walker.unknown(`${shape} is not understood`)
  // Implicit and assignment casts need no syntax: while a user made one, any statement may run it.
  for (const fn of indexOf(catalog).implicitCasts) walker.call(fn, 'cast')
  // So do comparisons: which types are sorted or grouped is only known to the backend.
  for (const fn of indexOf(catalog).comparisons) walker.call(fn, 'operator')
  // What SELECT INTO makes is no relation that is read. It may only stand at the top.
  const into = type === 'SelectStmt' ? intoOf(fields) : undefined
  if (into !== undefined) walker.known.add(asFields(into['rel']))
  const output = type === 'ExplainStmt' ? walkExplain(walker, fields) : walker.statement(type, fields, TOP)
  requireAllMet(walker, fields)
  return walker.findings(output)
}

/** A statement that is no query: what is in it, and the objects it names. */
export interface UtilityFindings extends Findings {
  /** Every `RangeVar` outside of its queries, in the order of the tree. */
  readonly objects: readonly Ast[]
}

/**
 * Walks everything inside a statement that is no query itself: its queries as queries, its expressions with whatever names
 * they use, its types and functions. What the statement does with it is for its caller to say.
 *
 * @param names by which expressions in it may speak of rows, besides those of the relations it names.
 */
export function walkUtility(
  catalog: Catalog,
  type: string,
  fields: Ast,
  names: readonly string[] = [],
): UtilityFindings {
  const walker = newWalker(catalog)
  for (const shape of unknownShapes(type, fields)) walker.unknown(`${shape} is not understood`)
  for (const fn of indexOf(catalog).implicitCasts) walker.call(fn, 'cast')
  for (const fn of indexOf(catalog).comparisons) walker.call(fn, 'operator')
  const objects: Ast[] = []
  walker.onObject = (ref) => {
    walker.known.add(ref)
    objects.push(ref)
  }
  if (type === 'CopyStmt' && fields['query'] === undefined) walkCopy(walker, fields)
  else {
    const refs = relationRefs(fields).map((ref) => text(ref['relname']))
    // Expressions in it speak of tables that may not exist yet: any column is a column.
    const items = ['new', 'old', 'excluded', ...names, ...refs, undefined].map((name) =>
      derivedItem(name, undefined, []),
    )
    // A query of its own sees none of them.
    const { query: wrapped, ...rest } = QUERY_HOLDERS.has(type) ? fields : { ...fields, query: undefined }
    walker.expression(type, rest, { ...TOP, level: { items, parent: undefined } })
    const query = unwrap(wrapped)
    if (query !== undefined) walker.statement(query.type, query.fields, TOP)
  }
  requireAllMet(walker, fields)
  return { ...walker.findings(OPEN), objects }
}

/** Statements with a query that is run as it stands, in their field `query`. */
const QUERY_HOLDERS = new Set(['CopyStmt', 'CreateTableAsStmt', 'DeclareCursorStmt', 'PrepareStmt', 'ViewStmt'])

function newWalker(catalog: Catalog): Walker {
  return new Walker(catalog, { statement: walkStatement, expression: walkExpression })
}

/** The INTO of a SELECT, which stands in the first arm of a set operation. */
export function intoOf(fields: Ast): Ast | undefined {
  let at: Ast = fields
  while (at['larg'] !== undefined) at = asFields(at['larg'])
  return at['intoClause'] === undefined ? undefined : asFields(at['intoClause'])
}

/** INVARIANT: every relation in the tree was met. One that was not would be sent as it is, unmasked. */
function requireAllMet(walker: Walker, fields: Ast): void {
  for (const ref of relationRefs(fields)) if (!walker.known.has(ref)) walker.unknown('a relation was not met')
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
      if (walker.onObject === undefined) walker.unknown(`${type} is not understood`)
      else walker.expression(type, fields, context)
      return OPEN
  }
}

/** Every `RangeVar` in a tree, wrapped or bare, found by its shape alone. */
function relationRefs(value: unknown, found: Ast[] = []): readonly Ast[] {
  if (Array.isArray(value)) for (const item of value) relationRefs(item, found)
  else if (typeof value === 'object' && value !== null) {
    const node = value as Ast
    if (Object.hasOwn(node, 'relname')) found.push(node)
    for (const name in node) {
      // Constants hold none, and their values are read by nobody without a reason (`literal-watch.ts`).
      if (name === 'A_Const') continue
      const child = node[name]
      if (typeof child === 'object' && child !== null) relationRefs(child, found)
    }
  }
  return found
}
