/**
 * Sessions, calls and plans: what the spine moves.
 *
 * A {@link Session} is one downstream connection or MCP client. A {@link Call} is one execution in it: a statement, a
 * fresh portal's Execute, an SSH channel, a Kubernetes or HTTP request. A {@link Plan} is what a call means *and*
 * exactly what will be sent (C1): `execute` receives the plan, never the payload.
 *
 * @packageDocumentation
 */
import type { Action, AttributeValue, Part } from './action.ts'
import type { Chunk } from './chunk.ts'
import type { ColumnMask, Decision, FieldMask, MaskingMode, Obligations } from './decision.ts'
import type { SallyportError } from './errors.ts'
import type { Preview, PreviewContext } from './preview.ts'
import type { Principal } from './principal.ts'
import type { Target } from './target.ts'
import type { SessionRecording } from './recording.ts'

/** How a call ended, as the recording says it. */
export type Ending = 'done' | 'failed' | 'denied' | 'pending' | 'cancelled' | 'abandoned' | 'crashed'

/** One downstream connection or MCP client. Whoever opens it closes it, in `finally`. */
export interface Session {
  readonly id: string
  /**
   * Set for a caller without a connection: the same wherever this caller, door and run are, on every instance that shares
   * the store. What is counted per session is counted under it there.
   */
  readonly sharedId?: string
  readonly principal: Principal
  /** Which door it came through: `mcp`, `postgres`, `ssh` … */
  readonly door: string
  /** The caller's own name for a piece of work, when it declared one. */
  readonly run?: string
  readonly recording: SessionRecording
  /** Aborts when the session ends; its reason says why. Upstreams a protocol keeps per session end with it. */
  readonly signal: AbortSignal
}

/** One execution, not yet understood. */
export interface Call {
  readonly id: string
  readonly session: Session
  readonly target: Target
  /** The tool or wire message it came as: `query_database`, `postgres.execute` … */
  readonly tool: string
  readonly payload: unknown
  /** COPY data, stdin, a request body: read only while the call runs. */
  readonly input?: AsyncIterable<Uint8Array>
  /** Aborts when the caller cancels or goes away. */
  readonly signal: AbortSignal
  /** The agent's own words on why; shown to approvers as such, never trusted. */
  readonly reason?: string
  /** How long this door can hold a call for an approval, and whom to tell meanwhile. */
  readonly hold: Hold
  /**
   * Asked when the door stops pulling before the result ended: a portal that its client closed is `done`, a client that
   * went away has `abandoned` it. Without it the latter is assumed.
   */
  readonly stopped?: () => 'done' | 'cancelled' | 'abandoned'
  /**
   * Set by a door that reads a result in several answers: the caller's own row limit is then the size of one answer, and
   * a protocol says in `head.attributes.paging` whether the result may be left unread for a while.
   */
  readonly isPaged?: true
  /** Told once when the permission to run ends before the call does: nobody may be pulling just then. */
  readonly onStopped?: () => void
  /** Asks for a new approval although the same call was approved before (C12). */
  readonly newRequest?: string
}

/** What a door can do for a call that waits for a person. */
export interface Hold {
  /** After this long the call ends with `ERR_APPROVAL_PENDING`. 0 answers at once. */
  readonly waitMs: number
  /**
   * Why this call may not wait at all, such as an open transaction (C14). An approval is then a refusal that says so, or
   * this very error where the target itself would say something else.
   */
  readonly refused?: string | SallyportError
  /** Set together with `refused` where the call may wait all the same, if every rule that asks says so (C14). */
  readonly inTransaction?: HeldInTransaction
  /** Told once, when the call starts to wait. */
  readonly onHeld?: (held: {
    readonly ticket: string
    readonly approvers: readonly string[]
    readonly expiresAt: string
    /** Set where the caller's own client may confirm: what its confirmation must name. */
    readonly confirm?: { readonly digest: string; readonly rules: readonly string[] }
  }) => void
  /** Looked at after `onHeld`: true ends the call with `ERR_APPROVAL_PENDING` at once, because its door asks somebody first. */
  readonly isLeft?: () => boolean
}

