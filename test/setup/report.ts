/** Writes what came of a run to the file named by `SALLYPORT_REPORT`, for `run.mjs`. */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Reporter, SerializedError, TestModule } from 'vitest/node'

/** What came of one file of tests. */
export interface FileReport {
  readonly file: string
  readonly isOk: boolean
  readonly passed: number
  readonly failed: readonly string[]
  /** What was skipped, or never ran. */
  readonly skipped: readonly string[]
  readonly messages: readonly string[]
}

export interface Report {
  readonly files: readonly FileReport[]
  /** How many errors belong to no test. */
  readonly strays: number
}

export default class ReportWriter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], strays: readonly SerializedError[]): void {
    const to = process.env['SALLYPORT_REPORT']
    const report: Report = { files: modules.map(fileReport), strays: strays.length }
    if (to !== undefined) writeFileSync(to, JSON.stringify(report))
  }
}

function fileReport(module: TestModule): FileReport {
  const named = (state: 'passed' | 'failed' | 'skipped' | 'pending'): readonly string[] =>
    [...module.children.allTests(state)].map((test) => test.fullName)
  const errors = [
    ...module.errors(),
    ...[...module.children.allSuites()].flatMap((suite) => suite.errors()),
    ...[...module.children.allTests('failed')].flatMap((test) => test.result().errors ?? []),
  ]
  return {
    file: path.relative(process.cwd(), module.moduleId).replaceAll(path.sep, '/'),
    isOk: module.ok(),
    passed: named('passed').length,
    failed: named('failed'),
    skipped: [...named('skipped'), ...named('pending')],
    messages: errors.map(({ message }) => message),
  }
}
