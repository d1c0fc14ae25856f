/**
 * Takes a request apart: who sends it, which target it is for, and what of it goes on. Framing was checked by Node's
 * parser, which refuses what two parsers could cut apart in different places; the rest is refused here.
 *
 * @packageDocumentation
 */
import type { IncomingMessage } from 'node:http'
import { SallyportError } from '../../core/errors.ts'
import { checkFraming, headerValues } from '../../core/http-head.ts'
import { isForwarded, type HeaderList } from './headers.ts'
import type { HttpOptions } from './options.ts'
import type { HttpPayload, Upgrade } from './request.ts'

/** The payload of a request without its body. @throws SallyportError `ERR_INVALID_INPUT` */
export function payloadOf(request: IncomingMessage, rest: string, options: HttpOptions): HttpPayload {
  const headers = forwardedHeaders(request, options)
  const method = request.method ?? ''
  if (options.baseUrl !== undefined) return { method, path: rest, headers }
  return { method, url: rest.slice(1), headers }
}

/** Headers a caller may send on. Clients send others by themselves, so those are left out without a word. */
function forwardedHeaders(request: IncomingMessage, options: HttpOptions): HeaderList {
  const fields = new Map<string, string>()
  const { rawHeaders } = request
  // What the client says is for this connection only goes no further (RFC 9110, section 7.6.1).
  const hops = valuesOf(request, 'connection').flatMap((value) => value.toLowerCase().split(/[\s,]+/u))
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? '').toLowerCase()
    const value = rawHeaders[i + 1] ?? ''
    if (!isForwarded(name, options.allowHeaders) || hops.includes(name)) continue
    const other = fields.get(name)
    if (other !== undefined && name === 'content-type') throw invalid('The header content-type is given twice.')
    fields.set(name, other === undefined ? value : `${other}, ${value}`)
  }
  return [...fields]
}

/**
 * Refuses what must not be answered at all: another protocol on the connection, a body in a coding nobody here can read,
 * and framing that two parsers could read apart.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`, `ERR_DENIED`
 */
export function checkRequest(request: IncomingMessage, isWebSocket = false): void {
  // Node's parser reads a request of HTTP/0.9 or 2.0 in this form; nobody else would read it so.
  if (!/^1\.[01]$/u.test(request.httpVersion)) throw invalid('Speak HTTP/1.1.')
  if (request.httpVersion === '1.0' && valuesOf(request, 'transfer-encoding').length > 0) {
    throw invalid('HTTP/1.0 has no transfer codings.')
  }
  checkFraming(request.rawHeaders)
  if (!isWebSocket && valuesOf(request, 'upgrade').length > 0 && upgradeOf(request) !== 'h2c') {
    throw new SallyportError('ERR_DENIED', 'Another protocol on this connection could not be judged.', {
      facts: { construct: 'http.upgrade' },
    })
  }
}

/** The protocol a client would like to go on in, in lower case; '' for none or several. */
export function upgradeOf(request: IncomingMessage): string {
  const values = valuesOf(request, 'upgrade')
  return values.length === 1 ? (values[0] ?? '').trim().toLowerCase() : ''
}

/**
 * Reads what asks for a WebSocket (RFC 6455, section 4.2.1).
 *
 * @throws SallyportError `ERR_INVALID_INPUT`
 */
export function webSocketOf(request: IncomingMessage): Upgrade {
  const one = (name: string): string => valuesOf(request, name).join('\n')
  const hasBody = valuesOf(request, 'transfer-encoding').length > 0 || Number(one('content-length') || '0') !== 0
  if (request.method !== 'GET' || request.httpVersion !== '1.1' || hasBody) {
    throw invalid('A WebSocket begins with GET over HTTP/1.1, without a body.')
  }
  if (!/^[+/0-9A-Za-z]{22}==$/u.test(one('sec-websocket-key')) || one('sec-websocket-version') !== '13') {
    throw invalid('A WebSocket needs Sec-WebSocket-Key and Sec-WebSocket-Version: 13.')
  }
  const offered = valuesOf(request, 'sec-websocket-protocol').flatMap((value) => value.split(','))
  return { protocols: offered.map((name) => name.trim()).filter((name) => name !== '') }
}

const valuesOf = ({ rawHeaders }: IncomingMessage, wanted: string): readonly string[] =>
  headerValues(rawHeaders, wanted)

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
