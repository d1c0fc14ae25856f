/**
 * Clients of the 2025 era: they open a session, keep its id and listen on a stream. Each session has a server and a
 * transport of its own, and belongs to the principal and the token that opened it: the id alone opens nothing.
 *
 * @packageDocumentation
 */
import { createHash, randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Server } from '@modelcontextprotocol/server'
import { isInitializeRequest, WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server'
import type { Session } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Principal } from '../../core/principal.ts'
import type { OwnedSession } from '../../gateway/sessions.ts'
import type { DoorLimits, McpDoorDeps } from './deps.ts'
import type { Forms } from './forms.ts'
import { openForms } from './forms.ts'
import type { Cursors } from './cursors.ts'
import { createServer } from './server.ts'

/** One session of the 2025 era. */
export interface LegacySession {
  readonly id: string
  readonly session: Session
  readonly transport: WebStandardStreamableHTTPServerTransport
}

interface Entry extends LegacySession {
  readonly owned: OwnedSession
  readonly server: Server
  /** Whose it is, as {@link bindingOf} says it. */
  readonly binding: string
  readonly tokenHash: string
  readonly closed: AbortController
  /** Resources the client wants to hear of. */
  readonly subscribed: Set<string>
  lastUsedAt: number
  /** Requests being answered, streams included. */
  open: number
  /** Streams on which the server can speak first. */
  listening: number
  forms: Forms | undefined
}

/** The sessions of the 2025 era. */
export interface LegacySessions {
  /**
   * Opens a session for an `initialize` request.
   *
   * @throws SallyportError `ERR_LIMIT_CONCURRENCY`, `ERR_RECORDING_FAILED`, `ERR_SHUTTING_DOWN`
   */
  open(caller: { readonly principal: Principal; readonly run?: string }, bearer: string): Promise<LegacySession>
  /** The session of this id if it is this caller's; `stranger` says that it exists and is somebody else's. */
  find(id: string, principal: Principal, bearer: string): LegacySession | 'stranger' | undefined
  /** Counts a request of the session as long as its response is open. */
  track(session: LegacySession, req: IncomingMessage, res: ServerResponse): void
  /** Called when the stream on which the server speaks first is up. */
  listens(session: LegacySession): void
  /** Ends a session, its calls and its streams. */
  end(session: LegacySession): Promise<void>
  /** Ends the session of this id if it was opened with this very token: the token is good for nothing any more. */
  endByToken(id: string, bearer: string): void
  /** Tells the clients that subscribed to it that a resource changed. */
  changed(uri: string): void
  close(): Promise<void>
}

/** Whether a request body opens a session. */
export const opensSession: (body: unknown) => boolean = isInitializeRequest

