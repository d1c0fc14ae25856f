/** What a session of the PostgreSQL door leaves on the record, both directions, as a person reads it. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encodeBind } from '../../src/protocols/postgres/messages/bind.ts'
import { FLUSH, SYNC } from '../../src/protocols/postgres/messages/control.ts'
import { encodeCopy } from '../../src/protocols/postgres/messages/copy.ts'
import { encodeDescribe } from '../../src/protocols/postgres/messages/describe.ts'
import { encodeExecute } from '../../src/protocols/postgres/messages/execute.ts'
import { encodeParse } from '../../src/protocols/postgres/messages/parse.ts'
import { encodeQuery } from '../../src/protocols/postgres/messages/query.ts'
import { RawClient } from './raw-postgres.ts'
import { openWorld, type World } from './world.ts'

const SCHEMA = `
  CREATE TABLE public.orders (id int PRIMARY KEY, item text); INSERT INTO public.orders VALUES (1, 'lamp'), (2, NULL);
  CREATE TABLE public.people (id int PRIMARY KEY, ssn text); INSERT INTO public.people VALUES (1, '111-11-1111');
  CREATE TABLE public.seats (at int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO public.seats VALUES (1);
  CREATE FUNCTION public.says(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'heard %', $1; END $$;
`
const GRANTS = 'GRANT SELECT, INSERT ON public.orders, public.people, public.seats TO $role'
const RULES = `
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["public.*"]}
  - {id: write, effect: allow, principals: [group:agents], actions: [sql.insert], resources: ["public.*"]}
  - {id: session, effect: allow, principals: [group:agents], resources: ["-", "**"],
     actions: [sql.copy, sql.notify, sql.begin, sql.commit, sql.rollback, sql.savepoint]}
  - {id: code, effect: allow, principals: [group:agents], actions: [sql.call], resources: ["public.says(*)"]}
`
const PLAIN = `targets: [db]\nrules:${RULES}`
const MASKED = `${PLAIN}masks:\n  - {columns: [public.people.ssn], transform: redact}\n`

const query = (sql: string): Buffer => encodeQuery({ type: 'Query', sql })

let world: World
let token = ''
let auditor = ''

beforeAll(async () => {
  world = await openWorld({
    schema: SCHEMA,
    grants: GRANTS,
    policy: PLAIN,
    postgres: '{address: "127.0.0.1:0", auth: password}',
  })
  token = await world.token({ principal: 'loop', kind: 'agent', owner: 'maria', groups: ['agents'], roles: ['caller'] })
  auditor = await world.token({ principal: 'ada', kind: 'person', owner: 'ada', roles: ['auditor'] })
})
afterAll(async () => world?.close())

/** Lets a client talk and returns the transcript of its session, once that is sealed. */
async function transcriptOf(talk: (client: RawClient) => Promise<void>): Promise<string> {
  const cli = async (...words: string[]): Promise<string> =>
    (await world.run(['recordings', ...words, '--url', world.adminUrl], { SALLYPORT_TOKEN: auditor })).stdout
  const sessions = async (): Promise<{ readonly session: string; readonly isSealed: boolean; door?: string }[]> => {
    const lines = (await cli('list', '--json')).split('\n').filter((line) => line.includes('"session"'))
    return lines.map((line) => JSON.parse(line) as { session: string; isSealed: boolean; door?: string })
  }
  const before = new Set((await sessions()).map(({ session }) => session))
  const { client } = await RawClient.login(world.wirePort, token)
  await talk(client)
  client.end()
  let made = ''
  await expect
    .poll(async () => {
      const own = (await sessions()).find((one) => !before.has(one.session) && one.door === 'postgres')
      made = own?.session ?? ''
      return own?.isSealed
    })
    .toBe(true)
  return cli('show', made, '--results', '65536')
}

/** Everything that lies in the folder of the recordings. */
async function rawRecordings(): Promise<string> {
  const dir = path.join(world.dir, 'recordings')
  const files = (await readdir(dir, { recursive: true })).filter((name) => /\.(?:jsonl|bulk)$/u.test(name))
  return (await Promise.all(files.map((name) => readFile(path.join(dir, name), 'latin1')))).join('')
}

