import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { TicketView } from '../../src/approval/view.ts'
import { makeSite, POLICY, type Served, type Site } from './gateway-kit.ts'

let site: Site
let served: Served
let operator: string
let agent: string
let maria: string
beforeAll(async () => {
  site = await makeSite()
  operator = (await site.run(['operator', 'olga'])).stdout.trim()
  served = await site.serve()
  const create = async (args: readonly string[]): Promise<string> =>
    (await site.run(['token', 'create', ...args], operator)).stdout.trim()
  agent = await create(['shop-bot', '--owner', 'sam', '--group', 'agents'])
  maria = await create([
    'maria',
    '--kind',
    'person',
    '--owner',
    'maria',
    '--role',
    'approver,auditor',
    '--group',
    'dba',
  ])
  site.secrets.push(operator, agent, maria)
})
afterAll(() => site.close())

/** The ticket of a requester, once it waits. */
async function ticketOf(requester: string): Promise<string> {
  let found: string | undefined
  await expect
    .poll(async () => {
      const { approvals } = await site.api(maria).get<{ approvals: readonly TicketView[] }>('/v1/approvals')
      found = approvals.find((ticket) => ticket.requester.id === requester && ticket.state === 'pending')?.id
      return found
    })
    .toBeDefined()
  return found ?? ''
}

function token(principal: object): Promise<{ readonly id: string; readonly token: string }> {
  return site
    .api(operator)
    .post('/v1/tokens', { kind: 'agent', roles: ['caller'], expires_in_ms: 3_600_000, ...principal })
}

