/**
 * The same requests through `http_request` over MCP and through a socket of the HTTP door, to one gateway process: the
 * same verdict by the same rules, the same bytes at the service, the same masked answer, the same counters, the same
 * entries in the recording.
 */
import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { text as textOf } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ANSWERING, POLICY, REQUESTS, type Asked } from '../http/doors-agree-kit.ts'
import { startService, type TestService } from '../services/http.ts'
import { openHttpWorld, SECRET, type HttpWorld } from './http-world.ts'
import type { ToolResult } from './world.ts'

const RATED = `  - {id: rated, effect: allow, principals: ["*"], actions: [http.get], resources: [{path: "/rated/**"}], limits: {rate: 4/h}}
masks:`

interface Entry {
  readonly type: string
  readonly body?: Readonly<Record<string, unknown>>
}

let service: TestService
let world: HttpWorld

beforeAll(async () => {
  service = await startService(ANSWERING)
  world = await openHttpWorld(
    `  service: {protocol: http, base_url: "${service.url}/base", allow_addresses: [127.0.0.1], auth: bearer, credential: {file: secret}}`,
    `targets: [service]\n${POLICY.replace('masks:', RATED)}`,
    'approvals: {hold: 10ms}\n',
  )
})
afterAll(async () => {
  await world?.close()
  await service?.close()
})

/** Sends a request as it is written; a status of 0 when the answer breaks off. */
async function byDoor({ method, path, headers, body }: Asked): Promise<{ status: number; text: string }> {
  const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
  const { hostname, port } = new URL(world.urls.http)
  const asking = request({
    host: hostname,
    port,
    method,
    path: `/service${path}`,
    headers: { authorization: `Bearer ${world.agent}`, ...headers, ...length },
  })
  asking.end(body)
  try {
    const [answer] = (await once(asking, 'response')) as [IncomingMessage]
    return { status: answer.statusCode ?? 0, text: await textOf(answer) }
  } catch {
    return { status: 0, text: '' }
  }
}

function byTool({ method, path, headers = {}, body }: Asked): Promise<ToolResult> {
  return world.tool({ target: 'service', method, path, headers, ...(body !== undefined && { body }) })
}

/** What the service was asked since the last time. */
function sent(): readonly unknown[] {
  return service.seen.splice(0).map(({ method, url, body, headers }) => {
    return [method, url, body, headers['content-type'], headers.authorization]
  })
}

function lines(): readonly Entry[] {
  return world
    .recorded()
    .split('\n')
    .flatMap((line) => {
      try {
        const entry = JSON.parse(line) as Entry
        return entry.type === 'decision' || entry.type === 'end' ? [entry] : []
      } catch {
        return []
      }
    })
}

/** What the recording says of the calls since `before`, but for who, when and where. */
function recordedSince(before: ReadonlySet<string>): readonly Readonly<Record<string, unknown>>[] {
  return lines()
    .filter((entry) => !before.has(JSON.stringify(entry)))
    .map((entry) => {
      const whole: Readonly<Record<string, unknown>> = { ...entry, ...entry.body }
      const {
        type,
        effect,
        rules,
        why,
        parts,
        obligations,
        request: asked,
        ending,
        error,
        status,
        masked,
        bytes,
      } = whole
      return {
        type,
        effect,
        rules,
        why,
        parts,
        obligations,
        asked,
        ending,
        error,
        status,
        masked,
        bytes,
        cut: whole['truncated'],
      }
    })
}

type Structured = NonNullable<ToolResult['structuredContent']>

/** Whether the tool said that this is not the whole answer, or that it leads out of the target. */
function isPartial(tool: Structured): boolean {
  const { location = '' } = (tool['headers'] ?? {}) as Readonly<Record<string, string>>
  return tool['truncated'] === true || tool['notices'] !== undefined || location.startsWith('https:')
}

/** A ticket is the same for both: the request is. */
function saidByTool(tool: Structured): unknown {
  if (isPartial(tool)) return 'not passed on'
  if (tool['http_status'] !== undefined) return [tool['http_status'], tool['body']]
  return [tool.code, tool['rules'] ?? [], tool.ticket ?? null]
}

function saidByDoor({ method }: Asked, door: Awaited<ReturnType<typeof byDoor>>, tool: Structured): unknown {
  if (isPartial(tool)) return door.status === 502 || door.status === 0 ? 'not passed on' : door
  if (tool['http_status'] !== undefined) return [door.status, door.text]
  // A refusal has no body where a method has none.
  if (method === 'HEAD') return door.status >= 400 ? saidByTool(tool) : door
  const said = JSON.parse(door.text) as Readonly<Record<string, unknown>>
  return [said['code'], said['rules'] ?? [], said['ticket'] ?? null]
}

describe('http_request over MCP and the HTTP door', () => {
  // The tool follows a redirect within the target, as calls of their own; the door leaves that to its client.
  const requests = REQUESTS.filter(({ path }) => !path.endsWith('redirect-in'))

  it(`agree on ${requests.length} requests, end to end`, async () => {
    expect(requests.length).toBeGreaterThanOrEqual(100)
    const ends = new Map<string, number>()
    const marks = { decisions: 0, sent: 0 }
    for (const asked of requests) {
      let before = new Set(lines().map((entry) => JSON.stringify(entry)))
      const { structuredContent: tool = {} } = await byTool(asked)
      const first = { sent: sent(), recorded: recordedSince(before) }
      before = new Set(lines().map((entry) => JSON.stringify(entry)))
      const door = await byDoor(asked)
      const second = { sent: sent(), recorded: recordedSince(before) }
      expect([asked, second]).toEqual([asked, first])
      for (const one of [first, second]) {
        marks.decisions += one.recorded.filter(({ type }) => type === 'decision').length
        marks.sent += one.sent.length
      }

      const end = String(tool.code ?? tool.status)
      ends.set(end, (ends.get(end) ?? 0) + 1)
      expect([asked, saidByDoor(asked, door, tool)]).toEqual([asked, saidByTool(tool)])
    }
    // Every kind of end was among them, and each left its marks.
    for (const end of ['ok', 'ERR_DENIED', 'ERR_APPROVAL_PENDING', 'ERR_INVALID_INPUT']) {
      expect([end, ends.get(end)]).toEqual([end, expect.toSatisfy((times: number) => times > 2)])
    }
    expect(marks.decisions).toBeGreaterThan(requests.length)
    expect(marks.sent).toBeGreaterThan(requests.length)
    for (const secret of ['777-11', 'ada@example.com', SECRET]) expect(world.recorded()).not.toContain(secret)
  })

  it('count on one counter', async () => {
    const asked: Asked = { method: 'GET', path: '/rated/x' }
    const seen: unknown[] = []
    for (let turn = 0; turn < 3; turn++) {
      const { structuredContent: tool = {} } = await byTool(asked)
      const door = await byDoor(asked)
      seen.push([tool['http_status'] ?? tool.code, door.status])
    }
    expect(seen).toEqual([
      [200, 200],
      [200, 200],
      ['ERR_LIMIT_RATE', 429],
    ])
  })
})
