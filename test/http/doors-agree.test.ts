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
import { ANSWERING, POLICY, REQUESTS, type Asked } from './doors-agree-kit.ts'
import { httpKit, TOKEN, type HttpKit } from './kit.ts'

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
  service = await startService(ANSWERING)
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
