import { describe, expect, it } from 'vitest'
import type { Consent } from '../../src/approval/approvals.ts'
import { BOB, BOB_PHONE, call, CAROL, DAVE, EXIT, judged, OLGA, principal, requirement, ROWS } from './fakes.ts'
import { claimed, codeOf, collect, errorOf, executed, granted, vote } from './kit.ts'
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

  it('C11: other parameters', async () => {
    const { here, there } = await approvedByBob(places)
    const other = judged({ exact: { text: 'UPDATE orders SET price = 1 WHERE id = 7', params: ['8'] } })
    expect(await codeOf(there.consent(call({ waitMs: 0 }), other))).toBe('ERR_APPROVAL_PENDING')
    const grant = await granted(here.consent(call(), judged()))
    expect(await codeOf(grant.claim(other))).toBe('ERR_APPROVAL_STALE')
  })

  it('C11: other target', async () => {
    const { there } = await approvedByBob(places)
    const { target } = call()
    const asked = call({ target: { ...target, name: 'shop-db-2' }, waitMs: 0 })
    expect(await codeOf(there.consent(asked, judged()))).toBe('ERR_APPROVAL_PENDING')
  })

  it('C11: re-pointed target: the same name leads to another database by the time of the claim', async () => {
    const { ticket, there } = await approvedByBob(places)
    const { target } = call()
    const asked = call({ target: { ...target, endpoint: 'elsewhere:5432/shop' } })
    expect(await codeOf(there.consent({ ...asked, hold: { waitMs: 0 } }, judged()))).toBe('ERR_APPROVAL_PENDING')
    expect((await there.inbox.show(BOB, ticket)).state).toBe('approved')
  })

  it('C11: other principal, also one of the same name under another owner', async () => {
    const { ticket, there } = await approvedByBob(places)
    for (const as of [principal('ana-agent-2', 'agent', 'ana', { actsFor: 'ana' }), MALLORYS]) {
      const error = await errorOf(there.consent(call({ as, waitMs: 0 }), judged()).then((consent) => claimOf(consent)))
      expect(['ERR_APPROVAL_PENDING', 'ERR_APPROVAL_STALE']).toContain(error.code)
      expect(await codeOf(there.reissue(ticket, as))).toBe('ERR_UNKNOWN_TICKET')
    }
    expect((await there.inbox.show(BOB, ticket)).state).toBe('approved')
  })

  it('C12: replay: what ran is answered from its result, in both, and does not run again', async () => {
    const { here, there } = await approvedByBob(places)
    const claim = await (await granted(here.consent(call(), judged()))).claim(judged())
    claim.shown(ROWS)
    claim.shown(EXIT)
    await claim.end('done')
    for (const room of [here, there]) {
      const chunks = await collect((await executed(room.consent(call(), judged()))).result(judged()))
      expect(chunks.at(-1)).toMatchObject({ replayed: true })
    }
  })

  it('C12: expiry: an approval that was not used in time is none, also for a waiter who holds it', async () => {
    const { ticket, here, there, pass } = await approvedByBob(places)
    const grant = await granted(here.consent(call(), judged()))
    pass(15 * 60_000)
    expect(await codeOf(grant.claim(judged()))).toBe('ERR_APPROVAL_EXPIRED')
    expect(await codeOf(vote(there, CAROL, ticket))).toBe('ERR_APPROVAL_EXPIRED')
  })

  it('C12: second claim, after the first ended', async () => {
    const { here, there } = await approvedByBob(places)
    const [one, two] = [await granted(here.consent(call(), judged())), await granted(there.consent(call(), judged()))]
    const claim = await one.claim(judged())
    expect(await codeOf(two.claim(judged()))).toBe('ERR_APPROVAL_CONFLICT')
    claim.shown(EXIT)
    await claim.end('done')
    expect(await codeOf(two.claim(judged()))).toBe('ERR_APPROVAL_CONFLICT')
    expect(await codeOf(one.claim(judged()))).toBe('ERR_APPROVAL_CONFLICT')
  })

  it('C13: policy turned deny meanwhile', async () => {
    const { ticket, there } = await approvedByBob(places)
    const grant = await granted(there.consent(call(), judged()))
    expect(await codeOf(grant.claim(judged({ decision: { effect: 'deny', reason: 'Not today.' } })))).toBe('ERR_DENIED')
    expect((await there.inbox.show(BOB, ticket)).state).toBe('approved')
  })

  it('C13: requester approving by a second account of the same owner', async () => {
    const { first, second } = await places()
    const [here, there] = [await first.open(), await second.open()]
    const ticket = await first.file(here)
    for (const id of ['ana', 'ana-laptop', 'Ana']) {
      const account = principal(id, 'person', id === 'Ana' ? 'ANA' : 'ana', {
        roles: ['approver', 'operator'],
        groups: ['dba'],
      })
      const { digest } = await there.inbox.show(BOB, ticket)
      const answer = { viewer: account, ticket, digest, decision: 'approve' as const }
      expect(await codeOf(there.inbox.vote(answer))).toBe('ERR_FORBIDDEN')
    }
    expect((await here.inbox.show(BOB, ticket)).state).toBe('pending')
  })

  it('C12: agent retrying while pending: one ticket, one question', async () => {
    const { first, second } = await places()
    const [here, there] = [await first.open(), await second.open()]
    const tickets = new Set<string>()
    for (let n = 0; n < 6; n++) tickets.add(n % 2 === 0 ? await first.file(here) : await second.file(there))
    expect(tickets.size).toBe(1)
    expect(await here.inbox.pending(BOB)).toHaveLength(1)
  })

  it('C12: gateway killed before execution: the approval stands and is used once by another', async () => {
    const { ticket, here, there } = await approvedByBob(places)
    await here.close()
    const grant = await granted(there.consent(call(), judged()))
    await (await grant.claim(judged())).end('done')
    expect((await there.inbox.show(OLGA, ticket)).state).toBe('done')
  })

  it('C12: gateway killed after execution: the other answers from the result', async () => {
    const { here, there } = await approvedByBob(places)
    const claim = await (await granted(here.consent(call(), judged()))).claim(judged())
    claim.shown(EXIT)
    await claim.end('done')
    await here.close()
    await there.sweep()
    expect((await there.consent(call(), judged())).kind).toBe('executed')
  })
})

/** An agent by the name of Ana's, for which somebody else answers. */
const MALLORYS = principal('ana-agent', 'agent', 'mallory', { actsFor: 'ana' })

async function claimOf(consent: Consent): Promise<unknown> {
  return consent.kind === 'granted' ? consent.claim(judged()) : consent
}

/** Two gateways, and a ticket filed at the first that Bob approved at the second. */
async function approvedByBob(places: (typeof PLACES)[number][1]) {
  const { first, second } = await places()
  const [here, there] = [await first.open(), await second.open()]
  const ticket = await first.file(here)
  await vote(there, BOB, ticket)
  const pass = (ms: number): void => {
    for (const { clock } of new Set([first, second])) clock.now += ms
  }
  return { ticket, here, there, pass }
}
