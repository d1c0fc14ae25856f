/**
 * C12, C14: what persons approve through the PostgreSQL door is what they saw, and its ticket says what became of it. A
 * real gateway, a real client, and writers that come in between.
 */
import { Client } from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { encodeBind } from '../../src/protocols/postgres/messages/bind.ts'
import { FLUSH, SYNC } from '../../src/protocols/postgres/messages/control.ts'
import { encodeDescribe } from '../../src/protocols/postgres/messages/describe.ts'
import { encodeExecute } from '../../src/protocols/postgres/messages/execute.ts'
import { encodeParse } from '../../src/protocols/postgres/messages/parse.ts'
import { encodeQuery } from '../../src/protocols/postgres/messages/query.ts'
import { openApprovalWorld, type ApprovalWorld } from './approval-world.ts'
import type { ApproverDesk, Ticket } from './approver-desk.ts'
import type { Heard, RawClient } from './raw-postgres.ts'
import { callTool, type World } from './world.ts'

const SCHEMA = `
  CREATE TABLE public.orders (id int PRIMARY KEY, status text, due timestamptz, price float8);
  CREATE TABLE public.items (order_id int REFERENCES public.orders ON DELETE CASCADE, n int, PRIMARY KEY (order_id, n));
  CREATE TABLE public.runs (marker text PRIMARY KEY, at timestamptz);
  CREATE TABLE public.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
`
const ROWS = `
  TRUNCATE public.orders, public.items, public.runs, public.late;
  INSERT INTO public.orders SELECT n, CASE WHEN n > 15 THEN 'paid' ELSE 'new' END, '2026-01-01 12:00+00', n / 3.0
    FROM generate_series(1, 20) n;
  INSERT INTO public.items SELECT id, 1 FROM public.orders;
  INSERT INTO public.late VALUES (1);
`
const POLICY = `
targets: [db]
rules:
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["-", "public.*"]}
  - {id: free, effect: allow, principals: [group:agents], actions: [sql.insert], resources: [public.late]}
  - {id: ask, effect: require_approval, principals: [group:agents], actions: [sql.delete, sql.update], resources: ["public.*"], approvers: {any_of: [group:dba], expires: 5m}}
  - {id: ask-runs, effect: require_approval, principals: [group:agents], actions: [sql.insert], resources: [public.runs], approvers: {any_of: [group:dba], expires: 5m}}
  - {id: ask-code, effect: require_approval, principals: [group:agents], actions: [sql.do], resources: ["-"], approvers: {any_of: [group:dba], expires: 5m}}
`

let made: ApprovalWorld
let world: World
let agent = ''
let desk: ApproverDesk

beforeAll(async () => {
  made = await openApprovalWorld({
    schema: SCHEMA,
    grants: 'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $role',
    policy: POLICY,
    config: 'approvals: {hold: 50ms}\n',
  })
  ;({ world, agent, desk } = made)
})
afterAll(() => made?.close())
beforeEach(() => world.db.admin.query(ROWS))

