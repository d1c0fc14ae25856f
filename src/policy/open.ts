import type { Target } from '../core/target.ts'
import { belongs, tokensOf } from './principals.ts'
import type { Principal } from '../core/principal.ts'
import type { Policy, TargetPolicy } from './policy.ts'
import type { Rule } from './rule.ts'

/**
 * Whether this caller may do anything at all on this target, what is not understood included (C4), and nothing has to be
 * watched meanwhile. Then no plan could be decided otherwise than another, and none has to be held to a catalog.
 *
 * Fail closed: anything beside rules that simply allow (a mask, a budget, a loop breaker, a limit, a condition, a rule that
 * denies or asks) makes it no, whatever its actions are.
 */
export function isOpenTo(policy: Policy, principal: Principal, target: Target): boolean {
  const view = policy.forTarget(target)
  const widest = widestOf(policy, view, target)
  if (widest.size === 0) return false
  const tokens = tokensOf(principal)
  const own = view.rules.filter((rule) => belongs(rule, tokens))
  return own.every(isPlain) && own.some((rule) => widest.has(rule))
}

const widestRules = new WeakMap<TargetPolicy, ReadonlySet<Rule>>()

/** Rules that allow every action of the target's protocol on everything. Few policies have one, so this is asked first. */
function widestOf(policy: Policy, view: TargetPolicy, { protocol }: Target): ReadonlySet<Rule> {
  const known = widestRules.get(view)
  if (known !== undefined) return known
  const isWatched = view.hasMasks || view.budgets.length > 0 || view.loops.length > 0
  const verbs = policy.vocabulary.taxonomies
    .filter((taxonomy) => taxonomy.protocol === protocol)
    .flatMap((taxonomy) => taxonomy.verbs.map(({ verb }) => verb))
  const found = isWatched || verbs.length === 0 ? [] : view.rules.filter((rule) => allowsAll(rule, verbs))
  const widest = new Set(found)
  widestRules.set(view, widest)
  return widest
}

function allowsAll(rule: Rule, verbs: readonly string[]): boolean {
  const granted = new Set<string>()
  for (const { verbs: some, resources } of rule.grants) {
    if (resources?.some(({ text }) => text === '**') === true) for (const verb of some) granted.add(verb)
  }
  return rule.effect === 'allow' && verbs.every((verb) => granted.has(verb))
}

function isPlain({ effect, condition, limits, rate, as }: Rule): boolean {
  const isUnlimited = Object.values(limits).every((limit) => limit === undefined) && rate === undefined
  return effect === 'allow' && condition === undefined && isUnlimited && as === undefined
}
