import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Client as ModernClient, StreamableHTTPClientTransport as ModernTransport } from '@modelcontextprotocol/client'
import { Client as LegacyClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as LegacyTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import express from 'express'
import type { Call } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import type { SessionRecording } from '../../src/core/recording.ts'
import type { Target } from '../../src/core/target.ts'
import type { McpDoorDeps } from '../../src/doors/mcp/deps.ts'
import { mountMcp } from '../../src/doors/mcp/mount.ts'
import type { McpDoor } from '../../src/doors/mcp/mount.ts'
import type { Sessions } from '../../src/gateway/sessions.ts'
import { createSessions } from '../../src/gateway/sessions.ts'

/** An attempt that was recorded as refused. */
interface Refusal {
  readonly session: string
  readonly principal: string
  readonly tool: string
  readonly target?: string
  readonly payload: unknown
  readonly code: string
}

/** A gateway with the real door and real sessions, whose calls are answered by `run`. */
export interface Gateway {
  readonly url: URL
  readonly door: McpDoor
  readonly sessions: Sessions
  readonly refusals: readonly Refusal[]
  readonly logged: readonly Readonly<Record<string, unknown>>[]
  /** Tokens and whose they are; change it to revoke one. */
  readonly tokens: Map<string, Principal>
  close(): Promise<void>
}

export const AGENT: Principal = {
  id: 'agent-7',
  kind: 'agent',
  groups: ['agents'],
  roles: ['caller'],
  owner: 'sam',
  credentialId: 'cred-agent-7',
}

const RIVAL: Principal = { ...AGENT, id: 'agent-8', owner: 'rita', credentialId: 'cred-agent-8' }

export const MARIA: Principal = {
  id: 'maria',
  kind: 'person',
  groups: ['dba'],
  roles: ['caller', 'approver'],
  owner: 'maria',
  credentialId: 'cred-maria',
}

export const SHOP: Target = {
  name: 'shop-db',
  protocol: 'postgres',
  labels: { env: 'test' },
  mode: 'enforce',
  record: 'full',
  endpoint: 'postgres://shop',
  options: {},
}

const WEB: Target = { ...SHOP, name: 'web-1', protocol: 'ssh' }

/** How long a test waits for what must come: long enough for a machine that is busy with other things. */
export const PATIENT = { timeout: 90_000 }

/** One row that says what was asked and by whom. */
export async function* echo(call: Call): AsyncGenerator<Chunk, void, undefined> {
  const { sql } = call.payload as { sql: string }
  yield { kind: 'head', columns: [text('sql'), text('principal')] }
  yield { kind: 'data', channel: 'rows', rows: [[sql, call.session.principal.id]] }
  yield { kind: 'exit', status: 'SELECT 1', rowCount: 1, truncated: false }
}

function text(name: string): { readonly name: string; readonly type: string } {
  return { name, type: 'text' }
}

/** What the door needs, all of it in memory, and what it did with it. */
export function depsOf(more: Partial<McpDoorDeps> = {}): {
  readonly deps: McpDoorDeps
  readonly sessions: Sessions
  readonly refusals: Refusal[]
  readonly logged: Readonly<Record<string, unknown>>[]
  readonly tokens: Map<string, Principal>
} {
  const refusals: Refusal[] = []
  const logged: Readonly<Record<string, unknown>>[] = []
  const tokens = new Map([
    ['token-agent', AGENT],
    ['token-rival', RIVAL],
    ['token-maria', MARIA],
  ])
  const sessions = createSessions({ open: async (session) => recordingOf(session, refusals) })
  const log = (event: Readonly<Record<string, unknown>>): void => void logged.push(event)
  const deps: McpDoorDeps = {
    authenticate: async (bearer) => {
      const principal = tokens.get(bearer)
      if (principal === undefined) throw new SallyportError('ERR_UNAUTHENTICATED', 'The token is not valid.')
      return principal
    },
    sessions,
    run: echo,
    target: (name) => [SHOP, WEB].find((target) => target.name === name),
    targets: () => [{ name: SHOP.name, protocol: SHOP.protocol, labels: SHOP.labels, mode: SHOP.mode }],
    describe: async () => [],
    effectivePolicy: (principal) => ({ principal: principal.id }),
    inbox: EMPTY_INBOX,
    reissue: async () => {
      throw new SallyportError('ERR_UNKNOWN_TICKET', 'There is no ticket of that name.')
    },
    log: { info: log, warn: log, error: log },
    ...more,
  }
  return { deps, sessions, refusals, logged, tokens }
}

function recordingOf(
  { id, principal }: { readonly id: string; readonly principal: Principal },
  refusals: Refusal[],
): SessionRecording {
  return {
    begin: () => {
      throw new Error('calls are run by the test')
    },
    refused: async ({ tool, target, payload, error }) => {
      const { code } = error
      refusals.push({
        session: id,
        principal: principal.id,
        tool,
        payload,
        code,
        ...(target !== undefined && { target }),
      })
    },
    close: async () => undefined,
  }
}

/** Starts a gateway on the loopback interface, on a free port unless one is given. */
export async function startGateway(more: Partial<McpDoorDeps> = {}, listenOn = 0): Promise<Gateway> {
  const { deps, sessions, ...seen } = depsOf(more)
  const app = express()
  const door = mountMcp(app, deps)
  const server = createServer(app)
  server.listen(listenOn, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    ...seen,
    url: new URL(`http://127.0.0.1:${port}/mcp`),
    door,
    sessions,
    async close() {
      await door.close()
      await sessions.close()
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** Nothing ever waits in it. */
export const EMPTY_INBOX: McpDoorDeps['inbox'] = {
  async *offers() {},
  confirm: () => Promise.reject(new SallyportError('ERR_UNKNOWN_TICKET', 'No.')),
  pending: async () => [],
  show: noTicket,
  vote: noTicket,
  cancel: noTicket,
}

async function noTicket(): Promise<never> {
  throw new SallyportError('ERR_UNKNOWN_TICKET', 'There is no ticket of that name.')
}

/** A client with its own session, of the older library line. */
export async function connectLegacy(
  url: URL,
  token: string,
  options: ConstructorParameters<typeof LegacyClient>[1] = {},
  headers: Readonly<Record<string, string>> = {},
): Promise<LegacyClient> {
  const client = new LegacyClient({ name: 'legacy', version: '1.0.0' }, options)
  await client.connect(
    new LegacyTransport(url, { requestInit: { headers: { authorization: `Bearer ${token}`, ...headers } } }),
  )
  return client
}

/** A client of the 2026 era. */
export async function connectModern(
  url: URL,
  token: string,
  headers: Readonly<Record<string, string>> = {},
  prepare: (client: ModernClient) => void = () => undefined,
  options: ConstructorParameters<typeof ModernClient>[1] = {},
): Promise<ModernClient> {
  const client = new ModernClient(
    { name: 'modern', version: '1.0.0' },
    { versionNegotiation: { mode: { pin: '2026-07-28' } }, ...options },
  )
  prepare(client)
  await client.connect(
    new ModernTransport(url, { requestInit: { headers: { authorization: `Bearer ${token}`, ...headers } } }),
  )
  return client
}

/** Either client, as far as the tests need one. */
export interface AnyClient {
  listTools(): Promise<{ tools: readonly { name: string; outputSchema?: unknown }[] }>
  callTool(params: { name: string; arguments?: Record<string, unknown> }): Promise<unknown>
  close(): Promise<void>
}

/** The two eras, to run a fact in both. */
export const ERAS: readonly (readonly [string, (url: URL, token: string) => Promise<AnyClient>])[] = [
  ['2025 era', connectLegacy],
  ['2026 era', connectModern],
]

/** The result of a tool call, as the tests read it. */
export interface Result {
  readonly isError?: boolean
  readonly structuredContent: Readonly<Record<string, unknown>>
  readonly content: readonly { readonly type: string; readonly text: string }[]
}

/** Calls a tool and returns its result. */
export async function call(client: AnyClient, name: string, args: Record<string, unknown>): Promise<Result> {
  return (await client.callTool({ name, arguments: args })) as Result
}

/** A request without any library, for what a library would not send. */
export function raw(
  url: URL,
  { token = 'token-agent', method = 'POST', headers, body, signal }: Raw,
): Promise<Response> {
  return fetch(url, {
    method,
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...(token !== null && { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(body !== undefined && { body: bytesOf(body), duplex: 'half' }),
    ...(signal !== undefined && { signal }),
  })
}

interface Raw {
  readonly token?: string | null
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Bytes and text as they are, a stream in pieces, anything else as JSON. */
  readonly body?: unknown
  readonly signal?: AbortSignal
}

function bytesOf(body: unknown): string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array> {
  if (typeof body === 'string' || body instanceof ReadableStream) return body
  if (body instanceof Uint8Array) return Uint8Array.from(body)
  return JSON.stringify(body)
}

/** An `initialize` message of the 2025 era. */
export const INITIALIZE = {
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'raw', version: '1' } },
}

/** Opens a session of the 2025 era and returns its id. */
export async function openRaw(url: URL, token = 'token-agent'): Promise<string> {
  const response = await raw(url, { token, body: INITIALIZE })
  await response.text()
  return response.headers.get('mcp-session-id') ?? ''
}

/** A tool call of the 2025 era. */
export function legacyCall(args: unknown, name: unknown = 'query_database'): object {
  return { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args } }
}

/** A tool call of the 2026 era with its headers. */
export function modernCall(
  args: unknown,
  name: unknown = 'query_database',
): { body: object; headers: Record<string, string> } {
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': {},
    'io.modelcontextprotocol/clientInfo': { name: 'raw', version: '1' },
  }
  return {
    body: { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args, _meta } },
    headers: { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': String(name) },
  }
}

/** A promise with its handles. */
export function deferred<T = void>(): {
  readonly promise: Promise<T>
  readonly resolve: (value: T) => void
  readonly reject: (reason: unknown) => void
} {
  let resolve: (value: T) => void = () => undefined
  let reject: (reason: unknown) => void = () => undefined
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
