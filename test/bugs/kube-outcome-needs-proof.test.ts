/**
 * A ticket that says `failed` invites another try, and one that says `outcome_unknown` sends a person to look: each only
 * where it is true of what the API server may have done by then.
 */
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { settledState } from '../../src/approval/claim.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { parseJson, type JsonValue } from '../../src/core/json.ts'
import { drainNode } from '../../src/protocols/kubernetes/connect-drain.ts'
import { mapError } from '../../src/protocols/kubernetes/connect-errors.ts'
import { sendGuarded } from '../../src/protocols/kubernetes/connect-guard.ts'
import { Pools } from '../../src/protocols/kubernetes/connect-pool.ts'
import { send, type Upstream } from '../../src/protocols/kubernetes/connect-send.ts'
import type { Step } from '../../src/protocols/kubernetes/connect-step.ts'
import { openWebSocket } from '../../src/protocols/kubernetes/connect-websocket.ts'
import { kubernetesOptions, kubernetesSchema } from '../../src/protocols/kubernetes/options.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'

const ALIVE = new AbortController().signal
const UNREACHABLE = new SallyportError('ERR_UPSTREAM_UNREACHABLE', 'x', { facts: { noEffect: true } })
const DELETION = readRequest({ method: 'DELETE', path: '/api/v1/namespaces/web/pods/p' })

const left: (() => unknown)[] = []
afterEach(async () => {
  for (const undo of left.splice(0)) await undo()
})

/** A server that reads the head of a request and breaks the connection; `seen` are the heads. */
async function breaking(): Promise<{ readonly url: string; readonly seen: readonly string[] }> {
  const seen: string[] = []
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    let text = ''
    socket.on('error', () => undefined)
    socket.setEncoding('latin1').on('data', (piece: string) => {
      text += piece
      if (!text.includes('\r\n\r\n')) return
      seen.push(text)
      socket.destroy()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  left.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen }
}

function upstreamTo(server: string, tls: object = {}, signal = ALIVE): Upstream {
  const read = kubernetesOptions(kubernetesSchema.parse({ server: 'https://127.0.0.1:1', auth: 'token', tls }))
  // Without TLS, which is no part of what is tested.
  const options = { ...read, server: new URL(server) }
  const pools = new Pools(options)
  left.push(() => pools.close())
  return { options, pools, login: { authorization: 'Bearer t' }, signal }
}

const settledBy = (error: unknown): string => settledState(undefined, 'failed', SallyportError.from(error))
const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  )

describe('nobody knows what became of', () => {
  it('a command whose server broke off before it agreed to the streams', async () => {
    const { url, seen } = await breaking()
    const request = {
      url: new URL(`${url}/api/v1/namespaces/web/pods/p/exec?command=rm`),
      headers: {},
      tls: {},
      channels: { stdin: false, stdout: true, stderr: true, tty: false },
      signal: ALIVE,
    }
    expect(settledBy(await failure(openWebSocket(request, ['v5.channel.k8s.io'])))).toBe('outcome_unknown')
    expect(seen).toHaveLength(1)
  })

  it.each([
    ['ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC', false],
    ['ERR_SSL_SSLV3_ALERT_BAD_RECORD_MAC', true],
    ['EPROTO', false],
    ['EPROTO', true],
    ['CERT_HAS_EXPIRED', true],
    ['ECONNRESET', false],
  ])('a change whose connection ended with %s (answered: %s)', (code, isAnswered) => {
    expect(settledBy(mapError(Object.assign(new Error('x'), { code }), ALIVE, isAnswered))).toBe('outcome_unknown')
  })

  it.each(['read', 'write'])('a change whose server went away behind it (%s)', (syscall) => {
    const error = Object.assign(new Error('x'), { code: 'EHOSTUNREACH', syscall })
    expect(settledBy(mapError(error, ALIVE, false))).toBe('outcome_unknown')
  })

  it('a drain that was cordoning, and lost the server after that', async () => {
    const list = { items: [pod('a'), pod('b')] }
    const evictions: string[] = []
    const step: Step = async ({ verb, path }) => {
      if (verb === 'list') return json(list)
      if (verb === 'evict' && evictions.push(path) === 2) throw UNREACHABLE
      return json({})
    }
    const error = await failure(drainNode(drain(['a', 'b']), drainRequests(['a', 'b']), step, ALIVE))
    expect(error).toMatchObject({ message: expect.stringContaining('1 of 2 pods') as unknown })
    expect(settledBy(error)).toBe('outcome_unknown')
  })
})

describe('nothing came of', () => {
  it('a change before which the guard could not be read', async () => {
    const { url, seen } = await breaking()
    const error = await failure(sendGuarded(DELETION, 'digest', upstreamTo(url)))
    expect(settledBy(error)).toBe('failed')
    expect(seen.map((head) => head.split(' ')[0])).toEqual(['GET'])
  })

  it.each([
    ['EHOSTUNREACH', 'connect'],
    ['ENOTFOUND', 'getaddrinfo'],
  ])('a change whose server was not reached (%s)', (code, syscall) => {
    const error = Object.assign(new Error('x'), { code, syscall })
    expect(settledBy(mapError(error, ALIVE, false))).toBe('failed')
  })

  it('a change that was stopped before it was sent', async () => {
    const stop = new AbortController()
    stop.abort(new SallyportError('ERR_DENIED', 'Frozen.'))
    const { url, seen } = await breaking()
    const error = await failure(send(DELETION, upstreamTo(url, {}, stop.signal)))
    expect(error).toMatchObject({ code: 'ERR_DENIED', message: 'Frozen.' })
    expect(settledState(undefined, 'failed', SallyportError.from(error), true)).toBe('failed')
    expect(seen).toEqual([])
  })

  it('a change whose authorities cannot be read', async () => {
    const upstream = upstreamTo('https://127.0.0.1:1', { ca: '/nowhere/ca.crt' })
    const error = await failure(send(DELETION, upstream))
    expect(error).toMatchObject({ code: 'ERR_CONFIG_INVALID' })
    expect(settledBy(error)).toBe('failed')
  })

  it('a drain whose pods could not be listed', async () => {
    const step: Step = async () => {
      throw new SallyportError('ERR_UPSTREAM_LOST', 'x')
    }
    expect(settledBy(await failure(drainNode(drain(['a']), drainRequests(['a']), step, ALIVE)))).toBe('failed')
  })
})

function json(value: unknown): JsonValue {
  return parseJson(JSON.stringify(value))?.value ?? null
}

function pod(name: string): object {
  return { metadata: { namespace: 'web', name, uid: name, ownerReferences: [{ kind: 'ReplicaSet' }] } }
}

function drain(names: readonly string[]): Parameters<typeof drainNode>[0] {
  const pods = names.map((name) => ({ namespace: 'web', name, uid: name }))
  return {
    command: 'drain',
    output: 'table',
    requests: [],
    drain: { ignoreDaemonsets: false, deleteEmptydirData: false, pods },
  }
}

function drainRequests(names: readonly string[]): Parameters<typeof drainNode>[1] {
  const written = [
    ['PATCH', '/api/v1/nodes/n', 'application/merge-patch+json'],
    ['GET', '/api/v1/pods', undefined],
    ...names.map((name) => ['POST', `/api/v1/namespaces/web/pods/${name}/eviction`, 'application/json'] as const),
  ] as const
  return written.map(([method, path, contentType]) =>
    readRequest({ method, path, contentType, ...(method !== 'GET' && { body: Buffer.from('{}') }) }),
  )
}
