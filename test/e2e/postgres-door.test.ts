/**
 * What the PostgreSQL door promises beside the everyday: detectors, binary values, tokens as passwords, protocol 3.2,
 * bounds, policy that changes under a session, and clients that do not behave.
 */
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { Client, type ClientConfig } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encodeBind, type Bind } from '../../src/protocols/postgres/messages/bind.ts'
import { SYNC } from '../../src/protocols/postgres/messages/control.ts'
import { encodeDescribe } from '../../src/protocols/postgres/messages/describe.ts'
import { encodeExecute } from '../../src/protocols/postgres/messages/execute.ts'
import { encodeParse } from '../../src/protocols/postgres/messages/parse.ts'
import { encodeQuery } from '../../src/protocols/postgres/messages/query.ts'
import { decodeBackendKeyData } from '../../src/protocols/postgres/messages/session-facts.ts'
import { encodeStartup } from '../../src/protocols/postgres/messages/startup.ts'
import { RawClient } from './raw-postgres.ts'
import { openWorld, type World } from './world.ts'

const SCHEMA = `
  CREATE TABLE public.orders (id int PRIMARY KEY, item text);
  INSERT INTO public.orders SELECT n, 'item ' || n FROM generate_series(1, 100) n;
  CREATE TABLE public.contacts (id int, note text);
  INSERT INTO public.contacts VALUES (1, 'write to ada@lovelace.example soon'), (2, NULL), (3, 'nothing here');
  CREATE TABLE public.paged (id int); INSERT INTO public.paged SELECT generate_series(1, 20);
  CREATE TABLE public.people (id int, ssn text); INSERT INTO public.people VALUES (1, '111-11-1111'), (2, '222-22-2222');
  CREATE FUNCTION public.says() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    RAISE NOTICE 'mail bob@builder.example'; RETURN 1; END $$;
  CREATE FUNCTION public.blinds() RETURNS int LANGUAGE plpgsql AS $$ DECLARE own text; BEGIN
    FOREACH own IN ARRAY ARRAY['sallyport_snapshot', 'sallyport_fingerprint'] LOOP
      BEGIN EXECUTE 'DEALLOCATE ' || own; EXCEPTION WHEN OTHERS THEN NULL; END;
      EXECUTE 'PREPARE ' || own || '(text) AS SELECT 1 WHERE $1 IS NOT NULL';
    END LOOP; RETURN 1; END $$;
  CREATE FUNCTION public.fails() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'mail bob@builder.example' USING DETAIL = 'eve@dropper.example'; END $$;
`
const GRANTS = `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $role; GRANT CREATE ON SCHEMA public TO $role`
const RULES = `
targets: [db]
rules:
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: [public.orders, public.contacts, "public.made*"]}
  - {id: people, effect: allow, principals: [group:agents], actions: [sql.select], resources: [public.people]}
  - {id: paged, effect: allow, principals: [group:agents], actions: [sql.select], resources: [public.paged], limits: {rows: 10}}
  - {id: session, effect: allow, principals: [group:agents], actions: [sql.begin, sql.commit, sql.rollback, sql.copy, sql.cursor, sql.prepare, sql.notify], resources: ["-", "**"]}
  - {id: code, effect: allow, principals: [group:agents], actions: [sql.call], resources: ["**"]}
  - {id: make, effect: allow, principals: [group:agents], actions: [sql.create, sql.alter, sql.drop], resources: ["**"]}
  - {id: ask, effect: require_approval, principals: [group:agents], actions: [sql.delete], resources: [public.orders], approvers: {any_of: [group:dba], expires: 5m}}
`
const DETECT = 'masks:\n  - {detect: [email], transform: redact}\n'
const MASK = 'masks:\n  - {columns: [public.people.ssn], transform: redact}\n'
const MAIL = /lovelace|builder|dropper/u

let world: World
let token = ''
let dba = ''

beforeAll(async () => {
  world = await openWorld({
    schema: SCHEMA,
    grants: GRANTS,
    policy: RULES,
    postgres: '{address: "127.0.0.1:0", auth: password, connections: 60}',
  })
  const agent = { kind: 'agent', owner: 'maria', groups: ['agents'], roles: ['caller'] }
  token = await world.token({ principal: 'loop', ...agent })
  dba = await world.token({ principal: 'dora', kind: 'person', owner: 'dora', groups: ['dba'], roles: ['approver'] })
})
afterAll(async () => world?.close())

