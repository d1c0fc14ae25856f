// People, calls and judgements for the tests of this room and for the processes they start; needs no test runner.
import { randomUUID } from 'node:crypto'
import type { Call, Judged } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { ApprovalRequirement, Decision } from '../../src/core/decision.ts'
import type { Principal } from '../../src/core/principal.ts'

/** Ana's agent asks; Bob and Carol are DBAs; Dave leads; Olga operates. */
export const AGENT: Principal = principal('ana-agent', 'agent', 'ana', { actsFor: 'ana' })
export const ANA = principal('ana', 'person', 'ana', { roles: ['approver', 'operator'], groups: ['dba'] })
export const BOB = principal('bob', 'person', 'bob', { roles: ['approver'], groups: ['dba'] })
export const BOB_PHONE = principal('bob-phone', 'person', 'bob', { roles: ['approver'], groups: ['dba'] })
export const CAROL = principal('carol', 'person', 'carol', { roles: ['approver'], groups: ['dba', 'lead'] })
export const DAVE = principal('dave', 'person', 'dave', { roles: ['approver'], groups: ['lead'] })
export const OLGA = principal('olga', 'person', 'olga', { roles: ['operator'] })

export function principal(
  id: string,
  kind: Principal['kind'],
  owner: string,
  more: Partial<Principal> = {},
): Principal {
  return { id, kind, owner, groups: [], roles: ['caller'], ...more }
}

export function requirement(more: Partial<ApprovalRequirement> = {}): ApprovalRequirement {
  return { rule: 'writes', anyOf: ['group:dba'], count: 1, expiresMs: 900_000, reasonRequired: false, ...more }
}

export function judged(
  more: { exact?: Judged['plan']['exact']; decision?: Partial<Decision>; text?: string } = {},
): Judged {
  const text = more.text ?? 'UPDATE orders SET price = 1 WHERE id = 7'
  return {
    plan: {
      action: {
        parts: [{ verb: 'sql.update', resource: { type: 'sql', name: 'public.orders' }, attributes: {} }],
        attributes: {},
      },
      exact: more.exact ?? { text, params: [] },
      shown: { text },
      masks: [],
    },
    decision: {
      effect: 'require_approval',
      rules: ['writes'],
      reason: 'Writes need a DBA.',
      obligations: { rates: [], budgets: [], columns: [], detect: [] },
      approvals: [requirement()],
      policyVersion: 'v1',
      parts: [],
      ...more.decision,
    },
    shown: { text },
  }
}

export function call(more: Partial<Call> & { readonly as?: Principal; readonly waitMs?: number } = {}): Call {
  const { as = AGENT, waitMs = 60_000, ...rest } = more
  return {
    id: randomUUID(),
    session: {
      id: randomUUID(),
      principal: as,
      door: 'mcp',
      signal: new AbortController().signal,
      recording: {
        begin: () => {
          throw new Error('not recorded here')
        },
        refused: async () => undefined,
        close: async () => undefined,
      },
    },
    target: {
      name: 'shop-db',
      protocol: 'postgres',
      labels: {},
      mode: 'enforce',
      record: 'full',
      endpoint: 'db.internal:5432/shop',
      options: {},
    },
    tool: 'query_database',
    payload: { target: 'shop-db', sql: 'UPDATE orders SET price = 1 WHERE id = 7' },
    signal: new AbortController().signal,
    hold: { waitMs },
    ...rest,
  }
}

export const ROWS: Chunk = { kind: 'data', channel: 'rows', rows: [['7', 'masked']] }
export const EXIT: Chunk = { kind: 'exit', status: 'UPDATE 1', rowCount: 1, truncated: false }
