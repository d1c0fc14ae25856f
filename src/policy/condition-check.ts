/**
 * The type check of conditions. `@bufbuild/cel` evaluates CEL but checks little of it; a misspelt attribute would
 * then show only when a call waits, as a denial. Here it shows when the file is loaded, at its line and column.
 *
 * Allow-list: what is not in the tables below is refused, also where the evaluator would know it.
 *
 * @packageDocumentation
 */
import type { Expr } from '@bufbuild/cel-spec/cel/expr/syntax_pb.js'
import { nearest } from './problem.ts'
import { BOOL, BYTES, comparable, compatible, DOUBLE, DURATION, DYN, INT, isNumber, join } from './condition-types.ts'
import { NULL, renderKind, STRING, TIMESTAMP, TYPE, UINT, type CelKind } from './condition-types.ts'

/** Why a condition is refused, and at which of its nodes. */
export class ConditionError extends Error {
  readonly node: bigint

  constructor(node: bigint, message: string) {
    super(message)
    this.name = 'ConditionError'
    this.node = node
  }
}

/** What the check learns on its way. */
export interface Findings {
  /** Patterns of `matches`, compiled at load. */
  readonly patterns: Set<string>
  /** Fields read, such as `part.has_where`; those asked for with `has()` are in `guarded` too. */
  readonly reads: Set<string>
  readonly guarded: Set<string>
}

/** Larger conditions belong into several rules; the bound also bounds what one evaluation can cost. */
const NODES_MAX = 400
const DEPTH_MAX = 40

interface Scope {
  readonly variables: ReadonlyMap<string, CelKind>
  readonly findings: Findings
  readonly budget: { nodes: number }
  readonly depth: number
  /** Whether the expression stands inside the body of `all`, `exists`, `exists_one`, `map` or `filter`. */
  readonly inLoop: boolean
}

/** Returns the type of the expression. @throws ConditionError at the node that is wrong. */
export function checkExpression(
  expr: Expr | undefined,
  variables: ReadonlyMap<string, CelKind>,
  findings: Findings,
): CelKind {
  return check(expr, { variables, findings, budget: { nodes: NODES_MAX }, depth: 0, inLoop: false })
}

function check(expr: Expr | undefined, outer: Scope): CelKind {
  if (expr === undefined) throw new ConditionError(0n, 'The expression is incomplete.')
  const scope = { ...outer, depth: outer.depth + 1 }
  if (--scope.budget.nodes < 0) throw new ConditionError(expr.id, `The condition has more than ${NODES_MAX} nodes.`)
  if (scope.depth > DEPTH_MAX) throw new ConditionError(expr.id, `The condition is nested more than ${DEPTH_MAX} deep.`)
  const { exprKind } = expr
  switch (exprKind.case) {
    case 'constExpr':
      return constantKind(exprKind.value.constantKind.case, expr.id)
    case 'identExpr':
      return identifier(exprKind.value.name, expr.id, scope)
    case 'selectExpr':
      return select(expr.id, exprKind.value, scope)
    case 'callExpr':
      return call(expr.id, exprKind.value, scope)
    case 'listExpr': {
      const kinds = exprKind.value.elements.map((element) => check(element, scope))
      return { kind: 'list', element: kinds.length === 0 ? DYN : kinds.reduce(join) }
    }
    case 'structExpr':
      return struct(expr.id, exprKind.value, scope)
    case 'comprehensionExpr':
      return comprehension(expr.id, exprKind.value, scope)
    default:
      throw new ConditionError(expr.id, 'The expression is incomplete.')
  }
}

function constantKind(kind: string | undefined, id: bigint): CelKind {
  switch (kind) {
    case 'boolValue':
      return BOOL
    case 'int64Value':
      return INT
    case 'uint64Value':
      return UINT
    case 'doubleValue':
      return DOUBLE
    case 'stringValue':
      return STRING
    case 'bytesValue':
      return BYTES
    case 'nullValue':
      return NULL
    default:
      throw new ConditionError(id, 'This kind of constant is not supported.')
  }
}

const TYPE_NAMES = new Set(['bool', 'int', 'uint', 'double', 'string', 'bytes', 'list', 'map', 'null_type', 'type'])

function identifier(name: string, id: bigint, scope: Scope): CelKind {
  const variable = scope.variables.get(name)
  if (variable !== undefined) return variable
  if (TYPE_NAMES.has(name)) return TYPE
  const shown = [...scope.variables.keys()].filter((known) => !known.startsWith('@'))
  throw new ConditionError(id, `There is no "${name}" here; there are ${shown.join(', ')}.${nearest(name, shown)}`)
}

type Select = Extract<Expr['exprKind'], { case: 'selectExpr' }>['value']