const asked = (previewed = true): Promise<Ticket> => desk.asked(previewed)
const ticketOf = (id: string): Promise<Ticket> => desk.ticketOf(id)
const approve = (ticket: Ticket): Promise<void> => desk.answer(ticket, 'approve')
const settled = (id: string) => desk.settled(id)
const count = (where: string): Promise<number> => made.count(where)
const login = (parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> => made.login(parameters)

let asks = 0
/** The same statement, and not one whose result waits to be picked up. */
const anew = (sql: string): string => `${sql} /* ${++asks} */`

/** Ways to send one statement. */
const SENT: readonly (readonly [string, (sql: string) => readonly Buffer[]])[] = [
  ['as a Query', (sql) => [encodeQuery({ type: 'Query', sql })]],
  ['as a portal', (sql) => [encodeParse({ name: '', sql, paramTypes: [] }), ...portal(), SYNC]],
  [
    'as a statement that was described first',
    (sql) => [
      encodeParse({ name: '', sql, paramTypes: [] }),
      encodeDescribe({ type: 'Describe', what: 'statement', name: '' }),
      FLUSH,
      ...portal(),
      SYNC,
    ],
  ],
]

function portal(params: readonly (Buffer | null)[] = [], paramFormats: readonly (0 | 1)[] = []): readonly Buffer[] {
  return [
    encodeBind({ portal: '', statement: '', paramFormats, params, resultFormats: [] }),
    encodeDescribe({ type: 'Describe', what: 'portal', name: '' }),
    encodeExecute({ portal: '', rowsMax: 0 }),
  ]
}

function send(client: RawClient, messages: readonly Buffer[]): Promise<Heard> {
  client.socket.write(Buffer.concat(messages))
  return client.hear((letter) => letter === 'Z')
}

describe.each(SENT)('C14: a statement that waits at the PostgreSQL door, sent %s', (_, messages) => {
  it('runs on the rows its approvers saw', async () => {
    const client = await login()
    const answer = send(client, messages(anew(`DELETE FROM public.orders WHERE status = 'paid'`)))
    const ticket = await asked()
    expect(ticket.preview?.sections.map(({ title }) => title)).toEqual([
      'DELETE public.orders: 5 rows',
      'DELETE public.items, by a foreign key: 5 rows',
    ])
    await approve(ticket)
    expect((await answer).codes).toEqual([])
    expect(await count('orders')).toBe(15)
    await settled(ticket.id).toBe('done')
    // What came before leaves nothing behind: the session writes on as it did.
    const isolation = await send(client, [encodeQuery({ type: 'Query', sql: 'SHOW transaction_isolation' })])
    expect(isolation.rows).toEqual([['read committed']])
    client.end()
  })

  it('commits nothing when others changed which rows they are, and asks again', async () => {
    const client = await login()
    const answer = send(client, messages(anew(`DELETE FROM public.orders WHERE status = 'paid'`)))
    const first = await asked()
    // As many rows as before, and other ones.
    await world.db.admin.query(
      `UPDATE public.orders SET status = CASE id WHEN 1 THEN 'paid' ELSE 'new' END WHERE id IN (1, 20)`,
    )
    await approve(first)
    const second = await asked()
    expect(second.follows).toBe(first.id)
    expect((await ticketOf(first.id)).state).toBe('failed')
    expect(await count('orders')).toBe(20)
    await approve(second)
    expect((await answer).codes).toEqual([])
    expect(await count(`orders WHERE id = 1 OR status = 'paid'`)).toBe(0)
    client.end()
  })

  it('commits nothing when a writer comes between the comparison and the statement, and asks again', async () => {
    const client = await login()
    const answer = send(client, messages(anew(`UPDATE public.orders SET price = 0 WHERE status = 'new'`)))
    const first = await asked()
    const writer = await world.db.connect()
    try {
      await writer.query('BEGIN')
      await writer.query(`UPDATE public.orders SET status = 'paid' WHERE id = 3`)
      await approve(first)
      const waiting = `SELECT 1 FROM pg_locks WHERE NOT granted AND $1 = ANY (pg_blocking_pids(pid))`
      const { rows } = await writer.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
      await expect
        .poll(async () => (await world.db.admin.query(waiting, [rows[0]?.pid])).rowCount, { interval: 20 })
        .toBe(1)
      await writer.query('COMMIT')
    } finally {
      await writer.end()
    }
    const second = await asked()
    expect((await ticketOf(first.id)).state).toBe('failed')
    expect(await count('orders WHERE price = 0')).toBe(0)
    await approve(second)
    const { codes, letters } = await answer
    expect(codes).toEqual([])
    // Its client heard of one attempt only.
    expect(letters.replace(/[^12C]/gu, '')).toBe(letters.includes('2') ? '12C' : 'C')
    client.end()
  })
})

describe('C14: what is compared at the PostgreSQL door', () => {
  it('the rows that foreign keys change, too', async () => {
    const client = await login()
    const answer = send(client, [encodeQuery({ type: 'Query', sql: 'DELETE FROM public.orders WHERE id = 7' })])
    const first = await asked()
    await world.db.admin.query('INSERT INTO public.items VALUES (7, 2)')
    await approve(first)
    const second = await asked()
    expect(await count('orders WHERE id = 7')).toBe(1)
    expect(second.preview?.sections[1]?.title).toBe('DELETE public.items, by a foreign key: 2 rows')
    await approve(second)
    expect((await answer).codes).toEqual([])
    client.end()
  })

  it('under the settings of the session, whatever those are', async () => {
    const client = await login({ TimeZone: 'Asia/Tokyo', DateStyle: 'SQL, DMY', extra_float_digits: '-5' })
    const sql = `UPDATE public.orders SET due = '02/01/2026 00:00' WHERE due = '01/01/2026 21:00' AND price < 1`
    const answer = send(client, [encodeQuery({ type: 'Query', sql })])
    const ticket = await asked()
    expect(ticket.preview?.sections[0]?.title).toBe('UPDATE public.orders: 2 rows')
    await approve(ticket)
    expect((await answer).codes).toEqual([])
    expect(await count(`orders WHERE due = '2026-01-01 15:00+00'`)).toBe(2)
    client.end()
  })

  it('C11: an approval for one time zone is none for another', async () => {
    const sql = `UPDATE public.orders SET due = '2026-06-01 00:00' WHERE id = 1`
    const first = await login({ TimeZone: 'Asia/Tokyo' })
    first.socket.write(encodeQuery({ type: 'Query', sql }))
    const ticket = await asked()
    first.end()
    await approve(ticket)
    const second = await login({ TimeZone: 'America/New_York' })
    const answer = send(second, [encodeQuery({ type: 'Query', sql })])
    const other = await asked()
    expect(other.digest).not.toBe(ticket.digest)
    expect(await count(`orders WHERE due <> '2026-01-01 12:00+00'`)).toBe(0)
    await approve(other)
    expect((await answer).codes).toEqual([])
    expect(await count(`orders WHERE due = '2026-06-01 04:00+00'`)).toBe(1)
    second.end()
  })

  it('binary parameters, which approvers read as what they are', async () => {
    const client = await login()
    const sql = 'DELETE FROM public.orders WHERE id = $1'
    await send(client, [
      encodeParse({ name: '', sql, paramTypes: [] }),
      encodeDescribe({ type: 'Describe', what: 'statement', name: '' }),
      SYNC,
    ])
    const nine = Buffer.from([0, 0, 0, 9])
    const answer = send(client, [...portal([nine], [1]), SYNC])
    const ticket = await asked()
    expect(ticket).toMatchObject({ request: { params: ['9'] } })
    expect(ticket.preview?.sections[0]?.title).toBe('DELETE public.orders: 1 row')
    await approve(ticket)
    expect((await answer).codes).toEqual([])
    expect(await count('orders WHERE id = 9')).toBe(0)
    client.end()
  })

  it('a ticket that was asked for through query_database', async () => {
    const sql = 'DELETE FROM public.orders WHERE id = 11'
    await callTool(world.mcpUrl, agent, 'query_database', { target: 'db', sql })
    const ticket = await asked()
    await world.db.admin.query('INSERT INTO public.items VALUES (11, 2)')
    await approve(ticket)
    const client = await login()
    const answer = send(client, [encodeQuery({ type: 'Query', sql })])
    const second = await asked()
    expect(second.follows).toBe(ticket.id)
    await approve(second)
    expect((await answer).codes).toEqual([])
    client.end()
  })
})

describe('C14: where waiting would hold locks', () => {
  it.each([
    ['a transaction', [encodeQuery({ type: 'Query', sql: 'BEGIN' })]],
    ['a pipeline', [encodeParse({ name: '', sql: 'INSERT INTO public.late VALUES (5)', paramTypes: [] }), ...portal()]],
    ['a text with several statements', []],
  ])('nobody is asked: %s', async (what, before) => {
    const client = await login()
    const sql = 'DELETE FROM public.orders WHERE id = 2'
    const isText = what.startsWith('a text')
    if (what === 'a transaction') await send(client, before)
    const messages =
      what === 'a pipeline'
        ? [...before, encodeParse({ name: '', sql, paramTypes: [] }), ...portal(), SYNC]
        : [encodeQuery({ type: 'Query', sql: isText ? `SELECT 1; ${sql}` : sql })]
    const { codes, messages: words } = await send(client, messages)
    expect([codes, words.join()]).toEqual([['42501'], expect.stringContaining('by itself')])
    expect(await count('late')).toBe(1)
    client.end()
  })
})

describe('C12: what a ticket says of what ran at the PostgreSQL door', () => {
  it('is what the end of the transaction said', async () => {
    const client = await login()
    const answer = send(client, [encodeQuery({ type: 'Query', sql: `UPDATE public.late SET id = 2 WHERE id = 1` })])
    const ticket = await asked()
    await world.db.admin.query('INSERT INTO public.late VALUES (2)')
    await approve(ticket)
    expect((await answer).codes).toEqual(['23505'])
    await settled(ticket.id).toBe('failed')
    client.end()
  })

  it('a client hears of a constraint that is looked at when its transaction ends', async () => {
    const client = await login()
    const sql = 'INSERT INTO public.late VALUES (1)'
    expect(await send(client, [encodeQuery({ type: 'Query', sql })])).toMatchObject({ codes: ['23505'] })
    const extended = await send(client, [encodeParse({ name: '', sql, paramTypes: [] }), ...portal(), SYNC])
    expect(extended).toMatchObject({ codes: ['23505'] })
    expect((await send(client, [encodeQuery({ type: 'Query', sql: 'SELECT 1' })])).rows).toEqual([['1']])
    expect(await count('late')).toBe(1)
    client.end()
  })

  it('holds for a driver that prepares, binds and syncs', async () => {
    const client = new Client({
      host: '127.0.0.1',
      port: world.wirePort,
      user: 'loop',
      password: agent,
      database: 'db',
    })
    await client.connect()
    const answer = client.query('INSERT INTO public.runs VALUES ($1, now()) RETURNING marker', ['driver'])
    const ticket = await asked()
    await approve(ticket)
    expect((await answer).rows).toEqual([{ marker: 'driver' }])
    await settled(ticket.id).toBe('done')
    await client.end()
  })

  it('runs when its client asks for a description first, and is not done before', async () => {
    const client = await login()
    const sql = 'DELETE FROM public.orders WHERE id = 3'
    const [bound, described, executed] = portal()
    client.socket.write(
      Buffer.concat([
        encodeParse({ name: '', sql, paramTypes: [] }),
        bound ?? SYNC,
        described ?? SYNC,
        FLUSH,
        executed ?? SYNC,
        FLUSH,
        SYNC,
      ]),
    )
    const answer = client.hear((letter) => letter === 'Z')
    const ticket = await asked()
    await approve(ticket)
    expect((await answer).letters.replace('N', '')).toBe('12nCZ')
    await settled(ticket.id).toBe('done')
    expect(await count('orders WHERE id = 3')).toBe(0)
    client.end()
  })

  it('is that it failed, when its client ends the pipeline before it ran', async () => {
    const client = await login()
    const sql = 'DELETE FROM public.orders WHERE id = 4'
    const bind = (name: string): Buffer =>
      encodeBind({ portal: name, statement: 's', paramFormats: [], params: [], resultFormats: [] })
    const run = encodeExecute({ portal: 'one', rowsMax: 0 })
    const both = [encodeParse({ name: 's', sql, paramTypes: [] }), bind('one'), bind('two'), run, SYNC]
    const answer = send(client, both)
    const ticket = await asked()
    await approve(ticket)
    expect((await answer).codes).toEqual(['42501'])
    await settled(ticket.id).toBe('failed')
    expect(await count('orders WHERE id = 4')).toBe(1)
    client.end()
  })

  it('is unknown of code that commits by itself and then fails', async () => {
    const client = await login()
    const sql = `DO $$ BEGIN DELETE FROM public.orders WHERE id = 5; COMMIT; RAISE EXCEPTION 'later'; END $$`
    const answer = send(client, [encodeQuery({ type: 'Query', sql })])
    const ticket = await asked(false)
    await approve(ticket)
    expect((await answer).codes).toEqual(['P0001'])
    await settled(ticket.id).toBe('outcome_unknown')
    expect(await count('orders WHERE id = 5')).toBe(0)
    client.end()
  })
})
