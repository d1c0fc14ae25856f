import type { ColumnMask } from '../core/decision.ts'
import type { Principal } from '../core/principal.ts'
import type { Target } from '../core/target.ts'

/** A loaded, validated, compiled policy set. Immutable: a reload makes another. */
export interface Policy {
  /** Hash of the loaded set. */
  readonly version: string
  /** Column masks that hold for this principal on this target, exceptions applied. */
  masksFor(principal: Principal, target: Target): readonly ColumnMask[]
}
