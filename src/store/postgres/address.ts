import { isIP } from 'node:net'
import { SallyportError } from '../../core/errors.ts'

/** Where a shared store is, without any secret. */
export interface StoreAddress {
  /** A host name, an address, or the directory of a Unix socket. */
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  /** `verify` checks the certificate and its name; `disable` is for this machine only. */
  readonly tls: { readonly mode: 'disable' } | { readonly mode: 'verify'; readonly caFile?: string }
}

const PARAMETERS = new Set(['sslmode', 'sslrootcert', 'host'])

/**
 * Reads `postgres://user@host:5432/database?sslmode=verify-full&sslrootcert=/path/ca.pem`.
 *
 * The certificate is verified unless `sslmode=disable` says otherwise, which only this machine itself may: over a network
 * the password's exchange and every ticket would be anybody's to change. A password in the URL is refused, because a URL
 * stands in command lines, logs and shell histories.
 *
 * @throws SallyportError `ERR_CONFIG_INVALID`, never quoting the URL.
 */
export function parseStoreUrl(text: string, resolvePath: (path: string) => string = (path) => path): StoreAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['postgres:', 'postgresql:'].includes(url.protocol)) {
    throw invalid('it must look like postgres://user@host:5432/database')
  }
  if (url.password !== '') {
    throw invalid(
      'it holds a password, which others could read; put it into store.password or SALLYPORT_STORE_PASSWORD',
    )
  }
  for (const name of url.searchParams.keys()) {
    if (!PARAMETERS.has(name)) throw invalid(`it may have the parameters ${[...PARAMETERS].join(', ')} and no other`)
  }
  const socket = url.searchParams.get('host')
  if (socket !== null && !socket.startsWith('/')) throw invalid('its parameter host must be the directory of a socket')
  const host = socket ?? url.hostname.replace(/^\[(.*)\]$/, '$1')
  const user = decodeURIComponent(url.username)
  const database = decodeURIComponent(url.pathname.slice(1))
  if (host === '') throw invalid('it names no host')
  if (user === '') throw invalid('it names no user')
  if (database === '' || database.includes('/')) throw invalid('it names no database')
  return { host, port: url.port === '' ? 5432 : Number(url.port), database, user, tls: tlsOf(url, host, resolvePath) }
}

function tlsOf(url: URL, host: string, resolvePath: (path: string) => string): StoreAddress['tls'] {
  const mode = url.searchParams.get('sslmode') ?? (host.startsWith('/') ? 'disable' : 'verify-full')
  const ca = url.searchParams.get('sslrootcert')
  if (mode === 'verify-full') return { mode: 'verify', ...(ca !== null && { caFile: resolvePath(ca) }) }
  if (mode !== 'disable') throw invalid('its sslmode must be verify-full, or disable on this machine itself')
  // Fail closed: whoever stands between could read every ticket and approve their own.
  if (!isThisMachine(host)) throw invalid('sslmode=disable is for a server on this machine only')
  return { mode: 'disable' }
}

function isThisMachine(host: string): boolean {
  return host.startsWith('/') || host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

/** The address as logs and messages may show it. */
export function shownAddress({ host, port, database }: StoreAddress): string {
  return host.startsWith('/') ? `${host}/${database}` : `${host.includes(':') ? `[${host}]` : host}:${port}/${database}`
}

function invalid(why: string): SallyportError {
  return new SallyportError('ERR_CONFIG_INVALID', `The address of the shared store cannot be used: ${why}.`)
}
