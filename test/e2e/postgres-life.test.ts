/**
 * How sessions of the PostgreSQL door end, and what they may cost: killed by an operator, out of time, too many, or with
 * the gateway itself.
 */
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encodeBind } from '../../src/protocols/postgres/messages/bind.ts'
import { SYNC } from '../../src/protocols/postgres/messages/control.ts'
import { encodeExecute } from '../../src/protocols/postgres/messages/execute.ts'
import { encodeParse } from '../../src/protocols/postgres/messages/parse.ts'
import { encodeQuery } from '../../src/protocols/postgres/messages/query.ts'
import { RawClient } from './raw-postgres.ts'
import { openWorld, type World } from './world.ts'

const POLICY = `
targets: [db]
rules:
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select, sql.insert], resources: ["public.*"]}
  - {id: session, effect: allow, principals: [group:agents], actions: [sql.begin, sql.commit, sql.rollback], resources: ["-"]}
  - {id: sleep, effect: allow, principals: [group:agents], actions: [sql.call], resources: ["pg_catalog.pg_sleep(*)"]}
`
/** How long a test may wait for what must come: the end of all hope, not a bound that is measured. */
const HOPE = { timeout: 90_000 }

let world: World
let token = ''

beforeAll(async () => {
  world = await openWorld({
    schema: 'CREATE TABLE public.orders (id int PRIMARY KEY); INSERT INTO public.orders VALUES (1);',
    grants: 'GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO $role',
    policy: POLICY,
    postgres: '{address: "127.0.0.1:0", auth: password, connections: 9, connections_per_principal: 4}',
    config: '    statement_timeout: 170s\n',
  })
  token = await world.token({ principal: 'loop', kind: 'agent', owner: 'maria', groups: ['agents'], roles: ['caller'] })
})
afterAll(async () => world?.close())

const query = (sql: string): Buffer => encodeQuery({ type: 'Query', sql })

/** Statements of clients that run at the server and have this in their text. */
async function running(text: string): Promise<number> {
  const { rows } = await world.db.admin.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM pg_stat_activity
      WHERE datname = $1 AND state = 'active' AND position($2 in query) > 0 AND pid <> pg_backend_pid()`,
    [world.db.name, text],
  )
  return rows[0]?.n ?? -1
}

/** Connections of the gateway's role. */
async function connected(): Promise<number> {
  const { rows } = await world.db.admin.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()`,
    [world.db.name],
  )
  return rows[0]?.n ?? -1
}

