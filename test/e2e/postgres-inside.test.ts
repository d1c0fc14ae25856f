/**
 * C14: an approval inside the open transaction of a client, where a rule says `approve_in_tx`. A real gateway, real clients,
 * and writers that come in between.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { encodeBind } from '../../src/protocols/postgres/messages/bind.ts'
import { FLUSH, SYNC } from '../../src/protocols/postgres/messages/control.ts'
import { encodeDescribe } from '../../src/protocols/postgres/messages/describe.ts'
import { encodeExecute } from '../../src/protocols/postgres/messages/execute.ts'
import { encodeParse } from '../../src/protocols/postgres/messages/parse.ts'
import { encodeQuery } from '../../src/protocols/postgres/messages/query.ts'
import { has } from '../setup/needs.ts'
import { layCable, type Cable } from '../services/cable.ts'
import { cluster } from '../services/postgres.ts'
import { openApprovalWorld, type ApprovalWorld } from './approval-world.ts'
import type { ApproverDesk, Ticket } from './approver-desk.ts'
import type { Heard, RawClient } from './raw-postgres.ts'
import type { World } from './world.ts'

const SCHEMA = `
  CREATE TABLE public.orders (id int PRIMARY KEY, status text, price int);
  CREATE TABLE public.items (order_id int REFERENCES public.orders ON DELETE CASCADE, n int, PRIMARY KEY (order_id, n));
  CREATE TABLE public.notes (id int, text text);
  CREATE TABLE public.people (id int PRIMARY KEY, ssn text, city text);
  CREATE SEQUENCE public.numbers;
  CREATE TABLE public.numbered (id int DEFAULT nextval('public.numbers'), text text);
  CREATE TABLE public.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
  CREATE TABLE public.marks (id int PRIMARY KEY, text text);
`
const ROWS = `
  TRUNCATE public.orders, public.items, public.notes, public.people, public.numbered, public.late, public.marks;
  INSERT INTO public.orders SELECT n, CASE WHEN n > 15 THEN 'paid' ELSE 'new' END, n FROM generate_series(1, 20) n;
  INSERT INTO public.items SELECT id, 1 FROM public.orders;
  INSERT INTO public.people VALUES (1, '078-05-1120', 'Ulm'), (2, '219-09-9999', 'Bonn');
  INSERT INTO public.late VALUES (1);
  INSERT INTO public.marks VALUES (1, 'keep'), (2, 'drop');
`
const ASKS = 'effect: require_approval, principals: [group:agents]'
const POLICY = `
targets: [db]
rules:
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["-", "public.*"]}
  - {id: notes, effect: allow, principals: [group:agents], actions: [sql.insert], resources: [public.notes]}
  - {id: marks, effect: allow, principals: [group:agents], actions: [sql.update], resources: [public.marks]}
  - {id: own, ${ASKS}, actions: [sql.delete], resources: [public.orders, public.items, public.notes, public.marks], approvers: {any_of: [group:dba], approve_in_tx: true, covers: {same_statement: true, for: 10m, uses: 9}}}
  - {id: change, ${ASKS}, actions: [sql.update, sql.insert], resources: [public.orders, public.people, public.numbered, public.late], approvers: {any_of: [group:dba], approve_in_tx: true}}
  - {id: silent, ${ASKS}, actions: [sql.notify, sql.lock_table], resources: ["**"], approvers: {any_of: [group:dba], approve_in_tx: true}}
  - {id: secret, ${ASKS}, actions: [sql.select], resources: [public.late], approvers: {any_of: [group:dba], approve_in_tx: true}}
  - {id: strict, ${ASKS}, actions: [sql.delete], resources: [public.items, public.people], when: "part.via == ''", approvers: {any_of: [group:dba]}}
masks:
  - {columns: [public.people.ssn], transform: redact}
`

let cable: Cable
let made: ApprovalWorld
let world: World
let desk: ApproverDesk

beforeAll(async () => {
  const { port } = await cluster()
  cable = await layCable(() => port)
  made = await openApprovalWorld({
    schema: SCHEMA,
    grants:
      'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $role; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO $role',
    policy: POLICY,
    cable,
  })
  ;({ world, desk } = made)
})
afterAll(async () => {
  await made?.close()
  cable?.close()
})
beforeEach(() => world.db.admin.query(ROWS))

const count = (where: string): Promise<number> => made.count(where)

const query = (sql: string): Buffer => encodeQuery({ type: 'Query', sql })

const clients = new Set<RawClient>()
async function login(parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> {
  const client = await made.login(parameters)
  clients.add(client)
  return client
}
// Whatever a test has left open would hold the next one up.
afterEach(() => {
  for (const client of clients) client.end()
  clients.clear()
})

/** Up to the next ReadyForQuery; its last byte is the state of the transaction. */
function send(client: RawClient, ...messages: readonly Buffer[]): Promise<Heard> {
  client.socket.write(Buffer.concat(messages))
  return client.hear((letter) => letter === 'Z')
}
const stateOf = ({ bodies }: Heard): string => bodies.at(-1)?.toString() ?? ''

