import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCluster, type Cluster, type Instance } from './instances-kit.ts'
import { callTool, type ToolResult } from './world.ts'

/** Calls of the long run; `SALLYPORT_CALLS=10000` for all that was promised. */
const CALLS = Number(process.env['SALLYPORT_CALLS'] ?? 600)
const CUTS = 20
const KILLS = 3
const WORKERS = 8
const BUDGET = 40
const TICKETS = 24
const AT_ONCE = 2
const PER_RUN = 5

const POLICY = `targets: [db]
rules:
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: [public.notes, public.closing, "-"]}
  - {id: spend, effect: allow, principals: [group:agents], actions: [sql.insert], resources: [public.spent]}
  - id: ask
    effect: require_approval
    principals: [group:agents]
    actions: [sql.insert]
    resources: [public.asked]
    approvers: {any_of: [group:dba]}
  - {id: few, effect: allow, principals: [group:agents], actions: [sql.select], resources: [public.few], limits: {concurrency: ${AT_ONCE}}}
budgets:
  - {id: run, per: [session], principals: [id:runner], actions: [sql.select], max: ${PER_RUN}, window: 1h}
  - {id: runs, per: [principal], principals: [id:runner], actions: [sql.select], max: 100, window: 1h}
  - {id: spending, per: [principal], actions: [sql.insert], max: ${BUDGET}, window: 1h}
`
const CLOSED = POLICY.replace('public.closing, ', '')
/** Approved calls count against the budget like others, so these are of an agent of their own. */
const SCHEMA = `CREATE TABLE public.notes (id integer); INSERT INTO public.notes VALUES (1);
CREATE TABLE public.closing (id integer); INSERT INTO public.closing VALUES (1);
CREATE TABLE public.few (id integer); CREATE TABLE public.spent (marker text); CREATE TABLE public.asked (marker text);`

let cluster: Cluster
let reader: string
let spender: string
let asker: string
let runner: string
let dba: string

beforeAll(async () => {
  cluster = await openCluster({
    count: 3,
    schema: SCHEMA,
    grants: 'GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO $role',
    policy: POLICY,
  })
  const agent = (principal: string): Promise<string> =>
    cluster.token({ principal, kind: 'agent', owner: 'ana', groups: ['agents'], roles: ['caller'] })
  reader = await agent('reader')
  spender = await agent('spender')
  asker = await agent('asker')
  runner = await agent('runner')
  dba = await cluster.token({ principal: 'bob', kind: 'person', owner: 'bob', groups: ['dba'], roles: ['approver'] })
})
afterAll(() => cluster?.close())

/** A call through the proxy, again when the instance it went to is gone; only for calls that may run twice. */
async function through(
  token: string,
  tool: string,
  args: Readonly<Record<string, unknown>>,
  isRepeatable = true,
): Promise<ToolResult | undefined> {
  for (;;) {
    try {
      return await callTool(cluster.url, token, tool, args, AbortSignal.timeout(120_000))
    } catch {
      if (!isRepeatable) return undefined
      await setTimeout(50)
    }
  }
}

const query = (token: string, sql: string, params: readonly string[] = [], isRepeatable = true) =>
  through(token, 'query_database', { target: 'db', sql, params }, isRepeatable)

