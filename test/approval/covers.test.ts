import { describe, expect, it } from 'vitest'
import type { ApprovalRoom } from '../../src/approval/create-approvals.ts'
import { TICKETS } from '../../src/approval/tickets.ts'
import type { Ticket } from '../../src/approval/ticket.ts'
import type { Call, Judged } from '../../src/core/call.ts'
import type { Decision } from '../../src/core/decision.ts'
import type { Preview } from '../../src/core/preview.ts'
import { AGENT, BOB, call, CAROL, EXIT, judged, OLGA, principal, requirement } from './fakes.ts'
import { codeOf, errorOf, granted, vote, voteForAll, world, type World } from './kit.ts'
import { PLACES } from './places.ts'

const COVERS = { forMs: 30 * 60_000, uses: 4 }
const ROWS_1: Preview = { sections: [], guard: 'g', touched: { 'UPDATE public.orders': 1 } }

/** `UPDATE orders SET price = $1 WHERE id = $2` with these values, under a rule whose approvals cover others. */
function update(values: readonly number[], more: { decision?: Partial<Decision>; text?: string } = {}): Judged {
  const text = more.text ?? 'UPDATE orders SET price = $1 WHERE id = $2'
  const plain = judged({
    text,
    exact: { text, params: values },
    decision: { approvals: [requirement({ covers: COVERS })], ...more.decision },
  })
  return { ...plain, alike: { text } }
}

/** What became of asking without waiting: the ticket that waits, or the consent. */
async function ask(room: ApprovalRoom, as: Judged, asked: Call = call(), preview: Preview = ROWS_1) {
  try {
    return await room.consent({ ...asked, hold: { waitMs: 0 } }, as, async () => preview)
  } catch (error) {
    const failure = await errorOf(Promise.reject(error))
    if (failure.code !== 'ERR_APPROVAL_PENDING') throw error
    return { kind: 'pending', ticket: failure.facts.ticket ?? '' } as const
  }
}

/** Files the first call and has Bob approve all its approval covers. */
async function approved(room: ApprovalRoom, as: Judged = update([1, 7])): Promise<string> {
  const { kind, ticket } = await ask(room, as)
  expect(kind).toBe('pending')
  expect(await voteForAll(room, BOB, ticket)).toBe('approved')
  return ticket
}

async function run(room: ApprovalRoom, as: Judged, asked: Call = call()): Promise<string> {
  const consent = await granted(room.consent({ ...asked, hold: { waitMs: 0 } }, as, async () => ROWS_1))
  const claim = await consent.claim(as)
  claim.shown(EXIT)
  await claim.end('done')
  return consent.ticket
}

