/** A client that went away in the middle of its request was told of in the log as an internal error of the gateway. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openWorld, type World } from '../e2e/world.ts'
import { AGENT, notesWorld, openRaw, rawCall } from './kit.ts'

describe('a client that goes away', () => {
  let world: World
  let token: string
  beforeAll(async () => {
    world = await openWorld(notesWorld())
    token = await world.token(AGENT)
  })
  afterAll(() => world?.close())

  it('is no fault of the gateway, whenever it does, and leaves no call behind', async () => {
    const { head, body } = rawCall(world.mcpUrl, token, { args: { target: 'db', sql: 'SELECT * FROM notes' } })
    for (const sent of [head.slice(0, 60), head, head + body.slice(0, 10), head + body.slice(0, -1), head + body]) {
      for (let time = 0; time < 5; time++) {
        const connection = await openRaw(world.mcpUrl)
        await connection.send(sent)
        connection.end()
      }
    }
    const calls = async (): Promise<unknown[]> => {
      const { sessions } = await world.operator.get<{ sessions: { calls: unknown[] }[] }>('/v1/sessions')
      return sessions.flatMap((session) => session.calls)
    }
    await expect.poll(calls).toEqual([])
    await world.stop()
    expect(world.output).not.toMatch(/"level":"(?:error|fatal)"/u)
    const verified = await world.run(['recordings', 'verify'])
    expect(verified.code).toBe(0)
  })
})
