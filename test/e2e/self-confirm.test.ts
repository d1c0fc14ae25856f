/**
 * `self_confirm` through a real gateway to a real database, with clients of both eras that we did not write. What a
 * client answers without a person in front of it is worth what the rule says, and no more.
 */
import { Client as ModernClient, StreamableHTTPClientTransport as ModernTransport } from '@modelcontextprotocol/client'
import { Client as LegacyClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as LegacyTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openApprovalWorld, type ApprovalWorld } from './approval-world.ts'
import type { ToolResult } from './world.ts'

const POLICY = `
targets: [db]
rules:
  - id: read
    effect: allow
    principals: [group:agents]
    actions: [sql.select]
    resources: [public.shelf]
  - id: own-word
    effect: require_approval
    principals: [group:agents]
    actions: [sql.insert]
    resources: [public.shelf]
    approvers: {any_of: [group:dba], self_confirm: true}
  - id: four-eyes
    effect: require_approval
    principals: [group:agents]
    actions: [sql.delete]
    resources: [public.shelf]
    approvers: {any_of: [group:dba]}
`

type Action = 'confirm' | 'decline' | 'cancel'
interface Asked {
  /** What the next form is answered with. */
  answer: Action
  readonly forms: string[]
  call(name: string, args: object): Promise<ToolResult>
  close(): Promise<void>
}

function answerTo(action: Action): { action: 'accept' | 'decline' | 'cancel'; content?: Record<string, string> } {
  return action === 'confirm' ? { action: 'accept', content: { decision: 'run_it' } } : { action }
}

const capabilities = { elicitation: { form: {} } }

const CONNECT: Readonly<Record<string, (url: string, token: string) => Promise<Asked>>> = {
  async legacy(url, token) {
    const client = new LegacyClient({ name: 'ide', version: '1.0.0' }, { capabilities })
    const asked: Asked = {
      answer: 'confirm',
      forms: [],
      call: (name, args) => client.callTool({ name, arguments: { ...args } }) as Promise<ToolResult>,
      close: () => client.close(),
    }
    client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
      asked.forms.push(params.message)
      return answerTo(asked.answer)
    })
    const headers = { authorization: `Bearer ${token}` }
    await client.connect(new LegacyTransport(new URL(url), { requestInit: { headers } }))
    return asked
  },
  async modern(url, token) {
    const client = new ModernClient(
      { name: 'ide', version: '1.0.0' },
      { capabilities, versionNegotiation: { mode: { pin: '2026-07-28' } } },
    )
    const asked: Asked = {
      answer: 'confirm',
      forms: [],
      call: (name, args) => client.callTool({ name, arguments: { ...args } }) as Promise<ToolResult>,
      close: () => client.close(),
    }
    client.setRequestHandler('elicitation/create', async ({ params }) => {
      asked.forms.push(params.message)
      return answerTo(asked.answer)
    })
    const headers = { authorization: `Bearer ${token}` }
    await client.connect(new ModernTransport(new URL(url), { requestInit: { headers } }))
    return asked
  },
}

describe.each(['legacy', 'modern'])('self_confirm, with a real client of the %s era', (era) => {
  let open: ApprovalWorld
  let client: Asked
  let next = 0

  beforeAll(async () => {
    open = await openApprovalWorld({
      schema: 'CREATE TABLE public.shelf (id int PRIMARY KEY, book text)',
      grants: 'GRANT SELECT, INSERT, DELETE ON public.shelf TO $role',
      policy: POLICY,
      config: 'approvals: {hold: 1s}',
    })
    const connect = CONNECT[era]
    if (connect === undefined) throw new Error(era)
    client = await connect(open.world.mcpUrl, open.agent)
  })
  afterAll(async () => {
    await client?.close()
    await open?.close()
  })

  async function insert(): Promise<{ readonly id: number; readonly result: ToolResult }> {
    const id = ++next
    client.forms.length = 0
    const args = { target: 'db', sql: `INSERT INTO public.shelf VALUES (${id}, 'told')` }
    return { id, result: await client.call('query_database', args) }
  }

  it('confirmed, the call runs, and the record says who confirmed', async () => {
    client.answer = 'confirm'
    const { id, result } = await insert()
    expect(result.structuredContent).toMatchObject({ status: 'ok' })
    expect(client.forms).toHaveLength(1)
    expect(client.forms[0]).toContain(`INSERT INTO public.shelf VALUES (${id}, 'told')`)
    expect(await open.count(`shelf WHERE id = ${id}`)).toBe(1)
  })

  it('declined, it does not run, and the agent is told so', async () => {
    client.answer = 'decline'
    const { id, result } = await insert()
    expect(result.structuredContent).toMatchObject({ status: 'cancelled', code: 'ERR_APPROVAL_CANCELLED' })
    expect(result.content[0]?.text).toContain('declined at the client of loop')
    expect(await open.count(`shelf WHERE id = ${id}`)).toBe(0)
  })

  it('put away, it waits for the approvers, and one of them may let it run', async () => {
    client.answer = 'cancel'
    const { id, result } = await insert()
    expect(result.structuredContent).toMatchObject({ status: 'pending_approval' })
    await open.desk.answer(await open.desk.asked(), 'approve')
    const { ticket } = result.structuredContent ?? {}
    const done = await client.call('approval_status', { ticket, wait_ms: 30_000 })
    expect(done.structuredContent).toMatchObject({ status: 'ok' })
    expect(await open.count(`shelf WHERE id = ${id}`)).toBe(1)
  })

  it('a client that accepts whatever it is asked is not asked where persons must agree', async () => {
    client.answer = 'confirm'
    await insert()
    client.forms.length = 0
    const result = await client.call('query_database', { target: 'db', sql: 'DELETE FROM public.shelf WHERE id > 0' })
    expect(result.structuredContent).toMatchObject({ status: 'pending_approval' })
    expect(client.forms).toEqual([])
    expect(await open.count('shelf')).toBeGreaterThan(0)
    await open.desk.answer(await open.desk.asked(), 'deny')
  })

  it('the record of it is whole', async () => {
    const verified = await open.world.run(['recordings', 'verify'])
    expect(verified.code).toBe(0)
  })
})
