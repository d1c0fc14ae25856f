import type { ColumnMask, Transform } from '../../core/decision.ts'
import type { Plan, PlanRefusal } from '../../core/call.ts'
import type { PostgresOptions } from './options.ts'
import type { SessionEffect, SessionView } from './session.ts'

/** A value bound to a placeholder, in PostgreSQL's text form. */
export type Param = string | null

/** What a statement is at its top, for how it is run and how its result is read. */
export type StatementKind =
  | 'select'
  | 'insert'
  | 'update'
  | 'delete'
  | 'merge'
  | 'explain'
  | 'show'
  | 'utility'
  | 'several'
  | 'unknown'

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
  /** Whether `shown` leaves out all values, because one of them might meet a masked column (C10). */
  readonly hidesValues: boolean
  /** OIDs of the relations it names, ascending: another table under an old name is another call (C11). */
  readonly objects: readonly number[]
  /**
   * Every masked column of the database. A RowDescription naming one of these pairs, or a masked relation with attnum 0
   * (a whole row), is a leak: abort the result.
   */
  readonly tripwire: readonly MaskedColumn[]
  /** Whether rows must not come in the order of an index: it would tell how masked values compare. */
  readonly hidesOrder?: boolean
  /** For result columns that are, provably and directly, a masked column: which transform made them. By position. */
  readonly maskedOutputs: ReadonlyMap<number, Transform>
  /**
   * Set when this must not run whatever the policy says: not understood, on a database with masks (C4), or a form that
   * masks make impossible (C9). The policy still decides it, so that a rule's own reason is heard and the recording holds
   * what was asked; `execute` throws {@link refusal} instead of sending anything.
   */
  readonly refused?: PlanRefusal
  /** What it does to the session it runs in; absent for statements that leave nothing behind there. */
  readonly session?: SessionEffect
  /** The catalog may be another one once it has run: whatever comes after it is to be planned after that. */
  readonly changesCatalog?: true
  /** The catalog surely is another one once it has run. */
  readonly definesObjects?: true
  /** Sent as its client wrote it, because the policy lets everything through: nobody knows what its session holds then. */
  readonly asWritten?: true
  /** Whether other values of its parameters may make it another plan. */
  readonly readsParams?: true
  /** The backend runs it only outside a transaction block, such as VACUUM. */
  readonly outsideTransaction?: true
  /**
   * The statements of a text with several, in order, each with a plan of its own; they run in one transaction, all or
   * nothing. `sql` then is what is sent altogether, and is never sent as it stands.
   */
  readonly statements?: readonly PostgresPlan[]
}

/** What a plan is made under. */
export interface PlanUnder {
  /** Masks that hold for the principal on this target. */
  readonly masks: readonly ColumnMask[]
  /** What the target demands to stand behind its masks. */
  readonly masking?: PostgresOptions['masking']
  /** Functions an operator vouches for on a database with masks, as `schema.fn(argtype,argtype)`. */
  readonly trustedFunctions?: readonly string[]
  /** Tables, as `schema.table`, whose triggers, defaults, checks and policies an operator vouches for likewise. */
  readonly trustedSideEffects?: readonly string[]
  /**
   * `call` (the default): each call is a transaction of its own, and what only makes sense in a session is refused.
   * `session`: the door has a session, COPY included, and says in {@link session} what is in it.
   */
  readonly door?: 'call' | 'session'
  readonly session?: SessionView
  /** Whether the transaction has set off code of users that may run at its end, wherever names are looked up then. */
  readonly owesCode?: boolean
}
