/**
 * The PostgreSQL door: accepts connections, lets clients in, serves each with a {@link ClientSession}.
 *
 * What a stranger may cost is bounded here: connections that have not proved who they are, in all and for each address,
 * have {@link LOGIN_MS} and the few kilobytes of the start-up packets.
 *
 * @packageDocumentation
 */
import type { Server, Socket } from 'node:net'
import { createServer } from 'node:net'
import { SallyportError } from '../../core/errors.ts'
import type { Principal } from '../../core/principal.ts'
import type { Target } from '../../core/target.ts'
import type { OwnedSession } from '../../gateway/sessions.ts'
import { errorResponse } from './listener-errors.ts'
import { ClientSession, type IdleLimits, type SessionRooms } from './listener-session.ts'
import { encodeAuthentication } from './messages/authentication.ts'
import { encodeBackendKeyData, encodeParameterStatus, encodeReadyForQuery } from './messages/session-facts.ts'
import type { WireBackend } from './wire/backend.ts'
import type { Downstream } from './wire/downstream.ts'
import { CancelKeys } from './wire/keys.ts'
import { authenticate, negotiate, readFirstPackets, type LoginRooms, type StartupRequest } from './wire/login.ts'
import { readParameters } from './wire/parameters.ts'
import { Tally } from './wire/tally.ts'

