/**
 * An answer with no room for the rest of a result left the call in the middle. For a write that meant a rollback, and
 * the answer said `ok` all the same.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { callTool, openWorld, type World } from '../e2e/world.ts'
import { AGENT, notesWorld } from './kit.ts'

describe('a write that returns more than an answer holds', () => {
  let world: World
  let token: string
  beforeAll(async () => {
    const notes = notesWorld()
    world = await openWorld({
      ...notes,
      schema: `${notes.schema} INSERT INTO notes SELECT g, repeat('x', 1024 * 1024) FROM generate_series(3, 14) g;`,
      policy: notes.policy.replace('resources: [public.notes]}', 'resources: [public.notes], limits: {bytes: 32MiB}}'),
    })
    token = await world.token(AGENT)
  })
  afterAll(() => world?.close())

  it('took effect when the answer says so', async () => {
    const answer = await callTool(world.mcpUrl, token, 'query_database', {
      target: 'db',
      sql: "UPDATE notes SET body = 'changed ' || body RETURNING body",
    })
    expect(answer.structuredContent).toMatchObject({ status: 'ok', truncated: true, command: 'UPDATE 14' })
    const changed = await world.db.admin.query("SELECT count(*)::int AS n FROM notes WHERE body LIKE 'changed %'")
    expect(changed.rows).toEqual([{ n: 14 }])
  })
})
