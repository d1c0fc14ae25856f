/**
 * Attacks on the PostgreSQL door by clients that speak the protocol themselves: nothing here uses a driver's manners.
 */
import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BackendReader } from '../../src/protocols/postgres/messages/backend.ts'
import { encodeBind } from '../../src/protocols/postgres/messages/bind.ts'
import { SYNC } from '../../src/protocols/postgres/messages/control.ts'
import { decodeTextRow } from '../../src/protocols/postgres/messages/data-row.ts'
import { encodeExecute } from '../../src/protocols/postgres/messages/execute.ts'
import { encodeParse } from '../../src/protocols/postgres/messages/parse.ts'
import { encodeQuery } from '../../src/protocols/postgres/messages/query.ts'
import { decodeReport } from '../../src/protocols/postgres/messages/report.ts'
import { decodeBackendKeyData } from '../../src/protocols/postgres/messages/session-facts.ts'
import { encodeStartup } from '../../src/protocols/postgres/messages/startup.ts'
import { RawClient } from './raw-postgres.ts'
import { openWorld, type World } from './world.ts'

const POLICY = `
targets: [db]
rules:
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: [public.orders]}
  - {id: tx, effect: allow, principals: [group:agents], actions: [sql.begin, sql.commit, sql.rollback], resources: ["-"]}
  - {id: code, effect: allow, principals: [group:agents], actions: [sql.call], resources: ["**"]}
`

let world: World
let token = ''

beforeAll(async () => {
  world = await openWorld({
    postgres: '{address: "127.0.0.1:0", auth: password}',
    schema: `CREATE TABLE public.orders (id int); INSERT INTO public.orders VALUES (1), (2), (3);
      CREATE TABLE public.secrets (v text); INSERT INTO public.secrets VALUES ('hidden');
      CREATE FUNCTION public.moves() RETURNS text LANGUAGE sql AS $$
        SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false) $$`,
    grants: 'GRANT SELECT ON public.orders, public.secrets TO $role',
    policy: POLICY,
  })
  token = await world.token({ principal: 'loop', kind: 'agent', owner: 'maria', groups: ['agents'], roles: ['caller'] })
})
afterAll(async () => world?.close())

/** What an attacker hears, as letters and what they carry. */
interface Heard {
  readonly letters: string
  readonly codes: readonly string[]
  readonly messages: readonly string[]
  readonly rows: readonly (readonly (string | null)[])[]
}

/** A logged-in connection that sends whatever bytes it likes. */
async function attacker(): Promise<{ socket: Socket; say: (...messages: Buffer[]) => Promise<Heard> }> {
  const client = new Client({ host: '127.0.0.1', port: world.wirePort, user: 'loop', database: 'db', password: token })
  client.on('error', () => undefined)
  await client.connect()
  const { stream: socket } = (client as unknown as { connection: { stream: Socket } }).connection
  socket.removeAllListeners('data')
  return {
    socket,
    async say(...messages) {
      socket.write(Buffer.concat(messages))
      const reader = new BackendReader()
      reader.readsRows = true
      let letters = ''
      const codes: string[] = []
      const words: string[] = []
      const rows: (string | null)[][] = []
      for (;;) {
        const piece = reader.next()
        if (piece === undefined) {
          const [data] = (await Promise.race([once(socket, 'data'), once(socket, 'close').then(() => [])])) as [Buffer?]
          if (data === undefined || typeof data === 'boolean') return { letters, codes, messages: words, rows }
          reader.push(data)
          continue
        }
        if (piece.kind === 'rows') continue
        letters += piece.letter
        if (piece.letter === 'E') {
          const report = decodeReport('ErrorResponse', piece.body)
          codes.push(report.get('C') ?? '')
          words.push(report.get('M') ?? '')
        }
        if (piece.letter === 'D') rows.push(decodeTextRow(piece.body))
        if (piece.letter === 'Z') return { letters, codes, messages: words, rows }
      }
    },
  }
}

const parse = (sql: string, name = ''): Buffer => encodeParse({ name, sql, paramTypes: [] })
const bind = (statement = ''): Buffer =>
  encodeBind({ portal: '', statement, paramFormats: [], params: [], resultFormats: [] })
const execute = (rowsMax = 0): Buffer => encodeExecute({ portal: '', rowsMax })

