import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Pool } from 'undici'
import { SallyportError } from '../../core/errors.ts'
import type { Login } from './connect-login.ts'
import type { KubeOptions } from './options.ts'

const HEADER_BYTES_MAX = 64 * 1024
/** An idle connection is given up before the server does it, so that a request rarely meets a closing one. */
const KEEP_ALIVE_MS = 20_000
/** Client certificates in use at once; the one used longest ago makes room. */
const POOLS_MAX = 8

/** How TLS to the server of a target is set up. */
export interface TlsSetting {
  readonly ca?: string
  readonly servername?: string
  readonly cert?: string
  readonly key?: string
}

/** Connections to one API server. A client certificate belongs to a connection, so each has connections of its own. */
export class Pools {
  readonly #options: KubeOptions
  readonly #pools = new Map<string, Pool>()
  #ca: string | undefined

  constructor(options: KubeOptions) {
    this.#options = options
  }

  /** Returns the connections of one login. @throws SallyportError `ERR_CONFIG_INVALID` */
  of(login: Login): Pool {
    const { cert, key } = login.certificate ?? {}
    const id = cert === undefined ? '' : createHash('sha256').update(`${cert}\n${key}`).digest('hex')
    const known = this.#pools.get(id)
    if (known !== undefined) this.#pools.delete(id)
    const pool = known ?? this.#open(login)
    this.#pools.set(id, pool)
    if (this.#pools.size > POOLS_MAX) this.#dropOldest()
    return pool
  }

  /** TLS settings for a connection of its own. @throws SallyportError `ERR_CONFIG_INVALID` */
  tls({ certificate }: Login): TlsSetting {
    const { tls } = this.#options
    return {
      ...(tls.caFile !== undefined && { ca: this.#authorities(tls.caFile) }),
      ...(tls.serverName !== undefined && { servername: tls.serverName }),
      ...certificate,
    }
  }

  async close(): Promise<void> {
    const pools = [...this.#pools.values()]
    this.#pools.clear()
    await Promise.all(pools.map((pool) => pool.destroy()))
  }

  #open(login: Login): Pool {
    const { server, connectionsMax, connectTimeoutMs, responseTimeoutMs } = this.#options
    return new Pool(server.origin, {
      connections: connectionsMax,
      pipelining: 1,
      allowH2: false,
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: responseTimeoutMs,
      bodyTimeout: responseTimeoutMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      connect: { timeout: connectTimeoutMs, rejectUnauthorized: true, ...this.tls(login) },
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
