import { describe, expect, it } from 'vitest'
import { POLICIES, sharePolicies, type PolicyFile, type SharedPolicies } from '../../src/control/policies.ts'
import type { Store } from '../../src/store/store.ts'
import { sharedPlace } from '../store/shared.ts'

interface Instance {
  readonly shared: SharedPolicies
  readonly version: () => string
  /** Changes the own files. */
  readonly change: (text: string) => Promise<void>
  readonly refused: string[]
}

async function instance(store: Store, text: string, cannotTake?: string): Promise<Instance> {
  let files: readonly PolicyFile[] = [{ path: 'p.yaml', text }]
  const refused: string[] = []
  const version = (): string => `v-${files[0]?.text ?? ''}`
  const shared = await sharePolicies({
    store,
    policy: {
      current: () => ({ version: version() }),
      files: () => files,
      take(others) {
        if (others[0]?.text === cannotTake) return { problems: ['no such target'] }
        files = others
        return { problems: [] }
      },
    },
    onRefused: (version) => refused.push(version),
    onFault: (error) => {
      throw error
    },
  })
  return {
    shared,
    version,
    refused,
    async change(next) {
      files = [{ path: 'p.yaml', text: next }]
      await shared.publish()
    },
  }
}

describe('a policy that instances share', () => {
  it('is in force everywhere once one of them took it', async () => {
    const { open } = await sharedPlace()
    const one = await instance(await open({ mirrored: [POLICIES] }), 'old')
    const other = await instance(await open({ mirrored: [POLICIES] }), 'old')
    await one.change('new')
    await expect.poll(() => other.version()).toBe('v-new')
    expect(await other.shared.stale()).toBeUndefined()
  })

  it('is looked at before each decision: nothing is decided by one that was replaced', async () => {
    const { open } = await sharedPlace()
    const one = await instance(await open(), 'old')
    // Without a mirror: what the store says now counts, whatever news has come.
    const other = await instance(await open(), 'old')
    await one.change('new')
    expect(await other.shared.stale()).toBeUndefined()
    expect(other.version()).toBe('v-new')
  })

  it('is brought along by an instance that starts with files nobody has seen', async () => {
    const { open } = await sharedPlace()
    const old = await instance(await open(), 'old')
    await instance(await open(), 'release')
    expect(await old.shared.stale()).toBeUndefined()
    expect(old.version()).toBe('v-release')
  })

  it('is taken by an instance that starts with files that were in force before', async () => {
    const { open } = await sharedPlace()
    const one = await instance(await open(), 'old')
    await one.change('new')
    const late = await instance(await open(), 'old')
    expect(late.version()).toBe('v-new')
    expect(await one.shared.stale()).toBeUndefined()
    expect(one.version()).toBe('v-new')
  })

  it('may go back to what it was, when an operator changes the files back', async () => {
    const { open } = await sharedPlace()
    const one = await instance(await open(), 'old')
    const other = await instance(await open(), 'old')
    await one.change('new')
    await one.change('old')
    expect(await other.shared.stale()).toBeUndefined()
    expect(other.version()).toBe('v-old')
  })

  it('stops an instance that cannot take it, until it can', async () => {
    const { open } = await sharedPlace()
    const one = await instance(await open(), 'old')
    const other = await instance(await open(), 'old', 'names a target of the other alone')
    await one.change('names a target of the other alone')
    for (let n = 0; n < 3; n++) expect(await other.shared.stale()).toMatchObject({ code: 'ERR_POLICY_CHANGED' })
    expect(other.refused).toHaveLength(1)
    await one.change('fits both')
    expect(await other.shared.stale()).toBeUndefined()
    expect(other.version()).toBe('v-fits both')
  })
})
