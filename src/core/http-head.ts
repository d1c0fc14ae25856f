/**
 * What every door that speaks HTTP reads of a request's head before anything else: who sends it, and whether all parsers
 * in its way cut it in the same places.
 *
 * @packageDocumentation
 */
import { SallyportError } from './errors.ts'

/** Names and values in turn, as they came. */
export type RawHeaders = readonly string[]

/** All values of a header, in order. @param wanted in small letters */
export function headerValues(headers: RawHeaders, wanted: string): readonly string[] {
  const values: string[] = []
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] ?? ''
    // Names are ASCII, so their length says most of it: a door asks this of every header several times.
    if (name.length === wanted.length && name.toLowerCase() === wanted) values.push(headers[i + 1] ?? '')
  }
  return values
}

/**
 * Returns the token a request carries: as bearer, or as the password of basic authentication for clients that know
 * nothing else. The header serves identity only; no backend ever sees it.
 *
 * @throws SallyportError `ERR_UNAUTHENTICATED`
 */
export function tokenIn(headers: RawHeaders): string {
  const values = headerValues(headers, 'authorization')
  const [value = ''] = values
  // Of two, somebody before us may have looked at the other one.
  if (values.length !== 1) throw unauthenticated()
  const [, scheme = '', text = ''] = /^(bearer|basic) +(\S+)$/iu.exec(value) ?? []
  if (scheme.toLowerCase() === 'bearer') return text
  const pair = scheme === '' ? '' : Buffer.from(text, 'base64').toString('utf8')
  const colon = pair.indexOf(':')
  if (colon < 0) throw unauthenticated()
  return pair.slice(colon + 1)
}

/**
 * Refuses a body in a coding nobody here can read, and framing that two parsers could read apart (RFC 9112, section 6.3).
 *
 * @throws SallyportError `ERR_INVALID_INPUT`
 */
export function checkFraming(headers: RawHeaders): void {
  const lengths = headerValues(headers, 'content-length')
  const codings = headerValues(headers, 'transfer-encoding')
  // Node's parser refuses these as well; a request is cheap to look at twice, and smuggling is not.
  if (lengths.length > 1 || codings.length > 1 || (lengths.length > 0 && codings.length > 0)) {
    throw invalid('The length of the body is given twice.')
  }
  if (codings[0] !== undefined && codings[0].trim().toLowerCase() !== 'chunked') {
    throw invalid('The only transfer coding of a request is chunked.')
  }
  if (headerValues(headers, 'host').length !== 1) throw invalid('Exactly one Host header is needed.')
  if (headerValues(headers, 'content-encoding').some((coding) => coding.trim().toLowerCase() !== 'identity')) {
    throw invalid('Send the body without a content coding: what is judged must be what the service reads.')
  }
}

function unauthenticated(): SallyportError {
  return new SallyportError(
    'ERR_UNAUTHENTICATED',
    'Send a token of the gateway: Authorization: Bearer <token>, or basic authentication with the token as password.',
  )
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
