import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { Client as ModernClient } from '@modelcontextprotocol/client'
import { StdioClientTransport as ModernStdio } from '@modelcontextprotocol/client/stdio'
import { Client as LegacyClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport as LegacyStdio } from '@modelcontextprotocol/sdk/client/stdio.js'
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { afterEach, describe, expect, it } from 'vitest'
import { runBridge } from '../../src/cli/bridge.ts'
import type { Call } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { McpDoorDeps } from '../../src/doors/mcp/deps.ts'
import { call, deferred, echo, INITIALIZE, modernCall, startGateway, PATIENT } from './harness.ts'
import { EMPTY_INBOX } from './harness.ts'
import type { AnyClient, Gateway } from './harness.ts'
import { TICKET } from './ticket.ts'

const MAIN = fileURLToPath(new URL('bridge-main.ts', import.meta.url))
const QUERY = { target: 'shop-db', sql: 'SELECT 1' }

let gateway: Gateway | undefined
const cleanup: (() => Promise<unknown> | void)[] = []
afterEach(async () => {
  for (const undo of cleanup.splice(0).reverse()) await undo()
  await gateway?.close()
  gateway = undefined
})

function spawned(env: Record<string, string>): { command: string; args: string[]; env: Record<string, string> } {
  return {
    command: process.execPath,
    args: ['--import', 'tsx', MAIN],
    env: { PATH: process.env['PATH'] ?? '', ...env },
  }
}

/** Starts the bridge as a client does, in either era. */
async function connect(era: 'legacy' | 'modern', env: Record<string, string>): Promise<AnyClient> {
  const client =
    era === 'legacy'
      ? new LegacyClient({ name: 'stdio', version: '1' }, { capabilities: { elicitation: {} } })
      : new ModernClient({ name: 'stdio', version: '1' }, { versionNegotiation: { mode: { pin: '2026-07-28' } } })
  cleanup.push(() => client.close())
  if (client instanceof LegacyClient) await client.connect(new LegacyStdio({ ...spawned(env), stderr: 'ignore' }))
  else await client.connect(new ModernStdio({ ...spawned(env), stderr: 'ignore' }))
  return client
}

/** A bridge in this process, fed and read line by line. */
function inProcess(options: { url: string; token?: string; env?: Record<string, string> }) {
  const stdin = new PassThrough()
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  const answers: unknown[] = []
  let text = ''
  stdout.on('data', (piece: Buffer) => {
    text += piece.toString()
    for (;;) {
      const end = text.indexOf('\n')
      if (end === -1) return
      answers.push(JSON.parse(text.slice(0, end)))
      text = text.slice(end + 1)
    }
  })
  let said = ''
  stderr.on('data', (piece: Buffer) => (said += piece.toString()))
  const stop = new AbortController()
  const done = runBridge({ token: 'token-agent', env: {}, ...options, stdin, stdout, stderr, signal: stop.signal })
  cleanup.push(async () => {
    stop.abort()
    await done.catch(() => undefined)
  })
  return {
    answers,
    said: () => said,
    done,
    end: () => stdin.end(),
    send: (message: unknown) => stdin.write(`${typeof message === 'string' ? message : JSON.stringify(message)}\n`),
  }
}

describe.each(['legacy', 'modern'] as const)('the stdio bridge with a client of the %s era', (era) => {
  it('C17: lets a client that holds a URL and a token list and call tools', async () => {
    gateway = await startGateway()
    const client = await connect(era, { SALLYPORT_URL: gateway.url.href, SALLYPORT_TOKEN: 'token-agent' })
    expect((await client.listTools()).tools.map(({ name }) => name)).toContain('query_database')
    const result = await call(client, 'query_database', QUERY)
    expect(result.structuredContent).toMatchObject({ status: 'ok', rows: [['SELECT 1', 'agent-7']] })
  })

  it('relays a cancellation', async () => {
    const started = deferred()
    const aborted = deferred<unknown>()
    gateway = await startGateway({
      run: async function* (one: Call): AsyncGenerator<Chunk> {
        one.signal.addEventListener('abort', () => aborted.resolve(one.signal.reason))
        started.resolve()
        await aborted.promise
        yield* echo(one)
      },
    })
    const client = await connect(era, { SALLYPORT_URL: gateway.url.href, SALLYPORT_TOKEN: 'token-agent' })
    const cancel = new AbortController()
    const params = { name: 'query_database', arguments: QUERY }
    const calling: Promise<unknown> =
      client instanceof LegacyClient
        ? client.callTool(params, undefined, { signal: cancel.signal })
        : (client as ModernClient).callTool(params, { signal: cancel.signal })
    calling.catch(() => undefined)
    await started.promise
    cancel.abort()
    expect(await aborted.promise).toMatchObject({ code: 'ERR_CANCELLED' })
  })
})

