/** What the door does before, beside and after a call. The real client and server are in the end-to-end tests. */
import { once } from 'node:events'
import { Duplex } from 'node:stream'
import { WebSocket } from 'ws'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { serveForwarding } from '../../src/protocols/kubernetes/listener-forward.ts'
import { writeRaw, type Upgrading } from '../../src/protocols/kubernetes/listener-upgrade.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'
import { SpdyConnection } from '../../src/protocols/kubernetes/streams/spdy-connection.ts'
import { CONTROL, controlFrame, numbers } from '../../src/protocols/kubernetes/streams/spdy-frames.ts'
import { HeaderWriter } from '../../src/protocols/kubernetes/streams/spdy-headers.ts'
import type { SpdyStream } from '../../src/protocols/kubernetes/streams/spdy-stream.ts'
import { head, ok, openDoor, spdy, streamsOf, type TestDoor } from './door-kit.ts'

const POD = '/cluster/api/v1/namespaces/web/pods/p'
const EXEC = `${POD}/exec?command=cat&stdout=true`
const FORWARD = head(`${POD}/portforward`, ...spdy('portforward.k8s.io'))
const OK: Chunk = { kind: 'head', attributes: { ':status': '200' } }
const data = (text: string): Chunk => ({ kind: 'data', channel: 'body', bytes: Buffer.from(text) })

let door: TestDoor
beforeEach(async () => {
  door = await openDoor()
})
afterEach(() => door.close())

async function textOf({ received }: SpdyStream): Promise<string> {
  let text = ''
  for await (const piece of received) text += Buffer.from(piece).toString()
  return text
}

const paths = (): readonly string[] => door.calls.map(({ payload }) => (payload as { readonly path: string }).path)

