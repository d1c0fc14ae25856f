import type { IncomingMessage } from 'node:http'
import { SallyportError } from '../../core/errors.ts'
import type { Principal, Role } from '../../core/principal.ts'

/** Whom this door answers to. */
export interface Neighbourhood {
  /** Host names without port, lower case. A request for another host is refused: it may be DNS rebinding. */
  readonly hosts: readonly string[]
  /** Origins of browsers that may call. */
  readonly origins: readonly string[]
  /** Whether the listener of this door speaks TLS. */
  readonly isTls: boolean
  /** Where browsers find the approval page, when that is not the address of the listener. */
  readonly publicOrigin?: string
}

/** Longer than any token; a longer header is not one. */
const TOKEN_LENGTH_MAX = 1024

/**
 * Refuses requests for a host that is not this one: a page could have made its own name point here.
 *
 * @throws SallyportError `ERR_FORBIDDEN`.
 */
export function checkHost(request: IncomingMessage, allowed: Neighbourhood): void {
  const host = hostOf(request.headers.host ?? '')
  if (host === undefined || !allowed.hosts.includes(host)) {
    throw new SallyportError('ERR_FORBIDDEN', 'The Host header names no host this gateway answers to.', {
      facts: { hint: 'Add the name to allowed_hosts.' },
    })
  }
}

/**
 * Refuses requests that the page of a stranger caused.
 *
 * @throws SallyportError `ERR_FORBIDDEN`.
 */
export function checkCaller(request: IncomingMessage, allowed: Neighbourhood): void {
  const { origin } = request.headers
  if (origin !== undefined && !allowed.origins.includes(origin)) {
    throw new SallyportError('ERR_FORBIDDEN', 'Requests from this origin are not allowed.', {
      facts: { hint: 'Add it to allowed_origins.' },
    })
  }
}

/** The name in a Host header, without port and brackets; `undefined` when it is not one (RFC 9110, section 7.2). */
export function hostOf(header: string): string | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?$/iu.exec(header)
  return (match?.[1] ?? match?.[2])?.toLowerCase()
}

/**
 * The bearer token of a request (RFC 6750, section 2.1). Only the header counts: a token in a URL ends in logs.
 *
 * @throws SallyportError `ERR_UNAUTHENTICATED`.
 */
export function bearerOf(request: IncomingMessage): string {
  const header = request.headers.authorization ?? ''
  const token = /^bearer ([A-Za-z0-9._~+/-]+=*)$/iu.exec(header)?.[1]
  if (token === undefined || token.length > TOKEN_LENGTH_MAX) {
    throw new SallyportError('ERR_UNAUTHENTICATED', 'This needs a token: send "Authorization: Bearer <token>".')
  }
  return token
}

/** @throws SallyportError `ERR_FORBIDDEN` unless the principal has one of the roles. */
export function checkRole(principal: Principal, roles: readonly Role[]): void {
  if (principal.roles.some((role) => roles.includes(role))) return
  throw new SallyportError('ERR_FORBIDDEN', `This needs the role ${roles.join(' or ')}; ${principal.id} has not.`)
}
