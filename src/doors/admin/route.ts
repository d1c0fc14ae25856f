import type { z } from 'zod'
import { SallyportError } from '../../core/errors.ts'
import type { Principal, Role } from '../../core/principal.ts'
import type { AdminAct, AdminRooms } from './rooms.ts'

/** Who may use a route: anybody, whoever has a good token, or the bearers of a role. */
export type Audience = 'anybody' | 'any-token' | readonly [Role, ...Role[]]

/** One line of the table of routes. */
export interface Route {
  readonly method: 'get' | 'post' | 'delete'
  /** In the syntax of path-to-regexp; at most one parameter, `:id`. */
  readonly path: string
  readonly audience: Audience
  /** Set when using it is an administrative act and so is recorded, before and after. */
  readonly act?: string
  /** Set when the room behind it records the act itself, because the act can come through other doors too. */
  readonly recordedBy?: 'approval' | 'identity'
  /** Answers with a value for JSON, a text, or a stream of events or lines. Throws only `SallyportError`s. */
  readonly handle: (request: AdminRequest, rooms: AdminRooms) => Promise<Answer> | Answer
}

/** A request that passed the guard. */
export interface AdminRequest {
  readonly principal: Principal
  /** The `:id` of the path, or empty. */
  readonly id: string
  readonly query: Readonly<Record<string, unknown>>
  readonly body: unknown
  /** Aborts when the caller goes away or the door closes. */
  readonly signal: AbortSignal
}

/** What a route answers. */
export type Answer =
  | { readonly status?: number; readonly json: unknown; readonly facts?: AdminAct['facts'] }
  | { readonly status?: number; readonly text: string; readonly type: string }
  | { readonly events: AsyncIterable<unknown> }
  | { readonly lines: AsyncIterable<string> }

/** A principal for routes that know nobody. */
export const NOBODY: Principal = { id: '-', kind: 'service', groups: [], roles: [], owner: '-' }

/** @throws SallyportError `ERR_INVALID_INPUT` naming the field, never quoting what it held. */
export function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const result = schema.safeParse(body ?? {})
  if (result.success) return result.data
  const [issue] = result.error.issues
  const field = issue === undefined || issue.path.length === 0 ? 'The body' : `"${issue.path.join('.')}"`
  throw new SallyportError('ERR_INVALID_INPUT', `${field} ${wrongIn(issue)}.`)
}

function wrongIn(issue: z.core.$ZodIssue | undefined): string {
  if (issue?.code === 'unrecognized_keys') return `has an unknown key ${JSON.stringify(issue.keys[0])}`
  // Written beside the check, and says what is accepted.
  return issue?.code === 'custom' ? issue.message : 'is not valid'
}
