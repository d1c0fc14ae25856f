/**
 * An agent that asked and withdrew again and again had every ticket kept for a month, in a file that is written whole
 * with every change of anybody.
 */
import { expect, it } from 'vitest'
import { AGENT, BOB, call, judged } from '../approval/fakes.ts'
import { claimed, vote, world } from '../approval/kit.ts'

it('keeps a bounded number of tickets that are over, and every one that still says something', async () => {
  const place = await world({ finishedMax: 5 })
  const room = await place.open()
  const { ticket: done, claim } = await claimed(place, room)
  await claim.end('done')
  const denied = await place.file(room, call(), judged({ text: 'UPDATE orders SET n = -1' }))
  await vote(room, BOB, denied, 'deny')
  const filed: string[] = []
  for (let n = 0; n < 30; n++) {
    place.clock.now += 4000
    const ticket = await place.file(room, call(), judged({ text: `UPDATE orders SET n = ${n}` }))
    await room.inbox.cancel(AGENT, ticket)
    filed.push(ticket)
  }
  const kept = (await room.inbox.list(AGENT, { all: true })).map(({ id }) => id)
  expect(new Set(kept)).toEqual(new Set([done, denied, ...filed.slice(-5)]))
  expect((await place.store.list('tickets.standing')).length).toBe(kept.length)
  expect((await place.store.blobs.list()).filter((name) => name.startsWith('request.')).length).toBe(kept.length)
})

it('lets nobody ask and withdraw without a pause, so that neither targets nor approvers are kept busy', async () => {
  const place = await world({ pendingMax: 3 })
  const room = await place.open()
  const ask = async (n: number): Promise<string> =>
    place.file(room, call(), judged({ text: `UPDATE orders SET n = ${n}` }))
  for (let n = 0; n < 3; n++) await room.inbox.cancel(AGENT, await ask(n))
  let previews = 0
  const preview = async (): Promise<undefined> => void (previews += 1)
  await expect(room.consent(call(), judged({ text: 'UPDATE orders SET n = 7' }), preview)).rejects.toMatchObject({
    code: 'ERR_LIMIT_RATE',
  })
  expect(previews).toBe(0)
  place.clock.now += 60_000
  await ask(8)
})
