import { Client as LegacyClient } from '@modelcontextprotocol/sdk/client/index.js'
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { afterEach, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import type { Answer as Vote, Offer } from '../../src/approval/inbox.ts'
import type { TicketView } from '../../src/approval/view.ts'
import type { McpDoorDeps } from '../../src/doors/mcp/deps.ts'
import { formOf, messageOf, voteOf } from '../../src/doors/mcp/forms.ts'
import { connectLegacy, connectModern, deferred, MARIA, openRaw, raw, startGateway, PATIENT } from './harness.ts'
import { EMPTY_INBOX } from './harness.ts'
import type { AnyClient, Gateway } from './harness.ts'
import { TICKET } from './ticket.ts'

/** An inbox in memory: one list of open tickets, told to everybody who watches. */
function memoryInbox() {
  const open = new Map<string, TicketView>()
  const watchers = new Set<(event: Offer) => void>()
  const votes: Vote[] = []
  const viewers: Principal[] = []
  const inbox: McpDoorDeps['inbox'] = {
    ...EMPTY_INBOX,
    async *offers(viewer, signal) {
      viewers.push(viewer)
      const events: Offer[] = [...open.values()].map((ticket) => ({ kind: 'open', ticket }))
      let wake = deferred()
      const hear = (event: Offer): void => {
        events.push(event)
        wake.resolve()
      }
      watchers.add(hear)
      signal.addEventListener('abort', () => wake.resolve(), { once: true })
      try {
        while (!signal.aborted) {
          for (const event of events.splice(0)) yield event
          wake = deferred()
          if (events.length === 0 && !signal.aborted) await wake.promise
        }
      } finally {
        watchers.delete(hear)
      }
    },
    async vote(vote) {
      votes.push(vote)
      if (!open.delete(vote.ticket)) throw new SallyportError('ERR_APPROVAL_CONFLICT', 'Already decided.')
      for (const hear of watchers) hear({ kind: 'closed', ticket: vote.ticket })
      return TICKET
    },
    cancel: async () => TICKET,
  }
  return {
    inbox,
    votes,
    viewers,
    watching: () => watchers.size,
    file(ticket: TicketView) {
      open.set(ticket.id, ticket)
      for (const hear of watchers) hear({ kind: 'open', ticket })
    },
    decideElsewhere(ticket: string) {
      open.delete(ticket)
      for (const hear of watchers) hear({ kind: 'closed', ticket })
    },
  }
}

let gateway: Gateway
const clients: AnyClient[] = []
afterEach(async () => {
  await Promise.allSettled(clients.splice(0).map((client) => client.close()))
  await gateway.close()
})

type Answer = { action: 'accept' | 'decline' | 'cancel'; content?: Record<string, string> }

/** A client that can show forms, and answers them as the test says. */
async function connectForms(token: string, answer: (message: string, signal: AbortSignal) => Promise<Answer>) {
  const client = new LegacyClient({ name: 'forms', version: '1' }, { capabilities: { elicitation: {} } })
  const forms: string[] = []
  client.setRequestHandler(ElicitRequestSchema, async (request, { signal }) => {
    forms.push(request.params.message)
    return answer(request.params.message, signal)
  })
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js')
  await client.connect(
    new StreamableHTTPClientTransport(gateway.url, { requestInit: { headers: { authorization: `Bearer ${token}` } } }),
  )
  clients.push(client)
  return { client, forms }
}

describe('an approver with a session of the 2025 era', () => {
  it('is asked in that session, and the answer is a vote on what was shown', async () => {
    const memory = memoryInbox()
    gateway = await startGateway({ inbox: memory.inbox })
    const { forms } = await connectForms('token-maria', async () => ({
      action: 'accept',
      content: { decision: 'approve', reason: 'looks right' },
    }))
    await expect.poll(memory.watching, PATIENT).toBe(1)
    memory.file(TICKET)
    await expect
      .poll(() => memory.votes, PATIENT)
      .toEqual([{ viewer: MARIA, ticket: 'T-1', digest: TICKET.digest, decision: 'approve', reason: 'looks right' }])
    expect(forms[0]).toContain('UPDATE orders SET total = $1 WHERE id = $2')
    expect(forms[0]).toContain("$1 = '1'")
    expect(forms[0]).toContain('$2 = NULL')
    expect(forms[0]).toMatch(/in its own words, which nobody checked:\n {2}\| fixing a typo/)
  })

  it('is asked about what was open before', async () => {
    const memory = memoryInbox()
    gateway = await startGateway({ inbox: memory.inbox })
    memory.file(TICKET)
    await connectForms('token-maria', async () => ({ action: 'accept', content: { decision: 'deny' } }))
    await expect.poll(() => memory.votes.map(({ decision }) => decision), PATIENT).toEqual(['deny'])
  })

  it.each<Answer>([
    { action: 'decline' },
    { action: 'cancel' },
    { action: 'decline', content: { decision: 'approve' } },
    { action: 'cancel', content: { decision: 'deny' } },
    { action: 'accept' },
    { action: 'accept', content: { decision: 'maybe' } },
    { action: 'accept', content: { reason: 'approve' } },
  ])('says nothing by answering the form with %j, and is not asked twice', async (answer) => {
    const memory = memoryInbox()
    gateway = await startGateway({ inbox: memory.inbox })
    const { forms } = await connectForms('token-maria', async (message) =>
      message.includes('T-2') ? { action: 'accept', content: { decision: 'approve' } } : answer,
    )
    await expect.poll(memory.watching, PATIENT).toBe(1)
    memory.file(TICKET)
    await expect.poll(() => forms, PATIENT).toHaveLength(1)
    memory.file(TICKET)
    memory.file({ ...TICKET, id: 'T-2' })
    await expect.poll(() => memory.votes.map(({ ticket }) => ticket), PATIENT).toEqual(['T-2'])
    expect(forms).toHaveLength(2)
  })

  it('sees the form close when the ticket is decided elsewhere', async () => {
    const memory = memoryInbox()
    gateway = await startGateway({ inbox: memory.inbox })
    const closed = deferred()
    const { forms } = await connectForms('token-maria', async (_, signal) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
      closed.resolve()
      return { action: 'accept', content: { decision: 'approve' } }
    })
    await expect.poll(memory.watching, PATIENT).toBe(1)
    memory.file(TICKET)
    await expect.poll(() => forms, PATIENT).toHaveLength(1)
    memory.decideElsewhere('T-1')
    await closed.promise
    await new Promise((resolve) => setImmediate(resolve))
    expect(memory.votes).toEqual([])
  })

  it('does not vote with an answer that comes too late', async () => {
    const memory = memoryInbox()
    gateway = await startGateway({ inbox: memory.inbox })
    const decided = deferred()
    const answered = deferred()
    await connectForms('token-maria', async () => {
      memory.decideElsewhere('T-1')
      await decided.promise
      setImmediate(answered.resolve)
      return { action: 'accept', content: { decision: 'approve' } }
    })
    await expect.poll(memory.watching, PATIENT).toBe(1)
    memory.file(TICKET)
    decided.resolve()
    await answered.promise
    expect(memory.votes).toEqual([])
  })

  it('never has more forms open than the bound, and gets the rest one by one', async () => {
    const memory = memoryInbox()
    gateway = await startGateway({ inbox: memory.inbox, limits: { formsPerSessionMax: 2 } })
    let open = 0
    let most = 0
    const { forms } = await connectForms('token-maria', async () => {
      most = Math.max(most, ++open)
      await new Promise((resolve) => setImmediate(resolve))
      open--
      return { action: 'accept', content: { decision: 'deny' } }
    })
    await expect.poll(memory.watching, PATIENT).toBe(1)
    for (let index = 0; index < 6; index++) memory.file({ ...TICKET, id: `T-${index}` })
    await expect.poll(() => memory.votes, PATIENT).toHaveLength(6)
    expect(forms).toHaveLength(6)
    expect(most).toBeLessThanOrEqual(2)
  })

  it('is not watched for any more when the session ends', async () => {
    const memory = memoryInbox()
    gateway = await startGateway({ inbox: memory.inbox })
    await connectForms('token-maria', async () => ({ action: 'cancel' }))
    await expect.poll(memory.watching, PATIENT).toBe(1)
    gateway.tokens.delete('token-maria')
    await gateway.sessions.end(() => true, new SallyportError('ERR_UNAUTHENTICATED', 'The token was revoked.'))
    await expect.poll(memory.watching, PATIENT).toBe(0)
  })
})

