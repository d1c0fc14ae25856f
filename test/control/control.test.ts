import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { createControl, FREEZES, type Control, type Subject } from '../../src/control/control.ts'
import type { SallyportError } from '../../src/core/errors.ts'
import { openLowdbStore } from '../../src/store/lowdb-store.ts'
import type { Store } from '../../src/store/store.ts'
import { temporaryDirectory } from '../store/kit.ts'
import { sharedPlace } from '../store/shared.ts'

interface Instance {
  readonly control: Control
  readonly cancelled: { readonly subject: Subject; readonly why: SallyportError }[]
}

function instance(store: Store, now = Date.now): Instance {
  const cancelled: Instance['cancelled'][number][] = []
  const control = createControl({
    store,
    now,
    onFreeze: ({ kind, name }, why) => void cancelled.push({ subject: { kind, name }, why }),
    onFault: (error) => {
      throw error
    },
  })
  return { control, cancelled }
}

async function alone(now: () => number): Promise<Store> {
  const directory = await temporaryDirectory()
  const files = { file: path.join(directory, 'store.json'), blobs: path.join(directory, 'blobs') }
  return openLowdbStore({ ...files, key: new Uint8Array(32), mustExist: false, now })
}

const BOT: Subject = { kind: 'principal', name: 'bot' }

describe('a freeze', () => {
  it('bars a principal everywhere, or everybody from a target, and says who, why and until when', async () => {
    const now = 1_700_000_000_000
    const { control } = instance(await alone(() => now), () => now)
    await control.freeze(BOT, 'oscar', 'it loops', 60_000)
    await control.freeze({ kind: 'target', name: 'shop-db' }, 'oscar', 'maintenance')
    expect(await control.barred('bot', 'other-db')).toMatchObject({
      code: 'ERR_DENIED',
      message: 'The principal bot is frozen by oscar until 2023-11-14T22:14:20.000Z: it loops',
    })
    expect((await control.barred('other', 'shop-db'))?.message).toContain('until an operator lifts it: maintenance')
    expect(await control.barred('other', 'other-db')).toBeUndefined()
    // A principal is no target of the same name.
    expect(await control.barred('shop-db', 'bot')).toBeUndefined()
  })

  it('ends with its time, or when it is lifted, and is then listed no more', async () => {
    let now = 1_700_000_000_000
    const { control } = instance(await alone(() => now), () => now)
    await control.freeze(BOT, 'oscar', 'it loops', 60_000)
    expect(await control.list()).toHaveLength(1)
    now += 60_000
    expect(await control.barred('bot', 't')).toBeUndefined()
    expect(await control.list()).toEqual([])
    await control.freeze(BOT, 'oscar', 'again')
    await control.unfreeze(BOT)
    expect(await control.barred('bot', 't')).toBeUndefined()
    await expect(control.unfreeze(BOT)).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
  })

  it('is not shortened or lifted by a suspension: what holds longer stays as it was', async () => {
    let now = 1_700_000_000_000
    const { control } = instance(await alone(() => now), () => now)
    await control.freeze(BOT, 'oscar', 'it was stolen')
    await control.suspend(BOT, 'loop:stuck', 'the same call again', 60_000)
    now += 60_000
    expect((await control.barred('bot', 't'))?.message).toContain('frozen by oscar until an operator lifts it')
    await control.freeze(BOT, 'oscar', 'for an hour', 3_600_000)
    await control.suspend(BOT, 'loop:stuck', 'the same call again', 60_000)
    expect((await control.barred('bot', 't'))?.message).toContain('for an hour')
    now += 3_590_000
    await control.suspend(BOT, 'loop:stuck', 'the same call again', 60_000)
    now += 20_000
    expect((await control.barred('bot', 't'))?.message).toContain('by loop:stuck')
  })

  it('holds on every instance at once, and cancels there what is under way', async () => {
    const { open } = await sharedPlace()
    const [here, there] = [instance(await open({ mirrored: [FREEZES] })), instance(await open({ mirrored: [FREEZES] }))]
    await here.control.freeze(BOT, 'oscar', 'it loops')
    // No waiting here: whoever froze is told only when it holds.
    expect(await here.control.barred('bot', 't')).toBeDefined()
    expect(here.cancelled[0]?.subject).toEqual(BOT)
    await expect.poll(() => there.cancelled.map(({ subject }) => subject)).toContainEqual(BOT)
    expect(await there.control.barred('bot', 't')).toBeDefined()
    await there.control.unfreeze(BOT)
    await expect.poll(() => here.control.barred('bot', 't')).toBeUndefined()
  })
})
