import { z } from 'zod'
import type { Inbox } from '../../approval/inbox.ts'
import type { TicketView } from '../../approval/view.ts'
import { SallyportError } from '../../core/errors.ts'
import { ROLES, type Principal, type Role } from '../../core/principal.ts'
import { parseBody, type Route } from './route.ts'

/** Of each result in a transcript. */
const RESULT_BYTES_MAX = 1024 * 1024

/** Only the shape: names, lengths and which role is for whom are identity's to check. */
const newToken = z.strictObject({
  principal: z.string(),
  kind: z.enum(['agent', 'person', 'service']),
  owner: z.string(),
  groups: z.array(z.string()).max(64).default([]),
  roles: z.array(z.enum(ROLES)).min(1).max(ROLES.length),
  acts_for: z.string().optional(),
  ssh_key: z.string().max(4096).optional(),
  expires_in_ms: z.int(),
})

const reason = z.string().max(2_000)
/** Who may look at tickets, and whose role it is to answer them. */
export const READERS: readonly [Role, ...Role[]] = ['approver', 'operator', 'auditor']
export const VOTERS: readonly [Role, ...Role[]] = ['approver']

const vote = z.strictObject({
  decision: z.enum(['approve', 'deny']),
  digest: z.string().min(1).max(256),
  reason: reason.optional(),
  covers: z.string().min(1).max(64).optional(),
})
const frozen = z.strictObject({
  kind: z.enum(['principal', 'target']),
  name: z.string().refine((name) => /^[a-z0-9][a-z0-9._@+-]{0,99}$/.test(name), {
    error:
      'is no name of a principal or a target: those have 1 to 100 lower-case letters, digits and ". _ @ + -", and begin ' +
      'with a letter or a digit',
  }),
})
const freeze = frozen.extend({
  reason: z.string().min(1).max(500),
  for_ms: z
    .int()
    .min(1_000)
    .max(365 * 86_400_000)
    .optional(),
})
const resolution = z.strictObject({ took_effect: z.boolean(), reason: reason.min(1) })

