/** C14: what is different for a call that waits inside the open transaction of its client. The protocol is a script here. */
import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { ApprovalRoom } from '../../src/approval/create-approvals.ts'
import type { Call, HeldInTransaction } from '../../src/core/call.ts'
import type { Preview } from '../../src/core/preview.ts'
import type { CallRecording } from '../../src/core/recording.ts'
import { createPermits } from '../../src/gateway/permits.ts'
import { createLimits } from '../../src/limits/limits.ts'
import { BOB, call, judged, requirement } from './fakes.ts'
import { codeOf, errorOf, granted, vote, world, type World } from './kit.ts'

const REFUSED = 'A call inside an open transaction cannot wait for an approval; send it by itself.'

function transaction(more: Partial<HeldInTransaction> = {}): HeldInTransaction {
  return {
    id: randomUUID(),
    signal: new AbortController().signal,
    ready: async () => 60_000,
    ended: () => Promise.resolve(),
    ...more,
  }
}

function inside(waitMs = 60_000): Call {
  return call({ hold: { waitMs, refused: REFUSED, inTransaction: transaction() } })
}

/** A call whose time is over as soon as somebody was asked. */
function brief({ clock }: World): Call {
  const hold: Call['hold'] = {
    waitMs: 1,
    refused: REFUSED,
    inTransaction: transaction(),
    onHeld: () => void clock.now++,
  }
  return call({ hold })
}

/** The one ticket that waits, once it does. */
async function asked(room: ApprovalRoom): Promise<string> {
  await expect.poll(() => room.inbox.pending(BOB)).toHaveLength(1)
  return (await room.inbox.pending(BOB))[0]?.id ?? ''
}

describe('a call that waits inside a transaction', () => {
  it.each([
    ['takes back that anybody waits there', { approvals: [requirement()] }],
    ['denies', { effect: 'deny' as const }],
  ])('C13: is refused when the policy %s before it was claimed, and nobody can use its ticket', async (_, after) => {
    const place = await world()
    const room = await place.open()
    const permits = createPermits({
      approvals: room,
      limits: createLimits({ now: () => place.clock.now }),
      policyVersion: () => 'v1',
      isCurrent: async () => true,
    })
    const recording: CallRecording = {
      decided: async () => undefined,
      approval: async () => undefined,
      shown: async () => undefined,
      close: async () => undefined,
    }
    const before = judged({ decision: { approvals: [requirement({ inTransaction: true })] } })
    const running = errorOf(
      Promise.resolve(permits.take(inside(), before, () => judged({ decision: after }), recording)),
    )
    const ticket = await asked(room)
    await vote(room, BOB, ticket)
    expect((await running).code).toBe('ERR_DENIED')
    expect((await room.inbox.show(BOB, ticket)).state).toBe('cancelled')
  })

  it('expires with its wait, also between the vote and the claim', async () => {
    const place = await world()
    const room = await place.open()
    const first = granted(room.consent(inside(), judged()))
    await vote(room, BOB, await asked(room))
    const grant = await first
    place.clock.now += 60_000
    expect(await codeOf(grant.claim(judged()))).toBe('ERR_APPROVAL_EXPIRED')
  })

  it('waits no longer because others of its requester were asked about first', async () => {
    const place = await world()
    const room = await place.open()
    const tried: ((made: undefined) => void)[] = []
    let begin = (): void => undefined
    const begun = new Promise<void>((resolve) => (begin = resolve))
    const trying = (): Promise<Preview | undefined> => {
      begin()
      return new Promise((resolve) => void tried.push(resolve))
    }
    const ahead = errorOf(room.consent(brief(place), judged({ text: 'DELETE FROM a' }), trying))
    const late = errorOf(room.consent(inside(30_000), judged({ text: 'DELETE FROM b' })))
    const later = granted(room.consent(inside(60_000), judged({ text: 'DELETE FROM c' })))
    await begun
    place.clock.now += 40_000
    tried[0]?.(undefined)
    expect([(await ahead).code, (await late).code]).toEqual([
      expect.stringMatching(/EXPIRED|PENDING/u),
      'ERR_LIMIT_CONCURRENCY',
    ])
    const waiting = async () =>
      (await room.inbox.pending(BOB)).filter(({ request }) => request?.text === 'DELETE FROM c')
    await expect.poll(waiting).toHaveLength(1)
    const [one] = await waiting()
    expect(Date.parse(one?.expiresAt ?? '') - Date.parse(one?.createdAt ?? '')).toBeLessThanOrEqual(20_000)
    await vote(room, BOB, one?.id ?? '')
    await later
  })

  it('stays refused for as long as the rules let it wait, however many requests come after', async () => {
    const place = await world({ finishedMax: 3 })
    const room = await place.open()
    const refused = errorOf(room.consent(inside(), judged()))
    await vote(room, BOB, await asked(room), 'deny')
    expect((await refused).code).toBe('ERR_APPROVAL_REFUSED')
    place.clock.now += 61_000
    for (let n = 0; n < 5; n++) await codeOf(room.consent(brief(place), judged({ text: `DELETE FROM t${n}` })))
    expect(await codeOf(room.consent(brief(place), judged()))).toBe('ERR_APPROVAL_REFUSED')
    place.clock.now += 15 * 60_000
    expect(await codeOf(room.consent(brief(place), judged()))).not.toBe('ERR_APPROVAL_REFUSED')
  })
})