/** Swaps the policy and waits until the gateway has it. */
async function policy(more: string, rules = RULES): Promise<void> {
  const file = path.join(world.dir, 'policies', 'policy.yaml')
  if ((await readFile(file, 'utf8')) === rules + more) return
  const before = await version()
  await writeFile(file, rules + more)
  await world.operator.post('/v1/policy/reload', {})
  while ((await version()) === before) await new Promise((resolve) => setImmediate(resolve))
}

async function version(): Promise<string> {
  return JSON.stringify(await world.operator.get('/v1/policy'))
}

const config = (): ClientConfig => ({
  host: '127.0.0.1',
  port: world.wirePort,
  user: 'loop',
  database: 'db',
  password: token,
})

async function withClient<T>(use: (client: Client) => Promise<T>, more: ClientConfig = {}): Promise<T> {
  const client = new Client({ ...config(), ...more })
  client.on('error', () => undefined)
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end().catch(() => undefined)
  }
}

const parse = (sql: string, name = ''): Buffer => encodeParse({ name, sql, paramTypes: [] })
const bind = (more: Partial<Bind> = {}): Buffer =>
  encodeBind({
    portal: '',
    statement: '',
    paramFormats: [],
    params: [],
    resultFormats: [],
    ...more,
    type: 'Bind',
  } as Bind)
const execute = (rowsMax = 0, portal = ''): Buffer => encodeExecute({ portal, rowsMax })
const query = (sql: string): Buffer => encodeQuery({ type: 'Query', sql })
const describePortal = encodeDescribe({ type: 'Describe', what: 'portal', name: '' })

describe('detectors', () => {
  beforeAll(() => policy(DETECT))
  afterAll(() => policy(''))

  it.each([
    ['simple', (client: Client) => client.query('select * from contacts order by id')],
    ['extended', (client: Client) => client.query('select * from contacts where id > $1 order by id', [0])],
    ['aggregated', (client: Client) => client.query('select json_agg(c) from contacts c where id > $1', [0])],
  ])('C10: look into the rows of a %s query', async (_, ask) => {
    const { rows } = await withClient(ask)
    const text = JSON.stringify(rows)
    expect(text).not.toMatch(MAIL)
    expect(text).toContain('soon')
  })

  it('C10: keep a result as it is in all else', async () => {
    const { rows, fields } = await withClient((client) => client.query('select id, note from contacts order by id'))
    expect(rows.map(({ id }: { id: number }) => id)).toEqual([1, 2, 3])
    expect(rows[1]).toEqual({ id: 2, note: null })
    expect(fields.map(({ dataTypeID }) => dataTypeID)).toEqual([23, 25])
  })

  it('C10: look into COPY, cursors and pages', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    const copied = await client.say(query('copy contacts to stdout'))
    expect(copied.letters).toMatch(/^Hd+cCZ$/u)
    const text = Buffer.concat(copied.bodies).toString('latin1')
    expect(text).not.toMatch(MAIL)
    expect(text).toContain('nothing here')
    await client.say(query('begin'))
    await client.say(query('declare c cursor for select note from contacts'))
    const fetched = await client.say(query('fetch all from c'))
    expect(fetched.rows).toHaveLength(3)
    expect(JSON.stringify(fetched.rows)).not.toMatch(MAIL)
    await client.say(query('rollback'))
    const paged = await client.say(
      parse('select note from contacts order by id'),
      bind(),
      execute(1),
      execute(1),
      execute(),
      SYNC,
    )
    expect(paged.letters).toBe('12DsDsDCZ')
    expect(JSON.stringify(paged.rows)).not.toMatch(MAIL)
    client.end()
  })

  it('C10: look into notices and errors', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    const said = await client.say(query('select says()'))
    const failed = await client.say(query('select fails()'))
    const heard = Buffer.concat([...said.bodies, ...failed.bodies]).toString('latin1')
    expect(said.letters).toContain('N')
    expect(failed.codes).toEqual(['P0001'])
    expect(heard).not.toMatch(MAIL)
    client.end()
  })

  it('C10: refuse a binary result, which they cannot read', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    const heard = await client.say(parse('select note from contacts'), bind({ resultFormats: [1] }), execute(), SYNC)
    expect(heard.codes).toEqual(['42501'])
    const copied = await client.say(query('copy contacts to stdout (format binary)'))
    expect(Buffer.concat(copied.bodies).toString('latin1')).not.toMatch(MAIL)
    client.end()
  })

  it('C10: look into notifications', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(query('listen news'))
    const heard = await client.say(query(`notify news, 'ada@lovelace.example'`))
    expect(Buffer.concat(heard.bodies).toString('latin1')).not.toMatch(MAIL)
    client.end()
  })
})

