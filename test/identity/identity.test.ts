import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import { createIdentity, type Identity, type IdentityEvent } from '../../src/identity/identity.ts'
import type { NewToken } from '../../src/identity/new-token.ts'
import { openLowdbStore } from '../../src/store/lowdb-store.ts'
import type { Store } from '../../src/store/store.ts'
import { temporaryDirectory } from '../store/kit.ts'

const DAY_MS = 24 * 60 * 60_000

interface World {
  readonly identity: Identity
  readonly store: Store
  readonly file: string
  readonly clock: { now: number }
  readonly events: IdentityEvent[]
  readonly olga: Principal
  readonly olgaToken: string
  /** A second gateway on the same store. */
  readonly again: () => Identity
}

async function world(): Promise<World> {
  const directory = await temporaryDirectory()
  const file = path.join(directory, 'store.json')
  const clock = { now: Date.parse('2026-11-23T10:00:00Z') }
  const now = (): number => clock.now
  const key = new Uint8Array(32)
  const store = await openLowdbStore({ file, blobs: path.join(directory, 'blobs'), key, mustExist: false, now })
  const events: IdentityEvent[] = []
  const open = (): Identity => createIdentity({ store, now, onEvent: (event) => void events.push(event) })
  const identity = open()
  const first = await identity.bootstrap('olga')
  if (first === undefined) throw new Error('no first operator')
  const olga = await identity.authenticate(first.token)
  return { identity, store, file, clock, events, olga, olgaToken: first.token, again: open }
}

function wanted(more: Partial<NewToken> = {}): NewToken {
  return {
    principal: 'shop-agent',
    kind: 'agent',
    owner: 'ana',
    groups: ['agents'],
    roles: ['caller'],
    expiresInMs: 30 * DAY_MS,
    ...more,
  }
}

function approver(name: string, more: Partial<NewToken> = {}): NewToken {
  return wanted({ principal: name, kind: 'person', owner: name, groups: ['dba'], roles: ['approver'], ...more })
}

async function errorOf(promise: Promise<unknown>): Promise<SallyportError> {
  try {
    await promise
  } catch (error) {
    if (error instanceof SallyportError) return error
    throw error
  }
  throw new Error('it did not fail')
}

describe('authenticating', () => {
  it('turns a token into its principal', async () => {
    const { identity, olga } = await world()
    const { token, facts } = await identity.create(olga, wanted({ actsFor: 'ana', groups: ['b', 'a', 'b'] }))
    expect(token).toMatch(/^sp_[0-9a-z]{12}_[\w-]{43}$/)
    expect(await identity.authenticate(token)).toEqual({
      id: 'shop-agent',
      kind: 'agent',
      owner: 'ana',
      actsFor: 'ana',
      groups: ['a', 'b'],
      roles: ['caller'],
      credentialId: facts.id,
    })
  })

  it('says the same of a token that is malformed, unknown, wrong, expired, revoked or unconfirmed', async () => {
    const { identity, olga, clock } = await world()
    const good = await identity.create(olga, wanted())
    const revoked = await identity.create(olga, wanted())
    await identity.revoke(olga, revoked.facts.id)
    const expired = await identity.create(olga, wanted({ expiresInMs: DAY_MS }))
    await identity.create(olga, approver('bob'))
    await identity.create(olga, approver('carol'))
    const unconfirmed = await identity.create(olga, approver('zoe'))
    clock.now += DAY_MS
    const last = good.token.at(-1) === 'A' ? 'B' : 'A'
    const bad = [
      '',
      'sp_',
      good.token.slice(0, -1) + last,
      good.token.slice(0, -1),
      `${good.token}x`,
      ` ${good.token}`,
      good.token.toUpperCase(),
      `sp_${'0'.repeat(12)}_${'A'.repeat(43)}`,
      `sp___proto__000_${'A'.repeat(43)}`,
      'x'.repeat(1_000_000),
      revoked.token,
      expired.token,
      unconfirmed.token,
      expired.facts.id,
    ]
    const errors = await Promise.all(bad.map((token) => errorOf(identity.authenticate(token))))
    expect(new Set(errors.map(({ code }) => code))).toEqual(new Set(['ERR_UNAUTHENTICATED']))
    expect(new Set(errors.map(({ message, detail }) => `${message}${String(detail)}`)).size).toBe(1)
    expect((await identity.authenticate(good.token)).id).toBe('shop-agent')
  })

  it('C17: keeps no token, only a hash of it', async () => {
    const { identity, olga, file, olgaToken, events } = await world()
    const { token } = await identity.create(olga, wanted())
    const stored = await readFile(file, 'utf8')
    for (const secret of [token, olgaToken].map((text) => text.slice(-43))) {
      expect(stored).not.toContain(secret)
      expect(JSON.stringify([events, await identity.list()])).not.toContain(secret)
    }
    expect(JSON.stringify([events, await identity.list()])).not.toContain('hash')
  })
})

