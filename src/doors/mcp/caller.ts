import type { AuthInfo, RequestId, ServerContext } from '@modelcontextprotocol/server'
import type { Session } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Principal } from '../../core/principal.ts'
import type { TakeRoom } from './unread.ts'

/**
 * One HTTP request and who sent it. It travels beside the message, in the place the MCP libraries keep for verified
 * identity, so that a handler always sees the identity of *this* request and never the one that opened a session.
 */
export class Caller {
  readonly principal: Principal
  /** Aborts when the client went away before its answer was complete, and never after that. */
  readonly gone: AbortSignal
  /** Ids of the tool calls of this request that reached a handler; the others were refused before. */
  readonly reached = new Set<RequestId>()
  /** Takes room in memory for what the answer holds until it is sent. */
  readonly takeRoom: TakeRoom
  readonly #session: () => Promise<Session>

  constructor(
    principal: Principal,
    gone: AbortSignal,
    session: () => Promise<Session>,
    takeRoom: TakeRoom = () => true,
  ) {
    this.principal = principal
    this.gone = gone
    this.takeRoom = takeRoom
    this.#session = session
  }

  /** The session the calls of this request belong to; opened when it is first needed. */
  session(): Promise<Session> {
    return this.#session()
  }

  /** The form in which the MCP libraries carry it. They never see the token. */
  asAuthInfo(): AuthInfo {
    return { token: '', clientId: this.principal.id, scopes: [], extra: { caller: this } }
  }
}

/** @throws SallyportError `ERR_UNAUTHENTICATED` when a handler runs without a verified caller: fail closed. */
export function callerOf(ctx: ServerContext): Caller {
  const caller = ctx.http?.authInfo?.extra?.['caller']
  if (caller instanceof Caller) return caller
  throw new SallyportError('ERR_UNAUTHENTICATED', 'The request carries no verified caller.')
}
