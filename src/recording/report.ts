/** Why a file, or a line of it, is not what was written. */
export type ProblemReason =
  /** A line, or the one before it, was changed. */
  | 'altered'
  | 'removed'
  | 'duplicate'
  | 'unreadable'
  /** The file ends in the middle of a line or frame. */
  | 'torn'
  /** The header does not belong to this file, folder or session. */
  | 'header'
  | 'wrong_key'
  | 'forged'
  | 'unsealed'
  /** Something follows the seal. */
  | 'after_seal'
  /** A file that a journal or a head knows is not there. */
  | 'missing'
  /** A file no journal knows. */
  | 'unlisted'
  /** The file is in order by itself and is not the one that was recorded. */
  | 'replaced'
  /** The file ends before a line that a checkpoint, a seal or a head knew. */
  | 'rolled_back'
  | 'bulk_missing'
  | 'bulk_altered'
  /** There is nothing to verify. */
  | 'empty'

/** One finding. */
export interface Problem {
  /** Relative to the recordings folder. */
  readonly file: string
  /** Counted from 1. */
  readonly line?: number
  readonly reason: ProblemReason
  readonly message: string
}

/** How one file stands. */
export interface FileReport {
  readonly file: string
  readonly kind: 'session' | 'journal' | 'bulk'
  /** `open`: not sealed yet, in a run that is not sealed either. `removed`: gone, and a recorded act accounts for it. */
  readonly status: 'sealed' | 'crashed' | 'continued' | 'open' | 'removed' | 'bad'
  readonly entries: number
}

/** The result of a verification. */
export interface Report {
  /** No problem was found. The exit code of the command. */
  readonly ok: boolean
  readonly files: readonly FileReport[]
  readonly problems: readonly Problem[]
  /** What the recordings themselves say was lost or cut; no sign of tampering, and worth reading. */
  readonly notes: readonly { readonly file: string; readonly line: number; readonly text: string }[]
  /** Files whose end nothing proves yet: their run goes on, or died and was not started again. */
  readonly open: number
  /** Whether the key came from the caller. A key found beside the recordings proves nothing about who wrote both. */
  readonly isKeyTrusted: boolean
}
