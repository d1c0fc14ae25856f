/**
 * The SSH door: ordinary clients, the same engine. `ssh <target>@gateway` logs in at the gateway; every command, file
 * operation and forwarding is a call that is judged before anything of it reaches the target.
 *
 * What a client may ask for and what it gets: `exec` is judged; a script on standard input is judged as the script;
 * environment other than the language is refused, and so are agents, X11 and forwarding back; a connection to somewhere
 * behind the target is judged like anything else.
 *
 * @packageDocumentation
 */
import type { Socket } from 'node:net'
import type { AuthContext, Connection, ParsedKey, SFTPWrapper, ServerChannel, ServerConfig } from 'ssh2'
import { SallyportError } from '../../core/errors.ts'
import type { Principal } from '../../core/principal.ts'
import type { Target } from '../../core/target.ts'
import type { OwnedSession, Sessions } from '../../gateway/sessions.ts'
import { algorithms } from './algorithms.ts'
import { serveChannel, type Asked, type ChannelDeps } from './listener-channel.ts'
import { Guard } from './listener-guard.ts'
import { serveSftp } from './listener-sftp.ts'
import { serveForward, type Wanted } from './listener-forward.ts'
import { boundQueue, guardParser, refuseTinyPackets } from './library.ts'
import { Gathering, packFast } from './library-bulk.ts'
import { size, Typing } from './typed.ts'
import { answerLogin, ATTEMPTS_MAX, type Logins } from './listener-login.ts'

/** What the door is built from. */
export interface SshListenerDeps extends ChannelDeps, Logins {
  readonly sessions: Pick<Sessions, 'open'>
  readonly target: (name: string) => Target | undefined
  /** The gateway's own host key, private, in OpenSSH's form. */
  readonly hostKey: string
  /** Milliseconds; only differences matter. */
  readonly now: () => number
  readonly onFault: (error: unknown) => void
}

/** The door. Whoever listens hands it sockets. */
export interface SshListener {
  connection(socket: Socket): void
  /** Ends every connection. */
  close(): Promise<void>
}

/** How long a client has to prove who it is. */
const LOGIN_MS = 30_000
/** Channels one connection may have open. */
const CHANNELS_MAX = 10
/** Connections one principal may have. */
const CONNECTIONS_MAX = 32
/** Input of one channel that may wait here; a client that keeps to the window it was given has less. */
const UNREAD_MAX = 6 * 1024 * 1024
/** Answers that may wait in a socket. What targets say is held back long before. */
const UNSENT_BYTES_MAX = 8 * 1024 * 1024
/** Variables that only choose a language. They are accepted, and left behind: the target speaks its own. */
const IGNORED_ENV = /^(?:LANG|LC_[A-Z]{1,20}|COLORTERM|NO_COLOR)$/u

