/**
 * A request was authenticated by its header alone: whoever sent the header, waited until the token was revoked and then
 * sent the body had the call run, in a session nobody would end.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openWorld, type World } from '../e2e/world.ts'
import { AGENT, notesWorld, openRaw, rawCall } from './kit.ts'

describe('a token that is revoked while its request is on the way', () => {
  let world: World
  beforeAll(async () => {
    world = await openWorld(notesWorld())
  })
  afterAll(() => world?.close())

  it('C2: runs nothing any more', async () => {
    const { token, id } = await world.operator.post<{ token: string; id: string }>('/v1/tokens', {
      ...AGENT,
      expires_in_ms: 3_600_000,
    })
    const { head, body } = rawCall(world.mcpUrl, token, {
      args: { target: 'db', sql: 'UPDATE notes SET body = $1 WHERE id = 1', params: ['changed after revocation'] },
    })
    const connection = await openRaw(world.mcpUrl)
    await connection.send(head + body.slice(0, 10))
    // A second request on the door: when it is answered, the first one's header was read.
    await fetch(world.mcpUrl, { method: 'POST', headers: { authorization: `Bearer ${token}` } })
    await world.operator.post(`/v1/tokens/${id}/revoke`)
    await connection.send(body.slice(10))
    expect(await connection.answered).toMatch(/^HTTP\/1\.1 401 /u)
    expect((await world.db.admin.query('SELECT body FROM notes WHERE id = 1')).rows).toEqual([{ body: 'first' }])
    const { sessions } = await world.operator.get<{ sessions: unknown[] }>('/v1/sessions')
    expect(sessions).toEqual([])
  })
})
