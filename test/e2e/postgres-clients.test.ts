/** Clients as they are, through the PostgreSQL door: psql's own commands, pgbench in its three protocols, drivers. */
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import postgres, { type Sql } from 'postgres'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encodeStartup } from '../../src/protocols/postgres/messages/startup.ts'
import { has } from '../setup/needs.ts'
import { RawClient } from './raw-postgres.ts'
import { openWorld, type World } from './world.ts'

const SCHEMA = `
  CREATE TABLE public.orders (id int PRIMARY KEY, item text);
  INSERT INTO public.orders SELECT n, 'item ' || n FROM generate_series(1, 2500) n;
  CREATE TABLE public.people (id int PRIMARY KEY, name text, ssn text);
  INSERT INTO public.people VALUES (1, 'Ada', '111-11-1111'), (2, 'Bob', '222-22-2222');
  CREATE VIEW public.seen AS SELECT id FROM public.orders;
  CREATE TABLE public.pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
  INSERT INTO public.pgbench_accounts SELECT n, 1, 0, '' FROM generate_series(1, 100000) n;
  CREATE TABLE public.pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
  INSERT INTO public.pgbench_branches VALUES (1, 0, '');
`
const GRANTS = 'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $role'
const POLICY = `
targets: [db]
rules:
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["public.*"]}
  - {id: write, effect: allow, principals: [group:agents], actions: [sql.insert, sql.update], resources: [public.orders]}
  - {id: session, effect: allow, principals: [group:agents], resources: ["-", "**"],
     actions: [sql.begin, sql.commit, sql.rollback, sql.savepoint, sql.copy, sql.cursor, sql.prepare, sql.notify]}
  - {id: sleep, effect: allow, principals: [group:agents], actions: [sql.call], resources: ["pg_catalog.pg_sleep(*)"]}
masks:
  - {columns: [public.people.ssn], transform: redact}
`
const SSN = /\d{3}-\d{2}-\d{4}/u

let world: World
let token = ''
let dir = ''

beforeAll(async () => {
  world = await openWorld({ schema: SCHEMA, grants: GRANTS, policy: POLICY })
  token = await world.token({ principal: 'loop', kind: 'agent', owner: 'maria', groups: ['agents'], roles: ['caller'] })
  dir = await mkdtemp(path.join(tmpdir(), 'sallyport-clients-'))
})
afterAll(async () => {
  await world?.close()
  await rm(dir, { recursive: true, force: true })
})

interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

