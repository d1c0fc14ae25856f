import type { Client as ModernClient } from '@modelcontextprotocol/client'
import { Client as LegacyClient } from '@modelcontextprotocol/sdk/client/index.js'
import { afterEach, describe, expect, it } from 'vitest'
import type { Call } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { call, connectLegacy, connectModern, deferred, echo, ERAS, SHOP, startGateway } from './harness.ts'
import type { AnyClient, Gateway } from './harness.ts'

let gateway: Gateway
const clients: AnyClient[] = []
afterEach(async () => {
  await Promise.allSettled(clients.splice(0).map((client) => client.close()))
  await gateway.close()
})

describe.each(ERAS)('the MCP door in the %s', (_, connect) => {
  async function open(deps: Parameters<typeof startGateway>[0] = {}): Promise<AnyClient> {
    gateway = await startGateway(deps)
    const client = await connect(gateway.url, 'token-agent')
    clients.push(client)
    return client
  }

  it('lists the same tools in the same order every time', async () => {
    const client = await open()
    const names = (await client.listTools()).tools.map(({ name }) => name)
    expect(names).toEqual([
      'approval_cancel',
      'approval_status',
      'describe_target',
      'http_request',
      'kubectl',
      'query_database',
      'run_ssh',
    ])
    expect((await client.listTools()).tools.map(({ name }) => name)).toEqual(names)
  })

  it('runs a tool call as the verified principal and returns rows that fit the output schema', async () => {
    const client = await open()
    await client.listTools() // the client now checks results against the schema
    const result = await call(client, 'query_database', { target: 'shop-db', sql: 'SELECT 1' })
    expect(result.isError).toBeFalsy()
    expect(result.structuredContent).toMatchObject({
      status: 'ok',
      rows: [['SELECT 1', 'agent-7']],
      truncated: false,
    })
    expect(result.content[0]?.text).toContain('SELECT 1\tagent-7')
  })

  it('answers a denial as an error with rule, reason and hint, and nothing internal', async () => {
    const client = await open({
      // oxlint-disable-next-line require-yield
      run: async function* (): AsyncGenerator<Chunk> {
        throw new SallyportError('ERR_DENIED', 'Schema changes go through migrations.', {
          facts: { rules: ['no-destruction'], hint: 'Ask for a migration.' },
          detail: 'internal-detail',
          cause: new Error('internal-cause'),
        })
      },
    })
    await client.listTools()
    const result = await call(client, 'query_database', { target: 'shop-db', sql: 'DROP TABLE x' })
    expect(result.isError).toBe(true)
    expect(result.structuredContent).toEqual({
      status: 'denied',
      code: 'ERR_DENIED',
      reason: 'Schema changes go through migrations.',
      rules: ['no-destruction'],
      hint: 'Ask for a migration.',
    })
    expect(JSON.stringify(result)).not.toContain('internal')
  })

  it('says nothing of an error nobody foresaw, and logs it', async () => {
    const client = await open({
      // oxlint-disable-next-line require-yield
      run: async function* (): AsyncGenerator<Chunk> {
        throw new TypeError('password is hunter2')
      },
    })
    const result = await call(client, 'query_database', { target: 'shop-db', sql: 'SELECT 1' })
    expect(result.structuredContent).toMatchObject({ status: 'failed', code: 'ERR_INTERNAL' })
    expect(JSON.stringify(result)).not.toContain('hunter2')
    expect(gateway.logged).toContainEqual(expect.objectContaining({ code: 'ERR_INTERNAL' }))
  })

  it.each([
    ['no arguments', {}],
    ['a missing statement', { target: 'shop-db' }],
    ['an argument nobody knows', { target: 'shop-db', sql: 'SELECT 1', as: 'root' }],
    ['a number that is no longer exact', { target: 'shop-db', sql: 'SELECT $1', params: [2 ** 53] }],
    ['a NUL character', { target: 'shop-db', sql: 'SELECT 1\0' }],
    ['an unpaired surrogate', { target: 'shop-db', sql: "SELECT '\ud800'" }],
    ['a nested parameter', { target: 'shop-db', sql: 'SELECT $1', params: [[1]] }],
    ['a target of another protocol', { target: 'web-1', sql: 'SELECT 1' }],
  ])('records and refuses %s', async (_case, args) => {
    let ran = 0
    const client = await open({ run: (one) => (ran++, echo(one)) })
    const result = await call(client, 'query_database', args)
    expect(result.structuredContent).toMatchObject({ status: 'invalid', code: 'ERR_INVALID_INPUT' })
    expect(gateway.refusals).toEqual([
      expect.objectContaining({ tool: 'query_database', principal: 'agent-7', code: 'ERR_INVALID_INPUT' }),
    ])
    expect(ran).toBe(0)
  })

  it('never quotes a value in what it says about arguments', async () => {
    const client = await open()
    const result = await call(client, 'query_database', { target: 'shop-db', sql: 7, s3cret: 'hunter2' })
    expect(JSON.stringify(result)).not.toMatch(/hunter2|s3cret/)
  })

  it('records an unknown target and names those the caller has', async () => {
    const client = await open()
    const result = await call(client, 'query_database', { target: 'nowhere', sql: 'SELECT 1' })
    expect(result.structuredContent).toMatchObject({ code: 'ERR_UNKNOWN_TARGET', hint: 'Your targets are shop-db.' })
    expect(gateway.refusals).toEqual([expect.objectContaining({ target: 'nowhere', code: 'ERR_UNKNOWN_TARGET' })])
  })

  it('records an unknown tool', async () => {
    const client = await open()
    await expect(call(client, 'run_anything', { x: 1 })).rejects.toThrow(/ERR_UNKNOWN_TOOL/)
    expect(gateway.refusals).toEqual([expect.objectContaining({ tool: 'run_anything', code: 'ERR_UNKNOWN_TOOL' })])
  })

  it('aborts the call when the client cancels it', async () => {
    const started = deferred()
    const aborted = deferred<unknown>()
    const client = await open({
      run: async function* (one: Call): AsyncGenerator<Chunk> {
        one.signal.addEventListener('abort', () => aborted.resolve(one.signal.reason))
        started.resolve()
        await aborted.promise
        yield { kind: 'exit', status: 'never', truncated: false }
      },
    })
    const cancel = new AbortController()
    const params = { name: 'query_database', arguments: { target: 'shop-db', sql: 'SELECT pg_sleep(9)' } }
    const options = { signal: cancel.signal }
    // The two libraries differ in where the options stand.
    const calling: Promise<unknown> =
      client instanceof LegacyClient
        ? client.callTool(params, undefined, options)
        : (client as ModernClient).callTool(params, options)
    const settled = calling.then(
      () => 'answered',
      () => 'cancelled',
    )
    await started.promise
    cancel.abort()
    expect(await settled).toBe('cancelled')
    expect(await aborted.promise).toMatchObject({ code: 'ERR_CANCELLED' })
  })

  it('does not abort a call that was answered', async () => {
    let signal: AbortSignal | undefined
    const client = await open({ run: (one) => ((signal = one.signal), echo(one)) })
    await call(client, 'query_database', { target: 'shop-db', sql: 'SELECT 1' })
    await call(client, 'query_database', { target: 'shop-db', sql: 'SELECT 2' })
    expect(signal?.aborted).toBe(false)
  })

  it('tells of a target its name, protocol, labels and mode, and neither address nor settings', async () => {
    const client = (await open({ targets: () => [{ ...SHOP, options: { user: 'backend-user' } }] })) as ModernClient
    const { contents } = await client.readResource({ uri: 'targets://' })
    const [content] = contents
    expect(JSON.parse(content !== undefined && 'text' in content ? content.text : '')).toEqual({
      targets: [{ name: 'shop-db', protocol: 'postgres', labels: { env: 'test' }, mode: 'enforce' }],
    })
  })

  it('gives each principal its own policy and targets as resources', async () => {
    const client = (await open()) as ModernClient
    const { resources } = await client.listResources()
    expect(resources.map(({ uri }) => uri)).toEqual(['policy://effective', 'targets://'])
    const policy = await client.readResource({ uri: 'policy://effective' })
    expect(policy.contents[0]).toMatchObject({ mimeType: 'application/json' })
    expect(JSON.stringify(policy.contents)).toContain('agent-7')
    const targets = await client.readResource({ uri: 'targets://' })
    expect(JSON.stringify(targets.contents)).toContain('shop-db')
    await expect(client.readResource({ uri: 'policy://other' })).rejects.toThrow(/not found/i)
  })
})

