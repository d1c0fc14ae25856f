// `npm test`: everything a change must pass, in the order in which it fails fastest. The last line counts the tests.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { provide } from './capabilities.mjs'
import { mayRunAgain } from './second-run.mjs'

const args = process.argv.slice(2)
const scratch = mkdtempSync(join(tmpdir(), 'sallyport-test-'))
const npm = (...words) => step(words.join(' '), 'npm', ['run', '--silent', ...words])

process.exitCode = main()
rmSync(scratch, { recursive: true, force: true })

function main() {
  const capabilities = provide()
  if (args.length === 0 && !(npm('check') && npm('build'))) return 1
  const first = vitest('first', args, capabilities)
  if (first === undefined) return 1
  const second = first.status !== 0 && mayRunAgain(first) ? again(first, capabilities) : []
  const files = first.files.map((one) => second.find(({ file }) => file === one.file) ?? one)
  const count = (named) => files.reduce((sum, file) => sum + named(file), 0)
  const [passed, failed] = [count((file) => file.passed), count((file) => file.failed.length)]
  const skipped = files.flatMap((file) => file.skipped)
  for (const name of skipped) console.error(`skipped: ${name}`)
  if (second.length > 0) {
    console.error('npm test: FAILED AT FIRST, then passed alone. Each is a fault of a test or of the product; find it:')
    for (const { file, failed } of first.files.filter(({ isOk }) => !isOk))
      console.error(`  ${file}: ${failed.join(', ') || 'could not begin'}`)
  }
  console.log(`${passed} passed, ${failed} failed, ${skipped.length} skipped`)
  if (passed === 0) return 1
  if (process.env.CI === 'true' && skipped.length > 0) {
    console.error('npm test: CI runs every suite; a skipped one is a failure')
    return 1
  }
  return second.length > 0 ? 0 : first.status
}

/** What came of the files that failed when each ran by itself, with nothing beside it; nothing unless all passed. */
function again(first, capabilities) {
  const passed = []
  for (const { file } of first.files.filter(({ isOk }) => !isOk)) {
    console.error(`npm test: again, alone: ${file}`)
    const second = vitest('second', [file], capabilities)
    const [report] = second?.files.filter((one) => one.file === file) ?? []
    if (second?.status !== 0 || report === undefined) return []
    passed.push(report)
  }
  return passed
}

/** What came of a run of these tests, and how the runner ended; undefined if it left no report. */
function vitest(name, words, capabilities) {
  const report = join(scratch, `${name}.json`)
  rmSync(report, { force: true })
  const { status } = spawnSync(
    process.execPath,
    ['node_modules/vitest/vitest.mjs', 'run', '--reporter=default', '--reporter=./test/setup/report.ts', ...words],
    {
      stdio: 'inherit',
      env: { ...process.env, SALLYPORT_CAPABILITIES: capabilities.join(','), SALLYPORT_REPORT: report },
    },
  )
  try {
    return { status: status ?? 1, ...JSON.parse(readFileSync(report, 'utf8')) }
  } catch {
    console.error('npm test: the test runner left no report')
    return undefined
  }
}

function step(name, command, words) {
  const started = Date.now()
  const { status } = spawnSync(command, words, { stdio: 'inherit' })
  console.error(`${status === 0 ? 'ok' : 'FAILED'}: ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`)
  return status === 0
}
