/**
 * `npm run regress`: PostgreSQL's own regression suite through the PostgreSQL door. Words behind `--` choose files (with what
 * they need); `--masks` puts masks on columns no file reads, and runs one file at a time. Prints a line for each file that
 * differs, and exits with 1 when one differs that `differs.json` does not explain.
 */
import { parseArgs } from 'node:util'
import { readFileSync } from 'node:fs'
import { runThroughDoor } from './door.ts'

const { values, positionals } = parseArgs({ options: { masks: { type: 'boolean' } }, allowPositionals: true })
const withMasks = values.masks === true
const known = JSON.parse(readFileSync(new URL('./differs.json', import.meta.url), 'utf8')) as Record<
  'open' | 'masked',
  Readonly<Record<string, string>>
>
const reasons = known[withMasks ? 'masked' : 'open']

const report = await runThroughDoor({
  files: positionals,
  withMasks,
  // Files that change the schema under each other are planned again and again; what differs must not depend on luck.
  concurrency: withMasks ? 1 : 20,
  onLine: (line) => console.error(line),
})
const { version, ran, differing, asDirect, seconds, cpu, output } = report
for (const name of asDirect) console.log(`as without a gateway: ${name}`)
for (const name of differing) console.log(`differs: ${name}: ${reasons[name] ?? 'NOBODY KNOWS WHY'}`)
for (const name of Object.keys(reasons)) {
  if (positionals.length === 0 && !differing.includes(name)) console.log(`no longer differs: ${name}`)
}
console.log(
  `PostgreSQL ${version}: ${ran - differing.length} of ${ran} in ${seconds.toFixed(0)} s; CPU ${cpu.toFixed(0)} s`,
)
if (differing.length > 0) console.log(`Differences are kept in ${output}`)
const unexplained = differing.filter((name) => reasons[name] === undefined)
process.exitCode = ran === 0 || unexplained.length > 0 ? 1 : 0