describe('the transcript of a session', () => {
  it('C15: holds what both sides said: statements, values, rows, notices, notifications, COPY data', async () => {
    const text = await transcriptOf(async (client) => {
      await client.say(query('select id, item from orders order by id'))
      await client.say(
        encodeParse({ name: 'one', sql: 'select item from orders where id = $1', paramTypes: [23] }),
        encodeBind({ portal: '', statement: 'one', paramFormats: [], params: [Buffer.from('1')], resultFormats: [] }),
        encodeDescribe({ type: 'Describe', what: 'portal', name: '' }),
        encodeExecute({ portal: '', rowsMax: 0 }),
        SYNC,
      )
      await client.say(query("select says('you')"))
      await client.say(query('listen jobs'))
      await client.say(query("notify jobs, 'job 7'"))
      client.socket.write(query('copy orders from stdin'))
      await client.hear((letter) => letter === 'G')
      const heard = await client.say(
        encodeCopy({ type: 'CopyData', data: Buffer.from('3\tch') }),
        encodeCopy({ type: 'CopyData', data: Buffer.from('air\n') }),
        encodeCopy({ type: 'CopyDone' }),
      )
      expect(heard.codes).toEqual([])
      await client.say(query('copy orders to stdout'))
      await client.say(query('select * from orders where id = 9/0'))
    })
    const said = [
      /postgres\.query on db\n\s+select id, item from orders order by id\n/u,
      /\| columns: id \| item\n\s+\| 1 \| lamp\n\s+\| 2 \| NULL\n\s+\| SELECT 2\n/u,
      /postgres\.execute on db\n\s+select item from orders where id = \$1\n\s+\$1 = "1"\n/u,
      /\| columns: item\n\s+\| lamp\n\s+\| SELECT 1\n/u,
      /\| NOTICE 00000: heard you\n/u,
      /notification on jobs from db: job 7\n/u,
      /\| COPY from the client begins\n\s+> 3\\u0009chair\n\s+\| COPY 1\n/u,
      /\| COPY: 1\\u0009lamp\n/u,
      /failed after .*division by zero/u,
    ]
    for (const words of said) expect(text).toMatch(words)
  })

  it('C15: what the end of its transaction undid is not on the record as done', async () => {
    const text = await transcriptOf(async (client) => {
      const taken = 'insert into seats values (1)'
      const bound = encodeBind({ portal: '', statement: '', paramFormats: [], params: [], resultFormats: [] })
      const messages = [
        encodeParse({ name: '', sql: taken, paramTypes: [] }),
        bound,
        encodeExecute({ portal: '', rowsMax: 0 }),
      ]
      // As the server has it: a Query is told of no completion, an Execute is.
      expect(await client.say(query(`${taken} returning at`))).toMatchObject({ letters: 'TDEZ', codes: ['23505'] })
      expect(await client.say(query(`insert into seats values (2); ${taken}`))).toMatchObject({ letters: 'CEZ' })
      expect(await client.say(...messages, SYNC)).toMatchObject({ letters: '12CEZ', codes: ['23505'] })
      client.socket.write(Buffer.concat([...messages, FLUSH]))
      await client.hear((letter) => letter === 'C')
      expect(await client.say(SYNC)).toMatchObject({ letters: 'EZ', codes: ['23505'] })
      expect((await client.say(query('select * from seats'))).rows).toEqual([['1']])
    })
    const ends = [...text.matchAll(/(done|failed) after .*|notice from db: ERROR \d+/gu)].map(
      ([line, how = '']) => how || line,
    )
    const byItself = 'notice from db: ERROR 23505'
    expect(ends).toEqual(['failed', 'done', 'failed', 'failed', 'done', byItself, 'done'])
  })

  it('C10: holds nothing that masks keep from the client, and of COPY data for a masked table only how much it was', async () => {
    await writeFile(path.join(world.dir, 'policies', 'policy.yaml'), MASKED)
    await world.operator.post('/v1/policy/reload', {})
    const text = await transcriptOf(async (client) => {
      await client.say(query('select * from people'))
      await client.say(query('listen jobs'))
      await client.say(query("notify jobs, 'secret payload'"))
      client.socket.write(query('copy people from stdin'))
      await client.hear((letter) => letter === 'G' || letter === 'Z')
      await client.say(
        encodeCopy({ type: 'CopyData', data: Buffer.from('7\t777-77-7777\n') }),
        encodeCopy({ type: 'CopyDone' }),
      )
      client.socket.write(query('copy orders from stdin'))
      await client.hear((letter) => letter === 'G' || letter === 'Z')
      await client.say(
        encodeCopy({ type: 'CopyData', data: Buffer.from('8\tdesk\n') }),
        encodeCopy({ type: 'CopyDone' }),
      )
    })
    expect(text).toMatch(/\| 1 \| \[masked\]\n/u)
    expect(text).toMatch(/notification on jobs from db: \(withheld\)\n/u)
    expect(text).toMatch(/copy_bytes_not_kept":"14"/u)
    expect(text).toMatch(/> 8\\u0009desk\n/u)
    expect(await rawRecordings()).not.toMatch(/111-11-1111|777-77-7777/u)
  })
})
