/** A session without a connection was found by id and token alone, so a caller could get one of a principal it is not. */
import { describe, expect, it } from 'vitest'
import type { Principal } from '../../src/core/principal.ts'
import type { SessionRecording } from '../../src/core/recording.ts'
import { createSessions, JOINED_PER_PRINCIPAL_MAX, type Sessions } from '../../src/gateway/sessions.ts'
import { codeOf } from '../gateway/kit.ts'

const LOOP: Principal = { id: 'loop', kind: 'agent', groups: ['a', 'b'], roles: ['caller'], owner: 'sam' }
const TOKEN: Principal = { ...LOOP, credentialId: 't1' }

const recording: SessionRecording = {
  begin: () => {
    throw new Error('no call is made here')
  },
  refused: async () => undefined,
  close: async () => undefined,
}

function sessionsOf(isBusy: () => boolean = () => false): Sessions {
  return createSessions({ open: async () => recording }, isBusy)
}

describe('a session without a connection', () => {
  it('is joined by the very same principal, whatever the order of its groups', async () => {
    const sessions = sessionsOf()
    const first = await sessions.join({ principal: TOKEN, door: 'mcp' })
    expect(await sessions.join({ principal: { ...TOKEN, groups: ['b', 'a'] }, door: 'mcp' })).toBe(first)
    await sessions.close()
  })

  it.each<Partial<Principal>>([
    { id: 'loop-2' },
    { kind: 'service' },
    { owner: 'eve' },
    { actsFor: 'maria' },
    { credentialId: 't2' },
    { groups: ['a'] },
    { roles: ['caller', 'auditor'] },
  ])('is not joined by one that differs in %j', async (other) => {
    const sessions = sessionsOf()
    const first = await sessions.join({ principal: TOKEN, door: 'mcp' })
    const second = await sessions.join({ principal: { ...TOKEN, ...other }, door: 'mcp' })
    expect(second).not.toBe(first)
    expect(second.principal).toEqual({ ...TOKEN, ...other })
    await sessions.close()
  })

  it('C2: ends when the groups of its principal change', async () => {
    const sessions = sessionsOf()
    const first = await sessions.join({ principal: TOKEN, door: 'mcp' })
    await sessions.join({ principal: { ...TOKEN, groups: [] }, door: 'mcp' })
    expect(first.signal.aborted).toBe(true)
    await sessions.close()
  })

  it('makes room for another run of its principal, the one that was used last staying', async () => {
    const sessions = sessionsOf()
    const join = (run: number) => sessions.join({ principal: TOKEN, door: 'mcp', run: `r${run}` })
    const [first, second] = [await join(0), await join(1)]
    for (let run = 2; run < JOINED_PER_PRINCIPAL_MAX; run++) await join(run)
    await join(0)
    await join(-1)
    expect([first.signal.aborted, second.signal.aborted]).toEqual([false, true])
    expect(sessions.list()).toHaveLength(JOINED_PER_PRINCIPAL_MAX)
    await sessions.close()
  })

  it('is never ended for another while a call of it runs', async () => {
    const sessions = sessionsOf(() => true)
    const join = (run: number) => sessions.join({ principal: TOKEN, door: 'mcp', run: `r${run}` })
    for (let run = 0; run < JOINED_PER_PRINCIPAL_MAX; run++) await join(run)
    expect(await codeOf(join(-1))).toBe('ERR_LIMIT_CONCURRENCY')
    await expect(sessions.join({ principal: { ...TOKEN, id: 'other' }, door: 'mcp' })).resolves.toBeDefined()
    await sessions.close()
  })
})