/** A call inside the open transaction of its caller, which holds locks while persons think. */
export interface HeldInTransaction {
  /** Nobody else's, and of no other call: whatever is agreed to holds for this one while it waits, and for nothing else. */
  readonly id: string
  /** Aborts when the transaction is gone while the call waits. */
  readonly signal: AbortSignal
  /**
   * Makes sure that this call can wait in its transaction, and resolves with for how many milliseconds.
   *
   * @throws SallyportError `ERR_DENIED` where it cannot.
   */
  ready(plan: Plan): Promise<number>
  /** Resolves when the transaction has ended, whichever way. */
  ended(): Promise<void>
}

/** A JSON value with one canonical form (RFC 8785), so that a digest over it is well defined. */
export type Canonical = AttributeValue

/** What a call means and exactly what will be sent. Protocols extend it with their own fields. */
export interface Plan {
  readonly action: Action
  /** Whatever of the call decides what happens at the target: text, parameters and types, settings. C11 digests it. */
  readonly exact: Canonical
  /** The request as recordings and approvers may see it: literals that meet masked columns are placeholders (C10). */
  readonly shown: ShownRequest
  /** The masks the plan was made under: `PlanContext.masks`, whole. A live call whose masks change cannot go on (C2). */
  readonly masks: readonly ColumnMask[]
  /** What stands behind those masks, for the caller, the recording and operators. */
  readonly masking?: MaskingMode
  /** Set when this cannot be carried out as the policy's obligations demand: denied, whatever the rules say. */
  readonly refused?: PlanRefusal
}

/** Why a plan must not run: an obligation the gateway cannot perform on it (XACML: then it must deny). */
export interface PlanRefusal {
  /** The construct that stands in the way, such as `sql.view_over_mask`. */
  readonly construct: string
  /** One sentence for the caller. */
  readonly message: string
  /** What would be accepted instead, when there is such a form. */
  readonly hint?: string
}

/** A request in a form that holds no masked value. */
export interface ShownRequest {
  /** The statement, command line or request line. */
  readonly text: string
  /** Parameters in order, already masked where they must be. */
  readonly params?: readonly (string | null)[]
  /** Where in `text` data stands that masks can name by path. Gone once it was masked. */
  readonly data?: readonly ShownData[]
  /** A hash in `text` of data that stands there too; it goes when any of that data goes, which it would confirm. */
  readonly hash?: string
  /** Set when data was left out because nothing in it could be told apart. Nobody can approve what they do not see. */
  readonly isWithheld?: true
}

/** A stretch of a shown text, from `start` up to `end`, counted in UTF-16 units. */
export interface ShownData {
  readonly start: number
  readonly end: number
  /** A JSON value, a form (`application/x-www-form-urlencoded`), or what has no fields that could be named. */
  readonly form: 'json' | 'form' | 'opaque'
}

/** A call that was planned and decided, with its request in the form recordings and approvers may see. */
export interface Judged<P extends Plan = Plan> {
  readonly plan: P
  readonly decision: Decision
  /** `plan.shown` after the detectors. Nothing else of the request is written down anywhere. */
  readonly shown: ShownRequest
  /** Set when `shown` had to leave out more than what the detectors found. Nobody can approve what they do not see. */
  readonly isReduced?: true
  /** The agent's words, after the detectors. */
  readonly reason?: string
  /** Whether its execution calls {@link Permit.prove} before it can take any effect; see {@link Protocol.proves}. */
  readonly proves?: true
  /** What it has in common with calls that differ from it only in their values; see {@link Protocol.alike}. */
  readonly alike?: Canonical
}

/** What a protocol gets for planning besides the call. */
export interface PlanContext {
  /** Masks that hold for this principal on this target, before any rule matched. */
  readonly masks: readonly ColumnMask[]
  /** Fields of JSON that are masked for this principal on this target; left out when there are none. */
  readonly fields?: readonly FieldMask[]
  /** Reads the target's secret, for look-ups in its catalog. Each use reads it anew. */
  readonly secret: () => Promise<Secret>
  readonly signal: AbortSignal
  /**
   * Set when the policy lets this caller do anything here, what is not understood included, and has nothing to watch: no
   * mask, limit, condition or denial. Whatever the plan says is then allowed, so it may say that it understood nothing.
   */
  readonly isOpen?: true
  /** Addresses of hosts, for an explanation that must not ask DNS. Never set for a call that is to run. */
  readonly resolve?: Readonly<Record<string, readonly string[]>>
}

/** What proves us to a backend. `value` is never logged, recorded or put into an error. */
export interface Secret {
  readonly user?: string
  readonly value: string
}

