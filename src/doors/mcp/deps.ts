/**
 * What the MCP door needs of the gateway. `main.ts` satisfies it; a test may, with less. The door itself knows no
 * policy, no store and no backend.
 *
 * @packageDocumentation
 */
import type { Server } from '@modelcontextprotocol/server'
import type { ApprovalRoom } from '../../approval/create-approvals.ts'
import type { Inbox } from '../../approval/inbox.ts'
import type { Call } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import type { Principal } from '../../core/principal.ts'
import type { Target } from '../../core/target.ts'
import type { Sessions } from '../../gateway/sessions.ts'
import type { VisibleTable } from '../../../tools/describe_target.ts'

/** Everything the MCP door needs. */
export interface McpDoorDeps {
  /** @throws SallyportError `ERR_UNAUTHENTICATED` */
  authenticate(bearer: string): Promise<Principal>
  readonly sessions: Sessions
  /** The spine: `govern`, bound to the rooms. The only way from here to a backend. */
  run(call: Call): AsyncIterable<Chunk>
  target(name: string): Target | undefined
  /** Targets some rule lets the principal touch. */
  targets(principal: Principal): readonly VisibleTarget[]
  /** What the target holds, as far as the caller may read it. */
  describe(call: Call): Promise<readonly VisibleTable[]>
  /** What the policy lets the principal do, for the resource `policy://effective`. */
  effectivePolicy(principal: Principal): string | object
  /** How approvers are asked in their own sessions. */
  readonly inbox: Pick<Inbox, 'offers' | 'vote' | 'confirm' | 'cancel' | 'pending' | 'show'>
  /** The stored call behind a ticket, for its requester only. */
  readonly reissue: ApprovalRoom['reissue']
  /** How many results of a target may wait to be read on, each holding one of its connections. None by default. */
  readonly cursorsPerTarget?: (target: Target) => number
  readonly log: DoorLog
  /** Host names (without port) this door answers to. Loopback names by default. */
  readonly allowedHosts?: readonly string[]
  /** Host names of web origins that may call. Loopback names by default; a request without `Origin` passes. */
  readonly allowedOrigins?: readonly string[]
  readonly limits?: Partial<DoorLimits>
  /** What clients are told the server is. */
  readonly version?: string
  /** Makes another server than the gateway's own to stand behind the door, a fresh one for each client. For tests of the door. */
  readonly factory?: () => Server
}

/** A target as its callers may know it. */
export interface VisibleTarget {
  readonly name: string
  readonly protocol: string
  readonly labels: Readonly<Record<string, string>>
  readonly mode: 'enforce' | 'observe'
}

/** Where the door says what happened. Never a payload. */
export interface DoorLog {
  info(event: Readonly<Record<string, unknown>>, message: string): void
  warn(event: Readonly<Record<string, unknown>>, message: string): void
  error(event: Readonly<Record<string, unknown>>, message: string): void
}

/** The bounds of the door. */
export interface DoorLimits {
  /** Most bytes of a request body. */
  readonly bodyBytesMax: number
  /** Deepest nesting of a request body. */
  readonly bodyDepthMax: number
  /** Most bytes of a result an answer holds. */
  readonly resultBytesMax: number
  /** Most bytes of results that wait to be read by the clients of one principal. */
  readonly unreadBytesPerPrincipalMax: number
  /** The same for all clients. */
  readonly unreadBytesMax: number
  /** A client that has not taken its answer after this long is cut off. */
  readonly unreadMs: number
  /** How long a call is held for a person when its client asked for no progress: under the usual 60 s timeout. */
  readonly holdMs: number
  /** The same for a client that asked for progress, and therefore hears that the call is alive. */
  readonly holdWithProgressMs: number
  /** Time between two heartbeats. */
  readonly heartbeatMs: number
  /** What a held call's answer says about when to ask again. */
  readonly pollAfterMs: number
  /** A session nobody used for this long is ended. */
  readonly sessionIdleMs: number
  /** Time between two looks for idle sessions. */
  readonly sweepMs: number
  readonly sessionsPerPrincipalMax: number
  readonly sessionsMax: number
  /** Requests of one principal being answered at the same time, open streams included. */
  readonly requestsPerPrincipalMax: number
  /** A result that was answered in part and that nobody asks more of is ended after this long. */
  readonly cursorIdleMs: number
  readonly cursorsPerPrincipalMax: number
  readonly cursorsMax: number
  /** Approval forms open at the same time in one session. */
  readonly formsPerSessionMax: number
}

/** The bounds that hold when nothing else is configured. */
export const DOOR_LIMITS: DoorLimits = {
  bodyBytesMax: 1024 * 1024,
  bodyDepthMax: 64,
  resultBytesMax: 8 * 1024 * 1024,
  unreadBytesPerPrincipalMax: 64 * 1024 * 1024,
  unreadBytesMax: 256 * 1024 * 1024,
  unreadMs: 5 * 60_000,
  holdMs: 45_000,
  holdWithProgressMs: 10 * 60_000,
  heartbeatMs: 10_000,
  pollAfterMs: 5000,
  sessionIdleMs: 30 * 60_000,
  sweepMs: 60_000,
  sessionsPerPrincipalMax: 128,
  sessionsMax: 4096,
  requestsPerPrincipalMax: 512,
  cursorIdleMs: 60_000,
  cursorsPerPrincipalMax: 4,
  cursorsMax: 64,
  formsPerSessionMax: 4,
}