describe('the extended protocol', () => {
  it('answers a pipeline in order, its denial included, and swallows the rest up to the Sync', async () => {
    const { say, socket } = await attacker()
    const heard = await say(
      parse('select 1'),
      bind(),
      execute(),
      parse('select * from secrets'),
      bind(),
      execute(),
      parse('select 3'),
      bind(),
      execute(),
      SYNC,
    )
    expect(heard).toMatchObject({ letters: '12DCEZ', codes: ['42501'], rows: [['1']] })
    expect((await say(encodeQuery({ type: 'Query', sql: 'select 4' }))).rows).toEqual([['4']])
    socket.destroy()
  })

  it('does not run an earlier unnamed statement after a denial', async () => {
    const { say, socket } = await attacker()
    await say(parse('select id from orders'), SYNC)
    const heard = await say(parse('select * from secrets'), SYNC, bind(), execute(), SYNC)
    expect(heard.codes).toEqual(['42501'])
    const after = await say(bind(), execute(), SYNC)
    expect(after.rows).toEqual([])
    expect(after.codes).toEqual(['26000'])
    socket.destroy()
  })

  it('pages through a suspended portal as one call', async () => {
    const { say, socket } = await attacker()
    const heard = await say(parse('select id from orders order by id'), bind(), execute(2), execute(2), SYNC)
    expect(heard.letters).toBe('12DDsDCZ')
    expect(heard.rows).toEqual([['1'], ['2'], ['3']])
    socket.destroy()
  })

  it('judges a prepared statement again at its Bind: a table that was renamed since is not read', async () => {
    const { say, socket } = await attacker()
    expect(
      (await say(parse('select id from orders limit 1', 'kept'), bind('kept'), execute(), SYNC)).rows,
    ).toHaveLength(1)
    await world.db.admin.query('ALTER TABLE public.orders RENAME TO orders_old')
    const heard = await say(bind('kept'), execute(), SYNC)
    expect(heard.rows).toEqual([])
    expect(heard.letters.endsWith('EZ')).toBe(true)
    await world.db.admin.query('ALTER TABLE public.orders_old RENAME TO orders')
    socket.destroy()
  })

  it('ends the session when a function unpins what text means, before the next statement is read', async () => {
    const { say } = await attacker()
    const heard = await say(
      parse('select public.moves()'),
      bind(),
      execute(),
      parse(String.raw`select '\'' ; select v from secrets; --'`),
      bind(),
      execute(),
      SYNC,
    )
    expect(heard.rows.flat()).not.toContain('hidden')
    expect(heard.codes.at(-1)).toBe('57P01')
  })
})

