import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { runFixtures } from '../../src/policy/fixtures.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import { formatProblems } from '../../src/policy/problem.ts'
import { TAXONOMIES } from '../../src/known.ts'
import { renderTaxonomy } from '../../src/policy/reference.ts'
import { taxonomy } from '../../src/protocols/postgres/taxonomy.ts'
import { target } from './kit.ts'

const SHOP = target('shop-db')
const known = { targets: [SHOP], taxonomies: [taxonomy], detectors: ['email'] }
const read = (path: string): Promise<string> => readFile(new URL(`../../${path}`, import.meta.url), 'utf8')

describe('the shipped policy', () => {
  it('loads without a problem and without a warning', async () => {
    const result = loadPolicy([{ path: 'shop.yaml', text: await read('policies/shop.yaml') }], known)
    expect(formatProblems([...(result.problems ?? []), ...result.warnings])).toBe('')
  })

  it('passes its fixtures, which exercise every arm of it', async () => {
    const { policy } = loadPolicy([{ path: 'shop.yaml', text: await read('policies/shop.yaml') }], known)
    if (policy === undefined) throw new Error('the policy does not load')
    const fixtures = [{ path: 'shop.test.yaml', text: await read('policies/shop.test.yaml') }]
    const report = await runFixtures(fixtures, { policy, target: (name) => (name === 'shop-db' ? SHOP : undefined) })
    expect(formatProblems(report.failures)).toBe('')
    expect(formatProblems(report.uncovered)).toBe('')
    expect(report.passed).toBeGreaterThanOrEqual(13)
  })
})

describe('docs/policy-reference.md', () => {
  it('is what the taxonomy says today', async () => {
    // After a change of the taxonomy, `npx vitest run test/policy/shop.test.ts -u` writes it anew.
    await expect(renderTaxonomy(TAXONOMIES)).toMatchFileSnapshot('../../docs/policy-reference.md')
  })
})
