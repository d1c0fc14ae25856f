/** A client that asked hundreds of times and read nothing had the gateway keep every answer: gigabytes for one token. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { callTool, openWorld, type ToolResult, type World } from '../e2e/world.ts'
import { AGENT, notesWorld, rawCall } from './kit.ts'

const SQL = 'SELECT body FROM notes ORDER BY id'

/** Reads until the answer itself comes, whose room is taken by then, and no further. One that was cut short may be over. */
function beginToRead(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    let bytes = 0
    socket.once('end', resolve)
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes < 32 * 1024) return
      socket.pause()
      resolve()
    })
  })
}

describe('a client that does not read its answers', () => {
  let world: World
  let greedy: string
  let other: string
  const ask = (token: string): Promise<ToolResult> =>
    callTool(world.mcpUrl, token, 'query_database', { target: 'db', sql: SQL })

  beforeAll(async () => {
    const notes = notesWorld()
    world = await openWorld({
      ...notes,
      schema: `${notes.schema} INSERT INTO notes SELECT g, repeat('x', 1024 * 1024) FROM generate_series(3, 8) g;`,
      policy: notes.policy.replace('public.ledger]}', 'public.ledger], limits: {bytes: 32MiB}}'),
    })
    greedy = await world.token(AGENT)
    other = await world.token({ ...AGENT, principal: 'other' })
  })
  afterAll(() => world?.close())

  it('gets less and less of them, hears so, and takes no room of others', async () => {
    expect((await ask(greedy)).structuredContent).toMatchObject({ truncated: false })
    const url = new URL(world.mcpUrl)
    const sockets: Socket[] = []
    const askAndLeave = async (): Promise<void> => {
      const { head, body } = rawCall(world.mcpUrl, greedy, { args: { target: 'db', sql: SQL } })
      const socket = connect(Number(url.port), url.hostname)
      socket.on('error', () => undefined)
      await once(socket, 'connect')
      socket.write(head + body)
      sockets.push(socket)
      await beginToRead(socket)
    }
    // What the kernel takes of an answer is not the gateway's any more, and how much that is differs.
    let told: ToolResult['structuredContent']
    do {
      await Promise.all(Array.from({ length: 16 }, askAndLeave))
      told = (await ask(greedy)).structuredContent
    } while (told?.truncated !== true && sockets.length < 128)
    expect(told).toMatchObject({ status: 'ok', truncated: true, truncated_by: 'bytes' })
    expect((await ask(other)).structuredContent).toMatchObject({ status: 'ok', truncated: false })
    for (const socket of sockets) socket.destroy()
    await expect
      .poll(async () => (await ask(greedy)).structuredContent)
      .toMatchObject({ status: 'ok', truncated: false })
  })
})
