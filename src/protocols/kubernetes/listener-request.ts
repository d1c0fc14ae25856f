/**
 * Takes a request apart: which target it is for, and what of it goes on. Everything that is not named here is dropped:
 * credentials, `Impersonate-*`, `X-Remote-*` and whatever else would make the API server take it for somebody else's.
 *
 * @packageDocumentation
 */
import type { IncomingMessage } from 'node:http'
import { SallyportError } from '../../core/errors.ts'
import { headerValues } from '../../core/http-head.ts'
import type { ApiPayload } from './payload.ts'
import { BODY_BYTES_MAX } from './read-body.ts'

/** Adds to the query of a path. */
export function withQuery(path: string, query: string): string {
  return `${path}${path.includes('?') ? '&' : '?'}${query}`
}

/** What is judged, and all that is sent. @throws SallyportError `ERR_INVALID_INPUT` */
export function payloadOf(
  request: IncomingMessage,
  method: string,
  rest: string,
  body: Buffer | undefined,
): ApiPayload {
  const types = headerValues(request.rawHeaders, 'content-type')
  if (types.length > 1) throw invalid('The header content-type is given twice.')
  const accept = headerValues(request.rawHeaders, 'accept').join(', ')
  return {
    kind: 'api',
    method,
    path: rest,
    ...(types[0] !== undefined && { content_type: types[0].slice(0, 4096) }),
    ...(accept !== '' && { accept: accept.slice(0, 4096) }),
    ...(body !== undefined && { body: body.toString('base64') }),
  }
}

/**
 * Reads the whole body: nothing of it is sent before all of it was judged.
 *
 * @throws SallyportError `ERR_TOO_LARGE` as soon as it is certain.
 */
export async function bodyOf(request: IncomingMessage): Promise<Buffer | undefined> {
  const declared = Number(request.headers['content-length'] ?? Number.NaN)
  if (declared > BODY_BYTES_MAX) throw tooLarge()
  if (declared === 0 || (Number.isNaN(declared) && request.headers['transfer-encoding'] === undefined)) return undefined
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of request as AsyncIterable<Buffer>) {
    pieces.push(piece)
    bytes += piece.length
    if (bytes > BODY_BYTES_MAX) throw tooLarge()
  }
  return Buffer.concat(pieces)
}

function tooLarge(): SallyportError {
  return new SallyportError('ERR_TOO_LARGE', `The body has more than the ${BODY_BYTES_MAX} bytes an API server takes.`)
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
