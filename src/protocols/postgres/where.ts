import { asList, eachChild, unwrap, type Ast } from './ast.ts'

/**
 * Whether a WHERE narrows anything down, judged without running it: `true`, `1 = 1`, `x = x`, `… or true` do not.
 *
 * Best effort by nature; a limit on rows is the stronger guard. It errs towards "no" only for what it can see through.
 */
export function hasEffectiveWhere(where: unknown): boolean {
  const one = unwrap(where)
  if (one === undefined) return false
  const { type, fields } = one
  if (type === 'BoolExpr') {
    const args = asList(fields['args'])
    return fields['boolop'] === 'OR_EXPR' ? args.every(hasEffectiveWhere) : args.some(hasEffectiveWhere)
  }
  if (type === 'A_Expr' && fields['kind'] === 'AEXPR_OP' && isSame(fields['lexpr'], fields['rexpr'])) return false
  return type === 'CurrentOfExpr' || mentionsColumn(type, fields)
}

function mentionsColumn(type: string, fields: Ast): boolean {
  if (type === 'ColumnRef') return true
  let found = false
  eachChild(type, fields, (childType, child) => {
    found ||= mentionsColumn(childType, child)
  })
  return found
}

function isSame(a: unknown, b: unknown): boolean {
  return a !== undefined && b !== undefined && isAlike(a, b)
}

/** Whether two trees are the same but for where they stand. */
function isAlike(a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b
  const [one, other] = [a as Ast, b as Ast]
  for (const key in one) if (key !== 'location' && !isAlike(one[key], other[key])) return false
  for (const key in other) if (key !== 'location' && !(key in one)) return false
  return true
}
