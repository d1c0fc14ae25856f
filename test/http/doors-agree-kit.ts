/** Requests that both doors must answer alike, the policy they are judged by, and the service behind. */
import type { Answering } from '../services/http.ts'

/** What stands in `policies/` behind the line that names the target. */
export const POLICY = `rules:
  - {id: read, effect: allow, principals: ["*"], actions: [http.get, http.head], resources: [{path: "/v1/**"}]}
  - {id: small, effect: allow, principals: ["*"], actions: [http.get], resources: [{path: "/small/**"}], limits: {bytes: 64B}}
  - {id: refunds, effect: allow, principals: ["*"], actions: [http.post], resources: [{path: "/v1/refunds/{id:int}"}], when: "part.body.amount <= 100"}
  - {id: notes, effect: allow, principals: ["*"], actions: [http.put, http.patch], resources: [{path: "/v1/notes/{id:word}"}]}
  - {id: ask, effect: require_approval, principals: ["*"], actions: [http.delete], resources: [{path: "/v1/**"}], approvers: {any_of: [group:lead]}}
  - {id: no-admin, effect: deny, principals: ["*"], actions: ["http.*"], resources: [{path: "/v1/admin/**"}, {path: "/v1/admin"}], reason: Not yours.}
masks:
  - {fields: ["**.ssn", card.number], transform: redact}
  - {detect: [email], transform: redact}`

