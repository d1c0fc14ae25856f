import type { ShownData, ShownRequest } from '../../core/call.ts'
import { isJsonObject, parseJson, writeJson, type JsonValue } from '../../core/json.ts'
import { MASKED, maskValue } from './masks.ts'
import { mayHoldValue } from './refuse.ts'
import { targetOf, type KubeBody, type KubeRequest } from './request.ts'

/** Requests as recordings and approvers see them: method and path of each, its command as words, its body, masked. */
export function shownRequests(requests: readonly KubeRequest[], lead = ''): ShownRequest {
  let text = lead
  const data: ShownData[] = []
  for (const request of requests) {
    if (text !== '') text += '\n'
    text += `${request.method} ${targetOf(request)}`
    if (request.command !== undefined && request.command.length > 0) {
      text += `\n  command: ${JSON.stringify(request.command)}`
    }
    if (request.isOpening === true) text += '\n  (opens a forwarding; each connection in it is a call of its own)'
    if (request.isDryRun) text += '\n  (dry run: the server only pretends)'
    if (request.body === undefined) continue
    const body = writeJson(maskBody(request.body, request))
    text += `\n  ${request.body.type}: `
    data.push({ start: text.length, end: text.length + body.length, form: 'json' })
    text += body
  }
  return { text, ...(data.length > 0 && { data }) }
}

/** A body without what must not be seen. */
export function maskBody({ type, value }: KubeBody, request: KubeRequest): JsonValue {
  if (type !== 'application/json-patch+json' || !Array.isArray(value)) return maskValue(value, request).value
  const isSecret = request.resource === 'secrets' && (request.group ?? '') === ''
  return (value as readonly JsonValue[]).map((operation) => {
    if (!isJsonObject(operation) || !operation.has('value')) return operation
    const path = operation.get('path')
    const isValue = typeof path !== 'string' || path.split('/').some(mayHoldValue)
    const plain = operation.get('value') ?? null
    // An operation names a place and not an object: a text there may be the value of anything.
    const shown = isSecret || (isValue && typeof plain === 'string') ? MASKED : maskValue(plain, request).value
    return new Map([...operation, ['value', shown]])
  })
}

/**
 * See `Protocol.withoutValues`: the requests still say the same when every method, path and command is what it was, and
 * every body has the same shape.
 */
export function withoutValues(shown: string, masked: string): readonly string[] | undefined {
  const before = outlineOf(shown)
  const after = outlineOf(masked)
  return before.join('\n') === after.join('\n') ? undefined : before.flatMap((line) => [line, '\n'])
}

function outlineOf(text: string): readonly string[] {
  return text.split('\n').map((line) => {
    const [, type, body = ''] = /^ {2}(application\/[a-z+-]+): ([\s\S]*)$/u.exec(line) ?? []
    if (type === undefined) return line
    const parsed = parseJson(body)
    return parsed === undefined ? line : `  ${type}: ${shapeOf(parsed.value)}`
  })
}

function shapeOf(value: JsonValue): string {
  if (isJsonObject(value)) {
    return `{${[...value].map(([key, field]) => `${JSON.stringify(key)}:${shapeOf(field)}`).join(',')}}`
  }
  return Array.isArray(value) ? `[${(value as readonly JsonValue[]).map(shapeOf).join(',')}]` : '•'
}
