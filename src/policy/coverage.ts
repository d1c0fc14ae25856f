import type { PartMatch, Matching } from './match.ts'
import { grantCovers, grantTouches } from './match.ts'
import type { Policy } from './policy.ts'
import { belongs, names } from './principals.ts'
import type { Problem } from './problem.ts'
import type { MaskRule, Rule } from './rule.ts'

/** One way a rule or mask can turn out, at the rule, with what no fixture has shown as its message. */
export type Arm = Problem

/** Collects which arms the decisions of fixtures exercised. */
export interface Coverage {
  readonly note: (result: { readonly matches: readonly PartMatch[]; readonly matching: Matching }) => void
  uncovered(): readonly Arm[]
}

/**
 * The arms are: a rule matches; its condition is false on a part it would match otherwise; its `unless` excepts someone
 * it would name otherwise; a mask applies; the `unless` of a mask excepts someone.
 */
export function createCoverage(policy: Policy): Coverage {
  const shown = new Map<Rule | MaskRule, Set<string>>()
  const mark = (entry: Rule | MaskRule, arm: string): void => {
    const arms = shown.get(entry)
    if (arms === undefined) shown.set(entry, new Set([arm]))
    else arms.add(arm)
  }
  const has = (entry: Rule | MaskRule, arm: string): boolean => shown.get(entry)?.has(arm) === true

  return {
    note({ matches, matching }) {
      for (const match of matches) {
        for (const rule of match.matched) mark(rule, 'match')
        for (const rule of matching.target.rules) noteMiss(rule, match, matching, mark)
      }
      for (const mask of matching.target.masks) mark(mask, belongs(mask, matching.tokens) ? 'match' : 'unless')
    },
    uncovered: () => [
      ...policy.rules.flatMap((rule) => [
        ...(has(rule, 'match') ? [] : [arm(rule, `No fixture matches rule "${rule.id}".`)]),
        ...(rule.condition === undefined || has(rule, 'condition')
          ? []
          : [arm(rule, `No fixture shows the condition of rule "${rule.id}" false.`)]),
        ...(rule.unless.length === 0 || has(rule, 'unless')
          ? []
          : [arm(rule, `No fixture shows a caller whom rule "${rule.id}" excepts.`)]),
      ]),
      ...policy.masks.flatMap((mask) => [
        ...(has(mask, 'match') ? [] : [arm(mask, 'No fixture has a caller this mask is for.')]),
        ...(mask.unless.length === 0 || has(mask, 'unless')
          ? []
          : [arm(mask, 'No fixture has a caller this mask excepts.')]),
      ]),
    ],
  }
}

function noteMiss(rule: Rule, match: PartMatch, { tokens }: Matching, mark: (rule: Rule, arm: string) => void): void {
  if (match.isRefused || match.matched.includes(rule) || match.failed.some((entry) => entry.rule === rule)) return
  const meets = rule.grants.some(
    (grant) =>
      grant.verbs.has(match.part.verb) &&
      (rule.effect === 'allow' ? grantCovers(grant, match.view) : grantTouches(grant, match.view)),
  )
  if (!meets || (rule.principals !== undefined && !names(rule.principals, tokens))) return
  mark(rule, names(rule.unless, tokens) ? 'unless' : 'condition')
}

function arm({ source }: Rule | MaskRule, message: string): Arm {
  return { ...source, message }
}