/**
 * Everything the admin door does, and who may do it. This is the one place roles are compared with; there is no other
 * check of a role in this folder. What a person may do to one particular ticket or token is the room's behind it to say.
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
    path: '/v1/kubernetes',
    audience: 'any-token',
    handle: (_request, rooms) => {
      const door = rooms.kubernetes()
      if (door === undefined) {
        throw new SallyportError('ERR_INVALID_INPUT', 'This gateway has no Kubernetes door.', {
          facts: { hint: 'Set listen.kubernetes in its configuration.' },
        })
      }
      return { json: door }
    },
  },
  {
    method: 'get',
    path: '/v1/tokens',
    audience: ['operator', 'approver', 'auditor'],
    handle: async (_request, rooms) => ({ json: { tokens: await rooms.identity.list() } }),
  },
  {
    method: 'post',
    path: '/v1/tokens',
    audience: ['operator'],
    recordedBy: 'identity',
    handle: async ({ principal, body }, rooms) => {
      const asked = parseBody(newToken, body)
      const { token, facts } = await rooms.identity.create(principal, {
        principal: asked.principal,
        kind: asked.kind,
        owner: asked.owner,
        groups: asked.groups,
        roles: asked.roles,
        ...(asked.acts_for !== undefined && { actsFor: asked.acts_for }),
        ...(asked.ssh_key !== undefined && { sshKey: asked.ssh_key }),
        expiresInMs: asked.expires_in_ms,
      })
      return { status: 201, json: { token, ...facts } }
    },
  },
  {
    method: 'post',
    path: '/v1/tokens/:id/revoke',
    audience: 'any-token',
    recordedBy: 'identity',
    handle: async ({ principal, id }, rooms) => ({ json: await rooms.identity.revoke(principal, id) }),
  },
  {
    method: 'post',
    path: '/v1/tokens/:id/confirm',
    audience: ['approver'],
    recordedBy: 'identity',
    handle: async ({ principal, id }, rooms) => ({ json: await rooms.identity.confirm(principal, id) }),
  },
  {
    method: 'get',
    path: '/v1/approvals',
    audience: READERS,
    handle: async ({ principal, query }, rooms) => ({
      json: { approvals: await rooms.approvals.list(principal, { all: query['all'] === 'true' }) },
    }),
  },
  {
    method: 'get',
    path: '/v1/approvals/watch',
    audience: READERS,
    handle: ({ principal, signal }, rooms) => ({ events: tickets(rooms.approvals, principal, signal) }),
  },
  {
    method: 'get',
    path: '/v1/approvals/:id',
    audience: READERS,
    handle: async ({ principal, id }, rooms) => ({ json: await rooms.approvals.show(principal, id) }),
  },
  {
    method: 'post',
    path: '/v1/approvals/:id/vote',
    audience: VOTERS,
    recordedBy: 'approval',
    handle: async ({ principal, id, body }, rooms) => {
      const { reason: why, covers, ...given } = parseBody(vote, body)
      const said = { ...(why !== undefined && { reason: why }), ...(covers !== undefined && { covers }) }
      return { json: await rooms.approvals.vote({ viewer: principal, ticket: id, ...given, ...said }) }
    },
  },
  {
    method: 'post',
    path: '/v1/approvals/:id/cancel',
    audience: 'any-token',
    recordedBy: 'approval',
    handle: async ({ principal, id }, rooms) => ({ json: await rooms.approvals.cancel(principal, id) }),
  },
  {
    method: 'post',
    path: '/v1/approvals/:id/resolve',
    audience: ['approver', 'operator'],
    recordedBy: 'approval',
    handle: async ({ principal, id, body }, rooms) => {
      const { took_effect: tookEffect, reason: why } = parseBody(resolution, body)
      return { json: await rooms.approvals.resolve({ viewer: principal, ticket: id, tookEffect, reason: why }) }
    },
  },
  {
    method: 'get',
    path: '/v1/sessions',
    audience: ['operator', 'auditor'],
    handle: async (_request, rooms) => ({ json: await rooms.sessions.list() }),
  },
  {
    method: 'delete',
    path: '/v1/sessions/:id',
    audience: ['operator'],
    act: 'session.kill',
    handle: async ({ principal, id }, rooms) => {
      const { isKilled, unheard } = await rooms.sessions.kill(id, principal)
      if (isKilled) return { json: { killed: id } }
      if (unheard.length > 0) return { status: 202, json: { asked: id, unheard } }
      throw new SallyportError('ERR_INVALID_INPUT', 'There is no open session of that id.')
    },
  },
  {
    method: 'get',
    path: '/v1/freezes',
    audience: ['operator', 'auditor'],
    handle: async (_request, rooms) => ({ json: { freezes: await rooms.freezes.list() } }),
  },
  {
    method: 'post',
    path: '/v1/freezes',
    audience: ['operator'],
    act: 'freeze',
    handle: async ({ principal, body }, rooms) => {
      const { kind, name, reason: why, for_ms: forMs } = parseBody(freeze, body)
      const facts = await rooms.freezes.freeze({ kind, name }, principal.id, why, forMs)
      return { status: 201, json: facts, facts: { kind, name, why, ...(forMs !== undefined && { for_ms: forMs }) } }
    },
  },
  {
    method: 'post',
    path: '/v1/unfreeze',
    audience: ['operator'],
    act: 'unfreeze',
    handle: async ({ body }, rooms) => {
      const { kind, name } = parseBody(frozen, body)
      await rooms.freezes.unfreeze({ kind, name })
      return { json: { unfrozen: { kind, name } }, facts: { kind, name } }
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
    path: '/v1/recordings/:id/replay',
    audience: ['auditor'],
    act: 'recording.replay',
    handle: async ({ id }, rooms) => ({ lines: await rooms.recordings.replay(id) }),
  },
  {
    method: 'get',
    path: '/v1/recordings/:id',
    audience: ['auditor'],
    act: 'recording.show',
    handle: async ({ id, query }, rooms) => ({
      lines: await rooms.recordings.show(
        id,
        Math.min(Math.max(0, Number(query['results'] ?? 0) || 0), RESULT_BYTES_MAX),
      ),
    }),
  },
]

/** What waits for an approver now and whatever becomes of it; for others, each change of a ticket they may see. */
async function* tickets(inbox: Inbox, viewer: Principal, signal: AbortSignal): AsyncGenerator<TicketView> {
  if (!viewer.roles.includes('approver')) {
    yield* inbox.watch(viewer, signal)
    return
  }
  for await (const offer of inbox.offers(viewer, signal)) {
    yield offer.kind === 'open' ? offer.ticket : await inbox.show(viewer, offer.ticket)
  }
}
