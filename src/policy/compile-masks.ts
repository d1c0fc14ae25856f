import type { Budget, ColumnMask, Detection, FieldMask, LoopLimit } from '../core/decision.ts'
import { compare, nearest } from './problem.ts'
import { requirement, targetsOf, verbsOf, type Site } from './compile.ts'
import type { BudgetRule, MaskRule, LoopRule } from './rule.ts'
import type { BudgetSpec, MaskSpec, LoopSpec } from './schema.ts'
import { splitSqlName } from './sql-name.ts'
import type { ValuePath } from './yaml.ts'

/** What of masks the room `masking/` has to answer; policy does not know its detectors. */
export interface MaskChecks {
  /** Names of the declared detectors; unknown ones are reported when it is given. */
  readonly detectors?: readonly string[]
  /** Says what is wrong with a pattern in RE2 syntax, or nothing. */
  readonly checkPattern?: (pattern: string) => string | undefined
}

/** Compiles one entry of `masks`. */
export function compileMask(spec: MaskSpec, path: ValuePath, site: Site, checks: MaskChecks): MaskRule | undefined {
  const targets = targetsOf(spec, path, site)
  if (spec.columns === undefined && spec.detect === undefined && spec.fields === undefined) {
    site.error(path, 'A mask names `columns`, `fields` or `detect`.')
  }
  if (spec.columns !== undefined && spec.transform === 'hash') {
    // Fail closed: a weaker transform in its place would show what the operator meant to hide.
    site.error(path, 'transform: hash is not available for columns yet; use redact, null or partial.', 'transform')
  }
  if (spec.columns === undefined && (spec.allow_write !== undefined || spec.on_predicate !== undefined)) {
    site.error(path, '`allow_write` and `on_predicate` are about `columns`; detectors look at what is shown.')
  }
  const more = {
    ...(spec.allow_write === true && { allowWrite: true }),
    ...(spec.on_predicate === 'mask' && { onPredicate: spec.on_predicate }),
  }
  const columns = (spec.columns ?? []).flatMap((name, index): ColumnMask[] => {
    const [schema, table, column, ...rest] = splitSqlName(name)?.segments ?? []
    const isName = !name.includes('*') && !name.includes('(') && rest.length === 0
    if (isName && schema && table && column) return [{ schema, table, column, transform: spec.transform, ...more }]
    site.error([...path, 'columns', index], `"${name}" is not a column; write schema.table.column.`)
    return []
  })
  const detect = (spec.detect ?? []).flatMap((entry, index): Detection[] => {
    const message = typeof entry === 'string' ? checkDetector(entry, checks) : checkPattern(entry.pattern, checks)
    if (message !== undefined) {
      site.error([...path, 'detect', index], message)
      return []
    }
    if (typeof entry === 'string') return [{ detector: entry, transform: spec.transform }]
    return [{ detector: `custom:${entry.name}`, pattern: entry.pattern, transform: spec.transform }]
  })
  const fields = (spec.fields ?? []).flatMap((field, index): FieldMask[] => {
    if (isFieldPath(field)) return [{ path: field, transform: spec.transform }]
    site.error(
      [...path, 'fields', index],
      `"${field}" is not a path; write keys with dots, such as customer.*.card or **.ssn.`,
    )
    return []
  })
  if (targets === undefined) return undefined
  const source = site.sourceOf(path)
  return { targets, principals: undefined, unless: spec.unless ?? [], columns, detect, fields, source }
}

/** Keys with dots between them; one that is only stars is a wildcard. At least one key must be named. */
function isFieldPath(text: string): boolean {
  const keys = text.split('.')
  if (keys.some((key) => key === '' || (key.includes('*') && key !== '*' && key !== '**'))) return false
  return keys.length <= 32 && keys.at(-1) !== '**' && keys.some((key) => !key.startsWith('*'))
}

function checkDetector(name: string, { detectors }: MaskChecks): string | undefined {
  if (detectors === undefined || detectors.includes(name)) return undefined
  return `There is no detector "${name}"; there are ${detectors.join(', ')}.${nearest(name, detectors)}`
}

