import type { Ast } from '../ast.ts'
import type { CatalogFunction } from '../catalog.ts'
import type { Grouping } from '../group-by.ts'
import type { Level, Output, Use } from '../scope.ts'

/** A function a statement runs and that needs a rule of its own. */
export interface FunctionUse {
  readonly fn: CatalogFunction
  /** Empty when the statement calls it; otherwise what does: `operator`, `cast`, `type`, `trigger`, `view` … */
  readonly via: string
  /** Whether a database with masks must refuse it. */
  readonly refusedUnderMasks: boolean
}

/** A `schema.relation.column` reference, which a rewritten relation no longer answers to. */
export interface QualifiedRef {
  readonly ref: Ast
  readonly use: Use
  readonly name: string
  readonly level: Level | undefined
}

/** Everything one statement does, as far as its text and the catalog say. */
export interface Findings {
  readonly uses: readonly Use[]
  readonly functions: readonly FunctionUse[]
  readonly qualifiedRefs: readonly QualifiedRef[]
  readonly groupings: readonly Grouping[]
  /** One sentence each; not empty means not understood. */
  readonly unknowns: readonly string[]
  /** Highest `$n`. */
  readonly paramsMax: number
  /** EXPLAIN around it, with what it says of ANALYZE. */
  readonly explain?: { readonly analyze: boolean }
  readonly mayWrite: boolean
  readonly output: Output
  /** For each result column the column it shows unchanged, where that is certain; absent when positions are not. */
  readonly origins?: readonly (Origin | undefined)[]
}

/** A column of one mention of a relation. */
export interface Origin {
  readonly use: Use
  readonly column: string
}
