import type {
  ApprovalRequirement,
  Budget,
  ColumnMask,
  Detection,
  FieldMask,
  Effect,
  LoopLimit,
  RateLimit,
} from '../core/decision.ts'
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
  readonly resources: readonly ResourcePattern[] | undefined
}

/**
 * One rule, validated and compiled. Every rule has every field, so that the engine sees one shape of object: a decision
 * walks many of them.
 */
export interface Rule extends Audience {
  readonly id: string
  /** Its place among all rules of the policy, by id: sorting by it needs no comparison of texts. */
  readonly order: number
  readonly effect: Effect
  readonly targets: readonly TargetSelector[]
  /** `actions` as written, for people. */
  readonly actions: readonly string[]
  readonly grants: readonly Grant[]
  readonly condition: Condition | undefined
  readonly limits: {
    readonly rows: number | undefined
    readonly bytes: number | undefined
    readonly timeout: number | undefined
    readonly concurrency: number | undefined
  }
  readonly rate: RateLimit | undefined
  readonly approval: ApprovalRequirement | undefined
  readonly as: readonly string[] | undefined
  readonly reason: string | undefined
  readonly hint: string | undefined
  readonly source: Source
}

/** Masks of one entry of `masks`. */
export interface MaskRule extends Audience {
  readonly targets: readonly TargetSelector[]
  readonly columns: readonly ColumnMask[]
  readonly detect: readonly Detection[]
  readonly fields: readonly FieldMask[]
  readonly source: Source
}

/** One budget with the calls it counts. */
export interface BudgetRule extends Audience {
  readonly targets: readonly TargetSelector[]
  readonly verbs: ReadonlySet<string>
  readonly budget: Budget
  readonly source: Source
}

/** One loop breaker with the calls it watches. */
export interface LoopRule extends Audience {
  readonly targets: readonly TargetSelector[]
  readonly verbs: ReadonlySet<string>
  readonly loop: LoopLimit
  readonly source: Source
}
