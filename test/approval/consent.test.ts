import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { settledState } from '../../src/approval/claim.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { progressOf } from '../../src/approval/eligibility.ts'
import type { Ticket, Vote } from '../../src/approval/ticket.ts'
import { AGENT, ANA, BOB, BOB_PHONE, call, CAROL, DAVE, EXIT, judged, principal, requirement, ROWS } from './fakes.ts'
import { claimed, codeOf, collect, errorOf, executed, granted, vote, world } from './kit.ts'

describe('C13: who may answer', () => {
  it.each([
    ['the requester itself', AGENT],
    ['its owner, although an approver and operator', ANA],
    ['another token of its owner', principal('ana-2', 'person', 'ana', { roles: ['approver'], groups: ['dba'] })],
    ['its owner written in capitals', principal('x', 'person', 'ANA', { roles: ['approver'], groups: ['dba'] })],
    [
      'a person acting for the owner',
      principal('y', 'person', 'y', { roles: ['approver'], groups: ['dba'], actsFor: 'ana' }),
    ],
    ['a person whose name is the owner', principal('ana', 'person', 'zoe', { roles: ['approver'], groups: ['dba'] })],
    ['an agent with the role and group', principal('b', 'agent', 'bob', { roles: ['approver'], groups: ['dba'] })],
    ['a service with the role and group', principal('b', 'service', 'bob', { roles: ['approver'], groups: ['dba'] })],
    ['a person without the role', principal('b', 'person', 'bob', { groups: ['dba'] })],
    ['an approver of another group', DAVE],
    ['an operator without the role approver', principal('o', 'person', 'o', { roles: ['operator'], groups: ['dba'] })],
  ])('C13: refuses %s', async (_, viewer) => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    const { digest } = await room.inbox.show(BOB, ticket)
    expect(['ERR_FORBIDDEN', 'ERR_UNKNOWN_TICKET']).toContain(
      await codeOf(room.inbox.vote({ viewer, ticket, digest, decision: 'approve' })),
    )
    expect(await room.inbox.pending(viewer)).toEqual([])
    expect((await room.inbox.show(BOB, ticket)).state).toBe('pending')
  })

  it('C13: a person for whom an agent acts does not approve it, whoever owns the agent', async () => {
    const place = await world()
    const room = await place.open()
    const asked = call({ as: principal('bot', 'agent', 'platform-team', { actsFor: 'bob' }) })
    const ticket = await place.file(room, asked)
    const { digest } = await room.inbox.show(CAROL, ticket)
    expect(await codeOf(room.inbox.vote({ viewer: BOB, ticket, digest, decision: 'approve' }))).toBe('ERR_FORBIDDEN')
    expect(await vote(room, CAROL, ticket)).toBe('approved')
  })

  it('C13: reports an attempt to approve one’s own request', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    const { digest } = await room.inbox.show(BOB, ticket)
    await codeOf(room.inbox.vote({ viewer: ANA, ticket, digest, decision: 'approve' }))
    expect(place.events).toContainEqual(
      expect.objectContaining({ kind: 'refused', ticket, by: ANA, what: 'approve', why: 'ERR_FORBIDDEN' }),
    )
  })

  it('C13: counts one person once, however many tokens they vote with', async () => {
    const place = await world()
    const room = await place.open()
    const two = judged({ decision: { approvals: [requirement({ count: 2 })] } })
    const ticket = await place.file(room, call(), two)
    expect(await vote(room, BOB, ticket)).toBe('pending')
    expect(await vote(room, BOB, ticket)).toBe('pending')
    expect(await vote(room, BOB_PHONE, ticket)).toBe('pending')
    expect((await room.inbox.show(BOB, ticket)).votes).toHaveLength(1)
    expect(await vote(room, CAROL, ticket)).toBe('approved')
  })

  it('C13: counts one person once when their two tokens vote at the same moment', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room, call(), judged({ decision: { approvals: [requirement({ count: 2 })] } }))
    await Promise.all([BOB, BOB_PHONE, BOB, BOB_PHONE].map((viewer) => vote(room, viewer, ticket)))
    expect(await room.inbox.show(BOB, ticket)).toMatchObject({ state: 'pending', votes: [{ owner: 'bob' }] })
  })

  it('C5: each of several rules must have its approvers; one person may serve two of them', async () => {
    const place = await world()
    const room = await place.open()
    const both = [requirement(), requirement({ rule: 'money', anyOf: ['group:lead', 'id:zoe'] })]
    const first = await place.file(room, call(), judged({ decision: { approvals: both } }))
    expect(await vote(room, BOB, first)).toBe('pending')
    expect(await vote(room, DAVE, first)).toBe('approved')
    const again = call({ newRequest: randomUUID() })
    const second = await place.file(room, again, judged({ decision: { approvals: both } }))
    expect(await vote(room, CAROL, second)).toBe('approved')
  })

  it('C12: lets a single refusal end the matter, also after enough have agreed', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    expect(await vote(room, BOB, ticket)).toBe('approved')
    expect(await vote(room, CAROL, ticket, 'deny', 'not on a Friday')).toBe('denied')
    const error = await errorOf(room.consent(call(), judged()))
    expect(error).toMatchObject({ code: 'ERR_APPROVAL_REFUSED', message: 'carol refused the call: not on a Friday' })
  })

  it('wants a reason where the policy does', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(
      room,
      call(),
      judged({ decision: { approvals: [requirement({ reasonRequired: true })] } }),
    )
    expect(await codeOf(vote(room, BOB, ticket, 'approve', '  '))).toBe('ERR_INVALID_INPUT')
    expect(await vote(room, BOB, ticket, 'approve', 'checked with the shop')).toBe('approved')
  })

  it('C13: does not count a vote whose approver lost their token before the claim', async () => {
    const place = await world()
    const revoked = new Set<string>()
    const room = await place.open({
      approverNow: async ({ approver }) => (revoked.has(approver.id) ? undefined : approver),
    })
    const ticket = await place.file(room)
    await vote(room, BOB, ticket)
    const grant = await granted(room.consent(call(), judged()))
    revoked.add('bob')
    expect(await codeOf(grant.claim(judged()))).toBe('ERR_APPROVAL_STALE')
  })

  it('C13: asks nobody when the policy names nobody', async () => {
    const room = await (await world()).open()
    expect(await codeOf(room.consent(call(), judged({ decision: { approvals: [] } })))).toBe('ERR_DENIED')
  })

  it('C13: a vote that somebody wrote into the store does not count', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    const read = await place.store.get<Ticket>('tickets', ticket)
    if (read === undefined) throw new Error('not filed')
    const { id, kind, groups, roles, owner } = BOB
    const approver = { id, kind, groups, roles, owner }
    const forged = {
      approver,
      decision: 'approve',
      digest: read.value.digest,
      at: place.clock.now,
      mac: '00'.repeat(32),
    }
    await place.store.commit([
      {
        kind: 'put',
        collection: 'tickets',
        id: ticket,
        expect: read.version,
        value: { ...read.value, state: 'approved', grantUntil: place.clock.now + 1e6, votes: [forged] },
      },
    ])
    const grant = await granted(room.consent(call(), judged()))
    expect(await codeOf(grant.claim(judged()))).toBe('ERR_APPROVAL_STALE')
  })
})

