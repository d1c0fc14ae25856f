/** FunctionCall messages through the PostgreSQL door: what is done by number is judged as what is done by name. */
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encodeBind } from '../../src/protocols/postgres/messages/bind.ts'
import { SYNC } from '../../src/protocols/postgres/messages/control.ts'
import { encodeExecute } from '../../src/protocols/postgres/messages/execute.ts'
import { encodeFunctionCall } from '../../src/protocols/postgres/messages/function-call.ts'
import { encodeParse } from '../../src/protocols/postgres/messages/parse.ts'
import { encodeQuery } from '../../src/protocols/postgres/messages/query.ts'
import { has } from '../setup/needs.ts'
import { RawClient, type Heard } from './raw-postgres.ts'
import { openWorld, type World } from './world.ts'

const POLICY = `
targets: [db]
rules:
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: [public.orders]}
  - {id: session, effect: allow, principals: [group:agents], resources: ["-", "**"],
     actions: [sql.begin, sql.commit, sql.rollback, sql.set]}
  - {id: code, effect: allow, principals: [group:agents], actions: [sql.call],
     resources: ["pg_catalog.lo*(*)", "public.sum_of(*)", "public.says(*)"]}
`
const SCHEMA = `
  CREATE TABLE public.orders (id int); INSERT INTO public.orders VALUES (1);
  CREATE FUNCTION public.sum_of(int, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT $1 + $2';
  CREATE FUNCTION public.says(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'heard %', $1; END $$;
  CREATE FUNCTION public.secret() RETURNS text LANGUAGE sql AS $$ SELECT 'hidden' $$;
  -- What an attacker would put before the server's own.
  CREATE SCHEMA mine; CREATE TABLE mine.pg_proc (oid oid, proname name);
`
const GRANTS = 'GRANT SELECT ON public.orders TO $role; GRANT USAGE ON SCHEMA mine TO $role'

let world: World
let token = ''

beforeAll(async () => {
  world = await openWorld({
    schema: SCHEMA,
    grants: GRANTS,
    policy: POLICY,
    postgres: '{address: "127.0.0.1:0", auth: password}',
  })
  token = await world.token({ principal: 'loop', kind: 'agent', owner: 'maria', groups: ['agents'], roles: ['caller'] })
})
afterAll(async () => world?.close())

const query = (sql: string): Buffer => encodeQuery({ type: 'Query', sql })
const text = (...values: (string | null)[]): (Buffer | null)[] =>
  values.map((value) => (value === null ? null : Buffer.from(value)))

async function oidOf(signature: string): Promise<number> {
  const { rows } = await world.db.admin.query<{ oid: string }>('SELECT $1::regprocedure::oid::text AS oid', [signature])
  return Number(rows[0]?.oid)
}

async function callBy(
  client: RawClient,
  signature: string,
  args: (Buffer | null)[],
  format: 0 | 1 = 0,
): Promise<Heard> {
  const oid = await oidOf(signature)
  return client.say(encodeFunctionCall({ oid, argFormats: [format], args, resultFormat: format }))
}

/** The value in a FunctionCallResponse. */
function value({ letters, bodies }: Heard): Buffer | null {
  const body = bodies[letters.indexOf('V')] ?? Buffer.alloc(0)
  return body.readInt32BE(0) === -1 ? null : body.subarray(4)
}