/** Builds the door. */
export async function createSshListener(deps: SshListenerDeps): Promise<SshListener> {
  const { default: ssh2 } = await import('ssh2')
  const guard = new Guard(deps.now)
  const open = new Set<Door>()
  const byPrincipal = new Map<string, number>()

  const config: ServerConfig = {
    hostKeys: [deps.hostKey],
    algorithms: { ...algorithms(), serverHostKey: ['ssh-ed25519'] },
    ident: 'Sallyport',
    keepaliveInterval: 20_000,
    keepaliveCountMax: 3,
  }

  function welcome(connection: Connection, socket: Socket, address: string, known: () => void): void {
    const door = new Door(connection, socket)
    open.add(door)
    refuseTinyPackets(connection, () => socket.destroy())
    boundQueue(connection, () => socket.destroy())
    packFast(connection, () => socket)
    let failures = 0
    const onFailure = (): void => {
      guard.failed(address)
      if (++failures >= ATTEMPTS_MAX) socket.destroy()
    }
    let proved: Principal | undefined
    let isBusy = false

    const login = async (context: AuthContext): Promise<void> => {
      // One at a time: each failure counts before the next attempt.
      if (isBusy) {
        context.reject()
        return
      }
      isBusy = true
      let isAborted = false
      context.once('abort', () => (isAborted = true))
      const principal = await answerLogin(context, deps, (key) => firstKey(ssh2.utils.parseKey(key)), onFailure)
      isBusy = false
      // A client that went away meanwhile is not counted: the end of its connection, which takes it off again, is past.
      if (principal === undefined || isAborted || !open.has(door)) return
      const count = byPrincipal.get(principal.id) ?? 0
      if (count >= CONNECTIONS_MAX) {
        context.reject()
        return
      }
      byPrincipal.set(principal.id, count + 1)
      proved = principal
      door.targetName = context.username
      context.accept()
    }
    connection.on('authentication', (context) => {
      login(context).catch((error: unknown) => {
        deps.onFault(error)
        socket.destroy()
      })
    })
    connection.on('ready', () => {
      known()
      if (proved === undefined) socket.destroy()
      else begin(door, proved)
    })
    connection.on('error', () => undefined)
    // Nothing reaches a socket, an agent or a display through here; what is not answered is refused by the library.
    connection.on('request', (_accept, reject) => reject?.())
    connection.on('close', () => {
      open.delete(door)
      if (proved !== undefined) {
        const left = (byPrincipal.get(proved.id) ?? 1) - 1
        if (left <= 0) byPrincipal.delete(proved.id)
        else byPrincipal.set(proved.id, left)
      }
      door.end().catch(deps.onFault)
    })
  }

  function begin(door: Door, principal: Principal): void {
    door.owned = deps.sessions.open({ principal, door: 'ssh' })
    endWithSession(door, door.owned).catch((error: unknown) => {
      deps.onFault(error)
      door.socket.destroy()
    })
    door.connection.on('session', (accept, reject) => {
      if (door.channels >= CHANNELS_MAX) reject()
      else serveSession(door, accept())
    })
    door.connection.on('tcpip', (accept, reject, wanted) => {
      if (door.channels >= CHANNELS_MAX) return reject()
      forward(door, { accept, reject }, wanted).catch((error: unknown) => {
        deps.onFault(error)
        door.socket.destroy()
      })
    })
  }

  /** Answers the requests of one session channel. Each is accepted at once, in the turn it comes in: later is too late. */
  function serveSession(door: Door, session: ServerSession): void {
    let pty: Asked['pty']
    const typing = new Typing()
    let isStarted = false
    door.channels++
    session.on('close', () => door.channels--)
    session.on('env', (accept, reject, { key }) => (IGNORED_ENV.test(key) ? accept?.() : reject?.()))
    session.on('pty', (accept, _reject, info) => {
      const term = /^[\w.+-]{1,64}$/u.test(info.term) ? info.term : 'dumb'
      pty = { term, columns: size(info.cols), rows: size(info.rows) }
      accept?.()
    })
    session.on('window-change', (accept, _reject, info) => {
      typing.resize(size(info.cols), size(info.rows))
      accept?.()
    })
    session.on('x11', (_accept, reject) => reject?.())
    session.on('auth-agent', (_accept, reject) => reject?.())
    session.on('signal', (_accept, reject) => reject?.())
    const start = (accept: () => ServerChannel, asked: Asked): void => {
      if (isStarted) return
      isStarted = true
      const channel = accept()
      run(door, channel, door.watch(channel), asked).catch(deps.onFault)
    }
    session.on('exec', (accept, _reject, info) => start(accept, { kind: 'exec', command: info.command, typing }))
    session.on('sftp', (accept) => {
      if (isStarted) return
      isStarted = true
      const sftp = accept()
      guardParser(
        sftp,
        () => door.socket.destroy(),
        (push) => new Gathering(sftp, push),
      )
      transfer(door, sftp).catch((error: unknown) => {
        deps.onFault(error)
        door.socket.destroy()
      })
    })
    session.on('shell', (accept) => {
      start(accept, {
        kind: pty === undefined ? 'script' : 'shell',
        command: '',
        typing,
        ...(pty !== undefined && { pty }),
      })
    })
  }

  async function transfer(door: Door, sftp: SFTPWrapper): Promise<void> {
    const target = deps.target(door.targetName)
    // Requests come at once; whoever serves them asks for the session when one is to run.
    if (target?.protocol !== 'ssh' || door.owned === undefined) sftp.end()
    else serveSftp(sftp, door.socket, door.owned, target, deps)
  }

  async function forward(door: Door, answer: Parameters<typeof serveForward>[0], wanted: Wanted): Promise<void> {
    const target = deps.target(door.targetName)
    door.channels++
    try {
      const owned = await door.owned
      if (target?.protocol !== 'ssh' || owned === undefined) return answer.reject()
      const accept = (): ServerChannel => {
        const channel = answer.accept()
        door.watch(channel)
        return channel
      }
      await serveForward({ ...answer, accept }, door.socket, wanted, owned.session, target, deps)
    } finally {
      door.channels--
    }
  }

  async function run(door: Door, channel: ServerChannel, gone: AbortSignal, asked: Asked): Promise<void> {
    const owned = await door.owned
    if (owned === undefined) return
    const target = deps.target(door.targetName)
    if (target?.protocol !== 'ssh') {
      const error = new SallyportError(
        'ERR_UNKNOWN_TARGET',
        'There is no SSH target of this name. Log in as <target>@gateway.',
      )
      await owned.session.recording.refused({
        tool: `ssh.${asked.kind}`,
        target: door.targetName,
        payload: asked.command,
        error,
      })
      channel.stderr.write(`sallyport: ${error.message}\r\n`)
      channel.exit(126)
      channel.end()
      return
    }
    await serveChannel(channel, gone, door.socket, asked, owned.session, target, deps)
  }

  return {
    connection(socket) {
      socket.on('error', () => undefined)
      const address = socket.remoteAddress ?? ''
      const stranger = guard.admit(address)
      if (stranger === undefined) {
        socket.destroy()
        return
      }
      const tooLate = setTimeout(() => socket.destroy(), LOGIN_MS)
      tooLate.unref()
      const known = (): void => {
        clearTimeout(tooLate)
        stranger.over()
      }
      socket.once('close', known)
      // The library tells of a connection some time after its socket; one server for each says which is whose.
      const server = new ssh2.Server(config, (connection) => welcome(connection, socket, address, known))
      server.on('error', deps.onFault)
      server.injectSocket(socket)
    },
    async close() {
      const all = [...open]
      for (const door of all) door.connection.end()
      await Promise.all(all.map((door) => door.end()))
      for (const door of all) door.socket.destroy()
    },
  }
}

