/** The examples of README and docs are read by people before they have run anything, so they must be true. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config.ts'
import { knownOf } from '../../src/known.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import { formatProblems } from '../../src/policy/problem.ts'
import { target } from './kit.ts'

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

function examples(path: string): readonly string[] {
  return [...read(path).matchAll(/```yaml\n([\s\S]*?)```/gu)].map(([, text = '']) => text)
}

const POLICIES = ['README.md', 'docs/policies.md', 'docs/detectors.md'].flatMap((path) =>
  examples(path)
    .filter((text) => /^(targets|rules|masks|budgets):/mu.test(text))
    .map((text, index): [string, string] => [`${path} (${index + 1})`, text]),
)

describe('the examples of the documents', () => {
  it('are found', () => {
    expect(POLICIES.length).toBeGreaterThanOrEqual(3)
  })

  it.each(POLICIES)('load as a policy: %s', (_name, text) => {
    const known = knownOf([target('shop-db', 'postgres', { labels: { env: 'prod' } })])
    // Some show only a piece of a file.
    const rules = /^rules:/mu.test(text) ? text : `${text}\nrules: []\n`
    const whole = /^targets:/mu.test(rules) ? rules : `targets: [shop-db]\n${rules}`
    const { problems } = loadPolicy([{ path: 'example.yaml', text: whole }], known)
    expect(formatProblems(problems ?? [])).toBe('')
  })

  it.each(examples('docs/configuration.md').map((text, index): [number, string] => [index + 1, text]))(
    'load as a configuration: %i',
    (_number, text) => {
      expect(parseConfig(text, '/etc/sallyport/sallyport.yaml').targets.length).toBeGreaterThan(0)
    },
  )
})
