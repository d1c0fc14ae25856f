import type { ActionClass } from '../core/action.ts'
import { SallyportError } from '../core/errors.ts'
import type { Disk } from './disk.ts'
import { recordingFailed } from './disk.ts'
import type { Signer } from './keys.ts'

/** When entries are forced to the device: always, before state-changing and approved calls run, or by the system. */
export type Fsync = 'always' | 'writes' | 'off'

/** Where the recorder says what callers cannot be told. The shape of pino. */
export interface RecorderLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** What every part of the recorder shares. */
export interface RecorderContext {
  readonly disk: Disk
  /** The instance's folder. */
  readonly folder: string
  readonly instance: string
  readonly signer: Signer
  readonly payloadKey: Uint8Array
  readonly now: () => number
  readonly fsync: Fsync
  readonly classOf: (verb: string) => ActionClass | undefined
  readonly policyVersion: () => string | undefined
  readonly log: RecorderLog
  readonly space: Space
  /** How long a session's end waits for the ends of its calls. */
  readonly closeWaitMs: number
}

/** Whether there is room to record another call. */
export interface Space {
  /** Says that a write failed: from now on new calls are refused until a probe succeeds. */
  failed(error: SallyportError): void
  /** Returns why there is no room, `ERR_RECORDING_FAILED`; nothing while there is. */
  check(): SallyportError | undefined
}

/** Room a new call must find once a write has failed: its end, and the ends of others, must fit as well. */
const PROBE_BYTES = 256 * 1024
const PROBE_EVERY_MS = 200

/**
 * Keeps new calls out while the disk is full (C16). A few free bytes would let a decision in and leave no room for what
 * follows it, so after a failure it takes a whole probe to let calls in again.
 */
export function createSpace(disk: Disk, folder: string, log: RecorderLog): Space {
  let failure: SallyportError | undefined
  let probedAt = -Infinity
  return {
    failed(error) {
      if (failure === undefined)
        log.error({ err: error }, 'Recording failed; new calls are refused until it works again')
      failure = error
    },
    check() {
      if (failure === undefined) return undefined
      const now = performance.now()
      if (now - probedAt < PROBE_EVERY_MS) return failure
      probedAt = now
      try {
        disk.probe(folder, PROBE_BYTES)
      } catch (error) {
        failure = recordingFailed(error)
        return failure
      }
      failure = undefined
      probedAt = -Infinity
      log.info({}, 'Recording works again')
      return undefined
    },
  }
}
