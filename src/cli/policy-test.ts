import { readFile } from 'node:fs/promises'
import { loadConfig } from '../config.ts'
import { SallyportError } from '../core/errors.ts'
import { runFixtures } from '../policy/fixtures.ts'
import type { SourceFile } from '../policy/yaml.ts'
import { EXIT } from './exit-code.ts'
import { openOffline } from './offline.ts'
import { policyOf } from './policy-check.ts'
import { openTerminal, printable } from './terminal.ts'

/** Options of `policy test`. */
export interface TestOptions {
  readonly config: string
  readonly strict?: boolean
  readonly json?: boolean
}

/** Runs the fixtures beside the policies, or those named, and says what no fixture exercises. */
export async function policyTest(named: readonly string[], options: TestOptions): Promise<void> {
  const terminal = openTerminal(options)
  const config = loadConfig(options.config)
  const { policy, files } = await policyOf(config)
  const fixtures = named.length === 0 ? files.fixtures : await Promise.all(named.map(read))
  if (fixtures.length === 0) {
    throw new SallyportError('ERR_INVALID_INPUT', `There are no fixtures (*.test.yaml) in ${config.policiesDir}.`)
  }
  const offline = openOffline(config, policy)
  try {
    const report = await runFixtures(fixtures, {
      policy,
      target: (name) => config.targets.find((target) => target.name === name),
      plan: async (call, principal, target) => {
        return (await offline.judge({ ...call, target: target.name }, principal)).plan
      },
    })
    const isUnsound = report.failures.length > 0 || (options.strict === true && report.uncovered.length > 0)
    if (isUnsound) process.exitCode = EXIT.unsound
    if (terminal.isJson) return terminal.json(report)
    for (const { path, line, column, message } of report.failures) {
      terminal.line(printable(`${path}:${line}:${column}: ${message}`))
    }
    for (const arm of report.uncovered) terminal.note(printable(`not exercised: ${JSON.stringify(arm)}`))
    terminal.line(`${report.passed} hold, ${report.failures.length} do not.`)
  } finally {
    await offline.close()
  }
}

async function read(path: string): Promise<SourceFile> {
  try {
    return { path, text: await readFile(path, 'utf8') }
  } catch (error) {
    throw new SallyportError('ERR_INVALID_INPUT', `The fixture file ${path} cannot be read.`, { cause: error })
  }
}
