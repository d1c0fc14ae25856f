import { asList, eachChild, text, unwrap, type Ast } from '../ast.ts'
import { indexOf } from '../indexes.ts'
import { walkColumnRef } from './columns.ts'
import {
  callAttribute,
  callJson,
  callOperator,
  refuseOlderNames,
  walkFunctionCall,
  walkOperator,
  walkOperatorOf,
  walkTypeName,
} from './code.ts'
import type { Context } from './context.ts'
import type { Walker } from './walker.ts'

/** Walks one node in an expression: what it has no special word for is descended into, so nothing is skipped. */
export function walkExpression(walk: Walker, type: string, fields: Ast, context: Context): void {
  let inner = context
  switch (type) {
    case 'ColumnRef':
      walkColumnRef(walk, fields, context)
      return
    case 'SelectStmt':
    case 'InsertStmt':
    case 'UpdateStmt':
    case 'DeleteStmt':
    case 'MergeStmt':
      walk.statement(type, fields, context)
      return
    case 'RangeVar':
      if (walk.onObject === undefined) walk.unknown('a relation where an expression was expected')
      else walk.onObject(fields)
      return
    case 'CurrentOfExpr':
      walk.cursors.add(text(fields['cursor_name']))
      if (fields['cursor_param'] !== undefined) walk.unknown('a cursor that is a parameter')
      return
    case 'ParamRef':
      walk.paramsMax = Math.max(walk.paramsMax, typeof fields['number'] === 'number' ? fields['number'] : 0)
      return
    case 'FuncCall':
      walkFunctionCall(walk, fields)
      break
    case 'JsonArrayConstructor':
    case 'JsonArrayQueryConstructor':
    case 'JsonArrayAgg':
    case 'JsonFuncExpr':
    case 'JsonParseExpr':
    case 'JsonObjectAgg':
    case 'JsonObjectConstructor':
    case 'JsonScalarExpr':
    case 'JsonSerializeExpr':
    case 'JsonTable':
      callJson(walk, OLDER_NAMES.get(type) ?? [])
      break
    case 'MergeSupportFunc':
      refuseOlderNames(walk, ['merge_action'])
      break
    case 'A_Expr':
      walkOperatorOf(walk, fields)
      break
    case 'SubLink':
      if (fields['operName'] !== undefined) walkOperator(walk, fields['operName'])
      else if (fields['subLinkType'] === 'ANY_SUBLINK') callOperator(walk, undefined, '=')
      // EXISTS compares nothing of what its query shows.
      if (fields['subLinkType'] === 'EXISTS_SUBLINK') inner = { ...context, isPredicate: false }
      break
    case 'SortBy':
      walkOperator(walk, fields['useOp'])
      break
    case 'CaseExpr':
      if (fields['arg'] !== undefined) callOperator(walk, undefined, '=')
      break
    case 'TypeCast':
      for (const fn of indexOf(walk.catalog).explicitCasts) walk.call(fn, 'cast')
      break
    case 'TypeName':
      walkTypeName(walk, fields)
      break
    case 'A_Indirection':
      for (const step of asList(fields['indirection'])) {
        const field = unwrap(step)
        if (field?.type === 'String') callAttribute(walk, text(field.fields['sval']))
      }
      break
    default:
      break
  }
  eachChild(type, fields, (childType, child) => walk.expression(childType, child, inner))
}

/** Function names that became grammar in PostgreSQL 16 and 17. */
const OLDER_NAMES: ReadonlyMap<string, readonly string[]> = new Map([
  ['JsonArrayConstructor', ['json_array']],
  ['JsonArrayQueryConstructor', ['json_array']],
  ['JsonArrayAgg', ['json_arrayagg']],
  ['JsonFuncExpr', ['json_exists', 'json_query', 'json_value']],
  ['JsonObjectAgg', ['json_objectagg']],
  ['JsonParseExpr', ['json']],
  ['JsonObjectConstructor', ['json_object']],
  ['JsonScalarExpr', ['json_scalar']],
  ['JsonSerializeExpr', ['json_serialize']],
  ['JsonTable', ['json_table']],
])
