/**
 * Results that were answered in part, each waiting for its caller to ask for more.
 *
 * What waits is the call itself, suspended: its permit, its limits, its recording and its backend connection. So asking for
 * more runs nothing again and asks nobody again, and everything that would end the call ends it here too (C2). Because a
 * caller may never come back, their number is bounded, by principal, by target (below its connections, so that a pool is
 * never used up by what nobody reads) and in all; and each ends after a while.
 *
 * @packageDocumentation
 */
import { randomBytes } from 'node:crypto'
import { SallyportError } from '../../core/errors.ts'
import type { Principal } from '../../core/principal.ts'
import type { Target } from '../../core/target.ts'
import type { PagedResult } from '../../../tools/paged.ts'
import type { RunTool } from '../../../tools/tool.ts'

/** The bounds of what waits. */
export interface CursorLimits {
  /** A result nobody asks more of ends after this long. */
  readonly cursorIdleMs: number
  readonly cursorsPerPrincipalMax: number
  readonly cursorsMax: number
}

/** A result that waits. */
export interface Suspended {
  readonly tool: RunTool
  readonly target: Target
  readonly result: PagedResult
  /** Cancels the call; linked to whichever request reads from it. */
  readonly cancel: AbortController
  /** Rows of one answer, as the caller last said. */
  readonly pageRows?: number
}

/** What its caller is told of a waiting result. */
export interface Handle {
  readonly cursor: string
  readonly expiresInMs: number
}

interface Entry {
  readonly owner: string
  readonly suspended: Suspended
  readonly timer: NodeJS.Timeout
}

/** The waiting results of one door. */
export class Cursors {
  readonly #limits: CursorLimits
  readonly #perTarget: (target: Target) => number
  readonly #onError: (error: unknown) => void
  /** By handle; the oldest stands first. */
  readonly #entries = new Map<string, Entry>()
  #isClosed = false

  /** @param perTarget how many results of a target may wait, less than it has connections. */
  constructor(limits: CursorLimits, perTarget: (target: Target) => number, onError: (error: unknown) => void) {
    this.#limits = limits
    this.#perTarget = perTarget
    this.#onError = onError
  }

  /** Whether a result of this target may ever wait. */
  mayWait(target: Target): boolean {
    return !this.#isClosed && this.#perTarget(target) > 0
  }

  /**
   * Keeps a result until its caller asks for more. A caller that has its share loses its oldest one; where others have
   * taken all there is, there is no place, and `undefined` says so.
   */
  keep(principal: Principal, suspended: Suspended): Handle | undefined {
    const { target, cancel } = suspended
    if (!this.mayWait(target) || cancel.signal.aborted) return undefined
    const owner = ownerOf(principal)
    const own = this.#where((entry) => entry.owner === owner)
    if (own.length >= this.#limits.cursorsPerPrincipalMax && !this.#dropOldest(own)) return undefined
    const ofTarget = this.#where((entry) => entry.suspended.target.name === target.name)
    const isFull = ofTarget.length >= this.#perTarget(target)
    if (isFull && !this.#dropOldest(ofTarget.filter(([, entry]) => entry.owner === owner))) return undefined
    if (this.#entries.size >= this.#limits.cursorsMax) return undefined
    // 144 bits: a handle is a secret, though it is of use to its owner only.
    const cursor = `cur_${randomBytes(18).toString('base64url')}`
    const { cursorIdleMs: expiresInMs } = this.#limits
    const timer = setTimeout(() => void this.#end(cursor), expiresInMs)
    timer.unref()
    this.#entries.set(cursor, { owner, suspended, timer })
    return { cursor, expiresInMs }
  }

  /**
   * Takes a waiting result out, to read on. A handle works once; the next answer has another.
   *
   * @throws SallyportError `ERR_INVALID_INPUT`, the same whether there is none, it ended, or it is somebody else's.
   */
  take(handle: string, principal: Principal): Suspended {
    const entry = this.#entries.get(handle)
    // Somebody else's is left where it is: who guesses or overhears a handle must not even be able to end it.
    if (entry?.owner !== ownerOf(principal)) throw unknownCursor()
    this.#entries.delete(handle)
    clearTimeout(entry.timer)
    return entry.suspended
  }

  /** The call behind a waiting result was stopped: lets it end and say why in its recording. */
  stopped(result: PagedResult): void {
    for (const [handle, { suspended, timer }] of this.#entries) {
      if (suspended.result !== result) continue
      this.#entries.delete(handle)
      clearTimeout(timer)
      // Its own error says why; nobody is left to hear it but the recording.
      result.drain().catch(() => undefined)
    }
  }

  /** How many wait. */
  get size(): number {
    return this.#entries.size
  }

  /** Ends all and takes no more. */
  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([...this.#entries.keys()].map((handle) => this.#end(handle)))
  }

  #where(which: (entry: Entry) => boolean): readonly (readonly [string, Entry])[] {
    return [...this.#entries].filter(([, entry]) => which(entry))
  }

  #dropOldest(entries: readonly (readonly [string, Entry])[]): boolean {
    const [oldest] = entries
    if (oldest === undefined) return false
    void this.#end(oldest[0])
    return true
  }

  /** Ends the call as one whose caller did not come back. */
  async #end(handle: string): Promise<void> {
    const entry = this.#entries.get(handle)
    if (entry === undefined) return
    this.#entries.delete(handle)
    clearTimeout(entry.timer)
    try {
      await entry.suspended.result.close()
    } catch (error) {
      this.#onError(error)
    }
  }
}

/** All of a principal: a token of the same name with other groups, another owner or another credential is somebody else. */
function ownerOf({ id, kind, groups, roles, owner, actsFor, credentialId }: Principal): string {
  return JSON.stringify([id, kind, [...groups].sort(), [...roles].sort(), owner, actsFor ?? null, credentialId ?? null])
}

function unknownCursor(): SallyportError {
  return new SallyportError(
    'ERR_INVALID_INPUT',
    'There is no such cursor. It works once, for the caller it was given to, and for a short time; send the query again.',
  )
}