describe('after the login', () => {
  const query = (sql: string): Buffer => encodeQuery({ type: 'Query', sql })
  const body = (letter: string, bytes: Buffer, length = bytes.length + 4): Buffer => {
    const header = Buffer.alloc(5)
    header.write(letter, 'latin1')
    header.writeUInt32BE(length, 1)
    return Buffer.concat([header, bytes])
  }
  const hidden = query('select v from secrets')

  it.each([
    ['a message hidden behind the text of another', body('Q', Buffer.concat([Buffer.from('select 1\0'), hidden]))],
    ['a message hidden in a Sync', body('S', hidden)],
    ['a length of 1 GiB', body('Q', hidden, 0x4000_0000)],
    ['a length that wraps', body('B', hidden, 0xffff_fffe)],
    ['a length below its own', body('Q', hidden, 3)],
    ['a value of negative length', body('B', Buffer.from([0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe, 0, 0]))],
    ['a start-up packet', encodeStartup({ type: 'startup', major: 3, minor: 0, parameters: new Map([['user', 'x']]) })],
    ['a token nobody asked for', body('p', Buffer.from('token\0'))],
  ])('reads nothing behind %s', async (_, bytes) => {
    const { client } = await RawClient.login(world.wirePort, token)
    client.socket.write(Buffer.concat([bytes, hidden, SYNC]))
    const heard = await client.hear((letter, count) => letter === 'Z' && count > 1)
    expect(heard.codes[0]).toMatch(/^08P01$|^42501$/u)
    expect(JSON.stringify(heard.rows)).not.toContain('hidden')
    client.end()
  })

  it('takes no COPY data nobody asked for, and no message in it', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    const heard = await client.say(body('d', hidden), body('c', Buffer.alloc(0)), query('select 7'))
    expect(heard).toMatchObject({ codes: [], rows: [['7']] })
    client.end()
  })

  it.each(['standard_conforming_strings = off', "client_encoding = 'SJIS'", 'role = postgres'])(
    'C7: refuses a pipelined SET %s, and all behind it',
    async (setting) => {
      const { client } = await RawClient.login(world.wirePort, token)
      const smuggled = String.raw`select '\'' ; select v from secrets; --'`
      const heard = await client.say(
        parse(`set ${setting}`),
        bind(),
        execute(),
        parse(smuggled),
        bind(),
        execute(),
        SYNC,
      )
      expect(heard).toMatchObject({ codes: ['42501'], rows: [] })
      const simple = await client.say(query(`set ${setting}; ${smuggled}`))
      expect(simple).toMatchObject({ codes: ['42501'], rows: [] })
      client.end()
    },
  )

  it('C7: judges what is behind a pipelined SET search_path with the path that is set', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    const set = [parse('set search_path = x'), bind(), execute()]
    const heard = await client.say(...set, parse('select v from secrets'), bind(), execute(), SYNC)
    expect(heard).toMatchObject({ codes: ['42501'], rows: [] })
    const simple = await client.say(query('set search_path = x; select v from secrets'))
    expect(simple).toMatchObject({ codes: ['42501'], rows: [] })
    client.end()
  })

  it('cancels nothing for the right process and a wrong key, and at once for the right one', async () => {
    const { client, heard } = await RawClient.login(world.wirePort, token)
    const { processId, key } = decodeBackendKeyData(heard.bodies[heard.letters.indexOf('K')] ?? Buffer.alloc(0))
    const asleep = async (): Promise<number> => {
      const { rows } = await world.db.admin.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = $1 AND state = 'active' AND query LIKE '%sleep(145)%' AND pid <> pg_backend_pid()`,
        [world.db.name],
      )
      return rows[0]?.n ?? 0
    }
    const sleeping = client.say(query('select pg_sleep(145)'))
    await expect.poll(asleep).toBe(1)
    const guesses = Array.from({ length: 24 }, (_, bit) => {
      const guess = Buffer.from(key)
      guess[bit >> 3] = (guess[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      return guess
    })
    for (const guess of [...guesses, Buffer.alloc(32), Buffer.concat([key, Buffer.alloc(1)])]) {
      expect(await strange(encodeStartup({ type: 'cancel', processId, key: guess }))).toBe('')
    }
    expect(await asleep()).toBe(1)
    await strange(encodeStartup({ type: 'cancel', processId, key }))
    expect((await sleeping).codes).toEqual(['57014'])
    client.end()
  })
})

/** Sends bytes to the door before any login; resolves with what came back until it closed, or 300 bytes. */
async function strange(...pieces: Buffer[]): Promise<string> {
  const socket = connect(world.wirePort, '127.0.0.1')
  for (const piece of pieces) socket.write(piece)
  let text = ''
  socket.on('data', (data: Buffer) => (text += data.toString('latin1')))
  socket.on('error', () => undefined)
  await once(socket, 'close')
  return text
}

const startup = (parameters: Record<string, string>, minor = 0): Buffer =>
  encodeStartup({ type: 'startup', major: 3, minor, parameters: new Map(Object.entries(parameters)) })

describe('before the login', () => {
  it('refuses bytes stuffed behind an SSLRequest', async () => {
    const text = await strange(Buffer.concat([encodeStartup({ type: 'ssl' }), startup({ user: 'loop' })]))
    expect(text).toContain('08P01')
    expect(text.startsWith('S')).toBe(false)
  })

  it.each([
    ['a length of 1 GiB', Buffer.from([0x40, 0, 0, 0, 0, 3, 0, 0])],
    ['a length of 3', Buffer.from([0, 0, 0, 3])],
  ])('refuses %s at once', async (_, bytes) => {
    expect(await strange(bytes)).toContain('08P01')
  })

  it.each([
    ['replication', { replication: 'database' }, '0A000'],
    ['search_path', { search_path: 'x' }, '42501'],
    ['options that pin nothing', { options: '-c standard_conforming_strings=off' }, '42501'],
    ['options the server would take', { options: '-c session_preload_libraries=x' }, '42501'],
    ['another encoding', { client_encoding: 'SJIS' }, '0A000'],
  ])('refuses the start-up parameter %s', async (_, more, code) => {
    expect(await strange(startup({ user: 'loop', database: 'db', ...more }))).toContain(code)
  })

  it('refuses a query before the login', async () => {
    const text = await strange(
      Buffer.concat([startup({ user: 'loop' }), encodeQuery({ type: 'Query', sql: 'select 1' })]),
    )
    expect(text).toContain('08P01')
  })

  it('cancels nothing for a guessed key', async () => {
    const { say, socket } = await attacker()
    const running = say(encodeQuery({ type: 'Query', sql: 'select count(*) from orders' }))
    await strange(encodeStartup({ type: 'cancel', processId: 1, key: Buffer.alloc(4) }))
    expect((await running).codes).toEqual([])
    socket.destroy()
  })
})