/** Keeps the sessions of the 2025 era. */
export function createLegacySessions(deps: McpDoorDeps, limits: DoorLimits, cursors: Cursors): LegacySessions {
  const entries = new Map<string, Entry>()
  /** Sessions being opened, so that the caps hold for requests that arrive together. */
  const opening = new Map<string, number>()
  const sweep = setInterval(() => {
    const before = Date.now() - limits.sessionIdleMs
    for (const entry of entries.values()) if (isIdle(entry) && entry.lastUsedAt <= before) void end(entry)
  }, limits.sweepMs)
  sweep.unref()

  function makeRoom(principal: Principal): void {
    const own = [...entries.values()].filter(({ session }) => session.principal.id === principal.id)
    const starting = opening.get(principal.id) ?? 0
    if (own.length + starting >= limits.sessionsPerPrincipalMax) {
      // Many clients leave without a word. The one that was silent longest makes room, but only ever for its own kind.
      const oldest = own.filter(isIdle).sort((a, b) => a.lastUsedAt - b.lastUsedAt)[0]
      if (oldest === undefined) throw tooMany()
      void end(oldest)
    }
    let total = entries.size
    for (const count of opening.values()) total += count
    if (total >= limits.sessionsMax) throw tooMany()
  }

  async function end(entry: Entry): Promise<void> {
    if (!entries.delete(entry.id)) return
    entry.closed.abort()
    try {
      await entry.server.close()
    } finally {
      await entry.owned.close()
    }
  }

  function entryOf(session: LegacySession): Entry | undefined {
    return entries.get(session.id)
  }

  return {
    async open(caller, bearer) {
      makeRoom(caller.principal)
      opening.set(caller.principal.id, (opening.get(caller.principal.id) ?? 0) + 1)
      try {
        const owned = await deps.sessions.open({ ...caller, door: 'mcp' })
        try {
          return await start(owned, bearer)
        } catch (error) {
          await owned.close()
          throw error
        }
      } finally {
        const left = (opening.get(caller.principal.id) ?? 1) - 1
        if (left === 0) opening.delete(caller.principal.id)
        else opening.set(caller.principal.id, left)
      }
    },

    find(id, principal, bearer) {
      const entry = entries.get(id)
      if (entry === undefined) return undefined
      if (entry.binding !== bindingOf(principal, bearer)) return 'stranger'
      // Groups or roles changed since: the session stands for somebody who is no more, so the client opens another.
      if (!isSame(entry.session.principal, principal)) {
        void end(entry)
        return undefined
      }
      return entry
    },

    track(session, req, res) {
      const entry = entryOf(session)
      if (entry === undefined) return
      const speaks = req.method === 'GET'
      entry.open++
      entry.lastUsedAt = Date.now()
      res.once('close', () => {
        entry.open--
        entry.lastUsedAt = Date.now()
        if (speaks && res.statusCode === 200) entry.listening--
      })
    },

    listens(session) {
      const entry = entryOf(session)
      if (entry === undefined) return
      entry.listening++
      if (entry.forms === undefined && canAsk(entry)) entry.forms = formsOf(entry)
      else entry.forms?.flush()
    },

    async end(session) {
      const entry = entryOf(session)
      if (entry !== undefined) await end(entry)
    },

    endByToken(id, bearer) {
      const entry = entries.get(id)
      // Somebody else's bad token must not end a session, so only the token that opened it counts.
      if (entry !== undefined && entry.tokenHash === hashOf(bearer)) void end(entry)
    },

    changed(uri) {
      for (const entry of entries.values()) {
        if (!entry.subscribed.has(uri) || entry.listening === 0) continue
        entry.server.sendResourceUpdated({ uri }).catch(() => undefined)
      }
    },

    async close() {
      clearInterval(sweep)
      await Promise.allSettled([...entries.values()].map(end))
    },
  }

  async function start(owned: OwnedSession, bearer: string): Promise<LegacySession> {
    const { session } = owned
    const id = randomUUID()
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => id,
      onsessionclosed: () => void end(entry),
    })
    const server = deps.factory?.() ?? createServer(deps, limits, cursors)
    const entry: Entry = {
      id,
      session,
      transport,
      owned,
      server,
      binding: bindingOf(session.principal, bearer),
      tokenHash: hashOf(bearer),
      closed: new AbortController(),
      subscribed: new Set(),
      lastUsedAt: Date.now(),
      open: 0,
      listening: 0,
      forms: undefined,
    }
    serveSubscriptions(entry)
    // A revoked token or an operator's kill ends the session in the gateway, and with it this one.
    session.signal.addEventListener('abort', () => void end(entry), { once: true })
    await server.connect(transport)
    entries.set(id, entry)
    return entry
  }

  function formsOf(entry: Entry): Forms {
    return openForms(
      {
        viewer: entry.session.principal,
        ask: (form, options) => entry.server.elicitInput(form, options),
        isListening: () => entry.listening > 0,
        // A client in wide use cannot cancel the request with the id 0, which is the first a server sends. With a ping
        // before every form, none has it, and every form can be closed.
        isReachable: (signal) =>
          entry.server.request({ method: 'ping' }, { timeout: PING_TIMEOUT_MS, signal }).then(
            () => true,
            () => false,
          ),
      },
      { inbox: deps.inbox, log: deps.log, now: Date.now },
      limits.formsPerSessionMax,
      entry.closed.signal,
    )
  }
}

function serveSubscriptions({ server, subscribed }: Entry): void {
  server.setRequestHandler('resources/subscribe', ({ params }) => {
    if (subscribed.size < SUBSCRIPTIONS_MAX) subscribed.add(params.uri)
    return {}
  })
  server.setRequestHandler('resources/unsubscribe', ({ params }) => {
    subscribed.delete(params.uri)
    return {}
  })
}

const SUBSCRIPTIONS_MAX = 32
const PING_TIMEOUT_MS = 10_000

/** Whether the person behind a session can be asked in it; on what, the inbox says. */
function canAsk({ session, server }: Entry): boolean {
  const { kind, roles } = session.principal
  return (
    kind === 'person' && roles.includes('approver') && server.getClientCapabilities()?.elicitation?.form !== undefined
  )
}

function isIdle(entry: Entry): boolean {
  return entry.open === 0
}

function bindingOf({ id, actsFor, credentialId }: Principal, bearer: string): string {
  return JSON.stringify([id, actsFor ?? null, credentialId ?? hashOf(bearer)])
}

/** Whether nothing that a decision may read changed about a principal. */
function isSame(a: Principal, b: Principal): boolean {
  return canonical(a) === canonical(b)
}

function canonical({ id, kind, groups, roles, owner, actsFor, credentialId }: Principal): string {
  return JSON.stringify([id, kind, [...groups].sort(), [...roles].sort(), owner, actsFor ?? null, credentialId ?? null])
}

function hashOf(bearer: string): string {
  return createHash('sha256').update(bearer).digest('base64url')
}

function tooMany(): SallyportError {
  return new SallyportError(
    'ERR_LIMIT_CONCURRENCY',
    'Too many sessions are open: end one (HTTP DELETE) and try again.',
    {
      facts: { retryAfterMs: 30_000 },
    },
  )
}
