import type { ApprovalRequirement, Budget, ColumnMask, Detection, Effect, RateLimit } from '../core/decision.ts'
import type { Condition } from './condition.ts'
import type { Audience, TargetSelector } from './principals.ts'
import type { Position } from './problem.ts'
import type { ResourcePattern } from './resources.ts'

/** Where something in a policy was written. */
export interface Source extends Position {
  readonly path: string
}

/** What a rule speaks of: these verbs on these resources; without resources, on any. */
export interface Grant {
  readonly verbs: ReadonlySet<string>
  readonly resources?: readonly ResourcePattern[]
}

/** One rule, validated and compiled. */
export interface Rule extends Audience {
  readonly id: string
  /** Its place among all rules of the policy, by id: sorting by it needs no comparison of texts. */
  readonly order: number
  readonly effect: Effect
  readonly targets: readonly TargetSelector[]
  /** `actions` as written, for people. */
  readonly actions: readonly string[]
  readonly grants: readonly Grant[]
  readonly condition?: Condition
  readonly limits: {
    readonly rows?: number
    readonly bytes?: number
    readonly timeout?: number
    readonly concurrency?: number
  }
  readonly rate?: RateLimit
  readonly approval?: ApprovalRequirement
  readonly as?: readonly string[]
  readonly reason?: string
  readonly hint?: string
  readonly source: Source
}

/** Masks of one entry of `masks`. */
export interface MaskRule extends Audience {
  readonly targets: readonly TargetSelector[]
  readonly columns: readonly ColumnMask[]
  readonly detect: readonly Detection[]
  readonly source: Source
}

/** One budget with the calls it counts. */
export interface BudgetRule extends Audience {
  readonly targets: readonly TargetSelector[]
  readonly verbs: ReadonlySet<string>
  readonly budget: Budget
  readonly source: Source
}