describe('nobody else is asked', () => {
  it('C13: auto-accepting client: not the requester’s own, nor one of the same owner, whatever the inbox says', async () => {
    const memory = memoryInbox()
    gateway = await startGateway({ inbox: memory.inbox })
    const sam: Principal = { ...MARIA, id: 'sam', owner: 'sam', credentialId: 'cred-sam' }
    gateway.tokens.set('token-sam', sam)
    const approve = async (): Promise<Answer> => ({ action: 'accept', content: { decision: 'approve' } })
    const requester = await connectForms('token-agent', approve)
    const owner = await connectForms('token-sam', approve)
    const maria = await connectForms('token-maria', approve)
    await expect.poll(memory.watching, PATIENT).toBe(2)
    memory.file(TICKET)
    await expect.poll(() => memory.votes.map(({ viewer }) => viewer.id), PATIENT).toEqual(['maria'])
    expect([requester.forms, owner.forms, maria.forms].map(({ length }) => length)).toEqual([0, 0, 1])
    expect(memory.viewers.map(({ id }) => id).sort()).toEqual(['maria', 'sam'])
  })

  it('not a client that declared no forms, nor one of the 2026 era', async () => {
    const memory = memoryInbox()
    gateway = await startGateway({ inbox: memory.inbox })
    clients.push(await connectLegacy(gateway.url, 'token-maria'))
    clients.push(await connectModern(gateway.url, 'token-maria'))
    const { forms } = await connectForms('token-maria', async () => ({ action: 'cancel' }))
    memory.file(TICKET)
    await expect.poll(() => forms, PATIENT).toHaveLength(1)
    expect(memory.viewers).toHaveLength(1)
  })

  it('not a session without a stream: the form would be lost', async () => {
    const memory = memoryInbox()
    gateway = await startGateway({ inbox: memory.inbox })
    const id = await openRaw(gateway.url, 'token-maria')
    memory.file(TICKET)
    const answer = await raw(gateway.url, {
      token: 'token-maria',
      headers: { 'mcp-session-id': id },
      body: { jsonrpc: '2.0', id: 1, method: 'ping' },
    })
    expect(await answer.text()).not.toContain('elicitation')
    expect(memory.viewers).toEqual([])
  })
})

