/**
 * What a call would change, worked out before anybody is asked about it (C14).
 *
 * A protocol that can say so has `Protocol.preview`. It is asked once for each ticket, before the ticket is filed; what it
 * returns is shown to approvers on every surface and kept encrypted with the request.
 *
 * @packageDocumentation
 */
import type { Secret, ShownData } from './call.ts'
import type { Cell } from './chunk.ts'
import type { ColumnMask } from './decision.ts'

/** What a protocol gets for a preview besides the call and its plan. */
export interface PreviewContext {
  /** The masks of the target without any exception: an approver may be allowed to see less than the caller is. */
  readonly masks: readonly ColumnMask[]
  /** Reads the target's secret. Each use reads it anew. */
  readonly secret: () => Promise<Secret>
  /** Aborts when the caller goes away and when the preview has taken longer than a caller should wait for it. */
  readonly signal: AbortSignal
}

/** What a call would change. Its texts pass the detectors before they are kept, and are escaped where they are shown. */
export interface Preview {
  /** In the order to be read. Without any, and without `missing`, the call would change nothing. */
  readonly sections: readonly PreviewSection[]
  /**
   * Why there is no preview, or none of the whole call: one sentence. Whatever cannot be tried without leaving something
   * behind is not tried, and said here.
   */
  readonly missing?: string
  /**
   * What the execution must find as the preview found it, in a form only the protocol reads. It comes back in
   * `Permit.guard`. An execution that finds something else leaves nothing behind and throws `ERR_APPROVAL_STALE` with
   * `facts.noEffect` and `facts.askAgain`, before its first chunk: the approvers are then asked again, with a new preview.
   */
  readonly guard?: string
  /**
   * How many rows it changes, by what happens to which table; set only where that is all it changes and certain to be so
   * when it runs. A call that an earlier approval covers may change no more than the approved one showed.
   */
  readonly touched?: Readonly<Record<string, number>>
}

/** One thing a preview says: a heading, and words or rows under it. */
export interface PreviewSection {
  /** In the words of the protocol, such as `UPDATE public.orders: 3 rows`. */
  readonly title: string
  /** Lines to show as they stand, such as a diff. */
  readonly text?: string
  /** Where in `text` data stands that masks can name by path. */
  readonly data?: readonly ShownData[]
  /** A hash in `text` of what stands there too; it goes when anything there is masked, which it would confirm. */
  readonly hash?: string
  /** Rows, already masked at their source where columns are masked. */
  readonly table?: { readonly columns: readonly string[]; readonly rows: readonly (readonly Cell[])[] }
  /** How many lines or rows there are beyond those shown; nothing is ever left out silently. */
  readonly more?: number
}
