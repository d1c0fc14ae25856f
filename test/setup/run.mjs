// `npm test`: everything a change must pass, in the order in which it fails fastest. The last line counts the tests.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { provide } from './capabilities.mjs'

const args = process.argv.slice(2)
const scratch = mkdtempSync(join(tmpdir(), 'sallyport-test-'))
const report = join(scratch, 'report.json')
const npm = (...words) => step(words.join(' '), 'npm', ['run', '--silent', ...words])

process.exitCode = main()
rmSync(scratch, { recursive: true, force: true })

function main() {
  const capabilities = provide()
  if (args.length === 0 && !(npm('check') && npm('build'))) return 1
  const vitest = spawnSync(
    process.execPath,
    [
      'node_modules/vitest/vitest.mjs',
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${report}`,
      ...args,
    ],
    { stdio: 'inherit', env: { ...process.env, SALLYPORT_CAPABILITIES: capabilities.join(',') } },
  )
  let counts
  try {
    counts = JSON.parse(readFileSync(report, 'utf8'))
  } catch {
    console.error('npm test: the test runner left no report')
    return 1
  }
  const { numPassedTests: passed, numFailedTests: failed, testResults } = counts
  const skipped = counts.numPendingTests + counts.numTodoTests
  for (const file of testResults) {
    for (const test of file.assertionResults)
      if (test.status === 'pending' || test.status === 'skipped') console.error(`skipped: ${test.fullName}`)
  }
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
  if (passed === 0) return 1
  if (process.env.CI === 'true' && skipped > 0) {
    console.error('npm test: CI runs every suite; a skipped one is a failure')
    return 1
  }
  return vitest.status ?? 1
}

function step(name, command, words) {
  const started = Date.now()
  const { status } = spawnSync(command, words, { stdio: 'inherit' })
  console.error(`${status === 0 ? 'ok' : 'FAILED'}: ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`)
  return status === 0
}
