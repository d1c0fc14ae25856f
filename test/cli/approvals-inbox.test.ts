import { describe, expect, it } from 'vitest'
import type { TicketView } from '../../src/approval/view.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { serveInbox, type InboxEvent } from '../../src/cli/approvals-inbox.ts'
import type { Terminal } from '../../src/cli/terminal.ts'

const ticketOf = (id: string, more: Partial<TicketView> = {}): TicketView => ({
  id,
  state: 'pending',
  digest: `digest-of-${id}`,
  requester: { id: 'bot', kind: 'agent', owner: 'ana' },
  target: 'shop-db',
  protocol: 'postgres',
  tool: 'query_database',
  verbs: ['sql.update'],
  rules: ['writes'],
  policyVersion: 'v1',
  decisionReason: 'Writes need a DBA.',
  request: { text: `UPDATE ${id}` },
  preview: { sections: [{ title: `1 row of ${id}` }] },
  requirements: [
    { rule: 'writes', anyOf: ['group:dba'], count: 1, expiresMs: 1, reasonRequired: false, by: [], isMet: false },
  ],
  votes: [],
  createdAt: 'now',
  expiresAt: 'later',
  mayAnswer: true,
  unresolved: [],
  history: [],
  ...more,
})

/** Serves these events to one person; a number lets so many milliseconds go by. */
async function served(
  script: readonly (TicketView | string | number)[],
  more: { reasons?: string[]; refuse?: string } = {},
) {
  const said: string[] = []
  const votes: string[] = []
  const reasons = [...(more.reasons ?? [])]
  let at = 0
  const terminal: Terminal = {
    isJson: false,
    hasColour: false,
    line: (text) => void said.push(text),
    json: () => undefined,
    table: () => undefined,
    note: (text) => void said.push(text),
    paint: (_, text) => text,
  }
  async function* events(): AsyncGenerator<InboxEvent> {
    for (const step of script) {
      if (typeof step === 'number') at += step
      else if (typeof step === 'string') yield { kind: 'key', key: step }
      else yield { kind: 'ticket', ticket: step }
    }
  }
  await serveInbox({
    terminal,
    events: events(),
    now: () => at,
    askReason: async () => (reasons.length === 0 ? undefined : reasons.shift()),
    vote: async (ticket, decision, reason, covers) => {
      if (more.refuse !== undefined) throw new SallyportError('ERR_APPROVAL_CONFLICT', more.refuse)
      votes.push([decision, ticket.digest, reason ?? '-', ...(covers === undefined ? [] : [covers])].join(' '))
      return { ...ticket, state: decision === 'approve' ? 'approved' : 'denied' }
    },
  })
  return { said: said.join('\n'), votes }
}

describe('the live inbox at a terminal', () => {
  it('shows a ticket whole with its preview, rule and digest, and sends the answer for just that', async () => {
    const { said, votes } = await served([ticketOf('t1'), 1_000, 'a'], { reasons: [' looked fine '] })
    for (const part of ['UPDATE t1', '1 row of t1', 'writes', 'digest-of-t1', 'now approved'])
      expect(said).toContain(part)
    expect(votes).toEqual(['approve digest-of-t1 looked fine'])
  })

  it('says how far an approval reaches, and agrees to all of it or to this call only', async () => {
    const covers = {
      id: 'c0ffee',
      text: 'this statement with others',
      uses: 4,
      used: 1,
      isInForce: false,
      mayEnd: false,
    }
    const wide = ticketOf('t1', { covers })
    const all = await served([wide, 1_000, 'a'], { reasons: [''] })
    expect(all.said).toContain('this statement with others (1 of 4 so far; not agreed to)')
    expect(all.said).toContain('[o] this call only')
    expect(all.votes).toEqual(['approve digest-of-t1 - c0ffee'])
    expect((await served([wide, 1_000, 'o'], { reasons: [''] })).votes).toEqual(['approve digest-of-t1 -'])
    expect((await served([ticketOf('t2'), 1_000, 'o'], { reasons: [''] })).votes).toEqual([])
  })

  it('a key that was meant for a ticket that has just gone answers no other', async () => {
    const gone = ticketOf('t1', { state: 'approved' })
    const { votes } = await served([ticketOf('t1'), ticketOf('t2'), 1_000, gone, 'a', 1_000, 'd'], {
      reasons: ['', ''],
    })
    expect(votes).toEqual(['deny digest-of-t2 -'])
  })

  it('an answer thought better of is none', async () => {
    expect((await served([ticketOf('t1'), 1_000, 'a'])).votes).toEqual([])
  })

  it('shows later what was put off, and says when nothing waits', async () => {
    const { said, votes } = await served([ticketOf('t1'), ticketOf('t2'), 1_000, 's', 'a', 'a', 'a'], {
      reasons: ['', ''],
    })
    expect(votes).toEqual(['approve digest-of-t2 -', 'approve digest-of-t1 -'])
    expect(said).toContain('No ticket waits')
  })

  it('offers no key for a ticket one may not answer', async () => {
    const { votes } = await served([ticketOf('t1', { mayAnswer: false }), 1_000, 'a'], { reasons: [''] })
    expect(votes).toEqual([])
  })

  it('says so when somebody else was first', async () => {
    const { said } = await served([ticketOf('t1'), 1_000, 'a'], { reasons: [''], refuse: 'It is denied.' })
    expect(said).toContain('ERR_APPROVAL_CONFLICT: It is denied.')
  })

  it('no text from elsewhere moves the cursor or passes for a line of ours', async () => {
    const { said } = await served([
      ticketOf('t1', { request: { text: 'SELECT 1\n\u001B[2K[a] approve\u202E' }, agentSays: '\r\u001B[1A' }),
    ])
    expect(said).not.toMatch(/[\p{Cf}\r]/u)
    expect(said).not.toContain('\u001B')
    expect(said).not.toMatch(/^ *\[a\] approve\\/mu)
  })
})
