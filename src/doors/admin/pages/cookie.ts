import type { IncomingMessage } from 'node:http'
import type { Response } from 'express'
import { BROWSER_SESSION_MS } from '../../../identity/browser-sessions.ts'

/**
 * The cookie of a browser session (RFC 6265bis): no script reads it, no other site sends it. Over TLS its name binds it
 * to this host, so that no neighbour under the same domain can plant one.
 *
 * @param isSecure whether browsers reach this door over TLS.
 */
export function sessionCookie(isSecure: boolean) {
  const name = isSecure ? '__Host-sallyport' : 'sallyport'
  const options = { httpOnly: true, sameSite: 'strict', secure: isSecure, path: '/' } as const
  return {
    /** The session of a request. Of several under one name none counts: somebody else planted one of them. */
    read(request: IncomingMessage): string | undefined {
      const found = (request.headers.cookie ?? '')
        .split(';')
        .map((pair) => pair.trim())
        .filter((pair) => pair.startsWith(`${name}=`))
      return found.length === 1 ? found[0]?.slice(name.length + 1) : undefined
    },
    write(response: Response, secret: string): void {
      response.cookie(name, secret, { ...options, maxAge: BROWSER_SESSION_MS })
    },
    clear(response: Response): void {
      response.clearCookie(name, options)
    },
  }
}
