import type { Bind } from '../messages/bind.ts'
import type { Field } from '../messages/row-description.ts'
import type { PostgresPlan } from '../plan-types.ts'
import type { SessionView } from '../session.ts'
import type { WireBackend } from './backend.ts'
import { shownValue } from './values.ts'

/** A prepared statement of a client, and where it stands at the backend. */
export interface Statement {
  /** As the client wrote it. */
  readonly sql: string
  readonly paramTypes: readonly number[]
  /** Its name at the backend: never one a client could choose. */
  readonly upstreamName: string
  /** The text it was last judged to be sent as. */
  wanted: string
  /** The text the backend was given under that name; absent when it knows none. '' when that is in doubt. */
  sent: string | undefined
  /** Whether the client was told that its Parse succeeded. */
  isAnswered: boolean
  /** What the backend has said the types of its parameters are, once the client asked. */
  described?: readonly number[]
}

/** Types of a statement's parameters: as declared, else as the backend has said; 0 where neither is known. */
export function typesOf({ paramTypes, described = [] }: Statement): readonly number[] {
  if (described.length === 0) return paramTypes
  return described.map((type, at) => paramTypes[at] || type)
}

/** What a client asks of a portal. */
export type PortalCommand = { readonly do: 'describe' } | { readonly do: 'execute'; readonly rowsMax: number }

/** How the last Execute of a portal ended. */
export type PortalState = 'open' | 'suspended' | 'complete'

/** What one call on a wire is about: a Query message, or a portal from its Bind on. */
export class WireCall {
  readonly backend: WireBackend
  readonly sql: string
  /** Set for a portal. */
  readonly portal: PortalRequest | undefined
  /** What the client has prepared and declared so far. */
  readonly session: SessionView
  /** Set for one of several statements of a Query message. */
  readonly isPart: boolean
  /** Set for the last of them, behind which the Sync comes. */
  readonly isLast: boolean
  /** The setting that is not as it was pinned; nothing of the text that looks a name up is understood then (C7). */
  readonly drift: string | undefined
  /** Where the session looks names up, when its client has moved that. */
  readonly searchPath: readonly string[] | undefined
  /** Whether anything ran in the session that nobody looked into: only a policy that lets everything through takes it. */
  readonly isUnwatched: boolean
  /** Whether code of users that runs at the end of the transaction was set off in it. */
  readonly owesCode: boolean
  /** Set for a Parse message: its parameters have no values yet. */
  readonly isUnbound: boolean
  /** Set when the session itself may have changed the catalog: what follows is planned with the one of now (C7). */
  readonly followsChange: boolean
  /** Columns of the rows that are decoded on the way, as the backend described them. */
  fields: readonly Field[] = []
  /** Told of each plan it is given. */
  onPlanned: ((plan: PostgresPlan) => void) | undefined
  #plan: PostgresPlan | undefined
  /** Messages for the client that stand between decoded rows (see `answer.ts`). */
  readonly controls: Buffer[] = []

  constructor(
    backend: WireBackend,
    sql: string,
    session: SessionView,
    more: {
      readonly portal?: PortalRequest
      readonly isUnbound?: true
      readonly isPart?: boolean
      readonly isLast?: boolean
      readonly drift?: string | undefined
      readonly searchPath?: readonly string[] | undefined
      readonly isUnwatched?: boolean
      readonly owesCode?: boolean
      readonly followsChange?: boolean
    } = {},
  ) {
    this.backend = backend
    this.sql = sql
    this.session = session
    this.portal = more.portal
    this.isUnbound = more.isUnbound ?? false
    this.isPart = more.isPart ?? false
    this.isLast = more.isLast ?? false
    this.drift = more.drift
    this.searchPath = more.searchPath
    this.isUnwatched = more.isUnwatched ?? false
    this.owesCode = more.owesCode ?? false
    this.followsChange = more.followsChange ?? false
  }

  /** The plan it was last given; its effect on the session is the listener's to keep. */
  get plan(): PostgresPlan | undefined {
    return this.#plan
  }

  planned(plan: PostgresPlan): void {
    this.#plan = plan
    this.onPlanned?.(plan)
  }

  /** Values as text, binary ones decoded where their type is known. */
  get params(): readonly (string | null)[] {
    const { portal } = this
    if (portal === undefined) return []
    const types = typesOf(portal.statement)
    return portal.bind.params.map((value, index) => shownValue(value, portal.bind, types, index))
  }

  /** What stands for the call where it can only be written down. */
  toJSON(): object {
    return { sql: this.sql, params: this.params }
  }
}

/** A portal on its way through the spine: its generator stays suspended between the client's messages. */
export interface PortalRequest {
  readonly statement: Statement
  readonly bind: Bind
  readonly upstreamName: string
  /** What the client asked and was not answered yet. */
  readonly commands: PortalCommand[]
  /** Whether a Sync follows what was asked, so that it can go out with it. */
  withSync: boolean
  state: PortalState
  /** Whether the backend has bound it. */
  isOpened: boolean
  /** Command tag, once complete. */
  tag: string
}
