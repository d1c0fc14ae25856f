/**
 * What a statement runs: functions, operators, casts and the functions behind types.
 *
 * @packageDocumentation
 */
import { asList, text, unwrap, words, type Ast } from '../ast.ts'
import { findRelation, type CatalogFunction } from '../catalog.ts'
import { functionsOf, isBuiltin, judgeFunction, makesJson, makesRows } from '../functions.ts'
import { indexOf, rowFunctions, TRUSTED_OPERATOR_EXTENSIONS } from '../indexes.ts'
import { isReadableSetting } from '../settings.ts'
import { asFields } from './context.ts'
import type { SettingChange } from './findings.ts'
import type { Walker } from './walker.ts'

/** `row.name` where `name` is no column may be a call of the function `name`; says whether it is. */
export function callAttribute(walk: Walker, name: string): boolean {
  if ((walk.catalog.functionsByName.get(name) ?? []).length === 0) return false
  const verdict = judgeFunction(walk.catalog, undefined, name, 1)
  if (verdict.unknown !== undefined && walk.hasUserFunction(name)) walk.unknown(verdict.unknown)
  for (const fn of verdict.calls) walk.call(fn, 'attribute')
  return verdict.unknown === undefined
}

/** What makes JSON of a value looks for a cast of its type by itself. */
export function callJson(walk: Walker, names: readonly string[]): void {
  for (const fn of indexOf(walk.catalog).jsonCasts) walk.call(fn, 'cast')
  refuseOlderNames(walk, names)
}

/** Grammar of newer servers; to an older one the same text is a call of a function that a user may have made. */
export function refuseOlderNames(walk: Walker, names: readonly string[]): void {
  for (const name of names) if (walk.hasUserFunction(name)) walk.unknown(`${name} may be a function of a user`)
}

/** A call by name: `f(…)`. */
export function walkFunctionCall(walk: Walker, fields: Ast): void {
  if (walk.explained.has(fields)) return
  const name = words(fields['funcname'])
  const last = name?.at(-1)
  if (name === undefined || last === undefined || name.length > 2) {
    walk.unknown('a function name is not understood')
    return
  }
  const isFlexible = fields['func_variadic'] === true || fields['agg_within_group'] === true
  const args = asList(fields['args'])
  const verdict = judgeFunction(
    walk.catalog,
    name.length === 2 ? name[0] : undefined,
    last,
    isFlexible ? undefined : args.length,
  )
  if (last === 'set_config' && !isFlexible && !walk.hasUserFunction(last) && walk.onObject === undefined) {
    const change = settingChange(args)
    if (change !== undefined) {
      walk.settings.push(change)
      return
    }
  }
  if (verdict.unknown !== undefined) walk.unknown(verdict.unknown)
  if (last.startsWith('pg_stat_get_') || SIZE_FUNCTIONS.has(last)) walk.readsCounters = true
  if (makesJson(last)) callJson(walk, [])
  if (makesRows(last)) for (const fn of indexOf(walk.catalog).typeFunctions) walk.call(fn, 'type')
  for (const fn of verdict.calls) {
    if (isBuiltin(fn) && last === 'current_setting' && readsPlainSetting(args)) continue
    walk.call(fn, '', verdict.refusedUnderMasks)
  }
}

/** Functions that tell how many bytes a table or an index has. */
const SIZE_FUNCTIONS = new Set(['pg_relation_size', 'pg_total_relation_size', 'pg_table_size', 'pg_indexes_size'])

/** The operators behind an `A_Expr`, whose kind may stand for several. */
export function walkOperatorOf(walk: Walker, fields: Ast): void {
  switch (fields['kind']) {
    case 'AEXPR_BETWEEN':
    case 'AEXPR_NOT_BETWEEN':
    case 'AEXPR_BETWEEN_SYM':
    case 'AEXPR_NOT_BETWEEN_SYM':
      for (const name of ['<', '<=', '>', '>=']) callOperator(walk, undefined, name)
      return
    default:
      walkOperator(walk, fields['name'])
  }
}

/** An operator by its written name. */
export function walkOperator(walk: Walker, list: unknown): void {
  if (asList(list).length === 0) return
  const name = words(list)
  const last = name?.at(-1)
  if (name === undefined || last === undefined || name.length > 2) walk.unknown('an operator is not understood')
  else callOperator(walk, name.length === 2 ? name[0] : undefined, last)
}

/** An operator by name, in every schema unless one is given: who made it runs. */
export function callOperator(walk: Walker, schema: string | undefined, name: string): void {
  for (const operator of indexOf(walk.catalog).operators.get(name) ?? []) {
    if (schema !== undefined && operator.schema !== schema) continue
    const [fn] = functionsOf(walk.catalog, [operator.functionOid])
    if (fn === undefined) walk.unknown(`operator ${name} was made by a user`)
    else if (!isBuiltin(fn)) walk.call(fn, 'operator')
    else callBuiltin(walk, fn)
  }
}

/** A built-in function reached through something a user made: judged like a call of it by name. */
function callBuiltin(walk: Walker, fn: CatalogFunction): void {
  const verdict = judgeFunction(walk.catalog, fn.schema, fn.name, undefined)
  if (verdict.unknown !== undefined) walk.unknown(verdict.unknown)
  for (const call of verdict.calls) walk.call(call, 'operator', verdict.refusedUnderMasks)
}

