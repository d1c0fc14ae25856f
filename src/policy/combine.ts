import type { ApprovalRequirement, Budget, Obligations, RateLimit } from '../core/decision.ts'
import type { Matching, PartMatch } from './match.ts'
import { belongs } from './principals.ts'
import { compare } from './problem.ts'
import type { Rule } from './rule.ts'

/** Limits without masks. */
type Limits = Omit<Obligations, 'columns' | 'detect'>

/** Used where nothing runs, or nothing may be limited. */
export const NO_LIMITS: Limits = { rates: [], budgets: [] }

/** Combines the limits of every matching rule: numbers by minimum, rates and budgets all (C5). */
export function limitsOf(matches: readonly PartMatch[], matching: Matching): Limits {
  const rules = matchedRules(matches)
  const rates = new Map<string, RateLimit>()
  for (const { rate } of rules) if (rate !== undefined) rates.set(rate.id, rate)
  const rowsMax = least(rules.map(({ limits }) => limits.rows))
  const bytesMax = least(rules.map(({ limits }) => limits.bytes))
  const timeoutMs = least(rules.map(({ limits }) => limits.timeout))
  const concurrencyMax = least(rules.map(({ limits }) => limits.concurrency))
  const accounts = common(rules)
  return {
    ...(rowsMax !== undefined && { rowsMax }),
    ...(bytesMax !== undefined && { bytesMax }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(concurrencyMax !== undefined && { concurrencyMax }),
    rates: [...rates.values()].sort((a, b) => compare(a.id, b.id)),
    budgets: budgetsOf(matches, matching),
    ...(accounts !== undefined && { as: accounts }),
  }
}

/** The requirements of every rule that asks for an approval; each must be satisfied on its own (C5). */
export function approvalsOf(matches: readonly PartMatch[]): readonly ApprovalRequirement[] {
  const requirements = new Map<string, ApprovalRequirement>()
  for (const { approval } of matchedRules(matches)) {
    if (approval !== undefined) requirements.set(approval.rule, approval)
  }
  return [...requirements.values()].sort((a, b) => compare(a.rule, b.rule))
}

function matchedRules(matches: readonly PartMatch[]): readonly Rule[] {
  return [...new Set(matches.flatMap(({ matched }) => matched))]
}

function budgetsOf(matches: readonly PartMatch[], { target, tokens }: Matching): readonly Budget[] {
  return target.budgets
    .filter((rule) => belongs(rule, tokens) && matches.some(({ part }) => rule.verbs.has(part.verb)))
    .map(({ budget }) => budget)
    .sort((a, b) => compare(a.id, b.id))
}

function least(values: readonly (number | undefined)[]): number | undefined {
  const numbers = values.filter((value) => value !== undefined)
  return numbers.length === 0 ? undefined : numbers.reduce((a, b) => Math.min(a, b))
}

/** Accounts every rule that names any agrees on. None left is none allowed, not no restriction. */
function common(rules: readonly Rule[]): readonly string[] | undefined {
  const lists = rules.flatMap((rule) => (rule.as === undefined ? [] : [rule.as]))
  const [first, ...others] = lists
  return first?.filter((account) => others.every((list) => list.includes(account))).sort(compare)
}
