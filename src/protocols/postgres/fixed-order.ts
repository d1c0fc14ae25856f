/**
 * Whether a SELECT gives the same rows in the same order however they were found.
 *
 * Rows found by an index over a masked column come in an order that tells how masked values compare, so such statements
 * are run without index scans (`pins.ts`). Where what was asked for leaves nothing to that order, they need not be: one
 * table, ordered by all of its primary key; or one row of aggregates that come out the same in any order.
 *
 * Only what is listed here counts. An expression that may fail could tell which rows were looked at before a LIMIT was
 * reached, one with state (`setseed` and `random`) in which order; so there are comparisons and nothing else.
 *
 * @packageDocumentation
 */
import { asList, eachChild, text, unwrap, words, type Ast } from './ast.ts'
import type { Effects } from './effects.ts'
import type { BoundMasks } from './masks.ts'
import type { Use } from './scope.ts'
import { asFields } from './walk/context.ts'
import type { Findings } from './walk/findings.ts'

/** Whether the order of a SELECT's rows, and which there are, follows from its text and what masks show. */
export function hasFixedOrder(select: Ast, findings: Findings, effects: Effects, masks: BoundMasks): boolean {
  const [use] = findings.uses
  if (use === undefined || findings.uses.length > 1 || !isPlainTable(use)) return false
  if (findings.functions.length > 0 || effects.functions.length > 0 || effects.sideEffects.length > 0) return false
  for (const clause in select) if (!CLAUSES.has(clause)) return false
  const name = plainName(select['fromClause'])
  if (name === undefined || ![select['whereClause'], select['limitCount'], select['limitOffset']].every(isHarmless))
    return false
  const targets = asList(select['targetList']).map((target) => asFields(unwrap(target)?.fields))
  if (isOneRow(targets, select, use)) return true
  return targets.every(({ val }) => isHarmless(val)) && isOrderedByKey(select, targets, name, use, masks)
}

/** Clauses of a SELECT that are looked at. */
const CLAUSES = new Set([
  'targetList',
  'fromClause',
  'whereClause',
  'sortClause',
  'limitCount',
  'limitOffset',
  'limitOption',
  'op',
])

/** One that has its rows, and all that is unique in them, to itself. */
function isPlainTable({ relation, role, locked, sampled, system }: Use): boolean {
  const { kind, children, hasRls } = relation
  return (
    kind === 'table' && role === 'read' && children.length === 0 && !hasRls && !locked && !sampled && system.size === 0
  )
}

/** The name of the only relation in FROM, whose columns have their own names. */
function plainName(from: unknown): string | undefined {
  const list = asList(from)
  const one = unwrap(list[0])
  if (list.length !== 1 || one?.type !== 'RangeVar') return undefined
  const alias = one.fields['alias']
  if (alias === undefined) return text(one.fields['relname'])
  return asFields(alias)['colnames'] === undefined ? text(asFields(alias)['aliasname']) : undefined
}

const LEAVES = new Set(['ColumnRef', 'A_Const', 'ParamRef'])
const COMPARISONS = new Set(['=', '<>', '!=', '<', '>', '<=', '>='])
const KINDS = new Set(['AEXPR_OP', 'AEXPR_OP_ANY', 'AEXPR_IN', 'AEXPR_BETWEEN', 'AEXPR_NOT_BETWEEN'])

