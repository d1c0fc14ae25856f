import type { ServerContext } from '@modelcontextprotocol/server'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Call } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { Caller } from '../../src/doors/mcp/caller.ts'
import { callTool } from '../../src/doors/mcp/calls.ts'
import { Cursors } from '../../src/doors/mcp/cursors.ts'
import { DOOR_LIMITS } from '../../src/doors/mcp/deps.ts'
import { AGENT, depsOf, echo } from './harness.ts'

const PARAMS = { name: 'query_database', arguments: { target: 'shop-db', sql: 'SELECT 1' } }

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** The context of one request, with what was notified in it. */
function context(more: { caller?: Caller; cancelled?: AbortSignal } = {}) {
  const { deps, sessions } = depsOf()
  const beats: unknown[] = []
  const gone = new AbortController()
  const caller = more.caller ?? new Caller(AGENT, gone.signal, () => sessions.join({ principal: AGENT, door: 'mcp' }))
  const ctx = {
    mcpReq: {
      id: 1,
      method: 'tools/call',
      _meta: { progressToken: 7 },
      signal: more.cancelled ?? new AbortController().signal,
      notify: async (notification: unknown) => void beats.push(notification),
    },
    http: { authInfo: caller.asAuthInfo() },
  } as unknown as ServerContext
  return { ctx, deps, beats, gone, sessions }
}

const NONE = new Cursors(
  DOOR_LIMITS,
  () => 0,
  () => undefined,
)

describe('one call', () => {
  it.each<readonly [string, (call: Call) => AsyncIterable<Chunk>]>([
    ['answered', echo],
    [
      'refused',
      // oxlint-disable-next-line require-yield
      async function* () {
        throw new SallyportError('ERR_DENIED', 'No.')
      },
    ],
  ])('leaves no timer and no listener behind when it is %s', async (_, run) => {
    const { ctx, deps, beats, gone, sessions } = context()
    let signal: AbortSignal | undefined
    await callTool(PARAMS, ctx, { ...deps, run: (call) => ((signal = call.signal), run(call)) }, DOOR_LIMITS, NONE)
    await sessions.close()
    expect(vi.getTimerCount()).toBe(0)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(beats).toEqual([])
    // What happens to the connection afterwards is no cancellation of the call.
    gone.abort()
    expect(signal?.aborted).toBe(false)
  })

  it('is not made for a request without a verified caller', async () => {
    const { ctx, deps, sessions } = context()
    const anonymous = {
      ...ctx,
      http: { authInfo: { token: 'x', clientId: 'agent-7', scopes: [], extra: { caller: AGENT } } },
    }
    let ran = false
    const run = (call: Call): AsyncIterable<Chunk> => ((ran = true), echo(call))
    await expect(
      callTool(PARAMS, anonymous as unknown as ServerContext, { ...deps, run }, DOOR_LIMITS, NONE),
    ).rejects.toMatchObject({ code: 'ERR_UNAUTHENTICATED' })
    expect(ran).toBe(false)
    await sessions.close()
  })

  it('is cancelled before it starts when its client is already gone', async () => {
    const { ctx, deps, sessions } = context({ cancelled: AbortSignal.abort() })
    let aborted: boolean | undefined
    const run = (call: Call): AsyncIterable<Chunk> => ((aborted = call.signal.aborted), echo(call))
    await callTool(PARAMS, ctx, { ...deps, run }, DOOR_LIMITS, NONE)
    expect(aborted).toBe(true)
    await sessions.close()
  })
})
