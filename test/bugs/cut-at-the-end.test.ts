/** A call that still ran when the gateway had waited long enough for it was cancelled, and its client was told nothing. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { callTool, openWorld, type World } from '../e2e/world.ts'
import { AGENT, notesWorld } from './kit.ts'

describe('a gateway that ends', () => {
  let world: World
  beforeAll(async () => {
    world = await openWorld(notesWorld())
  })
  afterAll(() => world?.close())

  it('tells the clients of calls it cancels why, and leaves nothing of those calls behind', async () => {
    const token = await world.token(AGENT)
    const other = await world.db.connect()
    await other.query('BEGIN')
    await other.query('SELECT * FROM notes WHERE id = 1 FOR UPDATE')
    const answer = callTool(world.mcpUrl, token, 'query_database', {
      target: 'db',
      sql: "UPDATE notes SET body = 'too late' WHERE id = 1",
    })
    const waiting =
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    await expect.poll(async () => (await world.db.admin.query(waiting)).rows).toEqual([{ n: 1 }])
    const [{ structuredContent }, code] = await Promise.all([answer, world.stop()])
    expect(structuredContent).toMatchObject({ code: 'ERR_SHUTTING_DOWN' })
    expect(code).toBe(0)
    await other.query('COMMIT')
    await other.end()
    expect((await world.db.admin.query('SELECT body FROM notes WHERE id = 1')).rows).toEqual([{ body: 'first' }])
    expect((await world.run(['recordings', 'verify'])).code).toBe(0)
  })
})
