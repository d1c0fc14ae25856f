/** The Kubernetes door on a socket of its own, with a spine that a test spells out: what it does before and beside a call. */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import type { Call } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import { createKubernetesListener, type KubernetesListenerDeps } from '../../src/protocols/kubernetes/listener.ts'
import { SpdyConnection } from '../../src/protocols/kubernetes/streams/spdy-connection.ts'

/** What one call does. */
export type Running = (call: Call) => AsyncGenerator<Chunk, void, undefined>

/** A door that is open. Whoever opens it closes it. */
export interface TestDoor {
  readonly port: number
  /** Calls that ran, in their order. */
  readonly calls: readonly Call[]
  /** Codes of what was recorded as refused before it was a call. */
  readonly refused: readonly string[]
  /** Who has joined a session. */
  readonly joined: readonly (string | undefined)[]
  /** Ends every session. */
  readonly sessions: AbortController
  /** Whether the token is known; a test may let it end. */
  known: boolean
  run: Running
  /** Sends these lines, and returns all that came back once the connection has ended. */
  say(lines: readonly string[], body?: string): Promise<string>
  /** Sends these lines, and returns the connection with the head of the answer. */
  ask(lines: readonly string[]): Promise<{ readonly socket: Socket; readonly answer: string }>
  close(): void
}

/** The head of a request by somebody who is known. */
export function head(path: string, ...more: readonly string[]): readonly string[] {
  return [`GET ${path} HTTP/1.1`, 'host: gateway', 'authorization: Bearer token', ...more]
}

/** What asks for streams over SPDY. */
export function spdy(version: string): readonly string[] {
  return ['connection: Upgrade', 'upgrade: SPDY/3.1', `x-stream-protocol-version: ${version}`]
}

/** A head that says so, and an end. */
export async function* ok(status = '101', more: Partial<Chunk & { kind: 'exit' }> = {}): AsyncGenerator<Chunk, void> {
  yield { kind: 'head', attributes: { ':status': status } }
  yield { kind: 'exit', status: '0', truncated: false, ...more }
}

export async function openDoor(): Promise<TestDoor> {
  const state: { calls: Call[]; refused: string[]; joined: (string | undefined)[] } = {
    calls: [],
    refused: [],
    joined: [],
  }
  const sessions = new AbortController()
  const sockets = new Set<Socket>()
  const door = { ...state, sessions, known: true, run: (() => ok()) as Running }
  const principal = { id: 'ada', kind: 'agent', groups: [], roles: ['caller'], owner: 'sam' } as unknown as Principal
  const refuse = async ({ error }: { readonly error: SallyportError }): Promise<void> =>
    void state.refused.push(error.code)
  const deps = {
    async authenticate(token: string) {
      if (token !== 'token' || !door.known) throw new SallyportError('ERR_UNAUTHENTICATED', 'The token is not known.')
      return principal
    },
    sessions: {
      async join(who: { readonly principal?: Principal }) {
        state.joined.push(who.principal?.id)
        return { id: 's', principal, door: 'kubernetes', signal: sessions.signal, recording: { refused: refuse } }
      },
    },
    run(call: Call) {
      state.calls.push(call)
      return door.run(call)
    },
    target: (name: string) =>
      ({ cluster: { name, protocol: 'kubernetes' }, web: { name, protocol: 'http' } })[name] as unknown,
    holdMs: 0,
    now: () => 0,
    onFault: (error: SallyportError) => {
      throw error
    },
  } as unknown as KubernetesListenerDeps
  const { onRequest, onUpgrade } = createKubernetesListener(deps)
  const server = createServer(onRequest)
  server.on('upgrade', (request: IncomingMessage, socket, first) => onUpgrade(request, socket, first))
  server.on('connection', (socket) => sockets.add(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const dial = async (): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined)
    await once(socket, 'connect')
    return socket
  }
  return Object.assign(door, {
    port,
    async say(lines: readonly string[], body = '') {
      const socket = await dial()
      let text = ''
      socket.setEncoding('utf8').on('data', (piece: string) => (text += piece))
      socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`)
      await once(socket, 'close')
      return text
    },
    async ask(lines: readonly string[]) {
      const socket = await dial()
      socket.write(`${lines.join('\r\n')}\r\n\r\n`)
      const [answer] = (await once(socket, 'data')) as [Buffer]
      return { socket, answer: answer.toString() }
    },
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  })
}

/** Opens streams as a client does. @throws Error when the door answers anything but a 101. */
export async function streamsOf(door: TestDoor, lines: readonly string[]): Promise<SpdyConnection> {
  const { socket, answer } = await door.ask(lines)
  if (!answer.startsWith('HTTP/1.1 101 ')) throw new Error(answer)
  const connection = new SpdyConnection(socket, 'client', () => undefined)
  void connection.run().catch(() => undefined)
  return connection
}
