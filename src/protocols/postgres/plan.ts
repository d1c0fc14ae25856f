import type { Plan } from '../../core/call.ts'
import type { Transform } from '../../core/decision.ts'

/** A value bound to a placeholder, in PostgreSQL's text form. */
export type Param = string | null

/** What a statement is at its top, for how it is run and how its result is read. */
export type StatementKind = 'select' | 'insert' | 'update' | 'delete' | 'merge' | 'explain' | 'show' | 'unknown'

/** A column that no result may carry as such: the tripwire on RowDescription (R18). */
export interface MaskedColumn {
  readonly relation: number
  readonly attnum: number
  readonly transform: Transform
}

/** What one call of `query_database` means and exactly what will be sent. */
export interface PostgresPlan extends Plan {
  /** The text to send, rewritten and pinned. One statement, for the extended protocol only. */
  readonly sql: string
  /** Values of `$1 …` in text form. */
  readonly params: readonly Param[]
  readonly kind: StatementKind
  /** Nothing in it writes, locks or calls anything volatile: it is to run inside `BEGIN READ ONLY`. */
  readonly readOnly: boolean
  readonly returnsRows: boolean
  /** The caller's own row limit, when it gave one. */
  readonly rowsMax?: number
  /** The fingerprint of the catalog it was planned with; another one at execution means: plan again (C8). */
  readonly fingerprint: string
  /** Whether any relation the statement reaches has a masked column. */
  readonly touchesMasked: boolean
  /**
   * Every masked column of the database. A RowDescription naming one of these pairs, or a masked relation with attnum 0
   * (a whole row), is a leak: abort the result.
   */
  readonly tripwire: readonly MaskedColumn[]
  /** For result columns that are, provably and directly, a masked column: which transform made them. By position. */
  readonly maskedOutputs: ReadonlyMap<number, Transform>
}