/** Stands where a secret would, for calls that use none. */
export const NO_SECRET: Secret = { value: '' }

/**
 * By what a backend can later be asked whether a call took effect: the id of a PostgreSQL transaction, for `txid_status()`
 * (PostgreSQL manual, section 9.27).
 */
export interface Proof {
  readonly kind: 'postgres.xid'
  readonly xid: string
}

/** What a backend says of a call by its proof. `running` is to be asked again, `unknown` is no answer and stays none. */
export type Proven = 'took_effect' | 'no_effect' | 'running' | 'unknown'

/** The permission to run one planned call, once. Made by the gateway's permits only. */
export interface Permit {
  readonly decision: Decision
  readonly obligations: Obligations
  /** Aborts when the caller goes away, time is up, the policy changes against the call, or somebody kills it. */
  readonly signal: AbortSignal
  /**
   * Set for a call that persons approved: notes durably by what its outcome can be asked for, and must have resolved
   * before the step after which the call has taken effect. When it rejects, that step must not be taken.
   */
  readonly prove?: (proof: Proof) => Promise<void>
  /** What the preview demanded of the execution, when persons approved the call by one that had a guard. */
  readonly guard?: string
}

/** A protocol as the spine sees it. Everything that speaks to a backend is behind it. */
export interface Protocol<P extends Plan = Plan> {
  readonly name: string
  /** Works out what the call means. Executes nothing of it. What it cannot understand becomes `<prefix>.unknown`. */
  plan(call: Call, context: PlanContext): P | Promise<P>
  /**
   * Compares a shown request with what masking made of it. Returns `undefined` when `masked` still says the same but for
   * values; else the request in words, with every value and comment left out, for each word to be masked by itself. An
   * agent could otherwise write what looks like the beginning of a secret around what it wants nobody to read.
   */
  withoutValues?(shown: string, masked: string): readonly string[] | undefined
  /**
   * Returns `plan.exact` without the values that were handed over beside the text, so that two calls of one statement with
   * other parameters have the same; `undefined` where no such two calls may share an approval. Asked only for a call that
   * needs an approval which may cover others.
   */
  alike?(plan: P): Canonical | undefined
  /**
   * Whether every execution of the plan under an approval leaves a proof before it takes effect. Of one whose gateway died
   * and that left none it is then certain that nothing happened. Asked only for a call that needs an approval.
   */
  proves?(plan: P): boolean
  /** Runs exactly the plan. Ends upstream work when the iterator is closed or the permit's signal aborts. */
  execute(call: Call, plan: P, permit: Permit, secret: Secret, readSecret?: () => Promise<Secret>): AsyncIterable<Chunk>
  /**
   * Whether the call runs on a connection that was authenticated when its session began, so that it needs no secret.
   * `execute` is then handed {@link NO_SECRET}, and reads the real one should it have to connect after all.
   */
  isConnected?(call: Call): boolean
  /** Lists what the target holds, for callers who would otherwise guess. Reads the catalog only. */
  describe?(call: Call, context: PlanContext): Promise<readonly DescribedTable[]>
  /**
   * Works out what the call would change, and leaves nothing behind. Called only for a call that is to be held for an
   * approval. What it cannot say it explains in `missing`; what it throws is taken for that, too.
   */
  preview?(call: Call, plan: P, context: PreviewContext): Promise<Preview>
  /** Asks the backend what became of a call whose gateway died. Runs nothing of it. */
  outcome?(target: Target, proof: Proof, secret: Secret, signal: AbortSignal): Promise<Proven>
  /** Ends pools and timers. */
  close(): Promise<void>
}

/** A relation of a target, as its catalog shows it. */
export interface DescribedTable {
  readonly schema: string
  readonly name: string
  readonly kind: 'table' | 'view' | 'materialized_view' | 'foreign_table' | 'partitioned_table'
  readonly comment?: string
  readonly columns: readonly DescribedColumn[]
  /** What stands behind the masks of its columns; absent when none is masked for the caller. */
  readonly masking?: Exclude<MaskingMode, 'none'>
  /** The part that a plain read of these columns would have; the gateway asks the policy about it. */
  readonly reading: (columns: readonly string[]) => Part
}

/** A column of a described relation. */
export interface DescribedColumn {
  readonly name: string
  readonly type: string
  readonly nullable: boolean
}
