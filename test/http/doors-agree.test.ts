/**
 * The same requests through the tool and through the listener: one engine, so one verdict, the same rules, the same bytes
 * at the service, the same masked answer and the same recording. What differs by design: a listener answers what it
 * cannot pass on whole with an error where the tool says `truncated`, and it leaves out headers that clients send by
 * themselves where the tool refuses them.
 */
import { once } from 'node:events'
import { createServer, request, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text as textOf } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { startService, type TestService } from '../services/http.ts'
import { httpKit, TOKEN, type HttpKit } from './kit.ts'

const POLICY = `rules:
  - {id: read, effect: allow, principals: ["*"], actions: [http.get, http.head], resources: [{path: "/v1/**"}]}
  - {id: small, effect: allow, principals: ["*"], actions: [http.get], resources: [{path: "/small/**"}], limits: {bytes: 64B}}
  - {id: refunds, effect: allow, principals: ["*"], actions: [http.post], resources: [{path: "/v1/refunds/{id:int}"}], when: "part.body.amount <= 100"}
  - {id: notes, effect: allow, principals: ["*"], actions: [http.put, http.patch], resources: [{path: "/v1/notes/{id:word}"}]}
  - {id: ask, effect: require_approval, principals: ["*"], actions: [http.delete], resources: [{path: "/v1/**"}], approvers: {any_of: [group:lead]}}
  - {id: no-admin, effect: deny, principals: ["*"], actions: ["http.*"], resources: [{path: "/v1/admin/**"}, {path: "/v1/admin"}], reason: Not yours.}
masks:
  - {fields: ["**.ssn", card.number], transform: redact}
  - {detect: [email], transform: redact}`

interface Asked {
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

const REQUESTS: readonly Asked[] = [
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

/** What the service was asked, without what each client says of itself. */
function sent({ seen }: TestService): unknown {
  const [one] = seen.splice(0)
  if (one === undefined) return undefined
  return [one.method, one.url, one.body, one.headers['content-type'], one.headers.authorization]
}

let service: TestService
let kit: HttpKit
let close: () => void
let port = 0

beforeAll(async () => {
  service = await startService(({ url: asked, body, method }, response): void => {
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
  })
  kit = httpKit({
    settings: { base_url: `${service.url}/base`, allow_addresses: ['127.0.0.1'], auth: 'bearer' },
    policy: POLICY,
  })
  const door = createServer(kit.door).listen(0, '127.0.0.1')
  await once(door, 'listening')
  port = (door.address() as AddressInfo).port
  close = () => (door.closeAllConnections(), void door.close())
})
afterAll(async () => {
  close()
  await kit.close()
  await service.close()
})

/** Sends a request as it is written; `undefined` when the answer breaks off. */
async function raw(method: string, path: string, headers: Asked['headers'], body: string | undefined) {
  const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
  const asking = request({
    host: '127.0.0.1',
    port,
    method,
    path,
    headers: { authorization: `Bearer ${TOKEN}`, ...headers, ...length },
  })
  asking.end(body)
  try {
    const [answer] = (await once(asking, 'response')) as [IncomingMessage]
    return { status: answer.statusCode, body: await textOf(answer) }
  } catch {
    return undefined
  }
}

/** What the last call left in the recording. The shown headers are those of each client. */
function recordedSince(before: number): unknown {
  const entries = (JSON.parse(kit.recorded()) as unknown[]).slice(before)
  return JSON.parse(
    JSON.stringify(entries)
      .replaceAll(/\\n(?:accept|accept-language|user-agent): [^\\]*/gu, '')
      .replaceAll(/"date":"[^"]*"/gu, '"date":""'),
  )
}

const count = (): number => (JSON.parse(kit.recorded()) as unknown[]).length

type Structured = Readonly<Record<string, unknown>> | undefined
type Heard = Awaited<ReturnType<typeof raw>>

/** Whether the tool said that this is not the whole answer, or that it leads out of the target. */
function isPartial(structured: Structured): boolean {
  const { location = '' } = (structured?.['headers'] ?? {}) as Readonly<Record<string, string>>
  return structured?.['truncated'] === true || structured?.['notices'] !== undefined || location.startsWith('https:')
}

function saidByTool(method: string, structured: Structured, error: SallyportError | undefined): unknown {
  if (error !== undefined) return method === 'HEAD' ? 'refused' : [error.code, error.facts.rules ?? [], error.message]
  return isPartial(structured) ? 'not passed on' : [structured?.['http_status'], structured?.['body']]
}

function saidByDoor(method: string, heard: Heard, structured: Structured, error: SallyportError | undefined): unknown {
  if (error !== undefined) {
    if (method === 'HEAD') return (heard?.status ?? 0) >= 400 ? 'refused' : heard
    const {
      code,
      rules = [],
      detail,
    } = JSON.parse(heard?.body ?? '{}') as { code?: string; rules?: string[]; detail?: string }
    return [code, rules, detail]
  }
  if (isPartial(structured)) return heard === undefined || heard.status === 502 ? 'not passed on' : heard
  return [heard?.status, heard?.body]
}

describe('tool and listener', () => {
  it(`agree on ${REQUESTS.length} requests`, async () => {
    expect(REQUESTS.length).toBeGreaterThanOrEqual(100)
    const effects = new Map<string, number>()
    for (const asked of REQUESTS) {
      const { method, path, headers = {}, body } = asked
      let before = count()
      const tool = await kit.ask({ method, path, headers, ...(body !== undefined && { body }) }).then(
        ({ structured }) => ({ structured, error: undefined }),
        (error: unknown) => ({ structured: undefined, error: SallyportError.from(error) }),
      )
      const byTool = { recorded: recordedSince(before), sent: sent(service) }
      before = count()
      const answer = await raw(method, `/service${path}`, headers, body)
      const byDoor = { recorded: recordedSince(before), sent: sent(service) }

      expect([asked, byDoor.sent]).toEqual([asked, byTool.sent])
      expect([asked, byDoor.recorded]).toEqual([asked, byTool.recorded])
      const { structured, error } = tool
      effects.set(error?.code ?? 'ok', (effects.get(error?.code ?? 'ok') ?? 0) + 1)
      expect([asked, saidByDoor(method, answer, structured, error)]).toEqual([
        asked,
        saidByTool(method, structured, error),
      ])
    }
    // Every kind of end was among them.
    for (const end of ['ok', 'ERR_DENIED', 'ERR_APPROVAL_PENDING', 'ERR_INVALID_INPUT']) {
      expect([end, effects.get(end) ?? 0]).toEqual([end, expect.toSatisfy((times: number) => times > 2)])
    }
    for (const secret of ['777-11', 'ada@example.com']) {
      const at = kit.recorded().indexOf(secret)
      expect(at < 0 ? '' : kit.recorded().slice(at - 150, at + 50)).toBe('')
    }
  })
})
