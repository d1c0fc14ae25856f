import { createHash, randomUUID } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import type { Session } from '../core/call.ts'
import { SallyportError } from '../core/errors.ts'
import type { Principal } from '../core/principal.ts'
import type { SessionRecording } from '../core/recording.ts'

/** What a door says of a caller it has identified. */
export interface Caller {
  readonly principal: Principal
  readonly door: string
  /** The caller's own name for a piece of work. */
  readonly run?: string
}

/** A session together with the duty to close it. */
export interface OwnedSession {
  readonly session: Session
  /** Ends the session's calls and seals its recording. Safe to call twice. */
  close(): Promise<void>
}

/** The open sessions of this gateway. */
export interface Sessions {
  /** Opens a session for a caller that has a connection; the door closes it with the connection. */
  open(caller: Caller): Promise<OwnedSession>
  /**
   * Returns the session of a caller that has no connection (MCP 2026 era): the one this very principal (as it is now,
   * groups, roles and token included), door and run already have, or a new one. It ends after {@link IDLE_MS} without a
   * call (DESIGN §8), when the principal's groups or roles change, and when the principal needs room for another.
   *
   * @throws SallyportError `ERR_LIMIT_CONCURRENCY`, `ERR_RECORDING_FAILED`, `ERR_SHUTTING_DOWN`.
   */
  join(caller: Caller): Promise<Session>
  list(): readonly Session[]
  /** Ends the sessions `which` selects; their calls are cancelled with `why`. */
  end(which: (session: Session) => boolean, why: SallyportError): Promise<number>
  /** Ends all and opens no more. */
  close(): Promise<void>
}

/** How long a session without a connection outlives its last call. */
export const IDLE_MS = 30 * 60_000

/** Sessions without a connection one principal may have: each keeps a recording open, and a caller names its own runs. */
export const JOINED_PER_PRINCIPAL_MAX = 32

/** What the sessions need of the recorder. */
export interface SessionRecorder {
  /** Opens the recording file of a new session. @throws SallyportError `ERR_RECORDING_FAILED`. */
  open(session: {
    readonly id: string
    readonly principal: Principal
    readonly door: string
    readonly run?: string
  }): Promise<SessionRecording>
}

/**
 * Keeps the sessions of one gateway.
 *
 * @param isBusy whether a session has a call that runs or waits; such a session is never idle.
 */
