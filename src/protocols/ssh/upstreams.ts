import type { Client, SFTPWrapper } from 'ssh2'
import type { Secret, Session } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Target } from '../../core/target.ts'
import { connect } from './connection.ts'
import { openSftp } from './sftp-channel.ts'
import type { SshOptions } from './options.ts'

/** How long a connection outlives its last channel. */
const IDLE_MS = 30_000
/** Channels on one connection; sshd allows 10 (`MaxSessions`), and ending a command takes one more. */
const CHANNELS_MAX = 8

/** The use of a connection for one channel. */
export interface Lease {
  readonly client: Client
  /** Whether it was there already, and so may have died without anybody noticing. */
  readonly isKept: boolean
  /** The connection's channel for files, opened when it is first needed. */
  sftp(signal: AbortSignal): Promise<SFTPWrapper>
  /** Gives it back. `isBroken` when nobody should use it again. */
  release(isBroken?: boolean): void
}

interface Kept {
  readonly client: Client
  /** What proved us: another secret gets another connection. */
  readonly secret: string
  users: number
  sftp: Promise<SFTPWrapper> | undefined
  timer: NodeJS.Timeout | undefined
}

/**
 * Connections to targets, each belonging to one session of one caller: no two callers ever share one, and it ends with
 * its session.
 */
export class Upstreams {
  readonly #bySession = new Map<Session, Map<string, Kept[]>>()
  #closing: SallyportError | undefined

  async take(session: Session, target: Target, secret: Secret, signal: AbortSignal): Promise<Lease> {
    if (this.#closing !== undefined) throw this.#closing
    const options = target.options as SshOptions
    const key = JSON.stringify([target.name, target.endpoint])
    const kept = this.#listOf(session, key)
    const found = kept.find(({ secret: value, users }) => value === secret.value && users < CHANNELS_MAX)
    if (found !== undefined) return this.#lease(found, kept, target.name, true)
    const client = await connect({ target: target.name, options }, secret, signal)
    const made: Kept = { client, secret: secret.value, users: 0, sftp: undefined, timer: undefined }
    client.once('close', () => remove(kept, made))
    if (this.#closing !== undefined || session.signal.aborted) {
      client.destroy()
      throw this.#closing ?? new SallyportError('ERR_CANCELLED', 'The session ended.')
    }
    kept.push(made)
    return this.#lease(made, kept, target.name, false)
  }

  close(): void {
    this.#closing = new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.')
    for (const session of this.#bySession.keys()) this.#endSession(session)
  }

  #lease(kept: Kept, list: Kept[], target: string, isKept: boolean): Lease {
    clearTimeout(kept.timer)
    kept.users++
    let isOver = false
    return {
      client: kept.client,
      isKept,
      sftp: (signal) => sftpOf(kept, target, signal),
      release: (isBroken = false) => {
        if (isOver) return
        isOver = true
        kept.users--
        if (isBroken) remove(list, kept)
        if (kept.users > 0) return
        if (!list.includes(kept)) {
          kept.client.end()
          return
        }
        kept.timer = setTimeout(() => {
          remove(list, kept)
          kept.client.end()
        }, IDLE_MS)
        kept.timer.unref()
      },
    }
  }

  #listOf(session: Session, key: string): Kept[] {
    let lists = this.#bySession.get(session)
    if (lists === undefined) {
      lists = new Map()
      this.#bySession.set(session, lists)
      session.signal.addEventListener('abort', () => this.#endSession(session), { once: true })
    }
    let list = lists.get(key)
    if (list === undefined) {
      list = []
      lists.set(key, list)
    }
    return list
  }

  #endSession(session: Session): void {
    const lists = this.#bySession.get(session)
    this.#bySession.delete(session)
    for (const kept of [...(lists?.values() ?? [])].flat()) {
      clearTimeout(kept.timer)
      // A call that is being stopped still needs it to end its command; it then ends with that.
      if (kept.users === 0) kept.client.end()
      else setTimeout(() => kept.client.destroy(), LAST_MS).unref()
    }
  }
}

/** One for all file operations of a connection: each would otherwise start a process at the target. */
async function sftpOf(kept: Kept, target: string, signal: AbortSignal): Promise<SFTPWrapper> {
  if (kept.sftp !== undefined) return kept.sftp
  const opening = openSftp(kept.client, target, signal)
  kept.sftp = opening
  const forget = (): void => {
    if (kept.sftp === opening) kept.sftp = undefined
  }
  try {
    const sftp = await opening
    sftp.once('close', forget)
    sftp.once('end', forget)
    return sftp
  } catch (error) {
    forget()
    throw error
  }
}

/** How long commands of a session that ended may take to be ended. */
const LAST_MS = 30_000

function remove(list: Kept[], kept: Kept): void {
  const at = list.indexOf(kept)
  if (at >= 0) list.splice(at, 1)
}