describe('FunctionCall', () => {
  it('calls what a rule names, as text and in binary form', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    const heard = await callBy(client, 'public.sum_of(int,bigint)', text('2', '40'))
    expect(heard.letters).toBe('VZ')
    expect(String(value(heard))).toBe('42')
    const binary = await callBy(
      client,
      'public.sum_of(int,bigint)',
      [Buffer.from([0, 0, 0, 2]), Buffer.from([0, 0, 0, 0, 0, 0, 0, 40])],
      1,
    )
    expect(value(binary)?.readBigInt64BE()).toBe(42n)
    expect(value(await callBy(client, 'public.sum_of(int,bigint)', text(null, '1')))).toBeNull()
    client.end()
  })

  it('is a call like any other on the record, with its values', async () => {
    const auditor = await world.token({ principal: 'ada', kind: 'person', owner: 'ada', roles: ['auditor'] })
    const cli = async (...words: string[]): Promise<string> =>
      (await world.run(['recordings', ...words, '--url', world.adminUrl], { SALLYPORT_TOKEN: auditor })).stdout
    const sessions = (await cli('list', '--json')).split('\n').flatMap((line) => {
      return line.includes('"session"') ? [(JSON.parse(line) as { session: string }).session] : []
    })
    const shown: string[] = []
    for (const session of sessions) shown.push(await cli('show', session))
    expect(shown.join('\n')).toMatch(
      /postgres\.function_call on db\n.*SELECT "public"\."sum_of"[^\n]*\n\s+\$1 = "2"\n\s+\$2 = "40"\n/u,
    )
  })

  it('is refused where the function would be, and undoes its transaction', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(query('begin'))
    const heard = await callBy(client, 'public.secret()', [])
    expect(heard).toMatchObject({ letters: 'EZ', codes: ['42501'] })
    expect(heard.bodies[1]?.toString()).toBe('E')
    expect((await callBy(client, 'public.sum_of(int,bigint)', text('1', '1'))).codes).toEqual(['25P02'])
    await client.say(query('rollback'))
    expect((await callBy(client, 'public.sum_of(int,bigint)', text('1', '1'))).codes).toEqual([])
    client.end()
  })

  it.each(['mine, pg_catalog', 'mine'])('C7: under the path %s it is judged as the statement is', async (moved) => {
    const { client } = await RawClient.login(world.wirePort, token)
    expect((await client.say(query(`set search_path = ${moved}`))).codes).toEqual([])
    const { messages, codes } = await client.say(
      query('select "public"."sum_of"(1::pg_catalog.int4, 1::pg_catalog.int8)'),
    )
    expect(codes).toEqual(['42501'])
    expect(await callBy(client, 'public.sum_of(int,bigint)', text('1', '1'))).toMatchObject({ messages, codes })
    client.end()
  })

  it.each([
    ['another number of arguments', 'public.sum_of(int,bigint)', text('1'), '08P01'],
    ['a function that returns a set', 'pg_catalog.generate_series(int,int)', text('1', '2'), '0A000'],
    ['an aggregate', 'pg_catalog.sum(int)', text('1'), '0A000'],
    ['arguments without a type of their own', 'pg_catalog.array_length(anyarray,int)', text('{1}', '1'), '0A000'],
  ])('%s is refused by name', async (_, signature, args, code) => {
    const { client } = await RawClient.login(world.wirePort, token)
    const heard = await callBy(client, signature, args)
    expect(heard).toMatchObject({ letters: 'EZ', codes: [code] })
    client.end()
  })

  it('a function that does not exist is told as the server tells it', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    const heard = await client.say(
      encodeFunctionCall({ oid: 4_294_967_295, argFormats: [], args: [], resultFormat: 0 }),
    )
    expect(heard).toMatchObject({ letters: 'EZ', codes: ['42883'] })
    client.end()
  })

  it('passes notices on, and leaves the unnamed statement of its client as it was', async () => {
    const { client } = await RawClient.login(world.wirePort, token)
    await client.say(encodeParse({ name: '', sql: 'select id from orders', paramTypes: [] }), SYNC)
    const heard = await callBy(client, 'public.says(text)', text('a word'))
    expect(heard.letters).toBe('NVZ')
    expect(heard.bodies[0]?.toString()).toContain('heard a word')
    expect(value(heard)).toHaveLength(0)
    const kept = await client.say(
      encodeBind({ portal: '', statement: '', paramFormats: [], params: [], resultFormats: [] }),
      encodeExecute({ portal: '', rowsMax: 0 }),
      SYNC,
    )
    expect(kept.rows).toEqual([['1']])
    client.end()
  })

  it.runIf(has('psql'))('serves large objects to psql', async () => {
    const [put, got] = [path.join(world.dir, 'put'), path.join(world.dir, 'got')]
    const bytes = Buffer.from(Array.from({ length: 20_000 }, (_, at) => at % 251))
    await writeFile(put, bytes)
    const script = [`\\lo_import '${put}'`, `\\lo_export :LASTOID '${got}'`, '\\lo_unlink :LASTOID'].flatMap((line) => [
      '-c',
      line,
    ])
    await promisify(execFile)('psql', ['-X', '-v', 'ON_ERROR_STOP=1', ...script], {
      env: {
        PATH: process.env['PATH'],
        PGHOST: '127.0.0.1',
        PGPORT: String(world.wirePort),
        PGUSER: 'loop',
        PGDATABASE: 'db',
        PGPASSWORD: token,
      },
    })
    expect(await readFile(got)).toEqual(bytes)
  })
})