describe('C11: bound to the call', () => {
  it('C11: refuses a vote for a digest the ticket does not have', async () => {
    const place = await world()
    const room = await place.open()
    const first = await place.file(room)
    const other = await place.file(room, call(), judged({ text: 'UPDATE orders SET price = 2 WHERE id = 7' }))
    const { digest } = await room.inbox.show(BOB, first)
    expect(await codeOf(room.inbox.vote({ viewer: BOB, ticket: other, digest, decision: 'approve' }))).toBe(
      'ERR_APPROVAL_STALE',
    )
    expect(await codeOf(room.inbox.vote({ viewer: BOB, ticket: other, digest: '', decision: 'approve' }))).toBe(
      'ERR_APPROVAL_STALE',
    )
  })

  it('C11: a changed parameter, target or principal does not find the approval', async () => {
    const place = await world()
    const room = await place.open()
    const asked = call()
    await vote(room, BOB, await place.file(room, asked))
    const changed: [ReturnType<typeof call>, ReturnType<typeof judged>][] = [
      [asked, judged({ exact: { text: 'UPDATE orders SET price = 1 WHERE id = 7', params: ['8'] } })],
      [{ ...asked, target: { ...asked.target, endpoint: 'db.internal:5432/other' } }, judged()],
      [{ ...asked, target: { ...asked.target, name: 'other-db' } }, judged()],
      [call({ as: { ...AGENT, id: 'other-agent' } }), judged()],
      [call({ as: principal('ana-agent', 'agent', 'ana', { actsFor: 'zoe' }) }), judged()],
    ]
    for (const [other, as] of changed) {
      expect(await codeOf(room.consent({ ...other, hold: { waitMs: 0 } }, as))).toBe('ERR_APPROVAL_PENDING')
    }
  })

  it('C11: a claim for something else than was approved is refused, and does not spend the grant', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    await vote(room, BOB, ticket)
    const grant = await granted(room.consent(call(), judged()))
    expect(await codeOf(grant.claim(judged({ text: 'DROP TABLE orders' })))).toBe('ERR_APPROVAL_STALE')
    await grant.claim(judged())
  })

  it('C11: holds no call whose input is still to come', async () => {
    const room = await (await world()).open()
    const input = (async function* () {
      yield Buffer.from('1\n')
    })()
    expect(await codeOf(room.consent(call({ input }), judged()))).toBe('ERR_DENIED')
  })
})

