import { createServer, request as httpRequest, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import type { Inbox } from '../../src/approval/inbox.ts'
import type { TicketView } from '../../src/approval/view.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { ROLES, type Principal } from '../../src/core/principal.ts'
import { createAdmin } from '../../src/doors/admin/admin.ts'
import type { Neighbourhood } from '../../src/doors/admin/guard.ts'
import type { AdminAct, AdminRooms } from '../../src/doors/admin/rooms.ts'

/** One bearer per role, one with none, and their tokens. */
export const BEARERS: ReadonlyMap<string, Principal> = new Map(
  [...ROLES.map((role) => [role, [role]] as const), ['nothing', []] as const].map(([id, roles]) => [
    `sp_token_of_${id}`,
    { id, kind: 'person', groups: [], roles, owner: id, credentialId: `k-${id}` },
  ]),
)

/** What a request brought back. */
export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
}

/** The admin door on a real listener, over rooms that only answer. */
export async function openAdmin(changes: Partial<AdminRooms> = {}, place: Partial<Neighbourhood> = {}) {
  const acts: AdminAct[] = []
  const faults: SallyportError[] = []
  const revoked = new Set<string>()
  const ticket: TicketView = {
    id: 't1',
    state: 'pending',
    digest: 'd1',
    requester: { id: 'bot', kind: 'agent', owner: 'maria' },
    target: 'shop-db',
    protocol: 'postgres',
    tool: 'query_database',
    verbs: ['sql.update'],
    rules: ['writes'],
    policyVersion: 'v1',
    decisionReason: 'Writes need a person.',
    request: { text: 'UPDATE orders SET note = $1', params: ['x'] },
    requirements: [],
    votes: [],
    createdAt: 'now',
    expiresAt: 'later',
    mayAnswer: true,
    unresolved: [],
    history: [],
  }
  const status = { version: 'v1', directory: '/policies', rules: 0, loadedAt: 'now' }
  const facts = {
    id: 'k1',
    principal: 'bot',
    kind: 'agent' as const,
    owner: 'maria',
    groups: [],
    roles: [],
    createdAt: 'now',
    createdBy: 'operator',
    expiresAt: 'later',
    state: 'active' as const,
  }
  const rooms: AdminRooms = {
    identity: {
      authenticate: async (token) => {
        const principal = revoked.has(token) ? undefined : BEARERS.get(token)
        if (principal === undefined) throw new SallyportError('ERR_UNAUTHENTICATED', 'The token is not known.')
        return principal
      },
      create: async () => ({ token: 'sp_fresh', facts }),
      list: async () => [facts],
      revoke: async () => facts,
      confirm: async () => facts,
    },
    browsers: { open: async () => 'none', find: async () => undefined, end: async () => undefined },
    approvals: inboxOf(ticket),
    sessions: {
      list: async () => ({ sessions: [], unheard: [] }),
      kill: async () => ({ isKilled: true, unheard: [] }),
    },
    freezes: {
      list: async () => [],
      freeze: async (subject, by, reason) => ({ ...subject, by, reason, since: 'now' }),
      unfreeze: async () => undefined,
    },
    policy: { status: () => status, reload: async () => status },
    recordings: {
      list: async () => [],
      replay: async () => Readable.from([]),
      show: async () => Readable.from(['a transcript', 'of two lines']),
    },
    kubernetes: () => ({ url: 'https://127.0.0.1:7443' }),
    metrics: () => 'sallyport_up 1\n',
    isReady: () => true,
    record: async (act) => {
      acts.push(act)
    },
    onFault: (error) => {
      faults.push(error)
    },
    ...changes,
  }
  const door = createAdmin(rooms, {
    hosts: ['127.0.0.1', 'localhost'],
    origins: ['https://good.example'],
    isTls: false,
    ...place,
  })
  const server: Server = createServer(door.app)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo

  /** `fetch` forbids the headers these tests are about, so the request is made by hand. */
  function ask(
    method: string,
    path: string,
    options: { readonly token?: string; readonly headers?: Record<string, string>; readonly body?: string } = {},
  ): Promise<Reply> {
    const headers = {
      ...(options.token !== undefined && { authorization: `Bearer ${options.token}` }),
      ...(options.body !== undefined && { 'content-type': 'application/json' }),
      ...options.headers,
    }
    return new Promise((resolve, reject) => {
      const request = httpRequest({ host: '127.0.0.1', port, method, path, headers, agent: false }, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (piece: string) => (text += piece))
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }))
        response.on('error', reject)
      })
      request.on('error', reject)
      request.end(options.body)
    })
  }

  async function close(): Promise<void> {
    door.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  return { url: `http://127.0.0.1:${port}`, ask, acts, faults, revoked, ticket, close }
}

/** An inbox that holds one ticket and refuses nobody. */
export function inboxOf(ticket: TicketView, changes: Partial<Inbox> = {}): Inbox {
  return {
    list: async () => [ticket],
    pending: async () => [ticket],
    show: async () => ticket,
    vote: async () => ticket,
    confirm: async () => undefined,
    cancel: async () => ticket,
    resolve: async () => ticket,
    watch: async function* () {
      yield ticket
    },
    offers: async function* () {
      yield { kind: 'open', ticket }
    },
    ...changes,
  }
}
