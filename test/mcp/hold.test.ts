import { randomUUID } from 'node:crypto'
import type { Client as ModernClient } from '@modelcontextprotocol/client'
import { Client as LegacyClient } from '@modelcontextprotocol/sdk/client/index.js'
import { afterEach, describe, expect, it } from 'vitest'
import type { Call } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { McpDoorDeps } from '../../src/doors/mcp/deps.ts'
import { AGENT, call, connectLegacy, deferred, echo, ERAS, startGateway, PATIENT } from './harness.ts'
import type { AnyClient, Gateway, Result } from './harness.ts'

const QUERY = { target: 'shop-db', sql: 'UPDATE orders SET total = 1 WHERE id = 7' }

let gateway: Gateway
const clients: AnyClient[] = []
afterEach(async () => {
  await Promise.allSettled(clients.splice(0).map((client) => client.close()))
  await gateway.close()
})

/** Calls that need consent: one ticket, which the test approves, and one run of it. */
function consenting() {
  const approved = deferred()
  let state: 'pending' | 'approved' | 'done' = 'pending'
  let runs = 0
  const waits: number[] = []
  async function* run(one: Call): AsyncGenerator<Chunk, void, undefined> {
    waits.push(one.hold.waitMs)
    if (state === 'pending') {
      one.hold.onHeld?.({ ticket: 'T-1', approvers: ['group:dba'], expiresAt: '2026-11-23T12:00:00Z' })
      let timer: NodeJS.Timeout | undefined
      const over = new Promise<never>((_, reject) => {
        const pending = new SallyportError('ERR_APPROVAL_PENDING', 'The call waits for approval.', {
          facts: { ticket: 'T-1', rules: ['writes-need-a-dba'] },
        })
        timer = setTimeout(() => reject(pending), one.hold.waitMs)
      })
      try {
        await Promise.race([approved.promise, over])
      } finally {
        clearTimeout(timer)
      }
    }
    if (state === 'done') {
      for await (const chunk of echo(one)) yield chunk.kind === 'exit' ? { ...chunk, replayed: true } : chunk
      return
    }
    state = 'done'
    runs++
    yield* echo(one)
  }
  const deps: Partial<McpDoorDeps> = {
    run,
    async reissue(ticket, principal) {
      if (ticket !== 'T-1' || principal.id !== AGENT.id) {
        throw new SallyportError('ERR_UNKNOWN_TICKET', 'You have no ticket of that name.')
      }
      return { target: QUERY.target, tool: 'query_database', payload: { sql: QUERY.sql } }
    },
  }
  return {
    deps,
    waits,
    runs: () => runs,
    approve: () => {
      state = 'approved'
      approved.resolve()
    },
  }
}

