import type { LookupAddress } from 'node:dns'
import type { LookupFunction } from 'node:net'
import type { Pool } from 'undici'
import { HttpPools, tlsNamesOf, type TlsNames } from '../shared/http-pools.ts'
import type { HttpOptions } from './options.ts'

/** Services an open target may keep connections to at once; the one used longest ago makes room. */
const POOLS_MAX = 128
/** Fields of a response's header together; a service that needs more is not one an agent reads. */
export const HEADER_BYTES_MAX = 32 * 1024
/** Less than most services keep an idle connection. */
const KEEP_ALIVE_MS = 4000

/** Settings of a connection: pinned to one address, its certificate always verified. */
export interface Connecting extends TlsNames {
  readonly timeout: number
  readonly rejectUnauthorized: true
  readonly autoSelectFamily: false
  readonly lookup: LookupFunction
}

/** Connections of one target, each to an address that was judged, under the name it was judged for. */
export class Pools {
  readonly #options: HttpOptions
  readonly #pools: HttpPools
  readonly #tls: () => TlsNames

  constructor(options: HttpOptions) {
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

  /**
   * Returns the connections to one address under one name.
   *
   * @throws SallyportError `ERR_CONFIG_INVALID` when the file with authorities cannot be read.
   */
  to(url: URL, address: LookupAddress): Pool {
    return this.#pools.of(`${url.origin}@${address.address}`, url.origin, () => this.connecting(address))
  }

  async close(): Promise<void> {
    await this.#pools.close()
  }

  /**
   * How a connection to one address is made.
   *
   * @throws SallyportError `ERR_CONFIG_INVALID` when the file with authorities cannot be read.
   */
  connecting({ address, family }: LookupAddress): Connecting {
    return {
      timeout: this.#options.connectTimeoutMs,
      rejectUnauthorized: true,
      autoSelectFamily: false,
      ...this.#tls(),
      // Whatever the name means by now, the connection goes to the address that was judged.
      lookup: (_host, { all }, done) => {
        if (all === true) done(null, [{ address, family }])
        else done(null, address, family)
      },
    }
  }
}
