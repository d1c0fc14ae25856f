import path from 'node:path'
import * as fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import type { Call } from '../../src/core/call.ts'
import type { Budget, Decision, RateLimit } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { askableBudgets, createSharedLimits, type Limits, type Reservation } from '../../src/limits/limits.ts'
import { openLowdbStore } from '../../src/store/lowdb-store.ts'
import { openPostgresStore } from '../../src/store/postgres/postgres-store.ts'
import type { Store } from '../../src/store/store.ts'
import { createDatabase } from '../services/postgres.ts'
import { temporaryDirectory } from '../store/kit.ts'

const ends: (() => Promise<unknown>)[] = []
afterAll(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

function call(principal = 'agent-1', session = 's1'): Call {
  const signal = new AbortController().signal
  return {
    session: { id: session, principal: { id: principal } },
    target: { name: 'shop-db' },
    signal,
  } as unknown as Call
}

function decision(limits: { readonly rates?: readonly RateLimit[]; readonly budgets?: readonly Budget[] }): Decision {
  return {
    rules: ['r'],
    obligations: { rates: [], budgets: [], columns: [], detect: [], ...limits },
  } as unknown as Decision
}

const budget = (max: number, windowMs: number, more: Partial<Budget> = {}): Budget => ({
  id: 'budget:b',
  max,
  windowMs,
  per: ['principal'],
  onExceed: 'deny',
  ...more,
})

async function memoryStore(now: () => number): Promise<Store> {
  const directory = await temporaryDirectory()
  const store = await openLowdbStore({
    file: path.join(directory, 'store.json'),
    blobs: path.join(directory, 'blobs'),
    key: new Uint8Array(32),
    mustExist: false,
    now,
  })
  ends.push(() => store.close())
  return store
}

async function tryReserve(limits: Limits, judged: Decision, which = call()): Promise<Reservation | SallyportError> {
  try {
    return await limits.reserve(which, judged)
  } catch (error) {
    if (error instanceof SallyportError) return error
    throw error
  }
}

describe('limits that instances share', () => {
  it('never admit more than the maximum in any window, however calls, clocks and deaths fall', async () => {
    const step = fc.record({
      instance: fc.nat(2),
      waitMs: fc.constantFrom(0, 1, 30, 240, 251, 400, 999, 1_000, 2_500),
      what: fc.constantFrom('call', 'call', 'call', 'call', 'burst', 'give back', 'die'),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 9 }), async (steps, max) => {
        let now = 1_000_000
        const store = await memoryStore(() => now)
        // Each instance has a clock of its own, which agrees with nobody's about what time it is.
        const make = (n: number): Limits =>
          createSharedLimits({ now: () => now * 1 + n * 7_777, store, instance: `i${n}` })
        const instances = [make(0), make(1), make(2)]
        const judged = decision({ budgets: [budget(max, 1_000)] })
        const admitted: number[] = []
        for (const { instance, waitMs, what } of steps) {
          now += waitMs
          const limits = instances[instance]
          if (limits === undefined) continue
          if (what === 'die') instances[instance] = make(instance)
          else if (what === 'give back') {
            await limits.close()
            instances[instance] = make(instance)
          } else {
            const tries = Array.from({ length: what === 'burst' ? 12 : 1 }, () => tryReserve(limits, judged))
            for (const done of await Promise.all(tries)) if (!(done instanceof SallyportError)) admitted.push(now)
          }
        }
        for (const from of admitted) {
          expect(admitted.filter((at) => at >= from && at < from + 1_000).length).toBeLessThanOrEqual(max)
        }
      }),
      { numRuns: 60 },
    )
  })

  it('let one instance use up everything when it is the only one that is asked', async () => {
    const now = 5_000
    const store = await memoryStore(() => now)
    const limits = createSharedLimits({ now: () => now, store, instance: 'a' })
    const judged = decision({ rates: [{ id: 'r', max: 37, windowMs: 60_000, per: ['principal'] }] })
    for (let n = 0; n < 37; n++) expect(await tryReserve(limits, judged)).not.toBeInstanceOf(SallyportError)
    expect(await tryReserve(limits, judged)).toMatchObject({ code: 'ERR_LIMIT_RATE' })
    expect(await tryReserve(limits, judged, call('agent-2'))).not.toBeInstanceOf(SallyportError)
  })

  it('give back what an instance did not use, and what never reached a backend', async () => {
    const now = 5_000
    const store = await memoryStore(() => now)
    const [one, other] = ['a', 'b'].map((instance) => createSharedLimits({ now: () => now, store, instance }))
    if (one === undefined || other === undefined) throw new Error('two instances')
    const judged = decision({ budgets: [budget(8, 60_000)] })
    const held = await tryReserve(one, judged)
    if (held instanceof SallyportError) throw held
    held.release({ ran: false })
    await one.close()
    for (let n = 0; n < 8; n++) expect(await tryReserve(other, judged)).not.toBeInstanceOf(SallyportError)
  })

  it('ask the store for slices, not for calls', async () => {
    const now = 5_000
    const store = await memoryStore(() => now)
    let asked = 0
    const counting: Store = { ...store, commit: (writes) => (asked++, store.commit(writes)) }
    const limits = createSharedLimits({ now: () => now, store: counting, instance: 'a' })
    const judged = decision({ rates: [{ id: 'r', max: 1_000_000, windowMs: 60_000, per: ['principal'] }] })
    for (let n = 0; n < 1_000; n++) await limits.reserve(call(), judged)
    expect(asked).toBeLessThan(15)
    // What only one session can use is nobody else's business.
    asked = 0
    await limits.reserve(call(), decision({ rates: [{ id: 's', max: 5, windowMs: 60_000, per: ['session'] }] }))
    await limits.reserve(call(), decision({}))
    expect(asked).toBe(0)
  })

  it('keep their ledger short', async () => {
    let now = 5_000
    const store = await memoryStore(() => now)
    const limits = createSharedLimits({ now: () => now, store, instance: 'a' })
    const judged = decision({ budgets: [budget(1_000_000, 86_400_000)] })
    for (let n = 0; n < 400; n++) {
      await limits.reserve(call(), judged)
      now += 20_000
    }
    const [ledger] = await store.list<{ entries: readonly unknown[] }>('limits')
    expect(ledger?.value.entries.length).toBeLessThan(80)
  })

  it('deny with a clear message when the store does not answer', async () => {
    const store = await memoryStore(() => 0)
    const broken: Store = {
      ...store,
      clock: () => Promise.reject(new SallyportError('ERR_STORE_FAILED', 'It is away.')),
    }
    const limits = createSharedLimits({ now: () => 0, store: broken, instance: 'a' })
    const judged = decision({ budgets: [budget(5, 1_000)] })
    expect(await tryReserve(limits, judged)).toMatchObject({ code: 'ERR_STORE_FAILED' })
    expect(await tryReserve(limits, decision({}))).not.toBeInstanceOf(SallyportError)
  })

  it('say which budgets persons may let a call exceed, and only when nothing else stands in its way', async () => {
    const store = await memoryStore(() => 0)
    const limits = createSharedLimits({ now: () => 0, store, instance: 'a' })
    const asks = budget(1, 60_000, { onExceed: 'require_approval' })
    const judged = decision({ budgets: [asks] })
    await limits.reserve(call(), judged)
    const refused = await tryReserve(limits, judged)
    expect(askableBudgets(refused)).toEqual([asks])
    expect(await limits.reserve(call(), judged, new Set([asks.id]))).toBeDefined()
    const both = decision({ budgets: [asks, budget(1, 60_000, { id: 'budget:c' })] })
    await tryReserve(limits, decision({ budgets: [budget(1, 60_000, { id: 'budget:c' })] }))
    expect(askableBudgets(await tryReserve(limits, both))).toEqual([])
  })

  it('hold over one PostgreSQL with instances that race', async () => {
    const database = await createDatabase('')
    ends.push(() => database.drop())
    const { host, port, user, password, name } = database
    const open = async (): Promise<Store> => {
      const store = await openPostgresStore({
        address: { host, port, user, database: name, tls: { mode: 'disable' } },
        password: async () => password,
        key: new Uint8Array(32),
      })
      ends.push(() => store.close())
      return store
    }
    const stores = [await open(), await open(), await open()]
    const instances = stores.map((store, n) =>
      createSharedLimits({ now: () => performance.now(), store, instance: `i${n}` }),
    )
    const judged = decision({ budgets: [budget(100, 3_600_000)] })
    const tries = instances.flatMap((limits) => Array.from({ length: 100 }, () => tryReserve(limits, judged)))
    const admitted = (await Promise.all(tries)).filter((done) => !(done instanceof SallyportError))
    expect(admitted.length).toBeLessThanOrEqual(100)
    // What one could not use comes back, and then all of it is used.
    for (const limits of instances) await limits.close()
    const last = createSharedLimits({ now: () => performance.now(), store: await open(), instance: 'last' })
    let more = 0
    while (!((await tryReserve(last, judged)) instanceof SallyportError)) more++
    expect(admitted.length + more).toBe(100)
  })
})