/** A type by name: making a value of it may run what its maker wrote. */
export function walkTypeName(walk: Walker, fields: Ast): void {
  const name = words(fields['names'])
  const last = name?.at(-1)
  if (name === undefined || last === undefined || name.length > 2) {
    walk.unknown('a type name is not understood')
    return
  }
  const schema = name.length === 2 ? name[0] : undefined
  // A row type holds values of its columns' types, so that making one may run any of their checks.
  const row = findRelation(walk.catalog, schema, last.replace(/^_+/, ''))
  if (row?.builtin === false) for (const fn of rowFunctions(walk.catalog, row)) walk.call(fn, 'type')
  // `_x` is what PostgreSQL calls the array type of `x`.
  for (const type of indexOf(walk.catalog).typesByName.get(last.replace(/^_+/, '')) ?? []) {
    if (schema !== undefined && type.schema !== schema) continue
    if (type.extension !== null && TRUSTED_OPERATOR_EXTENSIONS.has(type.extension)) continue
    // A range or multirange holds values of another type, whatever that one checks.
    if (type.kind === 'r' || type.kind === 'm') {
      for (const fn of indexOf(walk.catalog).typeFunctions) walk.call(fn, 'type')
    }
    for (const fn of functionsOf(walk.catalog, type.functionOids)) walk.call(fn, 'type')
  }
}

/**
 * The one query by which `set_config` may be told the name of a setting out of a table, which is how `pg_dump` asks for a
 * setting that older servers do not have: `SELECT set_config(name, 'value', false) FROM pg_settings WHERE name = 'setting'`.
 * Its condition names the setting.
 */
export function explainNamedSetting(walk: Walker, fields: Ast): void {
  const targets = asList(fields['targetList'])
  const sources = asList(fields['fromClause'])
  const call = unwrap(unwrap(targets[0])?.fields['val'])
  const table = unwrap(sources[0])
  const where = unwrap(fields['whereClause'])
  if (targets.length !== 1 || sources.length !== 1 || Object.keys(fields).some((key) => !ONE_SETTING.has(key))) return
  if (call?.type !== 'FuncCall' || table?.type !== 'RangeVar' || where?.type !== 'A_Expr') return
  if (words(call.fields['funcname'])?.at(-1) !== 'set_config' || walk.hasUserFunction('set_config')) return
  if (walk.onObject !== undefined || text(table.fields['relname']) !== 'pg_settings') return
  const schema = table.fields['schemaname'] === undefined ? undefined : text(table.fields['schemaname'])
  if (findRelation(walk.catalog, schema, 'pg_settings')?.builtin !== true || table.fields['alias'] !== undefined) return
  const args = asList(call.fields['args'])
  const setting = unwrap(where.fields['rexpr'])
  const isNamed = isNameColumn(args[0]) && isNameColumn(where.fields['lexpr'])
  if (!isNamed || where.fields['kind'] !== 'AEXPR_OP' || words(where.fields['name'])?.join('.') !== '=') return
  const change = settingChange([where.fields['rexpr'], ...args.slice(1)])
  if (
    change === undefined ||
    setting?.type !== 'A_Const' ||
    Object.keys(call.fields).some((key) => !PLAIN_CALL.has(key))
  )
    return
  walk.explained.add(call.fields)
  walk.settings.push(change)
}

/** What such a query consists of; anything more makes it another one. */
const ONE_SETTING = new Set(['targetList', 'fromClause', 'whereClause', 'limitOption', 'op'])
const PLAIN_CALL = new Set(['funcname', 'args', 'funcformat', 'location'])

function isNameColumn(wrapped: unknown): boolean {
  const one = unwrap(wrapped)
  return one?.type === 'ColumnRef' && words(one.fields['fields'])?.join('.') === 'name'
}

/** What a call of `set_config` changes, when it says so in constants; only what the setting becomes may be a parameter. */
function settingChange(args: readonly unknown[]): SettingChange | undefined {
  const [name, value, local] = args.map((arg) => unwrap(arg))
  if (args.length !== 3 || [name, local].some((one) => one?.type !== 'A_Const')) return undefined
  const named = asFields(name?.fields['sval'])['sval']
  const given = givenValue(value)
  const isLocal =
    local?.fields['boolval'] === undefined ? undefined : asFields(local.fields['boolval'])['boolval'] === true
  if (typeof named !== 'string' || given === undefined || isLocal === undefined) return undefined
  return { name: named, value: given, isLocal }
}

function givenValue(value: ReturnType<typeof unwrap>): SettingChange['value'] | undefined {
  if (value?.type === 'ParamRef') {
    return typeof value.fields['number'] === 'number' ? { param: value.fields['number'] } : undefined
  }
  if (value?.type !== 'A_Const' || value.fields['sval'] === undefined) return undefined
  // An empty text is left out by the parser.
  const given = asFields(value.fields['sval'])['sval'] ?? ''
  return typeof given === 'string' ? given : undefined
}

function readsPlainSetting(args: readonly unknown[]): boolean {
  const constant = unwrap(args[0])
  const value = asFields(constant?.fields['sval'])['sval']
  return constant?.type === 'A_Const' && typeof value === 'string' && isReadableSetting(value)
}
