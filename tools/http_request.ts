import * as z from 'zod'
import { SallyportError } from '../src/core/errors.ts'
import { HTTP_SCHEMA } from './answer.ts'
import { answerHttp, nextHop } from './response.ts'
import type { RunTool } from './tool.ts'
import { inputSchemaOf, readArguments, reason, target } from './tool.ts'

/** The longest body an agent can send in a tool call; what is larger is no text a person could review. */
const BODY_CHARS_MAX = 256 * 1024

const scalar = z.union([z.string().max(8192), z.number(), z.boolean()])

const schema = z.strictObject({
  target,
  method: z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']).default('GET').describe('The method.'),
  path: z
    .string()
    .max(8192)
    .optional()
    .describe('Path beneath the base URL of the target, starting with a slash, such as /v1/orders/7.'),
  url: z
    .string()
    .max(8192)
    .optional()
    .describe('Whole URL, for a target that is open egress. Give either `path` or `url`.'),
  query: z
    .record(z.string().max(256), z.union([scalar, z.array(scalar).max(100)]))
    .optional()
    .describe('Parameters of the query; they are encoded for you.'),
  headers: z
    .record(z.string().max(128), z.string().max(8192))
    .optional()
    .describe('Headers, such as accept or if-match. Credentials are added by the gateway and cannot be set.'),
  body: z.unknown().optional().describe('A text, sent as it is, or any other JSON value, sent as application/json.'),
  reason,
  new_request: z
    .uuid()
    .optional()
    .describe('A fresh UUID asks for a new approval although the same call was approved and run before.'),
})

/** Sends one HTTP request under policy. */
export const httpRequest: RunTool = {
  kind: 'run',
  protocol: 'http',
  name: 'http_request',
  title: 'Send an HTTP request',
  description: [
    'Sends one HTTP request to a target and returns status, headers and body.',
    'The gateway adds the credential; you never need one.',
    'Every request is judged by policy: it may be allowed, denied, or held until a person approves it.',
    'Redirects are followed only where policy allows each hop.',
    'Values in the answer may be masked; masked values are not the real ones.',
    'Status `ok` means that the service answered: look at `http_status` for what it said.',
    'Status `denied` will not change by asking again: follow `hint` or tell your user which rule stands in the way.',
    'Status `pending_approval`: wait, then call `approval_status` with the ticket. Do not send the request changed.',
  ].join(' '),
  inputSchema: inputSchemaOf(schema),
  outputSchema: HTTP_SCHEMA,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: true },

  read(args) {
    const read = readArguments('http_request', schema, args)
    const { target, method, path, url, query, headers = {}, body, reason, new_request: newRequest } = read
    const sent = bodyOf(body)
    const named = Object.entries(headers)
    if (sent?.type !== undefined && !named.some(([name]) => name.toLowerCase() === 'content-type')) {
      named.push(['content-type', sent.type])
    }
    return {
      target,
      payload: {
        method,
        ...(path !== undefined && { path: withQuery(path, query) }),
        ...(url !== undefined && { url: withQuery(url, query) }),
        headers: named,
        ...(sent !== undefined && { body: Buffer.from(sent.text, 'utf8').toString('base64') }),
      },
      ...(reason !== undefined && { reason }),
      ...(newRequest !== undefined && { newRequest }),
    }
  },

  answer: answerHttp,

  next: nextHop,
}

function bodyOf(body: unknown): { readonly text: string; readonly type: string } | undefined {
  if (body === undefined) return undefined
  const isText = typeof body === 'string'
  const text = isText ? body : JSON.stringify(body)
  if (text.length > BODY_CHARS_MAX) throw invalid(`body: has more than ${BODY_CHARS_MAX} characters`)
  if (/\p{Surrogate}/u.test(text)) throw invalid('body: holds half of a surrogate pair, which no encoding can send')
  return { text, type: isText ? 'text/plain; charset=utf-8' : 'application/json' }
}

type Query = z.output<typeof schema>['query']

function withQuery(place: string, query: Query): string {
  if (query === undefined) return place
  const fields = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) fields.append(name, String(one))
  }
  const text = fields.toString()
  if (text === '') return place
  return `${place}${place.includes('?') ? '&' : '?'}${text}`
}

function invalid(what: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', `Invalid arguments for http_request. ${what}.`)
}