/** Statements that wait for the lock of somebody else. */
async function waiting(): Promise<number> {
  const { rows } = await world.db.admin.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted AND relation = 'public.orders'::regclass`,
  )
  return rows[0]?.n ?? -1
}

interface Listed {
  readonly id: string
  readonly door: string
  readonly calls: readonly unknown[]
}

async function busy(): Promise<Listed[]> {
  const { sessions } = await world.operator.get<{ sessions: readonly Listed[] }>('/v1/sessions')
  return sessions.filter(({ door, calls }) => door === 'postgres' && calls.length > 0)
}

/** The last entry of a call of this session. */
async function endOf(session: string): Promise<string | undefined> {
  const dir = path.join(world.dir, 'recordings')
  const names = await readdir(dir, { recursive: true })
  const name = names.find((one) => one.includes(session) && one.endsWith('.jsonl'))
  if (name === undefined) return undefined
  const text = await readFile(path.join(dir, name), 'utf8')
  return text.split('\n').find((line) => line.includes('"type":"end"'))
}

describe('an operator', () => {
  it('kills a session: its statement ends at the server, its client is told, others go on', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    const other = await RawClient.login(world.wirePort, token)
    const asleep = client.say(query('select pg_sleep(117)'))
    await expect.poll(() => running('pg_sleep(117)'), HOPE).toBe(1)
    const [session] = await busy()
    const killed = await world.run(['sessions', 'kill', session?.id ?? '', '--url', world.adminUrl], {
      SALLYPORT_TOKEN: world.operatorToken,
    })
    expect(killed).toMatchObject({ code: 0 })
    const heard = await asleep
    expect(heard.codes).toEqual(['57P01'])
    expect(heard.messages.join()).toMatch(/operator|killed|ended/u)
    await client.closed()
    // Sooner than the sleep would have ended by itself.
    await expect.poll(() => running('pg_sleep(117)'), HOPE).toBe(0)
    expect((await other.client.say(query('select id from orders'))).rows).toEqual([['1']])
    await expect.poll(busy, HOPE).toEqual([])
    other.client.end()
  })

  it('kills a session whose client reads nothing more', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    // More than the buffers on its way hold.
    client.socket.write(query("select repeat('x', 1000000), 'unread' from generate_series(1, 60)"))
    expect((await client.hear((letter) => letter === 'T')).letters).toBe('T')
    client.socket.pause()
    const [session] = await busy()
    await world.operator.delete(`/v1/sessions/${session?.id ?? ''}`)
    await expect.poll(() => running('unread'), HOPE).toBe(0)
    await expect
      .poll(async () => (await world.operator.get<{ sessions: readonly Listed[] }>('/v1/sessions')).sessions, HOPE)
      .not.toContainEqual(expect.objectContaining({ id: session?.id }))
    await expect.poll(() => endOf(session?.id ?? ''), HOPE).toMatch(/"ending":"cancelled".*ended by the operator/u)
    client.socket.destroy()
  })

  it('kills a session that only waits, and what its transaction did is undone', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(query('begin'))
    await client.say(query('insert into orders values (7)'))
    const { sessions } = await world.operator.get<{ sessions: readonly Listed[] }>('/v1/sessions')
    for (const { id } of sessions.filter(({ door }) => door === 'postgres'))
      await world.operator.delete(`/v1/sessions/${id}`)
    expect((await client.hear(() => false)).codes).toEqual(['57P01'])
    await expect.poll(connected, HOPE).toBeLessThanOrEqual(2)
    const { rows } = await world.db.admin.query('SELECT id FROM orders WHERE id = 7')
    expect(rows).toEqual([])
  })
})

describe('a limit', () => {
  it('of time ends the statement, and its client goes on', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    expect((await client.say(query('set statement_timeout = 200'))).codes).toEqual([])
    const heard = await client.say(query('select pg_sleep(119)'))
    expect(heard.codes).toEqual(['57014'])
    await expect.poll(() => running('pg_sleep(119)'), HOPE).toBe(0)
    expect((await client.say(query('select id from orders'))).rows).toEqual([['1']])
    client.end()
  })

  it('of time is the target’s, whatever a client sets', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    const shown = await client.say(query('show statement_timeout'))
    expect(shown.rows).toEqual([['170s']])
    const more = await RawClient.login(world.wirePort, token, { parameters: { statement_timeout: '1h' } })
    expect(more.heard.codes).toHaveLength(1)
    client.end()
  })

  it('of connections is for each principal, and for all: who leaves makes room', async () => {
    const other = await world.token({
      principal: 'loop2',
      kind: 'agent',
      owner: 'maria',
      groups: ['agents'],
      roles: ['caller'],
    })
    const as = async (user: string, password: string) =>
      RawClient.login(world.wirePort, password, { parameters: { user } })
    // Clients of the tests before may only just be leaving.
    await expect.poll(connected, HOPE).toBeLessThanOrEqual(2)
    const mine = await Promise.all(Array.from({ length: 6 }, () => as('loop', token)))
    const refused = mine.filter(({ heard }) => heard.codes.length > 0)
    expect(refused.map(({ heard }) => heard.codes)).toEqual([['53300'], ['53300']])
    const theirs = await Promise.all(Array.from({ length: 4 }, () => as('loop2', other)))
    expect(theirs.flatMap(({ heard }) => heard.codes)).toEqual([])
    // Nine in all: eight are in, so of two that come one is sent away before it says who it is.
    const [ninth, tenth] = [new RawClient(world.wirePort), new RawClient(world.wirePort)]
    expect((await Promise.race([ninth, tenth].map((one) => one.hear(() => true)))).codes).toEqual(['53300'])
    for (const one of [ninth, tenth]) one.end()
    for (const { client } of mine) client.end()
    const again = async (): Promise<readonly string[]> => {
      const { client, heard } = await as('loop', token)
      client.end()
      return heard.codes
    }
    await expect.poll(again, HOPE).toEqual([])
    for (const { client } of theirs) client.end()
  })
})

describe('a gateway that is told to end', () => {
  it('lets a running statement end, takes no new one, and closes at once who waits', async () => {
    await expect.poll(connected, HOPE).toBeLessThanOrEqual(2)
    const login = async (): Promise<RawClient> => (await RawClient.login(world.wirePort, token)).client
    const [idle, inside, half, busyOne] = [await login(), await login(), await login(), await login()]
    await inside.say(query('begin'))
    await half.say(query('begin'))
    half.socket.write(encodeParse({ name: '', sql: 'select id from orders', paramTypes: [] }))
    // The lock is the test's own, so that the statement ends exactly when it is let go.
    const holder = await world.db.connect()
    await holder.query('BEGIN; LOCK TABLE public.orders IN EXCLUSIVE MODE')
    busyOne.socket.write(query('insert into public.orders values (9)'))
    await expect.poll(waiting, HOPE).toBe(1)
    const stopped = world.stop()
    for (const one of [idle, inside, half]) expect((await one.hear(() => false)).codes).toEqual(['57P01'])
    expect(await waiting()).toBe(1)
    busyOne.socket.write(query('insert into public.orders values (10)'))
    await holder.query('COMMIT')
    await holder.end()
    const heard = await busyOne.hear(() => false)
    expect(heard).toMatchObject({ letters: 'CZE', codes: ['57P01'] })
    expect(await stopped).toBe(0)
    const { rows } = await world.db.admin.query('SELECT id FROM orders WHERE id > 1')
    expect(rows).toEqual([{ id: 9 }])
  })

  it('ends an open portal and undoes its transaction; a result nobody has read yet is whole or fails', async () => {
    if (!world.isRunning()) await world.start()
    const login = async (): Promise<RawClient> => (await RawClient.login(world.wirePort, token)).client
    const [paging, slow] = [await login(), await login()]
    await paging.say(query('begin'))
    await paging.say(query('insert into orders values (11)'))
    const page = await paging.say(
      encodeParse({ name: '', sql: 'select n from generate_series(1, 3) n', paramTypes: [] }),
      encodeBind({ portal: 'page', statement: '', paramFormats: [], params: [], resultFormats: [] }),
      encodeExecute({ portal: 'page', rowsMax: 1 }),
      SYNC,
    )
    expect(page.letters).toBe('12DsZ')
    // More than the buffers on its way hold.
    slow.socket.write(query("select repeat('x', 1000000) from generate_series(1, 30)"))
    expect((await slow.hear((letter) => letter === 'T')).letters).toBe('T')
    slow.socket.pause()
    const stopped = world.stop()
    expect((await paging.hear(() => false)).codes).toEqual(['57P01'])
    slow.socket.resume()
    const heard = await slow.hear(() => false)
    // On a machine that stands still the time a statement may end in can be over: then it is not said to be complete.
    const isCutUnsaid = heard.letters.includes('C') && heard.rows.length < 30
    expect(isCutUnsaid).toBe(false)
    expect(await stopped).toBe(0)
    await expect.poll(connected, HOPE).toBe(0)
    const { rows } = await world.db.admin.query('SELECT id FROM orders WHERE id = 11')
    expect(rows).toEqual([])
    const { code, stdout } = await world.run(['recordings', 'verify'])
    expect(code).toBe(0)
    expect(stdout).not.toContain('still open')
  })
})
