import { onTestFinished } from 'vitest'
import type { Store } from '../../src/store/store.ts'
import { sharedPlace } from '../store/shared.ts'
import { world, type World } from './kit.ts'

/** Two gateways over one store. */
export const PLACES: readonly (readonly [string, () => Promise<{ first: World; second: World }>])[] = [
  [
    'in a state directory',
    async () => {
      const place = await world()
      return { first: place, second: place }
    },
  ],
  [
    'in a store that instances share',
    async () => {
      const { open } = await sharedPlace((end) => onTestFinished(async () => void (await end())))
      const [mine, theirs]: Store[] = [await open(), await open()]
      return { first: await world({}, mine), second: await world({}, theirs) }
    },
  ],
]