function client(
  command: string,
  args: readonly string[],
  input = '',
  onOutput?: (out: string, kill: () => void) => void,
) {
  const child = spawn(command, args, {
    cwd: dir,
    env: {
      PATH: process.env['PATH'],
      PGHOST: '127.0.0.1',
      PGPORT: String(world.wirePort),
      PGUSER: 'loop',
      PGDATABASE: 'db',
      PGPASSWORD: token,
      PGCLIENTENCODING: 'UTF8',
      LC_ALL: 'C',
      HOME: '/nonexistent',
    },
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (data: Buffer) => {
    out += data.toString()
    onOutput?.(out, () => child.kill('SIGINT'))
  })
  child.stderr.on('data', (data: Buffer) => (err += data.toString()))
  child.stdin.end(input)
  return new Promise<Ran>((resolve) => child.on('close', (code) => resolve({ code, out, err })))
}

describe.runIf(has('psql'))('psql', () => {
  const psql = (input: string, onOutput?: (out: string, kill: () => void) => void): Promise<Ran> =>
    client('psql', ['-X', '-A', '-t'], input, onOutput)

  it('copies out masked and copies in with \\copy', async () => {
    const { err, out } = await psql(
      '\\copy people to people.txt\n\\copy (select id, item from orders where id < 3 order by id) to orders.csv csv\n' +
        '\\copy orders from stdin\n9001\tnine\n\\.\nselect item from orders where id = 9001;\n',
    )
    expect({ err, out }).toEqual({ err: '', out: 'COPY 2\nCOPY 2\nCOPY 1\nnine\n' })
    expect(await readFile(path.join(dir, 'people.txt'), 'utf8')).toBe('1\tAda\t[masked]\n2\tBob\t[masked]\n')
    expect(await readFile(path.join(dir, 'orders.csv'), 'utf8')).toBe('1,item 1\n2,item 2\n')
    await writeFile(path.join(dir, 'more.csv'), '9002,two\n9003,three\n')
    const more = await psql('\\copy orders from more.csv csv\n')
    expect(more).toEqual({ code: 0, err: '', out: 'COPY 2\n' })
  })

  it.each(['\\d', '\\dt', '\\d people', '\\dn', '\\df', '\\dv', '\\di', '\\du', '\\conninfo', '\\encoding'])(
    'answers %s without an error',
    async (command) => {
      const { err, out, code } = await psql(`${command}\n`)
      expect({ err, code }).toEqual({ err: '', code: 0 })
      expect(out).not.toMatch(SSN)
    },
  )

  it('describes a statement with \\gdesc, and keeps values with \\gset', async () => {
    const { err, out } = await psql(
      "select id, ssn from people \\gdesc\nselect max(id) as top from people \\gset\nselect :top, :'top';\n",
    )
    expect({ err, out }).toEqual({ err: '', out: 'id|integer\nssn|text\n2|2\n' })
  })

  it('repeats a statement with \\watch until it is interrupted', async () => {
    let isKilled = false
    const { out } = await psql('select id, ssn from people where id = 1 \\watch 0.05\n', (seen, kill) => {
      if (isKilled || seen.split('[masked]').length < 4) return
      isKilled = true
      kill()
    })
    expect(out.split('1|[masked]').length).toBeGreaterThan(3)
    expect(out).not.toMatch(SSN)
  })

  it('cancels a statement with Ctrl-C', async () => {
    const asleep = async (): Promise<number> => {
      const { rows } = await world.db.admin.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = $1 AND state = 'active' AND query LIKE '%sleep(160)%' AND pid <> pg_backend_pid()`,
        [world.db.name],
      )
      return rows[0]?.n ?? 0
    }
    let interrupt: (() => void) | undefined
    const ran = psql('\\echo here\nselect 1;\nselect pg_sleep(160);\n', (_, kill) => (interrupt = kill))
    await expect.poll(asleep).toBe(1)
    interrupt?.()
    expect((await ran).err).toContain('canceling statement due to user request')
    await expect.poll(asleep).toBe(0)
  })
})

/**
 * Asks as psql's `\bind` does: the same function of the same library, with the same absent types, lengths and formats. psql has
 * the command since version 16, and the oldest PostgreSQL that is served comes with 15.
 */
const BOUND = `
import ctypes, json, sys
pq = ctypes.CDLL('libpq.so.5')
pq.PQconnectdb.restype = pq.PQexecParams.restype = ctypes.c_void_p
pq.PQgetvalue.restype = pq.PQresultErrorField.restype = ctypes.c_char_p
P, I = ctypes.c_void_p, ctypes.c_int
pq.PQexecParams.argtypes = [P, ctypes.c_char_p, I, P, ctypes.POINTER(ctypes.c_char_p), P, P, I]
for f in (pq.PQntuples, pq.PQnfields, pq.PQclear, pq.PQfinish): f.argtypes = [P]
pq.PQgetvalue.argtypes = [P, I, I]
pq.PQresultErrorField.argtypes = [P, I]
db = pq.PQconnectdb(b'')
told = []
for sql, values in json.loads(sys.argv[1]):
    bound = (ctypes.c_char_p * len(values))(*[value.encode() for value in values])
    got = pq.PQexecParams(db, sql.encode(), len(values), None, bound, None, None, 0)
    code = pq.PQresultErrorField(got, ord('C'))
    rows = [[pq.PQgetvalue(got, r, c).decode() for c in range(pq.PQnfields(got))] for r in range(pq.PQntuples(got))]
    told.append(rows if code is None else code.decode())
    pq.PQclear(got)
pq.PQfinish(db)
print(json.dumps(told))
`

describe.runIf(has('psycopg2'))('values bound as psql binds them with \\bind', () => {
  const asked: [sql: string, values: readonly string[]][] = [
    ['select id, ssn from people where id = $1', ['2']],
    ['select item from orders where item = $1 and id = $2', ["item 7' or '1' = '1", '7']],
    ['select item from orders where item = $1 and id = $2', ['item 7', '7']],
    ['delete from people where id = $1', ['1']],
    ['insert into orders values ($1, $2)', ['9501', 'bound']],
    ['select item from orders where id = $1', ['9501']],
  ]
  const rows = [[['2', '[masked]']], [], [['item 7']], '42501', [], [['bound']]]

  it('are asked for in the extended protocol by libpq', async () => {
    const { out, err } = await client('/usr/bin/python3', ['-c', BOUND, JSON.stringify(asked)])
    expect(err).toBe('')
    expect(JSON.parse(out)).toEqual(rows)
  })
})

describe.runIf(has('pgbench'))('pgbench', () => {
  it.each(['simple', 'extended', 'prepared'])('runs its select-only script in the %s protocol', async (protocol) => {
    const args = ['-n', '-S', '-s', '1', '-M', protocol, '-c', '2', '-t', '50', '--random-seed=7']
    const { code, err, out } = await client('pgbench', args)
    expect({ code, err: err.includes('ERROR') }).toEqual({ code: 0, err: false })
    expect(out).toContain('number of transactions actually processed: 100/100')
  })

  it('runs a pipeline of its own', async () => {
    await writeFile(
      path.join(dir, 'pipe.sql'),
      '\\startpipeline\nselect id from orders where id = 1;\nselect ssn from people where id = 2;\n\\endpipeline\n',
    )
    const { code, out } = await client('pgbench', ['-n', '-M', 'extended', '-f', 'pipe.sql', '-t', '20'])
    expect(code).toBe(0)
    expect(out).toContain('number of transactions actually processed: 20/20')
  })
})

const PSYCOPG2 = `
import io, json, psycopg2
told = {}
with psycopg2.connect('') as db:
    with db.cursor() as c:
        c.execute('select name, ssn from people where id = %s', (1,))
        told['plain'] = c.fetchall()
        c.executemany('insert into orders values (%s, %s)', [(8001, 'a'), (8002, 'b')])
        told['many'] = c.rowcount
    with db.cursor(name='page') as c:
        c.itersize = 700
        c.execute('select id from orders where id <= 2500 order by id')
        told['paged'] = sum(1 for _ in c)
    with db.cursor(name='masked', scrollable=True) as c:
        c.execute('select ssn from people order by id')
        c.fetchone(); c.scroll(-1)
        told['named'] = c.fetchall()
    with db.cursor() as c:
        out = io.StringIO()
        c.copy_expert('copy people to stdout', out)
        told['out'] = out.getvalue()
        c.copy_expert('copy orders from stdin', io.StringIO('8003\\tc\\n'))
        told['in'] = c.rowcount
db.commit()
try:
    with db.cursor() as c:
        c.execute('delete from people')
except psycopg2.Error as e:
    told['refused'] = e.pgcode
    db.rollback()
with db.cursor() as c:
    c.execute('savepoint s'); c.execute('select 1'); c.execute('rollback to s')
    c.execute('select count(*) from orders where id between 8001 and 8003')
    told['kept'] = c.fetchone()[0]
db.close()
print(json.dumps(told))
`

describe.runIf(has('psycopg2'))('psycopg2', () => {
  it('reads, writes, pages through cursors at the server, copies, and is refused in its own words', async () => {
    const { out, err } = await client('/usr/bin/python3', ['-c', PSYCOPG2])
    expect(err).toBe('')
    expect(JSON.parse(out)).toEqual({
      plain: [['Ada', '[masked]']],
      many: 2,
      paged: 2500,
      named: [['[masked]'], ['[masked]']],
      out: '1\tAda\t[masked]\n2\tBob\t[masked]\n',
      in: 1,
      refused: '42501',
      kept: 3,
    })
  })
})

describe('postgres', () => {
  let sql: Sql

  beforeAll(() => {
    sql = postgres({
      host: '127.0.0.1',
      port: world.wirePort,
      username: 'loop',
      database: 'db',
      password: token,
      max: 1,
    })
  })
  afterAll(async () => sql?.end({ timeout: 5 }))

  it('asks simply, prepared, in a pipeline, and through cursors', async () => {
    expect(await sql.unsafe('select id, ssn from people order by id; select 1 as one').simple()).toHaveLength(2)
    const item = 'item 2'
    const prepared = await sql`select id from orders where item = ${item} and id = any(${[1, 2, 3]}::int[])`
    expect([...prepared]).toEqual([{ id: 2 }])
    const pipelined = await Promise.all([1, 2, 3].map((id) => sql`select ssn from people where id = ${id}`))
    expect(pipelined.map((rows) => rows.map((row) => String(row['ssn'])))).toEqual([['[masked]'], ['[masked]'], []])
    let paged = 0
    for await (const rows of sql`select id from orders where id <= 2500`.cursor(700)) paged += rows.length
    expect(paged).toBe(2500)
  })

  it('keeps transactions and savepoints, and is refused in its own words', async () => {
    const kept = await sql.begin(async (tx) => {
      await tx`insert into orders values (8101, 'kept')`
      await tx
        .savepoint(async (inner) => {
          await inner`insert into orders values (8102, 'undone')`
          throw new Error('back')
        })
        .catch(() => undefined)
      return tx`select id from orders where id in (8101, 8102)`
    })
    expect([...kept]).toEqual([{ id: 8101 }])
    await expect(sql`delete from people`).rejects.toMatchObject({ code: '42501' })
    const begun = sql.begin(async (tx) => {
      await tx`insert into orders values (8103, 'undone, too')`
      await tx`delete from people`
    })
    await expect(begun).rejects.toMatchObject({ code: '42501' })
    expect([...(await sql`select 1 as one from orders where id = 8103`)]).toEqual([])
  })

  it('copies in and out, masked, and listens', async () => {
    const out = await sql`copy people to stdout`.readable()
    let text = ''
    for await (const piece of out) text += String(piece)
    expect(text).toBe('1\tAda\t[masked]\n2\tBob\t[masked]\n')
    const into = await sql`copy orders from stdin`.writable()
    await pipeline(Readable.from(['8201\ta\n', '8202\t', 'b\n']), into)
    expect([...(await sql`select item from orders where id in (8201, 8202) order by id`)]).toEqual([
      { item: 'a' },
      { item: 'b' },
    ])
    const told: string[] = []
    const listening = await sql.listen('jobs', (payload) => told.push(`told ${payload}`))
    await sql.unsafe("notify jobs, 'for nobody to read'")
    // On a target with masks nobody reads what others say.
    await expect.poll(() => told).toEqual(['told '])
    await listening.unlisten()
  })
})

describe('a stranger', () => {
  it('is told the same of a user who does not exist and of one who does', async () => {
    const scramOf = async (user: string): Promise<string> => {
      const stranger = new RawClient(world.wirePort)
      stranger.socket.write(
        encodeStartup({ type: 'startup', major: 3, minor: 0, parameters: new Map([['user', user]]) }),
      )
      const { bodies } = await stranger.hear((letter) => letter === 'R')
      stranger.end()
      return bodies[0]?.toString('latin1') ?? ''
    }
    expect(await scramOf('loop')).toContain('SCRAM-SHA-256')
    expect(await scramOf('nobody')).toBe(await scramOf('loop'))
  })
})
