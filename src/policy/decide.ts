/**
 * The decision. Pure: same policy and question, same decision; no I/O, no clock, no order of rules or files.
 *
 * Part by part, the strictest matching rule wins (C5); a part no rule covers is denied (C3); what is not understood is
 * matched by its own name only, and refused where anything is masked (C4); a condition that is not exactly true or
 * false denies in the name of its rule (C6).
 *
 * @packageDocumentation
 */
import type { Action } from '../core/action.ts'
import type { PlanRefusal } from '../core/call.ts'
import type { Decision, Effect, PartDecision } from '../core/decision.ts'
import type { Principal } from '../core/principal.ts'
import type { Target } from '../core/target.ts'
import { approvalsOf, inOrder, limitsOf, loopsOf, matchedRules, NO_LIMITS } from './combine.ts'
import { matchPart, startMatching, type Matching, type PartMatch } from './match.ts'
import type { Policy } from './policy.ts'
import { reasonFor } from './reason.ts'
import { renderResource } from './resources.ts'
import type { Rule } from './rule.ts'

/** Everything a decision may depend on. */
export interface Question {
  readonly principal: Principal
  readonly target: Target
  readonly session: { readonly id: string; readonly door: string; readonly run?: string }
  readonly action: Action
  /** Set when the plan cannot be carried out as the obligations demand; then it is denied, whatever the rules say. */
  readonly refused?: PlanRefusal
  /** Milliseconds since the epoch; the policy reads no clock. */
  readonly now: number
}

/** Decides one action. */
export function decide(policy: Policy, question: Question): Decision {
  return decideWithMatches(policy, question).decision
}

/** Decides and keeps what matched, for `explain` and for the coverage of fixtures. */
export function decideWithMatches(
  policy: Policy,
  question: Question,
): { readonly decision: Decision; readonly matches: readonly PartMatch[]; readonly matching: Matching } {
  const matching = startMatching(policy, question)
  const matches = question.action.parts.map((part) => matchPart(part, matching))
  const effect = strictest(matches)
  const { refused, target } = question
  const decided = decisionOf(refused === undefined ? effect : 'deny', matches, matching)
  // A rule that denies is heard with its own reason; where the rules would let it through, the refusal speaks.
  const heard = refused === undefined || effect === 'deny' ? decided : withRefusal(decided, refused)
  return {
    decision: target.mode === 'observe' && refused === undefined ? observe(decided, matches, matching) : heard,
    matches,
    matching,
  }
}

/** What the gateway cannot perform, it denies (obligation, DESIGN §2); not even an observed target is let go unmasked. */
function withRefusal(decision: Decision, { construct, message, hint }: PlanRefusal): Decision {
  const { hint: _hint, ...rest } = decision
  return { ...rest, rules: [], reason: message, construct, ...(hint !== undefined && { hint }) }
}

/** The effect on one part. */
export function effectOf(match: PartMatch): Effect {
  // Fail closed: only what is covered, with nothing against it, is allowed.
  if (match.isRefused || match.failed.length > 0 || !match.isCovered) return 'deny'
  if (match.matched.some(({ effect }) => effect === 'deny')) return 'deny'
  return match.matched.some(({ effect }) => effect === 'require_approval') ? 'require_approval' : 'allow'
}

function strictest(matches: readonly PartMatch[]): Effect {
  // No part, no allow (C3): a call in which nothing was found to decide was not understood.
  if (matches.length === 0) return 'deny'
  const effects = new Set(matches.map(effectOf))
  return effects.has('deny') ? 'deny' : effects.has('require_approval') ? 'require_approval' : 'allow'
}

function decisionOf(effect: Effect, matches: readonly PartMatch[], matching: Matching): Decision {
  const { policy, question } = matching
  const rules = matchedRules(matches)
  const { reason, hint } = reasonFor(effect, rules, matches, matching)
  const fields = policy.fieldsFor(question.principal, question.target)
  const masks = {
    columns: policy.masksFor(question.principal, question.target),
    detect: policy.detectorsFor(question.principal, question.target),
    ...(fields.length > 0 && { fields }),
  }
  return {
    effect,
    rules: rulesBehind(effect, rules, matches),
    reason,
    ...(hint !== undefined && { hint }),
    // Masks stand in every decision: the request of a denied call is recorded too.
    obligations: {
      ...(effect === 'deny' ? NO_LIMITS : limitsOf(rules, matches, matching)),
      ...loopsOf(matches, matching),
      ...masks,
    },
    approvals: effect === 'require_approval' ? approvalsOf(rules, question.action, policy.vocabulary) : [],
    policyVersion: policy.version,
    parts: matches.map(partDecision),
  }
}

/** The rules that have the effect: those that deny or ask, and for an allow all that matched. */
function rulesBehind(effect: Effect, rules: readonly Rule[], matches: readonly PartMatch[]): readonly string[] {
  const behind = rules.filter((rule) => rule.effect === effect)
  const failed = effect === 'deny' ? matches.flatMap((match) => match.failed.map(({ rule }) => rule)) : []
  return (failed.length === 0 ? behind : inOrder([...behind, ...failed])).map(({ id }) => id)
}

function partDecision(match: PartMatch): PartDecision {
  const { matched, failed } = match
  const rules = failed.length === 0 ? matched : inOrder([...matched, ...failed.map(({ rule }) => rule)])
  return {
    verb: match.part.verb,
    resource: renderResource(match.part.resource),
    effect: effectOf(match),
    rules: rules.map(({ id }) => id),
  }
}

/**
 * In observe mode nothing is denied, held or cut short, only written down; masks stay, and so does the refusal of what
 * was not understood on a target that has any (C4).
 */
function observe(decision: Decision, matches: readonly PartMatch[], matching: Matching): Decision {
  const isOpaque = matches.length === 0 || matches.some(({ isRefused }) => isRefused)
  if (isOpaque && matching.target.hasMasks) return decision
  const { columns, detect, fields } = decision.obligations
  const { hint: _hint, ...rest } = decision
  return {
    ...rest,
    effect: 'allow',
    reason:
      decision.effect === 'allow'
        ? decision.reason
        : `This target is only observed; enforced, this would be ${decision.effect}: ${decision.reason}`,
    obligations: { ...NO_LIMITS, columns, detect, ...(fields !== undefined && { fields }) },
    approvals: [],
    ...(decision.effect !== 'allow' && { observed: decision.effect }),
  }
}
