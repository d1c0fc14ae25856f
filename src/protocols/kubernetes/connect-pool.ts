import { createHash } from 'node:crypto'
import type { Pool } from 'undici'
import { HttpPools, tlsNamesOf, type TlsNames } from '../shared/http-pools.ts'
import type { Login } from './connect-login.ts'
import type { KubeOptions } from './options.ts'

const HEADER_BYTES_MAX = 64 * 1024
/** Less than an API server keeps an idle connection. */
const KEEP_ALIVE_MS = 20_000
/** Client certificates in use at once; the one used longest ago makes room. */
const POOLS_MAX = 8

/** How TLS to the server of a target is set up. */
export interface TlsSetting extends TlsNames {
  readonly cert?: string
  readonly key?: string
}

/** Connections to one API server. A client certificate belongs to a connection, so each has connections of its own. */
export class Pools {
  readonly #options: KubeOptions
  readonly #pools: HttpPools
  readonly #tls: () => TlsNames

  constructor(options: KubeOptions) {
    const { connectionsMax, responseTimeoutMs } = options
    this.#options = options
    this.#tls = tlsNamesOf(options.tls)
    this.#pools = new HttpPools({
      poolsMax: POOLS_MAX,
      connectionsMax,
      headerBytesMax: HEADER_BYTES_MAX,
      responseTimeoutMs,
      keepAliveMs: KEEP_ALIVE_MS,
    })
  }

  /** Returns the connections of one login. @throws SallyportError `ERR_CONFIG_INVALID` */
  of(login: Login): Pool {
    const { cert, key } = login.certificate ?? {}
    const id = cert === undefined ? '' : createHash('sha256').update(`${cert}\n${key}`).digest('hex')
    const { server, connectTimeoutMs } = this.#options
    return this.#pools.of(id, server.origin, () => ({ timeout: connectTimeoutMs, ...this.tls(login) }))
  }

  /** TLS settings for a connection of its own. @throws SallyportError `ERR_CONFIG_INVALID` */
  tls({ certificate }: Login): TlsSetting {
    return { ...this.#tls(), ...certificate }
  }

  async close(): Promise<void> {
    await this.#pools.close()
  }
}
