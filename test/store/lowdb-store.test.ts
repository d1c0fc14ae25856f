import { mkdir, readFile, rm, rmdir, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { openLowdbStore } from '../../src/store/lowdb-store.ts'
import { type Change, compareAndSet, insert, type Store } from '../../src/store/store.ts'
import { storeContract } from './contract.ts'
import { temporaryDirectory } from './kit.ts'

const key = new Uint8Array(32).fill(7)

async function place(): Promise<{ file: string; open: (mustExist?: boolean, now?: () => number) => Promise<Store> }> {
  const directory = await temporaryDirectory()
  const file = path.join(directory, 'store.json')
  return {
    file,
    open: (mustExist = false, now = Date.now) =>
      openLowdbStore({ file, blobs: path.join(directory, 'blobs'), key, mustExist, now }),
  }
}

describe('the lowdb store', () => {
  storeContract(place)

  it('tells subscribers of durable changes only, until they leave', async () => {
    const { open, file } = await place()
    const store = await open()
    const seen: Change[] = []
    const leave = store.subscribe('c', (change) => seen.push(change))
    await insert(store, 'c', 'x', {})
    await mkdir(`${file}.tmp`)
    await expect(insert(store, 'c', 'y', {})).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' })
    await rmdir(`${file}.tmp`)
    leave()
    await insert(store, 'c', 'z', {})
    expect(seen).toMatchObject([{ kind: 'put', collection: 'c', id: 'x' }])
  })

  it('rolls back what could not be written, stays up, and works again', async () => {
    const { open, file } = await place()
    const store = await open()
    await insert(store, 'c', 'x', { n: 1 })
    const read = await store.get('c', 'x')
    if (read === undefined) throw new Error('not stored')
    // A directory where the temporary file goes makes every write fail, also for root.
    await mkdir(`${file}.tmp`)
    await expect(compareAndSet(store, 'c', read, { n: 2 })).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' })
    expect((await store.get('c', 'x'))?.value).toEqual({ n: 1 })
    await rmdir(`${file}.tmp`)
    expect(await compareAndSet(store, 'c', read, { n: 3 })).toBe(true)
    await store.close()
    expect((await (await open(true)).get('c', 'x'))?.value).toEqual({ n: 3 })
  })

  describe('at start', () => {
    async function written(): Promise<{ file: string; open: () => Promise<Store> }> {
      const { file, open } = await place()
      const store = await open()
      await insert(store, 'tickets', 'a', { state: 'pending' })
      await store.close()
      return { file, open: () => open(true) }
    }

    it('refuses a file cut short anywhere, naming it', async () => {
      const { file, open } = await written()
      const whole = await readFile(file)
      for (let length = 0; length < whole.length; length += 13) {
        await writeFile(file, whole)
        await truncate(file, length)
        await expect(open()).rejects.toMatchObject({
          code: 'ERR_STORE_FAILED',
          message: expect.stringContaining(file) as unknown,
        })
      }
    })

    it('refuses a file that somebody edited without the key', async () => {
      const { file, open } = await written()
      const text = await readFile(file, 'utf8')
      await writeFile(file, text.replace('"pending"', '"approved"'))
      await expect(open()).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' })
    })

    it('refuses a missing file instead of beginning empty', async () => {
      const { file, open } = await written()
      await rm(file)
      await expect(open()).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' })
    })
  })

  it('keeps a lease for its holder until it runs out', async () => {
    let now = 1_000
    const store = await (await place()).open(false, () => now)
    expect(await store.lease('instance', 'a', 100)).toBe(true)
    expect(await store.lease('instance', 'b', 100)).toBe(false)
    now = 1_050
    expect(await store.lease('instance', 'a', 100)).toBe(true)
    expect(await store.leaseHolder('instance')).toBe('a')
    now = 1_150
    expect(await store.leaseHolder('instance')).toBeUndefined()
    expect(await store.lease('instance', 'b', 100)).toBe(true)
    await store.release('instance', 'a')
    expect(await store.leaseHolder('instance')).toBe('b')
  })
})
