import type { Bind } from '../messages/bind.ts'
import type { Field } from '../messages/row-description.ts'
import type { WireBackend } from './backend.ts'
import { shownValue } from './values.ts'

/** A prepared statement of a client, and where it stands at the backend. */
export interface Statement {
  /** As the client wrote it. */
  readonly sql: string
  readonly paramTypes: readonly number[]
  /** Its name at the backend: never one a client could choose. */
  readonly upstreamName: string
  /** The text the backend was given under that name; absent when it knows none. */
  sent: string | undefined
  /** Whether the client was told that its Parse succeeded. */
  isAnswered: boolean
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
  /** Columns of the rows that are decoded on the way, as the backend described them. */
  fields: readonly Field[] = []
  /** Messages for the client that stand between decoded rows (see `answer.ts`). */
  readonly controls: Buffer[] = []

  constructor(backend: WireBackend, sql: string, portal?: PortalRequest) {
    this.backend = backend
    this.sql = sql
    this.portal = portal
  }

  /** Values as text, binary ones decoded where their type is known. */
  get params(): readonly (string | null)[] {
    const { portal } = this
    if (portal === undefined) return []
    return portal.bind.params.map((value, index) => shownValue(value, portal.bind, portal.statement.paramTypes, index))
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
  /** Command tag, once complete. */
  tag: string
}
