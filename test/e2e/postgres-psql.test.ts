/**
 * The PostgreSQL door with a real psql before a real PostgreSQL, the gateway as its own process.
 */
import { spawn } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openWorld, type World } from './world.ts'
import { has } from '../setup/needs.ts'

const SCHEMA = `
  CREATE TABLE public.orders (id int PRIMARY KEY, item text, price numeric);
  INSERT INTO public.orders SELECT n, 'item ' || n, n * 1.5 FROM generate_series(1, 1000) n;
  CREATE TABLE public.customers (id int PRIMARY KEY, name text, ssn text);
  INSERT INTO public.customers VALUES (1, 'Ada', '111-11-1111'), (2, 'Bob', '222-22-2222');
  CREATE TABLE public.secrets (v text);
`
const GRANTS =
  'GRANT SELECT, INSERT, UPDATE, DELETE ON public.orders, public.customers, public.secrets TO $role; GRANT pg_read_all_settings TO $role'
const POLICY = `
targets: [db]
rules:
  - {id: client, effect: allow, principals: [group:agents], actions: ["bundle:sql.client"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: [public.orders, public.customers]}
  - {id: write, effect: allow, principals: [group:agents], actions: [sql.insert, sql.update], resources: [public.orders]}
  - {id: ask, effect: require_approval, principals: [group:agents], actions: [sql.delete], resources: [public.orders], approvers: {any_of: [group:dba], expires: 5m}}
masks:
  - {columns: [public.customers.ssn], transform: redact}
`

let world: World
let token = ''

beforeAll(async () => {
  world = await openWorld({ schema: SCHEMA, grants: GRANTS, policy: POLICY })
  token = await world.token({ principal: 'loop', kind: 'agent', owner: 'maria', groups: ['agents'], roles: ['caller'] })
}, 60_000)
afterAll(async () => world?.close())

interface Output {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

function psql(input: string, args: readonly string[] = [], password = token): Promise<Output> {
  const url = `host=127.0.0.1 port=${world.wirePort} user=loop dbname=db`
  const child = spawn('psql', ['-X', '-A', '-t', url, ...args], {
    env: { PATH: process.env['PATH'], PGPASSWORD: password, PGCLIENTENCODING: 'UTF8', LC_ALL: 'C' },
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (data: Buffer) => (out += data.toString()))
  child.stderr.on('data', (data: Buffer) => (err += data.toString()))
  child.stdin.end(input)
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, out, err })))
}

describe.runIf(has('psql'))('psql through the door', () => {
  it('reads what the policy allows', async () => {
    const { out, err, code } = await psql('select count(*), sum(price) from orders;')
    expect({ out, err, code }).toEqual({ out: '1000|750750.0\n', err: '', code: 0 })
  })

  it('sees masked values only', async () => {
    const { out, err } = await psql('select * from customers order by id;')
    expect(err).toBe('')
    expect(out).toContain('Ada')
    expect(out).not.toContain('111-11')
  })

  it('is told by which rule it is denied, and may go on', async () => {
    const { out, err } = await psql("select * from secrets;\nselect 'alive';")
    expect(err).toContain('42501')
    expect(out).toBe('alive\n')
  }, 20_000)
})