function checkPattern(pattern: string, { checkPattern: check }: MaskChecks): string | undefined {
  // Fail closed: a pattern nobody checked might match nothing, and hide nothing.
  if (check === undefined) return 'Patterns of detectors cannot be checked here.'
  const message = check(pattern)
  return message === undefined ? undefined : `This is not a pattern in RE2 syntax: ${message}`
}

/** Compiles one entry of `budgets`. */
export function compileBudget(spec: BudgetSpec, path: ValuePath, site: Site): BudgetRule | undefined {
  const targets = targetsOf(spec, path, site)
  const verbs = verbsOf(spec.actions, path, site)
  const asks = spec.on_exceed === 'require_approval'
  if (asks && spec.approvers === undefined) {
    site.error(path, `Budget "${spec.id}" asks for an approval when it is used up and names no approvers.`)
  }
  if (!asks && spec.approvers !== undefined) {
    site.error(path, '`approvers` belongs to on_exceed: require_approval only.', 'approvers')
  }
  checkApprovers(spec, path, site)
  if (targets === undefined || verbs === undefined) return undefined
  const per = [...new Set(spec.per)].sort(compare)
  const id = `budget:${spec.id}`
  const budget: Budget = {
    id,
    max: spec.max,
    windowMs: spec.window,
    per,
    onExceed: spec.on_exceed,
    ...(asks && spec.approvers !== undefined && { approval: requirement(id, spec.approvers) }),
  }
  return {
    targets,
    principals: spec.principals,
    unless: spec.unless ?? [],
    verbs,
    budget,
    source: site.sourceOf(path),
  }
}

/** Compiles one entry of `loops`. */
export function compileLoop(spec: LoopSpec, path: ValuePath, site: Site): LoopRule | undefined {
  const targets = targetsOf(spec, path, site)
  const verbs = verbsOf(spec.actions, path, site)
  const asks = spec.on_stop === 'require_approval'
  if (asks && spec.approvers === undefined) {
    site.error(path, `Loop "${spec.id}" asks for an approval and names no approvers.`)
  }
  if (!asks && spec.approvers !== undefined) {
    site.error(path, '`approvers` belongs to on_stop: require_approval only.', 'approvers')
  }
  checkApprovers(spec, path, site)
  const { repeats, cycles, errors, empty } = spec
  if ([repeats, cycles, errors, empty].every((sign) => sign === undefined)) {
    site.error(path, `Loop "${spec.id}" looks for nothing: give it repeats, cycles, errors or empty.`)
  }
  if (targets === undefined || verbs === undefined) return undefined
  const id = `loop:${spec.id}`
  const loop: LoopLimit = {
    id,
    windowMs: spec.window,
    ...(repeats !== undefined && { repeats }),
    ...(cycles !== undefined && { cycles }),
    ...(errors !== undefined && { errors }),
    ...(empty !== undefined && { empty }),
    onStop: spec.on_stop,
    suspendMs: spec.suspend,
    ...(asks && spec.approvers !== undefined && { approval: requirement(id, spec.approvers) }),
  }
  const { principals } = spec
  return { targets, principals, unless: spec.unless ?? [], verbs, loop, source: site.sourceOf(path) }
}

/** What only the approvers of a rule may say. */
function checkApprovers({ approvers }: BudgetSpec | LoopSpec, path: ValuePath, site: Site): void {
  if (approvers?.self_confirm === true) {
    const message = 'A caller cannot lift its own limit: self_confirm belongs to rules only.'
    site.error([...path, 'approvers'], message, 'self_confirm')
  }
  if (approvers?.covers !== undefined) site.error(path, COVERS_NOTHING, 'approvers')
  if (approvers?.approve_in_tx !== undefined) site.error(path, NOT_IN_TRANSACTION, 'approvers')
}

const NOT_IN_TRANSACTION =
  '`approve_in_tx` belongs to the approvers of a rule: a call beyond a limit does not wait inside a transaction.'
const COVERS_NOTHING = '`covers` belongs to the approvers of a rule: a call beyond a limit is asked about each time.'
