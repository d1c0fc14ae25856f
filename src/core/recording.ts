import type { Call, Ending, Judged } from './call.ts'
import type { Chunk } from './chunk.ts'
import type { SallyportError } from './errors.ts'

/** The recording of one session. Entries are complete on disk (`write(2)`) when the promises resolve (C15). */
export interface SessionRecording {
  /** Starts the record of a call. Writes nothing yet: what the payload is, only the plan knows (C10). */
  begin(call: Call): CallRecording
  /**
   * Records an attempt that never became a call: invalid arguments, an unknown tool or target. Of the payload only its
   * length and a keyed hash are kept, because nobody can say what in it is secret.
   */
  refused(attempt: {
    readonly tool: string
    readonly target?: string
    readonly payload: unknown
    readonly error: SallyportError
  }): Promise<void>
  /**
   * Records what a backend said to the session's client beside any call, as the client is told it. Returns nothing when it
   * is in the file already.
   */
  heard?(said: Said): Promise<void> | undefined
  /** Seals the file. */
  close(): Promise<void>
}

/** Words of a backend that answer no call. What masks or detectors keep from the client is not in it. */
export interface Said {
  readonly kind: 'notification' | 'notice'
  readonly target: string
  /** Of a notification. */
  readonly channel?: string
  /** Absent when it was withheld. */
  readonly text?: string
}

/**
 * The record of one call: a decision entry, bulk in the sidecar, an end entry. What returns no promise is already where it
 * belongs, which is the usual case; what cannot be written rejects.
 */
export interface CallRecording {
  /** Written before anything runs. May be called again when the call was judged anew after an approval. */
  decided(judged: Judged): Promise<void> | undefined
  /** Notes that the call waits for, or runs under, a ticket. */
  approval(event: {
    readonly ticket: string
    readonly state: string
    readonly by?: readonly string[]
  }): Promise<void> | undefined
  /** Recorded before it is shown: resolves when the bytes are handed to the kernel. */
  shown(chunk: Chunk): Promise<void> | undefined
  /** Ends the record. Never throws for an error the caller should see instead; a lost entry is reported to the log. */
  close(ending: Ending, error?: SallyportError): Promise<void> | undefined
}
