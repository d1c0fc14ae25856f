/** What attacks on a real gateway have in common: a small world, and requests no well-behaved client would send. */
import { once } from 'node:events'
import { connect } from 'node:net'
import type { WorldOptions } from '../e2e/world.ts'

/** Agents may read and change `notes` (changes of `ledger` need a dba); `$more` is more YAML at the end. */
export function notesWorld(more = ''): WorldOptions {
  return {
    schema: `CREATE TABLE public.notes (id integer PRIMARY KEY, body text NOT NULL);
      INSERT INTO public.notes VALUES (1, 'first'), (2, 'second');
      CREATE TABLE public.ledger (id integer PRIMARY KEY, body text NOT NULL);
      INSERT INTO public.ledger VALUES (1, 'first'), (2, 'second');`,
    grants: 'GRANT SELECT, UPDATE ON public.notes, public.ledger TO $role',
    policy: `
targets: [db]
rules:
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["-", public.notes, public.ledger]}
  - {id: write, effect: allow, principals: [group:agents], actions: [sql.update], resources: [public.notes]}
  - id: ask
    effect: require_approval
    principals: [group:agents]
    actions: [sql.update]
    resources: [public.ledger]
    approvers: {any_of: [group:dba]}
${more}`,
    config: 'approvals: {hold: 100ms}\n',
  }
}

export const AGENT = { principal: 'loop', kind: 'agent', owner: 'sam', groups: ['agents'], roles: ['caller'] }
export const DBA = {
  principal: 'maria',
  kind: 'person',
  owner: 'maria',
  groups: ['dba'],
  roles: ['approver', 'caller'],
}

const MODERN = '2026-07-28'

/** Head and body of a `tools/call` of the 2026 era, to be sent byte by byte. */
export function rawCall(
  url: string,
  token: string,
  call: { readonly name?: string; readonly args: object; readonly headers?: Readonly<Record<string, string>> },
): { readonly head: string; readonly body: string } {
  const name = call.name ?? 'query_database'
  const body = JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: {
      name,
      arguments: call.args,
      _meta: {
        'io.modelcontextprotocol/protocolVersion': MODERN,
        'io.modelcontextprotocol/clientInfo': { name: 'attack', version: '1' },
        'io.modelcontextprotocol/clientCapabilities': {},
      },
    },
  })
  const headers = {
    host: new URL(url).host,
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': MODERN,
    'mcp-method': 'tools/call',
    'mcp-name': name,
    'content-length': String(Buffer.byteLength(body)),
    connection: 'close',
    ...call.headers,
  }
  const lines = Object.entries(headers).map(([key, value]) => `${key}: ${value}\r\n`)
  return { head: `POST ${new URL(url).pathname} HTTP/1.1\r\n${lines.join('')}\r\n`, body }
}

/** A connection that sends what it is told and remembers what came back. Whoever opens it ends it. */
export async function openRaw(url: string): Promise<{
  send(text: string): Promise<void>
  /** The whole answer. */
  readonly answered: Promise<string>
  /** What came so far. */
  received(): string
  end(): void
}> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  let text = ''
  socket.setEncoding('utf8').on('data', (piece: string) => (text += piece))
  socket.on('error', () => undefined)
  const answered = new Promise<string>((resolve) => {
    socket.once('close', () => resolve(text))
    // Streams are kept alive whatever the request said, so the end of a chunked body (RFC 9112 §7.1) counts as well.
    socket.on('data', () => {
      if (!text.endsWith('\r\n0\r\n\r\n')) return
      socket.destroy()
      resolve(text)
    })
  })
  await once(socket, 'connect')
  return {
    send: (piece) => new Promise((resolve) => void socket.write(piece, () => resolve())),
    answered,
    received: () => text,
    end: () => socket.destroy(),
  }
}
