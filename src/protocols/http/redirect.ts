import { headerOf, type HeaderList } from './headers.ts'
import type { HttpOptions } from './options.ts'
import type { HttpPlan } from './plan.ts'
import { prefixOf } from './request.ts'

/** Whether a status may send its reader elsewhere (RFC 9110, section 15.4): some clients follow any of them with a place. */
export function isRedirect(status: number): boolean {
  return status >= 300 && status < 400
}

/**
 * Returns where an answer sends its caller, in the form a request for this target has: a path beneath the base URL, or
 * on open egress a whole URL. `undefined` when it sends nowhere, or out of what this target is: the credential belongs
 * to one service, and whoever wants another one asks for it by its own target.
 */
export function redirectOf(
  status: number,
  headers: HeaderList,
  { request }: HttpPlan,
  { baseUrl }: HttpOptions,
): string | undefined {
  const location = headerOf(headers, 'location')
  if (!isRedirect(status) || location === undefined || !URL.canParse(location, request.url.href)) return undefined
  const next = new URL(location, request.url)
  next.hash = ''
  if (baseUrl === undefined) return /^https?:$/u.test(next.protocol) ? next.href : undefined
  const prefix = prefixOf(baseUrl)
  if (next.origin !== baseUrl.origin || next.username !== '' || next.password !== '') return undefined
  return next.pathname.startsWith(`${prefix}/`) ? `${next.pathname.slice(prefix.length)}${next.search}` : undefined
}
