import { describe, expect, it } from 'vitest'
import { openRollCall, type RollCall } from '../../src/control/roll-call.ts'
import type { Store } from '../../src/store/store.ts'
import { sharedPlace } from '../store/shared.ts'

interface Facts {
  readonly id: string
}

interface Instance {
  readonly roll: RollCall<Facts>
  readonly sessions: Set<string>
  readonly store: Store
}

const LEASE_MS = 600_000
/** The end of all hope: whoever hears has answered by then. */
const PATIENT_MS = 120_000
const { open } = await sharedPlace()

async function instance(
  name: string,
  change: (store: Store) => Store = (store) => store,
  waitMs = PATIENT_MS,
): Promise<Instance> {
  const store = change(await open())
  await store.lease(`lives.${name}`, name, LEASE_MS)
  const sessions = new Set<string>()
  const roll = await openRollCall<Facts>({
    store,
    instance: name,
    name: `gateway-${name}`,
    waitMs,
    now: Date.now,
    isAlive: async (other) => (await store.leaseHolder(`lives.${other}`)) !== undefined,
    sessions: () => [...sessions].map((id) => ({ id })),
    onKill: async (session) => sessions.delete(session),
    onFault: (error) => {
      throw error
    },
  })
  return { roll, sessions, store }
}

/** A store that tells nobody anything while it is away. */
function deafening(): { readonly change: (store: Store) => Store; hear(): void } {
  const waiting: (() => void)[] = []
  let isDeaf = true
  return {
    change: (store) => ({
      ...store,
      list: async (...asked: Parameters<Store['list']>) => (isDeaf ? [] : store.list(...asked)) as never,
      subscribe: (collection, listener) => {
        waiting.push(() => listener({ kind: 'resync' }))
        return store.subscribe(collection, (change) => void (isDeaf || listener(change)))
      },
    }),
    hear() {
      isDeaf = false
      for (const tell of waiting) tell()
    },
  }
}

describe('the roll call', () => {
  it('lists the sessions of all instances, ends one wherever it is, and names an instance that does not answer', async () => {
    const [here, there] = [await instance('here'), await instance('there')]
    here.sessions.add('mine')
    there.sessions.add('theirs')
    expect(await here.roll.sessions()).toEqual({ sessions: [{ id: 'theirs' }], unheard: [] })
    expect(await here.roll.kill('theirs', 'oscar')).toEqual({ isKilled: true, unheard: [] })
    expect(there.sessions.size).toBe(0)
    expect(await here.roll.kill('nobodys', 'oscar')).toEqual({ isKilled: false, unheard: [] })

    // One that lives and hears nothing: what was asked of it is done as soon as it hears again.
    const deaf = deafening()
    const away = await instance('away', deaf.change)
    away.sessions.add('lost')
    // Whoever waits this short may not have heard the others either.
    const hasty = await instance('hasty', undefined, 50)
    expect((await hasty.roll.sessions()).unheard).toContain('gateway-away')
    const end = await hasty.roll.kill('lost', 'oscar')
    expect(end).toMatchObject({ isKilled: false, unheard: expect.arrayContaining(['gateway-away']) as string[] })
    await hasty.roll.close()
    deaf.hear()
    await expect.poll(() => away.sessions.size).toBe(0)

    // One that died is not waited for; one that left leaves nothing behind.
    await away.store.release('lives.away', 'away')
    expect(await here.roll.sessions()).toEqual({ sessions: [], unheard: [] })
    await there.roll.close()
    const known = await here.store.list('instances')
    expect(known.map(({ id }) => id).sort()).toEqual(['away', 'here'])
  })

  it('asks two instances at once for two ends without either answer being lost', async () => {
    const many = [await instance('one'), await instance('two'), await instance('three')]
    for (const [n, { sessions }] of many.entries()) for (let k = 0; k < 5; k++) sessions.add(`s-${n}-${k}`)
    const ends = many.flatMap(({ roll }, n) =>
      Array.from({ length: 5 }, (_, k) => roll.kill(`s-${(n + 1) % 3}-${k}`, 'oscar')),
    )
    expect((await Promise.all(ends)).every(({ isKilled }) => isKilled)).toBe(true)
    expect(many.every(({ sessions }) => sessions.size === 0)).toBe(true)
  })
})
