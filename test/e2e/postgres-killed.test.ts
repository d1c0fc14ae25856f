/**
 * C12: the gateway is killed while approved statements of both its doors run, and what becomes of their tickets is what the
 * database says of them. The database itself holds the statements at the moment that is meant.
 */
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { callTool, openWorld, type World } from './world.ts'

const LOCK = 4711
const SCHEMA = `
  CREATE TABLE public.runs (marker text PRIMARY KEY);
  CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_advisory_xact_lock_shared(${LOCK}); RETURN NULL; END $$;
  CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON public.runs DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION public.wait();
`
const POLICY = `
targets: [db]
rules:
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: code, effect: allow, principals: [group:agents], actions: [sql.call], resources: ["**"]}
  - {id: run, effect: require_approval, principals: [group:agents], actions: [sql.insert], resources: [public.runs], approvers: {any_of: [group:dba], expires: 15m}}
`

interface Ticket {
  readonly id: string
  readonly state: string
  readonly digest: string
  readonly outcome?: { readonly resolvedBy?: string }
}

describe('C12: a gateway that is killed while approved statements of both doors run', () => {
  let world: World
  let agent = ''
  let dba = ''

  beforeAll(async () => {
    world = await openWorld({
      schema: SCHEMA,
      grants: 'GRANT SELECT, INSERT ON public.runs TO $role',
      policy: POLICY,
      postgres: '{address: "127.0.0.1:0", auth: password}',
      config: 'approvals: {hold: 50ms}\n',
    })
    agent = await world.token({ principal: 'loop', kind: 'agent', owner: 'sam', groups: ['agents'], roles: ['caller'] })
    dba = await world.token({ principal: 'dora', kind: 'person', owner: 'dora', groups: ['dba'], roles: ['approver'] })
  })
  afterAll(() => world?.close())

  const sqlOf = (marker: string): string => `INSERT INTO public.runs VALUES ('${marker}')`
  const insert = (marker: string): ReturnType<typeof callTool> =>
    callTool(world.mcpUrl, agent, 'query_database', { target: 'db', sql: sqlOf(marker) })
  const ticketOf = (id: string): Promise<Ticket> => world.admin(dba).get<Ticket>(`/v1/approvals/${id}`)

  /** Files and approves a ticket; whoever sends the statement again runs it. */
  async function approved(marker: string): Promise<string> {
    const id = String((await insert(marker)).structuredContent?.ticket)
    const { digest } = await ticketOf(id)
    await world.admin(dba).post(`/v1/approvals/${id}/vote`, { decision: 'approve', digest })
    return id
  }

  async function onWire(marker: string): Promise<void> {
    const client = new Client({
      host: '127.0.0.1',
      port: world.wirePort,
      user: 'loop',
      password: agent,
      database: 'db',
    })
    client.on('error', () => undefined)
    await client.connect()
    await client.query(sqlOf(marker))
    await client.end()
  }

  /** Runs one statement through each door, and kills when the database says that both wait. */
  async function killWhile(waiting: string, name: string): Promise<readonly string[]> {
    const ids = [await approved(`${name}-mcp`), await approved(`${name}-wire`)]
    const running = [insert(`${name}-mcp`), onWire(`${name}-wire`)].map((one) => one.catch(() => undefined))
    const count = async (): Promise<number | null> => (await world.db.admin.query(waiting)).rowCount
    await expect.poll(count, { interval: 20 }).toBe(2)
    await world.kill()
    await Promise.all(running)
    return ids
  }

  async function statesAfter(ids: readonly string[], expected: string): Promise<void> {
    await world.start()
    const states = async (): Promise<readonly string[]> =>
      Promise.all(ids.map(async (id) => (await ticketOf(id)).state))
    await expect.poll(states, { interval: 100 }).toEqual([expected, expected])
    for (const id of ids) expect((await ticketOf(id)).outcome).toMatchObject({ resolvedBy: 'gateway' })
  }

  async function markers(name: string): Promise<readonly string[]> {
    const { rows } = await world.db.admin.query<{ marker: string }>(
      'SELECT marker FROM public.runs WHERE marker LIKE $1 ORDER BY 1',
      [`${name}-%`],
    )
    return rows.map(({ marker }) => marker)
  }

  it('during the COMMIT: the tickets are done, and nothing runs again', async () => {
    const blocker = await world.db.connect()
    let ids: readonly string[]
    try {
      await blocker.query('SELECT pg_advisory_lock($1)', [LOCK])
      ids = await killWhile(
        `SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database
        WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()`,
        'late',
      )
    } finally {
      await blocker.end()
    }
    await expect.poll(() => markers('late')).toEqual(['late-mcp', 'late-wire'])
    await statesAfter(ids, 'done')
    expect((await insert('late-mcp')).structuredContent).toMatchObject({ status: 'ok', replayed: true })
    await onWire('late-wire')
    expect(await markers('late')).toEqual(['late-mcp', 'late-wire'])
  })

  it('before the COMMIT: the tickets have failed, and the calls may be asked anew', async () => {
    const blocker = await world.db.connect()
    let ids: readonly string[]
    try {
      await blocker.query('BEGIN')
      await blocker.query('LOCK TABLE public.runs IN SHARE MODE')
      ids = await killWhile(`SELECT 1 FROM pg_locks WHERE relation = 'public.runs'::regclass AND NOT granted`, 'early')
    } finally {
      await blocker.end()
    }
    await statesAfter(ids, 'failed')
    expect(await markers('early')).toEqual([])
    const again = await insert('early-mcp')
    expect(again.structuredContent).toMatchObject({ status: 'pending_approval' })
    expect(ids).not.toContain(again.structuredContent?.ticket)
  })
})
