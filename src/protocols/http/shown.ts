import type { ShownData, ShownRequest } from '../../core/call.ts'
import { isJsonObject, parseJson, type JsonValue } from '../../core/json.ts'
import { isJsonType, mediaTypeOf, textOf } from './body.ts'
import { headerOf } from './headers.ts'
import type { HttpRequest } from './request.ts'
import type { HttpAuth } from './options.ts'
import { credentialLine } from './sent-headers.ts'

/** The request as recordings and approvers see it: request line, headers, a blank line, the body, and its digest. */
export function shownRequest(request: HttpRequest, auth: HttpAuth, streams: boolean): ShownRequest {
  const credential = credentialLine(auth)
  const lines = request.headers.map(([name, value]) => `${name}: ${value}`)
  return writeRequest(request, credential === undefined ? lines : [...lines, credential], streams)
}

/** Writes a request with these lines as its headers, and says where in it data stands that masks can name. */
export function writeRequest(request: HttpRequest, lines: readonly string[], streams: boolean): ShownRequest {
  const { method, url, headers, body, bodyDigest, upgrade } = request
  const data: ShownData[] = []
  let text = `${method} ${url.href.slice(0, url.href.length - url.search.length)}`
  const add = (piece: string, form?: ShownData['form']): void => {
    if (form !== undefined) data.push({ start: text.length, end: text.length + piece.length, form })
    text += piece
  }
  if (url.search !== '') {
    add('?')
    add(url.search.slice(1), 'form')
  }
  for (const line of lines) add(`\n${line}`)
  if (upgrade !== undefined) {
    add('\nupgrade: websocket')
    if (upgrade.protocols.length > 0) add(`\nsec-websocket-protocol: ${upgrade.protocols.join(', ')}`)
  } else if (streams) add('\n\n[a body that streams]')
  if (body !== undefined) {
    const written = textOf(body)
    add('\n\n')
    if (written === undefined) add('[bytes that are no text]')
    else add(written, formOf(headerOf(headers, 'content-type')))
    add(`\n\n[body: ${body.length} bytes, SHA-256 ${bodyDigest ?? ''}]`)
  }
  return { text, data, ...(bodyDigest !== undefined && { hash: bodyDigest }) }
}

function formOf(contentType: string | undefined): ShownData['form'] {
  const type = mediaTypeOf(contentType)
  if (type !== undefined && isJsonType(type)) return 'json'
  return type === 'application/x-www-form-urlencoded' ? 'form' : 'opaque'
}

/**
 * See `Protocol.withoutValues`: the request still says the same when its method, host, path, the names of its parameters
 * and headers and the shape of its JSON body are what they were.
 */
export function withoutValues(shown: string, masked: string): readonly string[] | undefined {
  const before = outlineOf(shown)
  const after = outlineOf(masked)
  return before.join('\n') === after.join('\n') ? undefined : before.flatMap((line) => [line, '\n'])
}

function outlineOf(text: string): readonly string[] {
  const [requestLine = '', ...rest] = text.split('\n')
  const blank = rest.indexOf('')
  const headers = blank < 0 ? rest : rest.slice(0, blank)
  const body = blank < 0 ? [] : rest.slice(blank + 1)
  const [, method = '', place = '', query] = /^(\S*) ([^?]*)\??(.*)$/su.exec(requestLine) ?? []
  const names = [...new URLSearchParams(query).keys()].map((name) => `?${name}`)
  return [
    `${method} ${place}`,
    ...names,
    ...headers.map((line) => line.slice(0, line.indexOf(':') + 1)),
    ...bodyOutline(body, headers),
  ]
}

/** The shape of a JSON body; of any other body, all of it. */
function bodyOutline(lines: readonly string[], headers: readonly string[]): readonly string[] {
  if (lines.length === 0) return []
  const digest = lines.at(-1) ?? ''
  const text = lines.slice(0, -2).join('\n')
  const fields = headers.map((line): readonly [string, string] => [
    line.slice(0, line.indexOf(':')),
    line.slice(line.indexOf(':') + 1).trim(),
  ])
  const type = mediaTypeOf(headerOf(fields, 'content-type'))
  const parsed = type !== undefined && isJsonType(type) ? parseJson(text) : undefined
  return [parsed === undefined ? `[${text}]` : outlineOfJson(parsed.value), digest]
}

function outlineOfJson(value: JsonValue): string {
  if (isJsonObject(value)) {
    return `{${[...value].map(([key, field]) => `${JSON.stringify(key)}:${outlineOfJson(field)}`).join(',')}}`
  }
  return Array.isArray(value) ? `[${(value as readonly JsonValue[]).map(outlineOfJson).join(',')}]` : '•'
}
