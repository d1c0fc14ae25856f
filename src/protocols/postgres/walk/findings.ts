import type { Ast } from '../ast.ts'
import type { CatalogFunction } from '../catalog.ts'
import type { Grouping } from '../group-by.ts'
import type { Item, Level, Output, Use } from '../scope.ts'

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

/** A `*` or `t.*` that stands in a list of result columns by itself. */
export interface Star {
  /** The SELECT or RETURNING clause whose list it stands in, and where. */
  readonly clause: Ast
  readonly index: number
  /** The `ColumnRef`. */
  readonly ref: Ast
  /** What it shows, in order. */
  readonly items: readonly Item[]
  /** Whether columns stand in the order of the items: no join that merges columns is among them. */
  readonly isPlain: boolean
}

/** A result column of RETURNING that is a column of the target, or all of them, as they are. */
export interface Returning {
  readonly clause: Ast
  readonly index: number
  readonly ref: Ast
  readonly items: readonly Item[]
  /** The column, or undefined for a star. */
  readonly column: string | undefined
  /** Whether the caller gave it a name. */
  readonly isNamed: boolean
  readonly isPlain: boolean
}

/** A relation that is sampled: `t TABLESAMPLE method (…)`. */
export interface Sample {
  readonly use: Use
  /** The `RangeTableSample`. */
  readonly node: Ast
}

/** `COPY relation [(columns)] TO …`. */
export interface CopyOut {
  /** The `CopyStmt`. */
  readonly stmt: Ast
  readonly use: Use
  /** The columns that are listed; empty when none are. */
  readonly columns: readonly string[]
}

/** One call of `set_config`. */
export interface SettingChange {
  readonly name: string
  /** What it becomes: written out, or the value of a parameter, by its number. */
  readonly value: string | { readonly param: number }
  readonly isLocal: boolean
}

/** Everything one statement does, as far as its text and the catalog say. */
export interface Findings {
  readonly uses: readonly Use[]
  readonly functions: readonly FunctionUse[]
  readonly qualifiedRefs: readonly QualifiedRef[]
  readonly groupings: readonly Grouping[]
  readonly stars: readonly Star[]
  readonly returnings: readonly Returning[]
  readonly samples: readonly Sample[]
  readonly copies: readonly CopyOut[]
  /** Mentions without an alias that share their bare name with another one beside them. */
  readonly twins: readonly Use[]
  /** One sentence each; not empty means not understood. */
  readonly unknowns: readonly string[]
  /** Highest `$n`. */
  readonly paramsMax: number
  /** EXPLAIN around it, with what it says of ANALYZE. */
  readonly explain?: Explained
  readonly mayWrite: boolean
  /** Whether it calls functions that tell how many rows of a table were read and written, or how large it is. */
  readonly readsCounters: boolean
  /** Settings it changes by calls of `set_config` that name them. */
  readonly settings: readonly SettingChange[]
  /** Cursors of the session it speaks of (`WHERE CURRENT OF`). */
  readonly cursors: readonly string[]
  readonly output: Output
  /** For each result column the column it shows unchanged, where that is certain; absent when positions are not. */
  readonly origins?: readonly (Origin | undefined)[]
}

/** A column of one mention of a relation. */
export interface Origin {
  readonly use: Use
  readonly column: string
}

/** What EXPLAIN tells of a statement. */
export interface Explained {
  /** Whether the statement runs. */
  readonly analyze: boolean
  /** Whether it says how much WAL was written, and so how long rows are. */
  readonly measuresRows: boolean
}