describe('the stdio bridge', () => {
  it('carries a question of the gateway to the client and its answer back', async () => {
    const voted = deferred<string>()
    gateway = await startGateway({
      inbox: {
        ...EMPTY_INBOX,
        async *offers() {
          yield { kind: 'open', ticket: TICKET }
        },
        vote: async ({ decision }) => {
          voted.resolve(decision)
          return TICKET
        },
        cancel: async () => TICKET,
      },
    })
    const client = new LegacyClient({ name: 'stdio', version: '1' }, { capabilities: { elicitation: {} } })
    cleanup.push(() => client.close())
    client.setRequestHandler(ElicitRequestSchema, async () => ({ action: 'accept', content: { decision: 'deny' } }))
    const env = { SALLYPORT_URL: gateway.url.href, SALLYPORT_TOKEN: 'token-maria' }
    await client.connect(new LegacyStdio({ ...spawned(env), stderr: 'ignore' }))
    expect(await voted.promise).toBe('deny')
  })

  it('answers with an error while the gateway is away, and recovers with it', async () => {
    gateway = await startGateway()
    const port = Number(gateway.url.port)
    const { answers, send, said } = inProcess({ url: gateway.url.href })
    send(INITIALIZE)
    await expect.poll(() => answers, PATIENT).toHaveLength(1)
    send({ jsonrpc: '2.0', method: 'notifications/initialized' })
    send({ jsonrpc: '2.0', id: 'a', method: 'tools/list' })
    await expect.poll(() => answers, PATIENT).toHaveLength(2)
    await gateway.close()
    gateway = undefined
    send({ jsonrpc: '2.0', id: 'b', method: 'tools/list' })
    await expect.poll(() => answers, PATIENT).toHaveLength(3)
    expect(answers[2]).toMatchObject({
      id: 'b',
      error: { message: expect.stringMatching(/cannot be reached.*running/) },
    })
    gateway = await startGateway({}, port)
    send({ jsonrpc: '2.0', id: 'c', method: 'tools/list' })
    await expect.poll(() => answers, PATIENT).toHaveLength(4)
    // A new session was opened on the way; the client saw nothing of it.
    expect(answers[3]).toMatchObject({ id: 'c', result: { tools: expect.any(Array) } })
    expect(said()).toContain('a new one is open')
  })

  it('hears of a lost session by itself when it listens, so that an approver is asked again', async () => {
    const listening = [deferred(), deferred()]
    let heard = 0
    const inbox: McpDoorDeps['inbox'] = {
      ...EMPTY_INBOX,
      // oxlint-disable-next-line require-yield
      async *offers(_, signal) {
        listening[heard++]?.resolve()
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
      },
      vote: async () => TICKET,
      cancel: async () => TICKET,
    }
    gateway = await startGateway({ inbox })
    const port = Number(gateway.url.port)
    const { answers, send } = inProcess({ url: gateway.url.href, token: 'token-maria' })
    send({ ...INITIALIZE, params: { ...INITIALIZE.params, capabilities: { elicitation: { form: {} } } } })
    await expect.poll(() => answers, PATIENT).toHaveLength(1)
    send({ jsonrpc: '2.0', method: 'notifications/initialized' })
    await listening[0]?.promise
    await gateway.close()
    gateway = await startGateway({ inbox }, port)
    await listening[1]?.promise
    expect(answers).toHaveLength(1)
    expect(gateway.sessions.list().map(({ principal }) => principal.id)).toEqual(['maria'])
  })

  it('tells the client what the gateway said about a request as a whole', async () => {
    gateway = await startGateway()
    const { answers, send } = inProcess({ url: gateway.url.href })
    const { body } = modernCall({ ...QUERY, sql: 'x'.repeat(1024 * 1024) })
    send(body)
    await expect.poll(() => answers, PATIENT).toHaveLength(1)
    expect(answers[0]).toMatchObject({ id: 1, error: { message: expect.stringMatching(/larger than/) } })
  })

  it('says that a token is not accepted, and never the token', async () => {
    gateway = await startGateway()
    const { answers, send, said } = inProcess({ url: gateway.url.href, token: 'stolen-token' })
    send(INITIALIZE)
    await expect.poll(() => answers, PATIENT).toHaveLength(1)
    expect(answers[0]).toMatchObject({ id: 0, error: { message: expect.stringMatching(/did not accept the token/) } })
    expect(JSON.stringify(answers) + said()).not.toContain('stolen-token')
  })

  it.each(['nonsense', '7', '"text"', '{'])('answers the line %s with an error and goes on', async (line) => {
    gateway = await startGateway()
    const { answers, send } = inProcess({ url: gateway.url.href })
    send(line)
    send('')
    send(modernCall(QUERY).body)
    await expect.poll(() => answers, PATIENT).toHaveLength(2)
    expect(answers).toContainEqual({ jsonrpc: '2.0', id: null, error: { code: -32700, message: expect.any(String) } })
    expect(answers).toContainEqual(expect.objectContaining({ id: 1, result: expect.any(Object) }))
  })

  it('skips a line that is too long without keeping it', async () => {
    gateway = await startGateway()
    const { answers, send } = inProcess({ url: gateway.url.href })
    send(JSON.stringify({ jsonrpc: '2.0', id: 9, method: 'x', params: 'y'.repeat(5 * 1024 * 1024) }))
    send(modernCall(QUERY).body)
    await expect.poll(() => answers, PATIENT).toHaveLength(2)
    expect(answers[0]).toMatchObject({ id: null, error: { code: -32700 } })
  })

  it('answers what is open before it ends, and ends the session', async () => {
    gateway = await startGateway()
    const { answers, send, end, done } = inProcess({ url: gateway.url.href })
    send(INITIALIZE)
    await expect.poll(() => answers, PATIENT).toHaveLength(1)
    send({ jsonrpc: '2.0', id: 'last', method: 'tools/list' })
    end()
    await done
    expect(answers).toContainEqual(expect.objectContaining({ id: 'last' }))
    expect(gateway.sessions.list()).toEqual([])
  })

  it('declares the run it was told', async () => {
    const runs: (string | undefined)[] = []
    gateway = await startGateway({ run: (one) => (runs.push(one.session.run), echo(one)) })
    const { answers, send } = inProcess({ url: gateway.url.href, env: { SALLYPORT_RUN: 'nightly-1' } })
    send(modernCall(QUERY).body)
    await expect.poll(() => answers, PATIENT).toHaveLength(1)
    expect(runs).toEqual(['nightly-1'])
  })
})

