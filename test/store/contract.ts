import { expect, it } from 'vitest'
import { compareAndSet, insert, type Change, type Store } from '../../src/store/store.ts'

/** A place where a store keeps its state; opening it again finds what was there. */
export interface Place {
  readonly open: (isReopened?: boolean) => Promise<Store>
}

/** What every store promises, whatever is behind it. Each test gets a place of its own. */
export function storeContract(place: () => Promise<Place>): void {
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
    // Which of the two comes first is the store's business.
    expect(inserted.filter(Boolean)).toHaveLength(1)
    expect((await store.get('c', 'x'))?.value).toEqual({ n: inserted.indexOf(true) + 1 })
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

  it('finds documents by the fields at their top, whatever the values hold', async () => {
    const store = await (await place()).open()
    const text = 'a \u0000 "quoted" \ud800 \u202e %_\'; DROP'
    await insert(store, 'c', 'x', {
      state: 'pending',
      text,
      long: 'y'.repeat(500),
      count: 3,
      nested: { state: 'done' },
    })
    await insert(store, 'other', 'x', { state: 'pending' })
    for (const where of [{ state: 'pending' }, { text }, { long: 'y'.repeat(500) }, { count: 3, state: 'pending' }]) {
      expect((await store.list('c', where)).map(({ id }) => id)).toEqual(['x'])
    }
    for (const where of [{ state: 'done' }, { count: '3' }, { count: 3, state: 'done' }, { toString: 'x' }]) {
      expect(await store.list('c', where)).toEqual([])
    }
  })

  it('tells subscribers of each durable change, in order, until they leave', async () => {
    const store = await (await place()).open()
    const seen: Change[] = []
    const leave = store.subscribe('c', (change) => seen.push(change))
    await insert(store, 'c', 'x', {})
    await insert(store, 'd', 'unheard', {})
    const read = await store.get('c', 'x')
    await store.commit([{ kind: 'remove', collection: 'c', id: 'x', expect: read?.version ?? 0 }])
    await expect
      .poll(() => seen.filter(({ kind }) => kind !== 'resync'))
      .toMatchObject([
        { kind: 'put', id: 'x', version: read?.version },
        { kind: 'remove', id: 'x' },
      ])
    leave()
    await insert(store, 'c', 'z', {})
    await store.close()
    expect(seen.some((change) => 'id' in change && change.id === 'z')).toBe(false)
  })

  it('leaves a lease to its holder, and to another once it was given up', async () => {
    const store = await (await place()).open()
    expect(await store.lease('instance', 'a', 60_000)).toBe(true)
    expect(await store.lease('instance', 'b', 60_000)).toBe(false)
    expect(await store.lease('instance', 'a', 60_000)).toBe(true)
    expect(await store.leaseHolder('instance')).toBe('a')
    await store.release('instance', 'b')
    expect(await store.leaseHolder('instance')).toBe('a')
    await store.release('instance', 'a')
    expect(await store.leaseHolder('instance')).toBeUndefined()
    expect(await store.lease('instance', 'b', 60_000)).toBe(true)
  })

  it('has a clock', async () => {
    const store = await (await place()).open()
    const before = await store.clock()
    expect(before).toBeGreaterThan(1_600_000_000_000)
    expect(await store.clock()).toBeGreaterThanOrEqual(before)
  })
}