describe('masks', () => {
  it('C9: hold in binary results', async () => {
    await policy(MASK)
    const { client } = await RawClient.login(world.wirePort, token)
    const heard = await client.say(
      parse('select id, ssn from people order by id'),
      bind({ resultFormats: [1] }),
      describePortal,
      execute(),
      SYNC,
    )
    expect(heard.letters).toBe('12TDDCZ')
    expect(Buffer.concat(heard.bodies).toString('latin1')).not.toMatch(/\d{3}-\d{2}/u)
    client.end()
  })

  it('C9: a masked column that is renamed under a prepared statement stays unseen under either name', async () => {
    await policy(MASK)
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(parse('select ssn from people', 'kept'), SYNC)
    await world.db.admin.query('ALTER TABLE public.people RENAME ssn TO note')
    try {
      for (const heard of [
        await client.say(bind({ statement: 'kept' }), execute(), SYNC),
        await client.say(query('select note from people')),
        await client.say(query('select * from people')),
      ]) {
        expect(heard.codes).toHaveLength(1)
        expect(heard.rows).toEqual([])
      }
    } finally {
      await world.db.admin.query('ALTER TABLE public.people RENAME note TO ssn')
    }
    client.end()
  })

  it('C10: withhold what a notification says', async () => {
    await policy(MASK)
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(query('listen news'))
    const heard = await client.say(query(`notify news, '111-11-1111'`))
    expect(Buffer.concat(heard.bodies).toString('latin1')).not.toContain('111-11')
    client.end()
  })

  it('C10: withhold what the server says beside a result', async () => {
    await policy(MASK)
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(query('begin'))
    const heard = await client.say(query('begin'))
    expect(heard.letters).toBe('NCZ')
    expect(String(heard.bodies[0])).toContain('withheld')
    client.end()
  })

  it('C8: come over a statement that was prepared before them, and go again', async () => {
    await policy('')
    const { client } = await RawClient.login(world.wirePort, token)
    const again = async () => client.say(bind({ statement: 'kept' }), execute(), SYNC)
    await client.say(parse('select ssn from people order by id', 'kept'), SYNC)
    expect((await again()).rows).toEqual([['111-11-1111'], ['222-22-2222']])
    await policy(MASK)
    expect((await again()).rows).toEqual([['[masked]'], ['[masked]']])
    await policy('')
    expect((await again()).rows).toEqual([['111-11-1111'], ['222-22-2222']])
    client.end()
  })

  it('C8: come over a PREPARE and a cursor that were made before them', async () => {
    await policy('')
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(query('prepare kept as select ssn from people'))
    await client.say(query('begin'))
    await client.say(query('declare c cursor for select ssn from people'))
    await policy(MASK)
    const fetched = await client.say(query('fetch all from c'))
    await client.say(query('rollback'))
    const executed = await client.say(query('execute kept'))
    expect(JSON.stringify([fetched.rows, executed.rows])).not.toMatch(/\d{3}-\d{2}/u)
    await policy('')
    client.end()
  })
})