describe('a request', () => {
  it.each([
    ['for a target of another protocol', head('/web/api/v1/pods', 'connection: close'), 404],
    ['with a coded body', head(POD, 'content-encoding: br', 'connection: close'), 400],
    ['for streams with a body', head(EXEC, ...spdy('v4.channel.k8s.io'), 'content-length: 1'), 400],
    ['for streams of what has none', head(POD, ...spdy('v4.channel.k8s.io')), 403],
    [
      'for a forwarding with ports in its query',
      head(`${POD}/portforward?ports=80`, ...spdy('portforward.k8s.io')),
      400,
    ],
    [
      'for a WebSocket in no protocol of ours',
      head(
        EXEC,
        'connection: Upgrade',
        'upgrade: websocket',
        'sec-websocket-version: 13',
        'sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==',
        'sec-websocket-protocol: v3.channel.k8s.io',
      ),
      400,
    ],
  ])('%s runs nothing', async (_what, lines, status) => {
    expect(await door.say(lines)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `, 'u'))
    expect(door.calls).toEqual([])
    expect(door.refused).toHaveLength(1)
  })

  it('of a stranger leaves no entry, whatever it asks for', async () => {
    const lines = head(POD, 'connection: close').map((line) => line.replace('token', 'nobody'))
    expect(await door.say(lines)).toMatch(/^HTTP\/1\.1 401 /u)
    expect(door.joined).toEqual([])
  })

  it('that was refused before its body was read is the last on its connection', async () => {
    const lines = head('/elsewhere/api/v1/pods', 'content-length: 100').map((line) => line.replace('GET', 'POST'))
    const answer = await door.say(lines, 'GET /cluster/version HTTP/1.1\r\nhost: gateway\r\n\r\n')
    expect(answer).toMatch(/^HTTP\/1\.1 404 /u)
    expect(answer).toMatch(/\r\nconnection: close\r\n/iu)
  })

  it('ends with the session it belongs to', async () => {
    door.run = () => ok('200')
    await door.say(head(POD, 'connection: close'))
    const [call] = door.calls
    expect(call?.signal.aborted).toBe(false)
    door.sessions.abort()
    expect(call?.signal.aborted).toBe(true)
  })
})

describe('an answer', () => {
  it('that breaks in the middle does not look complete', async () => {
    door.run = async function* () {
      yield OK
      yield data('{"items":[')
      yield data('1')
      throw new SallyportError('ERR_UPSTREAM_LOST', 'It broke.')
    }
    const answer = await door.say(head(POD, 'connection: close'))
    expect(answer).toMatch(/^HTTP\/1\.1 200 /u)
    // What is whole ends with an empty chunk (RFC 9112, section 7.1).
    expect(answer).not.toMatch(/\n0\r\n/u)
  })

  it('instead of streams is passed on, and not more of it than anybody reads', async () => {
    let size = 10
    door.run = async function* () {
      yield { kind: 'head', attributes: { ':status': '404' } }
      yield data('x'.repeat(size))
      yield { kind: 'exit', status: '404', truncated: false }
    }
    const asked = head(EXEC, ...spdy('v4.channel.k8s.io'))
    expect(await door.say(asked)).toMatch(/^HTTP\/1\.1 404 [\s\S]*\r\n\r\nx{10}$/u)
    size = 100_000
    const answer = await door.say(head(EXEC.replace('cat', 'ls'), ...spdy('v4.channel.k8s.io')))
    expect(answer).toMatch(/^HTTP\/1\.1 502 /u)
    expect(answer.length).toBeLessThan(2_000)
  })

  it('on a bare connection has the headers that were meant and no others', async () => {
    let written = ''
    const socket = new Duplex({
      read: () => undefined,
      write(piece: Buffer, _encoding, done) {
        written += piece.toString()
        done()
      },
      final(done) {
        done()
        this.destroy()
      },
    })
    await writeRaw(socket, { status: 403, headers: { warning: 'a\r\nset-cookie: b' }, body: '' })
    expect(written).toContain('warning: a  set-cookie: b\r\n')
  })
})

describe('streams of a command', () => {
  const WEBSOCKET = { headers: { authorization: 'Bearer token' } }

  it('end where their client sends what it did not ask for', async () => {
    door.run = async function* ({ signal }) {
      yield { kind: 'head', attributes: { ':status': '101' } }
      await once(signal, 'abort')
    }
    const socket = new WebSocket(`ws://127.0.0.1:${door.port}${EXEC}`, ['v5.channel.k8s.io'], WEBSOCKET)
    await once(socket, 'open')
    socket.send(Buffer.from('\0whoami\n'))
    const [code] = (await once(socket, 'close')) as [number]
    expect(code).toBe(1008)
  })

  it('take nothing more from whoever sent that', async () => {
    const taken: Uint8Array[] = []
    const over = new Promise<void>((resolve) => {
      door.run = async function* ({ input }) {
        yield { kind: 'head', attributes: { ':status': '101' } }
        for await (const piece of input ?? []) taken.push(piece)
        resolve()
      }
    })
    const socket = new WebSocket(`ws://127.0.0.1:${door.port}${EXEC}&tty=true`, ['v5.channel.k8s.io'], WEBSOCKET)
    await once(socket, 'open')
    socket.send(Buffer.from('\0whoami\n'))
    socket.send(Buffer.from('\u0004{"Width":80,"Height":24}'))
    await over
    expect(taken).toEqual([])
  })

  it('that were not all opened carry nothing', async () => {
    let pulled = 0
    const over = new Promise<void>((resolve) => {
      door.run = async function* () {
        try {
          yield { kind: 'head', attributes: { ':status': '101' } }
          pulled++
        } finally {
          resolve()
        }
      }
    })
    const { socket, answer } = await door.ask(head(EXEC, ...spdy('v4.channel.k8s.io')))
    expect(answer).toMatch(/^HTTP\/1\.1 101 /u)
    const connection = new SpdyConnection(socket, 'client', () => undefined)
    void connection.run().catch(() => undefined)
    await connection.open({ streamtype: 'error' })
    await connection.end()
    await over
    expect(pulled).toBe(0)
  })
})

describe('a forwarding', () => {
  const refusedBy = (opening: Promise<SpdyStream>): Promise<unknown> => opening.catch((error: unknown) => error)
  const RESET = { code: 'ERR_UPSTREAM_LOST' }

  it('is judged before it is one', async () => {
    door.run = () => ok('403')
    expect(await door.say(FORWARD)).toMatch(/^HTTP\/1\.1 502 /u)
    expect(door.calls[0]?.payload).toMatchObject({ opening: true })
  })

  it.each(['', '0', '080', '80x', '65536', '1e3', '-1'])('takes no stream to port %j', async (port) => {
    const connection = await streamsOf(door, FORWARD)
    const stream = connection.open({ streamtype: 'error', port, requestid: '1' })
    expect(await refusedBy(stream)).toMatchObject(RESET)
    expect(door.calls).toHaveLength(1)
    connection.close()
  })

  it.each([
    ['the port of one and the data of another', { streamtype: 'data', port: '81' }],
    ['two streams for errors', { streamtype: 'error', port: '80' }],
  ])('makes no connection of %s', async (_what, second) => {
    const connection = await streamsOf(door, FORWARD)
    const first = await connection.open({ streamtype: 'error', port: '80', requestid: '1' })
    const other = await connection.open({ ...second, requestid: '1' })
    await expect(textOf(first)).rejects.toMatchObject(RESET)
    await expect(textOf(other)).rejects.toMatchObject(RESET)
    expect(paths()).toHaveLength(1)
    connection.close()
  })

  it('says what was cut', async () => {
    const connection = await streamsOf(door, FORWARD)
    door.run = () => ok('101', { truncated: true })
    const error = await connection.open({ streamtype: 'error', port: '80', requestid: '1' })
    await connection.open({ streamtype: 'data', port: '80', requestid: '1' })
    expect(await textOf(error)).toContain('More came through the port than policy allows')
    expect(paths().at(-1)).toContain('ports=80')
    connection.close()
  })

  it('has so many connections at once and no more, begun or not', async () => {
    const connection = await streamsOf(door, FORWARD)
    const begun: SpdyStream[] = []
    for (let i = 0; i < 101; i++) {
      begun.push(await connection.open({ streamtype: 'error', port: '80', requestid: String(i) }))
    }
    // The others wait for their data.
    await expect(textOf(begun.at(-1) as SpdyStream)).rejects.toMatchObject(RESET)
    door.run = async function* ({ signal }) {
      yield { kind: 'head', attributes: { ':status': '101' } }
      await once(signal, 'abort')
    }
    for (let i = 0; i < 100; i++) await connection.open({ streamtype: 'data', port: '80', requestid: String(i) })
    expect(door.calls).toHaveLength(101)
    const more = connection.open({ streamtype: 'error', port: '80', requestid: 'more' })
    expect(await refusedBy(more)).toMatchObject(RESET)
    connection.close()
  })

  it('ends with its token: the first connection is told, and then all is over', async () => {
    const { socket } = await door.ask(FORWARD)
    const connection = new SpdyConnection(socket, 'client', () => undefined)
    const over = connection.run()
    door.known = false
    const error = await connection.open({ streamtype: 'error', port: '80', requestid: '1' })
    await connection.open({ streamtype: 'data', port: '80', requestid: '1' })
    expect(await textOf(error)).toContain('token')
    await over
    expect(door.refused).toEqual(['ERR_UNAUTHENTICATED'])
    // Only the forwarding itself was a call.
    expect(door.calls).toHaveLength(1)
  })

  it('whose token has ended tries nothing more, also while its client does not read the end', async () => {
    const frames = new HeaderWriter()
    const opening = (id: number, streamtype: string): Buffer => {
      const headers = frames.write({ streamtype, port: '80', requestid: String(id >> 2) })
      return controlFrame(CONTROL.synStream, 0, Buffer.concat([numbers(id, 0), Buffer.alloc(2), headers]))
    }
    const pair = (id: number): Buffer => Buffer.concat([opening(id, 'error'), opening(id + 2, 'data')])
    let ending: () => void = () => undefined
    const isEnding = new Promise<void>((resolve) => (ending = resolve))
    const socket = new Duplex({ read: () => undefined, write: (_piece, _encoding, done) => done(), final: ending })
    let tries = 0
    const path = '/api/v1/namespaces/web/pods/p/portforward'
    const upgrading = {
      request: { headers: { upgrade: 'SPDY/3.1' }, rawHeaders: ['x-stream-protocol-version', 'portforward.k8s.io'] },
      socket,
      head: Buffer.alloc(0),
      rest: path,
      run: () => ok(),
      call: async () => ({}),
      connection: async () => {
        tries++
        throw new SallyportError('ERR_UNAUTHENTICATED', 'The token has ended.')
      },
    } as unknown as Upgrading
    const served = serveForwarding(upgrading, readRequest({ method: 'GET', path }))
    socket.push(pair(1))
    await isEnding
    socket.push(pair(5))
    socket.push(null)
    await served
    expect(tries).toBe(1)
  })
})

it('a connection whose client reads nothing more ends with it', async () => {
  // Takes what is written and never says so, as a socket does whose window is full.
  const socket = new Duplex({ read: () => undefined, write: () => undefined })
  const connection = new SpdyConnection(socket, 'server', () => undefined)
  void connection.run().catch(() => undefined)
  void connection.open({ streamtype: 'error' }).catch(() => undefined)
  const ended = connection.end()
  socket.destroy()
  expect(await ended).toBeUndefined()
})