describe('three instances on one store', () => {
  it('take a freeze, the end of it, and another policy from any of them within a second', async () => {
    const [one, two, three] = cluster.instances
    if (one === undefined || two === undefined || three === undefined) throw new Error('three instances')
    const at = (url: string, sql: string): Promise<ToolResult> =>
      callTool(url, reader, 'query_database', { target: 'db', sql })
    const operator = cluster.admin(cluster.operatorToken, one)
    await operator.post('/v1/freezes', { kind: 'principal', name: 'reader', reason: 'it loops' })
    await setTimeout(1_000)
    for (const { mcpUrl } of cluster.instances) {
      expect((await at(mcpUrl, 'SELECT 1')).structuredContent?.status).not.toBe('ok')
      // One whose store is slow to answer says that first.
      await expect.poll(async () => (await at(mcpUrl, 'SELECT 1')).content[0]?.text).toContain('it loops')
    }
    await cluster.admin(cluster.operatorToken, three).post('/v1/unfreeze', { kind: 'principal', name: 'reader' })
    await setTimeout(1_000)
    const read = async (url: string, table: string) =>
      (await at(url, `SELECT id FROM public.${table}`)).structuredContent
    for (const { mcpUrl } of cluster.instances) {
      await expect.poll(() => read(mcpUrl, 'closing')).toMatchObject({ status: 'ok' })
    }

    await cluster.setPolicy(two, CLOSED)
    await expect
      .poll(async () => (await at(two.mcpUrl, 'SELECT id FROM public.closing')).structuredContent?.code)
      .toBe('ERR_DENIED')
    await setTimeout(1_000)
    for (const { mcpUrl } of cluster.instances) {
      expect((await read(mcpUrl, 'closing'))?.status).not.toBe('ok')
      await expect.poll(() => read(mcpUrl, 'closing')).toMatchObject({ code: 'ERR_DENIED' })
      await expect.poll(() => read(mcpUrl, 'notes')).toMatchObject({ status: 'ok' })
    }
  })

  it('cancel on every instance what is under way, and end a session that another one has', async () => {
    const [one, two] = cluster.instances
    if (one === undefined || two === undefined) throw new Error('two instances')
    const operator = cluster.admin(cluster.operatorToken, one)
    const blocker = await cluster.target.connect()
    try {
      await blocker.query('BEGIN')
      await blocker.query('LOCK TABLE public.spent IN ACCESS EXCLUSIVE MODE')
      const held = callTool(two.mcpUrl, spender, 'query_database', {
        target: 'db',
        sql: `INSERT INTO public.spent VALUES ('never')`,
      })
      await expect.poll(() => waiting('public.spent')).toBe(1)
      await operator.post('/v1/freezes', { kind: 'target', name: 'db', reason: 'stop' })
      expect((await held).structuredContent).toMatchObject({ code: 'ERR_DENIED' })
      await expect.poll(() => waiting('public.spent')).toBe(0)
    } finally {
      await blocker.end()
      await operator.post('/v1/unfreeze', { kind: 'target', name: 'db' })
    }
    interface Sessions {
      readonly sessions: readonly { readonly id: string; readonly principal: string; readonly instance: string }[]
      readonly unheard: readonly string[]
    }
    let { sessions, unheard } = await operator.get<Sessions>('/v1/sessions')
    // Whoever is slow to answer is named, and asked again.
    while (unheard.length > 0) ({ sessions, unheard } = await operator.get<Sessions>('/v1/sessions'))
    // The reader has called at each of the three, the spender only at the second.
    const readers = sessions.filter(({ principal }) => principal === 'reader')
    expect(new Set(readers.map(({ instance }) => instance)).size).toBe(3)
    const theirs = sessions.find(({ principal }) => principal === 'spender')
    // One that is slow to answer is asked all the same.
    const ended = await operator.delete(`/v1/sessions/${theirs?.id}`)
    expect(ended).toEqual(expect.toSatisfy((told: object) => 'killed' in told || 'asked' in told))
    const after = async (): Promise<readonly string[]> => {
      const found = await cluster.admin(cluster.operatorToken, two).get<Sessions>('/v1/sessions')
      return found.sessions.map(({ id }) => id)
    }
    await expect.poll(after).not.toContain(theirs?.id)
  })

  it('let no more calls run at once, and no more in the session of a caller without a connection, than one alone would', async () => {
    const blocker = await cluster.target.connect()
    const many = 9
    try {
      await blocker.query('BEGIN')
      await blocker.query('LOCK TABLE public.few IN ACCESS EXCLUSIVE MODE')
      const calls = Array.from({ length: many }, () => query(reader, 'SELECT id FROM public.few'))
      const refused: unknown[] = []
      for (const call of calls) void call.then((done) => refused.push(done?.structuredContent?.code))
      await expect.poll(() => refused).toHaveLength(many - AT_ONCE)
      expect(new Set(refused)).toEqual(new Set(['ERR_LIMIT_CONCURRENCY']))
      expect(await waiting('public.few')).toBe(AT_ONCE)
      await blocker.query('COMMIT')
      await Promise.all(calls)
      expect(refused.filter((code) => code === undefined)).toHaveLength(AT_ONCE)
    } finally {
      await blocker.end()
    }
    const done = []
    for (let n = 0; n < 4 * PER_RUN; n++) done.push(await query(runner, 'SELECT id FROM public.notes'))
    const ran = done.filter((each) => each?.structuredContent?.status === 'ok').length
    expect(ran).toBeGreaterThan(0)
    expect(ran).toBeLessThanOrEqual(PER_RUN)
  })

  it('deny at once what was frozen while they were paused', async () => {
    const [one, , three] = cluster.instances
    if (one === undefined || three === undefined) throw new Error('three instances')
    const operator = cluster.admin(cluster.operatorToken, one)
    three.pause()
    try {
      await operator.post('/v1/freezes', { kind: 'principal', name: 'reader', reason: 'it loops' })
      // Longer than what it last heard may count.
      await setTimeout(1_100)
    } finally {
      three.resume()
    }
    const asked = () => callTool(three.mcpUrl, reader, 'query_database', { target: 'db', sql: 'SELECT 1' })
    expect((await asked()).structuredContent?.status).not.toBe('ok')
    await expect.poll(async () => (await asked()).content[0]?.text).toContain('it loops')
    await operator.post('/v1/unfreeze', { kind: 'principal', name: 'reader' })
  })

  it('deny clearly what needs a store that is away, stay up, and go on when it is back', async () => {
    const [one] = cluster.instances
    if (one === undefined) throw new Error('an instance')
    cluster.blockStore(true)
    let said = ''
    // What it heard a moment ago counts for a second.
    const ask = async (): Promise<string> => {
      const headers = { authorization: `Bearer ${reader}` }
      return (said = await (await fetch(one.mcpUrl, { method: 'POST', headers, body: '{}' })).text())
    }
    await expect.poll(ask).toContain('shared store cannot be reached')
    expect(said).not.toMatch(/127\.0\.0\.1|ECONN/)
    cluster.blockStore(false)
    await expect
      .poll(async () => (await query(reader, 'SELECT id FROM public.notes'))?.structuredContent?.status)
      .toBe('ok')
    expect(cluster.instances.every((instance) => instance.isUp())).toBe(true)
  })

  it(
    `exceed no budget, use no grant twice and forget no waiter in ${CALLS} calls, ${KILLS} kills and ${CUTS} cuts`,
    { timeout: 600_000 },
    async () => {
      const spentOk: string[] = []
      const asked = new Map<string, string>()
      const progress = { made: 0, isOver: false }
      const flips: Flip[] = []
      const looks: Look[] = []

      const chaos = (async () => {
        const per = Math.ceil(CALLS / CUTS)
        for (let cut = 1; cut <= CUTS; cut++) {
          const next = cut * per * 0.9
          const isReached = (): boolean => progress.made >= next || progress.isOver
          while (!isReached()) await setTimeout(20)
          cluster.cutStore()
          if (cut % FLIP_EVERY === 0) await flip(flips, cluster.instances[(cut / FLIP_EVERY) % 3])
          if (cut % Math.floor(CUTS / KILLS) !== 0) continue
          const victim = cluster.instances[cut % cluster.instances.length]
          await victim?.kill()
          await victim?.start()
        }
      })()

      const worker = async (): Promise<void> => {
        while (progress.made < CALLS) {
          const n = progress.made++
          if (n % 25 === 0 && asked.size < TICKETS) await ask(`asked-${n}`)
          else if (n % 7 === 0) {
            const startedAt = performance.now()
            const done = await query(reader, 'SELECT id FROM public.closing', [], false)
            const isLet = done?.structuredContent?.status === 'ok'
            looks.push({ startedAt, endedAt: performance.now(), isLet })
          } else if (n % 5 === 0) {
            const marker = `spent-${n}`
            const done = await query(spender, 'INSERT INTO public.spent VALUES ($1)', [marker], false)
            if (done?.structuredContent?.status === 'ok') spentOk.push(marker)
          } else await query(reader, 'SELECT id FROM public.notes')
        }
      }

      const ask = async (marker: string): Promise<void> => {
        const sql = 'INSERT INTO public.asked VALUES ($1)'
        for (;;) {
          const held = await query(asker, sql, [marker])
          const { ticket, status } = held?.structuredContent ?? {}
          if (ticket === undefined || status !== 'pending_approval') {
            await setTimeout(100)
            continue
          }
          asked.set(marker, ticket)
          return approveAndRun(ticket)
        }
      }

      const approveAndRun = async (ticket: string): Promise<void> => {
        for (;;) {
          try {
            const up = cluster.instances.filter((instance) => instance.isUp())
            const bob = cluster.admin(dba, up[Math.floor(Math.random() * up.length)])
            const { digest, state } = await bob.get<{ digest: string; state: string }>(`/v1/approvals/${ticket}`)
            if (state === 'pending') await bob.post(`/v1/approvals/${ticket}/vote`, { decision: 'approve', digest })
            break
          } catch {
            await setTimeout(100)
          }
        }
        // Two at once, at whatever instances: one of them runs it.
        const pick = (): Promise<ToolResult | undefined> =>
          through(asker, 'approval_status', { ticket, wait_ms: 2_000 })
        await Promise.all([pick(), pick()])
      }

      await Promise.all(Array.from({ length: WORKERS }, worker))
      progress.isOver = true
      await chaos

      // Nobody read what a policy had closed a second before, unless it was open again by then.
      expect(flips.length).toBeGreaterThanOrEqual(3)
      expect(looks.filter((look) => look.isLet && isClosed(flips, look))).toEqual([])
      expect(looks.some(({ isLet }) => !isLet)).toBe(true)
      // The last one opened it again, however late that was.
      expect(flips.at(-1)?.isOpen).toBe(true)
      await expect
        .poll(async () => (await query(reader, 'SELECT id FROM public.closing'))?.structuredContent?.status)
        .toBe('ok')

      const { rows: spent } = await cluster.target.admin.query<{ marker: string }>('SELECT marker FROM public.spent')
      expect(spent.length).toBeLessThanOrEqual(BUDGET)
      expect(new Set(spent.map(({ marker }) => marker)).size).toBe(spent.length)
      expect(spentOk.filter((marker) => !spent.some((row) => row.marker === marker))).toEqual([])

      // Whoever waited can be told: each ticket comes to an end that the database agrees with.
      const states = async (): Promise<Map<string, string>> => {
        const { approvals } = await cluster
          .admin(dba)
          .get<{ approvals: { id: string; state: string }[] }>('/v1/approvals?all=true')
        return new Map(approvals.map(({ id, state }) => [id, state]))
      }
      for (const ticket of asked.values()) {
        if ((await states()).get(ticket) === 'approved')
          await through(asker, 'approval_status', { ticket, wait_ms: 2_000 })
      }
      const settled = async (): Promise<boolean> => {
        const now = await states()
        return [...asked.values()].every((ticket) =>
          ['done', 'failed', 'outcome_unknown'].includes(now.get(ticket) ?? ''),
        )
      }
      await expect.poll(settled, { timeout: 120_000, interval: 2_000 }).toBe(true)
      const final = await states()
      const { rows: ran } = await cluster.target.admin.query<{ marker: string; n: number }>(
        'SELECT marker, count(*)::int AS n FROM public.asked GROUP BY marker',
      )
      const executions = new Map(ran.map(({ marker, n }) => [marker, n]))
      for (const [marker, ticket] of asked) {
        const n = executions.get(marker) ?? 0
        const state = final.get(ticket)
        expect({ marker, state, n }).toEqual({
          marker,
          state,
          n: state === 'done' ? 1 : state === 'failed' ? 0 : Math.min(n, 1),
        })
      }
      const count = (state: string): number => [...asked.values()].filter((id) => final.get(id) === state).length
      console.log(
        `${progress.made} calls, ${KILLS} kills, ${CUTS} cuts: ${spent.length} of ${BUDGET} spent; ${asked.size} tickets: ` +
          `${count('done')} done, ${count('failed')} failed, ${count('outcome_unknown')} unknown`,
      )
    },
  )
})

