/**
 * A policy file that was broken and then put back as it was left its problem in the status for ever, and no failed load
 * but one through the admin door was counted.
 */
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openWorld, type World } from '../e2e/world.ts'
import { notesWorld } from './kit.ts'

describe('a policy file that is broken and put back', () => {
  let world: World
  beforeAll(async () => {
    world = await openWorld(notesWorld())
  })
  afterAll(() => world?.close())

  const status = (): Promise<{ version: string; problem?: string }> => world.operator.get('/v1/policy')

  it('is reported and counted while it is broken, and no longer', async () => {
    const file = path.join(world.dir, 'policies', 'policy.yaml')
    const good = await readFile(file, 'utf8')
    const { version } = await status()
    await writeFile(file, `${good}\nrules: 7`)
    await expect.poll(async () => (await status()).problem).toContain('policy.yaml:')
    const metrics = await fetch(`${world.adminUrl}/metrics`, {
      headers: { authorization: `Bearer ${world.operatorToken}` },
    })
    expect(await metrics.text()).toMatch(/sallyport_policy_loads_total\{outcome="failed"\} [1-9]/u)
    await writeFile(file, good)
    await expect.poll(async () => (await status()).problem).toBeUndefined()
    expect((await status()).version).toBe(version)
  })
})
