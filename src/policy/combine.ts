import type { Action } from '../core/action.ts'
import type { ApprovalRequirement, Budget, Obligations, RateLimit } from '../core/decision.ts'
import { isCoverable } from './coverable.ts'
import type { Matching, PartMatch } from './match.ts'
import { belongs } from './principals.ts'
import { compare } from './problem.ts'
import type { Rule } from './rule.ts'
import type { Vocabulary } from './verbs.ts'

/** Limits without masks. */
type Limits = Omit<Obligations, 'columns' | 'detect' | 'fields'>

/** Used where nothing runs, or nothing may be limited. */
export const NO_LIMITS: Limits = { rates: [], budgets: [] }

/** Combines the limits of every matching rule: numbers by minimum, rates and budgets all (C5). */
export function limitsOf(rules: readonly Rule[], matches: readonly PartMatch[], matching: Matching): Limits {
  const rates: RateLimit[] = []
  let rowsMax: number | undefined
  let bytesMax: number | undefined
  let timeoutMs: number | undefined
  let concurrencyMax: number | undefined
  for (const { limits, rate } of rules) {
    rowsMax = least(rowsMax, limits.rows)
    bytesMax = least(bytesMax, limits.bytes)
    timeoutMs = least(timeoutMs, limits.timeout)
    concurrencyMax = least(concurrencyMax, limits.concurrency)
    if (rate !== undefined) rates.push(rate)
  }
  return {
    ...(rowsMax !== undefined && { rowsMax }),
    ...(bytesMax !== undefined && { bytesMax }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(concurrencyMax !== undefined && { concurrencyMax }),
    rates: rates.sort((a, b) => compare(a.id, b.id)),
    budgets: budgetsOf(matches, matching),
  }
}

/**
 * The requirements of every rule that asks for an approval; each must be satisfied on its own (C5). For an action that no
 * approval of another may cover, none of them says that it does.
 */
export function approvalsOf(
  rules: readonly Rule[],
  action: Action,
  vocabulary: Vocabulary,
): readonly ApprovalRequirement[] {
  const requirements: ApprovalRequirement[] = []
  for (const { approval } of rules) if (approval !== undefined) requirements.push(approval)
  if (requirements.every(({ covers }) => covers === undefined) || isCoverable(action, vocabulary)) return requirements
  return requirements.map(forThisCallOnly)
}

function forThisCallOnly(requirement: ApprovalRequirement): ApprovalRequirement {
  const { covers: _, ...narrow } = requirement
  return narrow
}

/** The rules that matched any part, once each, in the policy's order. */
export function matchedRules(matches: readonly PartMatch[]): readonly Rule[] {
  const [only] = matches
  if (only !== undefined && matches.length === 1) return only.matched
  return inOrder(matches.flatMap(({ matched }) => matched))
}

/** The rules once each, in the policy's order. */
export function inOrder(rules: readonly Rule[]): readonly Rule[] {
  return [...new Set(rules)].sort((a, b) => a.order - b.order)
}

function budgetsOf(matches: readonly PartMatch[], { target, tokens }: Matching): readonly Budget[] {
  return target.budgets
    .filter((rule) => belongs(rule, tokens) && matches.some(({ part }) => rule.verbs.has(part.verb)))
    .map(({ budget }) => budget)
    .sort((a, b) => compare(a.id, b.id))
}

/** The loop breakers that watch this call, also when it is denied: a caller may go on asking for what it does not get. */
export function loopsOf(matches: readonly PartMatch[], { target, tokens }: Matching): Pick<Obligations, 'loops'> {
  if (target.loops.length === 0) return NO_LOOPS
  const loops = target.loops
    .filter((rule) => belongs(rule, tokens) && matches.some(({ part }) => rule.verbs.has(part.verb)))
    .map(({ loop }) => loop)
    .sort((a, b) => compare(a.id, b.id))
  return loops.length === 0 ? NO_LOOPS : { loops }
}

const NO_LOOPS = {}

function least(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined ? b : b === undefined ? a : Math.min(a, b)
}