describe('making tokens', () => {
  it.each([
    ['a principal in capitals', wanted({ principal: 'Shop' })],
    ['an empty owner', wanted({ owner: '' })],
    ['an owner with a look-alike letter', wanted({ owner: 'аna' })],
    ['a group with a line feed', wanted({ groups: ['dba\n'] })],
    ['a name that is too long', wanted({ principal: 'x'.repeat(101) })],
    ['no role', wanted({ roles: [] })],
    ['an unknown role', wanted({ roles: ['root' as 'caller'] })],
    ['an unknown kind', wanted({ kind: 'robot' as 'agent' })],
    ['an agent that approves', wanted({ roles: ['approver'] })],
    ['a service that approves', wanted({ kind: 'service', roles: ['approver'] })],
    ['a service that operates', wanted({ kind: 'service', roles: ['operator'] })],
    ['an agent that operates', wanted({ roles: ['operator'] })],
    ['a person acting for another', wanted({ kind: 'person', actsFor: 'ana' })],
    ['no expiry', wanted({ expiresInMs: Infinity })],
    ['an expiry that is no number', wanted({ expiresInMs: NaN })],
    ['an expiry in the past', wanted({ expiresInMs: -1 })],
    ['an expiry too far away', wanted({ expiresInMs: 91 * DAY_MS })],
  ])('refuses %s', async (_, token) => {
    const { identity, olga } = await world()
    expect((await errorOf(identity.create(olga, token))).code).toBe('ERR_INVALID_INPUT')
    expect(await identity.list()).toHaveLength(1)
  })

  it('is for operators that are persons', async () => {
    const { identity, olga, events } = await world()
    const caller = await identity.authenticate((await identity.create(olga, wanted())).token)
    for (const by of [caller, { ...olga, kind: 'service' as const }, { ...olga, roles: ['approver' as const] }]) {
      expect((await errorOf(identity.create(by, wanted()))).code).toBe('ERR_FORBIDDEN')
    }
    expect(events.filter(({ outcome }) => outcome === 'refused')).toHaveLength(3)
  })

  it('C13: never gives one principal two owners, kinds or persons it acts for', async () => {
    const { identity, olga } = await world()
    const first = await identity.create(olga, wanted({ actsFor: 'ana' }))
    await identity.revoke(olga, first.facts.id)
    for (const other of [wanted(), wanted({ actsFor: 'eve' }), wanted({ actsFor: 'ana', owner: 'eve' })]) {
      expect((await errorOf(identity.create(olga, other))).code).toBe('ERR_INVALID_INPUT')
    }
    const both = await Promise.allSettled([
      identity.create(olga, wanted({ principal: 'new', owner: 'ana' })),
      identity.create(olga, wanted({ principal: 'new', owner: 'eve' })),
    ])
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  it('makes the first operator once', async () => {
    const { identity, olga, again } = await world()
    expect(olga).toMatchObject({ id: 'olga', kind: 'person', roles: ['operator'] })
    expect(await identity.bootstrap('eve')).toBeUndefined()
    expect(await again().bootstrap('eve')).toBeUndefined()
  })

  it('does not make what cannot be written down', async () => {
    const { store, clock, olga } = await world()
    const mute = createIdentity({
      store,
      now: () => clock.now,
      onEvent: () => {
        throw new SallyportError('ERR_RECORDING_FAILED', 'The recording is full.')
      },
    })
    expect((await errorOf(mute.create(olga, wanted()))).code).toBe('ERR_RECORDING_FAILED')
    expect(await mute.list()).toHaveLength(1)
    mute.close()
  })
})

describe('C13: an operator and approvers', () => {
  it('C13: makes the first two alone, and after that none without an approver', async () => {
    const { identity, olga } = await world()
    const bob = await identity.create(olga, approver('bob'))
    const carol = await identity.create(olga, approver('carol'))
    expect([bob.facts.state, carol.facts.state]).toEqual(['active', 'active'])
    const zoe = await identity.create(olga, approver('zoe'))
    expect(zoe.facts.state).toBe('unconfirmed')
    expect((await errorOf(identity.confirm(olga, zoe.facts.id))).code).toBe('ERR_FORBIDDEN')
    const confirmed = await identity.confirm(await identity.authenticate(bob.token), zoe.facts.id)
    expect(confirmed).toMatchObject({ state: 'active', confirmedBy: 'bob' })
    expect((await identity.authenticate(zoe.token)).id).toBe('zoe')
  })

  it('C13: a second token of an existing approver needs confirmation too', async () => {
    const { identity, olga } = await world()
    await identity.create(olga, approver('bob'))
    await identity.create(olga, approver('carol'))
    expect((await identity.create(olga, approver('bob'))).facts.state).toBe('unconfirmed')
  })

  it('C13: an operator who also approves cannot confirm what they made, under any of their tokens', async () => {
    const { identity, olga } = await world()
    await identity.create(olga, approver('bob'))
    const self = await identity.create(olga, approver('olga-approves', { owner: 'olga' }))
    const zoe = await identity.create(olga, approver('zoe'))
    const other = await identity.authenticate(self.token)
    expect((await errorOf(identity.confirm(other, zoe.facts.id))).code).toBe('ERR_FORBIDDEN')
    expect((await identity.list()).find(({ id }) => id === zoe.facts.id)?.state).toBe('unconfirmed')
  })

  it('C13: revoking approvers until one is left does not bring the beginning back', async () => {
    const { identity, olga } = await world()
    const bob = await identity.create(olga, approver('bob'))
    const carol = await identity.create(olga, approver('carol'))
    await identity.revoke(olga, bob.facts.id)
    await identity.revoke(olga, carol.facts.id)
    expect((await identity.create(olga, approver('zoe'))).facts.state).toBe('unconfirmed')
  })

  it('C13: of approvers made at the same moment only two are free', async () => {
    const { identity, olga } = await world()
    const made = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((name) => identity.create(olga, approver(name))))
    expect(made.filter(({ facts }) => facts.state === 'active')).toHaveLength(2)
  })

  it('C13: an operator who also approves cannot reach an approver by way of an operator they invent', async () => {
    const { identity, olga } = await world()
    await identity.create(olga, approver('bob'))
    const self = await identity.create(olga, approver('olga-approves', { owner: 'olga' }))
    const invented = await identity.create(olga, approver('ghost', { roles: ['operator'] }))
    expect(invented.facts.state).toBe('unconfirmed')
    expect((await errorOf(identity.authenticate(invented.token))).code).toBe('ERR_UNAUTHENTICATED')
    const olgaApproves = await identity.authenticate(self.token)
    expect((await errorOf(identity.confirm(olgaApproves, invented.facts.id))).code).toBe('ERR_FORBIDDEN')
    const bob = (await identity.list()).find(({ principal }) => principal === 'bob')
    expect(bob?.state).toBe('active')
  })

  it('C13: an operator renews the own token without a second person', async () => {
    const { identity, olga } = await world()
    await identity.create(olga, approver('bob'))
    await identity.create(olga, approver('carol'))
    const again = await identity.create(olga, approver('olga', { roles: ['operator'] }))
    expect(again.facts.state).toBe('active')
  })

  it('C13: callers and auditors need no second person', async () => {
    const { identity, olga } = await world()
    await identity.create(olga, approver('bob'))
    await identity.create(olga, approver('carol'))
    const auditor = approver('audit', { roles: ['auditor', 'caller'] })
    expect((await identity.create(olga, auditor)).facts.state).toBe('active')
  })

  it('the owner of the host can begin anew', async () => {
    const { identity, olga } = await world()
    await identity.create(olga, approver('bob'))
    await identity.create(olga, approver('carol'))
    const { token } = await identity.beginAnew('petra')
    const petra = await identity.authenticate(token)
    expect((await identity.create(petra, approver('zoe'))).facts.state).toBe('active')
    expect((await identity.create(petra, approver('yan'))).facts.state).toBe('unconfirmed')
  })
})

describe('the end of a token', () => {
  it('C2: is told at once, also when another gateway revoked it', async () => {
    const { identity, olga, again } = await world()
    const { token, facts } = await identity.create(olga, wanted())
    const other = again()
    const ended: string[] = []
    const told = new Promise<void>((resolve) => {
      other.onRevoked((id) => {
        ended.push(id)
        resolve()
      })
    })
    await identity.revoke(olga, facts.id)
    expect((await errorOf(other.authenticate(token))).code).toBe('ERR_UNAUTHENTICATED')
    await told
    expect(ended).toEqual([facts.id])
    other.close()
  })

  it('C2: is told when time runs out', async () => {
    const directory = await temporaryDirectory()
    const now = (): number => Date.now() + skew
    let skew = 0
    const key = new Uint8Array(32)
    const file = path.join(directory, 'store.json')
    const store = await openLowdbStore({ file, blobs: path.join(directory, 'b'), key, mustExist: false, now })
    const identity = createIdentity({ store, now })
    const first = await identity.bootstrap('olga')
    const olga = await identity.authenticate(first?.token ?? '')
    const { facts } = await identity.create(olga, wanted({ expiresInMs: 60_000 }))
    const told = new Promise<string>((resolve) => identity.onRevoked(resolve))
    // All but 50 ms of the minute passes at once; any change of tokens sets the timer by the new clock.
    skew = 60_000 - 50
    await identity.create(olga, wanted())
    expect(await told).toBe(facts.id)
    identity.close()
  })

  it('is for operators and for its owner', async () => {
    const { identity, olga } = await world()
    const agent = await identity.create(olga, wanted())
    const ana = await identity.authenticate(
      (await identity.create(olga, wanted({ principal: 'ana', kind: 'person' }))).token,
    )
    const eve = wanted({ principal: 'eve', kind: 'person', owner: 'eve' })
    const stranger = await identity.authenticate((await identity.create(olga, eve)).token)
    expect((await errorOf(identity.revoke(stranger, agent.facts.id))).code).toBe('ERR_INVALID_INPUT')
    const itself = await identity.authenticate(agent.token)
    expect((await errorOf(identity.revoke(itself, agent.facts.id))).code).toBe('ERR_FORBIDDEN')
    expect((await identity.revoke(ana, agent.facts.id)).state).toBe('revoked')
    expect((await errorOf(identity.authenticate(agent.token))).code).toBe('ERR_UNAUTHENTICATED')
  })

  it('C13: is known to whoever counts an approver’s vote later', async () => {
    const { identity, olga } = await world()
    const { facts } = await identity.create(olga, approver('bob'))
    expect((await identity.current(facts.id))?.id).toBe('bob')
    await identity.revoke(olga, facts.id)
    expect(await identity.current(facts.id)).toBeUndefined()
    expect(await identity.current(undefined)).toBeUndefined()
    expect(await identity.current('nosuchtoken1')).toBeUndefined()
  })
})
