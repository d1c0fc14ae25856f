import { describe, expect, it } from 'vitest'
import type { Proven } from '../../src/core/call.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { BOB, call, EXIT, judged, OLGA } from './fakes.ts'
import { claimed, codeOf, executed, granted, vote, world } from './kit.ts'

/** A world in which an executor dies after it left a proof, and another run of the gateway finds the ticket. */
async function died(says: () => Promise<Proven>, isProven = true) {
  const place = await world()
  const first = await place.open({ instance: 'first' })
  const { ticket, claim } = await claimed(place, first)
  if (isProven) await claim.prove?.({ kind: 'postgres.xid', xid: '4711' })
  place.clock.now += 60_000
  const asked: unknown[] = []
  const second = await place.open({
    instance: 'second',
    outcomeOf: async (found) => {
      asked.push(found.proof)
      return says()
    },
  })
  await second.sweep()
  const state = async (): Promise<string> => (await second.inbox.show(OLGA, ticket)).state
  return { place, second, ticket, claim, asked, state }
}

describe('C12: the outcome of a call whose gateway died', () => {
  it('is what its backend says of the transaction it left behind', async () => {
    const committed = await died(async () => 'took_effect')
    expect(committed.asked).toEqual([{ kind: 'postgres.xid', xid: '4711', endpoint: 'db.internal:5432/shop' }])
    expect(await committed.state()).toBe('done')
    expect((await committed.second.inbox.show(OLGA, committed.ticket)).outcome).toMatchObject({
      resolvedBy: 'gateway',
      reason: 'the database says that transaction 4711 was committed',
    })
    // It ran: the same call is answered from the ticket and does not run again.
    await executed(committed.second.consent(call(), judged()))
    const aborted = await died(async () => 'no_effect')
    expect(await aborted.state()).toBe('failed')
    expect(await codeOf(aborted.second.consent(call({ waitMs: 0 }), judged()))).toBe('ERR_APPROVAL_PENDING')
  })

  it.each(['running', 'unknown'] as const)('stays unknown while the backend says %s', async (says) => {
    const { state, second } = await died(async () => says)
    expect(await state()).toBe('outcome_unknown')
    expect(await codeOf(second.consent(call(), judged()))).toBe('ERR_OUTCOME_UNKNOWN')
  })

  it('stays unknown without a proof, and while the backend cannot be asked', async () => {
    const unproven = await died(async () => 'took_effect', false)
    expect(unproven.asked).toEqual([])
    expect(await unproven.state()).toBe('outcome_unknown')
    const silent = await died(() => Promise.reject(new Error('away')))
    expect(await silent.state()).toBe('outcome_unknown')
  })

  it('is that nothing happened, where a proof would have come first and there is none', async () => {
    const place = await world()
    const first = await place.open({ instance: 'first' })
    const ticket = await place.file(first)
    await vote(first, BOB, ticket)
    const proving = { ...judged(), proves: true as const }
    const claim = await (await granted(first.consent(call(), proving))).claim(proving)
    place.clock.now += 60_000
    const second = await place.open({ instance: 'second' })
    expect((await second.inbox.show(OLGA, ticket)).outcome).toMatchObject({ resolvedBy: 'gateway' })
    expect((await second.inbox.show(OLGA, ticket)).state).toBe('failed')
    // Should it live after all, it does not come to its commit, and has no more say.
    expect(await codeOf(claim.prove?.({ kind: 'postgres.xid', xid: '1' }) ?? Promise.resolve())).toBe(
      'ERR_APPROVAL_CONFLICT',
    )
    await claim.end('done')
    expect((await second.inbox.show(OLGA, ticket)).state).toBe('failed')
  })

  it('lets no executor that was taken for dead go on to its commit', async () => {
    const { claim } = await died(async () => 'no_effect', false)
    expect(await codeOf(claim.prove?.({ kind: 'postgres.xid', xid: '1' }) ?? Promise.resolve())).toBe(
      'ERR_APPROVAL_CONFLICT',
    )
  })

  it('is no longer changed by an executor that comes back after the backend has spoken', async () => {
    const { claim, state } = await died(async () => 'no_effect')
    claim.shown(EXIT)
    await claim.end('done')
    expect(await state()).toBe('failed')
  })
})

describe('C12: a claim whose answer from the store is lost', () => {
  it('runs nothing, and is settled as failed once the store answers', async () => {
    const place = await world()
    let isLost = false
    const store = {
      ...place.store,
      commit: async (...writes: Parameters<typeof place.store.commit>) => {
        const kept = await place.store.commit(...writes)
        if (isLost) throw new SallyportError('ERR_STORE_FAILED', 'Whether it was kept is not known.')
        return kept
      },
    }
    const room = await place.open({ store })
    const ticket = await place.file(room)
    await vote(room, BOB, ticket)
    const grant = await granted(room.consent(call(), judged()))
    isLost = true
    expect(await codeOf(grant.claim(judged()))).toBe('ERR_STORE_FAILED')
    isLost = false
    expect((await room.inbox.show(OLGA, ticket)).state).toBe('executing')
    await room.sweep()
    expect((await room.inbox.show(OLGA, ticket)).state).toBe('failed')
  })
})
