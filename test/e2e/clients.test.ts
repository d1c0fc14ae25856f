/**
 * A hundred clients of both eras at once, through the doors of a real gateway to a real database: whatever a client is
 * sent is the answer to what it asked.
 *
 * Every question carries a marker no other has, in its text, its parameter and its name; every answer must hold that
 * marker and none of another. Clients that go away in the middle are among them, because an answer that lost its client
 * must not find another.
 */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { Client as ModernClient, StreamableHTTPClientTransport as ModernTransport } from '@modelcontextprotocol/client'
import { Client as LegacyClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as LegacyTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openWorld, type ToolResult, type World } from './world.ts'

const CLIENTS = 100
const ROUNDS = 4
/** The end of all hope; a client that is told nothing gives up after a minute. */
const CALL_MS = 170_000

const POLICY = `
targets: [db]
rules:
  - id: read
    effect: allow
    principals: [group:agents]
    actions: [sql.select]
    resources: ["-", public.echo]
`

interface Connected {
  readonly name: string
  call(args: object, signal?: AbortSignal): Promise<ToolResult>
  close(): Promise<void>
}

describe('a hundred clients of both eras', () => {
  let world: World
  let clients: readonly Connected[]

  beforeAll(async () => {
    world = await openWorld({
      schema: "CREATE TABLE public.echo AS SELECT g AS id, 'row ' || g AS body FROM generate_series(1, 200) g",
      grants: 'GRANT SELECT ON public.echo TO $role',
      policy: POLICY,
    })
    clients = await Promise.all(
      Array.from({ length: CLIENTS }, async (_, index) => {
        const name = `client-${String(index).padStart(3, '0')}`
        const token = await world.token({
          principal: name,
          kind: 'agent',
          owner: 'sam',
          groups: ['agents'],
          roles: ['caller'],
        })
        return index % 2 === 0 ? legacy(world.mcpUrl, name, token) : modern(world.mcpUrl, name, token)
      }),
    )
  })
  afterAll(async () => {
    await Promise.all((clients ?? []).map((client) => client.close()))
    await world?.close()
  })

  it('no answer reaches another client', async () => {
    let answers = 0
    await Promise.all(
      clients.map(async (client, index) => {
        for (let round = 0; round < ROUNDS; round++) {
          if ((index + round) % 7 === 0) await leave(client, markerOf(client, round, 'left'))
          const marker = markerOf(client, round, 'asked')
          // Some answers are long, so that they come in pieces between those of others.
          const limit = (index * 13 + round * 29) % 200
          const answer = await patiently(client, {
            target: 'db',
            sql: `SELECT $1::text AS "${marker}", body FROM echo WHERE id <= ${limit + 1} ORDER BY id`,
            params: [marker],
          })
          const text = JSON.stringify(answer)
          expect(answer.structuredContent?.rows).toHaveLength(limit + 1)
          expect(answer.structuredContent?.rows?.every(([first]) => first === marker)).toBe(true)
          expect(new Set(text.match(MARKER))).toEqual(new Set([marker]))
          answers++
        }
      }),
    )
    expect(answers).toBe(CLIENTS * ROUNDS)
  })

  it('no recording holds what another principal asked or was shown', async () => {
    await world.stop()
    const verified = await world.run(['recordings', 'verify'])
    expect(verified.code).toBe(0)
    const base = path.join(world.dir, 'recordings')
    const folders = readdirSync(base, { withFileTypes: true }).filter((entry) => entry.isDirectory())
    const seen = new Set<string>()
    for (const { name: folder } of folders) {
      for (const file of readdirSync(path.join(base, folder))) {
        const text = readFileSync(path.join(base, folder, file), 'utf8')
        const owners = new Set([...text.matchAll(MARKER)].map(([marker]) => marker.slice(0, 'client-000'.length)))
        expect(owners.size).toBeLessThanOrEqual(1)
        for (const owner of owners) seen.add(owner)
      }
    }
    expect(seen.size).toBe(CLIENTS)
  })
})

const MARKER = /client-\d{3}-\d-(?:asked|left)/gu

function markerOf({ name }: Connected, round: number, what: string): string {
  return `${name}-${round}-${what}`
}

/** Asks and goes away before the answer. */
async function leave(client: Connected, marker: string): Promise<void> {
  const gone = new AbortController()
  const asked = client.call({ target: 'db', sql: 'SELECT $1::text, body FROM echo', params: [marker] }, gone.signal)
  setImmediate(() => gone.abort())
  await asked.catch(() => undefined)
}

/** Asks again while the target's connections are all taken: a hundred at once are more than it is given. */
async function patiently(client: Connected, args: object): Promise<ToolResult> {
  for (;;) {
    const answer = await client.call(args)
    if (answer.structuredContent?.status !== 'limited') return answer
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function legacy(url: string, name: string, token: string): Promise<Connected> {
  const client = new LegacyClient({ name, version: '1.0.0' })
  const transport = new LegacyTransport(new URL(url), {
    requestInit: { headers: { authorization: `Bearer ${token}` } },
  })
  await client.connect(transport)
  return {
    name,
    call: async (args, signal) =>
      (await client.callTool({ name: 'query_database', arguments: { ...args } }, undefined, {
        timeout: CALL_MS,
        ...(signal !== undefined && { signal }),
      })) as unknown as ToolResult,
    close: () => client.close(),
  }
}

async function modern(url: string, name: string, token: string): Promise<Connected> {
  const client = new ModernClient({ name, version: '1.0.0' }, { versionNegotiation: { mode: { pin: '2026-07-28' } } })
  await client.connect(
    new ModernTransport(new URL(url), { requestInit: { headers: { authorization: `Bearer ${token}` } } }),
  )
  return {
    name,
    call: async (args, signal) =>
      (await client.callTool(
        { name: 'query_database', arguments: { ...args } },
        { timeout: CALL_MS, ...(signal !== undefined && { signal }) },
      )) as unknown as ToolResult,
    close: () => client.close(),
  }
}
