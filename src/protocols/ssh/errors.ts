import { SallyportError } from '../../core/errors.ts'

/** What ssh2 adds to its errors: at which stage it failed. */
export function levelOf(error: unknown): string {
  const level: unknown = error instanceof Error && 'level' in error ? error.level : undefined
  return typeof level === 'string' ? level : ''
}

/** The target cannot be reached, or ends the connection before anybody is logged in. */
export function unreachable(target: string, cause: unknown): SallyportError {
  return new SallyportError('ERR_UPSTREAM_UNREACHABLE', `Target ${target} cannot be reached over SSH.`, { cause })
}

/** The target does not accept the gateway's credential. */
export function notAccepted(target: string, cause?: unknown): SallyportError {
  return new SallyportError('ERR_UPSTREAM_AUTH', `Target ${target} did not accept the credential of the gateway.`, {
    cause,
  })
}

/** The host proved another key than those that are pinned. Names the key, for whoever checks it elsewhere. */
export function unpinned(target: string, fingerprint: string, isAnyPinned: boolean): SallyportError {
  const what = isAnyPinned ? 'shows a host key that is not one of its host_keys' : 'has no host_keys'
  return new SallyportError(
    'ERR_UPSTREAM_REJECTED',
    `Target ${target} ${what}, so it is not trusted and nothing was sent. If its administrator confirms this fingerprint, add it: host_keys: ["${fingerprint}"]`,
    { facts: { noEffect: true } },
  )
}

/** The connection broke while a call ran. */
export function lost(target: string, cause?: unknown): SallyportError {
  return new SallyportError(
    'ERR_UPSTREAM_LOST',
    `The connection to ${target} broke; what the command did is not known.`,
    {
      cause,
    },
  )
}

/** The connection broke before anything of the call was sent on it. */
export function unsent(target: string, cause?: unknown): SallyportError {
  return new SallyportError(
    'ERR_UPSTREAM_UNREACHABLE',
    `The connection to ${target} broke before anything of the call was sent; nothing was done.`,
    { facts: { noEffect: true }, cause },
  )
}

/** Whether a call that began failed with {@link unsent}, so that it can begin again elsewhere. */
export function isUnsent(error: unknown): boolean {
  return error instanceof SallyportError && error.code === 'ERR_UPSTREAM_UNREACHABLE' && error.facts.noEffect === true
}

/** The target refused a channel or a request on one, so that nothing ran on it. */
export function refused(target: string, what: string, cause?: unknown): SallyportError {
  return new SallyportError('ERR_UPSTREAM_REJECTED', `Target ${target} refused ${what}.`, {
    facts: { noEffect: true },
    cause,
  })
}

/** Why a call was stopped. */
export function reasonOf(signal: AbortSignal): SallyportError {
  if (signal.reason instanceof SallyportError) return signal.reason
  return new SallyportError('ERR_CANCELLED', 'The call was cancelled.', { cause: signal.reason })
}
