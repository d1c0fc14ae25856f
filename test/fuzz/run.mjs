// `npm run fuzz`: every `*.fuzz.ts`, one protocol each, longer than `npm test` has time for. Words after `--` choose files.
//   SALLYPORT_SEED        another seed makes other statements
//   SALLYPORT_STATEMENTS  how many, 100,000 unless told
import { spawnSync } from 'node:child_process'
import { provide } from '../setup/capabilities.mjs'

const { status } = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/fuzz/vitest.config.ts', ...process.argv.slice(2)],
  { stdio: 'inherit', env: { ...process.env, SALLYPORT_CAPABILITIES: provide().join(',') } },
)
process.exitCode = status ?? 1
