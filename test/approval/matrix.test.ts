import { describe, expect, it } from 'vitest'
import { BOB, BOB_PHONE, call, CAROL, DAVE, EXIT, judged, OLGA, requirement, ROWS } from './fakes.ts'
import { claimed, codeOf, collect, executed, granted, vote } from './kit.ts'
import { PLACES } from './places.ts'

describe.each(PLACES)('two gateways over one store, %s', (_name, places) => {
  it('C12: of claims in both at the same moment exactly one gets through; the other picks up its result', async () => {
    const { first, second } = await places()
    const [here, there] = [await first.open(), await second.open()]
    const ticket = await first.file(here)
    await vote(there, BOB, ticket)
    const grants = await Promise.all([here, there].map((room) => granted(room.consent(call(), judged()))))
    const claims = await Promise.allSettled(grants.map((grant) => grant.claim(judged())))
    const won = claims.filter((claim) => claim.status === 'fulfilled')
    expect(won).toHaveLength(1)
    expect(claims.find(({ status }) => status === 'rejected')).toMatchObject({
      reason: { code: 'ERR_APPROVAL_CONFLICT' },
    })
    won[0]?.value.shown(ROWS)
    won[0]?.value.shown(EXIT)
    await won[0]?.value.end('done')
    const replay = await executed(there.consent(call(), judged()))
    expect((await collect(replay.result(judged()))).at(-1)).toMatchObject({ replayed: true })
  })

  it('C12: a waiter in one hears of the vote in the other', async () => {
    const { first, second } = await places()
    const [here, there] = [await first.open(), await second.open()]
    const ticket = await first.file(here)
    const waiting = granted(here.consent(call(), judged()))
    await vote(there, BOB, ticket)
    expect((await waiting).by).toEqual(['bob'])
  })

  it('C12: identical calls in both at the same moment share one ticket', async () => {
    const { first, second } = await places()
    const [here, there] = [await first.open(), await second.open()]
    const tickets = await Promise.all([
      ...Array.from({ length: 5 }, () => first.file(here)),
      ...Array.from({ length: 5 }, () => second.file(there)),
    ])
    expect(new Set(tickets).size).toBe(1)
  })

  it('takes two approvers at the same moment, one in each', async () => {
    const { first, second } = await places()
    const [here, there] = [await first.open(), await second.open()]
    const two = judged({ decision: { approvals: [requirement({ count: 2 })] } })
    const ticket = await first.file(here, call(), two)
    const states = await Promise.all([vote(here, BOB, ticket), vote(there, CAROL, ticket)])
    expect(states.sort()).toEqual(['approved', 'pending'])
    expect((await granted(there.consent(call(), two))).by.toSorted()).toEqual(['bob', 'carol'])
  })

  it('C13: one person is one of two, in whatever groups and with whatever tokens', async () => {
    const { first, second } = await places()
    const [here, there] = [await first.open(), await second.open()]
    const two = judged({ decision: { approvals: [requirement({ count: 2, anyOf: ['group:dba', 'group:lead'] })] } })
    const ticket = await first.file(here, call(), two)
    await vote(here, { ...BOB, groups: ['dba', 'lead'] }, ticket)
    expect(await vote(there, BOB_PHONE, ticket)).toBe('pending')
    expect(await vote(there, DAVE, ticket)).toBe('approved')
  })

  it('C13: an approver who left the group by the time of the claim has not approved', async () => {
    const { first, second } = await places()
    const here = await first.open()
    const there = await second.open({ approverNow: async ({ approver }) => ({ ...approver, groups: [] }) })
    const ticket = await first.file(here)
    await vote(here, BOB, ticket)
    const grant = await granted(there.consent(call(), judged()))
    expect(await codeOf(grant.claim(judged()))).toBe('ERR_APPROVAL_STALE')
  })

  it('keeps a flood of one caller to its limit, over both together', async () => {
    const { first, second } = await places()
    const [here, there] = [await first.open(), await second.open()]
    const flood = Array.from({ length: 30 }, (_, n) => {
      const asked = judged({ exact: { n } })
      return (n % 2 === 0 ? first.file(here, call(), asked) : second.file(there, call(), asked)).then(
        () => 1,
        () => 0,
      )
    })
    expect((await Promise.all(flood)).reduce<number>((sum, filed) => sum + filed, 0)).toBe(20)
    expect(await here.inbox.pending(BOB)).toHaveLength(20)
  })

  it('C12: an instance that died leaves outcome_unknown to the other, and nothing runs again', async () => {
    const { first, second } = await places()
    const here = await first.open({ settings: { leaseMs: 1 } })
    const { ticket } = await claimed(first, here)
    await here.close()
    const there = await second.open()
    await there.sweep()
    expect((await there.inbox.show(OLGA, ticket)).state).toBe('outcome_unknown')
    expect(await codeOf(there.consent(call(), judged()))).toBe('ERR_OUTCOME_UNKNOWN')
  })
})
