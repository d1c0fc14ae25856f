import type { Action } from '../core/action.ts'
import type { Decision } from '../core/decision.ts'
import type { Principal } from '../core/principal.ts'
import type { Target } from '../core/target.ts'
import type { Policy } from './policy.ts'

/** Everything a decision may depend on. */
export interface Question {
  readonly principal: Principal
  readonly target: Target
  readonly session: { readonly id: string; readonly door: string; readonly run?: string }
  readonly action: Action
  /** Milliseconds since the epoch; the policy reads no clock. */
  readonly now: number
}

/** Decides one action. Pure: same policy and question, same decision. */
export function decide(_policy: Policy, _question: Question): Decision {
  throw new Error('not built yet')
}