/** A client with a transaction in which it did something. */
async function begun(how = 'BEGIN', parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> {
  const client = await login(parameters)
  expect(stateOf(await send(client, query(how)))).toBe('T')
  expect((await send(client, query(`INSERT INTO public.notes VALUES (1, 'before')`))).codes).toEqual([])
  return client
}

const titles = ({ preview }: Ticket): readonly string[] => (preview?.sections ?? []).map(({ title }) => title)
const INSIDE = 'Inside an open transaction of its client'

function portal(sql: string): readonly Buffer[] {
  return [
    encodeParse({ name: '', sql, paramTypes: [] }),
    encodeBind({ portal: '', statement: '', paramFormats: [], params: [], resultFormats: [] }),
    encodeDescribe({ type: 'Describe', what: 'portal', name: '' }),
    encodeExecute({ portal: '', rowsMax: 0 }),
    SYNC,
  ]
}

describe.each([
  ['as a Query', (sql: string) => [query(sql)]],
  ['as a portal', (sql: string) => portal(sql)],
])('C14: inside a transaction, a call that waits, sent %s', (_, messages) => {
  it('runs there when it was approved, and its ticket is done with the COMMIT', async () => {
    const client = await begun()
    const answer = send(client, ...messages(`DELETE FROM public.orders WHERE status = 'paid' RETURNING id`))
    const ticket = await desk.asked()
    expect(titles(ticket)).toEqual([
      INSIDE,
      'DELETE public.orders: 5 rows',
      'DELETE public.items, by a foreign key: 5 rows',
    ])
    expect(ticket.inTransaction).toBe(true)
    await desk.answer(ticket, 'approve')
    const heard = await answer
    expect([heard.codes, heard.rows.length, stateOf(heard)]).toEqual([[], 5, 'T'])
    expect(await count('orders')).toBe(20)
    expect(await desk.ticketOf(ticket.id)).toMatchObject({ state: 'executing', ranAt: expect.any(String) as string })
    expect(stateOf(await send(client, query('COMMIT')))).toBe('I')
    await desk.settled(ticket.id).toBe('done')
    expect([await count('orders'), await count('notes')]).toEqual([15, 1])
  })

  it('keeps nothing and asks again when others changed which rows they are', async () => {
    const client = await begun()
    const answer = send(client, ...messages(`DELETE FROM public.orders WHERE status = 'paid'`))
    const first = await desk.asked()
    await world.db.admin.query(
      `UPDATE public.orders SET status = CASE id WHEN 1 THEN 'paid' ELSE 'new' END WHERE id IN (1, 20)`,
    )
    await desk.answer(first, 'approve')
    const second = await desk.asked()
    expect([second.follows, (await desk.ticketOf(first.id)).state]).toEqual([first.id, 'failed'])
    await desk.answer(second, 'approve')
    const heard = await answer
    expect([heard.codes, heard.letters.replaceAll(/[^12C]/gu, '')]).toEqual([
      [],
      heard.letters.includes('2') ? '12C' : 'C',
    ])
    await send(client, query('COMMIT'))
    expect(await count(`orders WHERE id = 1 OR status = 'paid'`)).toBe(0)
    await desk.settled(second.id).toBe('done')
  })
})

describe('C14: what holds a statement inside a transaction to what its approvers saw', () => {
  it('what the transaction did before is part of the preview', async () => {
    const client = await begun()
    await send(client, query(`INSERT INTO public.notes SELECT n, 'mine' FROM generate_series(1, 4) n`))
    const answer = send(client, query(`DELETE FROM public.notes WHERE text = 'mine'`))
    const ticket = await desk.asked()
    expect(titles(ticket)).toEqual([INSIDE, 'DELETE public.notes: 4 rows'])
    await desk.answer(ticket, 'approve')
    expect((await answer).codes).toEqual([])
    await send(client, query('COMMIT'))
    expect(await count('notes')).toBe(1)
  })

  it('the values of the rows, at READ COMMITTED', async () => {
    const client = await begun()
    const answer = send(client, query('UPDATE public.orders SET price = price * 2 WHERE id = 3'))
    const first = await desk.asked()
    await world.db.admin.query('UPDATE public.orders SET price = 1000 WHERE id = 3')
    await desk.answer(first, 'approve')
    const second = await desk.asked()
    expect(await count('orders WHERE price = 2000')).toBe(0)
    await desk.answer(second, 'approve')
    expect((await answer).codes).toEqual([])
    await send(client, query('COMMIT'))
    expect(await count('orders WHERE price = 2000')).toBe(1)
  })

  it('the rows foreign keys change, too', async () => {
    const client = await begun()
    const answer = send(client, query('DELETE FROM public.orders WHERE id = 7'))
    const first = await desk.asked()
    await world.db.admin.query('INSERT INTO public.items VALUES (7, 2)')
    await desk.answer(first, 'approve')
    const second = await desk.asked()
    expect(titles(second)[2]).toBe('DELETE public.items, by a foreign key: 2 rows')
    await desk.answer(second, 'approve')
    expect((await answer).codes).toEqual([])
  })

  it('a writer that is not done yet: it waits for its end, and asks again', async () => {
    const client = await begun()
    const answer = send(client, query(`UPDATE public.orders SET price = 0 WHERE status = 'new'`))
    const first = await desk.asked()
    const writer = await world.db.connect()
    try {
      await writer.query('BEGIN')
      await writer.query(`UPDATE public.orders SET status = 'paid' WHERE id = 3`)
      await desk.answer(first, 'approve')
      const { rows } = await writer.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
      const waiting = `SELECT 1 FROM pg_locks WHERE NOT granted AND $1 = ANY (pg_blocking_pids(pid))`
      const blocked = async (): Promise<number | null> => (await world.db.admin.query(waiting, [rows[0]?.pid])).rowCount
      await expect.poll(blocked, { interval: 20 }).toBe(1)
      await writer.query('COMMIT')
    } finally {
      await writer.end()
    }
    const second = await desk.asked()
    expect(titles(second)).toEqual([INSIDE, 'UPDATE public.orders: 14 rows'])
    await desk.answer(second, 'approve')
    expect((await answer).codes).toEqual([])
    await send(client, query('COMMIT'))
    expect(await count('orders WHERE price = 0')).toBe(14)
  })

  it('a transaction with one snapshot fails with the conflict, as PostgreSQL has it', async () => {
    const client = await begun('BEGIN ISOLATION LEVEL REPEATABLE READ')
    const answer = send(client, query(`UPDATE public.orders SET price = 0 WHERE status = 'paid'`))
    const ticket = await desk.asked()
    await world.db.admin.query('UPDATE public.orders SET price = 5 WHERE id = 20')
    await desk.answer(ticket, 'approve')
    const heard = await answer
    expect([heard.codes, stateOf(heard)]).toEqual([['40001'], 'E'])
    await desk.settled(ticket.id).toBe('failed')
    expect(stateOf(await send(client, query('ROLLBACK')))).toBe('I')
  })

  it('shows no masked value, and the caller gets none', async () => {
    const client = await begun()
    const answer = send(client, query(`UPDATE public.people SET city = 'Köln' WHERE id = 1 RETURNING id, ssn`))
    const ticket = await desk.asked()
    expect(JSON.stringify(ticket)).not.toContain('078-05-1120')
    await desk.answer(ticket, 'approve')
    const heard = await answer
    expect([heard.codes, JSON.stringify(heard.rows)]).toEqual([[], expect.not.stringContaining('078-05')])
    await send(client, query('COMMIT'))
    await desk.settled(ticket.id).toBe('done')
  })

  it('is not tried where that would leave something behind, or fail; its transaction goes on either way', async () => {
    const client = await begun()
    const counted = send(client, query(`INSERT INTO public.numbered (text) VALUES ('a')`))
    const first = await desk.asked(false)
    expect(first.preview?.missing).toContain('nextval')
    await desk.answer(first, 'approve')
    expect((await counted).codes).toEqual([])
    // An error of a preview is not one of the transaction.
    const failing = send(client, query('INSERT INTO public.orders (id) VALUES (1)'))
    const second = await desk.asked(false)
    expect(second.preview?.missing).toContain('unique')
    await world.db.admin.query('DELETE FROM public.orders WHERE id = 1')
    await desk.answer(second, 'approve')
    expect((await failing).codes).toEqual([])
    await send(client, query('COMMIT'))
    expect([await count('numbered'), await count('orders WHERE id = 1'), await count('notes')]).toEqual([1, 1, 1])
  })
})

/** What the gateway sends to find what approvers saw, last before the statement. */
const isComparison = (sent: string): boolean => sent.includes('sallyport_comparison') && sent.includes('TimeZone')

describe('C14: between the comparison and the statement, at READ COMMITTED', () => {
  /** Has a statement approved, and stops its run when all was compared and nothing of it is sent. */
  async function compared(sql: string) {
    const client = await begun()
    const answer = send(client, query(sql))
    const ticket = await desk.asked()
    const kept = cable.keepAfter(isComparison)
    await desk.answer(ticket, 'approve')
    await kept.reached
    return { client, answer, ticket, release: () => kept.release() }
  }

  it('a row that comes to them makes another count: nothing of it stays, and approvers are asked again', async () => {
    const { client, answer, ticket, release } = await compared(
      `UPDATE public.orders SET price = 0 WHERE status = 'new' RETURNING id`,
    )
    await world.db.admin.query(`UPDATE public.orders SET status = 'new' WHERE id = 20`)
    release()
    const second = await desk.asked()
    expect([second.follows, titles(second)]).toEqual([ticket.id, [INSIDE, 'UPDATE public.orders: 16 rows']])
    await desk.answer(second, 'deny')
    const heard = await answer
    // Nobody is shown the row that came to them, either.
    expect([heard.codes, heard.rows]).toEqual([['42501'], []])
    await send(client, query('COMMIT'))
    expect(await count('orders WHERE price = 0')).toBe(0)
  })

  it.each([
    ['one of the rows', 'UPDATE public.orders SET price = 7 WHERE id = 16', 'orders'],
    ['a row that a foreign key changes with them', 'UPDATE public.items SET n = 7 WHERE order_id = 16', 'items'],
  ])('nobody changes %s: it is locked', async (_, change, table) => {
    const { client, answer, release } = await compared(`DELETE FROM public.orders WHERE status = 'paid'`)
    const writer = await world.db.connect()
    try {
      const { rows } = await writer.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
      let isDone = false
      const writing = writer.query(change).then(({ rowCount }) => {
        isDone = true
        return rowCount
      })
      const where = async (): Promise<string> => {
        const waits = await world.db.admin.query('SELECT 1 FROM pg_locks WHERE NOT granted AND pid = $1', [
          rows[0]?.pid,
        ])
        return isDone ? 'done' : waits.rowCount === 0 ? 'on its way' : 'waits'
      }
      await expect.poll(where, { interval: 20 }).not.toBe('on its way')
      expect(await where()).toBe('waits')
      release()
      expect((await answer).codes).toEqual([])
      await send(client, query('COMMIT'))
      expect([await writing, await count(table)]).toEqual([0, 15])
    } finally {
      release()
      await writer.end()
    }
  })
})

describe.each([
  ['inside a transaction', 'BEGIN', SYNC],
  ['outside', 'SELECT 1', FLUSH],
])('C1: what was compared when it was bound, %s, and executed later', (_, first, pause) => {
  const swap = encodeParse({
    name: 'swap',
    sql: `UPDATE public.marks SET text = CASE text WHEN 'keep' THEN 'drop' ELSE 'keep' END`,
    paramTypes: [],
  })
  const bind = (name: string, rowsMax = 0): readonly Buffer[] => [
    encodeBind({ portal: name, statement: name, paramFormats: [], params: [], resultFormats: [] }),
    ...(rowsMax < 0 ? [] : [encodeExecute({ portal: name, rowsMax })]),
  ]

  /** Has the DELETE approved and bound, and hears that it is. */
  async function bound(client: RawClient): Promise<Ticket> {
    expect((await send(client, query(first), swap, SYNC)).codes).toEqual([])
    await client.hear((letter) => letter === 'Z')
    const sql = `DELETE FROM public.marks WHERE text = 'drop'`
    client.socket.write(Buffer.concat([encodeParse({ name: 'drop', sql, paramTypes: [] }), ...bind('drop', -1), pause]))
    const answer = client.hear((letter) => letter === (pause === SYNC ? 'Z' : '2'))
    const ticket = await desk.asked()
    await desk.answer(ticket, 'approve')
    expect((await answer).codes).toEqual([])
    return ticket
  }

  it('does not run after its client made other rows of what approvers saw', async () => {
    const client = await login()
    const ticket = await bound(client)
    const heard = await send(client, ...bind('swap'), encodeExecute({ portal: 'drop', rowsMax: 0 }), SYNC)
    expect([heard.codes, heard.messages.join()]).toEqual([
      ['42501'],
      expect.stringContaining('between Bind and Execute'),
    ])
    await send(client, query('COMMIT'))
    expect(await count(`marks WHERE id = 1 AND text = 'keep'`)).toBe(1)
    await desk.settled(ticket.id).toBe('failed')
  })

  it('runs when it is what comes next', async () => {
    const client = await login()
    const ticket = await bound(client)
    const heard = await send(client, encodeExecute({ portal: 'drop', rowsMax: 0 }), SYNC)
    expect([heard.codes, heard.letters]).toEqual([[], 'CZ'])
    await send(client, query('COMMIT'))
    expect([await count('marks'), await count('marks WHERE id = 1')]).toEqual([1, 1])
    await desk.settled(ticket.id).toBe('done')
  })
})

describe('C14: a statement inside a transaction whose approval does not come', () => {
  it('was refused: the transaction fails as with any other error, and a savepoint brings it back', async () => {
    const client = await begun()
    await send(client, query('SAVEPOINT mine'))
    const answer = send(client, query('DELETE FROM public.orders WHERE id = 101'))
    const ticket = await desk.asked()
    await desk.answer(ticket, 'deny')
    const heard = await answer
    expect([heard.codes, stateOf(heard)]).toEqual([['42501'], 'E'])
    const sql = `DELETE FROM public.orders WHERE id = 101`
    expect((await send(client, query(sql))).codes).toEqual(['25P02'])
    expect(stateOf(await send(client, query('ROLLBACK TO mine')))).toBe('T')
    // A "no" stands: nobody is asked the same again at once.
    const again = await send(client, query(sql))
    expect([again.codes, again.messages.join()]).toEqual([['42501'], 'dora refused the call'])
    expect(stateOf(await send(client, query('ROLLBACK TO mine')))).toBe('T')
    expect(stateOf(await send(client, query('COMMIT')))).toBe('I')
    expect([await count('notes'), await count('orders')]).toEqual([1, 20])
  })

  it('is the end of its transaction when its client goes away', async () => {
    const client = await begun()
    void send(client, query('DELETE FROM public.orders WHERE id = 1')).catch(() => undefined)
    const ticket = await desk.asked()
    client.end()
    await desk.settled(ticket.id).toBe('cancelled')
    const open = `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`
    const left = async (): Promise<number | null> => (await world.db.admin.query(open)).rowCount
    await expect.poll(left, { interval: 20 }).toBe(0)
    expect(await count('notes')).toBe(0)
  })

  it('waits no longer than 60 s, and ends before the database would end the transaction', async () => {
    let waited = 200
    const waits = async (client: RawClient): Promise<number> => {
      const answer = send(client, query(`DELETE FROM public.orders WHERE id = ${++waited}`))
      const ticket = await desk.asked()
      await desk.answer(ticket, 'deny')
      await answer
      return Date.parse(ticket.expiresAt) - Date.parse(ticket.createdAt)
    }
    expect(await waits(await begun())).toBe(60_000)
    expect(await waits(await begun('BEGIN', { idle_in_transaction_session_timeout: '65s' }))).toBe(53_000)
    const short = await begun('BEGIN', { idle_in_transaction_session_timeout: '15s' })
    const heard = await send(short, query('DELETE FROM public.orders WHERE id = 1'))
    expect([heard.codes, heard.messages.join()]).toEqual([['42501'], expect.stringContaining('idle_in_transaction')])
  })

  it('C5: nobody is asked when one of the rules does not say so', async () => {
    const client = await begun()
    const both = await send(client, query('DELETE FROM public.items WHERE n = 1'))
    expect([both.codes, both.messages.join()]).toEqual([['42501'], expect.stringContaining('by itself')])
  })

  it.each([
    ['one of several statements', [query('SELECT 1; DELETE FROM public.orders WHERE id = 1')]],
    [
      'after others in a pipeline',
      [...portal('SELECT 1').slice(0, -1), ...portal('DELETE FROM public.orders WHERE id = 1')],
    ],
  ])('nobody is asked: %s', async (_, messages) => {
    const client = await begun()
    const heard = await send(client, ...messages)
    expect([heard.codes, stateOf(heard)]).toEqual([['42501'], 'E'])
  })

  it('waits in three transactions of one requester at most', async () => {
    const waiting: Promise<Heard>[] = []
    const tickets: Ticket[] = []
    for (const id of [301, 302, 303]) {
      const client = await begun()
      waiting.push(send(client, query(`DELETE FROM public.orders WHERE id = ${id}`)))
      tickets.push(await desk.asked())
    }
    const fourth = await begun()
    const heard = await send(fourth, query('DELETE FROM public.orders WHERE id = 304'))
    expect(heard.messages.join()).toContain('wait inside a transaction already')
    for (const ticket of tickets) await desk.answer(ticket, 'deny')
    await Promise.all(waiting)
  })
})

describe('C12: what a ticket says of what ran inside a transaction', () => {
  /** Has a DELETE of one order approved and run. */
  async function ran(client: RawClient, id: number): Promise<Ticket> {
    const answer = send(client, query(`DELETE FROM public.orders WHERE id = ${id}`))
    const ticket = await desk.asked()
    await desk.answer(ticket, 'approve')
    expect((await answer).codes).toEqual([])
    return ticket
  }

  it('is that it failed, when the transaction was rolled back; and the same call is asked about anew', async () => {
    const client = await begun()
    const ticket = await ran(client, 1)
    await send(client, query('ROLLBACK'))
    await desk.settled(ticket.id).toBe('failed')
    expect((await desk.ticketOf(ticket.id)).outcome?.reason).toContain('rolled back')
    await send(client, query('BEGIN'))
    const again = await ran(client, 1)
    expect(again.digest).not.toBe(ticket.digest)
    await send(client, query('COMMIT AND CHAIN'))
    await desk.settled(again.id).toBe('done')
  })

  it('is that it failed, when its client went back behind it and committed the rest', async () => {
    const client = await begun()
    await send(client, query('SAVEPOINT mine'))
    const ticket = await ran(client, 2)
    await send(client, query('ROLLBACK TO mine'))
    await send(client, query('COMMIT'))
    await desk.settled(ticket.id).toBe('failed')
    expect([await count('orders'), await count('notes')]).toEqual([20, 1])
  })

  it.each([
    ['a notification', `NOTIFY told, 'now'`],
    ['a lock', 'LOCK TABLE public.orders IN SHARE MODE'],
  ])('is the same of what writes no row: %s', async (_, sql) => {
    const client = await begun()
    const silent = async (): Promise<Ticket> => {
      const answer = send(client, query(sql))
      const ticket = await desk.asked(false)
      await desk.answer(ticket, 'approve')
      expect((await answer).codes).toEqual([])
      return ticket
    }
    await send(client, query('SAVEPOINT mine'))
    const undone = await silent()
    await send(client, query('ROLLBACK TO mine'))
    const kept = await silent()
    await send(client, query('COMMIT'))
    await desk.settled(undone.id).toBe('failed')
    await desk.settled(kept.id).toBe('done')
  })

  it('is that it failed, when a constraint is found violated at the COMMIT', async () => {
    const client = await begun()
    const answer = send(client, query('INSERT INTO public.late VALUES (1)'))
    const ticket = await desk.asked()
    await desk.answer(ticket, 'approve')
    expect((await answer).codes).toEqual([])
    expect((await send(client, query('COMMIT'))).codes).toEqual(['23505'])
    await desk.settled(ticket.id).toBe('failed')
  })

  it('is what the database says, when the gateway is killed before the COMMIT', async () => {
    const client = await begun()
    const ticket = await ran(client, 3)
    await world.kill()
    await world.start()
    await desk.settled(ticket.id).toBe('failed')
    expect((await desk.ticketOf(ticket.id)).outcome).toMatchObject({ resolvedBy: 'gateway' })
    expect(await count('orders')).toBe(20)
  })
})

/** A client program of this world, with what it has written so far. */
function program(command: string, args: readonly string[]): { readonly child: ChildProcess; ended(): Promise<string> } {
  const env = {
    PATH: process.env['PATH'],
    PGHOST: '127.0.0.1',
    PGPORT: String(world.wirePort),
    PGUSER: 'loop',
    PGDATABASE: 'db',
    PGPASSWORD: made.agent,
  }
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const written: Buffer[] = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => written.push(data))
  const closed = once(child, 'close')
  return {
    child,
    async ended() {
      await closed
      return Buffer.concat(written).toString()
    },
  }
}

