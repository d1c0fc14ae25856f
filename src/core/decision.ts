/** What the policy says of a call. The strictest over all parts wins (C5). */
export type Effect = 'allow' | 'deny' | 'require_approval'

/** How a value is replaced. `partial` keeps a harmless piece, `hash` is keyed (HMAC), `null` becomes SQL NULL. */
export type Transform = 'redact' | 'null' | 'partial' | 'hash'

/**
 * What stands behind the masks of a call, as the backend says and not as anybody wishes: `enforced` when the backend
 * role may not read one masked column, `rewrite` when only the gateway's rewriting hides them, `none` when nothing of the
 * target is masked for this caller.
 */
export type MaskingMode = 'none' | 'rewrite' | 'enforced'

/** A column whose values this caller must not see. */
export interface ColumnMask {
  readonly schema: string
  readonly table: string
  readonly column: string
  readonly transform: Transform
  /** Callers may give the column values, and so may learn whether one is taken where it is unique. Default no. */
  readonly allowWrite?: boolean
  /** What a condition on the column does: it is refused (the default), or it compares with the mask. */
  readonly onPredicate?: 'deny' | 'mask'
}

/** Fields of JSON whose values this caller must not see. */
export interface FieldMask {
  /** Keys joined by dots; `*` is any one key, `**` any number of them; arrays count for nothing. Case is ignored. */
  readonly path: string
  readonly transform: Transform
}

/** What to look for in text the protocol cannot mask at its source. */
export interface Detection {
  /** A declared detector (`email`, `credit_card` …) or `custom:<name>`. */
  readonly detector: string
  /** Pattern of an operator's own detector, in RE2 syntax. */
  readonly pattern?: string
  readonly transform: Transform
}

/** A speed: at most `max` calls per `windowMs` for each key. */
export interface RateLimit {
  /** Unique within a policy; the limit's state is kept under it. */
  readonly id: string
  /** The rule that brings it; left out where it is an entry of its own. */
  readonly rule?: string
  readonly max: number
  readonly windowMs: number
  readonly per: readonly ('principal' | 'target' | 'session')[]
}

/** A total over a window. */
export interface Budget extends RateLimit {
  readonly onExceed: 'deny' | 'require_approval'
  /** Who may let a call exceed it; set when `onExceed` asks for that. */
  readonly approval?: ApprovalRequirement
}

/** When a caller that gets nowhere is told so, and when it is stopped. */
export interface LoopLimit {
  /** Unique within a policy. */
  readonly id: string
  readonly windowMs: number
  /** The very same call, this one included. */
  readonly repeats?: LoopThreshold
  /** Two to four different calls in the same order, this one included. */
  readonly cycles?: LoopThreshold
  /** Failures in a row with the same code, before this call. */
  readonly errors?: LoopThreshold
  /** Results without a row in a row, before this call. */
  readonly empty?: LoopThreshold
  readonly onStop: 'suspend' | 'require_approval'
  /** How long a suspended principal is kept from calling. */
  readonly suspendMs: number
  /** Who may let a call through all the same; set when `onStop` asks for that. */
  readonly approval?: ApprovalRequirement
}

/** How many are worth a word, and how many are too many. */
export interface LoopThreshold {
  readonly warn: number
  readonly stop: number
}

/** A duty for the allow to stand. What the gateway cannot perform, it denies. */
export interface Obligations {
  readonly rowsMax?: number
  readonly bytesMax?: number
  readonly timeoutMs?: number
  readonly concurrencyMax?: number
  readonly rates: readonly RateLimit[]
  readonly budgets: readonly Budget[]
  readonly loops?: readonly LoopLimit[]
  readonly columns: readonly ColumnMask[]
  readonly detect: readonly Detection[]
  /** Left out when there are none. */
  readonly fields?: readonly FieldMask[]
}

/** One group of consents a call needs; several requirements must each be satisfied (C5). */
export interface ApprovalRequirement {
  readonly rule: string
  /** Groups (`group:dba`) or ids (`id:maria`) any of which may answer. */
  readonly anyOf: readonly string[]
  /** Distinct persons needed. */
  readonly count: number
  /** How long the ticket may wait for them. */
  readonly expiresMs: number
  /** Whether the approver must give a reason. */
  readonly reasonRequired: boolean
  /** Set where an approval may cover further calls of the same kind, and this call is of a kind that may be covered. */
  readonly covers?: Covers
  /** Set where a call inside the open transaction of its caller may wait for them (C14). */
  readonly inTransaction?: true
  /**
   * Set where the requester's own client may answer for its user. That proves no person: whoever holds the requester's
   * credential can confirm.
   */
  readonly selfConfirm?: true
}

/** How far an approval may reach beyond the call it was asked for. */
export interface Covers {
  /** From the approval on. */
  readonly forMs: number
  /** Calls in all, the one it was asked for included. */
  readonly uses: number
}

/** What the policy decided for one call, with everything needed to explain and to carry it out. */
export interface Decision {
  readonly effect: Effect
  /** Ids of the rules the effect rests on, sorted. Empty when no rule matched some part. */
  readonly rules: readonly string[]
  /** One sentence for the caller. */
  readonly reason: string
  /** What would be allowed instead, when the policy knows. */
  readonly hint?: string
  /** The construct the gateway could not carry out under the obligations, when that is why it is denied. */
  readonly construct?: string
  readonly obligations: Obligations
  /** Requirements of every matching `require_approval` rule; empty unless that is the effect. */
  readonly approvals: readonly ApprovalRequirement[]
  /** Hash of the loaded policy set (DESIGN §3). */
  readonly policyVersion: string
  /** Per part: which rules matched. For `explain` and for the recording. */
  readonly parts: readonly PartDecision[]
  /** Set when the target is in `observe` mode and the effect would have been this. */
  readonly observed?: Effect
}

/** The decision for one part. */
export interface PartDecision {
  readonly verb: string
  readonly resource: string
  readonly effect: Effect
  readonly rules: readonly string[]
}