export function createSessions(
  recorder: SessionRecorder,
  isBusy: (session: Session) => boolean = () => false,
  onCloseError: (error: unknown) => void = () => undefined,
): Sessions {
  const open = new Map<string, OwnedSession & { readonly controller: AbortController }>()
  /** By {@link keyOf}; the one that was used last stands last. */
  const joined = new Map<string, Joined>()
  const opening = new Set<Promise<unknown>>()
  let closing: SallyportError | undefined

  function throwIfClosing(): void {
    if (closing !== undefined) throw closing
  }

  /** An end waits for what is just being opened, or that would be left open. */
  function create(caller: Caller, sharedId?: string): Promise<OwnedSession> {
    const made = make(caller, sharedId)
    opening.add(made)
    const forget = (): void => void opening.delete(made)
    made.then(forget, forget)
    return made
  }

  async function make(caller: Caller, sharedId: string | undefined): Promise<OwnedSession> {
    throwIfClosing()
    const id = randomUUID()
    const controller = new AbortController()
    // Doors listen for each stream and each connection of the session, which the doors bound: many are no leak.
    setMaxListeners(0, controller.signal)
    const recording = await recorder.open({ id, ...caller })
    const shared = sharedId === undefined ? {} : { sharedId }
    const session: Session = { id, ...shared, ...caller, recording, signal: controller.signal }
    let closed: Promise<void> | undefined
    const owned = {
      session,
      controller,
      close: () => {
        closed ??= (async () => {
          open.delete(id)
          if (!controller.signal.aborted) {
            controller.abort(new SallyportError('ERR_CANCELLED', 'The session ended.'))
          }
          await recording.close()
        })()
        return closed
      },
    }
    open.set(id, owned)
    return owned
  }

  function forget(entry: Joined): void {
    clearTimeout(entry.timer)
    if (joined.get(entry.key) === entry) joined.delete(entry.key)
  }

  /** Ends a session that is not joined any more. Its calls are cancelled with `why`. */
  function dismiss(entry: Joined, why: SallyportError): void {
    forget(entry)
    const end = async (): Promise<void> => {
      const owned = await entry.owned
      open.get(owned.session.id)?.controller.abort(why)
      await owned.close()
    }
    end().catch(onCloseError)
  }

  function makeRoom(caller: Caller): void {
    const own = [...joined.values()].filter(({ principal }) => principal.id === caller.principal.id)
    const who = whoOf(caller.principal)
    // Groups or roles changed since: a call is judged by what its principal is now, so what began before ends here.
    const outdated = own.filter(({ principal }) => whoOf(principal) === who)
    for (const entry of outdated) {
      if (principalOf(entry.principal) !== principalOf(caller.principal)) dismiss(entry, identityChanged())
    }
    const left = own.filter((entry) => joined.get(entry.key) === entry)
    if (left.length < JOINED_PER_PRINCIPAL_MAX) return
    const idle = left.find(({ session }) => session !== undefined && !isBusy(session))
    if (idle === undefined) throw tooMany()
    dismiss(idle, new SallyportError('ERR_CANCELLED', 'The session made room for another one of the same caller.'))
  }

  return {
    open: (caller) => create(caller),

    async join(caller) {
      const key = keyOf(caller)
      let entry = joined.get(key)
      if (entry === undefined) {
        makeRoom(caller)
        entry = {
          key,
          principal: caller.principal,
          owned: create(caller, sharedIdOf(key)),
          session: undefined,
          timer: undefined,
        }
      }
      const current = entry
      joined.delete(key)
      joined.set(key, current)
      let owned: OwnedSession
      try {
        owned = await current.owned
      } catch (error) {
        forget(current)
        throw error
      }
      current.session = owned.session
      if (owned.session.signal.aborted) {
        forget(current)
        return this.join(caller)
      }
      const arm = (): void => {
        if (current.timer !== undefined) return void current.timer.refresh()
        current.timer = setTimeout(() => {
          if (isBusy(owned.session)) return arm()
          forget(current)
          owned.close().catch(onCloseError)
        }, IDLE_MS)
        current.timer.unref()
      }
      arm()
      return owned.session
    },

    list: () => [...open.values()].map(({ session }) => session),

    async end(which, why) {
      const chosen = [...open.values()].filter(({ session }) => which(session))
      for (const { controller } of chosen) controller.abort(why)
      await Promise.all(chosen.map((owned) => owned.close()))
      return chosen.length
    },

    async close() {
      closing = new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.')
      for (const { timer } of joined.values()) clearTimeout(timer)
      joined.clear()
      await Promise.allSettled(opening)
      await this.end(() => true, closing)
    },
  }
}

/** A session without a connection. */
interface Joined {
  readonly key: string
  readonly principal: Principal
  readonly owned: Promise<OwnedSession>
  /** Set once it is open. */
  session: Session | undefined
  timer: NodeJS.Timeout | undefined
}

/** Whose session it is, where and for what: nothing a decision may read can differ within one session. */
function keyOf({ principal, door, run }: Caller): string {
  return JSON.stringify([principalOf(principal), door, run ?? null])
}

function sharedIdOf(key: string): string {
  return createHash('sha256').update(key).digest('hex')
}

const spelled = new WeakMap<Principal, string>()

function principalOf(principal: Principal): string {
  const known = spelled.get(principal)
  if (known !== undefined) return known
  const { groups, roles } = principal
  const text = JSON.stringify([whoOf(principal), [...groups].sort(), [...roles].sort()])
  spelled.set(principal, text)
  return text
}

/** What of a principal can never change. The token is part of it: a session is never shared beyond its credential. */
function whoOf({ id, kind, owner, actsFor, credentialId }: Principal): string {
  return JSON.stringify([id, kind, owner, actsFor ?? null, credentialId ?? null])
}

function identityChanged(): SallyportError {
  return new SallyportError('ERR_CANCELLED', 'The identity behind this session changed.')
}

function tooMany(): SallyportError {
  return new SallyportError(
    'ERR_LIMIT_CONCURRENCY',
    `${JOINED_PER_PRINCIPAL_MAX} declared runs of yours have calls under way; wait until those of one have ended.`,
  )
}
