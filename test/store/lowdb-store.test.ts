import { mkdir, readFile, rm, rmdir, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { openLowdbStore } from '../../src/store/lowdb-store.ts'
import { type Change, compareAndSet, insert, type Store } from '../../src/store/store.ts'
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
  it('keeps what it promised across a restart, with versions', async () => {
    const { open } = await place()
    const first = await open()
    expect(await insert(first, 'tickets', 'a', { state: 'pending' })).toBe(true)
    const read = await first.get<{ state: string }>('tickets', 'a')
    if (read === undefined) throw new Error('not stored')
    expect(await compareAndSet(first, 'tickets', read, { state: 'approved' })).toBe(true)
    await first.close()

    const second = await open(true)
    const again = await second.get<{ state: string }>('tickets', 'a')
    expect(again?.value).toEqual({ state: 'approved' })
    expect(again?.version).toBeGreaterThan(read.version)
    expect(await second.list('tickets', { state: 'approved' })).toHaveLength(1)
    expect(await second.list('tickets', { state: 'pending' })).toEqual([])
  })

  it('lets exactly one of many compare-and-sets win', async () => {
    const store = await (await place()).open()
    await insert(store, 'tickets', 'a', { by: 'nobody' })
    const read = await store.get<{ by: string }>('tickets', 'a')
    if (read === undefined) throw new Error('not stored')
    const won = await Promise.all(
      Array.from({ length: 100 }, (_, n) => compareAndSet(store, 'tickets', read, { by: `n${n}` })),
    )
    expect(won.filter(Boolean)).toHaveLength(1)
    expect((await store.get<{ by: string }>('tickets', 'a'))?.value.by).toBe(`n${won.indexOf(true)}`)
  })

  it('inserts a document once and never over another', async () => {
    const store = await (await place()).open()
    const inserted = await Promise.all([insert(store, 'c', 'x', { n: 1 }), insert(store, 'c', 'x', { n: 2 })])
    expect(inserted).toEqual([true, false])
    expect((await store.get('c', 'x'))?.value).toEqual({ n: 1 })
  })

  it('applies all writes of a commit or none', async () => {
    const store = await (await place()).open()
    await insert(store, 'c', 'taken', {})
    const committed = await store.commit([
      { kind: 'put', collection: 'c', id: 'free', expect: 0, value: {} },
      { kind: 'put', collection: 'c', id: 'taken', expect: 0, value: { overwritten: true } },
    ])
    expect(committed).toBe(false)
    expect(await store.get('c', 'free')).toBeUndefined()
    expect((await store.get('c', 'taken'))?.value).toEqual({})
  })

  it('holds a commit to what was read: a check fails when the document changed', async () => {
    const store = await (await place()).open()
    await insert(store, 'c', 'guard', { n: 1 })
    const guard = await store.get('c', 'guard')
    if (guard === undefined) throw new Error('not stored')
    await compareAndSet(store, 'c', guard, { n: 2 })
    const committed = await store.commit([
      { kind: 'check', collection: 'c', id: 'guard', expect: guard.version },
      { kind: 'put', collection: 'c', id: 'new', expect: 0, value: {} },
    ])
    expect(committed).toBe(false)
  })

  it('never gives a version twice, so that a document removed and made again is not mistaken for the old one', async () => {
    const store = await (await place()).open()
    await insert(store, 'c', 'x', { life: 1 })
    const first = await store.get('c', 'x')
    if (first === undefined) throw new Error('not stored')
    await store.commit([{ kind: 'remove', collection: 'c', id: 'x', expect: first.version }])
    await insert(store, 'c', 'x', { life: 2 })
    expect(await compareAndSet(store, 'c', first, { life: 3 })).toBe(false)
  })

  it('hands out frozen values, so that no reader can change the state', async () => {
    const store = await (await place()).open()
    const mine = { votes: [{ by: 'bob' }] }
    await insert(store, 'c', 'x', mine)
    mine.votes.push({ by: 'eve' })
    const read = await store.get<typeof mine>('c', 'x')
    expect(read?.value.votes).toHaveLength(1)
    expect(() => read?.value.votes.push({ by: 'eve' })).toThrow(TypeError)
  })

  it.each(['__proto__', '../escape', 'a/b', '', 'x'.repeat(201), '.hidden', 'a\0b'])(
    'refuses the id %j',
    async (id) => {
      const store = await (await place()).open()
      await expect((async () => insert(store, 'c', id, {}))()).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
      await expect(store.blobs.put(id, new Uint8Array())).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
    },
  )

  it.each(['constructor', 'toString', 'hasOwnProperty'])('does not find %s in an empty collection', async (id) => {
    const store = await (await place()).open()
    expect(await store.get('c', id)).toBeUndefined()
    expect(await insert(store, 'c', id, { n: 1 })).toBe(true)
    expect(await store.get('constructor', 'name')).toBeUndefined()
  })

  it('keeps a thousand commits that arrive together', async () => {
    const store = await (await place()).open()
    await Promise.all(Array.from({ length: 1_000 }, (_, n) => insert(store, 'c', `n${n}`, { n })))
    expect(await store.list('c')).toHaveLength(1_000)
  })

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

  it('keeps blobs until they are erased', async () => {
    const { open } = await place()
    const store = await open()
    await store.blobs.put('result.1', Buffer.from('bytes'))
    expect(Buffer.from((await store.blobs.get('result.1')) ?? []).toString()).toBe('bytes')
    expect(await store.blobs.list()).toEqual(['result.1'])
    await store.blobs.remove('result.1')
    await store.blobs.remove('result.1')
    expect(await store.blobs.get('result.1')).toBeUndefined()
  })

  it('refuses commits after it was closed', async () => {
    const store = await (await place()).open()
    await store.close()
    await expect(insert(store, 'c', 'x', {})).rejects.toMatchObject({ code: 'ERR_SHUTTING_DOWN' })
  })
})