describe('a gateway as a process', () => {
  it('serves an agent, and its operator sees the session', async () => {
    const client = await served.agent(agent, 'shop-db')
    const answer = await client.query('SELECT id, body FROM public.notes ORDER BY id')
    expect(answer).toMatchObject({
      status: 'ok',
      rows: [
        [1, 'first'],
        [2, 'second'],
      ],
    })
    const listed = await site.run(['sessions', 'list', '--json'], operator)
    expect(JSON.parse(listed.stdout)).toMatchObject({ principal: 'shop-bot', owner: 'sam', door: 'mcp' })
    await client.close()
  })

  it('C17: keeps its state directory to itself: a second process refuses to start and says who has it', async () => {
    const second = await site.run(['serve'])
    expect(second.code).toBe(4)
    expect(second.stderr).toContain(`is in use by process ${served.pid}`)
    const bootstrap = await site.run(['operator', 'eve', '--begin-anew'])
    expect(bootstrap.code).toBe(4)
    expect(bootstrap.stdout).toBe('')
  })

  it('decides calls offline beside a running gateway, executing nothing', async () => {
    const lines = [
      {
        id: 'a',
        principal: { id: 'bot', kind: 'agent', groups: ['agents'] },
        target: 'shop-db',
        tool: 'query_database',
        arguments: { sql: 'SELECT body FROM notes' },
      },
      {
        id: 'b',
        principal: { id: 'bot', kind: 'agent', groups: ['agents'] },
        target: 'shop-db',
        tool: 'query_database',
        arguments: { sql: "UPDATE notes SET body = 'x' WHERE id = 1" },
      },
      {
        id: 'c',
        principal: { id: 'bot', kind: 'agent', groups: [] },
        target: 'shop-db',
        tool: 'query_database',
        arguments: { sql: 'SELECT 1' },
      },
      { id: 'd', principal: { id: 'bot' }, target: 'nowhere', tool: 'query_database', arguments: { sql: 'SELECT 1' } },
      { id: 'e', principal: { id: 'bot' }, target: 'shop-db', tool: 'approval_status', arguments: {} },
      'nonsense',
    ]
    const input = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n')
    const ran = await site.run(['policy', 'explain', '--jsonl'], undefined, input)
    expect(ran.code).toBe(0)
    const answers = ran.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(answers.map(({ id, effect }) => [id, effect])).toEqual([
      ['a', 'allow'],
      ['b', 'require_approval'],
      ['c', 'deny'],
      ['d', 'deny'],
      ['e', 'deny'],
      [null, 'deny'],
    ])
    expect(answers[0]).toMatchObject({ rules: ['read'], action: { parts: [{ verb: 'sql.select' }] } })
    const { rows } = await site.database.admin.query('SELECT body FROM public.notes WHERE id = 1')
    expect(rows).toEqual([{ body: 'first' }])
  })

  it('explains one call to a person', async () => {
    const args = ['--principal', 'bot', '--group', 'agents', '--target', 'shop-db', '--sql', 'DELETE FROM notes']
    const ran = await site.run(['policy', 'explain', ...args])
    expect(ran.code).toBe(0)
    expect(ran.stdout).toMatch(/^deny /u)
    expect(ran.stdout).toContain('sql.delete on public.notes')
  })

  it.each([
    ['locked-out', /refused our login; check the target's credential/u],
    ['unreachable', /unreachable|cannot be reached|not reach/u],
    ['no-secret', /credential of target no-secret is missing: file .*missing-file cannot be opened \(ENOENT\)/u],
  ])('says in one sentence what is wrong with the target %s', async (target, message) => {
    site.write('policies/more.yaml', POLICY.replace('[shop-db]', `[${target}]`).replaceAll('id: ', 'id: more-'))
    const reloaded = await site.run(['policy', 'reload'], operator)
    expect(reloaded.stderr).toBe('')
    const client = await served.agent(agent, target)
    const answer = await client.query('SELECT body FROM public.notes')
    await client.close()
    expect(answer.status).not.toBe('ok')
    expect(answer.reason).toMatch(message)
    expect(answer.reason).not.toContain('\n')
    // The process stays up for everybody else.
    expect((await site.run(['sessions', 'list'], operator)).code).toBe(0)
  })

  it('keeps the policy in force when new files are wrong, and says so to log and operator', async () => {
    const before = JSON.parse((await site.run(['policy', 'status', '--json'], operator)).stdout) as { version: string }
    site.write('policies/bad.yaml', 'rules:\n  - id: x\n    efect: allow\n')
    const reload = await site.run(['policy', 'reload'], operator)
    expect(reload.code).toBe(3)
    expect(reload.stderr).toContain('bad.yaml:3:5')
    const check = await site.run(['policy', 'check'])
    expect(check.code).toBe(3)
    expect(check.stdout).toContain('bad.yaml:3:5')
    const after = JSON.parse((await site.run(['policy', 'status', '--json'], operator)).stdout) as {
      version: string
      problem: string
    }
    expect(after.version).toBe(before.version)
    expect(after.problem).toContain('bad.yaml:3:5')
    site.write('policies/bad.yaml', '{}\n')
    await served.logged('the policy files were not taken')
  })

  it('takes new policies on SIGHUP', async () => {
    site.write('policies/more.yaml', POLICY.replaceAll('id: ', 'id: hup-').replaceAll('group:agents', 'group:nobody'))
    const before = served.log().split('another policy is in force').length
    process.kill(served.pid, 'SIGHUP')
    await expect.poll(() => served.log().split('another policy is in force').length).toBeGreaterThan(before)
  })

  it('C2: a revoked token ends what it started', async () => {
    const { id, token: value } = await token({ principal: 'short-bot', owner: 'sam', groups: ['agents'] })
    site.secrets.push(value)
    const client = await served.agent(value, 'shop-db')
    const held = client.query("UPDATE public.notes SET body = 'changed' WHERE id = 2").catch((error: unknown) => error)
    await ticketOf('short-bot')
    expect((await site.run(['token', 'revoke', id], operator)).code).toBe(0)
    const answer = await held
    expect(answer).not.toMatchObject({ status: 'ok' })
    await expect(client.query('SELECT body FROM public.notes')).rejects.toThrow(/token|401|not found/iu)
    await client.close()
  })

  it('records what persons did, and shows it to an auditor only', async () => {
    const listed = await site.run(['recordings', 'list', '--json'], maria)
    const sessions = listed.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { session?: string })
    const session = sessions.find((entry) => entry.session !== undefined)?.session ?? ''
    const shown = await site.run(['recordings', 'show', session], maria)
    expect(shown.stdout).toContain('SELECT')
    const refused = await site.run(['recordings', 'show', session], operator)
    expect(refused.code).toBe(5)
    const traversal = await site.run(['recordings', 'show', '../../etc/passwd'], maria)
    expect(traversal.code).toBe(1)
  })

  it('an operator who owns the agent cannot approve for it; the owner of another can', async () => {
    const client = await served.agent(agent, 'shop-db')
    const held = client.query("UPDATE public.notes SET body = 'approved' WHERE id = 1", { reason: 'a test' })
    const ticket = await ticketOf('shop-bot')
    expect((await site.run(['approvals', 'approve', ticket], operator)).code).toBe(5)
    const approved = await site.run(['approvals', 'approve', ticket], maria)
    expect(approved.stdout).toContain("UPDATE public.notes SET body = 'approved' WHERE id = 1")
    expect(await held).toMatchObject({ status: 'ok', row_count: 1 })
    await client.close()
  })

  it('answers who asks for metrics', async () => {
    const get = (token: string) => fetch(`${served.admin}/metrics`, { headers: { authorization: `Bearer ${token}` } })
    const text = await (await get(operator)).text()
    expect(text).toMatch(
      /sallyport_calls_total\{tool="query_database",target="shop-db",effect="allow",ending="done"\} \d/u,
    )
    expect((await get(agent)).status).toBe(403)
  })

  it('refuses a port that is taken, naming the setting', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as AddressInfo
    try {
      site.write(
        'taken.yaml',
        `listen: {mcp: "127.0.0.1:${port}", admin: "127.0.0.1:0"}\nstate: .other\npolicies: none\n`,
      )
      const ran = await site.run(['serve', '--config', 'taken.yaml'])
      expect(ran.code).toBe(3)
      expect(ran.stderr).toContain(`sallyport: 127.0.0.1:${port} is in use by another process`)
      expect(ran.stderr).toContain('listen.mcp')
    } finally {
      other.close()
    }
  })

  it('refuses a wrong configuration with every mistake and its place', async () => {
    site.write('wrong.yaml', 'listen: {mcp: here}\ntargets: {x: {protocol: postgres}}\nfoo: 1\n')
    const ran = await site.run(['serve', '--config', 'wrong.yaml'])
    expect(ran.code).toBe(3)
    expect(ran.stderr.split('\n').filter((line) => /wrong\.yaml:\d+:\d+: /u.test(line)).length).toBeGreaterThanOrEqual(
      4,
    )
  })

  it('ends on SIGTERM with code 0, and its recordings verify afterwards', async () => {
    expect(await served.stop()).toBe(0)
    expect(served.log()).toContain('"closed"')
    const verified = await site.run(['recordings', 'verify'])
    expect(verified.stdout).toContain('files are as they were written')
    expect(verified.code).toBe(0)
    expect(existsSync(join(site.dir, '.sallyport'))).toBe(true)
  })

  it('comes back with tokens, tickets and recordings as they were, also after kill -9', async () => {
    const again = await site.serve()
    expect((await site.run(['token', 'list'], operator)).code).toBe(0)
    const client = await again.agent(agent, 'shop-db')
    expect(await client.query('SELECT body FROM public.notes')).toMatchObject({ status: 'ok' })
    await again.stop('SIGKILL')
    const third = await site.serve()
    expect(third.log()).toContain('an earlier run had crashed')
    expect(await third.stop()).toBe(0)
    expect((await site.run(['recordings', 'verify'])).code).toBe(0)
  })

  it('has never said a secret', () => {
    const said = site.output()
    expect(said.length).toBeGreaterThan(1000)
    expect(site.secrets.filter((secret) => said.includes(secret))).toEqual([])
  })
})
