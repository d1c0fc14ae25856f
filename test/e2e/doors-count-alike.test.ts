/**
 * One gateway, three backends, six ways to them: tools over MCP and the wires beside it. What limits a principal counts
 * the same whichever way its calls come.
 */
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startService, type TestService } from '../services/http.ts'
import { createDatabase, type TestDatabase } from '../services/postgres.ts'
import { has } from '../setup/needs.ts'
import { openSshWorld, type SshWorld } from './ssh-world.ts'
import { callTool } from './world.ts'

/** As many as there are ways. */
const MAX = 6
const LOOP_STOP = 3

const POLICY = `
targets: [box, db, web]
rules:
  - {id: sql, effect: allow, targets: [db], principals: [group:agents], actions: [sql.select], resources: ["-"]}
  - {id: client, effect: allow, targets: [db], principals: [group:agents], actions: [bundle:sql.client]}
  - {id: ssh, effect: allow, targets: [box], principals: [group:agents], actions: [ssh.exec], resources: [{argv: [uname, "*"]}]}
  - {id: http, effect: allow, targets: [web], principals: [group:agents], actions: [http.get], resources: [{path: "/**"}]}
budgets:
  - {id: hard, per: [principal], principals: [group:hard], actions: [sql.select, ssh.exec, http.get], max: ${MAX}, window: 1h}
  - {id: soft, per: [principal], principals: [group:soft], actions: [sql.select, ssh.exec, http.get], max: 1, window: 1h, on_exceed: require_approval, approvers: {any_of: [group:lead]}}
loops:
  - {id: stuck, principals: [group:loopers], actions: [sql.select, ssh.exec, http.get], window: 10m, repeats: {warn: 2, stop: ${LOOP_STOP}}, suspend: 1h}
`

interface Who {
  readonly name: string
  readonly token: string
  readonly keyFile: string
}

interface Ticket {
  readonly id: string
  readonly target: string
  readonly digest: string
  readonly rules: readonly string[]
}

/** What became of a call, and all that its caller was told. */
type Told = readonly [verdict: 'ran' | 'not', text: string]

