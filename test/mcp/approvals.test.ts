import { Client as LegacyClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { afterEach, describe, expect, it } from 'vitest'
import type { ApprovalRoom } from '../../src/approval/create-approvals.ts'
import type { Call } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { BOB, judged } from '../approval/fakes.ts'
import { vote, world } from '../approval/kit.ts'
import { call, connectLegacy, connectModern, echo, PATIENT, startGateway } from './harness.ts'
import type { AnyClient, Gateway } from './harness.ts'

const QUERY = { target: 'shop-db', sql: 'UPDATE orders SET total = 1 WHERE id = 7', reason: 'a typo' }

let gateway: Gateway
const clients: AnyClient[] = []
afterEach(async () => {
  await Promise.allSettled(clients.splice(0).map((client) => client.close()))
  await gateway.close()
})

/** The door over the real approvals: every call needs one DBA. */
async function open(now = Date.now): Promise<{ readonly room: ApprovalRoom; readonly runs: () => number }> {
  const place = await world()
  const room = await place.open({ now })
  let runs = 0
  async function* run(one: Call): AsyncGenerator<Chunk, void, undefined> {
    const { sql } = one.payload as { sql: string }
    const asked = { ...judged({ exact: { sql }, text: sql }), ...(one.reason !== undefined && { reason: one.reason }) }
    const consent = await room.consent(one, asked)
    if (consent.kind === 'executed') {
      yield* consent.result(asked)
      return
    }
    const claim = await consent.claim(asked)
    runs++
    for await (const chunk of echo(one)) {
      claim.shown(chunk)
      yield chunk
    }
    await claim.end('done')
  }
  gateway = await startGateway({
    run,
    inbox: room.inbox,
    reissue: (ticket, requester) => room.reissue(ticket, requester),
    limits: { holdMs: 20 },
  })
  gateway.tokens.set('token-bob', { ...BOB, credentialId: 'cred-bob' })
  return { room, runs: () => runs }
}

describe('the door over the real approvals', () => {
  it('C12: answers pending, asks the approver in their session, and runs once for who asked', async () => {
    const { runs } = await open()
    const bob = new LegacyClient({ name: 'bob', version: '1' }, { capabilities: { elicitation: { form: {} } } })
    const forms: string[] = []
    bob.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
      forms.push(params.message)
      return { action: 'accept', content: { decision: 'approve', reason: 'fine' } }
    })
    clients.push(bob)
    await bob.connect(
      new StreamableHTTPClientTransport(gateway.url, {
        requestInit: { headers: { authorization: 'Bearer token-bob' } },
      }),
    )
    const agent = await connectModern(gateway.url, 'token-agent')
    clients.push(agent)
    const pending = await call(agent, 'query_database', QUERY)
    expect(pending.structuredContent).toMatchObject({
      status: 'pending_approval',
      ticket: expect.any(String),
      approvers: ['group:dba'],
      expires_at: expect.any(String),
    })
    const ticket = pending.structuredContent['ticket']
    const done = await call(agent, 'approval_status', { ticket, wait_ms: 10_000 })
    // Whether the vote came within the short hold of this test or after it, the ticket is this one.
    expect([ticket, undefined]).toContain(done.structuredContent['ticket'])
    await expect
      .poll(async () => (await call(agent, 'approval_status', { ticket })).structuredContent, PATIENT)
      .toMatchObject({ status: 'ok', replayed: true, rows: [[QUERY.sql, 'agent-7']] })
    expect(runs()).toBe(1)
    expect(forms).toHaveLength(1)
    expect(forms[0]).toContain(QUERY.sql)
    expect(forms[0]).toContain('a typo')
  })

  it('names the approvers also when it is asked without waiting', async () => {
    const { room } = await open()
    const agent = await connectLegacy(gateway.url, 'token-agent')
    clients.push(agent)
    const { ticket } = (await call(agent, 'query_database', QUERY)).structuredContent
    expect((await call(agent, 'approval_status', { ticket })).structuredContent).toMatchObject({
      status: 'pending_approval',
      ticket,
      approvers: ['group:dba'],
      expires_at: expect.any(String),
    })
    await vote(room, BOB, String(ticket), 'deny', 'not on a Friday')
    const denied = await call(agent, 'approval_status', { ticket })
    expect(denied).toMatchObject({
      isError: true,
      structuredContent: { status: 'denied', code: 'ERR_APPROVAL_REFUSED' },
    })
    expect(denied.content[0]?.text).toContain('not on a Friday')
    // Asking after it filed no other ticket.
    expect(await room.inbox.pending(BOB)).toEqual([])
  })

  it('C13: hands no ticket to another caller, whatever it says', async () => {
    const { room, runs } = await open()
    const agent = await connectLegacy(gateway.url, 'token-agent')
    const rival = await connectLegacy(gateway.url, 'token-rival')
    clients.push(agent, rival)
    const { ticket } = (await call(agent, 'query_database', QUERY)).structuredContent
    await vote(room, BOB, String(ticket))
    expect((await call(rival, 'approval_status', { ticket })).structuredContent).toMatchObject({
      status: 'invalid',
      code: 'ERR_UNKNOWN_TICKET',
    })
    // The same statement of another caller is another call.
    expect((await call(rival, 'query_database', QUERY)).structuredContent).toMatchObject({ status: 'pending_approval' })
    expect(runs()).toBe(0)
  })

  it('withdraws a ticket for its requester and for nobody else; then nobody is asked and nothing runs', async () => {
    const { room, runs } = await open()
    const agent = await connectLegacy(gateway.url, 'token-agent')
    const rival = await connectLegacy(gateway.url, 'token-rival')
    clients.push(agent, rival)
    const { ticket } = (await call(agent, 'query_database', QUERY)).structuredContent
    expect((await call(rival, 'approval_cancel', { ticket })).structuredContent).toMatchObject({
      code: 'ERR_UNKNOWN_TICKET',
    })
    expect(await room.inbox.pending(BOB)).toHaveLength(1)
    expect((await call(agent, 'approval_cancel', { ticket })).structuredContent).toEqual({
      status: 'cancelled',
      ticket,
    })
    expect(await room.inbox.pending(BOB)).toEqual([])
    await expect(vote(room, BOB, String(ticket))).rejects.toMatchObject({ code: 'ERR_APPROVAL_CONFLICT' })
    expect((await call(agent, 'approval_status', { ticket })).structuredContent).toMatchObject({
      code: 'ERR_APPROVAL_CANCELLED',
    })
    expect(runs()).toBe(0)
  })

  it.each([
    ['of today', connectModern],
    ['of before', connectLegacy],
  ])('tells a client %s whether it was refused, withdrawn or came too late', async (_era, connect) => {
    let later = 0
    const { room, runs } = await open(() => Date.now() + later)
    const agent = await connect(gateway.url, 'token-agent')
    clients.push(agent)
    const ask = async (id: number): Promise<unknown> =>
      (await call(agent, 'query_database', { ...QUERY, sql: `DELETE FROM orders WHERE id = ${id}` })).structuredContent[
        'ticket'
      ]
    const [refused, withdrawn, late] = [await ask(1), await ask(2), await ask(3)]
    await vote(room, BOB, String(refused), 'deny', 'never')
    await call(agent, 'approval_cancel', { ticket: withdrawn })
    later = 24 * 60 * 60 * 1000
    const codes: unknown[] = []
    for (const ticket of [refused, withdrawn, late]) {
      codes.push((await call(agent, 'approval_status', { ticket })).structuredContent['code'])
    }
    expect(codes).toEqual(['ERR_APPROVAL_REFUSED', 'ERR_APPROVAL_CANCELLED', 'ERR_APPROVAL_EXPIRED'])
    expect(runs()).toBe(0)
  })
})