describe('policy', () => {
  it('C2: decides again at Bind', async () => {
    await policy('')
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(parse('select count(*) from people', 'kept'), SYNC)
    const again = async () => client.say(bind({ statement: 'kept' }), execute(), SYNC)
    // From here on there are decisions about the very same plan to be remembered, of either policy.
    expect((await again()).rows).toEqual([['2']])
    await policy('', RULES.replace('resources: [public.people]', 'resources: [public.nothing]'))
    const heard = await again()
    expect(heard).toMatchObject({ codes: ['42501'], rows: [] })
    expect(heard.messages.join()).toContain('public.people')
    await policy('')
    expect((await again()).rows).toEqual([['2']])
    client.end()
  })

  it('C11: an approval is for the values it was asked with', async () => {
    await policy('')
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(parse('delete from orders where id = $1', 'gone'), SYNC)
    client.socket.write(Buffer.concat([bind({ statement: 'gone', params: [Buffer.from('1')] }), execute(), SYNC]))
    expect((await client.hear((letter) => letter === 'N')).letters).toBe('N')
    const ticket = await held()
    const { digest } = await world.admin(dba).get<{ digest: string }>(`/v1/approvals/${ticket}`)
    await world.admin(dba).post(`/v1/approvals/${ticket}/vote`, { digest, decision: 'approve' })
    expect((await client.hear((letter) => letter === 'Z')).codes).toEqual([])
    client.socket.write(Buffer.concat([bind({ statement: 'gone', params: [Buffer.from('2')] }), execute(), SYNC]))
    expect((await client.hear((letter) => letter === 'N')).letters).toBe('N')
    client.end()
    const { rows } = await world.db.admin.query('select id from orders where id < 3')
    expect(rows).toEqual([{ id: 2 }])
  })

  it('withdraws the ticket of a statement its client cancels', async () => {
    await policy('')
    const { client, heard } = await RawClient.login(world.wirePort, token)
    const { processId, key } = keyOf(heard)
    client.socket.write(query('delete from orders where id = 50'))
    await client.hear((letter) => letter === 'N')
    const ticket = await held()
    new RawClient(world.wirePort).socket.end(encodeStartup({ type: 'cancel', processId, key }))
    expect((await client.hear((letter) => letter === 'Z')).codes).toEqual(['57014'])
    const { approvals } = await world.admin(dba).get<{ approvals: { id: string }[] }>('/v1/approvals')
    expect(approvals.map(({ id }) => id)).not.toContain(ticket)
    client.end()
  })
})

describe('a policy that lets everything through', () => {
  const OPEN = `
targets: [db]
rules:
  - {id: all, effect: allow, principals: [group:agents], actions: ["sql.*", sql.unknown], resources: ["**"]}
`

  /** What a session hears that did anything while nobody looked. */
  const ENDED = { codes: ['57P01'], rows: [] }

  it('C4: passes on what is not understood', async () => {
    await policy('', OPEN)
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(query('create temp table orders (id int)'))
    expect((await client.say(query('select count(*) from orders'))).rows).toEqual([['0']])
    expect((await client.say(query('select 1; select 2'))).letters).toBe('TDCTDCZ')
    await client.say(parse('select count(*) from orders', 'kept'), SYNC)
    expect((await client.say(bind({ statement: 'kept' }), execute(), SYNC)).rows).toEqual([['0']])
    client.end()
  })

  it.each([
    [
      'a temporary view under the name of a table',
      'create temp view orders as select ssn from people',
      'select * from orders',
    ],
    ['a statement prepared anew', 'deallocate all; prepare known as select ssn from people', 'execute known'],
    [
      'a setting of how text is read',
      'set standard_conforming_strings = off',
      String.raw`select '\'' ; select ssn from people; --'`,
    ],
    ['a setting nothing is asked about', 'set session_replication_role = origin', 'select id from orders'],
    ['nothing at all', 'select 1', 'select id from orders'],
  ])('C7: ends a session once statements are judged again: %s', async (_, unwatched, after) => {
    await policy('')
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(query('prepare known as select id from orders'))
    await policy('', OPEN)
    await client.say(query(unwatched))
    await policy(MASK)
    expect(await client.say(query(after))).toMatchObject(ENDED)
    client.end()
  })

  it('C7: ends one that was let in by it, and has done nothing yet', async () => {
    await policy('', OPEN)
    const { client } = await RawClient.login(world.wirePort, token)
    await policy('')
    expect(await client.say(query('select id from orders'))).toMatchObject(ENDED)
    client.end()
  })

  it('C7: ends one that would run what it parsed or bound before', async () => {
    for (const messages of [
      [bind({ statement: 'kept' }), execute(), SYNC],
      [execute(1, 'page'), SYNC],
    ]) {
      await policy('', OPEN)
      const { client } = await RawClient.login(world.wirePort, token)
      await client.say(query('begin'))
      await client.say(
        parse('select ssn from people', 'kept'),
        bind({ statement: 'kept', portal: 'page' }),
        execute(1, 'page'),
        SYNC,
      )
      await policy(MASK)
      const heard = await client.say(...messages)
      expect(heard.rows).toEqual([])
      expect(['57P01', '42501']).toContain(heard.codes[0])
      client.end()
    }
  })

  it('C2: holds from the moment it is another policy, in the middle of a transaction, too', async () => {
    await policy('', OPEN)
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(query('begin'))
    await client.say(query(`update orders set item = 'changed' where id = 1`))
    await policy('')
    expect(await client.say(query('commit'))).toMatchObject(ENDED)
    await withClient(async (other) => {
      expect((await other.query('select item from orders where id = 1')).rows).not.toEqual([{ item: 'changed' }])
    })
    client.end()
  })
})

