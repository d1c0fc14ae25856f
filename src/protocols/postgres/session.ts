/**
 * What a statement does to the session it runs in, and what of a session a plan is made with.
 *
 * A door that has a session of its own keeps a {@link SessionView}, hands it in with every statement, and brings it up to
 * date with {@link SessionEffect} once the backend has confirmed the statement. A door without one (`query_database`: one
 * call, one transaction) refuses what has such an effect.
 *
 * @packageDocumentation
 */

/** How long a changed setting holds. */
export type SettingScope = 'session' | 'transaction'

/** What a statement leaves behind in its session, when it succeeds. Names are as PostgreSQL keeps them. */
export type SessionEffect =
  | { readonly does: 'begin' }
  /** Ends the transaction, `PREPARE TRANSACTION` too; `chain` opens the next one at once. */
  | { readonly does: 'commit' | 'rollback'; readonly chain: boolean }
  | { readonly does: 'savepoint' | 'release' | 'rollback_to'; readonly name: string }
  /** `value` is absent where the setting goes back to its default; `name` is `all` for RESET ALL. */
  | { readonly does: 'set'; readonly name: string; readonly scope: SettingScope; readonly value?: string }
  | { readonly does: 'discard'; readonly what: 'all' | 'plans' | 'sequences' | 'temp' }
  | { readonly does: 'prepare'; readonly name: string; readonly statement: KeptStatement }
  | { readonly does: 'execute'; readonly name: string }
  /** Without a name: all of them. */
  | { readonly does: 'deallocate'; readonly name?: string }
  /** Without `hold` it ends with the transaction. */
  | { readonly does: 'declare'; readonly name: string; readonly hold: boolean; readonly statement: KeptStatement }
  | { readonly does: 'fetch'; readonly name: string }
  | { readonly does: 'close'; readonly name?: string }
  | { readonly does: 'listen'; readonly channel: string }
  | { readonly does: 'unlisten'; readonly channel?: string }
  /** The backend expects COPY data from the client, or sends it. */
  | { readonly does: 'copy_in' | 'copy_out' }

/**
 * A prepared statement or cursor: the text its client sent (the whole `PREPARE …` or `DECLARE …`, or the text of a Parse
 * message) and the text the backend was given for it. It is planned again whenever it is used, because policy, masks and
 * catalog may have changed; when what would be sent today differs from `sent`, it must be made anew (R19).
 */
export interface KeptStatement {
  readonly text: string
  readonly sent: string
  /** Where its names were looked up. */
  readonly searchPath?: readonly string[]
}

/** What a plan needs to know of the session. */
export interface SessionView {
  readonly prepared: ReadonlyMap<string, KeptStatement>
  readonly cursors: ReadonlyMap<string, KeptStatement>
}

/** A session in which nothing was prepared or declared. */
export const EMPTY_SESSION: SessionView = { prepared: new Map(), cursors: new Map() }

/** The session after an effect took hold. Cursors of a transaction end with it: the door, which knows that, forgets them. */
export function afterEffect(session: SessionView, effect: SessionEffect | undefined): SessionView {
  switch (effect?.does) {
    case 'prepare':
      return { ...session, prepared: new Map(session.prepared).set(effect.name, effect.statement) }
    case 'deallocate':
      return { ...session, prepared: without(session.prepared, effect.name) }
    case 'declare':
      return { ...session, cursors: new Map(session.cursors).set(effect.name, effect.statement) }
    case 'close':
      return { ...session, cursors: without(session.cursors, effect.name) }
    case 'discard':
      if (effect.what === 'all') return EMPTY_SESSION
      return session
    default:
      return session
  }
}

function without(
  kept: ReadonlyMap<string, KeptStatement>,
  name: string | undefined,
): ReadonlyMap<string, KeptStatement> {
  const rest = new Map(kept)
  if (name === undefined) rest.clear()
  else rest.delete(name)
  return rest
}
