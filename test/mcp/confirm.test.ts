import { fileURLToPath } from 'node:url'
import { Client as ModernClient } from '@modelcontextprotocol/client'
import { StdioClientTransport as ModernStdio } from '@modelcontextprotocol/client/stdio'
import { StdioClientTransport as LegacyStdio } from '@modelcontextprotocol/sdk/client/stdio.js'
import { Client as LegacyClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { afterEach, describe, expect, it } from 'vitest'
import type { ApprovalRoom } from '../../src/approval/create-approvals.ts'
import type { Call } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { BOB, judged, requirement } from '../approval/fakes.ts'
import { vote, world } from '../approval/kit.ts'
import { call, connectModern, echo, ERAS, modernCall, PATIENT, raw, startGateway } from './harness.ts'
import type { AnyClient, Gateway } from './harness.ts'

const QUERY = { target: 'shop-db', sql: 'UPDATE orders SET total = 1 WHERE id = 7' }
const OTHER = { target: 'shop-db', sql: 'DELETE FROM orders' }
const CONFIRM = { action: 'accept', content: { decision: 'run_it' } }
type Form = { readonly message: string }

let gateway: Gateway
const clients: AnyClient[] = []
afterEach(async () => {
  await Promise.allSettled(clients.splice(0).map((client) => client.close()))
  await gateway.close()
})

/** The door over the real approvals: every call needs one DBA or, where it is confirmable, the caller's own client. */
async function open(
  isConfirmable = true,
  holdMs = 10_000,
): Promise<{ readonly room: ApprovalRoom; readonly ran: string[] }> {
  const place = await world()
  const room = await place.open({ now: Date.now })
  const ran: string[] = []
  const approvals = [requirement({ rule: 'self', ...(isConfirmable && { selfConfirm: true }) })]
  async function* run(one: Call): AsyncGenerator<Chunk, void, undefined> {
    const { sql } = one.payload as { sql: string }
    const asked = judged({ exact: { sql }, text: sql, decision: { approvals } })
    const consent = await room.consent(one, asked)
    if (consent.kind === 'executed') {
      yield* consent.result(asked)
      return
    }
    const claim = await consent.claim(asked)
    ran.push(sql)
    for await (const chunk of echo(one)) {
      claim.shown(chunk)
      yield chunk
    }
    await claim.end('done')
  }
  const { inbox } = room
  gateway = await startGateway({
    run,
    inbox,
    reissue: (ticket, requester) => room.reissue(ticket, requester),
    limits: { holdMs },
  })
  gateway.tokens.set('token-bob', { ...BOB, credentialId: 'cred-bob' })
  return { room, ran }
}

type Answering = (form: Form, signal: AbortSignal) => object | Promise<object>

/** A client that can show forms, and those it was shown. */
const CONNECT: Readonly<Record<string, (answer: Answering, token: string, forms: Form[]) => Promise<AnyClient>>> = {
  async legacy(answer, token, forms) {
    const client = new LegacyClient({ name: 'agent', version: '1' }, { capabilities: { elicitation: { form: {} } } })
    client.setRequestHandler(ElicitRequestSchema, async ({ params }, { signal }) => {
      forms.push(params)
      return answer(params, signal)
    })
    const requestInit = { headers: { authorization: `Bearer ${token}` } }
    await client.connect(new StreamableHTTPClientTransport(gateway.url, { requestInit }))
    return client
  },
  modern: (answer, token, forms) =>
    connectModern(
      gateway.url,
      token,
      {},
      (made) =>
        made.setRequestHandler('elicitation/create', async ({ params }) => {
          forms.push(params)
          return (await answer(params, new AbortController().signal)) as { action: 'accept' }
        }),
      { capabilities: { elicitation: { form: {} } } },
    ),
}

async function client(era: string, answer: object | Answering, token = 'token-agent') {
  const forms: Form[] = []
  const answering: Answering = typeof answer === 'function' ? (answer as Answering) : () => answer
  const made = await CONNECT[era]?.(answering, token, forms)
  if (made === undefined) throw new Error(era)
  clients.push(made)
  return { agent: made, forms }
}

describe.each(['legacy', 'modern'])('self_confirm, with a client of the %s era', (era) => {
  it('asks the caller’s own client, whole, and runs once', async () => {
    const { ran } = await open()
    const { agent, forms } = await client(era, CONFIRM)
    expect((await call(agent, 'query_database', QUERY)).structuredContent).toMatchObject({ status: 'ok' })
    expect((await call(agent, 'query_database', QUERY)).structuredContent).toMatchObject({ replayed: true })
    expect(ran).toEqual([QUERY.sql])
    expect(forms).toHaveLength(1)
    expect(forms[0]?.message).toContain(`  | ${QUERY.sql}`)
    expect(forms[0]?.message).toContain('agent-7')
  })

  it('an auto-accepting client confirms nothing where no rule says so, and is not asked', async () => {
    const { room, ran } = await open(false, 20)
    const { agent, forms } = await client(era, CONFIRM)
    const held = await call(agent, 'query_database', QUERY)
    expect(held.structuredContent).toMatchObject({ status: 'pending_approval' })
    expect(forms).toEqual([])
    expect(ran).toEqual([])
    expect(await room.inbox.pending(BOB)).toMatchObject([{ votes: [] }])
  })

  it.each([
    ['declined', { action: 'decline' }],
    ['answered with a no', { action: 'accept', content: { decision: 'do_not_run_it' } }],
  ])('a form that was %s withdraws the call, and says so', async (_, answer) => {
    const { room, ran } = await open()
    const { agent } = await client(era, answer)
    const told = await call(agent, 'query_database', QUERY)
    expect(told.structuredContent).toMatchObject({ status: 'cancelled', code: 'ERR_APPROVAL_CANCELLED' })
    expect(told.content[0]?.text).toContain('declined at the client of')
    expect(await room.inbox.pending(BOB)).toEqual([])
    expect(ran).toEqual([])
  })

  it.each([
    ['put away', { action: 'cancel' }],
    ['accepted without a word', { action: 'accept' }],
    ['accepted with another word', { action: 'accept', content: { decision: 'approve' } }],
    ['accepted with a list of words', { action: 'accept', content: { decision: ['run_it'] } }],
  ])(
    'a form that was %s leaves the call to the approvers, and a poll does not bring it up again',
    async (_, answer) => {
      const { room, ran } = await open(true, 300)
      const { agent, forms } = await client(era, answer)
      const { ticket, status } = (await call(agent, 'query_database', QUERY)).structuredContent as Record<
        string,
        string
      >
      expect(status).toBe('pending_approval')
      await call(agent, 'approval_status', { ticket })
      expect(forms).toHaveLength(1)
      expect(ran).toEqual([])
      await vote(room, BOB, String(ticket))
      const done = await call(agent, 'approval_status', { ticket, wait_ms: 10_000 })
      expect(done.structuredContent).toMatchObject({ status: 'ok' })
      expect(ran).toEqual([QUERY.sql])
    },
  )

  it('two clients of one caller that confirm the same call run it once', async () => {
    const { ran } = await open()
    const [one, other] = [await client(era, CONFIRM), await client(era, CONFIRM)]
    const answers = await Promise.all([one, other].map(({ agent }) => call(agent, 'query_database', QUERY)))
    for (const { structuredContent } of answers) expect(structuredContent).toMatchObject({ status: 'ok' })
    expect(ran).toEqual([QUERY.sql])
  })
})

describe('self_confirm', () => {
  it.each(ERAS)('a client without forms (%s) waits for the approvers', async (_, connect) => {
    const { room } = await open(true, 20)
    const agent = await connect(gateway.url, 'token-agent')
    clients.push(agent)
    expect((await call(agent, 'query_database', QUERY)).structuredContent).toMatchObject({ status: 'pending_approval' })
    expect(await room.inbox.pending(BOB)).toHaveLength(1)
  })

  it('the form closes when an approver answers first', async () => {
    const { room, ran } = await open()
    let isClosed = false
    const { agent } = await client('legacy', async (_: Form, signal: AbortSignal) => {
      const [ticket] = await room.inbox.pending(BOB)
      const closed = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
      await vote(room, BOB, ticket?.id ?? '')
      await closed
      isClosed = true
      return CONFIRM
    })
    expect((await call(agent, 'query_database', QUERY)).structuredContent).toMatchObject({ status: 'ok' })
    await expect.poll(() => isClosed, PATIENT).toBe(true)
    expect(ran).toEqual([QUERY.sql])
  })

  it('an answer sent with another call, without a question, or to another caller’s question confirms neither', async () => {
    const { room, ran } = await open(true, 20)
    const send = async (args: object, token = 'token-agent', requestState?: string, answer: object = CONFIRM) => {
      const { body, headers } = modernCall(args, 'query_database')
      const { params } = body as { params: { _meta: Record<string, unknown> } }
      const _meta = {
        ...params._meta,
        'io.modelcontextprotocol/clientCapabilities': { elicitation: { form: {} } },
      }
      const more = { inputResponses: { confirm: answer }, ...(requestState !== undefined && { requestState }) }
      const reply = await raw(gateway.url, { token, headers, body: { ...body, params: { ...params, _meta, ...more } } })
      const text = await reply.text()
      return { text, state: /"requestState":"([^"]*)"/u.exec(text)?.[1] }
    }
    const asked = await send(QUERY)
    expect(asked.text).toContain('input_required')
    expect(asked.state).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+$/u)
    const crossed = await send(OTHER, 'token-agent', asked.state)
    expect(crossed.text).toContain('input_required')
    expect(crossed.state).not.toBe(asked.state)
    gateway.tokens.set('token-eve', {
      ...BOB,
      id: 'eve',
      owner: 'eve',
      kind: 'agent',
      roles: ['caller'],
      credentialId: 'c',
    })
    expect((await send(QUERY, 'token-eve', asked.state)).text).toContain('input_required')
    for (const state of ['', 'x', `${asked.state}x`, asked.state?.replace(/\.[^.]*$/u, '')]) {
      expect((await send(QUERY, 'token-agent', state)).text).toContain('input_required')
    }
    for (const answer of [null, 'accept', [], { action: 'accept', content: 'run_it' }, { action: { accept: 1 } }]) {
      const { text } = await send(QUERY, 'token-agent', asked.state, answer as object)
      expect(text).not.toContain('"status":"ok"')
      expect(text).not.toContain('ERR_INTERNAL')
    }
    expect(ran).toEqual([])
    expect((await room.inbox.pending(BOB)).map(({ votes }) => votes)).toEqual([[], [], []])
    expect((await send(QUERY, 'token-agent', asked.state)).text).toContain('rows')
    expect(ran).toEqual([QUERY.sql])
  })

  it('no more forms are open in one session than a person can look at', async () => {
    const { room } = await open(true, 10_000)
    const answered: (() => void)[] = []
    const { agent, forms } = await client('legacy', async () => {
      await new Promise<void>((resolve) => answered.push(resolve))
      return CONFIRM
    })
    const calls = Array.from({ length: 8 }, (_, index) =>
      call(agent, 'query_database', { target: 'shop-db', sql: `DELETE FROM orders WHERE id = ${index}` }),
    )
    await expect.poll(() => room.inbox.pending(BOB), PATIENT).toHaveLength(8)
    await expect.poll(() => answered, PATIENT).toHaveLength(4)
    for (const resolve of answered) resolve()
    for (const { id } of await room.inbox.pending(BOB)) await vote(room, BOB, id).catch(() => undefined)
    for (const { structuredContent } of await Promise.all(calls))
      expect(structuredContent).toMatchObject({ status: 'ok' })
    expect(forms).toHaveLength(4)
  })

  it.each(['legacy', 'modern'])('the question and its answer pass the stdio bridge (%s)', async (era) => {
    const { ran } = await open()
    const env = {
      PATH: process.env['PATH'] ?? '',
      SALLYPORT_URL: gateway.url.href,
      SALLYPORT_TOKEN: 'token-agent',
    }
    const main = fileURLToPath(new URL('bridge-main.ts', import.meta.url))
    const bridge = { command: process.execPath, args: ['--import', 'tsx', main], env, stderr: 'ignore' as const }
    const capabilities = { elicitation: { form: {} } }
    const answer = { action: 'accept' as const, content: { decision: 'run_it' } }
    let made: AnyClient
    if (era === 'legacy') {
      const legacy = new LegacyClient({ name: 'stdio', version: '1' }, { capabilities })
      legacy.setRequestHandler(ElicitRequestSchema, async () => answer)
      await legacy.connect(new LegacyStdio(bridge))
      made = legacy
    } else {
      const options = { capabilities, versionNegotiation: { mode: { pin: '2026-07-28' } } }
      const modern = new ModernClient({ name: 'stdio', version: '1' }, options)
      modern.setRequestHandler('elicitation/create', async () => answer)
      await modern.connect(new ModernStdio(bridge))
      made = modern
    }
    clients.push(made)
    expect((await call(made, 'query_database', QUERY)).structuredContent).toMatchObject({ status: 'ok' })
    expect(ran).toEqual([QUERY.sql])
  })
})