describe('C12: ticket, grant, claim', () => {
  it('C12: fifty identical calls at once share one ticket, and one of them runs', async () => {
    const place = await world()
    const room = await place.open()
    const held: string[] = []
    const waiting = Array.from({ length: 50 }, () => {
      return room.consent(call({ hold: { waitMs: 60_000, onHeld: ({ ticket }) => void held.push(ticket) } }), judged())
    })
    while (held.length < 50) await new Promise((resolve) => setImmediate(resolve))
    expect(new Set(held).size).toBe(1)
    expect(await room.inbox.pending(BOB)).toHaveLength(1)
    await vote(room, BOB, held[0] ?? '')

    let runs = 0
    const answers = await Promise.all(
      waiting.map(async (consent) => {
        const got = await consent
        if (got.kind === 'executed') return collect(got.result(judged()))
        const claim = await got.claim(judged())
        runs++
        claim.shown(ROWS)
        claim.shown(EXIT)
        await claim.end('done')
        return [ROWS, EXIT]
      }),
    )
    expect(runs).toBe(1)
    expect(answers.filter((chunks) => chunks.at(-1)?.kind === 'exit')).toHaveLength(50)
  })

  it('C12: of claims at the same moment, in two instances, exactly one gets through', async () => {
    const place = await world()
    const rooms = [await place.open(), await place.open()]
    const [one, two] = rooms
    if (one === undefined || two === undefined) throw new Error('no rooms')
    const ticket = await place.file(one)
    await vote(two, BOB, ticket)
    const grants = await Promise.all([granted(one.consent(call(), judged())), granted(two.consent(call(), judged()))])
    const codes = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        (grants[n % 2] ?? grants[0]).claim(judged()).then(() => 'claimed', codeOfError),
      ),
    )
    expect(codes.filter((code) => code === 'claimed')).toHaveLength(1)
    expect(codes.filter((code) => code === 'ERR_APPROVAL_CONFLICT')).toHaveLength(19)
  })

  it('C12: a gateway that died between claim and end leaves outcome_unknown, and nothing runs again', async () => {
    const place = await world()
    const before = await place.open()
    const { ticket, claim } = await claimed(place, before)
    claim.shown(ROWS)
    await before.close()

    const after = await place.open()
    expect((await after.inbox.show(BOB, ticket)).state).toBe('outcome_unknown')
    expect(await codeOf(after.consent(call(), judged()))).toBe('ERR_OUTCOME_UNKNOWN')
    expect(await codeOf(after.reissue(ticket, AGENT))).toBe('ERR_OUTCOME_UNKNOWN')
    place.clock.now += 365 * 24 * 3_600_000
    await after.sweep()
    expect(await codeOf(after.consent(call(), judged()))).toBe('ERR_OUTCOME_UNKNOWN')
  })

  it('C12: an instance that lives keeps its ticket, and one that was taken for dead still says how it ended', async () => {
    const place = await world()
    const slow = await place.open()
    const { ticket, claim } = await claimed(place, slow)
    const other = await place.open()
    expect((await other.inbox.show(BOB, ticket)).state).toBe('executing')
    place.clock.now += 60_000
    await other.sweep()
    expect((await other.inbox.show(BOB, ticket)).state).toBe('outcome_unknown')
    claim.shown(EXIT)
    await claim.end('done')
    expect((await other.inbox.show(BOB, ticket)).state).toBe('done')
  })

  it('C12: answers the same call from the stored result until its time is over, then asks anew', async () => {
    const place = await world()
    const room = await place.open()
    const { ticket, claim } = await claimed(place, room)
    const bytes: Chunk = { kind: 'data', channel: 'stdout', bytes: Uint8Array.of(0, 255, 10) }
    for (const chunk of [ROWS, bytes, EXIT]) claim.shown(chunk)
    await claim.end('done')
    const again = await executed(room.consent(call(), judged()))
    const chunks = await collect(again.result(judged()))
    expect(chunks).toEqual([ROWS, { ...bytes, bytes: Buffer.from([0, 255, 10]) }, { ...EXIT, replayed: true }])
    expect(again.ticket).toBe(ticket)

    place.clock.now += 60 * 60_000
    expect(await place.file(room)).not.toBe(ticket)
  })

  it('C10: does not show a stored result under masks it was not made under', async () => {
    const place = await world()
    const room = await place.open()
    const { claim } = await claimed(place, room)
    claim.shown(ROWS)
    claim.shown(EXIT)
    await claim.end('done')
    const masked = judged()
    const mask = { schema: 'public', table: 'orders', column: 'price', transform: 'redact' } as const
    const now = { ...masked, plan: { ...masked.plan, masks: [mask] } }
    const again = await executed(room.consent(call(), judged()))
    const chunks = await collect(again.result(now))
    expect(JSON.stringify(chunks)).not.toContain('masked"')
    expect(chunks).toMatchObject([{ kind: 'notice' }, { kind: 'exit', replayed: true, truncated: true }])
  })

  it('C12: of a result too large to keep only the status is shown again, and it says so', async () => {
    const place = await world({ resultBytesMax: 500 })
    const room = await place.open()
    const { claim } = await claimed(place, room)
    for (let n = 0; n < 50; n++) claim.shown(ROWS)
    claim.shown(EXIT)
    await claim.end('done')
    const again = await executed(room.consent(call(), judged()))
    expect(await collect(again.result(judged()))).toEqual([
      { kind: 'notice', severity: 'NOTICE', text: expect.stringContaining('too large to keep') as unknown },
      { ...EXIT, truncated: true, replayed: true },
    ])
  })

  it('C12: new_request asks afresh, and is part of which ticket the call belongs to', async () => {
    const place = await world()
    const room = await place.open()
    const { ticket, claim } = await claimed(place, room)
    claim.shown(EXIT)
    await claim.end('done')
    const newRequest = randomUUID()
    const second = await place.file(room, call({ newRequest }))
    expect(second).not.toBe(ticket)
    expect(await place.file(room, call({ newRequest: newRequest.toUpperCase() }))).toBe(second)
    expect((await room.reissue(second, AGENT)).newRequest).toBe(newRequest)
    expect(await codeOf(room.consent(call({ newRequest: 'again' }), judged()))).toBe('ERR_INVALID_INPUT')
  })

  it('C12: a refusal stands until the question would have expired; then the same call may be asked again', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    await vote(room, BOB, ticket, 'deny')
    expect(await codeOf(room.consent(call(), judged()))).toBe('ERR_APPROVAL_REFUSED')
    place.clock.now += 900_000
    expect(await place.file(room)).not.toBe(ticket)
  })

  it('C12: takes no vote and no claim after time ran out', async () => {
    const place = await world({ grantMs: 1_000 })
    const room = await place.open()
    const late = await place.file(room)
    const { digest } = await room.inbox.show(BOB, late)
    place.clock.now += 900_000
    expect(await codeOf(room.inbox.vote({ viewer: BOB, ticket: late, digest, decision: 'approve' }))).toBe(
      'ERR_APPROVAL_EXPIRED',
    )
    const unused = await place.file(room)
    await vote(room, BOB, unused)
    const grant = await granted(room.consent(call(), judged()))
    place.clock.now += 1_000
    expect(await codeOf(grant.claim(judged()))).toBe('ERR_APPROVAL_EXPIRED')
  })

  it('C13: a policy that now asks for more makes the approval stale, says so, and asks anew', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    await vote(room, BOB, ticket)
    const grant = await granted(room.consent(call(), judged()))
    const stricter = judged({ decision: { approvals: [requirement({ count: 2 })] } })
    expect(await codeOf(grant.claim(stricter))).toBe('ERR_APPROVAL_STALE')
    const next = await place.file(room, call(), stricter)
    expect(next).not.toBe(ticket)
    expect((await room.inbox.show(BOB, next)).requirements).toMatchObject([{ count: 2 }])
  })

  it('C13: a policy that now denies wins over the approval', async () => {
    const place = await world()
    const room = await place.open()
    await vote(room, BOB, await place.file(room))
    const grant = await granted(room.consent(call(), judged()))
    expect(await codeOf(grant.claim(judged({ decision: { effect: 'deny', approvals: [] } })))).toBe('ERR_DENIED')
  })

  it('brings a waiting ticket up to the policy of now when the call is asked again', async () => {
    const place = await world()
    const room = await place.open()
    const two = judged({ decision: { approvals: [requirement({ count: 2 })] } })
    const ticket = await place.file(room, call(), two)
    await vote(room, BOB, ticket)
    const grant = await granted(room.consent(call(), judged()))
    expect(grant.ticket).toBe(ticket)
    await grant.claim(judged())
  })

  it('after a failure that proved to have no effect, the same call asks anew', async () => {
    const place = await world()
    const room = await place.open()
    const { ticket, claim } = await claimed(place, room)
    const facts = { noEffect: true } as const
    const refused = new SallyportError('ERR_UPSTREAM_REJECTED', 'The database refused: duplicate key.', { facts })
    await claim.end('failed', refused)
    expect((await room.inbox.show(BOB, ticket)).state).toBe('failed')
    expect(await place.file(room)).not.toBe(ticket)
  })

  it.each([
    [{}, 'done', undefined, 'done'],
    [{}, 'abandoned', undefined, 'done'],
    [{ failed: 'no_effect' }, 'done', undefined, 'failed'],
    [{ failed: 'unknown' }, 'done', undefined, 'outcome_unknown'],
    [{ failed: 'no_effect' }, 'failed', 'ERR_UPSTREAM_LOST', 'outcome_unknown'],
    [{}, 'failed', 'ERR_RECORDING_FAILED', 'done'],
    [{}, 'failed', 'ERR_UPSTREAM_LOST', 'outcome_unknown'],
    [undefined, 'abandoned', undefined, 'outcome_unknown'],
    [undefined, 'cancelled', undefined, 'outcome_unknown'],
    [undefined, 'failed', 'ERR_UPSTREAM_LOST', 'outcome_unknown'],
    [undefined, 'failed', 'ERR_OUTCOME_UNKNOWN', 'outcome_unknown'],
    [undefined, 'failed', 'ERR_INTERNAL', 'outcome_unknown'],
    [undefined, 'failed', 'ERR_TIMEOUT', 'outcome_unknown'],
    [undefined, 'cancelled', 'ERR_CANCELLED', 'outcome_unknown'],
    [undefined, 'failed', 'ERR_UPSTREAM_REJECTED', 'outcome_unknown'],
    [undefined, 'failed', 'ERR_UPSTREAM_UNREACHABLE', 'failed'],
    [undefined, 'failed', 'ERR_CREDENTIAL_MISSING', 'failed'],
  ] as const)('C12: exit %j, ending %s, error %s means %s', (exit, ending, code, state) => {
    const error = code === undefined ? undefined : new SallyportError(code, 'x')
    expect(settledState(exit, ending, error)).toBe(state)
  })

  it('C12: a call stopped by us counts as failed only when the protocol proved that nothing is left of it', () => {
    const proved = new SallyportError('ERR_TIMEOUT', 'x', { facts: { noEffect: true } })
    expect(settledState(undefined, 'failed', proved)).toBe('failed')
    expect(settledState({}, 'failed', proved)).toBe('done')
  })
})

