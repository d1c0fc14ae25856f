/** Runs every bench, one after the other, each in a process of its own. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

for (const name of ['decide', 'plan', 'plans-stay-good', 'query', 'approvals', 'http', 'ssh', 'kubernetes']) {
  console.log(`\n# ${name}`)
  const file = fileURLToPath(new URL(`./${name}.ts`, import.meta.url))
  const { status } = spawnSync(process.execPath, ['--expose-gc', '--import', 'tsx', file], { stdio: 'inherit' })
  if (status !== 0) process.exitCode = 1
}