/** Whoever ends the session ends the connection: a revoked key, an operator, a gateway that stops. */
async function endWithSession(door: Door, owned: Promise<OwnedSession>): Promise<void> {
  const { session } = await owned
  session.signal.addEventListener('abort', () => door.connection.end(), { once: true })
}

/** The parser returns a list for some forms. */
function firstKey(parsed: ParsedKey | Error | readonly ParsedKey[]): ParsedKey | Error {
  return Array.isArray(parsed)
    ? ((parsed as readonly ParsedKey[])[0] ?? new Error('no key'))
    : (parsed as ParsedKey | Error)
}

/** One connection of one client. */
class Door {
  readonly connection: Connection
  readonly socket: Socket
  readonly #watched = new Set<ServerChannel>()
  targetName = ''
  channels = 0
  owned: Promise<OwnedSession> | undefined

  constructor(connection: Connection, socket: Socket) {
    this.connection = connection
    this.socket = socket
    // The library takes whatever a client sends, also beyond the window it was given; nobody's memory is for that.
    socket.on('data', () => {
      for (const channel of this.#watched) if (channel.readableLength > UNREAD_MAX) socket.destroy()
      // Whoever asks for answers must read them; the library puts them all into the socket.
      if (socket.writableLength > UNSENT_BYTES_MAX) socket.destroy()
    })
  }

  /** Bounds what a channel keeps, and returns what is aborted when it is closed. */
  watch(channel: ServerChannel): AbortSignal {
    const gone = new AbortController()
    const leave = (): void => {
      this.#watched.delete(channel)
      gone.abort(new SallyportError('ERR_CANCELLED', 'The client went away.'))
    }
    this.#watched.add(channel)
    channel.once('close', leave)
    channel.on('error', leave)
    return gone.signal
  }

  /** Ends its calls and seals its recording. */
  async end(): Promise<void> {
    const owned = await this.owned?.catch(() => undefined)
    await owned?.close()
  }
}

/** A session channel before it has a command, as the library really emits it. */
interface ServerSession {
  on(event: 'close', listener: () => void): void
  on(
    event: 'env',
    listener: (accept: Answer, reject: Answer, info: { readonly key: string; readonly val: string }) => void,
  ): void
  on(
    event: 'pty' | 'window-change',
    listener: (
      accept: Answer,
      reject: Answer,
      info: { readonly term: string; readonly cols: number; readonly rows: number },
    ) => void,
  ): void
  on(event: 'x11' | 'auth-agent' | 'signal', listener: (accept: Answer, reject: Answer) => void): void
  on(
    event: 'exec',
    listener: (accept: () => ServerChannel, reject: Answer, info: { readonly command: string }) => void,
  ): void
  on(event: 'sftp', listener: (accept: () => SFTPWrapper, reject: Answer) => void): void
  on(event: 'shell', listener: (accept: () => ServerChannel, reject: Answer) => void): void
}

/** Absent when the client wants no answer. */
type Answer = (() => void) | undefined