describe('what runs only outside a transaction, on a target with masks', () => {
  const MAINTAIN = `${RULES}  - {id: maintain, effect: allow, principals: [group:agents], actions: [sql.maintain], resources: ["**"]}\n`

  it('R2: VACUUM of a table without masks runs, in every form that a message can have', async () => {
    await policy(MASK, MAINTAIN)
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(query('create table public.made_loose (a int)'))
    expect(await client.say(query('vacuum (analyze) made_loose'))).toMatchObject({ letters: 'CZ', codes: [] })
    const extended = await client.say(parse('vacuum made_loose'), bind(), execute(), SYNC)
    expect(extended.rows).toEqual([])
    expect((await client.say(query('vacuum people'))).codes).toEqual(['42501'])
    expect((await client.say(query('create index concurrently on made_loose (a)'))).codes).toEqual(['42501'])
    expect((await client.say(query('begin'))).codes).toEqual([])
    expect((await client.say(query('vacuum made_loose'))).codes).toEqual(['25001'])
    await client.say(query('rollback'))
    expect((await client.say(query('drop table made_loose'))).codes).toEqual([])
    client.end()
    await policy('')
  })

  it('REINDEX of a partitioned table runs where nothing is masked, as one of a table does', async () => {
    await policy('', MAINTAIN)
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(query('create table public.made_parts (a int primary key) partition by range (a)'))
    await client.say(query('create table public.made_part partition of public.made_parts default'))
    for (const table of ['made_part', 'made_parts']) {
      expect(await client.say(query(`reindex table ${table}`))).toMatchObject({ letters: 'CZ', codes: [] })
    }
    expect((await client.say(query('drop table made_parts'))).codes).toEqual([])
    client.end()
    await policy('')
  })
})

describe('limits', () => {
  it('C5: rows count over all FETCHes of a cursor statement by statement, and over all pages of a portal', async () => {
    await policy('')
    const { client } = await RawClient.login(world.wirePort, token)
    const paged = await client.say(parse('select id from paged'), bind(), execute(6), execute(6), execute(6), SYNC)
    expect(paged.rows.length).toBeLessThanOrEqual(10)
    expect(paged.codes).toEqual(['54000'])
    const whole = await client.say(query('select id from paged'))
    expect(whole.codes).toEqual(['54000'])
    await client.say(query('begin'))
    await client.say(query('declare c cursor for select id from paged'))
    const fetched = await client.say(query('fetch 11 from c'))
    expect(fetched.codes).toEqual(['54000'])
    client.end()
  })
})

describe('the catalog', () => {
  it('C7: the statement after a change of the schema is planned with it', async () => {
    await policy('')
    await withClient(async (client) => {
      for (let round = 0; round < 5; round++) {
        await client.query('create table public.made (a int)')
        expect((await client.query('select a from made')).rows).toEqual([])
        await client.query('alter table public.made rename a to b')
        expect((await client.query('select b from made where b > $1', [0])).rows).toEqual([])
        await client.query('drop table public.made')
      }
    })
  })

  it('C7: the statement after a transaction that changed the schema is planned with it', async () => {
    await withClient(async (client) => {
      await client.query('begin')
      await client.query('create table public.made_in (a int)')
      await client.query('commit')
      expect((await client.query('select a from made_in')).rows).toEqual([])
      await client.query('drop table public.made_in')
    })
  })

  it('tells where in the text of its client an error is', async () => {
    await policy('')
    await withClient(async (client) => {
      const sql = `select 'é' as e, id from orders where id = 'no number'`
      const position = await client.query(sql).catch((error: { position?: string }) => error.position)
      expect(position).toBe(String(sql.indexOf("'no number'") + 1))
    })
  })
})