describe('waiting', () => {
  it('answers ERR_APPROVAL_PENDING when the door cannot hold longer, and the ticket lives on', async () => {
    const place = await world()
    const room = await place.open()
    const error = await errorOf(room.consent(call({ hold: { waitMs: 0 } }), judged()))
    expect(error).toMatchObject({ code: 'ERR_APPROVAL_PENDING', facts: { rules: ['writes'] } })
    expect(error.message).toContain('group:dba')
    expect(await room.inbox.pending(BOB)).toHaveLength(1)
  })

  it('tells the door once whom it waits for', async () => {
    const place = await world()
    const room = await place.open()
    const told: unknown[] = []
    const consent = room.consent(call({ hold: { waitMs: 60_000, onHeld: (held) => void told.push(held) } }), judged())
    while (told.length === 0) await new Promise((resolve) => setImmediate(resolve))
    const [ticket] = await room.inbox.pending(BOB)
    await vote(room, BOB, ticket?.id ?? '')
    expect((await consent).kind).toBe('granted')
    expect(told).toEqual([{ ticket: ticket?.id, approvers: ['group:dba'], expiresAt: '2026-11-23T10:15:00.000Z' }])
  })

  it('C12: a caller that goes away only detaches', async () => {
    const place = await world()
    const room = await place.open()
    const gone = new AbortController()
    const hold = { waitMs: 60_000, onHeld: () => gone.abort() }
    expect(await codeOf(room.consent(call({ signal: gone.signal, hold }), judged()))).toBe('ERR_CANCELLED')
    const [ticket] = await room.inbox.pending(BOB)
    expect(await vote(room, BOB, ticket?.id ?? '')).toBe('approved')
  })

  it('hears of an approval given in another instance', async () => {
    const place = await world()
    const [here, there] = [await place.open(), await place.open()]
    const consent = here.consent(call(), judged())
    let tickets = await there.inbox.pending(BOB)
    while (tickets.length === 0) {
      await new Promise((resolve) => setImmediate(resolve))
      tickets = await there.inbox.pending(BOB)
    }
    await vote(there, BOB, tickets[0]?.id ?? '')
    expect((await consent).kind).toBe('granted')
  })

  it('limits how many requests of one caller wait, also when they come at once', async () => {
    const place = await world({ pendingMax: 5 })
    const room = await place.open()
    const many = Array.from({ length: 12 }, (_, n) => {
      return codeOf(room.consent(call({ hold: { waitMs: 0 } }), judged({ text: `UPDATE orders SET n = ${n}` })))
    })
    const codes = await Promise.all(many)
    expect(codes.filter((code) => code === 'ERR_APPROVAL_PENDING')).toHaveLength(5)
    expect(codes.filter((code) => code === 'ERR_LIMIT_CONCURRENCY')).toHaveLength(7)
    const other = call({ as: { ...AGENT, id: 'other-agent' }, hold: { waitMs: 0 } })
    expect(await codeOf(room.consent(other, judged()))).toBe('ERR_APPROVAL_PENDING')
  })
})

