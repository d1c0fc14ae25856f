import { randomUUID } from 'node:crypto'
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
   * Returns the session of a caller that has no connection (MCP 2026 era): the one its principal, token, door and run
   * already have, or a new one. It ends after {@link IDLE_MS} without a call (DESIGN §8).
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
  const joined = new Map<string, { owned: Promise<OwnedSession>; timer: NodeJS.Timeout | undefined }>()
  let closing: SallyportError | undefined

  async function create(caller: Caller): Promise<OwnedSession> {
    if (closing !== undefined) throw closing
    const id = randomUUID()
    const controller = new AbortController()
    const recording = await recorder.open({ id, ...caller })
    const session: Session = { id, ...caller, recording, signal: controller.signal }
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

  return {
    open: create,

    async join(caller) {
      // The token is part of the key: a session never outlives, or is shared beyond, the credential that opened it.
      const key = JSON.stringify([
        caller.principal.id,
        caller.principal.credentialId ?? '',
        caller.door,
        caller.run ?? '',
      ])
      let entry = joined.get(key)
      if (entry === undefined) {
        entry = { owned: create(caller), timer: undefined }
        joined.set(key, entry)
      }
      const current = entry
      const forget = (): void => {
        clearTimeout(current.timer)
        if (joined.get(key) === current) joined.delete(key)
      }
      let owned: OwnedSession
      try {
        owned = await current.owned
      } catch (error) {
        forget()
        throw error
      }
      if (owned.session.signal.aborted) {
        forget()
        return this.join(caller)
      }
      const arm = (): void => {
        clearTimeout(current.timer)
        current.timer = setTimeout(() => {
          if (isBusy(owned.session)) return arm()
          forget()
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
      await this.end(() => true, closing)
    },
  }
}
