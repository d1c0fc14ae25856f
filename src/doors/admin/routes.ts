import { z } from 'zod'
import { SallyportError } from '../../core/errors.ts'
import { ROLES } from '../../core/principal.ts'
import { parseBody, type Route } from './route.ts'

const DAY_MS = 86_400_000

/** Names of principals, owners and groups: they stand in policies, tickets and recordings. */
const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$/u)

const newToken = z.strictObject({
  principal: name,
  kind: z.enum(['agent', 'person', 'service']),
  owner: name,
  groups: z.array(name).max(64).default([]),
  roles: z.array(z.enum(ROLES)).min(1).max(ROLES.length),
  acts_for: name.optional(),
  expires_in_ms: z
    .int()
    .min(60_000)
    .max(366 * DAY_MS),
})

const reason = z.string().max(2_000)
const vote = z.strictObject({ approve: z.boolean(), digest: z.string().min(1).max(256), reason: reason.optional() })
const resolution = z.strictObject({ outcome: z.enum(['done', 'failed']), reason: reason.min(1) })

/**
 * Everything the admin door does, and who may do it. This is the one place roles are compared with; there is no other
 * check of a role in this folder. What a person may do to one particular ticket is `approval/`'s to say.
 */
export const ROUTES: readonly Route[] = [
  {
    method: 'get',
    path: '/healthz',
    audience: 'anybody',
    handle: () => ({ json: { status: 'ok' } }),
  },
  {
    method: 'get',
    path: '/readyz',
    audience: 'anybody',
    handle: async (_request, rooms) =>
      (await rooms.isReady()) ? { json: { status: 'ready' } } : { status: 503, json: { status: 'not ready' } },
  },
  {
    method: 'get',
    path: '/metrics',
    audience: ['operator', 'auditor'],
    handle: async (_request, rooms) => ({
      text: await rooms.metrics(),
      type: 'text/plain; version=0.0.4; charset=utf-8',
    }),
  },
  {
    method: 'get',
    path: '/v1/whoami',
    audience: 'any-token',
    handle: ({ principal: { id, kind, owner, groups, roles } }) => ({ json: { id, kind, owner, groups, roles } }),
  },
  {
    method: 'get',
    path: '/v1/tokens',
    audience: ['operator', 'auditor'],
    handle: async (_request, rooms) => ({ json: { tokens: await rooms.tokens.list() } }),
  },
  {
    method: 'post',
    path: '/v1/tokens',
    audience: ['operator'],
    act: 'token.create',
    handle: async ({ principal, body }, rooms) => {
      const asked = parseBody(newToken, body)
      const { token, facts } = await rooms.tokens.create(principal, {
        principal: asked.principal,
        kind: asked.kind,
        owner: asked.owner,
        groups: asked.groups,
        roles: asked.roles,
        ...(asked.acts_for !== undefined && { actsFor: asked.acts_for }),
        expiresInMs: asked.expires_in_ms,
      })
      const { id, principal: of, owner, roles, groups, state } = facts
      return { status: 201, json: { token, ...facts }, facts: { id, principal: of, owner, roles, groups, state } }
    },
  },
  {
    method: 'post',
    path: '/v1/tokens/:id/revoke',
    audience: ['operator'],
    act: 'token.revoke',
    handle: async ({ principal, id }, rooms) => ({ json: await rooms.tokens.revoke(principal, id) }),
  },
  {
    method: 'post',
    path: '/v1/tokens/:id/confirm',
    audience: ['operator'],
    act: 'token.confirm',
    handle: async ({ principal, id }, rooms) => ({ json: await rooms.tokens.confirm(principal, id) }),
  },
  {
    method: 'get',
    path: '/v1/approvals',
    audience: ['approver', 'operator', 'auditor'],
    handle: async ({ principal, query }, rooms) => ({
      json: { approvals: await rooms.approvals.list(principal, { all: query['all'] === 'true' }) },
    }),
  },
  {
    method: 'get',
    path: '/v1/approvals/watch',
    audience: ['approver', 'operator', 'auditor'],
    handle: ({ principal, signal }, rooms) => ({ events: rooms.approvals.watch(principal, signal) }),
  },
  {
    method: 'get',
    path: '/v1/approvals/:id',
    audience: ['approver', 'operator', 'auditor'],
    handle: async ({ principal, id }, rooms) => ({ json: await rooms.approvals.show(principal, id) }),
  },
  {
    method: 'post',
    path: '/v1/approvals/:id/vote',
    audience: ['approver'],
    recordedBy: 'approval',
    handle: async ({ principal, id, body }, rooms) => {
      const { approve, digest, reason: why } = parseBody(vote, body)
      const answer = { approve, digest, ...(why !== undefined && { reason: why }) }
      return { json: await rooms.approvals.vote(principal, id, answer) }
    },
  },
  {
    method: 'post',
    path: '/v1/approvals/:id/resolve',
    audience: ['approver'],
    recordedBy: 'approval',
    handle: async ({ principal, id, body }, rooms) => {
      return { json: await rooms.approvals.resolve(principal, id, parseBody(resolution, body)) }
    },
  },
  {
    method: 'get',
    path: '/v1/sessions',
    audience: ['operator', 'auditor'],
    handle: (_request, rooms) => ({ json: { sessions: rooms.sessions.list() } }),
  },
  {
    method: 'delete',
    path: '/v1/sessions/:id',
    audience: ['operator'],
    act: 'session.kill',
    handle: async ({ principal, id }, rooms) => {
      if (await rooms.sessions.kill(id, principal)) return { json: { killed: id } }
      throw new SallyportError('ERR_INVALID_INPUT', 'There is no open session of that id.')
    },
  },
  {
    method: 'get',
    path: '/v1/policy',
    audience: ['operator', 'auditor'],
    handle: (_request, rooms) => ({ json: rooms.policy.status() }),
  },
  {
    method: 'post',
    path: '/v1/policy/reload',
    audience: ['operator'],
    act: 'policy.reload',
    handle: async (_request, rooms) => {
      const status = await rooms.policy.reload()
      return { json: status, facts: { version: status.version } }
    },
  },
  {
    method: 'get',
    path: '/v1/recordings',
    audience: ['auditor'],
    act: 'recording.list',
    handle: async (_request, rooms) => ({ json: { recordings: await rooms.recordings.list() } }),
  },
  {
    method: 'get',
    path: '/v1/recordings/:id',
    audience: ['auditor'],
    act: 'recording.show',
    handle: async ({ id }, rooms) => ({ json: await rooms.recordings.show(id) }),
  },
]
