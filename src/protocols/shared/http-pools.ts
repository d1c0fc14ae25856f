/**
 * What protocols over HTTP share of connecting to their backends: pools that make room for one another, and the
 * authorities a target trusts. Knows no protocol.
 *
 * @packageDocumentation
 */
import { readFileSync } from 'node:fs'
import { Pool } from 'undici'
import { SallyportError } from '../../core/errors.ts'

/** Settings of all pools of one target. */
export interface HttpPoolsOptions {
  /** Pools open at once; the one used longest ago makes room. */
  readonly poolsMax: number
  /** Connections of one pool. */
  readonly connectionsMax: number
  /** Fields of a response's header together. */
  readonly headerBytesMax: number
  readonly responseTimeoutMs: number
  /** An idle connection is given up before the server does it, so that a request rarely meets a closing one. */
  readonly keepAliveMs: number
}

/** TLS of one target: its own authorities in place of the system's, and the name its certificate has. */
export interface TlsNames {
  readonly ca?: string
  readonly servername?: string
}

/** Connections of one target, kept apart by whatever must not share one: an address, a client certificate. */
export class HttpPools {
  readonly #options: HttpPoolsOptions
  readonly #pools = new Map<string, Pool>()

  constructor(options: HttpPoolsOptions) {
    this.#options = options
  }

  /**
   * Returns the connections kept under a key. Proxy settings of the environment play no part.
   *
   * @param connect how a connection is made; asked only for a key that has none. Certificates are verified, whatever it
   * says.
   */
  of(key: string, origin: string, connect: () => object): Pool {
    const known = this.#pools.get(key)
    // Taken out and put back: the map's order is the order of use.
    if (known !== undefined) this.#pools.delete(key)
    const pool = known ?? this.#open(origin, connect())
    this.#pools.set(key, pool)
    if (this.#pools.size > this.#options.poolsMax) this.#dropOldest()
    return pool
  }

  async close(): Promise<void> {
    const pools = [...this.#pools.values()]
    this.#pools.clear()
    await Promise.all(pools.map((pool) => pool.destroy()))
  }

  #open(origin: string, connect: object): Pool {
    const { connectionsMax, headerBytesMax, responseTimeoutMs, keepAliveMs } = this.#options
    return new Pool(origin, {
      connections: connectionsMax,
      pipelining: 1,
      allowH2: false,
      maxHeaderSize: headerBytesMax,
      headersTimeout: responseTimeoutMs,
      bodyTimeout: responseTimeoutMs,
      keepAliveTimeout: keepAliveMs,
      keepAliveMaxTimeout: keepAliveMs,
      connect: { ...connect, rejectUnauthorized: true },
    })
  }

  #dropOldest(): void {
    const [oldest] = this.#pools
    if (oldest === undefined) return
    this.#pools.delete(oldest[0])
    // Requests under way are finished; nobody waits for the end of the connections.
    oldest[1].close().catch(() => undefined)
  }
}

/**
 * Returns what reads the TLS settings of one target. Its file with authorities is read once, when it is first needed.
 *
 * @throws SallyportError `ERR_CONFIG_INVALID` from the returned function, when that file cannot be read.
 */
export function tlsNamesOf(tls: { readonly caFile?: string; readonly serverName?: string }): () => TlsNames {
  let ca: string | undefined
  return () => {
    if (tls.caFile !== undefined) ca ??= authorities(tls.caFile)
    return {
      ...(ca !== undefined && { ca }),
      ...(tls.serverName !== undefined && { servername: tls.serverName }),
    }
  }
}

function authorities(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new SallyportError('ERR_CONFIG_INVALID', 'The file with authorities of this target cannot be read.', {
      facts: { noEffect: true },
      detail: file,
      cause,
    })
  }
}