/** Whether it fails for no row and remembers none. */
function isHarmless(value: unknown): boolean {
  const one = unwrap(value)
  if (one === undefined) return true
  const { type, fields } = one
  if (LEAVES.has(type)) return true
  switch (type) {
    case 'BoolExpr':
    case 'NullTest':
    case 'BooleanTest':
    case 'List':
    case 'A_ArrayExpr': {
      let isFine = true
      eachChild(type, fields, (childType, child) => (isFine &&= isHarmless({ [childType]: child })))
      return isFine
    }
    case 'TypeCast': {
      // A constant is cast once, before there are rows.
      const cast = unwrap(fields['arg'])?.type
      return cast === 'A_Const' || cast === 'ParamRef'
    }
    case 'A_Expr': {
      const name = words(fields['name'])
      const isKnown = KINDS.has(text(fields['kind'])) && name?.length === 1
      // BETWEEN is not written with an operator.
      const isComparison = COMPARISONS.has(name?.[0] ?? '') || text(fields['kind']).endsWith('BETWEEN')
      return isKnown && isComparison && isHarmless(fields['lexpr']) && isHarmless(fields['rexpr'])
    }
    default:
      return false
  }
}

/** Aggregates that come out the same in any order: of whole numbers, because those are equal only to themselves. */
const AGGREGATES = new Set(['min', 'max', 'sum'])
const WHOLE_NUMBERS = new Set(['smallint', 'integer', 'bigint'])

function isOneRow(targets: readonly Ast[], select: Ast, { relation }: Use): boolean {
  if (targets.length === 0 || select['sortClause'] !== undefined) return false
  return targets.every(({ val }) => {
    const one = unwrap(val)
    if (one?.type !== 'FuncCall') return false
    for (const field in one.fields) if (!CALL_FIELDS.has(field)) return false
    const name = words(one.fields['funcname']) ?? []
    const bare = name.length === 2 && name[0] === 'pg_catalog' ? name[1] : name.length === 1 ? name[0] : undefined
    const [arg, ...others] = asList(one.fields['args'])
    const ref = unwrap(arg)
    if (bare === 'count') return arg === undefined || (others.length === 0 && ref?.type === 'ColumnRef')
    if (bare === undefined || !AGGREGATES.has(bare) || others.length > 0 || ref?.type !== 'ColumnRef') return false
    const path = words(ref.fields['fields'])
    const column = relation.columns.find((each) => each.name === path?.at(-1))
    return column !== undefined && WHOLE_NUMBERS.has(column.type)
  })
}

const CALL_FIELDS = new Set(['funcname', 'args', 'agg_star', 'funcformat', 'location'])

function isOrderedByKey(select: Ast, targets: readonly Ast[], name: string, use: Use, masks: BoundMasks): boolean {
  const { primaryKey, oid } = use.relation
  const hidden = masks.byRelation.get(oid)
  // Masks are equal where values are not.
  if (primaryKey.length === 0 || primaryKey.some((column) => hidden?.has(column) === true)) return false
  const sorted = new Set(asList(select['sortClause']).flatMap((entry) => sortColumn(entry, name, targets) ?? []))
  return primaryKey.every((column) => sorted.has(column))
}

/** The column of the table an entry of ORDER BY means for certain. */
function sortColumn(entry: unknown, name: string, targets: readonly Ast[]): string | undefined {
  const sort = unwrap(entry)
  if (sort?.type !== 'SortBy' || sort.fields['useOp'] !== undefined) return undefined
  const ref = unwrap(sort.fields['node'])
  const path = ref?.type === 'ColumnRef' ? words(ref.fields['fields']) : undefined
  if (path?.length === 2) return path[0] === name ? path[1] : undefined
  const [column] = path ?? []
  if (path?.length !== 1 || column === undefined) return undefined
  // A bare name is first of all that of a result column, which may show something else.
  return targets.every((target) => isNoOther(target, column)) ? column : undefined
}

/** Whether a result column does not have that name, or is the column of that name. */
function isNoOther({ name, val }: Ast, column: string): boolean {
  const ref = unwrap(val)
  const last = ref?.type === 'ColumnRef' ? unwrap(asList(ref.fields['fields']).at(-1)) : undefined
  if (last?.type === 'A_Star') return true
  const shows = last?.type === 'String' ? text(last.fields['sval']) : undefined
  if (name === undefined) return shows !== undefined
  return name !== column || shows === column
}