/** What the door needs of the gateway. */
export interface PostgresDoorRooms extends LoginRooms, SessionRooms {
  /** The target a principal may use under this name; `undefined` when there is none, or none it may touch. */
  target(principal: Principal, name: string): Target | undefined
  /** How long any statement may run there. */
  statementTimeoutMs(target: Target): number
  /** @throws SallyportError `ERR_SHUTTING_DOWN`, `ERR_RECORDING_FAILED` */
  openSession(principal: Principal): Promise<OwnedSession>
  /** Opens the client's own backend connection. */
  connect(
    principal: Principal,
    target: Target,
    settings: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<WireBackend>
}

/** The bounds of the door. */
export interface PostgresDoorLimits extends IdleLimits {
  readonly connectionsMax: number
  /** Connections of one principal that have logged in. */
  readonly connectionsPerPrincipalMax: number
}

/** An open door. */
export interface PostgresDoor {
  readonly server: Server
  /** Takes nothing new: a session ends as soon as what it runs has ended, and at once when nothing runs. */
  drain(): void
  /** Ends everything. Safe to call twice. */
  close(): Promise<void>
}

/** A client has this long to prove who it is; PostgreSQL allows a minute. */
const LOGIN_MS = 10_000
/** Connections of one address, and of all, that have not proved who they are. */
const STRANGERS_PER_ADDRESS_MAX = 32
const STRANGERS_MAX = 256

/** Builds the door; its server listens nowhere yet. */
export function createPostgresDoor(rooms: PostgresDoorRooms, limits: PostgresDoorLimits): PostgresDoor {
  const keys = new CancelKeys()
  const strangers = new Tally()
  const principals = new Tally()
  const sockets = new Set<Socket>()
  const sessions = new Set<ClientSession>()
  const serving = new Set<Promise<void>>()
  const closing = new AbortController()
  let isDraining = false

  const server = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    // Whoever reads the socket hears of its errors; before that there is nobody who would.
    socket.on('error', () => undefined)
    const served = welcome(socket)
      .catch((error: unknown) => rooms.onFault(error))
      .finally(() => {
        serving.delete(served)
        socket.destroySoon()
      })
    serving.add(served)
  })

  async function welcome(socket: Socket): Promise<void> {
    const address = socket.remoteAddress ?? ''
    if (
      isDraining ||
      strangers.of(address) >= STRANGERS_PER_ADDRESS_MAX ||
      strangers.all >= STRANGERS_MAX ||
      sockets.size > limits.connectionsMax
    ) {
      socket.end(errorResponse(isDraining ? shuttingDown() : tooMany(), 'FATAL'))
      return
    }
    const known = strangers.add(address)
    const late = new AbortController()
    const timer = setTimeout(() => {
      late.abort(new SallyportError('ERR_TIMEOUT', 'The client took too long to prove who it is.'))
      socket.destroy()
    }, LOGIN_MS)
    timer.unref()
    const signal = AbortSignal.any([late.signal, closing.signal])
    try {
      await admit(socket, signal, () => {
        clearTimeout(timer)
        known()
      })
    } finally {
      clearTimeout(timer)
      known()
    }
  }

  async function admit(socket: Socket, signal: AbortSignal, onKnown: () => void): Promise<void> {
    let client: Downstream | undefined
    try {
      const login = await readFirstPackets(socket, rooms, signal)
      if (login.kind === 'cancel') {
        keys.cancel(login.processId, login.key)
        return
      }
      client = login.client
      const opened = await open(client, login.packet, onKnown)
      await serve(client, login.packet, opened)
    } catch (error) {
      sendAway(client, socket, error)
    }
  }

  /** Everything up to the point where the client may ask something. */
  async function open(client: Downstream, packet: StartupRequest, onKnown: () => void) {
    // Checked before anybody is asked for a password, and again with the target's own limits.
    const asked = readParameters(packet.parameters, Number.MAX_SAFE_INTEGER)
    negotiate(client, packet, asked.unknownOptions)
    const principal = await authenticate(client, packet, rooms)
    onKnown()
    // Together with those whose backend connection is only being opened: who comes all at once gets no more.
    if (principals.of(principal.id) >= limits.connectionsPerPrincipalMax) throw tooManyOfYours()
    const leave = principals.add(principal.id)
    try {
      return { leave, ...(await connected(principal, packet, client, asked.database)) }
    } catch (error) {
      leave()
      throw error
    }
  }

  async function connected(principal: Principal, packet: StartupRequest, client: Downstream, database: string) {
    const target = rooms.target(principal, database)
    if (target === undefined) throw noSuchTarget()
    const { settings } = readParameters(packet.parameters, rooms.statementTimeoutMs(target))
    const owned = await rooms.openSession(principal)
    try {
      const until = AbortSignal.any([client.gone, closing.signal, owned.session.signal])
      const backend = await rooms.connect(principal, target, settings, until)
      return { target, owned, backend }
    } catch (error) {
      await owned.close()
      throw error
    }
  }

  async function serve(
    client: Downstream,
    packet: StartupRequest,
    { target, owned, backend, leave }: Awaited<ReturnType<typeof open>>,
  ): Promise<void> {
    const session = new ClientSession({ client, session: owned.session, target, backend }, rooms, limits)
    const { processId, key } = keys.issue(packet.minor, () => session.cancel())
    sessions.add(session)
    try {
      client.write(encodeAuthentication({ type: 'ok' }))
      for (const [name, value] of backend.parameters) client.write(encodeParameterStatus({ name, value }))
      client.write(encodeBackendKeyData(processId, key))
      client.write(encodeReadyForQuery('I'))
      if (isDraining) session.drain()
      await session.serve()
    } finally {
      keys.forget(processId)
      sessions.delete(session)
      leave()
      await owned.close()
    }
  }

  function sendAway(client: Downstream | undefined, socket: Socket, cause: unknown): void {
    const error = SallyportError.from(cause)
    if (error.code === 'ERR_INTERNAL') rooms.onFault(error)
    if (client === undefined) socket.end(errorResponse(error, 'FATAL'))
    else {
      client.write(errorResponse(error, 'FATAL'))
      client.end()
    }
  }

  return {
    server,
    drain() {
      isDraining = true
      server.close()
      for (const session of sessions) session.drain()
    },
    async close() {
      this.drain()
      closing.abort(shuttingDown())
      await Promise.race([Promise.all(serving), patience()])
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** How long the last answers may take to be read at the end. */
const GRACE_MS = 1_000

function patience(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, GRACE_MS).unref())
}

function tooMany(): SallyportError {
  return new SallyportError('ERR_LIMIT_CONCURRENCY', 'Too many connections; try again later.', {
    facts: { sqlstate: '53300' },
  })
}

function tooManyOfYours(): SallyportError {
  return new SallyportError('ERR_LIMIT_CONCURRENCY', 'You have as many connections as you may; close some first.', {
    facts: { sqlstate: '53300' },
  })
}

function shuttingDown(): SallyportError {
  return new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down; connect again soon.')
}

/** A target that does not exist and one the caller may not touch look the same. */
function noSuchTarget(): SallyportError {
  return new SallyportError('ERR_UNKNOWN_TARGET', 'There is no such target that you may use; name one as the database.')
}
