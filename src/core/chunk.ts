import type { Transform } from './decision.ts'

/** A result column as the backend described it. */
export interface Column {
  readonly name: string
  /** Type as its owner writes it: `integer`, `character varying(40)`. */
  readonly type: string
  /** Set when every value of this column was replaced at the source. */
  readonly masked?: Transform
}

/** A value in the backend's text form, or NULL. */
export type Cell = string | null

/**
 * A piece of a result, tens of kilobytes at a time, never one per row.
 *
 * `head` describes what follows; `data` carries rows or raw bytes on a named channel (`rows`, `stdout`, `stderr`,
 * `body`, `copy`, `wire`, `pty`; `stdin` is what a person typed, for the recording alone); `notice` is what the backend says beside the result; `exit` ends the result.
 */
export type Chunk =
  | {
      readonly kind: 'head'
      readonly columns?: readonly Column[]
      readonly attributes?: Readonly<Record<string, string>>
      /** As in {@link ExitChunk}, for whoever shows a result before it has ended. */
      readonly replayed?: true
    }
  | RowsChunk
  | BytesChunk
  | {
      readonly kind: 'notice'
      readonly severity: string
      readonly text: string
      /** Said by the gateway to its caller, in plain ASCII: nothing is wrong with the result. */
      readonly isAdvice?: true
    }
  | ExitChunk

/** Rows in text form. */
export interface RowsChunk {
  readonly kind: 'data'
  readonly channel: 'rows'
  readonly rows: readonly (readonly Cell[])[]
}

/** Bytes as they came. */
export interface BytesChunk {
  readonly kind: 'data'
  readonly channel: 'stdout' | 'stderr' | 'body' | 'copy' | 'wire' | 'pty' | 'stdin'
  readonly bytes: Uint8Array
}

/** How the backend ended the call. */
export interface ExitChunk {
  readonly kind: 'exit'
  /** `SELECT 5`, an exit code, an HTTP status: as the protocol names it. */
  readonly status: string
  readonly rowCount?: number
  /** Whether a limit cut the result. */
  readonly truncated: boolean
  /** The limit that cut it. */
  readonly truncatedBy?: 'rows' | 'bytes'
  /**
   * How each statement of a call with several ended, in order. Each then has a `head`, with or without columns, before its
   * rows; the fields above are about all of them together.
   */
  readonly results?: readonly StatementResult[]
  /** How many values the detectors replaced, by detector. Filled in by `masking/`. */
  readonly masked?: Readonly<Record<string, number>>
  /**
   * Set where the backend's last word is that it did not do it: nothing of the call remains, or nobody can know. Left out,
   * the call was done, whatever it says of it.
   */
  readonly failed?: 'no_effect' | 'unknown'
  /** Set when a stored result is shown again instead of running the call twice (C12). */
  readonly replayed?: boolean
}

/** How one of several statements ended. */
export type StatementResult = Pick<ExitChunk, 'status' | 'rowCount' | 'truncated' | 'truncatedBy'>
