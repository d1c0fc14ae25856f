// Runs dependency-cruiser and insists that it saw modules: a checker that reads nothing also finds nothing.
import { cruise } from 'dependency-cruiser'
import extractTSConfig from 'dependency-cruiser/config-utl/extract-ts-config'
import { createRequire } from 'node:module'

const { forbidden, options } = createRequire(import.meta.url)('../../.dependency-cruiser.cjs')
const { output } = await cruise(
  ['src', 'tools'],
  { ...options, validate: true, ruleSet: { forbidden } },
  {},
  { tsConfig: extractTSConfig('tsconfig.json') },
)
const { violations, totalCruised } = output.summary
for (const v of violations) console.error(`${v.rule.name}: ${v.from} -> ${v.to}`)
const own = output.modules.filter((m) => /^(src|tools)\//.test(m.source)).length
if (own === 0) {
  console.error('boundaries: no module was read; the rules guard nothing')
  process.exit(1)
}
console.log(`boundaries: ${own} modules, ${totalCruised} in all, ${violations.length} violations`)
process.exit(violations.length === 0 ? 0 : 1)