describe.runIf(has('psycopg2'))('C14: psycopg2, which opens a transaction by itself', () => {
  const CODE = `
import psycopg2
db = psycopg2.connect('')
with db, db.cursor() as c:
    c.execute("insert into public.notes values (%s, 'python')", (5,))
    c.execute("delete from public.orders where id = any(%s) returning id", ([1, 2],))
    print('deleted', sorted(c.fetchall()))
db.close()
`

  it('deletes what was approved, and commits it with the rest', async () => {
    const python = program('/usr/bin/python3', ['-c', CODE])
    const ticket = await desk.asked()
    expect(titles(ticket)[1]).toBe('DELETE public.orders: 2 rows')
    await desk.answer(ticket, 'approve')
    expect(await python.ended()).toBe('deleted [(1,), (2,)]\n')
    expect([await count('orders'), await count('notes')]).toEqual([18, 1])
    await desk.settled(ticket.id).toBe('done')
  })
})

describe.runIf(has('psql'))('C14: psql inside a transaction', () => {
  it('is told whom it waits for; Ctrl-C withdraws the request, and the transaction has failed', async () => {
    const sql = [`BEGIN`, `DELETE FROM public.orders WHERE id = 1`, `SELECT 1`, `COMMIT`]
    const psql = program('psql', ['-X', '-A', '-t', ...sql.flatMap((one) => ['-c', one])])
    const ticket = await desk.asked()
    psql.child.kill('SIGINT')
    const written = await psql.ended()
    expect(written).toContain(`Ticket ${ticket.id} waits for group:dba`)
    expect(written).toContain('canceling statement due to user request')
    await desk.settled(ticket.id).toBe('cancelled')
    expect(await count('orders')).toBe(20)
  })

  it('C14: Ctrl-C ends its wait for the snapshot of a deferrable transaction, before anybody is asked', async () => {
    const writer = await world.db.connect()
    try {
      await writer.query('BEGIN ISOLATION LEVEL SERIALIZABLE')
      await writer.query(`INSERT INTO public.notes VALUES (9, 'open')`)
      const sql = ['BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE', 'SELECT * FROM public.late']
      const psql = program('psql', ['-X', '-A', '-t', ...sql.flatMap((one) => ['-c', one])])
      const waiting = `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SafeSnapshot'`
      const waits = async (): Promise<number | null> => (await world.db.admin.query(waiting)).rowCount
      await expect.poll(waits, { interval: 20 }).toBe(1)
      psql.child.kill('SIGINT')
      expect(await psql.ended()).toContain('canceling statement due to user request')
      await expect.poll(waits, { interval: 20 }).toBe(0)
    } finally {
      await writer.end()
    }
  })
})
