import { createHmac, randomBytes } from 'node:crypto'
import type { Secret } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import { UpstreamConnection, type Upstream } from './connection.ts'

/** An idle connection is closed after this long. */
const IDLE_MS = 60_000
/** Calls that may wait for each connection of the pool; more are told to come back. */
const WAITERS_PER_CONNECTION = 8
const RETRY_AFTER_MS = 500

interface IdleConnection {
  readonly connection: UpstreamConnection
  readonly credential: string
  readonly timer: NodeJS.Timeout
}

/**
 * The connections to one target.
 *
 * They are shared between principals, one call at a time, so what a call leaves in its session is removed before anyone
 * else may use it; on any doubt the connection is destroyed. A rotated secret opens new connections and closes the idle
 * old ones.
 */
export class Pool {
  readonly #upstream: Upstream
  /** Makes the keys under which connections are kept; a secret itself is not kept for comparison. */
  readonly #hashKey = randomBytes(32)
  #idle: IdleConnection[] = []
  readonly #credentials = new WeakMap<UpstreamConnection, string>()
  readonly #busy = new Set<UpstreamConnection>()
  readonly #cleaning = new Set<Promise<void>>()
  readonly #waiters: (() => void)[] = []
  #free: number
  readonly #closing = new AbortController()

  constructor(upstream: Upstream) {
    this.#upstream = upstream
    this.#free = upstream.options.poolMax
  }

  /**
   * Lends a clean, pinned connection made with this very secret. Whoever leases it gives it back with
   * {@link Pool.release}.
   *
   * @throws SallyportError `ERR_LIMIT_CONCURRENCY` when too many calls wait already, `ERR_UPSTREAM_UNREACHABLE`,
   * `ERR_UPSTREAM_AUTH`, or the reason of `signal`.
   */
  async lease(
    secret: Secret,
    signal: AbortSignal,
  ): Promise<{ readonly connection: UpstreamConnection; readonly isReused: boolean }> {
    await this.#enter(signal)
    try {
      const credential = this.#credentialOf(secret)
      const reused = this.#takeIdle(credential)
      const connection =
        reused ??
        (await UpstreamConnection.open(this.#upstream, secret, AbortSignal.any([signal, this.#closing.signal])))
      this.#credentials.set(connection, credential)
      this.#busy.add(connection)
      return { connection, isReused: reused !== undefined }
    } catch (error) {
      this.#leave()
      throw error
    }
  }

  /**
   * Takes a connection back, cleans it and lends it again. Never throws and needs no waiting for: the next call waits
   * for the cleaning, not this one.
   *
   * @param isSuspect whether the call may have left anything DISCARD ALL does not remove, such as a loaded library.
   */
  release(connection: UpstreamConnection, isSuspect: boolean): void {
    const cleaning = this.#clean(connection, isSuspect)
      .catch((error: unknown) => connection.destroy(error))
      .finally(() => {
        this.#cleaning.delete(cleaning)
        this.#busy.delete(connection)
        this.#leave()
      })
    this.#cleaning.add(cleaning)
  }

  /** Resolves when every connection that was given back is clean or closed. */
  async settled(): Promise<void> {
    await Promise.all(this.#cleaning)
  }

  /** Ends all connections, those in use too. */
  async close(): Promise<void> {
    const why = new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.')
    this.#closing.abort(why)
    for (const connection of this.#busy) connection.destroy(why)
    await this.settled()
    await Promise.all(this.#forget(() => true))
  }

  async #clean(connection: UpstreamConnection, isSuspect: boolean): Promise<void> {
    if (isSuspect || !connection.isIdle || this.#closing.signal.aborted) {
      connection.destroy(new Error('The session may not be used again.'))
      await connection.ended
      return
    }
    // RESET ALL, which is part of it, returns to the startup parameters, and those are the pins.
    const outcome = await connection.run([{ do: 'run', sql: 'DISCARD ALL' }])
    const credential = this.#credentials.get(connection)
    if (outcome.failure !== undefined || !connection.isIdle || credential === undefined) {
      connection.destroy(new Error('The session could not be cleaned.'))
      await connection.ended
      return
    }
    const timer = setTimeout(() => void Promise.all(this.#forget((idle) => idle.connection === connection)), IDLE_MS)
    timer.unref()
    this.#idle.push({ connection, credential, timer })
  }

  #takeIdle(credential: string): UpstreamConnection | undefined {
    void Promise.all(this.#forget((idle) => idle.credential !== credential || !idle.connection.isIdle))
    const newest = this.#idle.pop()
    clearTimeout(newest?.timer)
    return newest?.connection
  }

  /** Closes the idle connections `which` selects. */
  #forget(which: (idle: IdleConnection) => boolean): Promise<void>[] {
    const forgotten = this.#idle.filter(which)
    this.#idle = this.#idle.filter((idle) => !forgotten.includes(idle))
    return forgotten.map(({ connection, timer }) => {
      clearTimeout(timer)
      return connection.close()
    })
  }

  #enter(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.#closing.signal.throwIfAborted()
    if (this.#free > 0) {
      this.#free--
      return Promise.resolve()
    }
    const { poolMax } = this.#upstream.options
    if (this.#waiters.length >= poolMax * WAITERS_PER_CONNECTION) throw this.#crowded()
    return new Promise((resolve, reject) => {
      const either = AbortSignal.any([signal, this.#closing.signal])
      const admit = (): void => {
        either.removeEventListener('abort', abandon)
        resolve()
      }
      const abandon = (): void => {
        const at = this.#waiters.indexOf(admit)
        if (at >= 0) this.#waiters.splice(at, 1)
        reject(either.reason)
      }
      either.addEventListener('abort', abandon, { once: true })
      this.#waiters.push(admit)
    })
  }

  /** Hands the place to who waits longest. */
  #leave(): void {
    const next = this.#waiters.shift()
    if (next === undefined) this.#free++
    else next()
  }

  #credentialOf({ user, value }: Secret): string {
    return createHmac('sha256', this.#hashKey)
      .update(JSON.stringify([user ?? null, value]))
      .digest('base64')
  }

  #crowded(): SallyportError {
    const { target, options } = this.#upstream
    return new SallyportError(
      'ERR_LIMIT_CONCURRENCY',
      `All ${options.poolMax} connections to target ${target} are in use and ${this.#waiters.length} calls wait for one; try again later.`,
      { facts: { retryAfterMs: RETRY_AFTER_MS } },
    )
  }
}
