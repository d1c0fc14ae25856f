import type { Inbox } from '../../approval/inbox.ts'
import type { MaskingMode } from '../../core/decision.ts'
import type { Principal } from '../../core/principal.ts'
import type { BrowserSessions } from '../../identity/browser-sessions.ts'
import type { Identity } from '../../identity/identity.ts'
import type { SallyportError } from '../../core/errors.ts'
import type { RecordingInfo } from '../../recording/list.ts'

/** What the admin door needs of the rooms behind it. `main.ts` hands it in. */
export interface AdminRooms {
  /** Who is calling, and the tokens they call with. */
  readonly identity: Pick<Identity, 'authenticate' | 'create' | 'list' | 'revoke' | 'confirm'>
  /** What stands for a token in a browser. */
  readonly browsers: BrowserSessions
  /** Tickets. What a person may do to one of them is the inbox's to say. */
  readonly approvals: Inbox
  readonly sessions: SessionDesk
  readonly freezes: FreezeDesk
  readonly policy: PolicyDesk
  readonly recordings: RecordingDesk
  /** Where the Kubernetes door is; `undefined` while there is none. */
  readonly kubernetes: () => KubernetesDoor | undefined
  /** Metrics in the Prometheus text format. */
  readonly metrics: () => string | Promise<string>
  /** Whether calls can be served now: policy loaded, store and recordings writable. */
  readonly isReady: () => boolean | Promise<boolean>
  /** Records an administrative act. The act does not happen when this rejects. */
  readonly record: (act: AdminAct) => Promise<void>
  /** Told of faults nobody foresaw; what they say never leaves the door. */
  readonly onFault: (error: SallyportError, request: { readonly method: string; readonly path: string }) => void
}

/** What a client of the Kubernetes door has to know. */
export interface KubernetesDoor {
  /** Without the name of a target: `https://127.0.0.1:7443`. */
  readonly url: string
  /** The door's own certificate in PEM, where the configuration named none. */
  readonly certificate?: string
}

/** One administrative act, as the recording keeps it. */
export interface AdminAct {
  readonly act: string
  readonly by: Principal
  /** What it was done to: a ticket, a token, a session. */
  readonly subject?: string
  /** `attempted` stands before the act, so that what happened after a crash is never missing. */
  readonly outcome: 'attempted' | 'done' | 'refused' | 'failed'
  /** Names and numbers only; a token never stands here. */
  readonly facts?: Readonly<Record<string, string | number | boolean | readonly string[]>>
}

/** Open sessions and the calls in them, of all instances that share a store. */
export interface SessionDesk {
  /** @returns also the names of instances that did not answer in time, whose sessions are not listed. */
  list(): Promise<{ readonly sessions: readonly SessionFacts[]; readonly unheard: readonly string[] }>
  /**
   * Ends one; its calls are cancelled. Returns whether there was one, and which instances did not say: they end it as soon
   * as they hear of it.
   */
  kill(id: string, by: Principal): Promise<{ readonly isKilled: boolean; readonly unheard: readonly string[] }>
}

/** What is stopped, whatever the policy says. */
export interface FreezeDesk {
  list(): Promise<readonly FreezeFacts[]>
  /** Stops every call of a principal, or on a target, also those under way. */
  freeze(subject: FrozenSubject, by: string, reason: string, forMs?: number): Promise<FreezeFacts>
  /** @throws SallyportError `ERR_INVALID_INPUT` when it is not frozen. */
  unfreeze(subject: FrozenSubject): Promise<void>
}

/** What a freeze is about. */
export interface FrozenSubject {
  readonly kind: 'principal' | 'target'
  readonly name: string
}

/** A freeze as operators see it. Times are RFC 3339. */
export interface FreezeFacts extends FrozenSubject {
  readonly by: string
  readonly reason: string
  readonly since: string
  readonly until?: string
}

/** A session as operators see it. */
export interface SessionFacts {
  readonly id: string
  readonly principal: string
  readonly owner: string
  readonly door: string
  readonly run?: string
  /** Which gateway has it, where several share a store: the name its recordings are under. */
  readonly instance?: string
  readonly calls: readonly {
    readonly id: string
    readonly tool: string
    readonly target: string
    readonly text: string
    /** What stands behind the masks of the call. */
    readonly masking?: MaskingMode
  }[]
}

/** The policy in force. */
export interface PolicyDesk {
  status(): PolicyStatus
  /** Loads the files again. A bad file keeps the old policy. @throws SallyportError `ERR_POLICY_INVALID`. */
  reload(): Promise<PolicyStatus>
}

/** Which policy decides now, and what is wrong with the files if they could not replace it. */
export interface PolicyStatus {
  readonly version: string
  readonly directory: string
  readonly rules: number
  readonly loadedAt: string
  readonly problem?: string
}

/** Finished and running recordings. */
export interface RecordingDesk {
  list(): Promise<readonly RecordingFacts[]>
  /**
   * A readable rendering of one session, line by line.
   *
   * @param resultBytesMax how much of each result it holds.
   * @throws SallyportError `ERR_INVALID_INPUT` when there is none of that id.
   */
  show(session: string, resultBytesMax: number): Promise<AsyncIterable<string>>
  /**
   * What happened in one session with its times, an event a line, as JSON.
   *
   * @throws SallyportError `ERR_INVALID_INPUT` when there is none of that id.
   */
  replay(session: string): Promise<AsyncIterable<string>>
}

/** One recording, as lists show it. */
export type RecordingFacts = Omit<RecordingInfo, 'file'>
