import { lookup } from 'node:dns/promises'
import type { LookupAddress } from 'node:dns'
import { SallyportError } from '../../core/errors.ts'
import { refuseAddress } from './addresses.ts'
import type { HttpOptions } from './options.ts'
import { literalOf } from './request.ts'

/** Looks a host up; the system's own way unless a test has servers of its own. */
export type Lookup = (host: string) => Promise<readonly LookupAddress[]>

/** The system's look-up: hosts file first, then DNS, in the order it gives. */
export const systemLookup: Lookup = (host) => lookup(host, { all: true, verbatim: true })

/**
 * Returns the addresses a request may connect to: looked up once, each one judged. The connection is made to one of them
 * and to nothing else, so that a name which means something else a moment later changes nothing.
 *
 * @throws SallyportError `ERR_DENIED` when any address is refused, `ERR_UPSTREAM_UNREACHABLE` when there is none.
 */
export async function vettedAddresses(
  url: URL,
  options: HttpOptions,
  look: Lookup,
  signal: AbortSignal,
): Promise<readonly LookupAddress[]> {
  const literal = literalOf(url)
  const found = literal === undefined ? await lookUp(url.hostname, look, signal) : [addressOf(literal)]
  for (const { address } of found) {
    const why = refuseAddress(address, options.allowAddresses)
    // Fail closed: one bad address among good ones is how a name is made to point inside.
    if (why !== undefined) throw refused(why)
  }
  return found
}

async function lookUp(host: string, look: Lookup, signal: AbortSignal): Promise<readonly LookupAddress[]> {
  let found: readonly LookupAddress[]
  try {
    found = await untilAborted(look(host), signal)
  } catch (cause) {
    signal.throwIfAborted()
    throw unreachable(cause)
  }
  if (found.length === 0) throw unreachable(undefined)
  return found
}

/** The system's look-up cannot be cancelled; nobody waits for it longer than the call lives. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  let stop = (): void => undefined
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason as Error)
    signal.addEventListener('abort', stop, { once: true })
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

function addressOf(address: string): LookupAddress {
  return { address, family: address.includes(':') ? 6 : 4 }
}

function refused(why: string): SallyportError {
  return new SallyportError('ERR_DENIED', `The address of the service ${why}.`, {
    facts: {
      construct: 'http.address',
      hint: 'Internal services are targets of their own, with base_url and allow_addresses.',
      noEffect: true,
    },
  })
}

function unreachable(cause: unknown): SallyportError {
  return new SallyportError('ERR_UPSTREAM_UNREACHABLE', 'The host of the service has no address.', {
    facts: { noEffect: true },
    cause,
  })
}