describe('the protocol', () => {
  it('3.2 gets long cancel keys, and they cancel', async () => {
    const { client, heard } = await RawClient.login(world.wirePort, token, { minor: 2 })
    expect(heard.letters).not.toContain('v')
    const { processId, key } = keyOf(heard)
    expect(key).toHaveLength(32)
    const asleep = client.say(query('select pg_sleep(20)'))
    const canceller = new RawClient(world.wirePort)
    const again = setInterval(
      () => new RawClient(world.wirePort).socket.end(encodeStartup({ type: 'cancel', processId, key })),
      50,
    )
    expect((await asleep).codes).toEqual(['57014'])
    clearInterval(again)
    canceller.end()
    client.end()
  })

  it('a newer minor version and unknown options are negotiated down', async () => {
    const { client, heard } = await RawClient.login(world.wirePort, token, {
      minor: 9,
      parameters: { '_pq_.nobody': '1' },
    })
    expect(heard.letters).toContain('v')
    const body = heard.bodies[heard.letters.indexOf('v')] ?? Buffer.alloc(0)
    expect(body.readInt32BE(0)).toBe(3 * 65_536 + 2)
    expect(body.toString('latin1')).toContain('_pq_.nobody')
    client.end()
  })

  it('binary parameters and results are PostgreSQL’s own', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    const seven = Buffer.from([0, 0, 0, 7])
    const heard = await client.say(
      encodeParse({ name: '', sql: 'select id from orders where id = $1', paramTypes: [23] }),
      bind({ paramFormats: [1], params: [seven], resultFormats: [1] }),
      execute(),
      SYNC,
    )
    const row = heard.bodies[heard.letters.indexOf('D')] ?? Buffer.alloc(0)
    expect(row.subarray(-4)).toEqual(seven)
    client.end()
  })

  it('C7: a session goes on after code of a user has run beside a table', async () => {
    await policy('')
    const { client } = await RawClient.login(world.wirePort, token)
    for (let round = 0; round < 3; round++) {
      const heard = await client.say(query('select id, says() from orders where id = 100'))
      expect(heard.rows).toEqual([['100', '1']])
    }
    client.end()
  })

  it('what came before an error is told: rows, notices, the statements before', async () => {
    await policy('')
    const { client } = await RawClient.login(world.wirePort, token)
    const heard = await client.say(query('select 1 / (3 - n) from generate_series(1, 5) n'))
    expect(heard).toMatchObject({ letters: 'TDDEZ', codes: ['22012'], rows: [['0'], ['1']] })
    const paged = await client.say(parse('select 1 / (3 - n) from generate_series(1, 5) n'), bind(), execute(), SYNC)
    expect(paged).toMatchObject({ letters: '12DDEZ', codes: ['22012'] })
    client.end()
  })

  it('a Parse that succeeded is answered though its Bind fails; one that failed leaves no statement behind', async () => {
    await policy('')
    const { client } = await RawClient.login(world.wirePort, token)
    const wrong = await client.say(
      parse('select id from orders where id = $1', 'kept'),
      bind({ statement: 'kept', params: [Buffer.from('x')] }),
      execute(),
      SYNC,
    )
    expect(wrong).toMatchObject({ letters: '1EZ', codes: ['22P02'] })
    const right = await client.say(bind({ statement: 'kept', params: [Buffer.from('3')] }), execute(), SYNC)
    expect(right.rows).toEqual([['3']])
    const failed = await client.say(
      parse('select id from orders where id = $1 + true', 'bad'),
      bind({ statement: 'bad', params: [Buffer.from('1')] }),
      execute(),
      SYNC,
    )
    expect(failed.letters).toBe('EZ')
    expect((await client.say(parse('select 1', 'bad'), bind({ statement: 'bad' }), execute(), SYNC)).letters).toBe(
      '12DCZ',
    )
    client.end()
  })

  it('a wrong token as password tells nothing', async () => {
    const { heard } = await RawClient.login(world.wirePort, `${token.slice(0, -1)}x`)
    expect(heard.codes).toEqual(['28P01'])
    const other = await RawClient.login(world.wirePort, token, { parameters: { user: 'somebody' } })
    expect(other.heard.codes).toEqual(['28P01'])
  })
})

