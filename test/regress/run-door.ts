/**
 * `npm run regress`: PostgreSQL's own regression suite through the PostgreSQL door. Words behind `--` choose files (with what
 * they need); prints a line for each file that differs, and exits with 1 when one differs that `differs.json` does not explain.
 *
 * `--masks` puts masks on columns no file reads, and compares statement by statement: prints for each file how many were
 * answered as without a gateway, how many but for withheld words, and how many were refused, by construct. `--write` keeps
 * that in `docs/postgres-suite-under-masks.md`.
 */
import { parseArgs } from 'node:util'
import { readFileSync, writeFileSync } from 'node:fs'
import { runThroughDoor } from './door.ts'
import { maskedTable } from './masked-table.ts'
import { runUnderMasks } from './masked.ts'

const { values, positionals } = parseArgs({
  options: { masks: { type: 'boolean' }, write: { type: 'boolean' } },
  allowPositionals: true,
})
const known = JSON.parse(readFileSync(new URL('./differs.json', import.meta.url), 'utf8')) as Record<
  'open' | 'masked',
  Readonly<Record<string, string>>
>
process.exitCode = await (values.masks === true ? masked() : open())

async function open(): Promise<number> {
  const reasons = known.open
  const report = await runThroughDoor({ files: positionals, onLine: (line) => console.error(line) })
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
  return ran === 0 || unexplained.length > 0 ? 1 : 0
}

async function masked(): Promise<number> {
  const files = await runUnderMasks(positionals, ({ name, alike, withheld, refused, apart }) => {
    const refusals = [...refused.values()].reduce((sum, count) => sum + count, 0)
    console.error(`${name}: ${alike} alike, ${withheld} but for words, ${refusals} refused, ${apart.length} apart`)
  })
  const unexplained = files.filter(({ name, apart }) => apart.length > 0 && known.masked[name] === undefined)
  for (const { name, apart } of unexplained) {
    for (const { sql, told } of apart) console.log(`${name}: ${sql}\n${told}\n`)
  }
  const table = maskedTable(files, known.masked)
  console.log(table)
  if (values.write === true) writeFileSync(new URL('../../docs/postgres-suite-under-masks.md', import.meta.url), table)
  return files.length === 0 || unexplained.length > 0 ? 1 : 0
}