describe('the stdio bridge does not start', () => {
  it.each([
    ['http://gateway.example/mcp', /https/],
    ['http://127.0.0.1.evil.example/mcp', /https/],
    ['http://10.0.0.7:7400/mcp', /https/],
    ['ftp://127.0.0.1/', /https/],
    ['https://user:secret@gateway.example/', /user or password/],
    ['not a url', /not a URL/],
  ])('with the URL %s', async (url, message) => {
    await expect(runBridge({ url, token: 't', env: {}, stdin: new PassThrough() })).rejects.toThrow(message)
  })

  it('without a token, or with one that is none', async () => {
    const url = 'http://127.0.0.1:1/mcp'
    await expect(runBridge({ url, env: {}, stdin: new PassThrough() })).rejects.toThrow(/SALLYPORT_TOKEN/)
    for (const token of ['a b', 'x\r\nhost: evil', 'ü']) {
      const refused = runBridge({ url, token, env: {}, stdin: new PassThrough() })
      await expect(refused).rejects.toMatchObject({ message: 'What SALLYPORT_TOKEN holds is not a token.' })
    }
  })

  it('with a token file others can read; with a private one it reads it anew for each request', async () => {
    gateway = await startGateway()
    const directory = mkdtempSync(join(tmpdir(), 'bridge-'))
    cleanup.push(() => rmSync(directory, { recursive: true }))
    const file = join(directory, 'token')
    writeFileSync(file, 'wrong-token\n', { mode: 0o600 })
    chmodSync(file, 0o644)
    const env = { SALLYPORT_TOKEN_FILE: file }
    await expect(runBridge({ url: gateway.url.href, env, stdin: new PassThrough() })).rejects.toThrow(/chmod 600/)
    chmodSync(file, 0o600)
    const stdin = new PassThrough()
    const stdout = new PassThrough()
    const done = runBridge({ url: gateway.url.href, env, stdin, stdout, stderr: new PassThrough() })
    stdin.write(`${JSON.stringify(INITIALIZE)}\n`)
    const [refused] = (await once(stdout, 'data')) as [Buffer]
    expect(refused.toString()).toMatch(/did not accept the token/)
    writeFileSync(file, 'token-agent\n')
    stdin.write(`${JSON.stringify(INITIALIZE)}\n`)
    const [answer] = (await once(stdout, 'data')) as [Buffer]
    expect(answer.toString()).toContain('serverInfo')
    stdin.end()
    await done
  })

  it('and says why in one line, with nothing on standard output', async () => {
    const { command, args, env } = spawned({ SALLYPORT_URL: 'http://gateway.example/', SALLYPORT_TOKEN: 'hunter2' })
    const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    let out = ''
    let err = ''
    child.stdout.on('data', (piece: Buffer) => (out += piece.toString()))
    child.stderr.on('data', (piece: Buffer) => (err += piece.toString()))
    const [code] = (await once(child, 'close')) as [number]
    expect(code).not.toBe(0)
    expect(out).toBe('')
    expect(err).toMatch(/^sallyport: Plain http .*\n$/)
    expect(err).not.toContain('hunter2')
  })
})