describe.runIf(has('sshd'))('the ways to one gateway', () => {
  let world: SshWorld
  let db: TestDatabase
  let service: TestService
  let ways: readonly (readonly [name: string, call: (who: Who) => Promise<Told>])[]

  beforeAll(async () => {
    db = await createDatabase()
    const role = await db.role()
    service = await startService((_, response) => void response.end('seen'))
    world = await openSshWorld(
      POLICY,
      `  db: {protocol: postgres, host: ${db.host}, port: ${db.port}, database: ${db.name}, tls: disable, credential: {user: ${role.user}, env: DB_PASSWORD}}
  web: {protocol: http, base_url: "${service.url}", allow_addresses: [127.0.0.1]}
approvals: {hold: 10ms}
`,
      '',
      { doors: ['postgres', 'http'], env: { DB_PASSWORD: role.password } },
    )
    const tool =
      (name: string, args: object) =>
      async ({ token }: Who): Promise<Told> => {
        const { structuredContent, content } = await callTool(world.mcpUrl, token, name, { ...args })
        const text = content.map((part) => part.text ?? '').join('\n')
        return [structuredContent?.status === 'ok' ? 'ran' : 'not', text]
      }
    ways = [
      ['query_database', tool('query_database', { target: 'db', sql: 'SELECT 1' })],
      ['the PostgreSQL door', overWire],
      ['run_ssh', tool('run_ssh', { target: 'box', command: 'uname -s' })],
      [
        'the SSH door',
        async ({ keyFile }) => {
          const { code, stdout, stderr } = await world.client('ssh', keyFile, ['127.0.0.1', 'uname', '-s'])
          return [code === 0 ? 'ran' : 'not', stdout + stderr]
        },
      ],
      ['http_request', tool('http_request', { target: 'web', method: 'GET', path: '/x' })],
      [
        'the HTTP door',
        async ({ token }) => {
          const answer = await fetch(`${world.urls.http}/web/x`, { headers: { authorization: `Bearer ${token}` } })
          const warning = answer.headers.get('sallyport-warning') ?? ''
          return [answer.status === 200 ? 'ran' : 'not', warning + (await answer.text())]
        },
      ],
    ]
  })
  afterAll(async () => {
    await world?.close()
    await service?.close()
    await db?.drop()
  })

  async function overWire({ name, token }: Who): Promise<Told> {
    const { hostname: host, port } = new URL(world.urls.postgres)
    const client = new Client({ host, port: Number(port), user: name, database: 'db', password: token })
    const notices: string[] = []
    client.on('notice', ({ message = '' }) => notices.push(message))
    client.on('error', () => undefined)
    try {
      await client.connect()
      await client.query('SELECT 1')
      return ['ran', notices.join('\n')]
    } catch (error) {
      return ['not', error instanceof Error ? error.message : '']
    } finally {
      await client.end().catch(() => undefined)
    }
  }

  const agent = async (name: string, group: string): Promise<Who> => ({
    name,
    ...(await world.caller(name, ['agents', group])),
  })
  const verdicts = async (who: Who, order = ways): Promise<readonly (readonly [string, string])[]> => {
    const told: [string, string][] = []
    for (const [name, call] of order) told.push([name, (await call(who))[0]])
    return told
  }
  const verdictsAtOnce = (who: Who): Promise<readonly (readonly [string, string])[]> =>
    Promise.all(ways.map(async ([name, call]) => [name, (await call(who))[0]] as const))
  const all = (verdict: string, order = ways): readonly (readonly [string, string])[] =>
    order.map(([name]) => [name, verdict])

  it('charge one budget of a principal, each call once, in whatever order they are taken', async () => {
    for (const [name, order] of [
      ['first', ways],
      ['second', [...ways].reverse()],
    ] as const) {
      const who = await agent(name, 'hard')
      expect(await verdicts(who, order)).toEqual(all('ran', order))
      expect(await verdicts(who, order)).toEqual(all('not', order))
      for (const [way, call] of order)
        expect([way, (await call(who))[1]]).toEqual([way, expect.stringMatching(/budget/iu)])
    }
  })

  it('ask the same persons about what is beyond a budget that asks', async () => {
    const maria = await world.caller('maria', ['lead'], { kind: 'person', owner: 'maria', roles: ['approver'] })
    const inbox = world.admin(maria.token)
    const who = await agent('asker', 'soft')
    const [[, first] = []] = ways
    expect((await first?.(who))?.[0]).toBe('ran')
    // A wire holds its client until somebody answers, so all are asked at once; the same call is one question. What
    // `fetch` says of itself in headers is sent on, and so part of another one.
    const told = verdictsAtOnce(who)
    const asked = async (): Promise<readonly Ticket[]> =>
      (await inbox.get<{ approvals: Ticket[] }>('/v1/approvals')).approvals
    await expect
      .poll(async () => (await asked()).map(({ target }) => target).sort())
      .toEqual(['box', 'db', 'web', 'web'])
    for (const { id, digest, rules } of await asked()) {
      expect(rules).toContainEqual(expect.stringContaining('soft'))
      await inbox.post(`/v1/approvals/${id}/vote`, { decision: 'deny', digest })
    }
    expect(await told).toEqual(all('not'))
  })

  it('notice the same loop, and whoever is suspended for it is suspended on all of them', async () => {
    for (const [index, [name, call]] of ways.entries()) {
      const who = await agent(`looper-${index}`, 'loopers')
      const told: Told[] = []
      for (let n = 0; n < LOOP_STOP; n++) told.push(await call(who))
      expect([name, told.map(([verdict]) => verdict)]).toEqual([name, ['ran', 'ran', 'not']])
      expect([name, told[1]?.[1]]).toEqual([name, expect.stringContaining('round in circles')])
      expect([name, told.at(-1)?.[1]]).toEqual([name, expect.stringMatching(/suspended/u)])
      const [, elsewhere] = ways[(index + 3) % ways.length] ?? []
      expect([name, await elsewhere?.(who)]).toEqual([name, ['not', expect.stringMatching(/frozen|suspended/u)]])
    }
  })
})
