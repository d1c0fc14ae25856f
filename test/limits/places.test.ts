import path from 'node:path'
import * as fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import type { SallyportError } from '../../src/core/errors.ts'
import { createPlaces, LEASE_MS, type Place, type Places } from '../../src/limits/places.ts'
import { openLowdbStore } from '../../src/store/lowdb-store.ts'
import type { Store } from '../../src/store/store.ts'
import { temporaryDirectory } from '../store/kit.ts'
import { sharedPlace } from '../store/shared.ts'

const ends: (() => Promise<unknown>)[] = []
afterAll(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

async function memoryStore(now: () => number): Promise<Store> {
  const directory = await temporaryDirectory()
  const files = { file: path.join(directory, 'store.json'), blobs: path.join(directory, 'blobs') }
  const store = await openLowdbStore({ ...files, key: new Uint8Array(32), mustExist: false, now })
  ends.push(() => store.close())
  return store
}

/** Whoever waits for a place is woken by its end, however long that takes on this machine. */
const PATIENCE_MS = 45_000

describe('calls at once, over several instances', () => {
  it('never are more than the limit, with instances that race on one PostgreSQL, and a place that is freed goes on', async () => {
    const { open } = await sharedPlace()
    const stores = [await open(), await open(), await open()]
    const instances = stores.map((store, n) => {
      return createPlaces({ store, instance: `i${n}`, now: () => performance.now(), waitMs: PATIENCE_MS })
    })
    let running = 0
    let most = 0
    let admitted = 0
    const one = async (places: Places): Promise<void> => {
      for (let n = 0; n < 4; n++) {
        const place = await places.take('bot on db', 3)
        if (place === undefined) continue
        admitted++
        most = Math.max(most, ++running)
        await new Promise((resolve) => setImmediate(resolve))
        running--
        place.release()
      }
    }
    await Promise.all(instances.flatMap((places) => [one(places), one(places)]))
    expect(most).toBeLessThanOrEqual(3)
    expect(admitted).toBe(24)
    for (const places of instances) await places.close()
    expect(await stores[0]?.list('places')).toEqual([])
  })

  it('let an agent whose calls come one after the other go from instance to instance', async () => {
    const { open } = await sharedPlace()
    const instances = await Promise.all(
      ['a', 'b'].map(async (instance) => {
        return createPlaces({ store: await open(), instance, now: () => performance.now(), waitMs: PATIENCE_MS })
      }),
    )
    for (let n = 0; n < 20; n++) {
      const place = await instances[n % 2]?.take('bot on db', 1)
      expect(place).toBeDefined()
      // Not waited for: the answer is on its way when the place is being given back.
      place?.release()
    }
    for (const places of instances) await places.close()
  })

  it('count what no limit holds for those that one does', async () => {
    const store = await memoryStore(() => 0)
    const [here, there] = ['a', 'b'].map((instance) => createPlaces({ store, instance, now: () => 0 }))
    if (here === undefined || there === undefined) throw new Error('two')
    const free = await here.take('k', undefined)
    expect(await there.take('k', 1)).toBeUndefined()
    expect(await there.take('other', 1)).toBeDefined()
    free?.release()
    expect(await there.take('k', 1)).toBeDefined()
  })

  it('keep the places of an instance that died for the whole lease, and end the calls of one that was paused before that', async () => {
    const steps = fc.array(fc.constantFrom(0, 1_000, 14_000, 20_000, 44_000, 45_000, 59_999, 60_001), { maxLength: 8 })
    await fc.assert(
      fc.asyncProperty(steps, async (waits) => {
        let now = 1_000_000
        const store = await memoryStore(() => now)
        const paused = createPlaces({ store, instance: 'paused', now: () => now })
        const other = createPlaces({ store, instance: 'other', now: () => now })
        let lost: SallyportError | undefined
        const place = await paused.take('k', 1)
        place?.onLost((why) => (lost = why))
        const startedAt = now
        let taken: Place | undefined
        for (const waitMs of waits) {
          now += waitMs
          taken = await other.take('k', 1)
          if (taken !== undefined) break
        }
        // Nothing renewed meanwhile. Whoever was paused hears of it before it does anything else with the store.
        expect(taken === undefined || now > startedAt + LEASE_MS - 1).toBe(true)
        const again = await paused.take('k', undefined)
        expect(taken === undefined || lost?.code === 'ERR_STORE_FAILED').toBe(true)
        again?.release()
        place?.release()
        taken?.release()
        await Promise.all([paused.close(), other.close()])
      }),
      { numRuns: 6 },
    )
  })

  it('are refused clearly while the store does not answer, and given back when it does', async () => {
    let isAway = false
    const real = await memoryStore(() => 0)
    const store: Store = { ...real, clock: () => (isAway ? Promise.reject(new Error('away')) : real.clock()) }
    const places = createPlaces({ store, instance: 'a', now: () => 0 })
    const place = await places.take('k', 1)
    isAway = true
    await expect(places.take('k', 1)).rejects.toThrow('away')
    place?.release()
    isAway = false
    // Whoever asks while the last try is still under way may be refused with it.
    const again = (): Promise<boolean> =>
      places.take('k', 1).then(
        (taken) => taken !== undefined,
        () => false,
      )
    await expect.poll(again).toBe(true)
  })
})
