/**
 * A short way through the conditions most rules have: comparisons of fields with constants, `in` over a list of texts,
 * and `!`, `&&`, `||` between them. It answers only where the answer cannot be in doubt, and leaves everything else
 * (other types, missing fields, other operators) to the CEL evaluator, which then evaluates the whole condition.
 *
 * INVARIANT: when it answers, the CEL evaluator would have answered the same. A property test holds the two together.
 *
 * @packageDocumentation
 */
import type { Expr } from '@bufbuild/cel-spec/cel/expr/syntax_pb.js'
import { rawList, type Facts } from './facts.ts'

/** `undefined` leaves the question to the CEL evaluator. */
export type Direct = (facts: Facts) => boolean | undefined

type Operand = (facts: Facts) => unknown

/** Compiles the expression when all of it has a short way. */
export function compileDirect(expr: Expr | undefined): Direct | undefined {
  const { exprKind } = expr ?? {}
  if (exprKind?.case === 'selectExpr' && !exprKind.value.testOnly) {
    const operand = operandOf(expr)
    return operand && ((facts) => truth(operand(facts)))
  }
  if (exprKind?.case !== 'callExpr' || exprKind.value.target !== undefined) return undefined
  const { function: name, args } = exprKind.value
  const [left, right] = args
  switch (name) {
    case '!_':
      return not(compileDirect(left))
    case '_&&_':
      return every(args.map(compileDirect))
    case '_||_':
      // a || b is !(!a && !b), also where one of them is undecided.
      return not(every(args.map((arg) => not(compileDirect(arg)))))
    case '_==_':
      return compared(left, right, (a, b) => a === b)
    case '_!=_':
      return compared(left, right, (a, b) => a !== b)
    case '_<_':
      return ordered(left, right, (a, b) => a < b)
    case '_<=_':
      return ordered(left, right, (a, b) => a <= b)
    case '_>_':
      return ordered(left, right, (a, b) => a > b)
    case '_>=_':
      return ordered(left, right, (a, b) => a >= b)
    case '@in':
      return membership(left, right)
    default:
      return undefined
  }
}

function truth(value: unknown): boolean | undefined {
  return typeof value === 'boolean' ? value : undefined
}

function not(operand: Direct | undefined): Direct | undefined {
  return (
    operand &&
    ((facts) => {
      const value = operand(facts)
      return value === undefined ? undefined : !value
    })
  )
}

/** False decides, whatever the others are (CEL: `false && error` is false); an undecided one before it does not. */
function every(operands: readonly (Direct | undefined)[]): Direct | undefined {
  const known = operands.filter((operand) => operand !== undefined)
  if (known.length < operands.length) return undefined
  return (facts) => {
    for (const operand of known) {
      const value = operand(facts)
      if (value !== true) return value
    }
    return true
  }
}

/** Equality of two values of one scalar type; any other pair has rules of its own in CEL. */
function compared(
  left: Expr | undefined,
  right: Expr | undefined,
  test: (a: unknown, b: unknown) => boolean,
): Direct | undefined {
  const a = operandOf(left)
  const b = operandOf(right)
  if (a === undefined || b === undefined) return undefined
  return (facts) => {
    const x = a(facts)
    const y = b(facts)
    const type = typeof x
    const isScalar = type === 'string' || type === 'boolean' || type === 'bigint'
    return isScalar && type === typeof y ? test(x, y) : undefined
  }
}

/** Order of two integers. */
function ordered(
  left: Expr | undefined,
  right: Expr | undefined,
  test: (a: bigint, b: bigint) => boolean,
): Direct | undefined {
  const a = operandOf(left)
  const b = operandOf(right)
  if (a === undefined || b === undefined) return undefined
  return (facts) => {
    const x = a(facts)
    const y = b(facts)
    return typeof x === 'bigint' && typeof y === 'bigint' ? test(x, y) : undefined
  }
}

function membership(left: Expr | undefined, right: Expr | undefined): Direct | undefined {
  const element = operandOf(left)
  const name = fieldName(right)
  if (element === undefined || name === undefined) return undefined
  const key = rawList(name)
  return (facts) => {
    const word = element(facts)
    const list: unknown = facts[key]
    return typeof word === 'string' && Array.isArray(list) ? list.includes(word) : undefined
  }
}

function operandOf(expr: Expr | undefined): Operand | undefined {
  const name = fieldName(expr)
  if (name !== undefined) return (facts) => facts[name]
  if (expr?.exprKind.case !== 'constExpr') return undefined
  const { constantKind } = expr.exprKind.value
  switch (constantKind.case) {
    case 'stringValue':
    case 'boolValue':
    case 'int64Value': {
      const { value } = constantKind
      return () => value
    }
    default:
      return undefined
  }
}

/** `part.has_where` of a field that stands under its qualified name in the facts. */
function fieldName(expr: Expr | undefined): string | undefined {
  if (expr?.exprKind.case !== 'selectExpr' || expr.exprKind.value.testOnly) return undefined
  const { operand, field } = expr.exprKind.value
  return operand?.exprKind.case === 'identExpr' ? `${operand.exprKind.value.name}.${field}` : undefined
}
