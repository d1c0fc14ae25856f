import { afterEach, describe, expect, it } from 'vitest'
import type { ApprovalRoom } from '../../src/approval/create-approvals.ts'
import { BOB, CAROL, call as filed } from '../approval/fakes.ts'
import { world } from '../approval/kit.ts'
import { PENDING_URI } from '../../src/doors/mcp/resources.ts'
import { call, connectLegacy, connectModern, ERAS, modernCall, raw, startGateway } from './harness.ts'
import type { AnyClient, Gateway } from './harness.ts'

let gateway: Gateway
const clients: AnyClient[] = []
afterEach(async () => {
  await Promise.allSettled(clients.splice(0).map((client) => client.close()))
  await gateway.close()
})

/** The door over the real approvals, with one ticket of Ana's agent that waits for a DBA. */
async function open(): Promise<{ readonly room: ApprovalRoom; readonly ticket: string }> {
  const place = await world()
  const room = await place.open({ now: Date.now })
  gateway = await startGateway({ inbox: room.inbox })
  gateway.tokens.set('token-bob', { ...BOB, credentialId: 'cred-bob' })
  gateway.tokens.set('token-carol', { ...CAROL, credentialId: 'cred-carol' })
  return { room, ticket: await place.file(room, filed()) }
}

type Form = { readonly message: string; readonly requestedSchema: unknown }

/** An approver's client of the 2026 era, and the forms it was shown. */
async function approver(token: string, answer: object) {
  const forms: Form[] = []
  const client = await connectModern(
    gateway.url,
    token,
    {},
    (made) =>
      made.setRequestHandler('elicitation/create', async ({ params }) => {
        forms.push(params as unknown as Form)
        return answer as { action: 'accept'; content: Record<string, string> }
      }),
    { capabilities: { elicitation: { form: {} } } },
  )
  clients.push(client)
  return { client, forms }
}

describe('approvals_review', () => {
  it('asks the approver in a form, whole, and the answer is their vote', async () => {
    const { room, ticket } = await open()
    const { client, forms } = await approver('token-bob', {
      action: 'accept',
      content: { decision: 'approve', reason: 'looked' },
    })
    const done = await call(client, 'approvals_review', { ticket })
    expect(done.structuredContent).toMatchObject({ status: 'ok', ticket, state: 'approved' })
    expect(forms[0]?.message).toContain('UPDATE orders SET price = 1 WHERE id = 7')
    expect((await room.inbox.show(BOB, ticket)).votes).toMatchObject([{ by: 'bob', reason: 'looked' }])
  })

  it.each([
    ['declined', { action: 'decline' }],
    ['closed', { action: 'cancel' }],
    ['sent back without an answer', { action: 'accept', content: { decision: 'yes please' } }],
  ])('a form that was %s says nothing', async (_, answer) => {
    const { room, ticket } = await open()
    const { client } = await approver('token-bob', answer)
    await call(client, 'approvals_review', { ticket })
    expect(await room.inbox.show(BOB, ticket)).toMatchObject({ state: 'pending', votes: [] })
  })

  it('an answer made up without a form is for nothing that was shown', async () => {
    const { room, ticket } = await open()
    const { body, headers } = modernCall({ ticket }, 'approvals_review')
    const { params } = body as { params: object }
    const response = (action: object, requestState?: string) =>
      raw(gateway.url, {
        token: 'token-bob',
        headers,
        body: {
          ...body,
          params: { ...params, inputResponses: { vote: action }, ...(requestState && { requestState }) },
        },
      }).then((reply) => reply.text())
    const accept = { action: 'accept', content: { decision: 'approve' } }
    expect(await response(accept)).toContain('ERR_INVALID_INPUT')
    expect(await response(accept, `${ticket}.${'0'.repeat(64)}`)).toContain('ERR_APPROVAL_STALE')
    expect(await response(accept, `other.${'0'.repeat(64)}`)).toContain('ERR_INVALID_INPUT')
    expect((await room.inbox.show(BOB, ticket)).votes).toEqual([])
  })

  it('tells a client without forms how to answer, and takes no argument for it', async () => {
    const { room, ticket } = await open()
    for (const connect of [connectLegacy, connectModern]) {
      const client = await connect(gateway.url, 'token-bob')
      clients.push(client)
      const shown = await call(client, 'approvals_review', { ticket })
      expect(shown.content[0]?.text).toContain(`sallyport approvals show ${ticket}`)
      const tried = await call(client, 'approvals_review', { ticket, decision: 'approve' })
      expect(tried.structuredContent).toMatchObject({ code: 'ERR_INVALID_INPUT' })
    }
    expect((await room.inbox.show(BOB, ticket)).votes).toEqual([])
  })

  it.each(ERAS)('exists for approvers only, and so does what waits for them (%s)', async (_, connect) => {
    const { ticket } = await open()
    const agent = await connect(gateway.url, 'token-agent')
    const bob = await connect(gateway.url, 'token-bob')
    clients.push(agent, bob)
    const names = async (client: AnyClient) => (await client.listTools()).tools.map(({ name }) => name)
    expect(await names(agent)).not.toContain('approvals_review')
    expect(await names(bob)).toContain('approvals_review')
    await expect(call(agent, 'approvals_review', { ticket })).rejects.toThrow('ERR_UNKNOWN_TOOL')
    type Reader = {
      listResources(): Promise<{ resources: readonly { uri: string }[] }>
      readResource(of: { uri: string }): Promise<{ contents: readonly { text?: string }[] }>
    }
    const [asAgent, asBob] = [agent, bob] as unknown as readonly [Reader, Reader]
    expect((await asAgent.listResources()).resources.map(({ uri }) => uri)).not.toContain(PENDING_URI)
    await expect(asAgent.readResource({ uri: PENDING_URI })).rejects.toThrow(/not found/iu)
    const { contents } = await asBob.readResource({ uri: PENDING_URI })
    expect(JSON.parse(contents[0]?.text ?? '')).toMatchObject({ pending: [{ ticket, requester: 'ana-agent' }] })
  })

  it('a listening approver hears of each change, and nobody else may listen', async () => {
    const { room, ticket } = await open()
    const listen = (token: string) => {
      const { body, headers } = modernCall({})
      const { _meta } = (body as { params: { _meta: object } }).params
      return raw(gateway.url, {
        token,
        headers: { ...headers, 'mcp-method': 'subscriptions/listen', 'mcp-name': '' },
        body: {
          jsonrpc: '2.0',
          id: 1,
          method: 'subscriptions/listen',
          params: { _meta, notifications: { resourceSubscriptions: [PENDING_URI] } },
        },
      })
    }
    expect((await listen('token-agent')).status).toBe(403)
    const stream = (await listen('token-carol')).body?.pipeThrough(new TextDecoderStream()).getReader()
    let heard = ''
    const until = async (what: RegExp): Promise<void> => {
      while (!what.test(heard)) {
        const { value, done } = (await stream?.read()) ?? { done: true }
        if (done) throw new Error(`the stream ended: ${heard}`)
        heard += value
      }
    }
    await until(/acknowledged/u)
    heard = ''
    const { digest } = await room.inbox.show(BOB, ticket)
    await room.inbox.vote({ viewer: BOB, ticket, digest, decision: 'deny' })
    await until(/approvals:\/\/pending/u)
    await stream?.cancel()
  })
})
