/** A result read in several answers: one call, one judgement, one recording, whoever holds the handle and however it ends. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { Client as LegacyClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as LegacyTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { callTool, openWorld, type ToolResult, type World } from './world.ts'

const policyWith = (action: string): string => `
targets: [db]
rules:
  - id: read
    effect: ${action}
    principals: [group:agents]
    actions: [sql.select]
    resources: ["-", public.numbers]
    ${action === 'deny' ? 'reason: no longer' : 'limits: {rows: 900}'}
  - id: change
    effect: allow
    principals: [group:agents]
    actions: [sql.update, sql.select]
    resources: [public.numbers]
  - id: ask
    effect: require_approval
    principals: [group:agents]
    actions: [sql.select]
    resources: [public.asked]
    approvers: {any_of: [group:dba], count: 1, expires: 15m}
masks:
  - {columns: [public.numbers.secret], transform: redact}
`

const PATIENT = { timeout: 90_000 }

describe('a result read in several answers', () => {
  let world: World
  let agent: string
  const tokens: Record<string, string> = {}
  const query = (args: object, token = agent): Promise<ToolResult> =>
    callTool(world.mcpUrl, token, 'query_database', { ...args })
  const start = (max = 100, token = agent): Promise<ToolResult> =>
    query({ target: 'db', sql: 'SELECT id, secret FROM numbers ORDER BY id', max_rows: max }, token)
  const cursorOf = (answer: ToolResult): string => String(answer.structuredContent?.['cursor'])
  const ids = (answer: ToolResult): unknown[] => (answer.structuredContent?.rows ?? []).map(([id]) => id)

  beforeAll(async () => {
    world = await openWorld({
      schema: `CREATE TABLE numbers (id int PRIMARY KEY, secret text NOT NULL, filler text);
        INSERT INTO numbers SELECT n, 'secret-' || n, repeat('x', 500) FROM generate_series(1, 3000) n;
        CREATE TABLE asked (id int); INSERT INTO asked SELECT generate_series(1, 50)`,
      grants: 'GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO $role',
      policy: policyWith('allow'),
      config: '    pool: 6\n',
    })
    const token = (principal: string, owner = 'sam', groups = ['agents']): Promise<string> =>
      world.token({ principal, kind: 'agent', owner, groups, roles: ['caller'] })
    agent = await token('loop')
    Object.assign(tokens, {
      again: await token('loop'),
      rival: await token('rival', 'rita'),
    })
  })
  afterAll(() => world?.close())

  /** Entries of all recordings, in order within each file. */
  async function entries(): Promise<Record<string, unknown>[]> {
    const dir = path.join(world.dir, 'recordings')
    const files = (await readdir(dir, { recursive: true })).filter((name) => name.endsWith('.jsonl'))
    const texts = await Promise.all(files.map((name) => readFile(path.join(dir, name), 'utf8')))
    // What stands behind the last line end is still being written.
    return texts.flatMap((text) =>
      text
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    )
  }
  const bodies = async (type: string): Promise<Record<string, unknown>[]> =>
    (await entries()).filter((entry) => entry['type'] === type)
  const busy = async (): Promise<number> => {
    const { rows } = await world.db.admin.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = $1 AND application_name = 'sallyport' AND state <> 'idle'`,
      [world.db.name],
    )
    return rows[0]?.n ?? -1
  }

  it('gives every row once, in order, up to what the policy allows for the whole call', async () => {
    const decisions = (await bodies('decision')).length
    const seen: unknown[] = []
    let answer = await start(250)
    const pages: number[] = []
    for (;;) {
      seen.push(...ids(answer))
      pages.push(ids(answer).length)
      expect(JSON.stringify(answer)).not.toContain('secret-')
      expect(answer.structuredContent).toMatchObject({ status: 'ok', truncated: true, truncated_by: 'rows' })
      expect(answer.structuredContent?.['columns']).toEqual([
        { name: 'id', type: 'integer' },
        { name: 'secret', type: 'text', masked: 'redact' },
      ])
      if (answer.structuredContent?.['cursor'] === undefined) break
      answer = await query({ cursor: cursorOf(answer) })
    }
    expect(pages).toEqual([250, 250, 250, 150])
    expect(seen).toEqual(Array.from({ length: 900 }, (_, index) => index + 1))
    // One call: judged once, recorded once, ended as what it was.
    expect(await bodies('decision')).toHaveLength(decisions + 1)
    await expect.poll(() => bodies('end')).toContainEqual(expect.objectContaining({ ending: 'done', rows: 900 }))
  })

  it('takes another page size on the way, and none for a result that fits', async () => {
    const first = await start(10)
    const second = await query({ cursor: cursorOf(first), max_rows: 3 })
    expect(ids(second)).toEqual([11, 12, 13])
    const whole = await query({ target: 'db', sql: 'SELECT id FROM numbers WHERE id <= 10 ORDER BY id', max_rows: 10 })
    expect(whole.structuredContent).toMatchObject({ truncated: false, row_count: 10 })
    expect(whole.structuredContent?.['cursor']).toBeUndefined()
  })

  it('works in both eras, from one to the other', async () => {
    const client = new LegacyClient({ name: 'old', version: '1' })
    await client.connect(
      new LegacyTransport(new URL(world.mcpUrl), { requestInit: { headers: { authorization: `Bearer ${agent}` } } }),
    )
    try {
      const legacy = async (args: Record<string, unknown>): Promise<ToolResult> =>
        (await client.callTool({ name: 'query_database', arguments: args })) as unknown as ToolResult
      const first = await start(10)
      const second = await legacy({ cursor: cursorOf(first) })
      expect(ids(second)).toEqual([11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
      const third = await query({ cursor: cursorOf(second) })
      expect(ids(third)).toEqual([21, 22, 23, 24, 25, 26, 27, 28, 29, 30])
    } finally {
      await client.close()
    }
  })

  it('answers a foreign, a used and an invented handle with the same words, and leaves the owner its own', async () => {
    const first = await start(10)
    const cursor = cursorOf(first)
    const refused = [
      await query({ cursor }, tokens['rival']),
      // The same name and owner by another credential.
      await query({ cursor }, tokens['again']),
      await query({ cursor: 'cur_AAAAAAAAAAAAAAAAAAAAAAAA' }),
    ]
    expect(ids(await query({ cursor }))).toEqual([11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
    refused.push(await query({ cursor }))
    expect(new Set(refused.map((answer) => JSON.stringify(answer))).size).toBe(1)
    expect(refused[0]?.structuredContent).toMatchObject({ status: 'invalid', code: 'ERR_INVALID_INPUT' })
    expect(JSON.stringify(refused[0])).not.toContain(cursor)
  })

  it('takes a handle together with nothing else', async () => {
    const first = await start(10)
    for (const more of [{ sql: 'SELECT 1' }, { target: 'db' }, { params: [] }]) {
      expect((await query({ cursor: cursorOf(first), ...more })).structuredContent?.status).toBe('invalid')
    }
    expect((await query({ cursor: cursorOf(first) })).structuredContent?.status).toBe('ok')
  })

  it('never uses up the pool with what nobody reads on, and says so in the recording', async () => {
    const before = (await bodies('end')).filter(({ ending }) => ending === 'abandoned').length
    const opened: string[] = []
    for (let index = 0; index < 12; index++) {
      const token = index % 2 === 0 ? agent : tokens['rival']
      const answer = await start(10, token)
      expect(answer.structuredContent).toMatchObject({ status: 'ok', truncated: true })
      const cursor = answer.structuredContent?.['cursor']
      if (typeof cursor === 'string') opened.push(cursor)
    }
    expect(opened.length).toBeGreaterThan(2)
    // Six connections, three of them for results that wait: three more calls at once still run.
    const answers = await Promise.all(
      [1, 2, 3].map((n) => query({ target: 'db', sql: `SELECT ${n} FROM numbers WHERE id = 1` })),
    )
    expect(answers.map(({ structuredContent }) => structuredContent?.status)).toEqual(['ok', 'ok', 'ok'])
    const results = await Promise.all(opened.map((cursor) => query({ cursor })))
    const living = results.filter(({ structuredContent }) => structuredContent?.status === 'ok')
    expect(living.length).toBeLessThanOrEqual(3)
    await vi.waitFor(async () => {
      const ended = (await bodies('end')).filter(({ ending }) => ending === 'abandoned').length
      expect(ended).toBeGreaterThan(before)
    }, PATIENT)
  })

  it('does not pause a write, which would stand uncommitted', async () => {
    const answer = await query({
      target: 'db',
      sql: 'UPDATE numbers SET filler = filler WHERE id <= 20 RETURNING id',
      max_rows: 5,
    })
    expect(answer.structuredContent).toMatchObject({ status: 'ok', truncated: true, command: 'UPDATE 20' })
    expect(answer.structuredContent?.['cursor']).toBeUndefined()
  })

  it('C2: ends when the policy changes against it, and the recording says why', async () => {
    const first = await start(10)
    await writeFile(path.join(world.dir, 'policies', 'policy.yaml'), policyWith('deny'))
    await world.operator.post('/v1/policy/reload')
    await vi.waitFor(async () => {
      const ends = await bodies('end')
      expect(ends.some(({ error }) => (error as { code?: string } | undefined)?.code === 'ERR_POLICY_CHANGED')).toBe(
        true,
      )
    }, PATIENT)
    expect((await query({ cursor: cursorOf(first) })).structuredContent?.status).toBe('invalid')
    await writeFile(path.join(world.dir, 'policies', 'policy.yaml'), policyWith('allow'))
    await world.operator.post('/v1/policy/reload')
    await vi.waitFor(async () => expect(await busy()).toBe(0), PATIENT)
  })

  it('ends with its session, and holds up no end of the gateway', async () => {
    const first = await start(10)
    expect(first.structuredContent?.['cursor']).toBeDefined()
    const unread = async (): Promise<number> =>
      (await bodies('end')).filter(({ ending }) => ending === 'abandoned' || ending === 'cancelled').length
    const unreadBefore = await unread()
    const busySessions = async () => {
      const { sessions } = await world.operator.get<{ sessions: { id: string; calls: { masking?: string }[] }[] }>(
        '/v1/sessions',
      )
      return sessions.filter(({ calls }) => calls.length > 0)
    }
    // What the test before this one has ended may be listed for a moment.
    await expect.poll(busySessions).toHaveLength(1)
    const [waiting] = await busySessions()
    expect(waiting?.calls[0]?.masking).toBe('rewrite')
    await world.operator.delete(`/v1/sessions/${waiting?.id}`)
    expect((await query({ cursor: cursorOf(first) })).structuredContent?.status).toBe('invalid')
    await expect.poll(unread).toBe(unreadBefore + 1)
    expect((await start(10)).structuredContent?.['cursor']).toBeDefined()
    expect(await world.stop()).toBe(0)
    // This one result, and no other: the entries of several sessions stand in files of their own.
    expect(await unread()).toBe(unreadBefore + 2)
    expect((await world.run(['recordings', 'verify'])).code).toBe(0)
  })
})
