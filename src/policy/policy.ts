/**
 * The policy in force: what `load.ts` made of the files, ready for `decide.ts`.
 *
 * @packageDocumentation
 */
import type { ColumnMask, Detection, FieldMask, Transform } from '../core/decision.ts'
import type { Principal } from '../core/principal.ts'
import type { Target } from '../core/target.ts'
import { effectiveGrants, type EffectiveGrant } from './effective.ts'
import { belongs, selects, tokensOf } from './principals.ts'
import { compare } from './problem.ts'
import { indexRules, type RuleIndex } from './rule-index.ts'
import type { BudgetRule, LoopRule, MaskRule, Rule } from './rule.ts'
import type { Vocabulary } from './verbs.ts'

/** A loaded, validated, compiled policy set. Immutable: a reload makes another. */
export interface Policy {
  /** Hash of the loaded set. */
  readonly version: string
  /** Every rule, sorted by id. */
  readonly rules: readonly Rule[]
  readonly masks: readonly MaskRule[]
  readonly budgets: readonly BudgetRule[]
  readonly vocabulary: Vocabulary
  /** Column masks that hold for this principal on this target, exceptions applied. */
  masksFor(principal: Principal, target: TargetName): readonly ColumnMask[]
  /** What is masked on this target for anybody, exceptions or not: what somebody sees whom no rule was asked about. */
  everyMask(target: TargetName): EveryMask
  /** What to look for in text for this principal on this target, exceptions applied. */
  detectorsFor(principal: Principal, target: TargetName): readonly Detection[]
  /** Fields of JSON that this principal must not see on this target, exceptions applied. */
  fieldsFor(principal: Principal, target: TargetName): readonly FieldMask[]
  /** What this caller may do on this target, from the rules that name it and no others. */
  effectiveFor(principal: Principal, target: TargetName): readonly EffectiveGrant[]
  /** Whether some rule about this principal and target limits how many calls run at once. */
  limitsConcurrency(principal: Principal, target: TargetName): boolean
  /** What the policy says of one target, indexed. */
  forTarget(target: TargetName): TargetPolicy
}

/** Masks of a target, exceptions or not. */
export interface EveryMask {
  readonly columns: readonly ColumnMask[]
  readonly detect: readonly Detection[]
  readonly fields: readonly FieldMask[]
}

/** What of a target decides which rules are about it. */
export type TargetName = Pick<Target, 'name' | 'labels'> & Partial<Pick<Target, 'protocol'>>

/** The rules, masks and budgets of one target. */
export interface TargetPolicy {
  readonly rules: readonly Rule[]
  readonly index: RuleIndex
  readonly masks: readonly MaskRule[]
  readonly budgets: readonly BudgetRule[]
  readonly loops: readonly LoopRule[]
  /** The rules among them that limit how many calls run at once. */
  readonly concurrent: readonly Rule[]
  /** Whether anything on this target is masked for anyone (C4). */
  readonly hasMasks: boolean
}

/** Puts a policy together. Called by `load.ts` with what it has validated. */
export function createPolicy(parts: {
  readonly version: string
  readonly rules: readonly Rule[]
  readonly masks: readonly MaskRule[]
  readonly budgets: readonly BudgetRule[]
  readonly loops: readonly LoopRule[]
  readonly vocabulary: Vocabulary
}): Policy {
  const rules = [...parts.rules].sort((a, b) => compare(a.id, b.id)).map((rule, order) => ({ ...rule, order }))
  // Targets are objects that live as long as the configuration they came from, so the index of each is made once.
  const views = new WeakMap<TargetName, TargetPolicy>()

  const isAnywhere = ({ protocol }: TargetName): boolean =>
    parts.vocabulary.taxonomies.some((one) => one.protocol === protocol && one.fieldsAnywhere === true)

  function forTarget(target: TargetName): TargetPolicy {
    const known = views.get(target)
    if (known !== undefined) return known
    const about = (entry: { readonly targets: Rule['targets'] }): boolean => selects(entry.targets, target)
    const ofTarget = rules.filter(about)
    const masks = parts.masks.filter(about).map((mask) => (isAnywhere(target) ? withFieldsAnywhere(mask) : mask))
    const view = {
      rules: ofTarget,
      index: indexRules(ofTarget),
      masks,
      budgets: parts.budgets.filter(about),
      loops: parts.loops.filter(about),
      concurrent: ofTarget.filter(({ limits }) => limits.concurrency !== undefined),
      hasMasks: masks.length > 0,
    }
    views.set(target, view)
    return view
  }

  return {
    version: parts.version,
    rules,
    masks: parts.masks,
    budgets: parts.budgets,
    vocabulary: parts.vocabulary,
    masksFor: (principal, target) => columnsOf(forTarget(target).masks, principal),
    everyMask: (target) => everyOf(forTarget(target).masks),
    detectorsFor: (principal, target) => detectionsOf(applying(forTarget(target).masks, principal)),
    fieldsFor: (principal, target) => fieldsOf(applying(forTarget(target).masks, principal)),
    effectiveFor: (principal, target) => effectiveGrants(forTarget(target).rules, tokensOf(principal)),
    limitsConcurrency(principal, target) {
      const tokens = tokensOf(principal)
      return forTarget(target).concurrent.some((rule) => belongs(rule, tokens))
    },
    forTarget,
  }
}