describe('the MCP door', () => {
  it('gives no answer to another client: 100 clients of both eras, interleaved', async () => {
    gateway = await startGateway({
      run: async function* (one: Call): AsyncGenerator<Chunk> {
        const { sql } = one.payload as { sql: string }
        // Answers come in another order than the questions.
        await new Promise((resolve) => setTimeout(resolve, Number(sql.slice(-2)) % 7))
        yield* echo(one)
      },
    })
    for (let index = 0; index < 100; index++) {
      const connect = index % 2 === 0 ? connectLegacy : connectModern
      gateway.tokens.set(`token-${index}`, {
        id: `p${index}`,
        kind: 'agent',
        groups: [],
        roles: [],
        owner: `o${index}`,
        credentialId: `c${index}`,
      })
      clients.push(await connect(gateway.url, `token-${index}`))
    }
    const rounds = [1, 2, 3].flatMap((round) => clients.map((client, index) => ({ round, client, index })))
    await Promise.all(
      rounds.map(async ({ round, client, index }) => {
        const sql = `SELECT 'marker-${round}-${index}' -- ${String(index).padStart(2, '0')}`
        const result = await call(client, 'query_database', { target: 'shop-db', sql })
        expect(result.structuredContent['rows']).toEqual([[sql, `p${index}`]])
      }),
    )
  })

  it('joins the calls of a caller without a connection in one session, by token and declared run', async () => {
    const seen: string[] = []
    gateway = await startGateway({ run: (one) => (seen.push(`${one.session.id} ${one.session.run}`), echo(one)) })
    const query = { target: 'shop-db', sql: 'SELECT 1' }
    for (const headers of [{}, {}, { 'Sallyport-Run': 'nightly-1' }]) {
      const client = await connectModern(gateway.url, 'token-agent', headers)
      clients.push(client)
      await call(client, 'query_database', query)
    }
    expect(seen[0]).toBe(seen[1])
    expect(seen[2]).not.toBe(seen[0])
    expect(seen[2]).toMatch(/ nightly-1$/)
  })

  it('C2: judges a caller without a connection by what its principal is now', async () => {
    const seen: (readonly string[])[] = []
    gateway = await startGateway({ run: (one) => (seen.push(one.session.principal.groups), echo(one)) })
    const client = await connectModern(gateway.url, 'token-agent')
    clients.push(client)
    const query = { target: 'shop-db', sql: 'SELECT 1' }
    await call(client, 'query_database', query)
    const agent = gateway.tokens.get('token-agent')
    if (agent === undefined) throw new Error('the harness has no agent')
    gateway.tokens.set('token-agent', { ...agent, groups: ['nobody'] })
    await call(client, 'query_database', query)
    expect(seen).toEqual([['agents'], ['nobody']])
  })
})
