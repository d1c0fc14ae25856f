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
  - {id: transactions, effect: allow, principals: [group:agents], actions: [sql.begin, sql.commit, sql.rollback, sql.copy, sql.cursor, sql.prepare], resources: ["-", "**"]}
  - {id: ask, effect: require_approval, principals: [group:agents], actions: [sql.delete], resources: [public.orders], approvers: {any_of: [group:dba], expires: 5m}}
masks:
  - {columns: [public.customers.ssn], transform: redact}
`

let world: World
let token = ''

beforeAll(async () => {
  world = await openWorld({ schema: SCHEMA, grants: GRANTS, policy: POLICY })
  token = await world.token({ principal: 'loop', kind: 'agent', owner: 'maria', groups: ['agents'], roles: ['caller'] })
})
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

  it('is told why it is denied, and may go on', async () => {
    const { out, err } = await psql("\\set VERBOSITY verbose\nselect * from secrets;\nselect 'alive';")
    expect(err).toContain('42501: No rule allows sql.select on public.secrets')
    expect(out).toBe('alive\n')
  })

  it('a refused statement undoes its transaction, as any error does', async () => {
    const script =
      'begin; insert into orders values (9001); select * from secrets; select 1; commit; select count(*) from orders where id = 9001;'
    const { out, err } = await psql(script.replaceAll('; ', ';\n'))
    expect(err).toContain('current transaction is aborted')
    expect(out).toBe('BEGIN\nINSERT 0 1\nROLLBACK\n0\n')
  })

  it('several statements in one message are one transaction', async () => {
    const { out } = await psql('', [
      '-c',
      'insert into orders values (9002); select * from secrets',
      '-c',
      'select count(*) from orders where id = 9002',
    ])
    expect(out).toBe('INSERT 0 1\n0\n')
  })

  it('copies out masked, and copies in', async () => {
    const { out, err } = await psql(
      'copy customers to stdout;\ncopy orders (id, item) from stdin;\n9003\tthree\n\\.\nselect item from orders where id = 9003;',
    )
    expect(err).toBe('')
    expect(out).toBe('1\tAda\t[masked]\n2\tBob\t[masked]\nCOPY 1\nthree\n')
  })

  it('fetches masked values through a cursor', async () => {
    const { out } = await psql('begin;\ndeclare c cursor for select ssn from customers;\nfetch 1 from c;\ncommit;')
    expect(out).toContain('[masked]')
    expect(out).not.toMatch(/\d{3}-\d{2}/)
  })

  it('describes tables', async () => {
    const { out, err } = await psql('\\d orders')
    expect(err).toBe('')
    expect(out).toContain('id|integer||not null|')
  })

  it('waits for an approver, and runs what was approved', async () => {
    const dora = await world.token({
      principal: 'dora',
      kind: 'person',
      owner: 'dora',
      groups: ['dba'],
      roles: ['approver'],
    })
    const asked = psql('delete from orders where id = 7;\nselect count(*) from orders where id = 7;')
    const ticket = await held(dora)
    const admin = world.admin(dora)
    const { digest } = await admin.get<{ digest: string }>(`/v1/approvals/${ticket}`)
    await admin.post(`/v1/approvals/${ticket}/vote`, { digest, decision: 'approve' })
    const { out, err } = await asked
    expect(err).toContain(`Ticket ${ticket} waits for group:dba`)
    expect(out).toBe('DELETE 1\n0\n')
  })

  it('C14: is not held inside a transaction', async () => {
    const { err } = await psql('begin;\ndelete from orders where id = 8;\nrollback;')
    expect(err).toContain('inside an open transaction')
  })

  it('is sent away with a wrong token, and with a target that is not for it', async () => {
    const wrong = await psql('select 1', [], 'sp_880af47skgpj_F-KuAP5EvBYemnIFvIcMOcYPG4n35dR6hi0X0TbFOOQ')
    expect(wrong.err).toContain('The user or the token is wrong.')
    const other = await psql('select 1', ['-d', `host=127.0.0.1 port=${world.wirePort} user=loop dbname=elsewhere`])
    expect(other.err).toContain('There is no such target')
  })
})

async function held(approver: string): Promise<string> {
  for (;;) {
    const { approvals } = await world.admin(approver).get<{ approvals: { id: string }[] }>('/v1/approvals')
    const [first] = approvals
    if (first !== undefined) return first.id
  }
}