/** An object that is masked when it is read alone is masked in a list, too. */
function withFieldsAnywhere(mask: MaskRule): MaskRule {
  const fields = mask.fields.map((field) =>
    field.path.startsWith('**') ? field : { ...field, path: `**.${field.path}` },
  )
  return { ...mask, fields }
}

const columnLists = new WeakMap<readonly MaskRule[], Map<string, readonly ColumnMask[]>>()

/** One list per set of masks that apply, and the very same one each time: plans are remembered under it. */
function columnsOf(masks: readonly MaskRule[], principal: Principal): readonly ColumnMask[] {
  if (masks.length === 0) return NO_COLUMNS
  const tokens = tokensOf(principal)
  const key = masks.map((mask) => (belongs(mask, tokens) ? '1' : '0')).join('')
  let lists = columnLists.get(masks)
  if (lists === undefined) columnLists.set(masks, (lists = new Map()))
  const known = lists.get(key)
  if (known !== undefined) return known
  const made = strictestColumns(masks.filter((_, index) => key[index] === '1'))
  if (lists.size >= COLUMN_LISTS_MAX) lists.clear()
  lists.set(key, made)
  return made
}

function strictestColumns(masks: readonly MaskRule[]): readonly ColumnMask[] {
  return strictest(
    masks.flatMap(({ columns }) => columns),
    ({ schema, table, column }) => JSON.stringify([schema, table, column]),
    strictestColumn,
  )
}

const everyList = new WeakMap<readonly MaskRule[], EveryMask>()

function everyOf(masks: readonly MaskRule[]): EveryMask {
  const known = everyList.get(masks)
  if (known !== undefined) return known
  const made = { columns: strictestColumns(masks), detect: detectionsOf(masks), fields: fieldsOf(masks) }
  everyList.set(masks, made)
  return made
}

const NO_COLUMNS: readonly ColumnMask[] = []

/** Lists kept per target: one per set of exceptions that callers really have. */
const COLUMN_LISTS_MAX = 256

/** What any of two masks forbids is forbidden (C5). */
function strictestColumn(mask: ColumnMask, other: ColumnMask): ColumnMask {
  const { allowWrite: _allowWrite, onPredicate: _onPredicate, ...same } = mask
  return {
    ...same,
    ...(mask.allowWrite === true && other.allowWrite === true && { allowWrite: true }),
    ...(mask.onPredicate === 'mask' && other.onPredicate === 'mask' && { onPredicate: 'mask' }),
  }
}

function detectionsOf(masks: readonly MaskRule[]): readonly Detection[] {
  return strictest(
    masks.flatMap(({ detect }) => detect),
    ({ detector, pattern = '' }) => JSON.stringify([detector, pattern]),
  )
}

function fieldsOf(masks: readonly MaskRule[]): readonly FieldMask[] {
  return strictest(
    masks.flatMap(({ fields }) => fields),
    ({ path }) => path.toLowerCase(),
  )
}

function applying(masks: readonly MaskRule[], principal: Principal): readonly MaskRule[] {
  const tokens = tokensOf(principal)
  return masks.filter((mask) => belongs(mask, tokens))
}

/** One entry per key, sorted. Transforms that differ become `redact`: the one that shows nothing at all (C5). */
function strictest<T extends { readonly transform: Transform }>(
  entries: readonly T[],
  keyOf: (entry: T) => string,
  combine: (entry: T, other: T) => T = (entry) => entry,
): readonly T[] {
  const merged = new Map<string, T>()
  for (const entry of entries) {
    const key = keyOf(entry)
    const other = merged.get(key)
    const both = other === undefined ? entry : combine(entry, other)
    const agrees = other === undefined || other.transform === entry.transform
    merged.set(key, agrees ? both : { ...both, transform: 'redact' })
  }
  return [...merged].sort(([a], [b]) => compare(a, b)).map(([, entry]) => entry)
}