describe('strangers', () => {
  it('a flood of connections that say nothing keeps nobody who logged in from working', async () => {
    const inside = await RawClient.login(world.wirePort, token)
    const flood = Array.from({ length: 80 }, () => new RawClient(world.wirePort))
    // Those for whom there was room hear something else, once they were silent for long.
    const refused = flood.map(async (one) => {
      const { codes } = await one.hear(() => true)
      if (codes.join() !== '53300') throw new Error(codes.join())
    })
    await Promise.any(refused)
    expect((await inside.client.say(query('select 1'))).rows).toEqual([['1']])
    for (const one of flood) one.end()
    await Promise.all(flood.map((one) => one.closed()))
    inside.client.end()
  })
})

/** Logs in and says something, as soon as the door lets it in and hears it in time. */
async function admitted(...messages: readonly Buffer[]): Promise<RawClient> {
  for (;;) {
    const { client, heard } = await RawClient.login(world.wirePort, token)
    const last = heard.letters.endsWith('Z') && messages.length > 0 ? await client.say(...messages) : heard
    if (last.letters.endsWith('Z')) return client
    client.end()
  }
}

function keyOf({ letters, bodies }: { letters: string; bodies: readonly Buffer[] }) {
  return decodeBackendKeyData(bodies[letters.indexOf('K')] ?? Buffer.alloc(0))
}

/** The ticket that waits; of several the newest. */
async function held(): Promise<string> {
  for (;;) {
    const { approvals } = await world.admin(dba).get<{ approvals: { id: string }[] }>('/v1/approvals')
    const last = approvals.at(-1)
    if (last !== undefined) return last.id
  }
}

// The last, because a target whose masks fit no column any more stays closed until the gateway is started again.
describe('code of a user', () => {
  it('C7: that takes the names of our own statements blinds no guard', async () => {
    await policy('')
    const client = await admitted()
    // The guard is there, and is replaced by one that finds nothing wrong.
    await client.say(query('select id from orders where id = 100'))
    expect((await client.say(query('select blinds()'))).rows).toEqual([['1']])
    await policy(MASK)
    expect((await client.say(query("select id || '' from people order by 1"))).rows).toEqual([['1'], ['2']])
    await world.db.admin.query('ALTER TABLE public.people RENAME COLUMN id TO was_id')
    await world.db.admin.query('ALTER TABLE public.people RENAME COLUMN ssn TO id')
    const heard = await client.say(query("select id || '' from people order by 1"))
    expect(JSON.stringify(heard.rows)).not.toMatch(/\d{3}-\d{2}-\d{4}/u)
    expect(heard.codes).toHaveLength(1)
    client.end()
  })
})

/** What a busy machine keeps from going on looks the same, so nobody else is at this door. */
describe('clients that do nothing', () => {
  beforeAll(async () => {
    await policy('')
    await world.stop()
    const file = path.join(world.dir, 'sallyport.yaml')
    const config = await readFile(file, 'utf8')
    await writeFile(file, config.replace('connections: 60', 'connections: 60, idle: 3s, idle_in_transaction: 1s'))
    await world.start()
  })

  it('an idle client is sent away, sooner inside a transaction', async () => {
    const client = await admitted(query('begin'))
    const heard = await client.hear(() => false)
    expect(heard.codes).toEqual(['25P03'])
    const idle = await RawClient.login(world.wirePort, token)
    expect((await idle.client.hear(() => false)).codes).toEqual(['57P05'])
  })

  it('a client that never ends its message is sent away like one that is idle', async () => {
    const client = await admitted()
    const bytes = query(`select ${'1 + '.repeat(100_000)} 1`)
    let sent = 0
    const drip = setInterval(() => client.socket.write(bytes.subarray(sent, ++sent)), 20)
    const heard = await client.hear(() => false)
    clearInterval(drip)
    expect(heard.codes).toEqual(['57P05'])
  })
})
