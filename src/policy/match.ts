/**
 * Which rules of a target match one part. Three-valued: a rule matches, does not match, or its condition failed, and
 * what failed denies in the name of that rule (C6).
 *
 * @packageDocumentation
 */
import type { Part } from '../core/action.ts'
import type { Question } from './decide.ts'
import { partFacts, sharedFacts, type Facts } from './facts.ts'
import type { Policy, TargetPolicy } from './policy.ts'
import { belongs, tokensOf, type Tokens } from './principals.ts'
import { viewOf, type ResourceView } from './resources.ts'
import type { Grant, Rule } from './rule.ts'
import { isUnknownVerb } from './verbs.ts'

/** What became of one part, before the parts are put together. */
export interface PartMatch {
  readonly part: Part
  readonly view: ResourceView
  /** Rules that match, once each. */
  readonly matched: readonly Rule[]
  /** Rules whose condition was neither true nor false, and why. They deny. */
  readonly failed: readonly { readonly rule: Rule; readonly why: string }[]
  /** Whether one matching rule vouches for all of the part. */
  readonly isCovered: boolean
  /** Whether the part is refused whatever the rules say (C4). */
  readonly isRefused: boolean
}

/** What the matching of one question shares over its parts. */
export interface Matching {
  readonly policy: Policy
  readonly target: TargetPolicy
  readonly tokens: Tokens
  readonly question: Question
  shared: Facts | string | undefined
  /** Whether any condition was asked: what it said may be otherwise the next time. */
  hasAsked: boolean
}

export function startMatching(policy: Policy, question: Question): Matching {
  return {
    policy,
    question,
    target: policy.forTarget(question.target),
    tokens: tokensOf(question.principal),
    shared: undefined,
    hasAsked: false,
  }
}

/** Matches one part against the rules of the target. */
export function matchPart(part: Part, matching: Matching): PartMatch {
  const view = viewOf(part.resource)
  const isUnknown = isUnknownVerb(part.verb, matching.policy.vocabulary)
  if (isUnknown && matching.target.hasMasks) {
    // What was not understood may read anything, also what is masked; no rule can vouch for it (C4).
    return { part, view, matched: [], failed: [], isCovered: false, isRefused: true }
  }
  const matched: Rule[] = []
  const failed: { rule: Rule; why: string }[] = []
  let isCovered = false
  let facts: Facts | string | undefined
  for (const list of matching.target.index.candidates(part.verb, view)) {
    for (const { rule, grant, isAllow, condition } of list) {
      if (!belongs(rule, matching.tokens)) continue
      const matches = isAllow ? coversAll(rule, grant, part, view) : touchesAny(rule, grant, part, view)
      if (!matches) continue
      if (condition !== undefined) {
        matching.hasAsked = true
        facts ??= factsOf(part, matching)
        const result = typeof facts === 'string' ? { failed: facts } : condition.evaluate(facts)
        if (result === false) continue
        if (result !== true && part.announces === true) {
          // What the rule asks for, only the calls that follow can say; each of them is decided by it.
          isCovered ||= rule.effect !== 'deny' && coversAll(rule, grant, part, view)
          continue
        }
        if (result !== true) {
          failed.push({ rule, why: result.failed })
          continue
        }
      }
      if (part.announces === true && rule.effect === 'require_approval') {
        isCovered ||= coversAll(rule, grant, part, view)
        continue
      }
      matched.push(rule)
      // An approval that was asked for because of one column vouches for the others only when it lists them too.
      isCovered ||= isAllow || (rule.effect === 'require_approval' && coversAll(rule, grant, part, view))
    }
  }
  return {
    part,
    view,
    matched: once(matched),
    failed: failed.length > 1 ? onceFailed(failed) : failed,
    isCovered,
    isRefused: false,
  }
}

/** Whether a rule that allows vouches for all of the part, the account it runs as included. */
function coversAll({ as }: Rule, grant: Grant, { account }: Part, view: ResourceView): boolean {
  if (as === undefined ? account?.isLogin === false : account === undefined || !as.includes(account.name)) return false
  return grantCovers(grant, view)
}

/** Whether a rule that denies or asks is about any of the part. */
function touchesAny({ as }: Rule, grant: Grant, { account }: Part, view: ResourceView): boolean {
  if (as !== undefined && account !== undefined && !as.includes(account.name)) return false
  return grantTouches(grant, view)
}

/** Whether everything the part touches is listed. */
export function grantCovers(grant: Grant, view: ResourceView): boolean {
  const { resources } = grant
  if (resources === undefined) return true
  for (const pattern of resources) if (pattern.covers(view)) return true
  return false
}

/** Whether anything the part touches is listed. */
export function grantTouches(grant: Grant, view: ResourceView): boolean {
  const { resources } = grant
  if (resources === undefined) return true
  for (const pattern of resources) if (pattern.touches(view)) return true
  return false
}

/** The facts of a part, or what of the plan is malformed; conditions on a malformed part fail. */
function factsOf(part: Part, matching: Matching): Facts | string {
  matching.shared ??= sharedFacts(matching.question, matching.policy.vocabulary)
  if (typeof matching.shared === 'string') return matching.shared
  return partFacts(part, matching.shared, matching.policy.vocabulary)
}

/** Each rule once, in the policy's order. A bundle can lead to one rule by several grants. */
function once(rules: Rule[]): readonly Rule[] {
  let isSorted = true
  for (let index = 1; index < rules.length && isSorted; index++) {
    isSorted = (rules[index - 1]?.order ?? 0) < (rules[index]?.order ?? 0)
  }
  return isSorted ? rules : [...new Set(rules)].sort((a, b) => a.order - b.order)
}

function onceFailed(failed: PartMatch['failed']): PartMatch['failed'] {
  return [...new Map(failed.map((entry) => [entry.rule, entry])).values()]
}