describe.each(ERAS)('a call that waits for a person, in the %s', (_, connect) => {
  async function open(token: string): Promise<AnyClient> {
    const client = await connect(gateway.url, token)
    clients.push(client)
    await client.listTools()
    return client
  }

  it('is answered as pending, with everything needed to come back, and runs once when it was approved', async () => {
    const consent = consenting()
    gateway = await startGateway({ ...consent.deps, limits: { holdMs: 5, pollAfterMs: 1234 } })
    const client = await open('token-agent')
    const pending = await call(client, 'query_database', QUERY)
    expect(pending.isError).toBeFalsy()
    expect(pending.structuredContent).toEqual({
      status: 'pending_approval',
      code: 'ERR_APPROVAL_PENDING',
      reason: 'The call waits for approval.',
      rules: ['writes-need-a-dba'],
      ticket: 'T-1',
      approvers: ['group:dba'],
      expires_at: '2026-11-23T12:00:00Z',
      poll_after_ms: 1234,
      resume: { tool: 'approval_status', arguments: { ticket: 'T-1' } },
    })
    expect(pending.content[0]?.text).toContain('Nothing has run')
    expect((await call(client, 'approval_status', { ticket: 'T-1' })).structuredContent).toMatchObject({
      status: 'pending_approval',
      ticket: 'T-1',
    })
    consent.approve()
    const done = await call(client, 'approval_status', { ticket: 'T-1' })
    expect(done.structuredContent).toMatchObject({ status: 'ok', rows: [[QUERY.sql, 'agent-7']] })
    const again = await call(client, 'approval_status', { ticket: 'T-1' })
    expect(again.structuredContent).toMatchObject({ status: 'ok', replayed: true })
    expect(again.content[0]?.text).toContain('nothing ran again')
    expect(consent.runs()).toBe(1)
  })

  it('can be waited for with approval_status', async () => {
    const consent = consenting()
    gateway = await startGateway({ ...consent.deps, limits: { holdMs: 170_000 } })
    const client = await open('token-agent')
    const waiting = call(client, 'approval_status', { ticket: 'T-1', wait_ms: 15_000 })
    await expect.poll(() => consent.waits, PATIENT).toEqual([15_000])
    consent.approve()
    expect((await waiting).structuredContent).toMatchObject({ status: 'ok' })
  })

  it('is nobody else’s: another caller’s ticket is unknown, and the attempt is recorded', async () => {
    const consent = consenting()
    gateway = await startGateway(consent.deps)
    consent.approve()
    const rival = await open('token-rival')
    const result = await call(rival, 'approval_status', { ticket: 'T-1' })
    expect(result.structuredContent).toMatchObject({ status: 'invalid', code: 'ERR_UNKNOWN_TICKET' })
    expect(gateway.refusals).toEqual([
      expect.objectContaining({ principal: 'agent-8', tool: 'approval_status', code: 'ERR_UNKNOWN_TICKET' }),
    ])
    expect(consent.runs()).toBe(0)
  })

  it('tells a client that asked for progress again and again that it lives, and falls silent with the answer', async () => {
    const consent = consenting()
    gateway = await startGateway({
      ...consent.deps,
      limits: { heartbeatMs: 25, holdMs: 1, holdWithProgressMs: 170_000 },
    })
    const client = await open('token-agent')
    const beats: { progress: number; message?: string | undefined }[] = []
    const options = {
      // Its clock begins anew with each beat; how long it is matters to nobody here.
      timeout: 170_000,
      resetTimeoutOnProgress: true,
      onprogress: (beat: (typeof beats)[number]) => {
        beats.push(beat)
        if (beats.length === 20) consent.approve()
      },
    }
    const params = { name: 'query_database', arguments: QUERY }
    const result = (await (client instanceof LegacyClient
      ? client.callTool(params, undefined, options)
      : (client as ModernClient).callTool(params, options))) as Result
    expect(result.structuredContent).toMatchObject({ status: 'ok' })
    expect(consent.waits).toEqual([170_000])
    expect(beats.every(({ progress }, index) => index === 0 || progress > (beats[index - 1]?.progress ?? 0))).toBe(true)
    expect(beats[0]?.message).toBe('waiting for approval T-1 by group:dba, expires 2026-11-23T12:00:00Z')
    const count = beats.length
    await call(client, 'query_database', QUERY) // one more round trip, in which a late beat would arrive
    expect(beats).toHaveLength(count)
  })

  it('hands on the agent’s reason and its wish for a new request', async () => {
    const seen: (string | undefined)[] = []
    gateway = await startGateway({ run: (one) => (seen.push(one.reason, one.newRequest), echo(one)) })
    const client = await open('token-agent')
    const fresh = randomUUID()
    await call(client, 'query_database', { ...QUERY, reason: 'fixing a typo', new_request: fresh })
    expect(seen).toEqual(['fixing a typo', fresh])
  })
})

describe('a held call whose client leaves', () => {
  it('is detached from its waiter at once', async () => {
    const detached = deferred<unknown>()
    const held = deferred()
    gateway = await startGateway({
      // oxlint-disable-next-line require-yield
      run: async function* (one: Call): AsyncGenerator<Chunk> {
        held.resolve()
        one.hold.onHeld?.({ ticket: 'T-1', approvers: [], expiresAt: '2026-11-23T12:00:00Z' })
        await new Promise((resolve) => one.signal.addEventListener('abort', resolve, { once: true }))
        detached.resolve(one.signal.reason)
        throw one.signal.reason
      },
    })
    const client = await connectLegacy(gateway.url, 'token-agent')
    const leaving = new AbortController()
    const asking = client.callTool({ name: 'query_database', arguments: QUERY }, undefined, { signal: leaving.signal })
    await held.promise
    leaving.abort(new Error('had enough'))
    await expect(asking).rejects.toThrow('had enough')
    expect(await detached.promise).toMatchObject({ code: 'ERR_CANCELLED' })
    await client.close()
  })
})
