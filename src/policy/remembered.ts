/**
 * Decisions that were made before (C8).
 *
 * A planner that has met a statement before hands out the very same action again. Who asks, about what, and under which
 * policy then decides, and nothing else, unless a condition was asked: conditions read the session, the time and whatever
 * else there is, so no decision that asked one is kept. Rates, budgets and freezes are no part of a decision; they are
 * looked at when it is carried out, each time.
 *
 * @packageDocumentation
 */
import type { Action } from '../core/action.ts'
import type { Decision } from '../core/decision.ts'
import type { Principal } from '../core/principal.ts'
import type { Target } from '../core/target.ts'
import { decideWithMatches, type Question } from './decide.ts'
import type { Policy } from './policy.ts'

interface Remembered {
  readonly policy: Policy
  readonly target: Target
  readonly decision: Decision
}

/** By the action itself, and who asks: both are immutable, and gone when their makers have forgotten them. */
const byAction = new WeakMap<Action, WeakMap<Principal, Remembered>>()

/** Decides as {@link decide} does; the very same question, asked of the very same policy, is decided once. */
export function decideAgain(policy: Policy, question: Question): Decision {
  const { action, principal, target } = question
  // What cannot be carried out is refused with words of its own, which are not the action's.
  if (question.refused !== undefined) return decideWithMatches(policy, question).decision
  let byPrincipal = byAction.get(action)
  const known = byPrincipal?.get(principal)
  // INVARIANT: compared by identity. A reload makes another policy, another login another principal.
  if (known?.policy === policy && known.target === target) return known.decision
  const { decision, matching } = decideWithMatches(policy, question)
  if (matching.hasAsked) return decision
  if (byPrincipal === undefined) byAction.set(action, (byPrincipal = new WeakMap()))
  byPrincipal.set(principal, { policy, target, decision })
  return decision
}