describe.each(PLACES)('an approval that covers other parameters, %s', (_name, places) => {
  it('lets calls through without asking, each once and each with a ticket of its own, up to its uses', async () => {
    const { first, second } = await places()
    const [here, there] = [await first.open(), await second.open()]
    const ticket = await approved(here)
    const before = await here.inbox.show(BOB, ticket)
    expect(before).toMatchObject({ mayAnswer: true, covers: { mayEnd: false } })
    await run(here, update([1, 7]))
    const inForce = { used: 1, uses: 4, isInForce: true }
    expect(await here.inbox.show(BOB, ticket)).toMatchObject({ covers: { ...inForce, mayEnd: true } })
    expect(await here.inbox.show(OLGA, ticket)).toMatchObject({ covers: { ...inForce, mayEnd: false } })
    const others = [await run(there, update([1, 8])), await run(here, update([1, 9])), await run(there, update([2, 7]))]
    expect(new Set([ticket, ...others]).size).toBe(4)
    expect(await there.inbox.show(BOB, others[0] ?? '')).toMatchObject({ state: 'done', coveredBy: ticket, votes: [] })
    // One that ran is answered from its result, and counts once.
    expect((await ask(here, update([1, 8]))).kind).toBe('executed')
    expect((await ask(here, update([3, 7]))).kind).toBe('pending')
    expect(await here.inbox.show(BOB, ticket)).toMatchObject({ covers: { used: 4, isInForce: false } })
  })

  it('C12: is never used more often than it says, by whichever instances at once', async () => {
    const { first, second } = await places()
    const [here, there] = [await first.open(), await second.open()]
    await approved(here)
    const asked = await Promise.all(
      Array.from({ length: 12 }, (_, n) => ask(n % 2 === 0 ? here : there, update([n, 100 + n]))),
    )
    expect(asked.filter(({ kind }) => kind === 'granted')).toHaveLength(COVERS.uses - 1)
    const claims = await Promise.allSettled(
      asked.flatMap((consent, n) => (consent.kind === 'granted' ? [consent.claim(update([n, 100 + n]))] : [])),
    )
    expect(claims.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled'])
  })

  it('ends when a person withdraws or refuses it, also for a call that was let through and is not claimed yet', async () => {
    const { first, second } = await places()
    const [here, there] = [await first.open(), await second.open()]
    for (const end of [
      (id: string) => there.inbox.cancel(OLGA, id),
      (id: string) => there.inbox.cancel(AGENT, id),
      (id: string) => vote(there, CAROL, id, 'deny', 'enough'),
    ]) {
      const text = `UPDATE orders SET price = $1 WHERE id = $2 /* ${String(end)} */`
      const ticket = await approved(here, update([1, 7], { text }))
      await run(here, update([1, 7], { text }))
      const let_through = await ask(here, update([1, 8], { text }))
      if (let_through.kind !== 'granted') throw new Error(let_through.kind)
      await end(ticket)
      expect(await codeOf(let_through.claim(update([1, 8], { text })))).toBe('ERR_APPROVAL_STALE')
      expect((await ask(here, update([1, 9], { text }))).kind).toBe('pending')
      expect((await here.inbox.show(BOB, ticket)).state).toBe('done')
    }
  })
})

describe('an approval that covers other parameters', () => {
  it('ends with its time, also for a call that was let through and is not claimed yet', async () => {
    const { place, room } = await opened()
    await approved(room)
    await run(room, update([1, 7]))
    const consent = await granted(room.consent(call(), update([1, 8]), async () => ROWS_1))
    place.clock.now += COVERS.forMs
    expect(await codeOf(consent.claim(update([1, 8])))).toBe('ERR_APPROVAL_EXPIRED')
    expect((await ask(room, update([1, 9]))).kind).toBe('pending')
  })

  it('ends with a freeze of its requester or of its target, and does not come back after it', async () => {
    for (const whose of [{ requestedBy: AGENT.id }, { target: 'shop-db' }]) {
      const { room } = await opened()
      const ticket = await approved(room)
      await room.uncover({ requestedBy: 'somebody-else' }, 'gateway', 'frozen')
      expect((await ask(room, update([1, 8]))).kind).toBe('granted')
      await room.uncover(whose, 'gateway', 'it was frozen')
      expect((await ask(room, update([1, 9]))).kind).toBe('pending')
      expect(await room.inbox.show(BOB, ticket)).toMatchObject({ covers: { isInForce: false, ended: 'it was frozen' } })
    }
  })

  it('C13: ends when an approver leaves the group, also for a call that was let through', async () => {
    let groups: readonly string[] = ['dba']
    const { room } = await opened({ approverNow: async ({ approver }) => ({ ...approver, groups }) })
    await approved(room)
    const consent = await granted(room.consent(call(), update([1, 8]), async () => ROWS_1))
    groups = []
    expect(await codeOf(consent.claim(update([1, 8])))).toBe('ERR_APPROVAL_STALE')
    expect((await ask(room, update([1, 9]))).kind).toBe('pending')
  })

  it('C13: ends when the policy denies, asks for more, or no longer says that it covers', async () => {
    const { room } = await opened()
    await approved(room)
    const consent = await granted(room.consent(call(), update([1, 8]), async () => ROWS_1))
    expect(await codeOf(consent.claim(update([1, 8], { decision: { effect: 'deny', reason: 'no' } })))).toBe(
      'ERR_DENIED',
    )
    for (const approvals of [
      [requirement()],
      [requirement({ covers: COVERS, count: 2 })],
      [requirement({ covers: { ...COVERS, uses: 500 } })],
      [requirement({ covers: COVERS }), requirement({ rule: 'budget:b' })],
    ]) {
      expect((await ask(room, update([2, approvals.length], { decision: { approvals } }))).kind).toBe('pending')
    }
    expect(
      await codeOf(
        consent.claim(update([1, 8], { decision: { approvals: [requirement({ covers: COVERS, count: 2 })] } })),
      ),
    ).toBe('ERR_APPROVAL_STALE')
  })

  it('covers no other statement, target, endpoint, principal, relation or masks', async () => {
    const { room } = await opened()
    await approved(room)
    const { target } = call()
    const as = update([1, 8])
    const stranger = principal('eve-agent', 'agent', 'ana', { actsFor: 'ana' })
    const owned = principal(AGENT.id, 'agent', 'mallory', { actsFor: 'ana' })
    const part = { verb: 'sql.update', resource: { type: 'sql', name: 'public.prices' }, attributes: {} } as const
    const mask = { schema: 'public', table: 'orders', column: 'price', transform: 'redact' } as const
    const cases: readonly (readonly [string, Judged, Call])[] = [
      ['other text', update([1, 8], { text: 'UPDATE orders SET price = $1 WHERE id <> $2' }), call()],
      ['other target', as, call({ target: { ...target, name: 'shop-db-2' } })],
      ['re-pointed target', as, call({ target: { ...target, endpoint: 'elsewhere:5432/shop' } })],
      ['other principal', as, call({ as: stranger })],
      ['same name, other owner', as, call({ as: owned })],
      ['other relation', { ...as, plan: { ...as.plan, action: { ...as.plan.action, parts: [part] } } }, call()],
      ['other masks', { ...as, plan: { ...as.plan, masks: [mask] } }, call()],
    ]
    for (const [what, other, asked] of cases) {
      const { kind } = await ask(room, other, { ...asked, newRequest: crypto.randomUUID() })
      expect([what, kind]).toEqual([what, 'pending'])
    }
    expect((await ask(room, as)).kind).toBe('granted')
  })

  it('C14: asks about a call that would change more rows than the approved one, or that cannot say', async () => {
    const { room } = await opened()
    await approved(room)
    const other = (touched: Preview['touched']): Preview => ({
      sections: [],
      ...(touched !== undefined && { touched }),
    })
    expect((await ask(room, update([1, 8]), call(), other({ 'UPDATE public.orders': 2 }))).kind).toBe('pending')
    expect((await ask(room, update([1, 9]), call(), other({ 'DELETE public.items': 1 }))).kind).toBe('pending')
    expect((await ask(room, update([1, 10]), call(), other({ toString: 1 }))).kind).toBe('pending')
    expect((await ask(room, update([1, 11]), call(), other(undefined))).kind).toBe('pending')
    expect((await ask(room, update([1, 12]), call(), other({ 'UPDATE public.orders': 1 }))).kind).toBe('granted')
    expect((await ask(room, update([1, 13]), call(), other({ 'UPDATE public.orders': 0 }))).kind).toBe('granted')
  })

  it('C14: holds each covered call to its own preview', async () => {
    const { room } = await opened()
    await approved(room)
    const consent = await granted(
      room.consent(call(), update([1, 8]), async () => ({ ...ROWS_1, guard: 'the rows of 8' })),
    )
    expect((await consent.claim(update([1, 8]))).guard).toBe('the rows of 8')
  })

  it('is offered for no call whose preview cannot say what it changes', async () => {
    const { room } = await opened()
    const { ticket } = await ask(room, update([1, 7]), call(), { sections: [], missing: 'There is no preview.' })
    expect((await room.inbox.show(BOB, ticket)).covers).toBeUndefined()
  })

  it('where a statement has no values beside it, covers the very same call and nothing else', async () => {
    const { room } = await opened()
    const plain = (n: number): Judged => {
      return judged({ exact: { put: n }, decision: { approvals: [requirement({ covers: COVERS })] } })
    }
    await approved(room, plain(1))
    await run(room, plain(1))
    expect((await ask(room, plain(1))).kind).toBe('executed')
    expect((await ask(room, plain(1), call({ newRequest: crypto.randomUUID() }))).kind).toBe('granted')
    expect((await ask(room, plain(2), call({ newRequest: crypto.randomUUID() }))).kind).toBe('pending')
  })

  it('is what each approver agreed to: one who says this call only holds all to it', async () => {
    const { room } = await opened()
    const { ticket } = await ask(room, update([1, 7]))
    expect(await vote(room, BOB, ticket)).toBe('approved')
    expect((await ask(room, update([1, 8]))).kind).toBe('pending')
    expect((await ask(room, update([1, 7]))).kind).toBe('granted')
    const two = { decision: { approvals: [requirement({ covers: COVERS, count: 2 })] } }
    const shared = (await ask(room, update([2, 7], two))).ticket
    await voteForAll(room, BOB, shared)
    expect(await vote(room, CAROL, shared)).toBe('approved')
    expect((await ask(room, update([2, 8], two))).kind).toBe('pending')
  })

  it('takes no vote for a reach the ticket does not have', async () => {
    const { room } = await opened()
    const { ticket } = await ask(room, update([1, 7]))
    const { digest } = await room.inbox.show(BOB, ticket)
    const answer = { viewer: BOB, ticket, digest, decision: 'approve' as const }
    expect(await codeOf(room.inbox.vote({ ...answer, covers: 'of another ticket' }))).toBe('ERR_APPROVAL_STALE')
    // The policy changed while it waited: what its approvers were told it covers was another thing.
    const { covers } = await room.inbox.show(BOB, ticket)
    await ask(room, update([1, 7], { decision: { approvals: [requirement({ covers: { ...COVERS, uses: 9 } })] } }))
    expect(await codeOf(room.inbox.vote({ ...answer, covers: covers?.id ?? '' }))).toBe('ERR_APPROVAL_STALE')
    expect(await vote(room, BOB, ticket)).toBe('approved')
  })

  it('C13: is not stretched by whoever can write to the store', async () => {
    const { place, room } = await opened()
    const ticket = await approved(room)
    for (const stretch of [
      (cover: NonNullable<Ticket['cover']>) => ({ ...cover, terms: { ...cover.terms, uses: 1_000 } }),
      (cover: NonNullable<Ticket['cover']>) => ({ ...cover, terms: { ...cover.terms, forMs: 1e12 } }),
      (cover: NonNullable<Ticket['cover']>) => ({
        ...cover,
        terms: { ...cover.terms, touched: { 'UPDATE public.orders': 1_000 } },
      }),
    ]) {
      const read = await place.store.get<Ticket>(TICKETS, ticket)
      if (read?.value.cover === undefined) throw new Error('there is no ticket')
      const put = (value: Ticket, expect: number) =>
        place.store.commit([{ kind: 'put', collection: TICKETS, id: ticket, expect, value }])
      await put({ ...read.value, cover: stretch(read.value.cover) }, read.version)
      expect((await ask(room, update([Math.random(), 8]))).kind).toBe('pending')
      const now = await place.store.get<Ticket>(TICKETS, ticket)
      await put(read.value, now?.version ?? 0)
    }
    expect((await ask(room, update([1, 9]))).kind).toBe('granted')
  })

  it('covers nothing more once its own call failed, or nobody knows what became of it', async () => {
    for (const code of ['ERR_UPSTREAM_REJECTED', 'ERR_UPSTREAM_LOST'] as const) {
      const { room } = await opened()
      await approved(room)
      const claim = await (await granted(room.consent(call(), update([1, 7])))).claim(update([1, 7]))
      expect((await ask(room, update([1, 8]))).kind).toBe('granted')
      const { SallyportError } = await import('../../src/core/errors.ts')
      await claim.end('failed', new SallyportError(code, 'no'))
      expect((await ask(room, update([1, 9]))).kind).toBe('pending')
    }
  })
})

async function opened(options: Parameters<World['open']>[0] = {}): Promise<{ place: World; room: ApprovalRoom }> {
  const place = await world()
  return { place, room: await place.open(options) }
}
