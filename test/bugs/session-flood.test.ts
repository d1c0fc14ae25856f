/**
 * A caller without a connection got a session, and with it an open recording, for every run it declared: a few thousand
 * headers used up the gateway's descriptors for everybody.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { callTool, openWorld, type World } from '../e2e/world.ts'
import { AGENT, notesWorld, openRaw, rawCall } from './kit.ts'

describe('a caller that declares a new run with each call', () => {
  let world: World
  beforeAll(async () => {
    world = await openWorld(notesWorld())
  })
  afterAll(() => world?.close())

  it('has a bounded number of sessions, and others are served', async () => {
    const token = await world.token(AGENT)
    for (let run = 0; run < 300; run += 20) {
      await Promise.all(
        Array.from({ length: 20 }, async (_, index) => {
          const { head, body } = rawCall(world.mcpUrl, token, {
            args: { target: 'db', sql: 'SELECT 1' },
            headers: { 'sallyport-run': `run-${run + index}` },
          })
          const connection = await openRaw(world.mcpUrl)
          await connection.send(head + body)
          expect(await connection.answered).toContain('"status":"ok"')
        }),
      )
    }
    const { sessions } = await world.operator.get<{ sessions: unknown[] }>('/v1/sessions')
    expect(sessions.length).toBeLessThanOrEqual(64)
    const other = await world.token({ ...AGENT, principal: 'other' })
    const answer = await callTool(world.mcpUrl, other, 'query_database', { target: 'db', sql: 'SELECT 1' })
    expect(answer.structuredContent).toMatchObject({ status: 'ok' })
  })
})
