import { readFileSync } from 'node:fs'
import type { LookupAddress } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { Pool } from 'undici'
import { SallyportError } from '../../core/errors.ts'
import type { HttpOptions } from './options.ts'

/** Services an open target may keep connections to at once; the one used longest ago makes room. */
const POOLS_MAX = 128
/** Fields of a response's header together; a service that needs more is not one an agent reads. */
export const HEADER_BYTES_MAX = 32 * 1024
/** An idle connection is given up before most services do it, so that a request rarely meets a closing one. */
const KEEP_ALIVE_MS = 4000

/** Settings of a connection: pinned to one address, its certificate always verified. */
export interface Connecting {
  readonly timeout: number
  readonly rejectUnauthorized: true
  readonly autoSelectFamily: false
  readonly ca?: string
  readonly servername?: string
  readonly lookup: LookupFunction
}

/** Connections of one target, each to an address that was judged, under the name it was judged for. */
export class Pools {
  readonly #options: HttpOptions
  readonly #pools = new Map<string, Pool>()
  #ca: string | undefined

  constructor(options: HttpOptions) {
    this.#options = options
  }

  /**
   * Returns the connections to one address under one name. Proxy settings of the environment play no part.
   *
   * @throws SallyportError `ERR_CONFIG_INVALID` when the file with authorities cannot be read.
   */
  to(url: URL, address: LookupAddress): Pool {
    const key = `${url.origin}@${address.address}`
    const known = this.#pools.get(key)
    // Taken out and put back: the map's order is the order of use.
    if (known !== undefined) this.#pools.delete(key)
    const pool = known ?? this.#open(url, address)
    this.#pools.set(key, pool)
    if (this.#pools.size > POOLS_MAX) this.#dropOldest()
    return pool
  }

  async close(): Promise<void> {
    const pools = [...this.#pools.values()]
    this.#pools.clear()
    await Promise.all(pools.map((pool) => pool.destroy()))
  }

  /**
   * How a connection to one address is made.
   *
   * @throws SallyportError `ERR_CONFIG_INVALID` when the file with authorities cannot be read.
   */
  connecting({ address, family }: LookupAddress): Connecting {
    const { connectTimeoutMs, tls } = this.#options
    return {
      timeout: connectTimeoutMs,
      rejectUnauthorized: true,
      autoSelectFamily: false,
      ...(tls.caFile !== undefined && { ca: this.#authorities(tls.caFile) }),
      ...(tls.serverName !== undefined && { servername: tls.serverName }),
      // Whatever the name means by now, the connection goes to the address that was judged.
      lookup: (_host, { all }, done) => {
        if (all === true) done(null, [{ address, family }])
        else done(null, address, family)
      },
    }
  }

  #open(url: URL, address: LookupAddress): Pool {
    const { connectionsMax, responseTimeoutMs } = this.#options
    return new Pool(url.origin, {
      connections: connectionsMax,
      pipelining: 1,
      allowH2: false,
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: responseTimeoutMs,
      bodyTimeout: responseTimeoutMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      connect: this.connecting(address),
    })
  }

  #dropOldest(): void {
    const [oldest] = this.#pools
    if (oldest === undefined) return
    this.#pools.delete(oldest[0])
    // Requests under way are finished; nobody waits for the end of the connections.
    oldest[1].close().catch(() => undefined)
  }

  #authorities(file: string): string {
    try {
      this.#ca ??= readFileSync(file, 'utf8')
      return this.#ca
    } catch (cause) {
      throw new SallyportError('ERR_CONFIG_INVALID', 'The file with authorities of this target cannot be read.', {
        detail: file,
        cause,
      })
    }
  }
}