const FLIP_EVERY = 4

/** Another policy: when it was written at one instance, and when that one surely had it in force. */
interface Flip {
  readonly isOpen: boolean
  readonly writtenAt: number
  readonly knownAt: number
}

/** A call that only one of two policies allows. */
interface Look {
  readonly startedAt: number
  readonly endedAt: number
  readonly isLet: boolean
}

/** Closes what is open, and opens what is closed. */
async function flip(flips: Flip[], instance: Instance | undefined): Promise<void> {
  if (instance === undefined) throw new Error('an instance')
  // The tests before this one have left it closed.
  const isOpen = flips.at(-1)?.isOpen !== true
  const version = async (): Promise<string | undefined> => {
    const operator = cluster.admin(cluster.operatorToken, instance)
    return operator.get<{ version: string }>('/v1/policy').then(
      (status) => status.version,
      () => undefined,
    )
  }
  let before: string | undefined
  while (before === undefined) before = await version()
  const writtenAt = performance.now()
  // A rule about nobody makes it news for this instance, whatever its file said before.
  const news = `rules:\n  - {id: flip-${flips.length}, effect: allow, principals: [id:nobody], actions: [sql.select], resources: ["-"]}`
  await cluster.setPolicy(instance, (isOpen ? POLICY : CLOSED).replace('rules:', news))
  await expect.poll(async () => ((await version()) ?? before) !== before).toBe(true)
  flips.push({ isOpen, writtenAt, knownAt: performance.now() })
}

/** Whether a policy that closes it was in force everywhere all the time of the call. */
function isClosed(flips: readonly Flip[], { startedAt, endedAt }: Look): boolean {
  const last = flips.findLastIndex(({ knownAt }) => knownAt <= startedAt - 1_000)
  if (last === -1 || flips[last]?.isOpen === true) return false
  return !flips.slice(last + 1).some(({ isOpen, writtenAt }) => isOpen && writtenAt <= endedAt)
}

/** Statements of the gateways that wait for a lock at the target. */
async function waiting(table: string): Promise<number> {
  const { rows } = await cluster.target.admin.query(
    'SELECT 1 FROM pg_locks WHERE relation = $1::regclass AND NOT granted',
    [table],
  )
  return rows.length
}
