/**
 * What of a statement cannot be taken back by rolling it back, or nobody can say of it. Pure.
 *
 * Fail closed: only code of PostgreSQL itself that changes nothing runs in a preview; whatever else the statement or the
 * catalog would run is a reason to have none.
 *
 * @packageDocumentation
 */
import { eachChild, unwrap, words, type Ast } from '../ast.ts'
import type { Catalog, CatalogFunction, Relation } from '../catalog.ts'
import { effectsOf, type Effects } from '../effects.ts'
import { isBuiltin } from '../functions.ts'
import { functionName, resourceName } from '../names.ts'
import { parse } from '../parse.ts'
import type { PostgresPlan } from '../plan-types.ts'
import type { Use } from '../scope.ts'
import { walk } from '../walk/walk.ts'
import type { Findings } from '../walk/findings.ts'

/** What a preview needs to know of a statement, or why there is none. */
export type Understood =
  | {
      readonly kind: 'understood'
      readonly target: Use
      readonly effects: Effects
      readonly isTimeless: boolean
      readonly readsOthers: boolean
    }
  | { readonly kind: 'nothing' }
  | { readonly kind: 'none'; readonly why: string }

const WRITES: ReadonlyMap<string, string> = new Map([
  ['UpdateStmt', 'update'],
  ['DeleteStmt', 'delete'],
  ['InsertStmt', 'insert'],
])

/** Reads the statement that will be sent. */
export function understand(plan: PostgresPlan, catalog: Catalog): Understood {
  if (plan.statements !== undefined) return none('several statements in one call are not previewed')
  if (plan.kind === 'unknown') return none('the statement is not understood')
  if (plan.readOnly) return { kind: 'nothing' }
  const parsed = parse(plan.sql)
  const statement = parsed.ok ? unwrap(parsed.statements[0]?.['stmt']) : undefined
  if (statement === undefined || !WRITES.has(statement.type)) {
    return none(`${plan.kind === 'utility' ? 'a statement of this kind' : `a ${plan.kind} statement`} is not previewed`)
  }
  const { type, fields } = statement
  const findings = walk(catalog, type, fields)
  const effects = effectsOf(catalog, findings.uses)
  const why =
    escapesOfRelations(catalog, findings, effects) ??
    escapesOfCode(catalog, type, fields) ??
    escapesOfFunctions(findings, effects)
  if (why !== undefined) return none(why)
  const [target, other] = findings.uses.filter(({ writes }) => writes.size > 0)
  if (target === undefined || other !== undefined) return none('it writes in more than one place')
  const readsOthers = findings.uses.length > 1
  return { kind: 'understood', target, effects, isTimeless: isTimeless(catalog, type, fields), readsOthers }
}

function none(why: string): Understood {
  return { kind: 'none', why }
}

/** Relations that are more than rows: elsewhere, behind rules or policies, or with code of users on them. */
function escapesOfRelations(catalog: Catalog, findings: Findings, effects: Effects): string | undefined {
  const met = [...findings.uses.map(({ relation }) => relation), ...effects.changes.map(({ relation }) => relation)]
  for (const relation of below(catalog, met)) {
    if (relation.kind === 'foreign_table') return `${resourceName(relation)} lies in another database`
    // Its function may do anything, and whoever reads the view runs it.
    if (relation.hasRules) return `${resourceName(relation)} has rules`
  }
  for (const { relation } of effects.changes) {
    const name = resourceName(relation)
    if (relation.kind !== 'table' && relation.kind !== 'partitioned_table') return `${name} is no table`
    if (relation.builtin) return `${name} is a system catalog`
    if (relation.hasRls) return `${name} has row security`
    if (relation.foreignKeys.some((key) => key.onDelete === 'set_default' || key.onUpdate === 'set_default')) {
      return `a foreign key of ${name} sets defaults`
    }
  }
  const [effect] = effects.sideEffects
  if (effect === undefined) return undefined
  const { fn, via, relation } = effect
  return `writing ${resourceName(relation)} runs ${functionName(fn)} (${via}), and what that does may escape a rollback`
}

/** The relations and everything their views are made of. */
function below(catalog: Catalog, relations: readonly Relation[]): ReadonlySet<Relation> {
  const seen = new Set<Relation>()
  const queue = [...relations]
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    if (seen.has(at)) continue
    seen.add(at)
    for (const oid of [...at.dependsOn, ...at.children]) {
      const next = catalog.relationsByOid.get(oid)
      if (next !== undefined) queue.push(next)
    }
  }
  return seen
}

/** Functions named in the text. A name stands for all its overloads. */
function escapesOfCode(catalog: Catalog, type: string, fields: Ast): string | undefined {
  if (type === 'SetToDefault') return 'it sets a column to its default, which may take a number of a sequence'
  if (type === 'FuncCall') {
    const bad = candidates(catalog, fields).find((fn) => !isBuiltin(fn) || fn.volatility === 'volatile')
    if (bad !== undefined) return `it calls ${functionName(bad)}, whose effects may escape a rollback`
  }
  let found: string | undefined
  eachChild(type, fields, (inner, of) => (found ??= escapesOfCode(catalog, inner, of)))
  return found
}

/** Functions the catalog adds: behind operators, casts, types, views and triggers. Triggers were judged with their tables. */
function escapesOfFunctions(findings: Findings, effects: Effects): string | undefined {
  const said = new Set(effects.sideEffects.map(({ fn }) => fn.oid))
  const bad = [...findings.functions, ...effects.functions].find(
    ({ fn, via }) => via !== 'trigger' && !said.has(fn.oid) && (!isBuiltin(fn) || fn.volatility === 'volatile'),
  )
  return bad === undefined ? undefined : `it runs ${functionName(bad.fn)}, whose effects may escape a rollback`
}

/** Whether the statement means the same at another time: no clock, and nothing that is only stable in a transaction. */
function isTimeless(catalog: Catalog, type: string, fields: Ast): boolean {
  if (type === 'SQLValueFunction') return false
  if (type === 'FuncCall' && candidates(catalog, fields).some((fn) => fn.volatility !== 'immutable')) return false
  let timeless = true
  eachChild(type, fields, (inner, of) => (timeless &&= isTimeless(catalog, inner, of)))
  return timeless
}

function candidates(catalog: Catalog, fields: Ast): readonly CatalogFunction[] {
  const name = words(fields['funcname'])?.at(-1)
  return name === undefined ? [] : (catalog.functionsByName.get(name) ?? [])
}

/** Whether the text of a column's default can be tried without a trace. */
export function escapesOfDefault(catalog: Catalog, expression: string): string | undefined {
  const parsed = parse(`SELECT ${expression}`)
  const statement = parsed.ok && parsed.statements.length === 1 ? unwrap(parsed.statements[0]?.['stmt']) : undefined
  if (statement === undefined) return 'a default is not understood'
  return escapesOfCode(catalog, statement.type, statement.fields)
}

/** Columns an INSERT leaves to their defaults. */
export function defaulted({ relation, inserted }: Use): readonly string[] {
  return relation.columns
    .filter(({ name, hasDefault, generated }) => hasDefault && !generated && !inserted.has(name))
    .map(({ name }) => name)
}
