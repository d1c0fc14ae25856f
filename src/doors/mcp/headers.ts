import type { IncomingMessage } from 'node:http'
import { SallyportError } from '../../core/errors.ts'

/** RFC 6750 §2.1, with a bound. */
const BEARER = /^bearer +([A-Za-z0-9._~+/-]{1,4096}=*)$/i

/** A declared run: short, printable, no separators a log or a file name could trip over. */
const RUN = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/

/** The header in which a caller names a piece of work. */
const RUN_HEADER = 'sallyport-run'

/**
 * The bearer token of a request. Only the header counts: a token in a URL ends up in logs.
 *
 * @throws SallyportError `ERR_UNAUTHENTICATED`
 */
export function readBearer(req: IncomingMessage): string {
  const bearer = BEARER.exec(req.headers.authorization ?? '')?.[1]
  if (bearer === undefined) {
    throw new SallyportError('ERR_UNAUTHENTICATED', 'Send a token: `Authorization: Bearer <token>`.')
  }
  return bearer
}

/** @throws SallyportError `ERR_INVALID_INPUT` */
export function readRun(req: IncomingMessage): string | undefined {
  const run = req.headers[RUN_HEADER]
  if (run === undefined) return undefined
  if (typeof run === 'string' && RUN.test(run)) return run
  throw new SallyportError(
    'ERR_INVALID_INPUT',
    'The header Sallyport-Run takes one name of up to 64 letters, digits and . _ : - characters.',
  )
}