describe('several instances', () => {
  it('cannot be used to have more requests wait than one may', async () => {
    const place = await world({ pendingMax: 3 })
    const rooms = [await place.open(), await place.open(), await place.open()]
    const many = rooms.flatMap((room, r) => {
      return Array.from({ length: 4 }, (_, n) => {
        return codeOf(room.consent(call({ hold: { waitMs: 0 } }), judged({ text: `UPDATE orders SET n = ${r}${n}` })))
      })
    })
    const codes = await Promise.all(many)
    expect(codes.filter((code) => code === 'ERR_APPROVAL_PENDING')).toHaveLength(3)
  })

  it('C12: file one ticket for the same call at the same moment', async () => {
    const place = await world()
    const rooms = [await place.open(), await place.open(), await place.open()]
    const tickets = await Promise.all(rooms.flatMap((room) => [place.file(room), place.file(room)]))
    expect(new Set(tickets).size).toBe(1)
    expect(await place.store.blobs.list()).toEqual([`request.${tickets[0]}`])
  })
})

describe('counting votes', () => {
  const vote = (approver: typeof BOB, decision: 'approve' | 'deny' = 'approve', digest = 'd'): Vote => {
    return { approver, decision, digest, at: 0, mac: '' }
  }
  const count = (votes: readonly Vote[], more = {}): readonly string[] => {
    const [first] = progressOf({ requester: AGENT, digest: 'd', votes }, [requirement(more)])
    return first?.by ?? []
  }

  it.each([
    ['two tokens of one person as one', [vote(BOB), vote(BOB_PHONE)], ['bob']],
    ['two persons as two', [vote(BOB), vote(CAROL)], ['bob', 'carol']],
    ['no refusal', [vote(BOB, 'deny')], []],
    ['no vote for another digest', [vote(BOB, 'approve', 'other')], []],
    ['no vote of the requester’s owner', [vote(ANA)], []],
    ['no vote from outside the named group', [vote(DAVE)], []],
  ])('C13: counts %s', (_, votes, by) => {
    expect(count(votes)).toEqual(by)
  })

  it('C13: reads a count that is no number of persons as one, and a form it does not know as nobody', () => {
    for (const odd of [0, -1, NaN]) {
      expect(progressOf({ requester: AGENT, digest: 'd', votes: [] }, [requirement({ count: odd })])[0]?.isMet).toBe(
        false,
      )
    }
    expect(count([vote(BOB)], { anyOf: ['dba', 'role:approver', '*', 'bob'] })).toEqual([])
  })
})

function codeOfError(error: unknown): string {
  return error instanceof SallyportError ? error.code : String(error)
}
