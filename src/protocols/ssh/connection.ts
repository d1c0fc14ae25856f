import { once } from 'node:events'
import type { AnyAuthMethod, AuthHandlerMiddleware, Client, ConnectConfig, ParsedKey } from 'ssh2'
import type { Secret } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import { algorithms, fingerprintOf } from './algorithms.ts'
import { levelOf, notAccepted, reasonOf, unpinned, unreachable } from './errors.ts'
import { boundQueue, countChannels, refuseTinyPackets, socketOf } from './library.ts'
import { packFast } from './library-bulk.ts'
import type { SshOptions } from './options.ts'

/** Where to connect. */
export interface Upstream {
  readonly target: string
  readonly options: SshOptions
}

/**
 * Logs in at a target whose host key is pinned. Whoever opens it ends it.
 *
 * @throws SallyportError `ERR_UPSTREAM_UNREACHABLE`, `ERR_UPSTREAM_AUTH`, `ERR_UPSTREAM_REJECTED` for a host key nobody
 * pinned, `ERR_CREDENTIAL_MISSING` for a key that is none.
 */
export async function connect({ target, options }: Upstream, secret: Secret, signal: AbortSignal): Promise<Client> {
  if (signal.aborted) throw reasonOf(signal)
  if (secret.user !== undefined && secret.user !== options.user) {
    // Calls are judged as the account of the target's settings; a credential must not make it another.
    throw new SallyportError(
      'ERR_CREDENTIAL_MISSING',
      `The credential of ${target} is for another account than its user.`,
    )
  }
  // Loaded when it is first needed: most gateways of today have targets of other kinds too.
  const { default: ssh2 } = await import('ssh2')
  const login = loginOf(target, options, secret, ssh2.utils.parseKey)
  const client = new ssh2.Client()
  let untrusted: SallyportError | undefined
  const config: ConnectConfig = {
    host: options.host,
    port: options.port,
    username: options.user,
    readyTimeout: options.connectTimeoutMs,
    keepaliveInterval: 15_000,
    keepaliveCountMax: 3,
    algorithms: algorithms(),
    // Exactly one method: the library would otherwise try others with whatever it finds.
    authHandler: onlyOnce(login),
    hostVerifier: (key: Buffer): boolean => {
      const fingerprint = fingerprintOf(key)
      if (options.hostKeys.includes(fingerprint)) return true
      // Fail closed: trusting a host at first sight would hand the credential to whoever answers first.
      untrusted = unpinned(target, fingerprint, options.hostKeys.length > 0)
      return false
    },
  }
  const abort = (): void => void client.destroy()
  signal.addEventListener('abort', abort, { once: true })
  // An error after a failed handshake must not end the process.
  client.on('error', () => undefined)
  try {
    const closed = once(client, 'close').then(() => Promise.reject(new Error('closed')))
    closed.catch(() => undefined)
    client.connect(config)
    // Otherwise a request behind another one waits until the host has acknowledged that: 40 ms.
    client.setNoDelay(true)
    refuseTinyPackets(client, () => client.destroy())
    countChannels(client)
    boundQueue(client, () => client.destroy())
    packFast(client, () => socketOf(client))
    await Promise.race([once(client, 'ready'), closed])
    if (signal.aborted) throw reasonOf(signal)
    return client
  } catch (error) {
    client.destroy()
    if (signal.aborted) throw reasonOf(signal)
    if (error instanceof SallyportError) throw error
    if (untrusted !== undefined) throw untrusted
    throw levelOf(error) === 'client-authentication' ? notAccepted(target, error) : unreachable(target, error)
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

function loginOf(
  target: string,
  options: SshOptions,
  { value }: Secret,
  parseKey: (key: string) => unknown,
): AnyAuthMethod {
  if (options.auth === 'password')
    return { type: 'password', username: options.user, password: value.replace(/\r?\n$/u, '') }
  const key = parseKey(value)
  const first: unknown = Array.isArray(key) ? key[0] : key
  if (first instanceof Error || !isPrivate(first)) {
    throw new SallyportError(
      'ERR_CREDENTIAL_MISSING',
      `The credential of ${target} is not a private key without a passphrase.`,
    )
  }
  return { type: 'publickey', username: options.user, key: value }
}

/** Tries one method, once. */
function onlyOnce(method: AnyAuthMethod): AuthHandlerMiddleware {
  let isTried = false
  return (_left, _partial, next) => {
    // The library takes `false` for "no more", which its types leave out.
    next(isTried ? (false as unknown as AnyAuthMethod) : method)
    isTried = true
  }
}

function isPrivate(key: unknown): boolean {
  return typeof key === 'object' && key !== null && 'isPrivateKey' in key && (key as ParsedKey).isPrivateKey()
}
