import type { TicketView } from '../../src/approval/view.ts'
import { AGENT } from './harness.ts'

/** An open ticket of the agent, as an approver sees it. */
export const TICKET: TicketView = {
  id: 'T-1',
  state: 'pending',
  digest: 'digest-0123456789abcdef',
  requester: { id: AGENT.id, kind: AGENT.kind, owner: AGENT.owner },
  target: 'shop-db',
  protocol: 'postgres',
  tool: 'query_database',
  verbs: ['sql.update'],
  rules: ['writes-need-a-dba'],
  policyVersion: 'v1',
  decisionReason: 'Writes need a DBA.',
  request: { text: 'UPDATE orders SET total = $1 WHERE id = $2', params: ['1', null] },
  agentSays: 'fixing a typo',
  requirements: [
    {
      rule: 'writes-need-a-dba',
      anyOf: ['group:dba'],
      count: 1,
      expiresMs: 60_000,
      reasonRequired: false,
      by: [],
      isMet: false,
    },
  ],
  votes: [],
  createdAt: new Date().toISOString(),
  expiresAt: new Date(Date.now() + 600_000).toISOString(),
  mayAnswer: true,
  unresolved: [],
  history: [],
}
