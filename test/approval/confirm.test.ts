import { describe, expect, it } from 'vitest'
import type { ApprovalRoom } from '../../src/approval/create-approvals.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import { AGENT, ANA, BOB, call, judged, principal, requirement } from './fakes.ts'
import { claimed, codeOf, errorOf, granted, vote, world } from './kit.ts'

const SELF = requirement({ rule: 'self', selfConfirm: true })
const self = (...approvals: readonly ReturnType<typeof requirement>[]) =>
  judged({ decision: { approvals: approvals.length === 0 ? [SELF] : approvals } })

async function confirm(
  room: ApprovalRoom,
  ticket: string,
  more: { viewer?: Principal; digest?: string; rules?: readonly string[]; decision?: 'confirm' | 'decline' } = {},
): Promise<string> {
  const { digest } = await room.inbox.show(AGENT, ticket)
  await room.inbox.confirm({ viewer: AGENT, ticket, digest, rules: ['self'], decision: 'confirm', ...more })
  return (await room.inbox.show(AGENT, ticket)).state
}

describe('the confirmation of the requester’s own client', () => {
  it('is enough where the rule says so, for one run', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room, call(), self())
    expect(await confirm(room, ticket)).toBe('approved')
    const grant = await granted(room.consent(call(), self()))
    expect(grant.by).toEqual(['ana-agent'])
    await grant.claim(self())
    expect(await codeOf(grant.claim(self()))).toBe('ERR_APPROVAL_CONFLICT')
    expect((await room.inbox.show(BOB, ticket)).votes).toMatchObject([{ by: 'ana-agent', decision: 'confirm' }])
    expect(place.events).toContainEqual(expect.objectContaining({ kind: 'vote', ticket, by: AGENT, what: 'confirm' }))
  })

  it('counts for nothing where no rule says so, and the attempt is told', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    expect(await codeOf(confirm(room, ticket))).toBe('ERR_FORBIDDEN')
    expect((await room.inbox.show(BOB, ticket)).votes).toEqual([])
    expect(place.events).toContainEqual(
      expect.objectContaining({ kind: 'refused', ticket, what: 'confirm', why: 'ERR_FORBIDDEN' }),
    )
  })

  it.each([
    ['another agent of the same owner', { ...AGENT, id: 'ana-agent-2' }],
    ['an agent of the same name and another owner', { ...AGENT, owner: 'eve' }],
    ['the same agent acting for somebody else', { ...AGENT, actsFor: 'eve' }],
    ['the owner', ANA],
    ['an approver', BOB],
    ['a service', principal('svc', 'service', 'ana', { roles: ['approver', 'operator'] })],
  ])('is not for %s', async (_, viewer) => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room, call(), self())
    for (const decision of ['confirm', 'decline'] as const) {
      expect(await codeOf(confirm(room, ticket, { viewer, decision }))).toBe('ERR_UNKNOWN_TICKET')
    }
    expect(await room.inbox.show(BOB, ticket)).toMatchObject({ state: 'pending', votes: [] })
  })

  it('is for what was shown: another digest or another rule confirms nothing', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room, call(), self())
    expect(await codeOf(confirm(room, ticket, { digest: '0'.repeat(64) }))).toBe('ERR_APPROVAL_STALE')
    expect(await codeOf(confirm(room, ticket, { rules: ['other'] }))).toBe('ERR_FORBIDDEN')
    expect((await room.inbox.show(BOB, ticket)).state).toBe('pending')
  })

  it('C5: serves its own rule and leaves the others to persons', async () => {
    const place = await world()
    const room = await place.open()
    const both = self(SELF, requirement({ rule: 'four-eyes' }))
    const ticket = await place.file(room, call(), both)
    expect(await confirm(room, ticket)).toBe('pending')
    const error = await errorOf(room.consent({ ...call(), hold: { waitMs: 0 } }, both))
    expect(error.code).toBe('ERR_APPROVAL_PENDING')
    expect(await vote(room, BOB, ticket)).toBe('approved')
    await (await granted(room.consent(call(), both))).claim(both)
  })

  it('given under one rule it does not serve another that the policy adds meanwhile', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room, call(), self(SELF, requirement({ rule: 'four-eyes' })))
    await confirm(room, ticket)
    const added = self(requirement({ rule: 'later', selfConfirm: true }))
    const told: object[] = []
    const asked = call({ hold: { waitMs: 0, onHeld: ({ confirm: asks }) => void told.push(asks ?? {}) } })
    expect(await codeOf(room.consent(asked, added))).toBe('ERR_APPROVAL_PENDING')
    expect(told).toMatchObject([{ rules: ['later'] }])
    expect(await confirm(room, ticket, { rules: ['later'] })).toBe('approved')
  })

  it('does not stand when the rule no longer says so at the claim', async () => {
    const place = await world()
    const room = await place.open()
    await confirm(room, await place.file(room, call(), self()))
    const grant = await granted(room.consent(call(), self()))
    expect(await codeOf(grant.claim(self(requirement({ rule: 'self' }))))).toBe('ERR_APPROVAL_STALE')
  })

  it('does not stand when the token it came with was revoked, or is somebody else’s now', async () => {
    for (const now of [undefined, { ...AGENT, owner: 'eve' }]) {
      const place = await world()
      const room = await place.open({ approverNow: async () => now })
      await confirm(room, await place.file(room, call(), self()))
      const grant = await granted(room.consent(call(), self()))
      expect(await codeOf(grant.claim(self()))).toBe('ERR_APPROVAL_STALE')
    }
  })

  it('does not take effect when it cannot be written down', async () => {
    const place = await world()
    const room = await place.open({
      onEvent: ({ kind }) => {
        if (kind === 'vote') throw new SallyportError('ERR_RECORDING_FAILED', 'The recording is full.')
      },
    })
    const ticket = await place.file(room, call(), self())
    expect(await codeOf(confirm(room, ticket))).toBe('ERR_RECORDING_FAILED')
    expect((await room.inbox.show(BOB, ticket)).votes).toEqual([])
  })

  it('declined, it withdraws the request: no refusal of an approver, and the same call may ask again', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room, call(), self())
    const waiting = errorOf(room.consent(call({ hold: { waitMs: 60_000 } }), self()))
    expect(await confirm(room, ticket, { decision: 'decline' })).toBe('cancelled')
    expect(await waiting).toMatchObject({
      code: 'ERR_APPROVAL_CANCELLED',
      message: expect.stringContaining('declined'),
    })
    expect(await place.file(room, call(), self())).not.toBe(ticket)
  })

  it('comes too late for what was decided, ran, or expired', async () => {
    const place = await world()
    const room = await place.open()
    const refused = await place.file(room, call(), self())
    await vote(room, BOB, refused, 'deny')
    expect(await codeOf(confirm(room, refused))).toBe('ERR_APPROVAL_CONFLICT')
    const expired = await place.file(room, call(), { ...self(), plan: judged({ exact: { sql: 'other' } }).plan })
    place.clock.now += 16 * 60_000
    expect(await codeOf(confirm(room, expired))).toBe('ERR_APPROVAL_EXPIRED')
    const { ticket } = await claimed(place, room, call({ newRequest: '00000000-0000-4000-8000-000000000000' }))
    expect(await codeOf(confirm(room, ticket, { decision: 'decline' }))).toBe('ERR_APPROVAL_CONFLICT')
  })

  it('two at the same moment are one grant, also on two instances', async () => {
    const place = await world()
    const [one, other] = [await place.open(), await place.open()]
    const ticket = await place.file(one, call(), self())
    const answers = await Promise.allSettled([confirm(one, ticket), confirm(other, ticket), confirm(one, ticket)])
    expect(answers.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(0)
    const grants = await Promise.all(
      [granted(one.consent(call(), self())), granted(other.consent(call(), self()))].map((grant) =>
        grant.catch(() => undefined),
      ),
    )
    const claims = await Promise.allSettled(
      grants.map((grant) => grant?.claim(self()) ?? Promise.reject(new Error('no'))),
    )
    expect(claims.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  })

  it('a confirmation in the store that was widened by hand counts for nothing', async () => {
    const place = await world()
    const room = await place.open()
    const both = self(SELF, requirement({ rule: 'four-eyes' }))
    const ticket = await place.file(room, call(), both)
    await confirm(room, ticket)
    const read = await place.store.get<{ votes: { confirms: string[] }[] }>('tickets', ticket)
    if (read === undefined) throw new Error('no ticket')
    const votes = read.value.votes.map((given) => ({ ...given, confirms: ['self', 'four-eyes'] }))
    await place.store.commit([
      { kind: 'put', collection: 'tickets', id: ticket, expect: read.version, value: { ...read.value, votes } },
    ])
    const { requirements } = await room.inbox.show(BOB, ticket)
    expect(requirements.map(({ isMet }) => isMet)).toEqual([false, false])
  })
})