function select(id: bigint, { operand, field, testOnly }: Select, scope: Scope): CelKind {
  const owner = check(operand, scope)
  const result = fieldKind(id, owner, field)
  if (owner.kind === 'object') {
    scope.findings.reads.add(`${owner.name}.${field}`)
    if (testOnly) scope.findings.guarded.add(`${owner.name}.${field}`)
  }
  return testOnly ? BOOL : result
}

function fieldKind(id: bigint, owner: CelKind, field: string): CelKind {
  if (owner.kind === 'dyn') return DYN
  if (owner.kind === 'map') return owner.value
  if (owner.kind !== 'object') throw new ConditionError(id, `A ${renderKind(owner)} has no fields such as "${field}".`)
  const found = owner.fields.get(field)
  if (found !== undefined) return found
  throw new ConditionError(
    id,
    `"${owner.name}" has no "${field}" for these actions; it has ${[...owner.fields.keys()].join(', ')}.` +
      nearest(field, owner.fields.keys()),
  )
}

type Struct = Extract<Expr['exprKind'], { case: 'structExpr' }>['value']

function struct(id: bigint, { messageName, entries }: Struct, scope: Scope): CelKind {
  if (messageName !== '') throw new ConditionError(id, 'Messages cannot be made in conditions.')
  const values = entries.map((entry) => {
    if (entry.keyKind.case !== 'mapKey' || entry.optionalEntry) throw new ConditionError(id, 'This is no map.')
    if (!compatible(check(entry.keyKind.value, scope), STRING)) {
      throw new ConditionError(id, 'The keys of a map are strings here.')
    }
    return check(entry.value, scope)
  })
  return { kind: 'map', value: values.length === 0 ? DYN : values.reduce(join) }
}

type Comprehension = Extract<Expr['exprKind'], { case: 'comprehensionExpr' }>['value']

/** A macro after its expansion. Its own variables are `@…`, which no condition can spell. */
function comprehension(id: bigint, fold: Comprehension, scope: Scope): CelKind {
  // A loop inside a loop costs the product of two lists whose lengths the caller chooses.
  if (scope.inLoop) throw new ConditionError(id, 'all, exists, exists_one, map and filter cannot be nested.')
  const range = check(fold.iterRange, scope)
  if (range.kind !== 'list' && range.kind !== 'map' && range.kind !== 'dyn') {
    throw new ConditionError(id, `Only lists and maps can be walked, not a ${renderKind(range)}.`)
  }
  if (scope.variables.has(fold.iterVar)) {
    throw new ConditionError(id, `"${fold.iterVar}" is taken; choose another name for the element.`)
  }
  const element = range.kind === 'list' ? range.element : range.kind === 'map' ? STRING : DYN
  const accumulator = check(fold.accuInit, scope)
  const loop: Scope = {
    ...scope,
    inLoop: true,
    variables: new Map([...scope.variables, [fold.iterVar, element], [fold.accuVar, accumulator]]),
  }
  check(fold.loopCondition, loop)
  check(fold.loopStep, loop)
  return check(fold.result, { ...scope, variables: new Map([...scope.variables, [fold.accuVar, accumulator]]) })
}

type Call = Extract<Expr['exprKind'], { case: 'callExpr' }>['value']

function call(id: bigint, { function: name, target, args }: Call, scope: Scope): CelKind {
  const operands = [...(target === undefined ? [] : [target]), ...args]
  const kinds = operands.map((operand) => check(operand, scope))
  const [first = DYN, second = DYN, third = DYN] = kinds
  const fail = (): never => {
    const shown = kinds.map(renderKind).join(', ')
    throw new ConditionError(id, `${operatorName(name)} cannot be used on (${shown}).`)
  }
  const takes = (wanted: CelKind): CelKind => (kinds.every((kind) => compatible(kind, wanted)) ? BOOL : fail())
  switch (name) {
    case '_&&_':
    case '_||_':
    case '!_':
    case '@not_strictly_false':
      return takes(BOOL)
    case '_?_:_':
      return compatible(first, BOOL) ? join(second, third) : fail()
    case '_==_':
    case '_!=_':
      // Comparing what can never be equal is a mistake that would read as "false": a string with a number, say.
      return comparable(first, second) ? BOOL : fail()
    case '_<_':
    case '_<=_':
    case '_>_':
    case '_>=_':
      return comparable(first, second) && [first, second].every(isOrdered) ? BOOL : fail()
    case '@in':
      return membership(first, second) ? BOOL : fail()
    case '_[_]':
      return index(first, second) ?? fail()
    case '_+_':
      return addition(first, second) ?? fail()
    case '_-_':
    case '_*_':
    case '_/_':
      return arithmetic(first, second, isNumber) ?? fail()
    case '_%_':
      return arithmetic(first, second, (kind) => kind.kind === 'int' || kind.kind === 'uint') ?? fail()
    case '-_':
      return first.kind === 'int' || first.kind === 'double' || first.kind === 'dyn' ? first : fail()
    case 'matches':
      return matches(id, operands, kinds, scope)
    default:
      return knownFunction(id, name, target !== undefined, kinds, fail)
  }
}

