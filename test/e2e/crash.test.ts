/**
 * The gateway is killed with SIGKILL at random moments, most of them between the claim of an approval and its end,
 * and started again each time.
 *
 * What must hold, however the moments fall: nothing the database executed or a caller was shown is missing from the
 * recording; the recording verifies after each restart; and no approval is ever used twice. The database itself counts:
 * each approved statement inserts its own marker.
 */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { verify } from '../../src/recording/verify.ts'
import { callTool, openWorld, type World } from './world.ts'

/** `SALLYPORT_KILLS=50` for more of them; `postgres-killed.test.ts` kills at the moments that matter. */
const KILLS = Number(process.env['SALLYPORT_KILLS'] ?? 12)
/** The rest are killed wherever the loop of reads and approvals happens to be. */
const KILLS_IN_FLIGHT = KILLS - 3
/** Of them, how many have one that is killed for certain before its statement can end. */
const EARLY_EVERY = 3

const POLICY = `
targets: [db]
rules:
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["-", public.runs]}
  - id: run
    effect: require_approval
    principals: [group:agents]
    actions: [sql.insert]
    resources: [public.runs]
    approvers: {any_of: [group:dba], count: 1, expires: 15m}
`

interface Ticket {
  readonly id: string
  readonly state: string
  readonly digest: string
  readonly outcome?: { readonly resolvedBy?: string }
}