/** One request, as neither door would write it down. */
export interface Asked {
  readonly method: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

const json = { 'content-type': 'application/json' }
const get = (path: string, headers?: Asked['headers']): Asked => ({ method: 'GET', path, ...(headers && { headers }) })
const post = (path: string, body: string, headers: Asked['headers'] = json): Asked => ({
  method: 'POST',
  path,
  body,
  headers,
})
const put = (path: string, body: string, headers: Asked['headers'] = json): Asked => ({
  method: 'PUT',
  path,
  body,
  headers,
})

const PATHS = [
  '/v1/x',
  '/v1/x?a=1',
  '/v1/x?a=%20b&a=2',
  '/v1/a/b/c',
  '/v1/x?ssn=777-11',
  '/v1/ada@example.com',
  '/v1/x?to=ada%40example.com',
  '/v1/admin',
  '/v1/admin/x',
  '/v1/ADMIN',
  '/v1/%61dmin',
  '/v1/%2561dmin',
  '/v1/admin;a=b',
  '/v1/x%2fadmin',
  '/v1/x%5cadmin',
  '/v1//admin',
  '/v1/x%00',
  '/v1/x%0a',
  '/v1/x;y',
  '/v1/x/',
  '/v1/',
  '/',
  '/other',
  '/V1/x',
  '/v1/%2e%2e/admin',
  '/v1/.%2e/x',
  '/v1/./x',
  '/v1/x/..',
  '/v1/%252e%252e/x',
  '/v1/x?y=%00',
  '/v1/x?y=%0d%0a',
  '/v1/%E4',
  '/v1/x%3fy',
  '/v1/x%23y',
  '/v1/x?%73sn=777-11',
  '/small/x',
  '/small/long',
] as const
const ANSWERS = [
  'json',
  'deep',
  'list',
  'echo',
  'text',
  'ndjson',
  'events',
  'broken',
  'duplicate',
  'number',
  'empty',
  'status404',
  'status500',
  'nocontent',
  'notmodified',
  'image',
  'binary',
  'redirect-in',
  'redirect-out',
  'bom',
  'twice',
  'mail-header',
] as const
const BODIES = [
  '{"amount":5}',
  '{"amount":100}',
  '{"amount":101}',
  '{"amount":"5"}',
  '{"amount":5,"amount":500}',
  '{"amount":5,"ssn":"777-11"}',
  '{"amount":5',
  '[]',
  '',
  '{"amount":9007199254740993}',
  '{"amount":1e2}',
  '\ufeff{"amount":5}',
  '{"amount":5}{"amount":6}',
  '{"amount":5,"to":"ada@example.com"}',
] as const
const HEADERS: readonly Readonly<Record<string, string>>[] = [
  { accept: 'text/plain' },
  { 'if-match': '"v1"' },
  { 'x-request-id': 'r-1' },
  { 'accept-language': 'de' },
  { traceparent: '00-1-2-01' },
  { 'x-request-id': 'ada@example.com' },
  { prefer: 'return=minimal' },
  { 'idempotency-key': 'k' },
]

/** Allowed, denied, held and impossible ones; answers of every kind. */
export const REQUESTS: readonly Asked[] = [
  ...PATHS.map((path) => get(path)),
  ...PATHS.slice(0, 12).map((path): Asked => ({ method: 'DELETE', path })),
  ...ANSWERS.map((name) => get(`/v1/answer/${name}`)),
  ...ANSWERS.slice(0, 8).map((name): Asked => ({ method: 'HEAD', path: `/v1/answer/${name}` })),
  ...BODIES.map((body) => post('/v1/refunds/7', body)),
  ...['/v1/refunds/x', '/v1/refunds/7%0a', '/v1/refunds/7/x', '/v1/refunds/'].map((path) => post(path, '{"amount":5}')),
  ...HEADERS.map((headers) => get('/v1/x', headers)),
  put('/v1/notes/n1', '{"ssn":"777-11","card":{"number":"4111","name":"a"}}'),
  put('/v1/notes/n1', 'free text', { 'content-type': 'text/plain' }),
  put('/v1/notes/n1', 'a=1&ssn=777-11', { 'content-type': 'application/x-www-form-urlencoded' }),
  put('/v1/notes/n1', '{"a":1}', { 'content-type': 'application/json; charset=utf-16' }),
  { method: 'PATCH', path: '/v1/notes/n1', headers: json, body: '{"a":[1.50,2]}' },
]

/** What the service answers. */
export const ANSWERING: Answering = ({ url: asked, body, method }, response): void => {
  const type = (name: string): typeof response => response.setHeader('content-type', name)
  switch (/\/answer\/(.*)$/u.exec(asked)?.[1]) {
    case 'deep':
      return void type('application/json').end('{"a":[{"b":{"ssn":"1","n":1.50}}],"big":12345678901234567890}')
    case 'list':
      return void type('application/json').end('[{"ssn":"1"},{"card":{"number":"4","x":1}}]')
    case 'echo':
      return void type('application/json').end(JSON.stringify({ got: '{"ssn":"777-11"}' }))
    case 'text':
      return void type('text/plain').end('ada@example.com')
    case 'ndjson':
      return void type('application/x-ndjson').end('{"ssn":1}\n{"x":"ada@example.com"}\n')
    case 'events':
      return void type('text/event-stream').end('event: a\ndata: {"ssn":1}\n\n: comment\ndata: {"x":1}\n\n')
    case 'broken':
      return void type('application/json').end('{"ssn":"777-11"')
    case 'duplicate':
      return void type('application/json').end('{"ssn":"777-11","ssn":"2"}')
    case 'number':
      return void type('application/json').end('1.10')
    case 'empty':
      return void type('application/json').end()
    case 'status404':
      return void type('application/problem+json').writeHead(404).end('{"ssn":"777-11"}')
    case 'status500':
      return void type('application/json').writeHead(500).end('{"mail":"ada@example.com"}')
    case 'nocontent':
      return void response.writeHead(204).end()
    case 'notmodified':
      return void response.writeHead(304).end()
    case 'image':
      return void type('image/png').end('x')
    case 'binary':
      return void type('application/json').end(Buffer.from([0x22, 0, 0x22]))
    case 'redirect-in':
      return void response.writeHead(302, { location: '/base/v1/x' }).end()
    case 'redirect-out':
      return void response.writeHead(302, { location: 'https://evil.example/?ssn=1' }).end()
    case 'bom':
      return void type('application/json').end('\ufeff{"ssn":"777-11"}')
    case 'twice':
      return void type('application/json').setHeader('x-two', ['a', 'b']).end('{}')
    case 'mail-header':
      return void type('application/json').setHeader('x-mail', 'ada@example.com').end('{}')
    default:
      type('application/json').end(
        method === 'HEAD'
          ? ''
          : JSON.stringify({
              ssn: '123',
              got: body.startsWith('{') ? body : '',
              pad: 'x'.repeat(asked.includes('long') ? 200 : 1),
            }),
      )
  }
}