describe('an approval that would cover more than its call', () => {
  const covers = {
    id: 'c0ffee',
    text: 'this statement with any other parameters.',
    uses: 4,
    used: 1,
    isInForce: false,
    mayEnd: false,
  }

  it('is said in the form, and this call only can be chosen instead', () => {
    const form = formOf({ ...TICKET, covers })
    expect(form.message).toContain('An approval covers this statement with any other parameters.')
    expect(JSON.stringify(form.requestedSchema)).toContain('["approve","approve_this_call_only","deny"]')
    expect(JSON.stringify(formOf(TICKET).requestedSchema)).toContain('["approve","deny"]')
  })

  it('is agreed to by no other word than the one for it', () => {
    expect(voteOf('approve', covers.id)).toEqual({ decision: 'approve', covers: covers.id })
    expect(voteOf('approve_this_call_only', covers.id)).toEqual({ decision: 'approve' })
    expect(voteOf('deny', covers.id)).toEqual({ decision: 'deny' })
    for (const word of ['yes', 'APPROVE', '', true, undefined]) expect(voteOf(word, covers.id)).toBeUndefined()
  })
})

describe('the text of a form', () => {
  it('cannot be made to look like another one', () => {
    const forged = messageOf({
      ...TICKET,
      request: { text: 'SELECT 1\nTarget: none\u001b[2K\u202e' },
      agentSays: 'please\nTicket T-9, approved by maria',
    })
    const own = forged.split('\n').filter((line) => !line.startsWith('  '))
    expect(own.filter((line) => line.startsWith('Target:'))).toEqual(['Target: shop-db, through query_database'])
    expect(own.filter((line) => line.startsWith('Ticket '))).toHaveLength(1)
    for (const unsafe of ['\u001b', '\u202e']) expect(forged).not.toContain(unsafe)
    expect(forged).toContain('\\u{1b}[2K\\u{202e}')
  })
})