function isOrdered(kind: CelKind): boolean {
  return isNumber(kind) || ['string', 'bytes', 'bool', 'timestamp', 'duration', 'dyn'].includes(kind.kind)
}

function membership(element: CelKind, container: CelKind): boolean {
  if (container.kind === 'dyn') return true
  if (container.kind === 'map') return compatible(element, STRING)
  return container.kind === 'list' && comparable(element, container.element)
}

function index(container: CelKind, key: CelKind): CelKind | undefined {
  if (container.kind === 'dyn') return DYN
  if (container.kind === 'map') return compatible(key, STRING) ? container.value : undefined
  return container.kind === 'list' && compatible(key, INT) ? container.element : undefined
}

function addition(a: CelKind, b: CelKind): CelKind | undefined {
  if (a.kind === 'list' && b.kind === 'list') return join(a, b)
  return arithmetic(a, b, (kind) => isNumber(kind) || kind.kind === 'string')
}

function arithmetic(a: CelKind, b: CelKind, fits: (kind: CelKind) => boolean): CelKind | undefined {
  if (![a, b].every((kind) => kind.kind === 'dyn' || fits(kind))) return undefined
  if (a.kind === 'dyn') return b
  return b.kind === 'dyn' || a.kind === b.kind ? a : undefined
}

/** Only literal patterns: a pattern is the policy's to choose, and is then compiled once, at load. */
function matches(id: bigint, operands: readonly Expr[], kinds: readonly CelKind[], scope: Scope): CelKind {
  const pattern = operands[1]?.exprKind
  if (kinds.length !== 2 || !kinds.every((kind) => compatible(kind, STRING))) {
    throw new ConditionError(id, 'matches() is used as text.matches("pattern").')
  }
  if (pattern?.case !== 'constExpr' || pattern.value.constantKind.case !== 'stringValue') {
    throw new ConditionError(id, 'The pattern of matches() must be written out.')
  }
  scope.findings.patterns.add(pattern.value.constantKind.value)
  return BOOL
}

const TEXT_TESTS = new Set(['contains', 'startsWith', 'endsWith'])
const CALENDAR = new Set(['getFullYear', 'getMonth', 'getDate', 'getDayOfMonth', 'getDayOfWeek', 'getDayOfYear'])
const CLOCK = new Set(['getHours', 'getMinutes', 'getSeconds', 'getMilliseconds'])
const CONVERSIONS: ReadonlyMap<string, readonly [result: CelKind, from: readonly string[]]> = new Map([
  ['int', [INT, ['int', 'uint', 'double', 'string', 'timestamp', 'duration']]],
  ['uint', [UINT, ['uint', 'int', 'double', 'string']]],
  ['double', [DOUBLE, ['double', 'int', 'uint', 'string']]],
  ['string', [STRING, ['string', 'bool', 'int', 'uint', 'double', 'bytes', 'timestamp', 'duration']]],
  ['bool', [BOOL, ['bool', 'string']]],
  ['timestamp', [TIMESTAMP, ['timestamp', 'string']]],
  ['duration', [DURATION, ['duration', 'string']]],
])

function knownFunction(
  id: bigint,
  name: string,
  isMethod: boolean,
  kinds: readonly CelKind[],
  fail: () => never,
): CelKind {
  const [first = DYN, second = DYN] = kinds
  const one = kinds.length === 1
  if (name === 'size' && one) {
    return ['string', 'bytes', 'list', 'map', 'dyn'].includes(first.kind) ? INT : fail()
  }
  if (TEXT_TESTS.has(name) && isMethod && kinds.length === 2) {
    return compatible(first, STRING) && compatible(second, STRING) ? BOOL : fail()
  }
  if ((CALENDAR.has(name) || CLOCK.has(name)) && isMethod && kinds.length <= 2) {
    if (!one && !compatible(second, STRING)) return fail()
    return compatible(first, TIMESTAMP) || (one && CLOCK.has(name) && first.kind === 'duration') ? INT : fail()
  }
  if (name === 'dyn' && one && !isMethod) return DYN
  if (name === 'type' && one && !isMethod) return TYPE
  const conversion = CONVERSIONS.get(name)
  if (conversion !== undefined && one && !isMethod) {
    return first.kind === 'dyn' || conversion[1].includes(first.kind) ? conversion[0] : fail()
  }
  const known = ['size', 'has', 'matches', ...TEXT_TESTS, ...CALENDAR, ...CLOCK, ...CONVERSIONS.keys()]
  throw new ConditionError(id, `There is no function "${name}" that fits here.${nearest(name, known)}`)
}

function operatorName(name: string): string {
  return name === '@in' ? 'in' : name === '_?_:_' ? '? :' : name.replaceAll('_', '') || name
}