describe('C12, C15, C16: a gateway that is killed', () => {
  let world: World
  let agent: string
  let dba: string
  /** Marker to ticket, of every statement that was approved. */
  const tickets = new Map<string, string>()
  /** Markers of reads whose answer arrived. */
  const answered: string[] = []

  beforeAll(async () => {
    world = await openWorld({
      schema: 'CREATE TABLE public.runs (marker text NOT NULL)',
      grants: 'GRANT USAGE ON SCHEMA public TO $role; GRANT SELECT, INSERT ON public.runs TO $role',
      policy: POLICY,
      config: 'approvals: {hold: 50ms}\nlog: {level: warn}\n'.replace('log: {level: warn}\n', ''),
    })
    agent = await world.token({ principal: 'loop', kind: 'agent', owner: 'sam', groups: ['agents'], roles: ['caller'] })
    dba = await world.token({
      principal: 'maria',
      kind: 'person',
      owner: 'maria',
      groups: ['dba'],
      roles: ['approver'],
    })
  })
  afterAll(() => world?.close())

  it(`survives ${KILLS} kills with every contract intact`, { timeout: 600_000 }, async () => {
    let inFlight = 0
    for (let kill = 0; kill < KILLS; kill++) {
      const stop = new AbortController()
      const reads = readLoop(stop.signal, kill)
      await expect.poll(() => answered.length).toBeGreaterThan(kill)
      if (kill < KILLS_IN_FLIGHT) inFlight += await killBetweenClaimAndEnd(`flight-${kill}`, kill % EARLY_EVERY === 0)
      else await killAnywhere(`loop-${kill}`)
      stop.abort()
      await reads
      await world.start()
      await expectVerified()
    }
    expect(inFlight).toBeGreaterThanOrEqual(Math.ceil(KILLS_IN_FLIGHT / EARLY_EVERY))
    await expectNothingLostOrDoubled()
  })

  /** Reads on and on, each with its own marker, until the gateway is gone. */
  async function readLoop(signal: AbortSignal, kill: number): Promise<void> {
    for (let n = 0; !signal.aborted; n++) {
      const marker = `read-${kill}-${n}`
      try {
        const { structuredContent } = await callTool(
          world.mcpUrl,
          agent,
          'query_database',
          { target: 'db', sql: 'SELECT count(*) FROM public.runs WHERE marker = $1', params: [marker] },
          signal,
        )
        if (structuredContent?.status === 'ok') answered.push(marker)
      } catch {
        return
      }
    }
  }

  async function approved(marker: string): Promise<string> {
    const held = await insert(marker)
    const ticket = String(held.structuredContent?.ticket)
    tickets.set(marker, ticket)
    const { digest } = await world.admin(dba).get<Ticket>(`/v1/approvals/${ticket}`)
    await world.admin(dba).post(`/v1/approvals/${ticket}/vote`, { decision: 'approve', digest })
    return ticket
  }

  function insert(marker: string): ReturnType<typeof callTool> {
    return callTool(world.mcpUrl, agent, 'query_database', {
      target: 'db',
      sql: 'INSERT INTO public.runs (marker) VALUES ($1)',
      params: [marker],
    })
  }

  /**
   * Lets the claimed statement wait for a lock at the database, so that the claim is certain. Then lets go of the lock and
   * kills within a few milliseconds: before, while or after it takes effect and is settled; early, before it lets go.
   *
   * @returns 1 when the claim had not been settled before the kill was on its way.
   */
  async function killBetweenClaimAndEnd(marker: string, isEarly: boolean): Promise<number> {
    const ticket = await approved(marker)
    const blocker = await world.db.connect()
    try {
      await blocker.query('BEGIN')
      await blocker.query('LOCK TABLE public.runs IN SHARE MODE')
      let isSettled = false
      const claim = callTool(world.mcpUrl, agent, 'approval_status', { ticket, wait_ms: 10_000 })
        .catch(() => undefined)
        .finally(() => {
          isSettled = true
        })
      await waitForLock()
      if (isEarly) await world.kill()
      const released = blocker.query('COMMIT')
      await setTimeout(Math.random() * 12) // the moment of a kill is meant to be arbitrary
      const wasInFlight = isEarly || !isSettled
      await world.kill()
      await released
      await claim
      return wasInFlight ? 1 : 0
    } finally {
      await blocker.end()
    }
  }

  async function killAnywhere(marker: string): Promise<void> {
    const work = approved(marker)
      .then((ticket) => callTool(world.mcpUrl, agent, 'approval_status', { ticket, wait_ms: 1_000 }))
      .catch(() => undefined)
    await setTimeout(Math.random() * 120)
    await world.kill()
    await work
  }

  /** Resolves when the database says that an INSERT waits for the lock. */
  async function waitForLock(): Promise<void> {
    const deadline = performance.now() + 60_000
    while (performance.now() < deadline) {
      const { rows } = await world.db.admin.query(
        `SELECT 1 FROM pg_locks WHERE relation = 'public.runs'::regclass AND NOT granted`,
      )
      if (rows.length > 0) return
    }
    throw new Error('The approved statement never reached the database.')
  }

  async function expectVerified(): Promise<void> {
    const { problems, files } = await verify(path.join(world.dir, 'recordings'))
    expect(problems).toEqual([])
    expect(files.length).toBeGreaterThan(0)
  }

  async function expectNothingLostOrDoubled(): Promise<void> {
    const listed = async (): Promise<readonly Ticket[]> =>
      (await world.operator.get<{ approvals: readonly Ticket[] }>('/v1/approvals?all=true')).approvals
    await expect.poll(async () => (await listed()).filter(({ state }) => state === 'executing')).toEqual([])
    const approvals = await listed()
    const states = new Map(approvals.map(({ id, state }) => [id, state]))
    const { rows } = await world.db.admin.query<{ marker: string; n: number }>(
      'SELECT marker, count(*)::int AS n FROM public.runs GROUP BY marker',
    )
    const executions = new Map(rows.map(({ marker, n }) => [marker, n]))
    const entries = recordedEntries(path.join(world.dir, 'recordings'))
    const written = entries.join('\n')
    const ran = [...tickets].map(([marker, ticket]) => ({
      marker,
      state: states.get(ticket) ?? 'gone',
      executions: executions.get(marker) ?? 0,
      isRecorded: written.includes(marker),
    }))
    expect(ran.filter(({ executions }) => executions > 1)).toEqual([])
    expect(ran.filter(({ executions, isRecorded }) => executions > 0 && !isRecorded)).toEqual([])
    const of = (...wanted: string[]): typeof ran => ran.filter(({ state }) => wanted.includes(state))
    const done = of('done')
    const unknown = of('outcome_unknown')
    // What the database itself said of a claim whose gateway died.
    const asked = approvals.filter(({ outcome }) => outcome?.resolvedBy === 'gateway')
    const failed = of('failed')
    expect(failed.filter(({ executions }) => executions !== 0)).toEqual([])
    const unclaimed = of('pending', 'approved')
    expect(done.filter(({ executions }) => executions !== 1)).toEqual([])
    expect(unclaimed.filter(({ executions }) => executions !== 0)).toEqual([])
    const claims = ran.length - unclaimed.length
    // What the database counted for settled claims, and what nobody knows, is all that was ever claimed.
    expect(done.reduce((sum, { executions }) => sum + executions, 0) + unknown.length + failed.length).toBe(claims)
    expect(claims).toBeGreaterThanOrEqual(KILLS_IN_FLIGHT)
    // Dying before the end must have occurred, or the moments were not random.
    expect(unknown.length + asked.length).toBeGreaterThan(0)
    const missing = answered.filter((marker) => !written.includes(`"${marker}"`))
    expect(missing).toEqual([])
    expect(answered.length).toBeGreaterThanOrEqual(KILLS)
    const took = unknown.filter(({ executions }) => executions === 1).length
    console.log(
      `${KILLS} kills: ${claims} claims, ${done.length} done, ${unknown.length} outcome_unknown ` +
        `(of which the database ran ${took}), ${asked.length} settled by the database, ${answered.length} reads answered`,
    )
  }
})

function recordedEntries(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.jsonl'))
    .flatMap((name) => readFileSync(path.join(dir, name), 'utf8').split('\n'))
    .filter((line) => line.includes('"decision"'))
}
